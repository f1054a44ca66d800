"""How pictures look: figures of their own style, and axes without what says nothing."""

import textwrap
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["FAINT", "INK", "canvas", "dress", "figure", "fitted", "legend_below", "look", "name_rows"]

INK = "#333333"
FAINT = "#8A8A8A"
_GRID = "#E3E3E3"

_LOOK: Any = {
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.labelsize": 9,
    "axes.linewidth": 0.8,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "figure.dpi": 110,
    "font.size": 9,
    "hatch.linewidth": 0.6,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": INK,
    "ytick.color": INK,
}


def look() -> AbstractContextManager[None]:
    """Return a context in which new figures have the library's look; the global settings come back after it."""
    _need_matplotlib()
    import matplotlib as mpl

    return mpl.rc_context(_LOOK)


def figure(width: float, height: float) -> "Figure":
    """Return an empty figure that no global state knows of.

    Args:
        width: in inches.
        height: in inches.

    Raises:
        ImportError: matplotlib is not installed.
    """
    _need_matplotlib()
    from .picture import Picture

    return Picture(figsize=(width, height), layout="constrained")


@contextmanager
def canvas(axes: "Axes | None", width: float, height: float) -> "Iterator[Axes]":
    """Give the user's axes to draw on, under the user's settings, or else new ones in the library's look."""
    if axes is not None:
        yield axes
        return
    with look():
        yield figure(width, height).add_subplot()


def dress(axes: "Axes", *, title: str, x: str = "", y: str = "", grid: Literal["x", "y", "both"] = "x") -> None:
    """Title and label axes, and take away the frame."""
    axes.set_title(title, loc="left", parse_math=False)
    axes.set_xlabel(x, parse_math=False)
    axes.set_ylabel(y, parse_math=False)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)
    axes.grid(visible=True, axis=grid, color=_GRID, linewidth=0.8)
    axes.tick_params(length=0)


def name_rows(axes: "Axes", labels: Sequence[str]) -> None:
    """Name the rows 0, 1, … of a plot of horizontal rows, the first one on top."""
    axes.set_yticks(range(len(labels)), [fitted(label) for label in labels], parse_math=False)
    axes.set_ylim(len(labels) - 0.45, -0.55)
    axes.spines["left"].set_visible(False)


def fitted(label: str, lines: int = 2) -> str:
    """Return a label in lines of at most 30 characters; what is longer ends in an ellipsis.

    Example:
        >>> fitted("wrong caption disclaimer + abstain option").splitlines()
        ['wrong caption disclaimer +', 'abstain option']
    """
    return "\n".join(textwrap.wrap(label, 30, max_lines=lines, placeholder=" …"))


def legend_below(axes: "Axes", columns: int, **options: float) -> None:
    """Put the legend under the label of the x axis, where it covers nothing."""
    legend = axes.legend(
        ncols=columns, loc="upper center", bbox_to_anchor=(0.5, 0), borderaxespad=4.2, frameon=False, **options
    )
    for text in legend.get_texts():
        text.set_parse_math(False)


def _need_matplotlib() -> None:
    try:
        import matplotlib as mpl  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name != "matplotlib":
            raise
        raise ImportError("expected matplotlib for a plot, found none; pip install 'vlmrobust[plot]'") from error
