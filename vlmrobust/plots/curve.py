"""Plot how many conditions an answer survives."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from .look import FAINT, INK, NothingToPlot, canvas, dress, legend_below

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

__all__ = ["robustness_curve"]

_COLOUR = "#0072B2"


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
        chosen.fill_between(
            steps, table["low"].tolist(), table["high"].tolist(), color=_COLOUR, alpha=0.16, linewidth=0
        )
        chosen.plot(
            steps, table["value"].tolist(), color=_COLOUR, marker="o", markersize=5, linewidth=1.8, label="samples"
        )
        chosen.plot(
            steps,
            table["independent"].tolist(),
            color=INK,
            linestyle=(0, (5, 1.6)),
            linewidth=1.3,
            label="if conditions were independent",
        )
        chosen.plot(steps, table["chance"].tolist(), color=FAINT, linestyle=":", linewidth=1.6, label="guessing")
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
