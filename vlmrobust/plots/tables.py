"""Plots of the report's tables: changes from base, and answers by correctness and consistency."""

import math
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
    legend_below,
    metric_rows,
    name_rows,
    responses_of,
    shown_of,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

__all__ = ["PARTS", "drops", "quadrants"]

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
