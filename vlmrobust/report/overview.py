"""Summarise a report: the overview table with its notes, and a headline of at most five sentences.

Two of the notes are for other views as well: on how often the judge errs (`judge_note`), and on the values behind a
difference, whose pairs may be fewer than all samples (`values_on_pairs`, `pair_count`).
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ..judges import measured
from ..judges.base import title_of
from ..metrics.catalogue import PAPER_METRICS, default_metrics
from ..text import readable, unit_labels
from ..types import Responses
from . import finding_texts
from .files import ReportData
from .finding_texts import TYPICAL
from .findings import Finding
from .formats import Table, with_interval
from .metric_columns import Column
from .pairing import units_of
from .summary import SummaryRow

__all__ = [
    "ARROWS",
    "MAX_SENTENCES",
    "headline",
    "judge_note",
    "overview",
    "pair_count",
    "unanswered_statuses",
    "values_on_pairs",
]

ARROWS = {True: " ↑", False: " ↓", None: ""}
"""What follows a metric's name, by whether higher values are better."""

MAX_SENTENCES = 5
"""The maximum number of sentences of a headline."""

_LEADING = ("falls", "brittle", "stubborn", "inconsistent", "undecided", "rises", "flips", "weak", "undefined")
_COMPARED = ("falls", "rises", "weak", "undecided")
_MAIN = ("accuracy", "consistency", "correct_probability", "letter_entropy", "flip_rate", "follow_rate", "format_rate")
_SMALL_PRINT = (
    "Second line: the change from base on the same samples, with its 95 % interval; brackets alone: the 95 % interval "
    "of the value."
)


def overview(
    report: ReportData,
    *,
    metrics: Sequence[str] | None = None,
    with_intervals: bool = False,
    statuses: Sequence[str] | None = None,
) -> Table:
    """Return one row per condition: the main metrics, and the statuses and counts needed to read them.

    The first metric has its difference from base and the 95 % interval. The user's own metrics follow the library's
    main ones; the others are in `Report.summary`. With several draws the flip rate is shown with its noise floor.

    Args:
        report: to show.
        metrics: names of the columns to show; None = the main ones, and the user's own.
        with_intervals: show each metric's difference, on a second line of its cell.
        statuses: those whose shares to show, see `unanswered_statuses`; None = those of these responses.
    """
    responses, columns, summary = report.responses, report.columns, report.summary
    by_name = {column.name: column for column in columns}
    floors = {row.metric: row for row in summary if row.condition == "base" and not math.isnan(row.noise_floor)}
    if metrics is None:
        main = PAPER_METRICS if with_intervals else _MAIN
        shown = [by_name[name] for name in main if name in by_name and (name != "flip_rate" or name in floors)]
        library = {metric.column for metric in default_metrics()}
        shown += [column for column in columns if column.name not in library]
        shown = shown or list(columns)
    else:
        shown = [by_name[name] for name in metrics]
    cells: dict[tuple[str, str | None], dict[str, SummaryRow]] = {}
    for row in summary:
        cells.setdefault((row.condition, row.carrier), {})[row.metric] = row
    units = units_of(responses)
    labels = unit_labels((unit.condition, unit.carrier) for unit in units)
    shown_statuses = unanswered_statuses(responses) if statuses is None else statuses
    rows, undecided = [], []
    for unit in units:
        values = cells.get((unit.condition, unit.carrier), {})
        own_statuses = [responses.status[row] for row in unit.rows]
        scored = len(own_statuses) - own_statuses.count("error") - own_statuses.count("not_applicable")
        status_shares = "/".join(_share(own_statuses.count(status), scored) for status in shown_statuses)
        errors = f"{own_statuses.count('error')}"
        first = values.get(shown[0].name) if shown else None
        count = 0 if first is None else first.n_value
        undecided.append(first is not None and first.low <= 0 <= first.high)
        texts = [
            _cell_of_two_lines(values.get(column.name))
            if with_intervals
            else _cell(values.get(column.name), first=column is shown[0])
            for column in shown
        ]
        rows.append((labels[unit.condition, unit.carrier], *texts, status_shares, str(count), errors))
    titles = [_title(column, first=column is shown[0] and not with_intervals) for column in shown]
    return Table(
        header=("condition", *titles, "/ ".join(shown_statuses), "n", "errors"),
        rows=tuple(rows),
        notes=(
            *([_SMALL_PRINT] if with_intervals else []),
            *_judge_notes(summary, shown, report.judge),
            *_floor_notes(floors, len(set(responses.draw.tolist()))),
            *_pair_notes(summary, shown, shown if with_intervals else shown[:1]),
            *_notes(summary, shown),
        ),
        undecided=tuple(undecided),
    )


