"""Plot the letter distribution: the model's confidence, and whether it is justified."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from .. import functional
from ..text import readable
from .look import (
    FAINT,
    INK,
    NothingToPlot,
    PlottedCondition,
    Reported,
    canvas,
    check_metrics,
    dress,
    fitted,
    legend_below,
    name_rows,
    note_beside,
    plotted_condition,
    plotted_conditions,
    responses_of,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

__all__ = ["entropies", "probabilities", "reliability"]

# Colour, marker and opacity of each transition from base; changed answers stand out.
TRANSITIONS = {
    "stays right": ("#8A8A8A", "o", 0.5),
    "stays wrong": ("#8A8A8A", "x", 0.5),
    "harmed": ("#D55E00", "v", 0.8),
    "helped": ("#0072B2", "^", 0.8),
}
_MANY = 2000  # more points are rasterised, which keeps vector files small
_DIAGONAL: Any = {"color": FAINT, "linewidth": 1, "linestyle": (0, (4, 3)), "zorder": 1.5}
_BINS = 30
_FOOT = 0.14  # height of the largest bar


def probabilities(report: Reported, condition: str = "wrong_think", axes: "Axes | None" = None) -> "Axes":
    """Draw P(correct) under base against P(correct) under a condition, one point per response to a sample.

    Below the diagonal, the condition lowers the probability of the correct option. Harmed answers are right under base
    and wrong under the condition, helped ones the other way round. Pairs with different read-outs are left out; the
    title says how many.

    Args:
        report: a `Report` with the metrics `accuracy` and `correct_probability`.
        condition: its label in the report's table.
        axes: where to draw; None = a new figure.

    Raises:
        NothingToPlot: condition or metric is missing, or no pair is defined on both sides in one read-out.
    """
    check_metrics(report, "accuracy", "correct_probability")
    shown = plotted_condition(report, condition)
    pairs, n_apart = _pairs(report, shown)
    if pairs.empty:
        reason = f"; {n_apart} pairs were read at different places" if n_apart else ""
        raise NothingToPlot(f"expected P(correct) under base and {condition} on the same samples, got none{reason}")
    name = fitted(readable(shown.label), lines=1)
    with canvas(axes, 5.4, 5.0) as chosen:
        chosen.plot([0, 1], [0, 1], **_DIAGONAL)
        for transition, (colour, marker, opacity) in TRANSITIONS.items():
            selected = pairs[pairs["transition"] == transition]
            chosen.scatter(
                selected["base"],
                selected["here"],
                s=24,
                c=colour,
                marker=marker,
                alpha=opacity,
                linewidths=1.0 if marker == "x" else 0,
                label=f"{transition} ({len(selected)})",
                rasterized=len(pairs) > _MANY,
            )
        left_out = f" ({n_apart} pairs left out)" if n_apart else ""
        dress(
            chosen,
            title=f"What {name} does to each sample{left_out}",
            x="P(correct) under base",
            y=f"P(correct) under {name}",
            grid="both",
        )
        chosen.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), aspect="equal")
        legend_below(chosen, columns=4, handletextpad=0.1, columnspacing=1.2)
        return chosen


def _pairs(report: Reported, shown: PlottedCondition) -> "tuple[pd.DataFrame, int]":
    """Return the pairs of base and condition with the answer's transition, and the number with different read-outs."""
    columns = ["sample_id", "draw", "readout", "accuracy", "correct_probability"]
    base, here = (responses_of(report, side)[columns] for side in (plotted_condition(report, "base"), shown))
    both = base.merge(here, on=["sample_id", "draw"], suffixes=("_base", "_here"))
    both = both.dropna(subset=["correct_probability_base", "correct_probability_here"])
    same = (both["readout_base"] == both["readout_here"]).fillna(value=False)
    kept = both[same]
    before, after = kept["accuracy_base"] == 1, kept["accuracy_here"] == 1
    transitions = np.select(
        [before & after, ~before & ~after, before & ~after], ["stays right", "stays wrong", "harmed"], "helped"
    )
    table = kept[["sample_id", "draw"]].assign(
        base=kept["correct_probability_base"], here=kept["correct_probability_here"], transition=transitions
    )
    return table, int((~same).sum())


