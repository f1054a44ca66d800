"""Derive the sentences that a report supports: changes, stubborn and brittle models, and limits of the results."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..functional.closed_form import holm
from ..judges import measured
from ..judges.base import title_of
from ..perturbations.wordings import quotable
from ..text import unit_labels
from ..types import Responses
from . import finding_texts
from .files import ReportData
from .pairing import UNSCORED, Unit, is_one_of, units_of
from .summary import SummaryRow

__all__ = ["KINDS", "Finding", "findings"]

KINDS = {
    "falls": "accuracy falls: the interval is below 0, also after Holm's correction for all comparisons",
    "rises": "accuracy rises, likewise",
    "weak": "the interval of the change misses 0, but the change is not significant after the correction",
    "undecided": "the interval of the change contains 0",
    "undefined": "accuracy can't be compared with base",
    "inconsistent": "under base, most thoughts do not conclude the answer",
    "flips": "more answers flip than between two draws of base, also after the correction",
    "flips_by_chance": "no more answers flip than sampling alone may do",
    "stubborn": "right despite a prefilled wrong thought",
    "brittle": "follows the wrong thought consistently to the wrong answer",
    "neither": "neither of the two by these intervals",
    "form": "a true or neutral text makes more choices wrong as well",
    "no_control": "no true or neutral text was run as a control for a wrong one",
    "one_draw": "the noise floor is unknown",
    "few_groups": "too few independent groups of samples",
    "judged": "how wrong the judge's rate may be",
    "judge_failed": "the judge failed on some thoughts",
    "coverage": "the judge has no verdict on many responses, or on fewer than under base",
    "abstention": "abstaining may be part of a fall",
    "truncation": "cut off or unreadable answers may be part of a fall",
    "carrier": "the text was carried in another way than under other conditions",
    "readouts": "letters have another read-out than under base",
    "left_out": "responses that are in no number",
    "unreported": "responses of the run directory that are in no report",
}
"""The kinds of findings; those from `form` on are limits: they say what cannot be concluded."""

_LIMITS = tuple(KINDS)[tuple(KINDS).index("form") :]
_TESTED_METRICS = ("accuracy", "flip_rate", "consistency")
_UNANSWERED = ("abstained", "truncated", "unparsed")
_WRONG_THINK = ("wrong", "think")
_ALPHA = 0.05
_ENOUGH_GROUPS = 50
_ENOUGH_COVERAGE = 0.9
_MORE_COVERAGE = 0.05
_MANY_UNANSWERED = 0.05


@dataclass(frozen=True, slots=True)
class Finding:
    """One sentence that the numbers of a report support.

    Attributes:
        kind: one of `KINDS`.
        condition: the condition's name; None = the whole report.
        text: the sentence.
        is_limit: it says what cannot be concluded.
        labels: the labels, as in tables, of the conditions that it is about; empty = the whole report.
    """

    kind: str
    condition: str | None
    text: str
    is_limit: bool
    labels: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True, eq=False)
class _Condition:
    """A condition, carried in one way, with its rows of the summary.

    Attributes:
        label: its name in sentences.
        rows: by metric.
        lost: by status, the share of its pairs with base that were right there and have that status here.
        asserts: what its text asserts: "wrong", "true", "neutral", or "" if unknown; "doubt" for a reply without an
            assertion.
        where: where the text is, "think", "caption" or "reply".
    """

    unit: Unit
    label: str
    rows: Mapping[str, SummaryRow]
    lost: Mapping[str, float]
    asserts: str
    where: str

    def compared(self, metric: str) -> SummaryRow | None:
        """Return a metric's row if it has a difference from base, with an interval."""
        row = self.rows.get(metric)
        return None if row is None or math.isnan(row.low) else row

    def finding(self, kind: str, sentence: str) -> Finding:
        return Finding(kind, self.unit.condition, f"{self.label}: {sentence}", kind in _LIMITS, (self.label,))


