"""Plot drops, quadrants and the robustness curve, and all available plots of a report together."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ..text import readable
from .letters import entropies, probabilities, reliability
from .look import (
    FAINT,
    INK,
    NothingToPlot,
    Reported,
    canvas,
    check_metrics,
    dress,
    figure,
    legend_below,
    look,
    metric_rows,
    name_rows,
    note_beside,
    plotted_conditions,
    responses_of,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["PARTS", "Plot", "drops", "overview", "panels", "quadrants", "robustness_curve", "svgs"]


_BLUE = "#0072B2"

# The correct parts come first, so that they end at the accuracy.
PARTS = {
    ("consistent", "correct"): (_BLUE, ""),
    ("inconsistent", "correct"): ("#7FB8DA", "///"),
    ("undefined", "correct"): ("#DCEBF5", ""),
    ("undefined", "incorrect"): ("#FBE7D8", ""),
    ("inconsistent", "incorrect"): ("#F2B07F", "\\\\\\"),
    ("consistent", "incorrect"): ("#D55E00", ""),
}
"""The parts of a row of `quadrants` in their order, each with its colour and hatch."""

_LEGIBLE = 0.07  # the smallest share with room for its number


def drops(report: Reported, metric: str = "accuracy", axes: "Axes | None" = None) -> "Axes":
    """Draw the change of a metric from base under each condition, with its 95 % interval.

    A row says "undefined" if the report has no difference, such as between two read-outs. The change and its number of
    samples are on the right.

    Args:
        report: a `Report`.
        metric: one of its metrics.
        axes: where to draw; None = a new figure.

    Raises:
        NothingToPlot: there is no such metric, or it has no difference from base.

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
        reason = "; ".join(notes) or "there is no condition but base, or the metric is itself a comparison with base"
        raise NothingToPlot(f"expected a difference of {metric!r} from base under some condition, got none: {reason}")
    with canvas(axes, 6.4, 1.1 + 0.34 * len(rows)) as chosen:
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
            note_beside(chosen, place, f"{number}  n={row['n']}", color=INK)
        name_rows(chosen, [readable(shown.label) for shown, _ in rows])
        dress(chosen, title=f"Change in {readable(metric)}", x="change from base, on the same samples")
        return chosen


def quadrants(report: Reported, axes: "Axes | None" = None) -> "Axes":
    """Draw the shares of {consistent, inconsistent, undefined} × {correct, incorrect} under each condition.

    The denominator is all scored answers (draws averaged within a sample), so that the correct parts end at the
    accuracy; undefined (no verdict on the thought, or no answer) is a separate part. The metrics `quadrants` of the
    summary divide by the judged answers only.

    Args:
        report: a `Report` with the metrics `accuracy` and `consistency`.
        axes: where to draw; None = a new figure.

    Raises:
        NothingToPlot: a metric is missing, or no response is scored.
    """
    check_metrics(report, "accuracy", "consistency")
    found = [(shown, _shares(responses_of(report, shown))) for shown in plotted_conditions(report)]
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
                # A background in the bar's colour keeps numbers on hatched bars legible.
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
    """Return the share of each part, None if nothing is scored."""
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


class Curved(Protocol):
    """A report with a robustness curve."""

    def robustness_curve(self, conditions: Sequence[str] | None = None) -> "pd.DataFrame":
        """Return a row for each k."""


def robustness_curve(report: Curved, conditions: Sequence[str] | None = None, axes: "Axes | None" = None) -> "Axes":
    """Draw the share of samples that are right under at least k of K conditions, with 95 % intervals.

    Two reference curves are for guessing, and for the same accuracies if correctness were independent between
    conditions: if the curve is above the latter on the right, samples differ in robustness.

    Args:
        report: a `Report`.
        conditions: the K; None = all that were scored.
        axes: where to draw; None = a new figure.

    Raises:
        KeyError: a condition is not in the report.
        NothingToPlot: no sample is scored under all of them.

    Example:
        >>> from vlmrobust import Evaluator, demo, perturbations
        >>> from vlmrobust.testing import FakeModel
        >>> report = Evaluator(FakeModel(), [perturbations.WrongThink()]).run(demo.samples(20))
        >>> robustness_curve(report).get_xlabel()
        'right under at least k of 2 conditions (n = 20)'
    """
    try:
        table = report.robustness_curve(conditions)
    except ValueError as error:
        raise NothingToPlot(str(error)) from None
    count, samples = int(table["conditions"].iloc[0]), int(table["n"].iloc[0])
    with canvas(axes, 5.2, 3.8) as chosen:
        steps = table["k"].tolist()
        chosen.fill_between(steps, table["low"], table["high"], color=_BLUE, alpha=0.16, linewidth=0)
        chosen.plot(steps, table["value"], color=_BLUE, marker="o", markersize=5, linewidth=1.8, label="samples")
        chosen.plot(
            steps,
            table["independent"],
            color=INK,
            linestyle=(0, (5, 1.6)),
            linewidth=1.3,
            label="if conditions were independent",
        )
        chosen.plot(steps, table["chance"], color=FAINT, linestyle=":", linewidth=1.6, label="guessing")
        dress(
            chosen,
            title="How many conditions does an answer survive?",
            x=f"right under at least k of {count} conditions (n = {samples})",
            y="share of the samples",
            grid="y",
        )
        chosen.set_ylim(0, 1.02)
        chosen.set_xticks(steps if count <= 12 else range(0, count + 1, 2))
        chosen.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        legend_below(chosen, columns=3)
        return chosen


