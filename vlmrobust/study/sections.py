"""Build the contents of a study's page, for Markdown and HTML alike: its sections, and curves over checkpoints.

Every number has its 95 % interval and n; undefined values have the reason.
"""

import math
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

from ..functional import QUADRANTS
from ..judges import RuleJudge
from ..report.files import last_report_file
from ..report.formats import Table
from ..report.overview import judge_note
from ..text import readable, unit_labels, without_local_paths
from .page_cells import (
    RUN,
    Cell,
    Record,
    area,
    change,
    covered,
    records_of,
    share,
    short,
    unbroken_interval,
    with_base,
    with_unanswered,
)
from .tables import StudyTables

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Cell", "Curves", "Grid", "Section", "drawn", "overview", "sections", "stepped"]


@dataclass(frozen=True, slots=True)
class Grid:
    """A table.

    Attributes:
        header: one title per column.
        rows: cells by row.
        names: number of columns that name the row.
    """

    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    names: int = len(RUN)


@dataclass(frozen=True, slots=True)
class Section:
    """A section of the page.

    Attributes:
        key: its anchor for links.
        title, hint: its title, and how to read it.
        grid: its table.
        missing: the text to show if the table is empty.
    """

    key: str
    title: str
    hint: str
    grid: Grid
    missing: str = "No run was finished."


def sections(result: StudyTables) -> list[Section]:
    """Return the sections of the page, without its pictures."""
    judged = (*RUN, "judge")
    survival, asides = _survival(result.survival)
    cell = (
        "Each cell: value, change against base on the same samples, n. Where these samples are not all of both sides, "
        "what is subtracted stands below. Grey: no number, or the interval of the change contains 0: no finding."
    )
    listed = [
        Section(
            "accuracy",
            "Accuracy",
            f"{cell} An answer that is missing, cut off or unreadable is wrong; their share is said.",
            _by_condition(result.summary, "accuracy", RUN, with_unanswered(result.summary)),
        ),
        Section(
            "averages",
            "Accuracy over benchmarks",
            f"Benchmarks weigh the same, however many samples they have. {cell}",
            _by_condition(result.averages, "accuracy", ("model", "checkpoint"), change),
            "Averages need a model with two finished benchmarks.",
        ),
        Section(
            "consistent-accuracy",
            "Consistent accuracy",
            f"Right, and the thought concludes with the answer, as the judge reads it. {cell} {_judges(result)}",
            _by_condition(result.judged, "consistent_accuracy", judged, covered),
        ),
        Section(
            "consistency",
            "Consistency",
            f"The thought concludes with the answer, right or wrong, as the judge reads it. {cell} "
            f"Coverage: the share of responses that could be scored on which it has a verdict. {_judges(result)}",
            _by_condition(result.judged, "consistency", judged, covered),
        ),
        Section(
            "quadrants",
            "Quadrants",
            "Consistent or not × correct or not, as shares of the answers that are judged under that condition; the "
            "four add up to 1.",
            _quadrants(result.judged),
        ),
        Section(
            "probability",
            "P(correct)",
            f"Probability of the correct letter among those shown. {cell}",
            _by_condition(result.summary, "correct_probability", RUN, change),
        ),
        Section(
            "entropy",
            "Letter entropy",
            f"Of the letters that are shown, in nats; 0 = certain. {cell}",
            _by_condition(result.summary, "letter_entropy", RUN, change),
        ),
        Section(
            "survival",
            "What tells which answers hold",
            "AUROC of what was seen under base, for being right under the condition: 0.5 = it tells nothing. Survival: "
            "only samples that are right under base. n counts right + wrong responses. Grey: the interval holds 0.5."
            f"{asides}",
            survival,
        ),
        Section(
            "agreement",
            "Agreement of the judges",
            "On responses of which all judges named say whether thought and answer are consistent, all conditions "
            "together; intervals over groups of samples.",
            _agreement(result),
            "Agreement needs two judges.",
        ),
        Section(
            "findings",
            "In words",
            "What the numbers of a run allow to say, and what they don't; thoughts are judged by the rules. Thresholds "
            "are the library's own.",
            _findings(result.findings),
        ),
        Section("runs", "Runs", "What was asked, and what failed.", _runs(result)),
    ]
    return [replace(section, grid=_without_paths(section.grid)) for section in listed]


def _without_paths(grid: Grid) -> Grid:
    """Remove local paths, which occur in names of models and in errors."""
    rows = tuple(tuple(cell._replace(text=without_local_paths(cell.text)) for cell in row) for row in grid.rows)
    return replace(grid, rows=rows)


def _judges(result: StudyTables) -> str:
    """Return notes on the error rates of the study's judges."""
    names = dict.fromkeys(row.judge for row in result.judgement_rows if row.status == "judged")
    notes = [judge_note(RuleJudge().identity() if name == "rules" else {"class": name}) for name in names]
    return " ".join(f"{note[0].upper()}{note[1:]}." for note in notes)