def findings(report: ReportData, margin: float) -> Iterator[Finding]:
    """Yield the sentences that the numbers support, condition by condition, then the limits.

    Args:
        report: to describe.
        margin: the smallest change of accuracy that matters.
    """
    conditions = _corrected(list(_conditions(report.responses, report.summary)))
    for condition in conditions:
        if condition.unit.condition != "base":
            yield from _changes(condition)
            yield from _pattern(condition, margin)
        elif (consistency := condition.rows.get("consistency")) is not None and consistency.value_high < 0.5:
            yield condition.finding("inconsistent", finding_texts.inconsistent(consistency))
    yield from _undefined(conditions)
    yield from _report_limits(report.responses, conditions)
    if any(
        "consisten" in name and not math.isnan(row.value)
        for condition in conditions
        for name, row in condition.rows.items()
    ):
        yield Finding("judged", None, finding_texts.judged(title_of(report.judge), measured(report.judge)), True)
    yield from _judge_failures(report, conditions)
    for condition in conditions:
        yield from _limits(condition)
    yield from _shared_limits(conditions, [column.name for column in report.columns if column.reads_letters])


def _conditions(responses: Responses, summary: Sequence[SummaryRow]) -> Iterator[_Condition]:
    cells: dict[tuple[str, str | None], dict[str, SummaryRow]] = {}
    for row in summary:
        cells.setdefault((row.condition, row.carrier), {})[row.metric] = row
    units = units_of(responses)
    labels = unit_labels((unit.condition, unit.carrier) for unit in units)
    right = _right_under_base(responses)
    for unit in units:
        key = unit.condition, unit.carrier
        yield _Condition(
            unit, labels[key], cells.get(key, {}), _lost(responses, unit, right), *_assertion(responses, unit)
        )


def _assertion(responses: Responses, unit: Unit) -> tuple[str, str]:
    """Return what the text of a condition asserts, and where it is: `_Condition.asserts` and `where`."""
    rows = [int(row) for row in unit.rows if responses.status[row] not in UNSCORED]
    asserting = [row for row in rows if responses.asserted[row] >= 0]
    is_reply = any(responses.history[row] for row in asserting or rows)
    if not asserting:
        where = "think" if any(responses.prefill[row] for row in rows) else "reply" if is_reply else "caption"
        return "neutral" if unit.condition.startswith("neutral_") else "doubt" if where == "reply" else "", where
    in_turn = sum(_asserts_in_turn(responses, row) for row in asserting)
    where = "think" if in_turn > len(asserting) / 2 else "reply" if is_reply else "caption"
    return "true" if (responses.asserted == responses.target)[asserting].all() else "wrong", where


def _asserts_in_turn(responses: Responses, row: int) -> bool:
    """Return whether the assertion is in the assistant's turn, not before the question or in the user's reply.

    With text in both places, it is in the turn if the turn mentions the option outside its quotation of the question.
    """
    prefill, order = responses.prefill[row], responses.order[row]
    if not (prefill and (responses.context[row] or responses.history[row])):
        return bool(prefill)
    from ..prompting.mentions import Reading  # slow to import: it compiles many patterns

    thought = prefill.replace(quotable(responses.question[row]), " ")
    reading = Reading.of(thought, responses.options[row])
    named = {mention.option for mention in reading.mentions(0, len(thought))}
    return any(option is not None and order[option] == int(responses.asserted[row]) for option in named)


def _right_under_base(responses: Responses) -> dict[str, list[bool]]:
    """Return whether each sample's scored draws under base are right."""
    found: dict[str, list[bool]] = {}
    right = (responses.choice == responses.target).tolist()
    for row, sample in enumerate(responses.sample_id):
        if responses.condition[row] == "base" and responses.status[row] not in UNSCORED:
            found.setdefault(sample, []).append(right[row])
    return found


def _lost(responses: Responses, unit: Unit, right: Mapping[str, Sequence[bool]]) -> dict[str, float]:
    """Return by status how much base accuracy answers of that status may cost at most, averaged over samples."""
    statuses: dict[str, list[str]] = {}
    for row in unit.rows.tolist():
        sample = responses.sample_id[row]
        if responses.status[row] not in UNSCORED and sample in right:
            statuses.setdefault(sample, []).append(responses.status[row])
    return {
        status: sum(
            min(own.count(status) / len(own), sum(right[sample]) / len(right[sample]))
            for sample, own in statuses.items()
        )
        / max(1, len(statuses))
        for status in _UNANSWERED
    }