def unanswered_statuses(responses: Responses) -> list[str]:
    """Return the statuses without an answer whose shares the overview shows."""
    return [*(["abstained"] if "abstained" in responses.status else []), "unparsed", "truncated"]


def _title(column: Column, *, first: bool) -> str:
    added = {"consistency": " (judged)", "flip_rate": " (floor)"}.get(
        column.name, ",\nchange [95 % interval]" if first else ""
    )
    return f"{readable(column.name)}{ARROWS[column.higher_is_better]}{added}"


def _cell(row: SummaryRow | None, *, first: bool) -> str:
    if row is None or math.isnan(row.value):
        return "–"
    if row.metric == "consistency":
        return f"{row.value:.2f} ({row.coverage:.0%})"
    if row.metric == "flip_rate" and not math.isnan(row.noise_floor):
        return f"{row.value:.2f} ({row.noise_floor:.2f})"
    return f"{row.value:.2f} {_change(row)}" if first and not math.isnan(row.difference) else f"{row.value:.2f}"


def _cell_of_two_lines(row: SummaryRow | None) -> str:
    if row is None or math.isnan(row.value):
        return "–"
    if not math.isnan(row.difference):
        return f"{_cell(row, first=False)}\n{_change(row)}"
    own = "" if math.isnan(row.value_low) else f"\n[{row.value_low:.2f}, {row.value_high:.2f}]"
    return f"{_cell(row, first=False)}{own}"


def _change(row: SummaryRow) -> str:
    return with_interval(row.difference, row.low, row.high, sign="+")


def _share(count: int, total: int) -> str:
    return f"{count / total:.0%}" if total else "–"


def judge_note(judge: Mapping[str, Any]) -> str:
    """Return a note on the meaning of consistency and its possible error.

    Args:
        judge: the identity of the judge.
    """
    known = measured(judge)
    errs = "how often it errs is not known here"
    if known is not None:
        low, high = known.reported(TYPICAL)
        errs = f"a true {TYPICAL} reads as {low:.2f} to {high:.2f} there"
    return (
        f"consistency is what {title_of(judge)} says of the answers on which it has a verdict, not the truth: {errs}; "
        "Report.consistency corrects it by labels"
    )


def _judge_notes(summary: Sequence[SummaryRow], shown: Sequence[Column], judge: Mapping[str, Any]) -> Iterator[str]:
    judged = {column.name for column in shown if "consisten" in column.name}
    if any(row.metric in judged and not math.isnan(row.value) for row in summary):
        yield judge_note(judge)


def _floor_notes(floors: Mapping[str, SummaryRow], draws: int) -> Iterator[str]:
    flips = floors.get("flip_rate")
    if flips is not None:
        rate = with_interval(flips.value, flips.value_low, flips.value_high)
        other = f", consistency {floors['consistency'].noise_floor:.2f}" if "consistency" in floors else ""
        yield f"noise floor, base against base over {draws} draws: flip rate {rate}{other}"


def pair_count(row: Mapping[str, Any]) -> int | None:
    """Return the number of samples behind a summary row's comparison, None without a comparison."""
    return None if math.isnan(row["difference"]) else int(row["n"])


def values_on_pairs(
    row: Mapping[str, Any], base: Mapping[str, Any] | None, digits: int, *, is_subtracted: bool = True
) -> str:
    """Return the values behind a difference, `40 pairs: 0.60, base 0.80`, if they differ from the printed ones.

    Args:
        row: of a summary, by column; its value is printed with `n_value`.
        base: the base row of the same metric, whose value is printed too; None = there is none.
        digits: number of digits of printed values.
        is_subtracted: the difference is printed too, so that the number of pairs matters as well.
    """
    pairs = pair_count(row)
    if pairs is None:
        return ""
    printed = row["value"], row["base_value"] if base is None else base["value"]
    shown, meant = (
        [f"{value:.{digits}f}" for value in values] for values in (printed, (row["paired_value"], row["base_value"]))
    )
    if shown == meant and (pairs == row["n_value"] or not is_subtracted):
        return ""
    return f"{pairs} pairs: {meant[0]}, base {meant[1]}".replace("-", "−")


