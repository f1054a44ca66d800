"""Which sentences a report supports: what changes, who is stubborn or brittle, and what can't be concluded."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from ..functional.statistics import holm
from ..judges import measured
from ..judges.measured import title_of
from ..naming import unit_labels
from ..perturbations.texts import quotable
from ..types import Responses
from . import finding_texts
from .columns import Column
from .pairing import UNSCORED, Unit, is_one_of, units_of
from .summary import SummaryRow

__all__ = ["KINDS", "Finding", "findings"]

KINDS = {
    "falls": "accuracy falls: the interval is below 0, also after Holm's correction for all that is compared",
    "rises": "accuracy rises, likewise",
    "weak": "the interval of the change misses 0, but the correction stands against it",
    "undecided": "the interval of the change contains 0",
    "undefined": "accuracy can't be compared with base",
    "inconsistent": "under base, most thoughts do not conclude the answer",
    "flips": "more answers flip than between two draws of base, also after the correction",
    "flips_by_chance": "no more answers flip than sampling alone may do",
    "stubborn": "right against the wrong thought that its turn begins with",
    "brittle": "follows the wrong thought consistently to the wrong answer",
    "neither": "neither of the two by these intervals",
    "form": "a true or neutral text makes more choices wrong as well",
    "no_control": "no true or neutral text was asked beside a wrong one",
    "one_draw": "the noise floor is not known",
    "few_groups": "too few independent groups of samples",
    "judged": "how wrong the judge's rate may be",
    "judge_failed": "the judge failed on some thoughts",
    "coverage": "the judge has no verdict on many responses, or on fewer than under base",
    "abstention": "abstaining may be part of a fall",
    "truncation": "cut off or unreadable answers may be part of a fall",
    "carrier": "the text was carried otherwise than under other conditions",
    "readouts": "letters were read elsewhere than under base",
    "left_out": "responses that are in no number",
    "unreported": "responses of the run directory that are in no report",
}
"""What a finding can be about; from `form` on they say what can't be concluded."""

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
        kind: what it is about, one of `KINDS`.
        condition: the condition's name; None = the whole report.
        text: the sentence.
        is_limit: it says what can't be concluded.
        labels: the conditions that it is about, as tables call them; none = the whole report.
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
        label: how it is called in finding_texts.
        rows: by metric.
        lost: by status, the share of its pairs with base that were right there and have that status here.
        says: what its text asserts: "wrong", "true", "neutral", or "" for none that is known; "doubt" for a reply that
            asserts none.
        where: where the text stands, "think", "caption" or "reply".
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

    def finding(self, kind: str, text: str) -> Finding:
        return Finding(kind, self.unit.condition, text, kind in _LIMITS, (self.label,))


def findings(
    responses: Responses,
    columns: Sequence[Column],
    summary: Sequence[SummaryRow],
    margin: float,
    judge: Mapping[str, Any],
) -> Iterator[Finding]:
    """Yield the sentences that the numbers support, condition by condition, then what can't be concluded.

    Args:
        responses: all of them.
        columns: the metrics.
        summary: every condition compared with base.
        margin: a change of accuracy that matters.
        judge: the identity of the one who says what is consistent.
    """
    conditions = _corrected(list(_conditions(responses, summary)))
    for one in conditions:
        if one.unit.condition != "base":
            yield from _changes(one)
            yield from _pattern(one, margin)
        elif (consistency := one.rows.get("consistency")) is not None and consistency.value_high < 0.5:
            yield one.finding("inconsistent", finding_texts.inconsistent(one.label, consistency))
    yield from _undefined(conditions)
    yield from _report_limits(responses, conditions)
    if any("consisten" in name and not math.isnan(row.value) for one in conditions for name, row in one.rows.items()):
        yield Finding("judged", None, finding_texts.judged(title_of(judge), measured(judge)), True)
    yield from _judge_failures(responses, columns, conditions)
    for one in conditions:
        yield from _limits(one)
    yield from _shared_limits(conditions, [column.name for column in columns if column.reads_letters])


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
            unit, labels[key], cells.get(key, {}), _lost(responses, unit, right), *_assertion_of(responses, unit)
        )


