"""What people say that thoughts conclude: drawn at random, read in the page, and used to correct a judge's rate."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from ..functional import post_stratified_difference, post_stratified_rate
from ..jsonl import write_atomically
from ..judges import LabelledThought
from ..keyed import generator, integer_key, subset
from ..types import Responses
from ..types.validated import Frozen, named_errors
from .columns import Column
from .pairing import Floats, Unit, units_of

__all__ = ["ConsistencyRow", "Drawn", "Label", "Labels", "consistency_rows", "drawn", "labelled"]

_ENOUGH = 30
_SHOWN = 3

Key = tuple[str, str, int]


class Label(Frozen):
    """What one reader says that one thought concludes.

    Attributes:
        sample_id, condition, draw: whose thought it is.
        thought: `Drawn.digest` of what was read.
        label: index in `sample.options` of the option that the thought concludes; None = none of them, or undecided.
    """

    sample_id: str
    condition: str
    draw: Annotated[int, Field(ge=0)] = 0
    thought: str
    label: Annotated[int, Field(ge=0)] | None


class Labels(Frozen):
    """Labels of a report's thoughts, in a file: what the report's page exports.

    Attributes:
        format: says what the file is.
        seed: of the draw; None = they were chosen otherwise, good for `judges.check` and not for an estimate.
        reader: who read them.
        labels: one per thought.

    Raises:
        pydantic.ValidationError: a field is unknown or of another type, or one thought has two labels.

    Example:
        >>> label = Label(sample_id="q1", condition="base", thought="5f", label=0)
        >>> Labels(seed=0, labels=[label]).labels[0].draw
        0
    """

    format: Literal["vlmrobust labels 1"] = "vlmrobust labels 1"
    seed: int | None
    reader: str = ""
    labels: tuple[Label, ...]

    @model_validator(mode="after")
    def _one_label_each(self) -> Self:
        known: dict[Key, Label] = {}
        for label in self.labels:
            before = known.setdefault(_key(label), label)
            if before != label:
                what = "labels" if before.label != label.label else "thoughts"
                got = (before.label, label.label) if what == "labels" else (before.thought, label.thought)
                raise ValueError(f"expected one of the {what} of {_named(_key(label))}, got {got[0]} and {got[1]}")
        return self

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read a file of labels.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it holds something else; the message names file and field.
        """
        try:
            text = Path(path).read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise ValueError(f"labels {str(path)!r}: expected UTF-8, got something else: {error}") from None
        found: Self = named_errors("labels", str(path), lambda: cls.model_validate_json(text))
        return found

    def save(self, path: str | Path) -> Path:
        """Write them to a file, and return its path."""
        write_atomically(Path(path), self.model_dump_json(indent=1) + "\n")
        return Path(path)


@dataclass(frozen=True, slots=True)
class Drawn:
    """A thought that was drawn to be read, without the answer that it led to.

    Attributes:
        sample_id, condition, draw: whose it is.
        question: what was asked.
        options: as shown.
        letters: theirs, in their order.
        order: their indices in `sample.options`; None = an added option.
        thought: what is to be read.
    """

    sample_id: str
    condition: str
    draw: int
    question: str
    options: tuple[str, ...]
    letters: str
    order: tuple[int | None, ...]
    thought: str

    @property
    def digest(self) -> str:
        """Says whether a label is of this thought, beside this question and these options."""
        return f"{integer_key(self.question, *self.options, self.thought):032x}"[:16]

    def labelled(self, label: int | None) -> Label:
        """Return its label.

        Args:
            label: index in `sample.options` of the option that it concludes; None = none, or undecided.
        """
        return Label(
            sample_id=self.sample_id, condition=self.condition, draw=self.draw, thought=self.digest, label=label
        )


def drawn(responses: Responses, count: int, conditions: Sequence[str] | None, seed: int) -> list[Drawn]:
    """Draw thoughts to be read, from those that have an answer: the same samples under every condition.

    Args:
        responses: all of them.
        count: how many of each condition.
        conditions: of which; None = all.
        seed: of the draw.

    Raises:
        KeyError: a condition is not there.
        ValueError: fewer than one are asked for.
    """
    known = list(dict.fromkeys(responses.condition))
    conditions = [conditions] if isinstance(conditions, str) else list(dict.fromkeys(conditions or known))
    for name in conditions:
        if name not in known:
            raise KeyError(f"expected conditions among {', '.join(known)}; got {name!r}")
    chosen: list[int] = []
    for name in conditions:
        readable = [row for row in np.flatnonzero(_readable(responses)).tolist() if responses.condition[row] == name]
        chosen += subset(readable, count, seed, lambda row: _unit(responses, row))
    chosen.sort(key=lambda row: integer_key(seed, _unit(responses, row), "subset"))  # stable: a sample's conditions
    return [_drawn(responses, row) for row in chosen]