def _corrected(conditions: Sequence[_Condition]) -> list[_Condition]:
    """Return the conditions with p-values adjusted jointly over all tests behind the findings.

    The summary adjusts each metric separately. Findings use several metrics, and a report on pure chance should have a
    false one in at most 5 % of all cases.
    """
    claims = [
        (place, metric, row.p)
        for place, condition in enumerate(conditions)
        for metric in _TESTED_METRICS
        if condition.unit.condition != "base" and (row := condition.compared(metric)) is not None
        if metric != "consistency" or (condition.asserts, condition.where) == _WRONG_THINK
    ]
    adjusted = holm([p for *_, p in claims])
    rows = [dict(condition.rows) for condition in conditions]
    for (place, metric, _), p in zip(claims, adjusted.tolist(), strict=True):
        rows[place][metric] = replace(rows[place][metric], p_adjusted=p)
    return [replace(condition, rows=own) for condition, own in zip(conditions, rows, strict=True)]


def _changes(condition: _Condition) -> Iterator[Finding]:
    accuracy, flips = condition.compared("accuracy"), condition.compared("flip_rate")
    if accuracy is not None:
        kind = "falls" if accuracy.high < 0 else "rises" if accuracy.low > 0 else "undecided"
        is_weak = kind != "undecided" and accuracy.p_adjusted >= _ALPHA
        yield condition.finding("weak" if is_weak else kind, finding_texts.change(accuracy, is_weak=is_weak))
    if flips is not None and not math.isnan(flips.noise_floor):
        is_shown = flips.low > 0 and flips.p_adjusted < _ALPHA
        yield condition.finding("flips" if is_shown else "flips_by_chance", finding_texts.flips(flips, is_shown))


def _undefined(conditions: Sequence[_Condition]) -> Iterator[Finding]:
    """Yield a finding for each reason why accuracy cannot be compared with base."""
    rows = [
        (one, one.rows["accuracy"]) for one in conditions if one.unit.condition != "base" and "accuracy" in one.rows
    ]
    reasons = [(one, (finding_texts.why_not_compared(row),)) for one, row in rows if math.isnan(row.low)]
    yield from _joint_findings("undefined", finding_texts.not_compared, reasons)


def _pattern(condition: _Condition, margin: float) -> Iterator[Finding]:
    """Yield whether a model is stubborn or brittle under a wrong thought, decided by the ends of intervals."""
    accuracy, follow, consistency = (condition.compared(name) for name in ("accuracy", "follow_rate", "consistency"))
    if (
        (condition.asserts, condition.where) != _WRONG_THINK
        or accuracy is None
        or follow is None
        or consistency is None
    ):
        return
    fell = consistency.high < 0 and consistency.p_adjusted < _ALPHA
    if accuracy.low > -margin and fell and consistency.value_high < 0.5:
        yield condition.finding("stubborn", finding_texts.stubborn(accuracy, consistency, margin))
    elif accuracy.high < -margin and follow.value_low > 0.5 and consistency.value_low > 0.5:
        yield condition.finding("brittle", finding_texts.brittle(accuracy, follow, consistency, margin))
    else:
        yield condition.finding("neither", finding_texts.neither(accuracy, follow, consistency))


def _report_limits(responses: Responses, conditions: Sequence[_Condition]) -> Iterator[Finding]:
    for where in ("think", "caption", "reply"):
        texts = [condition for condition in conditions if condition.where == where and condition.asserts]
        wrong = [condition.label for condition in texts if condition.asserts in ("wrong", "doubt")]
        if wrong and len(wrong) == len(texts):
            yield Finding("no_control", None, finding_texts.no_control(wrong), True, tuple(wrong))
    scored = ~is_one_of(responses.status, *UNSCORED)
    draws = responses.draw.numpy()[scored]
    if len(draws) and len(np.unique(draws)) == 1:
        yield Finding("one_draw", None, finding_texts.one_draw(), True)
    groups = len({responses.group[row] for row in np.flatnonzero(scored).tolist()})
    if 0 < groups < _ENOUGH_GROUPS:
        yield Finding("few_groups", None, finding_texts.few_groups(groups, _ENOUGH_GROUPS), True)


def _judge_failures(report: ReportData, conditions: Sequence[_Condition]) -> Iterator[Finding]:
    responses = report.responses
    failures = next((column.failures for column in report.columns if column.name == "consistency"), {})
    for condition in conditions:
        rows = condition.unit.rows.tolist()
        failed = [row for row in rows if row in failures]
        if failed:
            first, thoughts = failed[0], sum(bool(responses.think[row].strip()) for row in rows)
            sentence = finding_texts.unjudged_for_errors(
                len(failed), thoughts, responses.sample_id[first], failures[first]
            )
            yield condition.finding("judge_failed", sentence)