def _right_under_base(responses: Responses) -> dict[str, list[bool]]:
    """Return whether each sample's scored draws under base are right."""
    found: dict[str, list[bool]] = {}
    right = (responses.choice == responses.target).tolist()
    for row, sample in enumerate(responses.sample_id):
        if responses.condition[row] == "base" and responses.status[row] not in UNSCORED:
            found.setdefault(sample, []).append(right[row])
    return found


def _lost(responses: Responses, unit: Unit, right: Mapping[str, Sequence[bool]]) -> dict[str, float]:
    """Return by status how much accuracy under base the answers of that status cost, sample by sample."""
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
    """Return the conditions with p-values that are adjusted together for all that findings claim.

    The summary adjusts each metric on its own; sentences are about accuracy and flips, and a report of nothing but
    chance is to hold a false one in at most 5 % of all cases.
    """
    claims = [
        (place, metric, row.p)
        for place, one in enumerate(conditions)
        for metric in _TESTED_METRICS
        if one.unit.condition != "base" and (row := one.compared(metric)) is not None
        if metric != "consistency" or (one.asserts, one.where) == _WRONG_THINK
    ]
    adjusted = holm([p for *_, p in claims])
    rows = [dict(one.rows) for one in conditions]
    for (place, metric, _), p in zip(claims, adjusted.tolist(), strict=True):
        rows[place][metric] = replace(rows[place][metric], p_adjusted=p)
    return [replace(one, rows=own) for one, own in zip(conditions, rows, strict=True)]


def _assertion_of(responses: Responses, unit: Unit) -> tuple[str, str]:
    """Return what the text of a condition asserts, and where it stands."""
    rows = [int(row) for row in unit.rows if responses.status[row] not in UNSCORED]
    asserting = [row for row in rows if responses.asserted[row] >= 0]
    if not asserting:
        is_reply = any(responses.history[row] for row in rows)
        where = "think" if any(responses.prefill[row] for row in rows) else "reply" if is_reply else "caption"
        return "neutral" if unit.condition.startswith("neutral_") else "doubt" if where == "reply" else "", where
    in_turn = sum(_asserts_in_turn(responses, row) for row in asserting)
    is_reply = any(responses.history[row] for row in asserting)
    where = "think" if in_turn > len(asserting) / 2 else "reply" if is_reply else "caption"
    return "true" if (responses.asserted == responses.target)[asserting].all() else "wrong", where


def _asserts_in_turn(responses: Responses, row: int) -> bool:
    """Return whether an assertion stands in the assistant's turn, not before the question or in the user's reply.

    Where there is text in both places, it is in the turn if that names the option outside the question it quotes.
    """
    prefill, order = responses.prefill[row], responses.order[row]
    if not (prefill and (responses.context[row] or responses.history[row])):
        return bool(prefill)
    from ..prompting.mentions import Reading  # its patterns take a while to compile

    thought = prefill.replace(quotable(responses.question[row]), " ")
    reading = Reading.of(thought, responses.options[row])
    named = {mention.option for mention in reading.mentions(0, len(thought))}
    return any(option is not None and order[option] == int(responses.asserted[row]) for option in named)


def _changes(one: _Condition) -> Iterator[Finding]:
    accuracy = one.rows.get("accuracy")
    if accuracy is not None and not math.isnan(accuracy.low):
        reasons = list(_objections(accuracy))
        kind = "falls" if accuracy.high < 0 else "rises" if accuracy.low > 0 else "undecided"
        kind = "weak" if reasons else kind
        yield one.finding(kind, finding_texts.change(one.label, accuracy, reasons))
    flips = one.compared("flip_rate")
    if flips is not None and not math.isnan(flips.noise_floor):
        is_shown = flips.low > 0 and flips.p_adjusted < _ALPHA
        yield one.finding("flips" if is_shown else "flips_by_chance", finding_texts.flips(one.label, flips, is_shown))