def _pair_notes(summary: Sequence[SummaryRow], shown: Sequence[Column], changes: Sequence[Column]) -> Iterator[str]:
    """Yield a metric's two values on the pairs if they differ from the printed ones, whose difference would mislead.

    Args:
        summary: all rows.
        shown: metrics whose values are printed.
        changes: metrics whose differences are printed too.
    """
    names, subtracted = ({column.name for column in group} for group in (shown, changes))
    under_base = {row.metric: asdict(row) for row in summary if row.condition == "base"}
    metrics: dict[tuple[str, str], list[str]] = {}
    for row in summary:
        if row.metric not in names:
            continue
        if text := values_on_pairs(asdict(row), under_base.get(row.metric), 2, is_subtracted=row.metric in subtracted):
            metrics.setdefault((row.condition, text), []).append(readable(row.metric))
    for (condition, text), metric_names in metrics.items():
        yield f"{condition}: {', '.join(metric_names)} on {text}"


def _notes(summary: Sequence[SummaryRow], shown: Sequence[Column]) -> tuple[str, ...]:
    names = {column.name for column in shown}
    metrics: dict[tuple[str, str], list[str]] = {}
    for row in summary:
        if row.note and row.metric in names:
            metrics.setdefault((row.condition, row.note), []).append(row.metric)
    conditions: dict[tuple[str, str], list[str]] = {}
    for (condition, note), of_note in metrics.items():
        conditions.setdefault((note, ", ".join(of_note)), []).append(condition)
    skipped = {row.condition: row.not_applicable for row in summary if row.not_applicable}
    return (
        *(f"{', '.join(where)}: {note} – {of_note}" for (note, of_note), where in conditions.items()),
        *(f"{condition}: not applicable to {count} responses" for condition, count in skipped.items()),
    )


def headline(findings: Sequence[Finding], rows: Sequence[SummaryRow]) -> tuple[str, ...]:
    """Summarise findings, the most important first: at most `MAX_SENTENCES`, one for all conditions of a kind.

    Args:
        findings: of a report.
        rows: its summary.
    """
    labels = unit_labels((row.condition, row.carrier) for row in rows)
    by_metric: dict[str, dict[str, SummaryRow]] = {}
    for row in rows:
        by_metric.setdefault(row.metric, {})[labels[row.condition, row.carrier]] = row
    of_kind: dict[str, list[Finding]] = {}
    for finding in findings:
        of_kind.setdefault(finding.kind, []).append(finding)
    compared = sum(len(of_kind.get(kind, ())) for kind in _COMPARED)
    sentences = [_sentence(kind, of_kind[kind], by_metric, compared) for kind in _LEADING if kind in of_kind]
    base = by_metric.get("accuracy", {}).get("base")
    if not sentences and base is not None and base.n_value:
        sentences = [finding_texts.base_accuracy(base)]
    return tuple(sentences[:MAX_SENTENCES])


def _sentence(
    kind: str, found: Sequence[Finding], by_metric: Mapping[str, Mapping[str, SummaryRow]], compared: int
) -> str:
    labels = list(dict.fromkeys(label for finding in found for label in finding.labels))

    def rows_of(metric: str) -> list[SummaryRow]:
        return [by_metric[metric][label] for label in labels]

    if kind in ("falls", "rises"):
        return finding_texts.most_changed(labels, rows_of("accuracy"), compared)
    if kind == "flips":
        return finding_texts.most_flips(labels, rows_of("flip_rate"))
    if kind == "undecided":
        return finding_texts.none_distinguishable(labels, rows_of("accuracy"))
    if kind == "weak":
        return finding_texts.uncorrected_only(labels)
    if kind in ("brittle", "stubborn"):
        return finding_texts.pattern(kind, labels)
    return found[0].text  # the first of a few, which gives its reason
