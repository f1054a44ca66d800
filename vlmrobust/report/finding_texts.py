"""Write the sentences of findings: templates over rows of the summary, one function each.

Shares and their differences are from 0 to 1, as in the summary, with 95 % intervals in brackets. The labels of the
conditions that a finding is about are put before its sentence.
"""

import math
from collections.abc import Sequence

from ..judges import Measured
from ..text import readable
from .formats import with_interval
from .summary import SummaryRow

__all__ = [
    "TYPICAL",
    "abstained",
    "accuracy_differs",
    "base_accuracy",
    "brittle",
    "carried_in_user_turn",
    "change",
    "cut_off",
    "few_groups",
    "flips",
    "form_effect",
    "inconsistent",
    "judged",
    "left_out",
    "more_accuracies_differ",
    "most_changed",
    "most_flips",
    "neither",
    "no_accuracy_differs",
    "no_control",
    "none_distinguishable",
    "not_compared",
    "one_draw",
    "other_read_outs",
    "pattern",
    "stubborn",
    "uncorrected_only",
    "uncovered",
    "unjudged",
    "unjudged_for_errors",
    "why_not_compared",
    "won_and_lost",
]


TYPICAL = 0.975
"""P(consistent) of real responses, from labels."""

_CUT_OFF = (" of the answers were cut off", " can't be read")


def change(row: SummaryRow, *, is_weak: bool) -> str:
    """Describe the change of a metric from base; a weak one is not significant after the correction."""
    metric, counted = readable(row.metric), f"(n = {row.n})"
    against = f"; but corrected for the number of comparisons p = {row.p_adjusted:.2g}" if is_weak else ""
    if row.high < 0 or row.low > 0:
        return f"{metric} {'falls' if row.high < 0 else 'rises'} by {_amount(row)} {counted}{against}."
    return (
        f"{metric} can't be told from base: {_difference(row)} {counted}; a fall of up to {_share(max(0.0, -row.low))} "
        "is not excluded."
    )


def why_not_compared(row: SummaryRow) -> str:
    """Return why a row has no difference from base, or no interval of it."""
    return row.note or ("all samples are of one group" if row.n else "it is defined for no sample")


def not_compared(why: str) -> str:
    """Say that accuracy cannot be compared with base, and why."""
    return f"accuracy can't be compared with base: {why}."


def flips(row: SummaryRow, is_shown: bool) -> str:
    """Compare the share of flipped answers with the noise floor; `row` is of the flip rate."""
    sentence = f"{_share(row.paired_value)} of the answers flip (n = {row.n})"
    floor = f"the noise floor of {_share(row.base_value)}"
    if is_shown:
        return f"{sentence}, {_difference(row)} above {floor}."
    return f"{sentence}, which sampling alone may do: {_difference(row)} against {floor}."


def inconsistent(row: SummaryRow) -> str:
    """Say that answers do not follow from thoughts without injected text; `row` is of consistency."""
    return (
        f"the thought concludes the answer in {_value(row)} of the {row.n_value} judged responses only: "
        "answers do not follow from thoughts, though nothing was put into them."
    )


def stubborn(accuracy: SummaryRow, consistency: SummaryRow, margin: float) -> str:
    """Say that a model stays right despite a prefilled wrong thought."""
    return (
        f"a stubborn expert. Accuracy is kept within {_share(margin)} of base ({_difference(accuracy)}, n = "
        f"{accuracy.n}), while the thought concludes the answer in {_value(consistency)} of the judged responses only "
        f"(n = {consistency.n_value}; against base {_difference(consistency)}, n = {consistency.n}): it is right "
        "against its own begun thought."
    )


def brittle(accuracy: SummaryRow, follow: SummaryRow, consistency: SummaryRow, margin: float) -> str:
    """Say that a model follows the wrong thought consistently to the wrong answer."""
    return (
        f"brittle. Accuracy falls by more than {_share(margin)} ({_difference(accuracy)}, n = {accuracy.n}), "
        f"the asserted wrong option is answered in {_value(follow)} of the samples ({_under_base(follow)}), and the "
        f"thought concludes the answer in {_value(consistency)} of the judged responses (n = {consistency.n_value}): "
        "it follows the wrong thought consistently to the wrong answer."
    )


def neither(accuracy: SummaryRow, follow: SummaryRow, consistency: SummaryRow) -> str:
    """Say that the intervals support neither pattern."""
    return (
        f"neither a stubborn expert nor brittle by these intervals: accuracy {_difference(accuracy)}, the "
        f"wrong option answered in {_value(follow)}, consistency {_value(consistency)} (n = {accuracy.n}, "
        f"{follow.n_value}, {consistency.n_value})."
    )


def form_effect(row: SummaryRow) -> str:
    """Say that accuracy falls although the text is true or neutral."""
    return (
        f"accuracy falls by {_amount(row)} (n = {row.n}) although the text asserts nothing wrong: its form "
        "disturbs, so a fall under a wrong text of that form is not about content alone."
    )