def _undefined(conditions: Sequence[_Condition]) -> Iterator[Finding]:
    """Yield where accuracy can't be compared with base, one sentence for all conditions with the same reason."""
    reasons: dict[str, list[_Condition]] = {}
    for one in conditions:
        accuracy = one.rows.get("accuracy")
        if one.unit.condition != "base" and accuracy is not None and math.isnan(accuracy.low):
            reasons.setdefault(finding_texts.why_not_compared(accuracy), []).append(one)
    for why, group in reasons.items():
        yield _joint_finding("undefined", group, partial(finding_texts.not_compared, metric="accuracy", why=why))


def _objections(row: SummaryRow) -> Iterator[str]:
    """Yield what stands against calling a change a finding although its interval misses 0."""
    if not row.low <= 0 <= row.high and row.p_adjusted >= _ALPHA:
        yield f"corrected for the number of comparisons p = {row.p_adjusted:.2g}"


def _pattern(one: _Condition, margin: float) -> Iterator[Finding]:
    """Yield whether a model is stubborn or brittle under a wrong thought, judged by the ends of intervals."""
    accuracy, follow, consistency = (one.compared(name) for name in ("accuracy", "follow_rate", "consistency"))
    if (one.asserts, one.where) != _WRONG_THINK or accuracy is None or follow is None or consistency is None:
        return
    fell = consistency.high < 0 and consistency.p_adjusted < _ALPHA
    if accuracy.low > -margin and fell and consistency.value_high < 0.5:
        yield one.finding("stubborn", finding_texts.stubborn(one.label, accuracy, consistency, margin))
    elif accuracy.high < -margin and follow.value_low > 0.5 and consistency.value_low > 0.5:
        yield one.finding("brittle", finding_texts.brittle(one.label, accuracy, follow, consistency, margin))
    else:
        yield one.finding("neither", finding_texts.neither(one.label, accuracy, follow, consistency))


def _report_limits(responses: Responses, conditions: Sequence[_Condition]) -> Iterator[Finding]:
    for where in ("think", "caption", "reply"):
        texts = [one for one in conditions if one.where == where and one.asserts]
        wrong = [one.label for one in texts if one.asserts in ("wrong", "doubt")]
        if wrong and len(wrong) == len(texts):
            yield Finding("no_control", None, finding_texts.no_control(wrong), True, tuple(wrong))
    scored = ~is_one_of(responses.status, *UNSCORED)
    draws = responses.draw.numpy()[scored]
    if len(draws) and len(np.unique(draws)) == 1:
        yield Finding("one_draw", None, finding_texts.one_draw(), True)
    groups = len({responses.group[row] for row in np.flatnonzero(scored).tolist()})
    if 0 < groups < _ENOUGH_GROUPS:
        yield Finding("few_groups", None, finding_texts.few_groups(groups, _ENOUGH_GROUPS), True)


def _judge_failures(
    responses: Responses, columns: Sequence[Column], conditions: Sequence[_Condition]
) -> Iterator[Finding]:
    failures = next((column.failures for column in columns if column.name == "consistency"), {})
    for one in conditions:
        rows = one.unit.rows.tolist()
        failed = [row for row in rows if row in failures]
        if failed:
            first, thoughts = failed[0], sum(bool(responses.think[row].strip()) for row in rows)
            sentence = finding_texts.unjudged_for_errors(
                one.label, len(failed), thoughts, responses.sample_id[first], failures[first]
            )
            yield one.finding("judge_failed", sentence)


def _limits(one: _Condition) -> Iterator[Finding]:
    accuracy = one.compared("accuracy")
    is_shown = accuracy is not None and accuracy.high < 0 and accuracy.p_adjusted < _ALPHA
    fall = accuracy if is_shown else None
    if fall is not None and one.asserts in ("true", "neutral") and fall.high < -sum(one.lost.values()):
        yield one.finding("form", finding_texts.form_effect(one.label, fall))
    abstained = one.rows.get("abstain_rate")
    part = one.lost["abstained"]
    if abstained is not None and (_is_many(abstained) or _is_part(fall, part, [abstained])):
        yield one.finding("abstention", finding_texts.abstained(one.label, abstained, fall, part))
    yield from _cut_off(one, fall)


