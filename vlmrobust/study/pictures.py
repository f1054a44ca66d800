"""Draw curves over the checkpoints of a model."""

from base64 import b64encode
from collections.abc import Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

from ..text import without_local_paths
from .tables import StudyTables

if TYPE_CHECKING:
    import pandas as pd


__all__ = ["Curves", "drawn", "stepped"]

_METRICS = ("accuracy", "correct_probability", "letter_entropy")
_JUDGED = ("consistency", "consistent_accuracy")
_CONDITIONS = ("base", "stop_think", "wrong_think", "wrong_caption")


class Curves(NamedTuple):
    """A picture: its title and SVG, or the reason why it is missing."""

    title: str
    svg: str
    missing: str = ""

    @property
    def src(self) -> str:
        """The picture as a data URI."""
        return f"data:image/svg+xml;base64,{b64encode(self.svg.encode()).decode()}"


def drawn(result: StudyTables) -> list[Curves]:
    """Draw the curves of each model with several checkpoints with steps, per benchmark and then per judge.

    Steps with a failed run are missing. Bands are 95 % intervals over samples.
    """
    pictures = []
    for (model, benchmark), steps in stepped(result).items():
        title = f"{without_local_paths(model)}, {benchmark}"
        pictures.append(_draw(title, _at_steps(result.summary, model, benchmark, steps), _METRICS))
        for judge in result.study.judges:
            judged = _at_steps(result.judged[result.judged["judge"] == judge.name], model, benchmark, steps)
            if len(judged) > 1:
                pictures.append(_draw(f"{title}, judged by {judge.name}", judged, _JUDGED))
    return pictures


def stepped(result: StudyTables) -> dict[tuple[str, str], dict[int, str]]:
    """Return the finished checkpoints by model and benchmark, then by step in order, if there are several."""
    found: dict[tuple[str, str], dict[int, str]] = {}
    for row in result.run_rows:
        if row.step and row.status == "finished":
            found.setdefault((row.model, row.benchmark), {})[int(row.step)] = row.checkpoint
    return {run: dict(sorted(steps.items())) for run, steps in found.items() if len(steps) > 1}


def _at_steps(
    table: "pd.DataFrame", model: str, benchmark: str, steps: Mapping[int, str]
) -> "list[tuple[int, pd.DataFrame]]":
    """Return the rows of a summary by step, without empty steps."""
    own = table[(table["model"] == model) & (table["benchmark"] == benchmark)]
    parts = [(step, own[own["checkpoint"] == checkpoint]) for step, checkpoint in steps.items()]
    return [(step, part) for step, part in parts if len(part)]


def _draw(title: str, summaries: "list[tuple[int, pd.DataFrame]]", metrics: tuple[str, ...]) -> Curves:
    from .. import plots
    from ..plots.look import NothingToPlot

    present = {str(name) for _, summary in summaries for name in summary["condition"]}
    conditions = [name for name in _CONDITIONS if name in present]
    # Curves only need summaries, so that the reports are not read again.
    reports: Any = [(step, SimpleNamespace(summary=summary)) for step, summary in summaries]
    try:
        figure = plots.trajectory(reports, metrics=metrics, conditions=conditions)
        from ..plots.picture import svg_of

        return Curves(title, svg_of(figure, transparent=True))
    except (ImportError, NothingToPlot) as error:
        return Curves(title, "", str(error))
