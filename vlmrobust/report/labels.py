"""Draw thoughts at random for human labelling, and read the labels."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from ..jsonl import write_atomically
from ..judges import LabelledThought
from ..seeding import integer_key, subset
from ..types import Responses
from ..types.frozen import Frozen, named_errors
from .pairing import Mask
from .serialisation import Key, keys_of

__all__ = [
    "Drawn",
    "Label",
    "Labels",
    "check_random_draw",
    "draw_thoughts",
    "labelled",
    "labels_by_row",
    "sample_and_draw",
    "with_answer_and_thought",
]

_MAX_LISTED = 3


class Label(Frozen):
    """A reader's label of one thought: the option that it concludes.

    Attributes:
        sample_id, condition, draw: the response.
        thought: `Drawn.digest` of the labelled thought.
        label: index in `sample.options` of the option that the thought concludes; None = none of them, or undecided.
    """

    sample_id: str
    condition: str
    draw: Annotated[int, Field(ge=0)] = 0
    thought: str
    label: Annotated[int, Field(ge=0)] | None


class Labels(Frozen):
    """Labels of a report's thoughts, as in the file that the report's page exports.

    Attributes:
        format: identifies the file.
        seed: of the draw; None = not drawn at random, which suits `judges.check` but no estimate.
        reader: who labelled them.
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
                raise ValueError(f"expected one of the {what} of {_reference(label)}, got {got[0]} and {got[1]}")
        return self

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read a file of labels.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is not a file of labels; the message names file and field.
        """
        try:
            text = Path(path).read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise ValueError(f"labels {str(path)!r}: expected UTF-8, got something else: {error}") from None
        found: Self = named_errors("labels", str(path), lambda: cls.model_validate_json(text))
        return found

    def save(self, path: str | Path) -> Path:
        """Write the labels to a file, and return its path."""
        write_atomically(Path(path), self.model_dump_json(indent=1) + "\n")
        return Path(path)


@dataclass(frozen=True, slots=True)
class Drawn:
    """A thought drawn for labelling, without the answer after it.

    Attributes:
        sample_id, condition, draw: the response.
        question: as shown.
        options: as shown.
        letters: of the options, in their order.
        order: the options' indices in `sample.options`; None = an added option.
        thought: to be labelled.
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
        """A hash of question, options and thought, to check what a label refers to."""
        return f"{integer_key(self.question, *self.options, self.thought):032x}"[:16]

    def labelled(self, label: int | None) -> Label:
        """Label this thought.

        Args:
            label: index in `sample.options` of the option that it concludes; None = none, or undecided.
        """
        return Label(
            sample_id=self.sample_id, condition=self.condition, draw=self.draw, thought=self.digest, label=label
        )


def draw_thoughts(responses: Responses, count: int, conditions: Sequence[str] | None, seed: int) -> list[Drawn]:
    """Draw thoughts for labelling among responses with an answer, from the same samples under every condition.

    Args:
        responses: all of them.
        count: number per condition.
        conditions: the conditions to draw from; None = all.
        seed: of the draw.

    Raises:
        KeyError: a condition is not in the report.
        ValueError: `count` is below 1.
    """
    known = list(dict.fromkeys(responses.condition))
    conditions = [conditions] if isinstance(conditions, str) else list(dict.fromkeys(conditions or known))
    for name in conditions:
        if name not in known:
            raise KeyError(f"expected conditions among {', '.join(known)}; got {name!r}")
    candidates = _by_condition(responses)
    chosen = [row for name in conditions for row in _first_drawn(responses, candidates.get(name, []), count, seed)]
    chosen.sort(
        key=lambda row: integer_key(seed, sample_and_draw(responses, row), "subset")
    )  # keep a sample's thoughts together
    return [_thought_at(responses, row) for row in chosen]