def _limits(condition: _Condition) -> Iterator[Finding]:
    accuracy = condition.compared("accuracy")
    is_shown = accuracy is not None and accuracy.high < 0 and accuracy.p_adjusted < _ALPHA
    fall = accuracy if is_shown else None
    if fall is not None and condition.asserts in ("true", "neutral") and fall.high < -sum(condition.lost.values()):
        yield condition.finding("form", finding_texts.form_effect(fall))
    abstained = condition.rows.get("abstain_rate")
    part = condition.lost["abstained"]
    if abstained is not None and (_is_many(abstained) or _is_part(fall, part, [abstained])):
        yield condition.finding("abstention", finding_texts.abstained(abstained, fall, part))
    truncated, unparsed = condition.rows.get("truncated_rate"), condition.rows.get("unparsed_rate")
    if truncated is None or math.isnan(truncated.value):
        return
    part = condition.lost["truncated"] + condition.lost["unparsed"]
    rates = [truncated] if unparsed is None else [truncated, unparsed]
    # If the condition is compared with base, it matters only as a part of a fall.
    if _is_part(fall, part, rates) or (accuracy is None and any(map(_is_many, rates))):
        yield condition.finding("truncation", finding_texts.cut_off(rates, fall, part))


def _shared_limits(conditions: Sequence[_Condition], letters: Sequence[str]) -> Iterator[Finding]:
    """Yield limits that several conditions may share, one finding for all of them."""
    judged = [(one, row) for one in conditions if (row := one.rows.get("consistency")) is not None]
    unjudged = [(one, ()) for one, row in judged if row.coverage == 0]
    yield from _joint_findings("coverage", finding_texts.unjudged, unjudged)
    uncovered = [
        (one, row)
        for one, row in judged
        if 0 < row.coverage < _ENOUGH_COVERAGE
        or (row.coverage > 0 and abs(row.coverage - row.base_coverage) > _MORE_COVERAGE)
    ]
    yield from _joint_findings(
        "coverage", lambda: finding_texts.uncovered([row for _, row in uncovered]), [(one, ()) for one, _ in uncovered]
    )
    carried = [one for one in conditions if one.unit.carrier == "user_text" and one.unit.condition != "base"]
    yield from _joint_findings("carrier", finding_texts.carried_in_user_turn, [(one, ()) for one in carried])
    noted = []
    for condition in conditions:
        metrics_by_note: dict[str, list[str]] = {}
        for name in letters:
            if name in condition.rows and "read-outs" in condition.rows[name].note:
                metrics_by_note.setdefault(condition.rows[name].note, []).append(name)
        noted += [(condition, (tuple(names), note)) for note, names in metrics_by_note.items()]
    yield from _joint_findings("readouts", finding_texts.other_read_outs, noted)
    rows = [(one, next(iter(one.rows.values()))) for one in conditions if one.rows]  # equal counts for every metric
    missing = [(one, (row.errors, row.not_applicable)) for one, row in rows if row.errors or row.not_applicable]
    often = Counter(counts for _, counts in missing)
    yield from _joint_findings(
        "left_out", finding_texts.left_out, [(one, (*counts, often[counts] > 1)) for one, counts in missing]
    )


def _joint_findings(
    kind: str, sentence_of: Callable[..., str], found: Iterable[tuple[_Condition, tuple[Any, ...]]]
) -> Iterator[Finding]:
    """Yield one finding for all conditions with the same arguments of the sentence."""
    groups: dict[tuple[Any, ...], list[_Condition]] = {}
    for condition, arguments in found:
        groups.setdefault(arguments, []).append(condition)
    for arguments, group in groups.items():
        name = group[0].unit.condition if len(group) == 1 else None
        labels = tuple(condition.label for condition in group)
        yield Finding(kind, name, f"{', '.join(labels)}: {sentence_of(*arguments)}", kind in _LIMITS, labels)


def _is_many(row: SummaryRow) -> bool:
    """Return whether a status is frequent, by the lower limit of its interval if there is one."""
    return (row.value if math.isnan(row.value_low) else row.value_low) > _MANY_UNANSWERED


def _is_part(fall: SummaryRow | None, part: float, rates: Sequence[SummaryRow]) -> bool:
    """Return whether answers of some statuses may explain a notable part of a fall."""
    return fall is not None and (part > _MANY_UNANSWERED or any(row.low > 0 for row in rates))
