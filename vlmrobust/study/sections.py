"""The page of a study as values: sections of tables and pictures, for Markdown and for HTML alike.

Every number stands with its 95 % interval and its n; what is undefined says why.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from ..functional import QUADRANTS
from ..naming import readable, unit_labels
from ..report.tables import Table

if TYPE_CHECKING:
    import pandas as pd

    from .result import StudyResult

__all__ = ["Cell", "Grid", "Section", "overview", "sections"]

Row = Mapping[str, Any]
_RUN = ("model", "checkpoint", "benchmark")


class Cell(NamedTuple):
    """One cell: its lines, where it leads to (a file below the study's folder), and whether it is no finding."""

    text: str
    link: str = ""
    is_quiet: bool = False


@dataclass(frozen=True, slots=True)
class Grid:
    """A table.

    Attributes:
        header: one title per column.
        rows: as many cells each.
        names: how many columns name the row.
    """

    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    names: int = len(_RUN)


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page.

    Attributes:
        key: for links.
        title, hint: what it shows, and how to read it.
        grid: its table.
        missing: said in its place where the table is empty.
    """

    key: str
    title: str
    hint: str
    grid: Grid
    missing: str = "No run was finished."


def sections(result: "StudyResult") -> list[Section]:
    """Return what the page shows but for its pictures."""
    judged = (*_RUN, "judge")
    change = "Each cell: value, change against base on the same samples, n."
    return [
        Section("runs", "Runs", "What was asked, and what failed.", _runs(result)),
        Section(
            "averages",
            "Accuracy over all benchmarks",
            f"Benchmarks weigh the same, however many samples they have. {change}",
            _by_condition(result.averages, "accuracy", ("model", "checkpoint"), _change),
            "Averages need a model with two finished benchmarks.",
        ),
        Section(
            "accuracy",
            "Accuracy",
            f"{change} An answer that is missing, cut off or unreadable is wrong; their share is said.",
            _by_condition(result.summary, "accuracy", _RUN, _with_unanswered(result.summary)),
        ),
        Section(
            "consistent-accuracy",
            "Consistent accuracy",
            f"Right, and the thought concludes with the answer. {change}",
            _by_condition(result.judged, "consistent_accuracy", judged, _covered),
        ),
        Section(
            "consistency",
            "Consistency",
            f"The thought concludes with the answer, right or wrong. {change} "
            "Coverage: the share of responses that could be scored on which the judge has a verdict.",
            _by_condition(result.judged, "consistency", judged, _covered),
        ),
        Section(
            "quadrants",
            "Quadrants",
            "Consistent or not × correct or not, as shares of the judged answers; the four add up to 1.",
            _quadrants(result.judged),
        ),
        Section(
            "probability",
            "P(correct)",
            f"Probability of the correct letter among those shown. {change}",
            _by_condition(result.summary, "correct_probability", _RUN, _change),
        ),
        Section(
            "entropy",
            "Letter entropy",
            f"Of the letters that are shown, in nats; 0 = certain. {change}",
            _by_condition(result.summary, "letter_entropy", _RUN, _change),
        ),
        Section(
            "survival",
            "What tells which answers hold",
            "AUROC of what was seen under base, for being right under the condition: 0.5 = it tells nothing. Survival: "
            "only samples that are right under base. n counts right + wrong responses.",
            _survival(result.survival),
        ),
        Section(
            "agreement",
            "Agreement of the judges",
            "On responses of which all judges named say whether thought and answer are consistent, all conditions "
            "together; intervals over groups of samples.",
            _agreement(result),
            "Agreement needs two judges.",
        ),
    ]


def overview(result: "StudyResult") -> Table:
    """Return runs and accuracies as a table for a terminal."""
    grid = _by_condition(result.summary, "accuracy", _RUN, _short)
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


def _runs(result: "StudyResult") -> Grid:
    rows = []
    for row in result.run_rows:
        outcome = Cell(row.error) if row.error else Cell("report", link=f"{row.folder}/report.html")
        counts = (row.samples, row.left_out, row.responses, row.errors)
        names = (row.model, row.checkpoint, row.benchmark, row.status)
        rows.append((*map(Cell, names), *(Cell(str(count)) for count in counts), outcome))
    header = (*_RUN, "status", "samples", "rows left out", "responses", "errors", "report, or error")
    return Grid(header, tuple(rows))


def _by_condition(table: "pd.DataFrame", metric: str, names: Sequence[str], show: Callable[[Row], Cell]) -> Grid:
    """Return a table of one metric: a row per run, a column per condition."""
    records = [row for row in _records(table) if row["metric"] == metric]
    return _spread(records, names, show)


def _spread(records: Sequence[Row], names: Sequence[str], show: Callable[[Row], Cell]) -> Grid:
    """Return a row per run, or whatever `names` tell apart, and a column per condition."""
    by_key: dict[tuple[str, ...], list[Row]] = {}
    for row in records:
        by_key.setdefault(tuple(row[name] for name in names), []).append(row)
    lines = {key: _labelled(found) for key, found in by_key.items()}
    labels = list(dict.fromkeys(label for found in lines.values() for label in found))
    rows = []
    for key, found in lines.items():
        cells = [show(found[label]) if label in found else Cell("– not asked", is_quiet=True) for label in labels]
        rows.append((*map(Cell, key), *cells))
    return Grid((*names, *map(readable, labels)), tuple(rows), names=len(names))


def _labelled(records: Sequence[Row]) -> dict[str, Row]:
    labels = unit_labels((row["condition"], row["carrier"]) for row in records)
    return {labels[row["condition"], row["carrier"]]: row for row in records}


def _change(row: Row) -> Cell:
    """Show value, change and n; grey where the interval of the change contains 0."""
    if math.isnan(row["value"]):
        return Cell(_undefined(row), is_quiet=True)
    lines = [_with_interval(row["value"], row["value_low"], row["value_high"])]
    is_compared = not math.isnan(row["difference"])
    if is_compared:
        lines.append(_with_interval(row["difference"], row["low"], row["high"], "+"))
    lines.append(f"n {row['n']}")
    if row["note"]:
        lines.append(row["note"])
    return Cell("\n".join(lines), is_quiet=is_compared and not (row["low"] > 0 or row["high"] < 0))


def _covered(row: Row) -> Cell:
    cell = _change(row)
    return cell if math.isnan(row["value"]) else cell._replace(text=f"{cell.text}, coverage {row['coverage']:.0%}")


def _with_unanswered(table: "pd.DataFrame") -> Callable[[Row], Cell]:
    """Return how accuracy is shown: beside it, the shares of what was not answered, and failed calls."""
    shares = {
        (*(row[name] for name in (*_RUN, "condition", "carrier")), row["metric"]): row["value"]
        for row in _records(table)
        if row["metric"] in ("unparsed_rate", "truncated_rate")
    }

    def show(row: Row) -> Cell:
        cell = _change(row)
        key = tuple(row[name] for name in (*_RUN, "condition", "carrier"))
        said = []
        for metric, name in (("unparsed_rate", "unparsed"), ("truncated_rate", "truncated")):
            share = shares.get((*key, metric), math.nan)
            if share > 0:
                said.append(f"{name} {share:.0%}")
        said += [f"errors {row['errors']}"] if row["errors"] else []
        return cell._replace(text="\n".join([cell.text, *([", ".join(said)] if said else [])]))

    return show


def _short(row: Row) -> Cell:
    if math.isnan(row["value"]):
        return Cell("–")
    change = "" if math.isnan(row["difference"]) else f" {_number(row['difference'], '+', 2)}"
    return Cell(f"{_number(row['value'], digits=2)}{change} (n {row['n']})")


def _quadrants(table: "pd.DataFrame") -> Grid:
    names = (*_RUN, "judge", "condition")
    by_key: dict[tuple[str, ...], dict[str, Row]] = {}
    for row in _records(table):
        by_key.setdefault(tuple(row[name] for name in names), {})[row["metric"]] = row
    rows = tuple(
        (
            *(Cell(readable(text) if place == 4 else text) for place, text in enumerate(key)),
            *map(_share, map(found.get, QUADRANTS)),
        )
        for key, found in by_key.items()
    )
    return Grid((*names, *map(readable, QUADRANTS)), rows, names=len(names))


def _share(row: Row | None) -> Cell:
    if row is None or math.isnan(row["value"]):
        return Cell("–" if row is None else _undefined(row), is_quiet=True)
    return Cell(f"{_with_interval(row['value'], row['value_low'], row['value_high'])}\nn {row['n']}")


def _survival(table: "pd.DataFrame") -> Grid:
    records = [row | {"predictor": readable(row["predictor"])} for row in _records(table)]
    return _spread(records, (*_RUN, "predictor", "population"), _area)


def _area(row: Row) -> Cell:
    if math.isnan(row["auroc"]):
        return Cell(_undefined(row), is_quiet=True)
    counts = f"n {row['n']} = {row['positives']} + {row['negatives']}"
    note = f"\n{row['note']}" if row["note"] else ""
    return Cell(
        f"{_with_interval(row['auroc'], row['low'], row['high'])}\n{counts}{note}",
        is_quiet=row["low"] <= 0.5 <= row["high"],
    )


def _agreement(result: "StudyResult") -> Grid:
    rows = []
    for row in _records(result.agreement):
        strict = _with_interval(row["strict"], row["strict_low"], row["strict_high"])
        kappa = _with_interval(row["kappa"], row["low"], row["high"])
        cells = [
            Cell(f"– {row['note']}" if math.isnan(row["strict"]) else strict),
            Cell(f"– {row['note']}" if math.isnan(row["kappa"]) else kappa),
        ]
        rows.append((*(Cell(row[name]) for name in (*_RUN, "judges")), *cells, Cell(str(row["n"]))))
    failed = [row for row in result.judgement_rows if row.status == "failed"]
    rows += [
        (*map(Cell, (row.model, row.checkpoint, row.benchmark, row.judge)), Cell("failed"), Cell(row.error), Cell("0"))
        for row in failed
    ]
    return Grid((*_RUN, "judges", "all say the same", "Fleiss' κ", "n"), tuple(rows), names=4)


def _records(table: "pd.DataFrame") -> list[dict[str, Any]]:
    kept = table.astype(object).where(table.notna(), None)
    numbers = [name for name in table.columns if table[name].dtype == "float64"]
    records = [{str(name): value for name, value in row.items()} for row in kept.to_dict("records")]
    for row in records:
        row |= {name: math.nan for name in numbers if row[name] is None}
    return records


def _undefined(row: Row) -> str:
    return f"– {row['note'] or 'defined for no sample'}"


def _number(value: float, sign: str = "", digits: int = 3) -> str:
    return f"{value:{sign}.{digits}f}".replace("-", "−")


def _with_interval(value: float, low: float, high: float, sign: str = "") -> str:
    """Return a number and its interval; spaces that do not break keep them on a line."""
    interval = "[no\N{NO-BREAK SPACE}interval]"
    if not math.isnan(low):
        interval = f"[{_number(low, sign)},\N{NO-BREAK SPACE}{_number(high, sign)}]"
    return f"{_number(value, sign)}\N{NO-BREAK SPACE}{interval}"
