"""Measure judges on labelled thoughts, and record the error rates that were measured on real responses."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from ..functional.intervals import FEWEST_GROUPS
from ..jsonl import read_lines
from ..prompting import LETTERS
from ..seeding import generator
from ..types import Prompt, Response, Responses, Sample, Style
from .base import Judge
from .rules import RuleJudge

__all__ = ["Checked", "LabelledThought", "Measured", "Rate", "check", "labelled_thoughts", "measured", "read_labelled"]


Side = Literal["consistent", "inconsistent", "unsure"]
_SIDES: tuple[Side, ...] = ("consistent", "inconsistent", "unsure")
_REPLICATES = 2_000


class LabelledThought(NamedTuple):
    """A thought with a reader's label of its conclusion.

    Attributes:
        thought: the thought.
        question: the question.
        options: the options' texts as shown.
        label: index of the option that the thought concludes; None = none.
        answer: index of the answered option; None = unknown.
        style: the kind of thought, by which results are grouped.
        letters: the options' letters, in order.
    """

    thought: str
    question: str
    options: tuple[str, ...]
    label: int | None
    answer: int | None = None
    style: str = ""
    letters: str = LETTERS


class Rate(NamedTuple):
    """A share of `cases`, with its 95 % interval; NaN without cases, or where no interval can be estimated."""

    value: float
    low: float
    high: float
    cases: int

    @classmethod
    def of(cls, hits: int, cases: int) -> Self:
        """Return the share of `hits` with its exact interval.

        Source: Clopper and Pearson, Biometrika 26 (1934).

        Example:
            >>> round(Rate.of(0, 100).high, 3)
            0.036
        """
        from scipy.stats import binomtest

        if not cases:
            return cls(math.nan, math.nan, math.nan, 0)
        interval = binomtest(hits, cases).proportion_ci()
        return cls(hits / cases, float(interval.low), float(interval.high), cases)


@dataclass(frozen=True, slots=True)
class Checked:
    """A judge's performance on labelled thoughts.

    An answer is *consistent* with a thought that concludes it, *inconsistent* with one that concludes another option,
    and *unsure* with a thought that concludes none.

    Attributes:
        judge: the judge's title.
        thoughts: number of thoughts.
        cases: number of pairs of a thought and an answer.
        balanced_accuracy: mean share of right verdicts over the three classes; without an interval below 6 thoughts,
            and if in every class all verdicts are right or all are wrong.
        consistent, inconsistent: precision, the share of such verdicts that is right.
        coverage: the share of consistent or inconsistent pairs with a verdict.
        false_alarms: the share of consistent pairs judged inconsistent.
        misses: the share of inconsistent pairs judged consistent.
        wrong: the share of all pairs with a verdict that differs from the reader's.
        named: the share of the options named by the judge as concluded that is right.
        styles: the same for each style; empty within a style.
    """

    judge: str
    thoughts: int
    cases: int
    balanced_accuracy: Rate
    consistent: Rate
    inconsistent: Rate
    coverage: Rate
    false_alarms: Rate
    misses: Rate
    wrong: Rate
    named: Rate
    styles: Mapping[str, "Checked"]

    def rates(self) -> dict[str, Rate]:
        """Return the rates by name."""
        return {name: value for name in self.__slots__ if isinstance(value := getattr(self, name), Rate)}

    def to_dict(self) -> dict[str, Any]:
        """Return all fields as plain values, rates as dictionaries, styles included."""
        rates = {name: rate._asdict() for name, rate in self.rates().items()}
        styles = {style: part.to_dict() for style, part in self.styles.items()}
        return {"judge": self.judge, "thoughts": self.thoughts, "cases": self.cases, **rates, "styles": styles}


def labelled_thoughts() -> list[LabelledThought]:
    """Return the 800 labelled thoughts that ship with the package.

    They were written for this purpose, in eight styles by eight writers who knew neither the rules nor each other, and
    labelled again by a second reader who did not see the first label; writers and readers are language models. The
    thoughts were written to be hard, so results on them do not transfer to a model's own thoughts.

    Example:
        >>> len(labelled_thoughts())
        800
    """
    return read_labelled(Path(__file__).with_name("labelled.jsonl"))


def read_labelled(path: str | Path) -> list[LabelledThought]:
    """Read labelled thoughts from a JSON Lines file.

    Args:
        path: the file; each line is an object with `thought`, `question`, `options`, `label` (index or null), and
            optionally `answer` (index or null), `style` and `letters`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a line is invalid; the message names file, line and field.
    """
    return [_labelled(value, f"{path}, line {number}") for number, value in read_lines(Path(path))]


def _labelled(value: Any, where: str) -> LabelledThought:
    if not isinstance(value, dict):
        raise ValueError(f"{where}: expected an object with thought, question, options and label, got {value!r:.80}")
    for field, kind in (("thought", str), ("question", str), ("options", list)):
        if not isinstance(value.get(field), kind):
            raise ValueError(f"{where}, field {field!r}: expected a {kind.__name__}, got {value.get(field)!r:.80}")
    count = len(value["options"])
    for field in ("label", "answer"):
        index = value.get(field)
        if (index is None and field not in value and field == "label") or not (
            index is None or (type(index) is int and 0 <= index < count)
        ):
            raise ValueError(f"{where}, field {field!r}: expected null or an index below {count}, got {index!r:.80}")
    options = tuple(map(str, value["options"]))
    fields = {name: value[name] for name in ("answer", "style", "letters") if value.get(name) is not None}
    return LabelledThought(value["thought"], value["question"], options, value["label"], **fields)


def check(judge: Judge, labelled: Sequence[LabelledThought]) -> Checked:
    """Measure a judge on labelled thoughts.

    A thought with an unknown answer is paired with the option it concludes and with another one drawn by its text; a
    thought that concludes none is paired with a drawn one. Intervals are exact (Clopper and Pearson) for shares; for
    the balanced accuracy they are percentiles of 2,000 bootstrap draws of thoughts.

    Args:
        judge: the judge to measure.
        labelled: thoughts with labels.

    Raises:
        ValueError: there are none.

    Example:
        >>> from vlmrobust.judges import RuleJudge
        >>> easy = [LabelledThought("So it is blue.", "Which?", ("red", "blue"), 1)]
        >>> check(RuleJudge(), easy).named.value
        1.0
    """
    if not labelled:
        raise ValueError("expected at least one labelled thought, got none")
    cases = [(place, answer) for place, thought in enumerate(labelled) for answer in _answers(thought)]
    responses = _responses(labelled, cases)
    verdicts = judge.verdicts(responses)
    said = judge.agrees(verdicts, responses).tolist()
    named = verdicts.option.masked_fill(verdicts.unsure, -1).tolist()
    places = np.array([place for place, _ in cases])
    truth = np.array([_SIDES.index(_side(labelled[place].label, answer)) for place, answer in cases])
    got = np.array([2 if value != value else int(value == 0) for value in said])
    options = np.array([-1 if labelled[place].label is None else labelled[place].label for place, _ in cases])
    styles = np.array([labelled[place].style for place, _ in cases])
    parts = {
        style: _checked(judge, places[rows], truth[rows], got[rows], np.array(named)[rows], options[rows], {})
        for style in dict.fromkeys(styles.tolist())
        if style and (rows := styles == style).any()
    }
    return _checked(judge, places, truth, got, np.array(named), options, parts if len(parts) > 1 else {})


def _answers(thought: LabelledThought) -> Iterator[int]:
    if thought.answer is not None:
        yield thought.answer
        return
    if thought.label is not None:
        yield thought.label
    others = [option for option in range(len(thought.options)) if option != thought.label]
    yield others[int(generator(0, thought.thought, "answer").integers(len(others)))]


def _side(label: int | None, answer: int) -> Side:
    return "unsure" if label is None else "consistent" if label == answer else "inconsistent"


def _responses(labelled: Sequence[LabelledThought], cases: Sequence[tuple[int, int]]) -> Responses:
    prompts, responses = [], []
    for number, (index, answer) in enumerate(cases):
        thought = labelled[index]
        sample = Sample(
            id=str(number), images=["not opened"], question=thought.question or "?", options=thought.options, answer=0
        )
        prompts.append(Prompt.of(sample, style=Style(letters=thought.letters)))
        responses.append(
            Response(sample_id=sample.id, condition="base", think=thought.thought, answer=answer, status="answered")
        )
    return Responses.of(prompts, responses)


def _checked(
    judge: Judge,
    places: NDArray[np.int64],
    truth: NDArray[np.int64],
    got: NDArray[np.int64],
    named: NDArray[np.int64],
    options: NDArray[np.int64],
    styles: Mapping[str, Checked],
) -> Checked:
    right = truth == got
    names, first = np.unique(places, return_index=True)
    verdict = named[first] >= 0
    return Checked(
        judge=judge.title,
        thoughts=len(names),
        cases=len(places),
        balanced_accuracy=_balanced(places, truth, right),
        consistent=_rate(right[got == 0]),
        inconsistent=_rate(right[got == 1]),
        coverage=_rate(got[truth < 2] < 2),
        false_alarms=_rate(got[truth == 0] == 1),
        misses=_rate(got[truth == 1] == 0),
        wrong=_rate((got < 2) & ~right),
        named=_rate((named == options)[first][verdict]),
        styles=styles,
    )


def _rate(hits: NDArray[np.bool_]) -> Rate:
    return Rate.of(int(hits.sum()), len(hits))


def _balanced(places: NDArray[np.int64], truth: NDArray[np.int64], right: NDArray[np.bool_]) -> Rate:
    """Return the mean over the classes of the share that is right; the bootstrap draws whole thoughts."""
    _, thought = np.unique(places, return_inverse=True)
    count = int(thought.max()) + 1
    place = thought * 3 + truth
    cells = np.stack([np.bincount(place, weights, count * 3) for weights in (np.ones(len(place)), right)])
    cells = cells.reshape(2, count, 3)
    draws = generator(0, "check").multinomial(count, np.full(count, 1 / count), size=_REPLICATES)
    cases, hits = draws @ cells
    with np.errstate(invalid="ignore"):
        drawn = np.nanmean(hits / cases, axis=1)
        value = float(np.nanmean(cells[1].sum(axis=0) / cells[0].sum(axis=0)))
    low, high = np.quantile(drawn, (0.025, 0.975)).tolist()
    is_told = count >= FEWEST_GROUPS and low < high
    return Rate(value, low if is_told else math.nan, high if is_told else math.nan, len(places))


@dataclass(frozen=True, slots=True)
class Measured:
    """Counts of a judge's verdicts on real answers whose consistency with their thoughts was labelled by readers.

    Attributes:
        answers, models: the number of answers, and of the models that gave them.
        consistent: the number of consistent answers.
        false_alarms: those of them judged inconsistent.
        consistent_open: those of them without a verdict.
        inconsistent: the number of inconsistent answers.
        misses: those of them judged consistent.
        inconsistent_open: those of them without a verdict.
        inconclusive_open: the number of other answers, whose thoughts conclude nothing, without a verdict.
    """

    answers: int
    models: int
    consistent: int
    false_alarms: int
    consistent_open: int
    inconsistent: int
    misses: int
    inconsistent_open: int
    inconclusive_open: int

    @property
    def open(self) -> int:
        """The number of answers without a verdict."""
        return self.consistent_open + self.inconsistent_open + self.inconclusive_open

    @property
    def false_alarm_rate(self) -> tuple[float, float]:
        """Exact 95 % interval of the share of verdicts on consistent answers that are wrong."""
        rate = Rate.of(self.false_alarms, self.consistent - self.consistent_open)
        return rate.low, rate.high

    @property
    def miss_rate(self) -> tuple[float, float]:
        """Exact 95 % interval of the share of verdicts on inconsistent answers that are wrong."""
        rate = Rate.of(self.misses, self.inconsistent - self.inconsistent_open)
        return rate.low, rate.high

    def reported(self, truth: float) -> tuple[float, float]:
        """Return the least and the largest expected rate that the judge would report, given the true rate.

        The error rates are taken at the ends of their intervals; coverage is assumed equal for both classes.

        Args:
            truth: P(consistent) among the answers with a verdict.
        """
        (least_alarms, most_alarms), (least_misses, most_misses) = self.false_alarm_rate, self.miss_rate
        low = truth * (1 - most_alarms) + (1 - truth) * least_misses
        return low, truth * (1 - least_alarms) + (1 - truth) * most_misses


def measured(identity: Mapping[str, Any]) -> Measured | None:
    """Return the measured counts of a judge; None = not measured.

    The rules were measured on answers of 64 models, from eight public repositories and ten papers, part of which were
    used while the rules were written. The package contains none of these texts; repeat the count if the rules change.

    Args:
        identity: `Judge.identity` of the judge.

    Example:
        >>> measured(RuleJudge().identity()).false_alarms
        0
    """
    return _RULES if dict(identity) == RuleJudge().identity() else None


_RULES = Measured(
    answers=380,
    models=64,
    consistent=306,
    false_alarms=0,
    consistent_open=87,
    inconsistent=23,
    misses=0,
    inconsistent_open=7,
    inconclusive_open=47,
)
