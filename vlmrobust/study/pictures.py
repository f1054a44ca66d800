"""Curves over the checkpoints of a model."""

from base64 import b64encode
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from ..report import Report
    from .result import StudyResult
    from .rows import RunRow

__all__ = ["Curves", "drawn"]

_METRICS = ("accuracy", "correct_probability", "letter_entropy")
_JUDGED = ("consistency", "consistent_accuracy")
_CONDITIONS = ("base", "stop_think", "wrong_think", "wrong_caption")


class Curves(NamedTuple):
    """One picture: what it shows, and the SVG; or why there is none."""

    title: str
    svg: str
    missing: str = ""

    @property
    def src(self) -> str:
        """The picture as a data URI."""
        return f"data:image/svg+xml;base64,{b64encode(self.svg.encode()).decode()}"


def drawn(result: "StudyResult") -> list[Curves]:
    """Return the curves of each model that has several checkpoints with steps, per benchmark, then per judge.

    The steps at which a run failed are missing. Bands are 95 % intervals over samples.
    """
    pictures = []
    for (model, benchmark), runs in result.curves().items():
        title = f"{model}, {benchmark}"
        pictures.append(_draw(title, [(step, result.reports[run]) for step, run in runs], _METRICS))
        for judge in result.study.judges:
            judged = list(_judged(result, runs, judge.name))
            if len(judged) > 1:
                pictures.append(_draw(f"{title}, judged by {judge.name}", judged, _JUDGED))
    return pictures


def _judged(result: "StudyResult", runs: "list[tuple[int, RunRow]]", judge: str) -> "Iterator[tuple[int, Report]]":
    by_run = {(row.model, row.checkpoint, row.benchmark, row.judge): row for row in result.judged_reports}
    for step, run in runs:
        row = by_run.get((run.model, run.checkpoint, run.benchmark, judge))
        if row is not None:
            yield step, result.judged_reports[row]


def _draw(title: str, reports: "list[tuple[int, Report]]", metrics: tuple[str, ...]) -> Curves:
    from .. import plots
    from ..plots.source import NothingToPlot

    asked = {name for _, report in reports for name in report.conditions}
    try:
        figure = plots.trajectory(reports, metrics=metrics, conditions=[name for name in _CONDITIONS if name in asked])
        from ..plots.picture import svg_of

        return Curves(title, svg_of(figure, transparent=True))
    except (ImportError, NothingToPlot) as error:
        return Curves(title, "", str(error))