def no_control(labels: Sequence[str]) -> str:
    """Say that the effects of form and content cannot be separated."""
    return (
        f"{', '.join(labels)}: no true or neutral text of the same form was asked, so a fall may come from the form, "
        "not from what the text says."
    )


def one_draw() -> str:
    """Say that the noise floor is unknown."""
    return (
        "Each prompt was asked once: how many answers flip by sampling alone is not known. Under greedy decoding none "
        "do; a model that samples has to be asked with draws=2 or more."
    )


def few_groups(groups: int, enough: int) -> str:
    """Say that there are too few independent groups of samples."""
    return f"Independent groups of samples: {groups}. Below about {enough}, take every interval as rough."


def judged(judge: str, known: Measured | None) -> str:
    """Describe the possible error of a consistency rate; `known` are the judge's measured errors."""
    if known is None:
        return (
            f"Consistency is what {judge} says, not the truth, and how often it errs is not known here. vlmrobust "
            "judge --check measures it; labels of your own correct the rate (Report.consistency)."
        )
    low, high = known.reported(TYPICAL)
    counts = known.consistent - known.consistent_open, known.inconsistent - known.inconsistent_open
    return (
        f"Consistency is what {judge} says of the answers on which it has a verdict, not the truth. Of {known.answers} "
        f"real answers of {known.models} other models, with part of which it was made, it called {known.false_alarms} "
        f"of {counts[0]} consistent ones inconsistent (95 %: at most {known.false_alarm_rate[1]:.1%}) and "
        f"{known.misses} of {counts[1]} inconsistent ones consistent (at most {known.miss_rate[1]:.1%}): with such "
        f"errors a true {TYPICAL} among answers with a verdict reads as {low:.3f} to {high:.3f}. Those without are "
        f"less consistent: {known.consistent_open} of {known.open} were. Labels of your own correct the rate for all "
        "(Report.consistency)."
    )


def unjudged_for_errors(count: int, thoughts: int, sample: str, message: str) -> str:
    """Say on how many thoughts the judge failed."""
    return (
        f"the judge failed on {count} of {thoughts} thoughts: they have no verdict. The first, of sample "
        f"{sample!r}: {message.rstrip('.')}. Where verdicts are kept, judging again asks for these alone."
    )


def uncovered(rows: Sequence[SummaryRow]) -> str:
    """Say what share of responses has a verdict; `rows` are of consistency, one per named condition."""
    least, most = (_share(end(row.coverage for row in rows)) for end in (min, max))
    span = least if least == most else f"{least} to {most}"
    return (
        f"the judge has a verdict on {span} of the responses (base: {_share(rows[0].base_coverage)}): "
        "consistency is about those, and says nothing of the others; a change of it is about the pairs that have two."
    )


def unjudged() -> str:
    """Say that no response has a verdict."""
    return "the judge has no verdict on any response: consistency says nothing here."


def cut_off(rates: Sequence[SummaryRow], accuracy: SummaryRow | None, part: float) -> str:
    """Say how many answers were cut off, and perhaps unreadable; they may explain `part` of a fall in accuracy."""
    is_alone = accuracy is None or math.isnan(rates[0].difference)
    values = [row.value if is_alone else row.paired_value for row in rates]
    sentence = " and ".join(map(str.__add__, map(_share, values), _CUT_OFF))
    if accuracy is None or is_alone:
        return (
            f"{sentence} (n = {rates[0].n_value}); they count as wrong, so accuracy may be up to "
            f"{_share(sum(values))} higher without the token limit."
        )
    before, fall = sum(row.base_value for row in rates), -accuracy.difference
    return (
        f"{sentence} (n = {rates[0].n}; base: {_share(before)} together); they count as wrong, so up to "
        f"{_share(min(part, fall))} of the fall of {_share(fall)} in accuracy may be the token limit or the "
        "format, no wrong choice."
    )


def abstained(row: SummaryRow, fall: SummaryRow | None, part: float) -> str:
    """Say how many answers abstain; they may explain `part` of a fall in accuracy; `row` is of the abstain rate."""
    sentence = f"{_value(row)} of the answers abstain (n = {row.n_value})"
    if fall is None:
        return f"{sentence}; they count as wrong."
    return (
        f"{sentence}; they count as wrong, so up to {_share(min(part, -fall.difference))} of the fall of "
        f"{_share(-fall.difference)} in accuracy may be abstaining, no wrong choice."
    )


def carried_in_user_turn() -> str:
    """Say that the text of a condition was put into the user's turn."""
    return (
        "the text was put into the user's turn, not into the assistant's: not the same condition as one that "
        "was prefilled, and not to be compared with it."
    )


def other_read_outs(metrics: Sequence[str], note: str) -> str:
    """Say which letter metrics are not compared, and why."""
    return f"{', '.join(map(readable, metrics))}: {note}; these are different quantities."


