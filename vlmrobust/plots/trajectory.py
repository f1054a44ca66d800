"""Plot reports of several checkpoints over training."""

import math
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from ..text import readable
from .look import NothingToPlot, Reported, dress, figure, fitted, look, looks_of, metric_rows

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["trajectory"]

_METRICS = ("accuracy", "consistency", "letter_entropy")
_CONDITIONS = ("base", "wrong_think", "wrong_caption")
# Names of checkpoint folders: transformers and TRL, then verl.
_CHECKPOINT = re.compile(r".*(?:checkpoint|global_step)[-_](\d+)")


def trajectory(
    reports: Sequence[Reported | tuple[int, Reported]],
    steps: Sequence[int] | None = None,
    metrics: Sequence[str] = _METRICS,
    conditions: Sequence[str] = _CONDITIONS,
) -> "Figure":
    """Draw metrics under some conditions against the training step: one panel per metric, one curve per condition.

    The bands are 95 % intervals of the values. Accuracy under `wrong_think` and `wrong_caption` is the robustness: if
    the base curve rises and these do not, training improved accuracy but not robustness. A step with an undefined value
    is a gap in the curve. The intervals are over samples: they do not cover the variation between training runs.

    Args:
        reports: one per checkpoint, in any order; or pairs of step and report.
        steps: the step of each report; None = from the manifests: `manifest["step"]`, else the number in the model's
            name (`…/checkpoint-250`, `…/global_step_250`).
        metrics: one panel each.
        conditions: one curve each, by their labels in the reports' tables.

    Raises:
        ValueError: a step is missing or repeated, or their number differs from that of the reports.
        NothingToPlot: a metric is missing in a report, or a condition in all of them.

    Source:
        Zhao et al., arXiv:2602.12506, draw these curves for their checkpoints.
    """
    ordered = _in_order(reports, steps)
    if not metrics:
        raise ValueError("expected at least one of 'metrics', got none")
    found = {metric: _curves(ordered, metric, conditions) for metric in metrics}
    looks = looks_of(conditions)
    with look():
        combined = figure(0.6 + 3.6 * len(metrics), 3.4)
        for axes, metric in zip(combined.subplots(1, len(metrics), squeeze=False)[0], metrics, strict=True):
            for condition, rows in found[metric].items():
                _curve(axes, condition, rows, *looks[condition])
            title = readable(metric) + (" (judged)" if metric == "consistency" else "")
            dress(axes, title=title, x="training step", y="nats" if metric.endswith("entropy") else "", grid="y")
            axes.set_xticks([step for step, _ in ordered] if len(ordered) <= 8 else axes.get_xticks())
        handles, labels = combined.axes[0].get_legend_handles_labels()
        combined.legend(handles, labels, loc="outside lower center", ncols=len(conditions))
    return combined


def _curve(
    axes: "Axes", condition: str, rows: "Sequence[tuple[int, pd.Series[float] | None]]", colour: str, marker: str
) -> None:
    def column(name: str) -> list[float]:
        return [math.nan if row is None else float(row[name]) for _, row in rows]

    steps = [step for step, _ in rows]
    axes.fill_between(steps, column("value_low"), column("value_high"), color=colour, alpha=0.16, linewidth=0)
    line = "-" if condition == "base" else (0, (5, 1.2))
    axes.plot(
        steps,
        column("value"),
        color=colour,
        marker=marker,
        markersize=5,
        linewidth=1.8,
        linestyle=line,
        label=fitted(readable(condition)),
    )


def _in_order(
    reports: Sequence[Reported | tuple[int, Reported]], steps: Sequence[int] | None
) -> list[tuple[int, Reported]]:
    """Return the step and report of each checkpoint, sorted by step."""
    if not reports:
        raise ValueError("expected at least one report, got none")
    if steps is not None and len(steps) != len(reports):
        raise ValueError(f"expected one step per report ({len(reports)}), got {len(steps)}")
    pairs: list[tuple[int, Reported]] = []
    for position, item in enumerate(reports):
        if isinstance(item, tuple):
            if steps is not None:
                raise ValueError("expected 'steps' or pairs of step and report, got both")
            pairs.append(item)
        else:
            pairs.append((_step_of(item, position) if steps is None else steps[position], item))
    ordered = sorted(pairs, key=lambda pair: pair[0])
    for (step, _), (following, _) in pairwise(ordered):
        if step == following:
            raise ValueError(f"expected one report per step, got two of step {step}; draw another run by itself")
    return ordered


def _step_of(report: Reported, position: int) -> int:
    if isinstance(step := report.manifest.get("step"), int):
        return step
    model = report.manifest.get("model")
    name = str(model.get("name", "")) if isinstance(model, Mapping) else ""
    if match := _CHECKPOINT.match(name):
        return int(match[1])
    raise ValueError(
        f"report {position}: expected a step in manifest['step'] or in the model's name, like 'checkpoint-250', got "
        f"{name!r}; give 'steps', or pairs of step and report"
    )


def _curves(
    ordered: Sequence[tuple[int, Reported]], metric: str, conditions: Sequence[str]
) -> "dict[str, list[tuple[int, pd.Series[float] | None]]]":
    """Return each condition's summary row at every step, None if the report does not have the condition."""
    by_step = []
    for step, report in ordered:
        try:
            by_step.append((step, {shown.label: row for shown, row in metric_rows(report, metric)}))
        except NothingToPlot as error:
            raise NothingToPlot(f"step {step}: {error}") from None
    known = dict.fromkeys(label for _, rows in by_step for label in rows)
    for condition in conditions:
        if condition not in known:
            raise NothingToPlot(f"expected conditions out of {', '.join(known)}; got {condition!r}")
    return {condition: [(step, rows.get(condition)) for step, rows in by_step] for condition in conditions}