def _shared_limits(conditions: Sequence[_Condition], letters: Sequence[str]) -> Iterator[Finding]:
    """Yield the limits that conditions have in common, one sentence for all that share one."""
    unjudged = [one for one in conditions if "consistency" in one.rows and one.rows["consistency"].coverage == 0]
    if unjudged:
        yield _joint_finding("coverage", unjudged, finding_texts.unjudged)
    covered = [(one, one.rows["consistency"]) for one in conditions if _is_uncovered(one.rows.get("consistency"))]
    if covered:
        rows = [row for _, row in covered]
        yield _joint_finding(
            "coverage", [one for one, _ in covered], lambda label: finding_texts.uncovered(label, rows)
        )
    carried = [one for one in conditions if one.unit.carrier == "user_text" and one.unit.condition != "base"]
    if carried:
        yield _joint_finding("carrier", carried, finding_texts.carried_in_user_turn)
    noted: dict[tuple[str, tuple[str, ...]], list[_Condition]] = {}
    for one in conditions:
        metrics_by_note: dict[str, list[str]] = {}
        for name in letters:
            if name in one.rows and "read-outs" in one.rows[name].note:
                metrics_by_note.setdefault(one.rows[name].note, []).append(name)
        for note, names in metrics_by_note.items():
            noted.setdefault((note, tuple(names)), []).append(one)
    for (note, metrics), group in noted.items():
        yield _joint_finding("readouts", group, partial(finding_texts.other_read_outs, metrics=metrics, note=note))
    missing: dict[tuple[int, int], list[_Condition]] = {}
    for one in conditions:
        for row in list(one.rows.values())[:1]:  # they are the same by every metric
            if row.errors or row.not_applicable:
                missing.setdefault((row.errors, row.not_applicable), []).append(one)
    for (errors, not_applicable), group in missing.items():
        sentence_for = partial(
            finding_texts.left_out, errors=errors, not_applicable=not_applicable, is_each=len(group) > 1
        )
        yield _joint_finding("left_out", group, sentence_for)


def _is_uncovered(row: SummaryRow | None) -> bool:
    if row is None or not row.coverage > 0:
        return False
    return row.coverage < _ENOUGH_COVERAGE or abs(row.coverage - row.base_coverage) > _MORE_COVERAGE


def _joint_finding(kind: str, group: Sequence[_Condition], sentence_for: Callable[[str], str]) -> Finding:
    condition = group[0].unit.condition if len(group) == 1 else None
    labels = tuple(one.label for one in group)
    return Finding(kind, condition, sentence_for(", ".join(labels)), kind in _LIMITS, labels)


def _cut_off(one: _Condition, fall: SummaryRow | None) -> Iterator[Finding]:
    truncated, unparsed = one.rows.get("truncated_rate"), one.rows.get("unparsed_rate")
    part = one.lost["truncated"] + one.lost["unparsed"]
    if truncated is None or math.isnan(truncated.value):
        return
    rates = [truncated] if unparsed is None else [truncated, unparsed]
    # Of a condition that is compared it matters as a part of what is found.
    is_alone = one.compared("accuracy") is None
    if _is_part(fall, part, rates) or (is_alone and any(map(_is_many, rates))):
        yield one.finding("truncation", finding_texts.cut_off(one.label, truncated, unparsed, fall, part))


def _is_many(row: SummaryRow) -> bool:
    """Return whether answers of a status are many, by the interval's end if there is one."""
    return (row.value if math.isnan(row.value_low) else row.value_low) > _MANY_UNANSWERED


def _is_part(fall: SummaryRow | None, part: float, rates: Sequence[SummaryRow]) -> bool:
    """Return whether answers of some statuses may be a part of a fall that has to be said."""
    return fall is not None and (part > _MANY_UNANSWERED or any(row.low > 0 for row in rates))