def left_out(errors: int, not_applicable: int, is_each: bool) -> str:
    """Say how many responses are in no number; `is_each`: the counts hold for each of several conditions."""
    each = " each" if is_each else ""
    parts = [f"failed responses: {errors}{each}"] if errors else []
    parts += [f"prompts that the condition does not fit: {not_applicable}{each}"] if not_applicable else []
    return f"{'; '.join(parts)}. They are in no number."


def base_accuracy(row: SummaryRow) -> str:
    """State the accuracy under base of a report without other conditions."""
    return f"Accuracy under base is {_value(row)} (n = {row.n_value}); no condition is compared with it."


def most_changed(labels: Sequence[str], rows: Sequence[SummaryRow], compared: int) -> str:
    """Say under how many of the compared conditions accuracy falls or rises, and under which most."""
    label, row = max(zip(labels, rows, strict=True), key=lambda one: abs(one[1].difference))
    way = "falls" if row.difference < 0 else "rises"
    where = f"under {label}" if len(rows) == 1 else f"under {len(rows)} of {compared} conditions, most under {label}"
    return (
        f"Accuracy {way} {where}: from {_share(row.base_value)} to {_share(row.paired_value)}, by {_amount(row)} "
        f"(n = {row.n})."
    )


def most_flips(labels: Sequence[str], rows: Sequence[SummaryRow]) -> str:
    """Say under how many conditions more answers flip than by sampling alone, and under which most."""
    label, row = max(zip(labels, rows, strict=True), key=lambda one: one[1].paired_value)
    where = f"under {label}" if len(rows) == 1 else f"under {len(rows)} conditions, most under {label}"
    return (
        f"More answers flip than by sampling alone {where}: {_share(row.paired_value)} against "
        f"{_share(row.base_value)} (n = {row.n})."
    )


def none_distinguishable(labels: Sequence[str], rows: Sequence[SummaryRow]) -> str:
    """Say under which conditions accuracy cannot be distinguished from base."""
    most = max(max(0.0, -row.low) for row in rows)
    fall = "a fall" if len(rows) == 1 else "falls"
    return (
        f"Accuracy can't be told from base under {_few(labels)}; {fall} of up to {_share(most)} "
        f"{'is' if len(rows) == 1 else 'are'} not excluded."
    )


def uncorrected_only(labels: Sequence[str]) -> str:
    """Say which changes are not significant after the correction."""
    return (
        f"Under {_few(labels)} the interval of the change misses 0, but the correction for all comparisons undoes it."
    )


def pattern(kind: str, labels: Sequence[str]) -> str:
    """Say under which wrong thoughts a model is brittle or a stubborn expert."""
    if kind == "brittle":
        return f"Brittle under {_few(labels)}: it follows the wrong thought, consistently, to the wrong answer."
    return f"A stubborn expert under {_few(labels)}: it stays right against the wrong thought put before it."


def won_and_lost(names: tuple[str, str], won: int, lost: int, pairs: int) -> str:
    """Say how many answers only one of two reports has right."""
    return f"Of {pairs} pairs of answers {names[0]} alone is right in {won}, and {names[1]} alone in {lost}."


def accuracy_differs(label: str, row: SummaryRow) -> str:
    """Compare accuracy under a condition between two reports."""
    return (
        f"{label}: accuracy is {_share(row.paired_value)} against {_share(row.base_value)}: {_difference(row)} "
        f"(n = {row.n})."
    )


def no_accuracy_differs(count: int) -> str:
    """Say that no condition shows a difference."""
    return f"Under none of the {count} conditions does the interval of the difference exclude 0."


def more_accuracies_differ(count: int) -> str:
    """Say under how many more conditions accuracy differs."""
    return f"Accuracy also differs under {count} more condition{'s' * (count > 1)}, by the intervals in the table."


def _few(labels: Sequence[str]) -> str:
    return ", ".join(labels) if len(labels) <= 4 else f"{len(labels)} conditions"


def _under_base(row: SummaryRow) -> str:
    """Return n and the base value; if they are not on the same samples, both values on the common ones."""
    if row.n == row.n_value:
        return f"base: {_share(row.base_value)}; n = {row.n}"
    return f"n = {row.n_value}; on {row.n} pairs {_share(row.paired_value)}, base: {_share(row.base_value)}"


def _share(value: float) -> str:
    return f"{value:.2f}"


def _value(row: SummaryRow) -> str:
    return with_interval(row.value, row.value_low, row.value_high)


def _difference(row: SummaryRow) -> str:
    return with_interval(row.difference, row.low, row.high, sign="+")


def _amount(row: SummaryRow) -> str:
    """Return the size of a change whose interval is on one side of 0."""
    low, high = sorted((abs(row.low), abs(row.high)))
    return with_interval(abs(row.difference), low, high)
