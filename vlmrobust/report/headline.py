"""Summarise findings in at most five sentences, and group their limits by topic."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from ..text import unit_labels
from . import finding_texts
from .findings import Finding
from .summary import SummaryRow

__all__ = ["LIMITS", "MAX_SENTENCES", "grouped_limits", "headline"]

MAX_SENTENCES = 5
"""The maximum number of sentences."""

LIMITS = {
    "Form or content": ("form", "no_control"),
    "Chance": ("one_draw", "few_groups"),
    "What the judge says": ("judged", "judge_failed", "coverage"),
    "Answers that are missing": ("abstention", "truncation", "left_out", "unreported"),
    "What is not compared": ("carrier", "readouts"),
}
"""The kinds of limits, by topic."""

_LEADING = ("falls", "brittle", "stubborn", "inconsistent", "undecided", "rises", "flips", "weak", "undefined")
_COMPARED = ("falls", "rises", "weak", "undecided")


def headline(findings: Sequence[Finding], rows: Iterable[SummaryRow]) -> tuple[str, ...]:
    """Summarise findings, the most important first: at most `MAX_SENTENCES`, one for all conditions of a kind.

    Args:
        findings: of a report.
        rows: its summary.
    """
    rows = list(rows)
    labels = unit_labels((row.condition, row.carrier) for row in rows)
    by_metric: dict[str, dict[str, SummaryRow]] = {}
    for row in rows:
        by_metric.setdefault(row.metric, {})[labels[row.condition, row.carrier]] = row
    of_kind: dict[str, list[Finding]] = {}
    for finding in findings:
        of_kind.setdefault(finding.kind, []).append(finding)
    sentences = [
        sentence
        for kind in _LEADING
        if kind in of_kind
        for sentence in _sentences_of(
            kind, of_kind[kind], by_metric, sum(len(of_kind.get(each, ())) for each in _COMPARED)
        )
    ]
    base = by_metric.get("accuracy", {}).get("base")
    if not sentences and base is not None and base.n_value:
        sentences = [finding_texts.base_accuracy(base)]
    return tuple(sentences[:MAX_SENTENCES])


def _sentences_of(
    kind: str, found: Sequence[Finding], by_metric: Mapping[str, Mapping[str, SummaryRow]], compared: int
) -> Iterator[str]:
    labels = list(dict.fromkeys(label for finding in found for label in finding.labels))
    accuracy, flips = ([by_metric.get(name, {}).get(label) for label in labels] for name in ("accuracy", "flip_rate"))
    if kind in ("falls", "rises"):
        yield finding_texts.most_changed(labels, [row for row in accuracy if row is not None], compared)
    elif kind == "flips":
        yield finding_texts.most_flips(labels, [row for row in flips if row is not None])
    elif kind == "undecided":
        yield finding_texts.none_distinguishable(labels, [row for row in accuracy if row is not None])
    elif kind == "weak":
        yield finding_texts.uncorrected_only(labels)
    elif kind in ("brittle", "stubborn"):
        yield finding_texts.pattern(kind, labels)
    else:  # the first of a few, which gives its reason
        yield found[0].text


def grouped_limits(findings: Iterable[Finding]) -> dict[str, list[str]]:
    """Return the sentences that say what cannot be concluded, by topic."""
    about = {kind: group for group, kinds in LIMITS.items() for kind in kinds}
    groups: dict[str, list[str]] = {group: [] for group in LIMITS}
    for finding in findings:
        if finding.is_limit:
            groups[about[finding.kind]].append(finding.text)
    return {group: texts for group, texts in groups.items() if texts}
