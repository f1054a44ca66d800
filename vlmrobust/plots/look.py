"""Select the data of plots from a report, and style figures."""

import textwrap
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from ..text import unit_labels
from ..types import Responses

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "FAINT",
    "INK",
    "NothingToPlot",
    "PlottedCondition",
    "Reported",
    "canvas",
    "dress",
    "figure",
    "fitted",
    "legend_below",
    "look",
    "metric_rows",
    "name_rows",
    "note_beside",
    "plotted_condition",
    "plotted_conditions",
    "responses_of",
]


UNSCORED = ("error", "not_applicable")


class NothingToPlot(LookupError):  # noqa: N818 - a report without the data is not faulty
    """A report lacks the data for a plot; the message says which."""


class Reported(Protocol):
    """The data of a report that plots use."""

    @property
    def frame_without_texts(self) -> "pd.DataFrame":
        """One row per response."""

    @property
    def summary(self) -> "pd.DataFrame":
        """One row per condition × metric."""

    @property
    def responses(self) -> Responses:
        """The responses, in the order of `frame_without_texts`."""

    @property
    def manifest(self) -> dict[str, Any]:
        """The manifest of the run."""


@dataclass(frozen=True, slots=True)
class PlottedCondition:
    """A condition to plot, with one carrier, and its style.

    Attributes:
        condition, carrier: as in `report.summary`.
        label: the condition's name, and the carrier's if needed.
        colour: the same for a condition in every plot.
        marker: distinguishes conditions without colour.
    """

    condition: str
    carrier: str | None
    label: str
    colour: str
    marker: str


# Okabe and Ito's palette, safe for common colour blindness; a hedge has the lighter colour of a pair.
_LOOKS = {
    "base": ("#333333", "o"),
    "stop_think": ("#CC79A7", "s"),
    "wrong_think": ("#D55E00", "v"),
    "wrong_think_but": ("#E69F00", "<"),
    "wrong_caption": ("#0072B2", "D"),
    "wrong_caption_disclaimer": ("#56B4E9", "d"),
    "correct_caption": ("#009E73", "^"),
    "correct_think": ("#66BFA2", ">"),
}
# Tol's muted palette, for other conditions than the library's.
_OTHER_LOOKS = (
    ("#882255", "P"),
    ("#999933", "X"),
    ("#332288", "p"),
    ("#44AA99", "h"),
    ("#AA4499", "*"),
    ("#117733", "8"),
)