def labelled(responses: Responses, labels: Labels) -> list[LabelledThought]:
    """Return labelled thoughts with the answers that they led to, for `judges.check`, however they were chosen.

    Raises:
        ValueError: a label is of no thought in the report.
    """
    found = []
    for row, label in _rows(responses, labels).items():
        shown = responses.order[row].index
        answer = int(responses.choice[row])
        found.append(
            LabelledThought(
                thought=responses.think[row],
                question=responses.question[row],
                options=responses.options[row],
                label=None if label is None else shown(label),
                answer=shown(answer) if answer in responses.order[row] else None,
                style=responses.condition[row],
                letters=responses.letters[row],
            )
        )
    return found


@dataclass(frozen=True, slots=True)
class ConsistencyRow:
    """One condition × what an answer is to its thought, estimated from a judge's verdicts and labels.

    Attributes:
        condition: its name.
        verdict: "consistent": the thought concludes the answer; "inconsistent": it concludes another option. What is
            left to 1 are thoughts that conclude nothing.
        value: the estimated share of the `n` responses.
        value_low, value_high: its 95 % interval.
        base_value, difference: on the responses that have an answer and a thought here and under base.
        low, high: 95 % interval of the difference.
        n: number of responses with an answer and a thought.
        labelled, labelled_pairs: how many labels value and difference rest on.
        judged: the judge's plain rate, over the responses with a verdict; it is not the truth.
        coverage: the share of the `n` responses with a verdict.
        carrier: how the condition was carried.
        note: why something is undefined.
    """

    condition: str
    verdict: str
    value: float
    value_low: float
    value_high: float
    base_value: float
    difference: float
    low: float
    high: float
    n: int
    labelled: int
    labelled_pairs: int
    judged: float
    coverage: float
    carrier: str | None
    note: str


def consistency_rows(
    responses: Responses, columns: Sequence[Column], labels: Labels, seed: int
) -> list[ConsistencyRow]:
    """Return the estimates, two rows per condition.

    Args:
        responses: all of them.
        columns: the metrics, `consistency` among them.
        labels: drawn at random in this report.
        seed: keys the intervals.

    Raises:
        ValueError: there is no `consistency`, a label is of no thought in the report, labels were not drawn by the
            report, or no condition has enough of them.
    """
    judged = next((column.scores for column in columns if column.name == "consistency"), None)
    if judged is None:
        names = ", ".join(column.name for column in columns)
        raise ValueError(f"expected a report with the metric 'consistency', got {names}; Report.score adds it")
    given = _rows(responses, labels)
    _check_drawn(responses, labels, given)
    units = units_of(responses)
    most = max((sum(row in given for row in unit.rows.tolist()) for unit in units), default=0)
    if most < _ENOUGH:
        raise ValueError(
            f"expected at least {_ENOUGH} labels under one condition for an interval, got at most {most}; missing: "
            f"{_ENOUGH - most}"
        )
    estimates = _Estimates(responses, judged, given, seed)
    base = next((unit for unit in units if unit.condition == "base"), None)
    return [row for unit in units for row in estimates.rows(unit, base)]


class _Estimates:
    """A judge's verdicts beside people's labels."""

    def __init__(self, responses: Responses, judged: Floats, given: Mapping[int, int | None], seed: int) -> None:
        self.responses, self.judged, self.seed = responses, judged, seed
        self.readable = _readable(responses)
        self.verdicts = np.where(np.isnan(judged), 2, judged)
        self.said = np.full(len(responses), math.nan)  # 1 consistent, 0 inconsistent, 2 nothing concluded
        for row, label in given.items():
            self.said[row] = 2 if label is None else float(label == int(responses.choice[row]))

    def rows(self, unit: Unit, base: Unit | None) -> Iterator[ConsistencyRow]:
        own = unit.rows[self.readable[unit.rows]]
        verdicts = self.judged[own][~np.isnan(self.judged[own])]
        before, after = ([], []) if base is None or unit is base else self._pairs(base, unit)
        for name, code in (("consistent", 1), ("inconsistent", 0)):
            said = self._is(code)
            key = ("labels", unit.condition, unit.carrier or "", name)
            count = int((~np.isnan(said[own])).sum())
            pairs = int((~np.isnan(said[before]) & ~np.isnan(said[after])).sum())
            value = low = high = base_value = difference = down = up = math.nan
            if count >= _ENOUGH:
                found = post_stratified_rate(said[own], self.verdicts[own], rng=generator(self.seed, *key))
                value, low, high = found.value, found.low, found.high
            if pairs >= _ENOUGH:
                both = post_stratified_difference(
                    said[before],
                    said[after],
                    self.verdicts[before],
                    self.verdicts[after],
                    rng=generator(self.seed, *key, "pairs"),
                )
                base_value, difference, down, up = both.base_value, both.value - both.base_value, both.low, both.high
            yield ConsistencyRow(
                condition=unit.condition,
                verdict=name,
                value=value,
                value_low=low,
                value_high=high,
                base_value=base_value,
                difference=difference,
                low=down,
                high=up,
                n=len(own),
                labelled=count,
                labelled_pairs=pairs,
                judged=float((verdicts == code).mean()) if len(verdicts) else math.nan,
                coverage=len(verdicts) / len(own) if len(own) else math.nan,
                carrier=unit.carrier,
                note=_missing(count, pairs if base is not None and unit is not base else _ENOUGH),
            )

    def _is(self, code: int) -> Floats:
        return np.where(np.isnan(self.said), math.nan, self.said == code)

    def _pairs(self, base: Unit, unit: Unit) -> tuple[list[int], list[int]]:
        """Return the readable responses of a unit, and before them those to the same samples under base."""
        there = {_unit(self.responses, row): row for row in base.rows.tolist() if self.readable[row]}
        pairs = [
            (there[name], row)
            for row in unit.rows.tolist()
            if self.readable[row] and (name := _unit(self.responses, row)) in there
        ]
        return [before for before, _ in pairs], [after for _, after in pairs]