def overview(result: StudyTables) -> Table:
    """Return runs and accuracies as a table for a terminal."""
    grid = _by_condition(result.summary, "accuracy", RUN, short)
    failed = [f"{row.folder}: failed: {row.error}" for row in result.run_rows if row.status == "failed"]
    failed += [
        f"{row.model}/{row.benchmark}, judged by {row.judge}: failed: {row.error}"
        for row in result.judgement_rows
        if row.status == "failed"
    ]
    finished = sum(row.status == "finished" for row in result.run_rows)
    rows = tuple(
        (
            " / ".join(filter(None, (cell.text for cell in row[: grid.names]))),
            *(cell.text for cell in row[grid.names :]),
        )
        for row in grid.rows
    )
    notes = (f"{finished} of {len(result.run_rows)} runs finished; accuracy, and its change against base.", *failed)
    return Table(("run", *grid.header[grid.names :]), rows, notes)


def _runs(result: StudyTables) -> Grid:
    rows = []
    for row in result.run_rows:
        page = last_report_file(result.out / row.folder).with_suffix(".html").name
        outcome = Cell(row.error) if row.error else Cell("report", link=f"{row.folder}/{page}")
        counts = (row.samples, row.left_out, row.responses, row.errors)
        names = (row.model, row.checkpoint, row.benchmark, row.status)
        rows.append((*map(Cell, names), *(Cell(str(count)) for count in counts), outcome))
    header = (*RUN, "status", "samples", "rows left out", "responses", "errors", "report, or error")
    return Grid(header, tuple(rows))


def _findings(table: "pd.DataFrame") -> Grid:
    sentences: dict[tuple[str, ...], dict[bool, list[str]]] = {}
    for row in records_of(table):
        run = sentences.setdefault(tuple(row[name] for name in RUN), {False: [], True: []})
        run[row["is_limit"]].append(row["text"])
    rows = tuple(
        (*map(Cell, run), *(Cell("\n".join(lines)) for lines in found.values())) for run, found in sentences.items()
    )
    return Grid((*RUN, "what they say", "what can't be concluded"), rows)


def _by_condition(table: "pd.DataFrame", metric: str, names: Sequence[str], show: Callable[[Record], Cell]) -> Grid:
    """Return a table of one metric with a row per run and a column per condition."""
    records = [row for row in records_of(table) if row["metric"] == metric]
    return _spread(with_base(records, names), names, show)


def _spread(records: Sequence[Record], names: Sequence[str], show: Callable[[Record], Cell]) -> Grid:
    """Return a table with a row per distinct value of `names` and a column per condition."""
    by_key: dict[tuple[str, ...], list[Record]] = {}
    for row in records:
        by_key.setdefault(tuple(row[name] for name in names), []).append(row)
    lines = {key: _labelled(found) for key, found in by_key.items()}
    labels = list(dict.fromkeys(label for found in lines.values() for label in found))
    rows = []
    for key, found in lines.items():
        cells = [show(found[label]) if label in found else Cell("– not asked", is_quiet=True) for label in labels]
        rows.append((*map(Cell, key), *cells))
    return Grid((*names, *map(readable, labels)), tuple(rows), names=len(names))


def _labelled(records: Sequence[Record]) -> dict[str, Record]:
    labels = unit_labels((row["condition"], row["carrier"]) for row in records)
    return {labels[row["condition"], row["carrier"]]: row for row in records}


def _quadrants(table: "pd.DataFrame") -> Grid:
    names = (*RUN, "judge", "condition")
    by_key: dict[tuple[str, ...], dict[str, Record]] = {}
    for row in records_of(table):
        by_key.setdefault(tuple(row[name] for name in names), {})[row["metric"]] = row
    rows = tuple(
        (
            *(Cell(readable(text) if place == 4 else text) for place, text in enumerate(key)),
            *map(share, map(found.get, QUADRANTS)),
        )
        for key, found in by_key.items()
    )
    return Grid((*names, *map(readable, QUADRANTS)), rows, names=len(names))


def _survival(table: "pd.DataFrame") -> tuple[Grid, str]:
    """Return the AUROCs, and what the notes say of `base_auroc`, which only the table as CSV has."""
    records, asides = [], Counter[str]()
    for row in records_of(table):
        notes = row["note"].split("; ")
        asides.update(note for note in notes if note.startswith("base_auroc"))
        note = "; ".join(note for note in notes if not note.startswith("base_auroc"))
        records.append(row | {"predictor": readable(row["predictor"]), "note": note})
    said = "".join(f" In survival.csv, {count} of {len(records)} rows: {note}." for note, count in asides.items())
    return _spread(records, (*RUN, "predictor", "population"), area), said


def _agreement(result: StudyTables) -> Grid:
    rows = []
    for row in records_of(result.agreement):
        strict = unbroken_interval(row["strict"], row["strict_low"], row["strict_high"])
        kappa = unbroken_interval(row["kappa"], row["low"], row["high"])
        cells = [
            Cell(f"– {row['note']}" if math.isnan(row["strict"]) else strict),
            Cell(f"– {row['note']}" if math.isnan(row["kappa"]) else kappa),
        ]
        rows.append((*(Cell(row[name]) for name in (*RUN, "judges")), *cells, Cell(str(row["n"]))))
    failed = [row for row in result.judgement_rows if row.status == "failed"]
    rows += [
        (*map(Cell, (row.model, row.checkpoint, row.benchmark, row.judge)), Cell("failed"), Cell(row.error), Cell("0"))
        for row in failed
    ]
    return Grid((*RUN, "judges", "all say the same", "Fleiss' κ", "n"), tuple(rows), names=4)


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