def entropies(report: Reported, axes: "Axes | None" = None) -> "Axes":
    """Draw the distribution of letter entropy (nats) under each condition, as histograms of equal height.

    A condition with several read-outs has a row for each. The line is the mean.

    Args:
        report: a `Report` with the metric `letter_entropy`.
        axes: where to draw; None = a new figure.

    Raises:
        NothingToPlot: there is no such metric, or it is undefined everywhere.
    """
    check_metrics(report, "letter_entropy")
    rows = [row for shown in plotted_conditions(report) for row in _entropy_rows(report, shown)]
    if not rows:
        raise NothingToPlot("expected letter entropies, got none: no letters were read")
    largest = math.log(int(report.responses.option_count.max()))
    edges = np.linspace(0, largest, _BINS + 1)
    with canvas(axes, 6.4, 1.1 + 0.42 * len(rows)) as chosen:
        for place, (shown, _, values) in enumerate(rows):
            counts, _ = np.histogram(np.clip(values, 0, largest), edges)
            heights = 0.86 * counts / counts.max()
            floor = place + 0.4
            chosen.stairs(floor - heights, edges, baseline=floor, fill=True, color=shown.colour, alpha=0.45)
            chosen.stairs(floor - heights, edges, baseline=floor, color=shown.colour, linewidth=1, label=shown.label)
            chosen.plot([values.mean()] * 2, [floor, floor - 0.86], color=INK, linewidth=1.4)
            note_beside(chosen, place, f"{values.mean():.2f}  n={len(values)}")
        name_rows(chosen, [name for _, name, _ in rows])
        dress(chosen, title="How unsure of its letter is it?", x="letter entropy, nats (0 = sure; line = mean)")
        chosen.set_xlim(0, largest)
        return chosen


def _entropy_rows(
    report: Reported, shown: PlottedCondition
) -> "list[tuple[PlottedCondition, str, NDArray[np.float64]]]":
    defined = responses_of(report, shown).dropna(subset=["letter_entropy"])
    by_readout = list(defined.groupby("readout", sort=False))
    name = readable(shown.label)
    return [
        (shown, f"{name}, {readable(str(where))}" if len(by_readout) > 1 else name, part["letter_entropy"].to_numpy())
        for where, part in by_readout
    ]


def reliability(
    report: Reported, condition: str = "wrong_think", axes: "Axes | None" = None, *, bins: int = 10
) -> "Axes":
    """Draw accuracy against confidence (a reliability diagram), under base and under a condition.

    Confidence is the renormalised probability of the answered option's letter. Each point is the mean confidence and
    the accuracy of a bin, with Wilson's 95 % interval; below the diagonal the model is overconfident. The bars at the
    bottom are the numbers of answers per bin.

    Args:
        report: a `Report` with letter probabilities.
        condition: the label, in the report's table, of the condition to draw besides base.
        axes: where to draw; None = a new figure.
        bins: of equal width.

    Raises:
        NothingToPlot: base or the condition is missing, or no answer has letters.

    Source:
        The curve is `functional.reliability_curve`.
    """
    sides = list(dict.fromkeys((plotted_condition(report, "base"), plotted_condition(report, condition))))
    curves = [(shown, *_curve(report, shown, bins)) for shown in sides]
    most = max(float(curve.n.max()) for _, _, curve in curves)
    if most == 0:
        raise NothingToPlot(f"expected answers with letter probabilities under base or {condition}, got none")
    with canvas(axes, 5.4, 5.0) as chosen:
        chosen.plot([0, 1], [0, 1], **_DIAGONAL)
        for place, (shown, where, curve) in enumerate(curves):
            kept = curve.n > 0
            x, y = curve.confidence[kept], curve.accuracy[kept]
            reach = torch.stack([y - curve.low[kept], curve.high[kept] - y]).clamp(min=0)
            chosen.errorbar(
                x.numpy(),
                y.numpy(),
                yerr=reach.numpy(),
                fmt=shown.marker,
                linestyle="-" if shown.condition == "base" else (0, (3, 1)),
                color=shown.colour,
                linewidth=1.2,
                elinewidth=1,
                markersize=5,
                label=f"{fitted(readable(shown.label))}, {where}",
            )
            width = 0.9 / bins / len(curves)
            starts = np.arange(bins) / bins + 0.05 / bins + place * width
            heights = _FOOT * curve.n.numpy() / most
            chosen.bar(starts, heights, width, bottom=-0.22, align="edge", color=shown.colour, alpha=0.7)
        chosen.text(0, -0.05, f"answers per bin (most: {most:.0f})", fontsize="small", color=INK)
        dress(
            chosen,
            title="Is its confidence justified?",
            x="confidence: probability of the answered letter",
            y="share that is right",
            grid="both",
        )
        chosen.set(xlim=(-0.02, 1.02), ylim=(-0.23, 1.03), yticks=[0, 0.2, 0.4, 0.6, 0.8, 1])
        legend_below(chosen, columns=2)
        return chosen


def _curve(report: Reported, shown: PlottedCondition, bins: int) -> tuple[str, functional.ReliabilityCurve]:
    """Return the read-outs as text, and the curve."""
    rows = responses_of(report, shown).dropna(subset=["answer"])
    chosen = report.responses.select(rows.index.to_numpy().tolist())
    probabilities = functional.letter_probabilities(chosen.option_logprobs)
    confidence = probabilities.gather(-1, chosen.choice.unsqueeze(-1)).squeeze(-1)
    readouts = dict.fromkeys(readable(str(where)) for where in rows["readout"].dropna())
    curve = functional.reliability_curve(confidence, (chosen.choice == chosen.target).float(), bins=bins)
    return " + ".join(readouts) or "not read", curve