def _readable(responses: Responses) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return an `(N,)` mask of the responses with an answer and a thought."""
    thought = np.fromiter((bool(think.strip()) for think in responses.think), np.bool_, len(responses))
    return responses.has_status("answered").numpy() & thought


def _drawn(responses: Responses, row: int) -> Drawn:
    return Drawn(
        responses.sample_id[row],
        responses.condition[row],
        int(responses.draw[row]),
        responses.question[row],
        responses.options[row],
        responses.letters[row][: len(responses.options[row])],
        responses.order[row],
        responses.think[row],
    )


def _rows(responses: Responses, labels: Labels) -> dict[int, int | None]:
    """Return the position of each labelled response with its label."""
    places: dict[Key, int] = {
        key: row
        for row, key in enumerate(zip(responses.sample_id, responses.condition, responses.draw.tolist(), strict=True))
    }
    unknown = [label for label in labels.labels if _key(label) not in places]
    if unknown:
        raise ValueError(
            f"expected labels of responses in the report, got {len(unknown)} of others: {_listed(unknown)}"
        )
    found = {places[_key(label)]: label for label in labels.labels}
    changed = [label for row, label in found.items() if _drawn(responses, row).digest != label.thought]
    if changed:
        raise ValueError(
            f"expected labels of the thoughts in the report, got {len(changed)} of other thoughts under the same "
            f"names: {_listed(changed)}; the run has answered again since"
        )
    for row, label in found.items():
        if label.label is not None and label.label not in responses.order[row]:
            raise ValueError(
                f"{_named(_key(label))}, field 'label': expected an index of an option that was shown, "
                f"{sorted(index for index in responses.order[row] if index is not None)}, or null; got {label.label}"
            )
    return {row: label.label for row, label in found.items()}


def _check_drawn(responses: Responses, labels: Labels, given: Mapping[int, int | None]) -> None:
    """Raise unless the labels of each condition are of the first thoughts of the draw."""
    if labels.seed is None:
        raise ValueError(
            "field 'seed': expected labels of thoughts that the report drew at random, got labels without a draw; "
            "judges.check takes them"
        )
    readable = _readable(responses)
    for name in dict.fromkeys(responses.condition[row] for row in given):
        own = [row for row in np.flatnonzero(readable).tolist() if responses.condition[row] == name]
        wanted = [row for row in given if responses.condition[row] == name]
        first = subset(own, len(wanted), labels.seed, lambda row: _unit(responses, row)) if own else []
        skipped = [row for row in first if row not in given]
        if skipped or len(first) < len(wanted):
            shown = ", ".join(_named(_drawn(responses, row).labelled(None)) for row in skipped[:_SHOWN])
            raise ValueError(
                f"condition {name!r}: expected labels of the first {len(wanted)} thoughts that seed {labels.seed} "
                f"draws, but {len(skipped)} of these have none: {shown}; an estimate from chosen thoughts would be "
                "wrong. Label these too; judges.check takes the labels as they are"
            )


def _missing(count: int, pairs: int) -> str:
    notes = [
        f"{having} {what} of the {_ENOUGH} that an interval needs"
        for having, what in ((count, "labels"), (pairs, "labelled pairs"))
        if having < _ENOUGH
    ]
    return "; ".join(notes)


def _unit(responses: Responses, row: int) -> str:
    return f"{int(responses.draw[row])} {responses.sample_id[row]}"


def _key(label: Label) -> Key:
    return label.sample_id, label.condition, label.draw


def _named(key: Key | Label) -> str:
    sample, condition, draw = _key(key) if isinstance(key, Label) else key
    return f"sample {sample!r}, condition {condition!r}{f', draw {draw}' if draw else ''}"


def _listed(labels: Sequence[Label]) -> str:
    return "; ".join(map(_named, labels[:_SHOWN])) + ("; …" if len(labels) > _SHOWN else "")
