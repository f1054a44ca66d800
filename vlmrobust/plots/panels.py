"""Everything that one report can show, together."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from ..naming import readable
from .letters import entropies, probabilities, reliability
from .look import NothingToPlot, Reported, figure, look, metric_rows
from .tables import drops, quadrants

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Panel", "overview", "panels", "svgs"]

_WIDTH = 6.4
_COLUMNS = 2


class Panel(NamedTuple):
    """One plot of a report.

    Attributes:
        name: of the function that draws it, and of what it was given.
        caption: what it shows, and how to read it, in a sentence or two.
        height: how many inches it needs at a width of 6.4.
        draw: draws it on axes.
    """

    name: str
    caption: str
    height: float
    draw: "Callable[[Axes], Axes]"


def panels(report: Reported, new_axes: "Callable[[Panel], Axes]") -> "list[tuple[Panel, Axes]]":
    """Draw every plot for which a report has the data, and return them with their axes.

    The plots of one condition show the one under which accuracy falls most.

    Args:
        report: a `Report`.
        new_axes: makes the axes of a plot; those of a plot that the report has no data for are removed again.
    """
    drawn = []
    for panel in _candidates(report):
        axes = new_axes(panel)
        try:
            panel.draw(axes)
        except NothingToPlot:
            axes.remove()
        else:
            drawn.append((panel, axes))
    return drawn


def overview(report: Reported) -> "Figure":
    """Draw all that can be drawn of a report in one figure.

    Args:
        report: a `Report`.

    Raises:
        NothingToPlot: there is nothing to draw.
        ImportError: matplotlib is not installed.
    """
    with look():
        whole = figure(_WIDTH, 1)
        drawn = panels(report, lambda panel: whole.add_subplot())
        if not drawn:
            raise NothingToPlot("expected something to draw, got a report without differences, verdicts and letters")
        rows = [drawn[start : start + _COLUMNS] for start in range(0, len(drawn), _COLUMNS)]
        heights = [max(panel.height for panel, _ in row) for row in rows]
        whole.set_size_inches(_WIDTH * len(rows[0]), sum(heights))
        whole.get_layout_engine().set(h_pad=0.14, w_pad=0.12)  # type: ignore[union-attr, call-arg]
        grid = whole.add_gridspec(len(rows), len(rows[0]), height_ratios=heights)
        for number, row in enumerate(rows):
            for place, (_, axes) in enumerate(row):
                axes.set_subplotspec(grid[number, place])
    return whole


def svgs(report: Reported) -> list[tuple[Panel, str]]:
    """Draw all that can be drawn of a report, each plot by itself, as SVG on a transparent ground.

    Args:
        report: a `Report`.

    Raises:
        ImportError: matplotlib is not installed.
    """
    with look():
        figures: dict[Panel, Figure] = {}
        drawn = panels(report, lambda panel: figures.setdefault(panel, figure(_WIDTH, panel.height)).add_subplot())
        from .picture import svg_of

        return [(panel, svg_of(figures[panel], transparent=True)) for panel, _ in drawn]


def _candidates(report: Reported) -> Iterator[Panel]:
    count = len(report.summary[["condition", "carrier"]].drop_duplicates())
    for metric in ("accuracy", "consistency"):
        yield Panel(
            f"drops {metric}",
            f"How much {readable(metric)} changes against base, on the same samples. An interval that crosses 0 is no "
            "finding.",
            1.1 + 0.34 * count,
            lambda axes, metric=metric: drops(report, metric, axes),  # type: ignore[misc]
        )
    yield Panel(
        "quadrants",
        "Blue is correct and ends at the accuracy; orange is not. Hatched: the thought concludes something else than "
        "what is answered. Faint: no verdict on the thought.",
        1.7 + 0.36 * count,
        lambda axes: quadrants(report, axes),
    )
    yield Panel(
        "entropies",
        "How the letter's entropy is distributed. Rows whose letters were read at different places (after the model's "
        "own thought, after a fixed prefix) are different quantities.",
        1.1 + 0.42 * count,
        lambda axes: entropies(report, axes),
    )
    hardest = _hardest(report)
    if hardest is None:
        return
    yield Panel(
        "probabilities",
        f"Each point is a sample. Below the diagonal, {readable(hardest)} took probability from the correct option.",
        5.0,
        lambda axes: probabilities(report, hardest, axes),
    )
    yield Panel(
        "reliability",
        "Points below the diagonal: surer than right. Bars at the foot: how many answers are in each bin.",
        5.0,
        lambda axes: reliability(report, hardest, axes),
    )


def _hardest(report: Reported) -> str | None:
    """Return the label of what lowers accuracy most, None where no difference of it is known."""
    try:
        rows = metric_rows(report, "accuracy")
    except NothingToPlot:
        return None
    known = [(row["difference"], shown.label) for shown, row in rows if row["difference"] == row["difference"]]
    return min(known)[1] if known else None
