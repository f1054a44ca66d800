"""What a plot reads of a report, and how its conditions are told apart."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from ..naming import unit_labels
from ..types import Responses

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["NothingToPlot", "Reported", "Shown", "metric_rows", "responses_of", "shown_named", "shown_of"]

UNSCORED = ("error", "not_applicable")


class NothingToPlot(LookupError):  # noqa: N818 - a plot without data is no fault of the report
    """A report lacks what a plot is to show; the message says what."""


class Reported(Protocol):
    """What a plot reads of a report."""

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
        """What the run was begun with."""


@dataclass(frozen=True, slots=True)
class Shown:
    """The responses of one condition, carried in one way, as they are drawn.

    Attributes:
        condition, carrier: as in `report.summary`.
        label: the condition's name, and the carrier's where that is needed.
        colour: the same for a condition in every plot.
        marker: tells conditions apart without colour.
    """

    condition: str
    carrier: str | None
    label: str
    colour: str
    marker: str


# Colours of Okabe and Ito, told apart under the common colour blindnesses; a hedge is the lighter one of a pair.
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
# Tol's muted colours, for conditions that are not the library's.
_OTHER_LOOKS = (
    ("#882255", "P"),
    ("#999933", "X"),
    ("#332288", "p"),
    ("#44AA99", "h"),
    ("#AA4499", "*"),
    ("#117733", "8"),
)


def looks_of(conditions: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Return colour and marker of each condition; those that are not the library's take theirs in order."""
    others = [name for name in dict.fromkeys(conditions) if name not in _LOOKS]
    return _LOOKS | {name: _OTHER_LOOKS[index % len(_OTHER_LOOKS)] for index, name in enumerate(others)}


def shown_of(report: Reported) -> list[Shown]:
    """Return what is drawn of a report, in the order of its summary.

    Raises:
        NothingToPlot: the report has no responses, or no metrics.
    """
    table = report.summary[["condition", "carrier"]].drop_duplicates()
    if table.empty:
        raise NothingToPlot("expected a report with responses and metrics, got one without")
    conditions = [str(name) for name in table["condition"]]
    carriers = [given if isinstance(given, str) else None for given in table["carrier"]]
    looks, labels = looks_of(conditions), unit_labels(zip(conditions, carriers, strict=True))
    return [Shown(condition, carrier, label, *looks[condition]) for (condition, carrier), label in labels.items()]


def shown_named(report: Reported, label: str) -> Shown:
    """Return the one of `shown_of` that has this label.

    Raises:
        NothingToPlot: there is none; the message lists those that there are.
    """
    known = shown_of(report)
    for shown in known:
        if shown.label == label:
            return shown
    raise NothingToPlot(f"expected one of the conditions {', '.join(one.label for one in known)}; got {label!r}")


def responses_of(report: Reported, shown: Shown) -> "pd.DataFrame":
    """Return the rows of the report that are drawn as one: without failed calls, and of one carrier."""
    frame = report.frame_without_texts
    scored = ~frame["status"].isin(UNSCORED)
    return frame[scored & (frame["condition"] == shown.condition) & (frame["carrier"] == (shown.carrier or ""))]


def metric_rows(report: Reported, metric: str) -> "list[tuple[Shown, pd.Series[Any]]]":
    """Return what is drawn, each with its row of the summary.

    Raises:
        NothingToPlot: the report has no such metric; the message lists those it has.
    """
    shown = shown_of(report)
    check_metrics(report, metric)
    rows = report.summary[report.summary["metric"] == metric]
    return [(one, rows.iloc[index]) for index, one in enumerate(shown)]


def check_metrics(report: Reported, *metrics: str) -> None:
    """Refuse metrics that the report does not have.

    Raises:
        NothingToPlot: the message lists those it has.
    """
    known = list(dict.fromkeys(report.summary["metric"]))
    for metric in metrics:
        if metric not in known:
            raise NothingToPlot(f"expected one of the report's metrics ({', '.join(known) or 'none'}), got {metric!r}")