_WIDTH = 6.4
_COLUMNS = 2


class Plot(NamedTuple):
    """One plot of a report.

    Attributes:
        name: of the function that draws it, and its argument.
        caption: what it shows and how to read it, in one or two sentences.
        height: in inches, at a width of 6.4.
        draw: draws it on axes.
    """

    name: str
    caption: str
    height: float
    draw: "Callable[[Axes], Axes]"


def panels(report: Reported, new_axes: "Callable[[Plot], Axes]") -> "list[tuple[Plot, Axes]]":
    """Draw every plot for which a report has data, and return the plots with their axes.

    Plots of a single condition show the one under which accuracy falls most.

    Args:
        report: a `Report`.
        new_axes: makes the axes of a plot; they are removed if the report has no data for it.
    """
    plotted = []
    for panel in _candidates(report):
        axes = new_axes(panel)
        try:
            panel.draw(axes)
        except NothingToPlot:
            axes.remove()
        else:
            plotted.append((panel, axes))
    return plotted


def overview(report: Reported) -> "Figure":
    """Draw all available plots of a report in one figure.

    Args:
        report: a `Report`.

    Raises:
        NothingToPlot: there is nothing to draw.
        ImportError: matplotlib is not installed.
    """
    with look():
        combined = figure(_WIDTH, 1)
        plotted = panels(report, lambda panel: combined.add_subplot())
        if not plotted:
            raise NothingToPlot("expected something to draw, got a report without differences, verdicts and letters")
        rows = [plotted[start : start + _COLUMNS] for start in range(0, len(plotted), _COLUMNS)]
        heights = [max(panel.height for panel, _ in row) for row in rows]
        combined.set_size_inches(_WIDTH * len(rows[0]), sum(heights))
        combined.get_layout_engine().set(h_pad=0.14, w_pad=0.12)  # type: ignore[union-attr, call-arg]
        grid = combined.add_gridspec(len(rows), len(rows[0]), height_ratios=heights)
        for number, row in enumerate(rows):
            for place, (_, axes) in enumerate(row):
                axes.set_subplotspec(grid[number, place])
    return combined


def svgs(report: Reported) -> list[tuple[Plot, str]]:
    """Draw all available plots of a report, each as SVG with a transparent background.

    Args:
        report: a `Report`.

    Raises:
        ImportError: matplotlib is not installed.
    """
    with look():
        figures: dict[Plot, Figure] = {}
        plotted = panels(report, lambda panel: figures.setdefault(panel, figure(_WIDTH, panel.height)).add_subplot())
        from .picture import svg_of

        return [(panel, svg_of(figures[panel], transparent=True)) for panel, _ in plotted]


def _candidates(report: Reported) -> Iterator[Plot]:
    count = len(report.summary[["condition", "carrier"]].drop_duplicates())
    for metric in ("accuracy", "consistency"):
        yield Plot(
            f"drops {metric}",
            f"How much {readable(metric)} changes against base, on the same samples. An interval that crosses 0 is no "
            "finding.",
            1.1 + 0.34 * count,
            lambda axes, metric=metric: drops(report, metric, axes),  # type: ignore[misc]
        )
    yield Plot(
        "quadrants",
        "Blue is correct and ends at the accuracy; orange is not. Hatched: the thought concludes something else than "
        "what is answered. Faint: no verdict on the thought.",
        1.7 + 0.36 * count,
        lambda axes: quadrants(report, axes),
    )
    yield Plot(
        "entropies",
        "How the letter's entropy is distributed. Rows whose letters were read at different places (after the model's "
        "own thought, after a fixed prefix) are different quantities.",
        1.1 + 0.42 * count,
        lambda axes: entropies(report, axes),
    )
    worst = _largest_drop(report)
    if worst is None:
        return
    yield Plot(
        "probabilities",
        f"Each point is a sample. Below the diagonal, {readable(worst)} took probability from the correct option.",
        5.0,
        lambda axes: probabilities(report, worst, axes),
    )
    yield Plot(
        "reliability",
        "Points below the diagonal: surer than right. Bars at the foot: how many answers are in each bin.",
        5.0,
        lambda axes: reliability(report, worst, axes),
    )


def _largest_drop(report: Reported) -> str | None:
    """Return the label of the condition with the largest drop in accuracy, None if no difference is known."""
    try:
        rows = metric_rows(report, "accuracy")
    except NothingToPlot:
        return None
    known = [(row["difference"], shown.label) for shown, row in rows if row["difference"] == row["difference"]]
    return min(known)[1] if known else None