def labelled(responses: Responses, labels: Labels) -> list[LabelledThought]:
    """Return labelled thoughts with their answers for `judges.check`, drawn at random or not.

    Raises:
        ValueError: a label is of no thought in the report.
    """
    found = []
    for row, label in labels_by_row(responses, labels).items():
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


def with_answer_and_thought(responses: Responses) -> Mask:
    """Return an `(N,)` mask of the responses with an answer and a thought."""
    thought = np.fromiter((bool(think.strip()) for think in responses.think), np.bool_, len(responses))
    found: Mask = responses.has_status("answered").numpy() & thought
    return found


def sample_and_draw(responses: Responses, row: int) -> str:
    """Return a key that a response shares with those under the other conditions."""
    return f"{int(responses.draw[row])} {responses.sample_id[row]}"


def _by_condition(responses: Responses) -> dict[str, list[int]]:
    """Return the positions of the thoughts that can be drawn, by condition."""
    found: dict[str, list[int]] = {}
    for row in np.flatnonzero(with_answer_and_thought(responses)).tolist():
        found.setdefault(responses.condition[row], []).append(row)
    return found


def _first_drawn(responses: Responses, rows: Sequence[int], count: int, seed: int) -> list[int]:
    return subset(rows, count, seed, lambda row: sample_and_draw(responses, row))


def _thought_at(responses: Responses, row: int) -> Drawn:
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


def labels_by_row(responses: Responses, labels: Labels) -> dict[int, int | None]:
    """Return the labels by the position of the response.

    Raises:
        ValueError: a label is of no thought in the report.
    """
    row_of = {key: row for row, key in enumerate(keys_of(responses))}
    unknown = [label for label in labels.labels if _key(label) not in row_of]
    if unknown:
        raise ValueError(
            f"expected labels of responses in the report, got {len(unknown)} of others: {_listed(unknown)}"
        )
    found = {row_of[_key(label)]: label for label in labels.labels}
    changed = [label for row, label in found.items() if _thought_at(responses, row).digest != label.thought]
    if changed:
        raise ValueError(
            f"expected labels of the thoughts in the report, got {len(changed)} of other thoughts under the same "
            f"names: {_listed(changed)}; the run has generated new answers since"
        )
    for row, label in found.items():
        if label.label is not None and label.label not in responses.order[row]:
            raise ValueError(
                f"{_reference(label)}, field 'label': expected an index of an option that was shown, "
                f"{sorted(index for index in responses.order[row] if index is not None)}, or null; got {label.label}"
            )
    return {row: label.label for row, label in found.items()}


def check_random_draw(responses: Responses, labels: Labels, label_by_row: Mapping[int, int | None]) -> None:
    """Raise unless each condition's labels are of the first thoughts of the draw."""
    if labels.seed is None:
        raise ValueError(
            "field 'seed': expected labels of thoughts that the report drew at random, got labels without a draw; "
            "judges.check takes them"
        )
    candidates = _by_condition(responses)
    for name, count in Counter(responses.condition[row] for row in label_by_row).items():
        first = _first_drawn(responses, candidates.get(name, []), count, labels.seed)
        skipped = [row for row in first if row not in label_by_row]
        if skipped or len(first) < count:
            shown = ", ".join(_reference(_thought_at(responses, row)) for row in skipped[:_MAX_LISTED])
            raise ValueError(
                f"condition {name!r}: expected labels of the first {count} thoughts that seed {labels.seed} "
                f"draws, but {len(skipped)} of these have none: {shown}; an estimate from chosen thoughts would be "
                "wrong. Label these too; judges.check takes the labels as they are"
            )


def _key(label: Label) -> Key:
    return label.sample_id, label.condition, label.draw


def _reference(one: Label | Drawn) -> str:
    return f"sample {one.sample_id!r}, condition {one.condition!r}{f', draw {one.draw}' if one.draw else ''}"


def _listed(labels: Sequence[Label]) -> str:
    return "; ".join(map(_reference, labels[:_MAX_LISTED])) + ("; …" if len(labels) > _MAX_LISTED else "")