def looks_of(conditions: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Return colour and marker of each condition; those that are not the library's get theirs in order."""
    others = [name for name in dict.fromkeys(conditions) if name not in _LOOKS]
    return _LOOKS | {name: _OTHER_LOOKS[index % len(_OTHER_LOOKS)] for index, name in enumerate(others)}


def plotted_conditions(report: Reported) -> list[PlottedCondition]:
    """Return the conditions to plot, in the order of the report's summary.

    Raises:
        NothingToPlot: the report has no responses, or no metrics.
    """
    table = report.summary[["condition", "carrier"]].drop_duplicates()
    if table.empty:
        raise NothingToPlot("expected a report with responses and metrics, got one without")
    conditions = [str(name) for name in table["condition"]]
    carriers = [carrier if isinstance(carrier, str) else None for carrier in table["carrier"]]
    looks, labels = looks_of(conditions), unit_labels(zip(conditions, carriers, strict=True))
    return [
        PlottedCondition(condition, carrier, label, *looks[condition]) for (condition, carrier), label in labels.items()
    ]


def plotted_condition(report: Reported, label: str) -> PlottedCondition:
    """Return the condition with this label.

    Raises:
        NothingToPlot: there is none; the message lists the known ones.
    """
    known = plotted_conditions(report)
    for shown in known:
        if shown.label == label:
            return shown
    raise NothingToPlot(f"expected one of the conditions {', '.join(one.label for one in known)}; got {label!r}")


def responses_of(report: Reported, shown: PlottedCondition) -> "pd.DataFrame":
    """Return the report's rows of a condition and carrier, without failed calls."""
    frame = report.frame_without_texts
    scored = ~frame["status"].isin(UNSCORED)
    return frame[scored & (frame["condition"] == shown.condition) & (frame["carrier"] == (shown.carrier or ""))]


def metric_rows(report: Reported, metric: str) -> "list[tuple[PlottedCondition, pd.Series[Any]]]":
    """Return each condition to plot with its row of the summary.

    Raises:
        NothingToPlot: the report has no such metric; the message lists the known ones.
    """
    shown = plotted_conditions(report)
    check_metrics(report, metric)
    rows = report.summary[report.summary["metric"] == metric]
    return [(one, rows.iloc[index]) for index, one in enumerate(shown)]


def check_metrics(report: Reported, *metrics: str) -> None:
    """Check that the report has all of the given metrics.

    Raises:
        NothingToPlot: one is missing; the message lists the known ones.
    """
    known = list(dict.fromkeys(report.summary["metric"]))
    for metric in metrics:
        if metric not in known:
            raise NothingToPlot(f"expected one of the report's metrics ({', '.join(known) or 'none'}), got {metric!r}")


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


# Fonts with characters that matplotlib's own lacks; one character after another is taken from the first that has it.
_FURTHER_FONTS = (
    "Noto Sans CJK JP", "Noto Sans CJK SC", "Source Han Sans SC", "Source Han Sans JP", "WenQuanYi Zen Hei",
    "WenQuanYi Micro Hei", "Droid Sans Fallback", "Microsoft YaHei", "SimHei", "Yu Gothic", "Malgun Gothic",
    "PingFang SC", "Hiragino Sans", "Apple SD Gothic Neo", "Arial Unicode MS", "IPAexGothic", "NanumGothic",
    "Noto Sans Devanagari", "Noto Sans Thai",
)  # fmt: skip


def look() -> AbstractContextManager[None]:
    """Return a context in which new figures have the library's style; it restores the global settings.

    Raises:
        ImportError: matplotlib is not installed.
    """
    try:
        import matplotlib as mpl
    except ModuleNotFoundError as error:
        if error.name != "matplotlib":
            raise
        raise ImportError("expected matplotlib for a plot, found none; pip install 'vlmrobust[plot]'") from error
    from matplotlib.font_manager import fontManager

    installed = set(fontManager.get_font_names())
    families = [*mpl.rcParams["font.family"], *(name for name in _FURTHER_FONTS if name in installed)]
    return mpl.rc_context({**_LOOK, "font.family": families})


def figure(width: float, height: float) -> "Figure":
    """Return an empty figure that is not registered in `pyplot`.

    Args:
        width: in inches.
        height: in inches.
    """
    from .picture import Picture

    return Picture(figsize=(width, height), layout="constrained")


@contextmanager
def canvas(axes: "Axes | None", width: float, height: float) -> "Iterator[Axes]":
    """Yield the user's axes, under the user's settings, or new ones in the library's style."""
    if axes is not None:
        yield axes
        return
    with look():
        yield figure(width, height).add_subplot()


def dress(axes: "Axes", *, title: str, x: str = "", y: str = "", grid: Literal["x", "y", "both"] = "x") -> None:
    """Set title, labels and grid of axes, and remove the frame."""
    axes.set_title(title, loc="left", parse_math=False)
    axes.set_xlabel(x, parse_math=False)
    axes.set_ylabel(y, parse_math=False)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)
    axes.grid(visible=True, axis=grid, color=_GRID, linewidth=0.8)
    axes.tick_params(length=0)


def name_rows(axes: "Axes", labels: Sequence[str]) -> None:
    """Label the rows 0, 1, … of a plot with horizontal rows, the first one at the top."""
    axes.set_yticks(range(len(labels)), [fitted(label) for label in labels], parse_math=False)
    axes.set_ylim(len(labels) - 0.45, -0.55)
    axes.spines["left"].set_visible(False)


def note_beside(axes: "Axes", row: int, text: str, **options: Any) -> None:
    """Write a text to the right of a row of a plot."""
    axes.text(1.01, row, text, transform=axes.get_yaxis_transform(), va="center", fontsize="small", **options)


def fitted(label: str, lines: int = 2) -> str:
    """Wrap a label into lines of at most 30 characters; a longer one ends in an ellipsis.

    Example:
        >>> fitted("wrong caption disclaimer + abstain option").splitlines()
        ['wrong caption disclaimer +', 'abstain option']
    """
    return "\n".join(textwrap.wrap(label, 30, max_lines=lines, placeholder=" …"))


def legend_below(axes: "Axes", columns: int, **options: float) -> None:
    """Put the legend below the label of the x axis."""
    legend = axes.legend(
        ncols=columns, loc="upper center", bbox_to_anchor=(0.5, 0), borderaxespad=4.2, frameon=False, **options
    )
    for text in legend.get_texts():
        text.set_parse_math(False)
