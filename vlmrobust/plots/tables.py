"""Plots of tables: changes from base, answers by correctness and consistency, checkpoints over training."""

import math
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from ..naming import readable
from .look import (
    FAINT,
    INK,
    NothingToPlot,
    Reported,
    canvas,
    check_metrics,
    dress,
    figure,
    fitted,
    legend_below,
    look,
    looks_of,
    metric_rows,
    name_rows,
    responses_of,
    shown_of,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["PARTS", "drops", "quadrants", "trajectory"]


# From the left: what is correct, from consistent to inconsistent, so that the correct part ends at the accuracy.
PARTS = {
    ("consistent", "correct"): ("#0072B2", ""),
    ("inconsistent", "correct"): ("#7FB8DA", "///"),
    ("undefined", "correct"): ("#DCEBF5", ""),
    ("undefined", "incorrect"): ("#FBE7D8", ""),
    ("inconsistent", "incorrect"): ("#F2B07F", "\\\\\\"),
    ("consistent", "incorrect"): ("#D55E00", ""),
}
"""The parts of a row of `quadrants` in their order, each with its colour and hatch."""

_LEGIBLE = 0.07  # the smallest share that has room for its number


def drops(report: Reported, metric: str = "accuracy", axes: "Axes | None" = None) -> "Axes":
    """Draw the change of a metric from base under each condition, with its 95 % interval.

    A row says "undefined" where the report gives no difference, such as between two read-outs. At the right stand the
    change and the number of samples behind it.

    Args:
        report: a `Report`.
        metric: one of its metrics.
        axes: where to draw; None = a new figure.

    Raises:
        NothingToPlot: there is no such metric, or no difference of it.

    Example:
        >>> from vlmrobust import Evaluator, demo, perturbations
        >>> from vlmrobust.testing import FakeModel
        >>> report = Evaluator(FakeModel(), [perturbations.WrongThink()]).run(demo.samples(20))
        >>> drops(report).get_xlabel()
        'change from base, on the same samples'
    """
    rows = [(shown, row) for shown, row in metric_rows(report, metric) if shown.condition != "base"]
    if all(math.isnan(row["difference"]) for _, row in rows):
        notes = list(dict.fromkeys(row["note"] for _, row in rows if row["note"]))
        reason = "; ".join(notes) or "there is nothing but base, or the metric compares with base by itself"
        raise NothingToPlot(f"expected a difference of {metric!r} from base under some condition, got none: {reason}")
    with canvas(axes, 6.4, 1.1 + 0.34 * len(rows)) as chosen:
        beside = chosen.get_yaxis_transform()
        chosen.axvline(0, color=INK, linewidth=1, zorder=1.5)
        for place, (shown, row) in enumerate(rows):
            change = row["difference"]
            if math.isnan(change):
                chosen.text(0, place, " undefined", va="center", color=FAINT, fontsize="small")
                continue
            reach = [[change - row["low"]], [row["high"] - change]]
            chosen.errorbar(
                [change],
                [place],
                xerr=reach,
                fmt=shown.marker,
                color=shown.colour,
                markersize=6,
                elinewidth=2,
                label=shown.label,
            )
            number = f"{change:+.2f}".replace("-", "−")
            chosen.text(
                1.01, place, f"{number}  n={row['n']}", transform=beside, va="center", fontsize="small", color=INK
            )
        name_rows(chosen, [readable(shown.label) for shown, _ in rows])
        dress(chosen, title=f"Change in {readable(metric)}", x="change from base, on the same samples")
        return chosen


def quadrants(report: Reported, axes: "Axes | None" = None) -> "Axes":
    """Draw the shares of {consistent, inconsistent, undefined} × {correct, incorrect} under each condition.

    The denominator is all answers that could be scored (draws averaged within a sample), so the correct parts end at
    the accuracy, and undefined (no verdict on the thought, or no answer) is a part of its own. The metrics `quadrants`
    of the summary divide by the judged answers alone.

    Args:
        report: a `Report` with the metrics `accuracy` and `consistency`.
        axes: where to draw; None = a new figure.

    Raises:
        NothingToPlot: a metric is missing, or no response is scored.
    """
    check_metrics(report, "accuracy", "consistency")
    found = [(shown, _shares(responses_of(report, shown))) for shown in shown_of(report)]
    rows = [(shown, shares) for shown, shares in found if shares is not None]
    if not rows:
        raise NothingToPlot("expected responses that are scored, got none")
    with canvas(axes, 6.4, 1.7 + 0.36 * len(rows)) as chosen:
        left = [0.0] * len(rows)
        for part, (colour, hatch) in PARTS.items():
            widths = [shares[part] for _, shares in rows]
            bars = chosen.barh(
                range(len(rows)),
                widths,
                left=left,
                height=0.72,
                color=colour,
                hatch=hatch,
                edgecolor="white",
                linewidth=0.8,
                label=", ".join(part),
            )
            ink = "white" if part[0] == "consistent" else INK
            chosen.bar_label(
                bars,
                [f"{width:.0%}" if width >= _LEGIBLE else "" for width in widths],
                label_type="center",
                color=ink,
                fontsize="small",
                # On a hatched bar a number is legible on ground of the bar's own colour.
                bbox={"facecolor": colour, "edgecolor": "none", "pad": 0.8} if hatch else None,
            )
            left = [start + width for start, width in zip(left, widths, strict=True)]
        name_rows(chosen, [readable(shown.label) for shown, _ in rows])
        dress(chosen, title="Is it right, and does it follow from the thought?", x="share of the answers")
        chosen.set_xlim(0, 1)
        chosen.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        legend_below(chosen, columns=3, handlelength=1.4)
        return chosen


def _shares(rows: "pd.DataFrame") -> dict[tuple[str, str], float] | None:
    """Return the share of each part, None where nothing is scored."""
    rows = rows[rows["accuracy"].notna()]
    if rows.empty:
        return None
    verdict = rows["consistency"].map({1.0: "consistent", 0.0: "inconsistent"}).fillna("undefined")
    correct = rows["accuracy"].map({1.0: "correct", 0.0: "incorrect"})
    return {
        (verdict_of, correct_of): float(
            ((verdict == verdict_of) & (correct == correct_of)).groupby(rows["sample_id"]).mean().mean()
        )
        for verdict_of, correct_of in PARTS
    }


_METRICS = ("accuracy", "consistency", "letter_entropy")
_CONDITIONS = ("base", "wrong_think", "wrong_caption")
# How trainers name the folders of checkpoints: transformers and TRL, then verl.
_CHECKPOINT = re.compile(r".*(?:checkpoint|global_step)[-_](\d+)")


def trajectory(
    reports: Sequence[Reported | tuple[int, Reported]],
    steps: Sequence[int] | None = None,
    metrics: Sequence[str] = _METRICS,
    conditions: Sequence[str] = _CONDITIONS,
) -> "Figure":
    """Draw metrics under some conditions against the training step: one panel per metric, one curve per condition.

    The bands are 95 % intervals of the values. Accuracy under `wrong_think` and `wrong_caption` is the robustness:
    where the curve of base rises and these do not, accuracy was gained and robustness was not. A step at which a value
    is undefined has no point, and the curve has a gap there. The intervals are over samples: they say nothing about
    another training run from another seed.

    Args:
        reports: one per checkpoint, in any order; or pairs of step and report.
        steps: the step of each report; None = what the reports' manifests say: `manifest["step"]`, else the number in
            the model's name (`…/checkpoint-250`, `…/global_step_250`).
        metrics: one panel each.
        conditions: one curve each; by the labels that the reports' tables show.

    Raises:
        ValueError: steps are missing, given twice, or not as many as reports.
        NothingToPlot: a metric is not in a report, or a condition in none of them.

    Source:
        Zhao et al., arXiv:2602.12506, draw these curves for their checkpoints.
    """
    ordered = _in_order(reports, steps)
    if not metrics:
        raise ValueError("expected at least one of 'metrics', got none")
    found = {metric: _curves(ordered, metric, conditions) for metric in metrics}
    looks = looks_of(conditions)
    with look():
        drawn = figure(0.6 + 3.6 * len(metrics), 3.4)
        for axes, metric in zip(drawn.subplots(1, len(metrics), squeeze=False)[0], metrics, strict=True):
            for condition, rows in found[metric].items():
                _curve(axes, condition, rows, *looks[condition])
            title = readable(metric) + (" (judged)" if metric == "consistency" else "")
            dress(axes, title=title, x="training step", y="nats" if metric.endswith("entropy") else "", grid="y")
            axes.set_xticks([step for step, _ in ordered] if len(ordered) <= 8 else axes.get_xticks())
        handles, labels = drawn.axes[0].get_legend_handles_labels()
        drawn.legend(handles, labels, loc="outside lower center", ncols=len(conditions))
    return drawn


def _curve(
    axes: "Axes", condition: str, rows: "Sequence[tuple[int, pd.Series[float] | None]]", colour: str, marker: str
) -> None:
    def column(name: str) -> list[float]:
        return [math.nan if row is None else float(row[name]) for _, row in rows]

    at = [step for step, _ in rows]
    axes.fill_between(at, column("value_low"), column("value_high"), color=colour, alpha=0.16, linewidth=0)
    line = "-" if condition == "base" else (0, (5, 1.2))
    axes.plot(
        at,
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
    """Return step and report of each checkpoint, by step."""
    if not reports:
        raise ValueError("expected at least one report, got none")
    if steps is not None and len(steps) != len(reports):
        raise ValueError(f"expected one step per report ({len(reports)}), got {len(steps)}")
    given: list[tuple[int, Reported]] = []
    for position, item in enumerate(reports):
        if isinstance(item, tuple):
            if steps is not None:
                raise ValueError("expected 'steps' or pairs of step and report, got both")
            given.append(item)
        else:
            given.append((_step_of(item, position) if steps is None else steps[position], item))
    ordered = sorted(given, key=lambda pair: pair[0])
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
    """Return each condition's rows of the summary at every step, None where the report does not have the condition."""
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
