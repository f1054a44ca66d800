"""Define samples (multiple-choice visual questions), and find special tokens and tags in their texts."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field, ModelWrapValidatorHandler, field_validator, model_validator

from ..prompting import IMAGE_MARK, LETTERS
from ..prompting.special_tokens import SpecialTokens, tags_in
from .frozen import Frozen, named_errors
from .image import ImageLike
from .style import Style

__all__ = ["Acting", "Sample", "acting_in", "check_samples", "listed"]


class Sample(Frozen):
    """One multiple-choice visual question.

    Attributes:
        id: identifies the sample within a run; results of two conditions are paired by it.
        images: one or more images, each a path, the bytes of an image file or a PIL image; decoded when needed.
        question: the question alone, without its options. `<image>` marks, one per image, place the images if they do
            not all come first.
        options: 2 to 26 different answers, lettered (A, B, … by default) when the question is shown.
        answer: index of the correct option.
        texts: misleading or true texts by name: `wrong_caption`, `correct_caption`, `wrong_think`, `correct_think`. A
            value is a string, or a mapping from the index of the option it asserts to a string. A wrong text given as
            a bare string needs `distractor`, to say which option it asserts. `wrong_sentence` is for `AddedMistake`;
            `neutral_caption`, `neutral_think`, `irrelevant_caption` are strings and assert none.
        distractor: index of the wrong option that all conditions assert; None = drawn once per seed and sample.
        group: samples of one group (for instance, about one image) are resampled together; None = a group of its own.
        metadata: any other fields, for `report.by("category")`.

    Raises:
        pydantic.ValidationError: the message names the sample's id and the field.

    Example:
        >>> sample = Sample(id="q1", images=["cube.png"], question="Which colour is the cube?",
        ...                 options=["red", "blue"], answer=1)
        >>> sample.options[sample.answer]
        'blue'
    """

    id: Annotated[str, Field(min_length=1)]
    images: Annotated[tuple[ImageLike, ...], Field(min_length=1)]
    question: str
    options: tuple[str, ...]
    answer: int
    distractor: int | None = None
    texts: Mapping[str, str | Mapping[int, str]] = Field(default_factory=dict)
    group: str | None = None
    metadata: Mapping[str, Any] = Field(default_factory=dict)

    @model_validator(mode="wrap")
    @classmethod
    def _name_in_errors(cls, data: Any, handler: ModelWrapValidatorHandler["Sample"]) -> "Sample":
        name = data.get("id", "<no id>") if isinstance(data, Mapping) else getattr(data, "id", data)
        checked: Sample = named_errors("sample", name, lambda: handler(data))
        return checked

    @field_validator("question")
    @classmethod
    def _check_question(cls, question: str) -> str:
        if not question.strip():
            raise ValueError(f"expected a question, got {question!r}")
        return question

    @field_validator("options")
    @classmethod
    def _check_options(cls, options: tuple[str, ...]) -> tuple[str, ...]:
        if not 2 <= len(options) <= len(LETTERS):
            raise ValueError(f"expected 2 to {len(LETTERS)} options, got {len(options)}: {options!r:.200}")
        seen: dict[str, int] = {}
        for index, option in enumerate(options):
            text = " ".join(option.split())
            if not text:
                raise ValueError(f"expected text in every option, got {option!r} at index {index}")
            if text in seen:
                raise ValueError(f"expected different options, got {option!r} at index {seen[text]} and {index}")
            seen[text] = index
        return options

    @model_validator(mode="after")
    def _check_indices(self) -> "Sample":
        def reject(field: str, expected: str, got: object) -> None:
            raise ValueError(f"sample {self.id!r}, field {field!r}: expected {expected}, got {got!r}")

        count = len(self.options)
        if not 0 <= self.answer < count:
            reject("answer", f"the index of one of {count} options (0 to {count - 1})", self.answer)
        if self.distractor is not None and (not 0 <= self.distractor < count or self.distractor == self.answer):
            reject("distractor", f"the index of a wrong option (0 to {count - 1}, not {self.answer})", self.distractor)
        for name, text in self.texts.items():
            if isinstance(text, Mapping):
                if invalid := [index for index in text if not 0 <= index < count]:
                    reject(f"texts.{name}", f"indices of options (0 to {count - 1})", invalid[0])
            elif name.startswith("wrong_") and self.distractor is None:
                reject(
                    f"texts.{name}",
                    "a mapping from option index to text, or a 'distractor' that says which option it asserts",
                    text,
                )
        marks = sum(text.count("<image>") for text in (self.question, *self.options))
        if marks and marks != len(self.images):
            reject("images", f"as many images as there are <image> marks ({marks})", len(self.images))
        return self


def check_samples(samples: Iterable[Sample]) -> list[Sample]:
    """Return the samples as a list, after checking that their ids are unique.

    Raises:
        ValueError: an id occurs twice, a sample is inconsistent, or there are no samples.
        TypeError: an item is not a `Sample`.
    """
    checked: list[Sample] = []
    positions: dict[str, int] = {}
    for position, sample in enumerate(samples):
        if not isinstance(sample, Sample):
            raise TypeError(
                f"expected samples, got {type(sample).__name__} at position {position}; "
                "convert rows, a DataFrame or a dataset with vlmrobust.data.samples_from"
            )
        if sample.id in positions:
            raise ValueError(
                f"sample {sample.id!r}, field 'id': expected ids that differ, "
                f"got the same at positions {positions[sample.id]} and {position}"
            )
        positions[sample.id] = position
        checked.append(Sample.model_validate(sample))  # `model_copy` does not validate
    if not checked:
        raise ValueError("expected at least one sample, got none")
    return checked


Acting = Mapping[str, Mapping[str, Sequence[str]]]
"""The special tokens and tags found, by sample id and field."""

_NONE = SpecialTokens.of_tokens(())
_SHOWN = 5


def acting_in(samples: Iterable[Sample], special: SpecialTokens | None, style: Style) -> Acting:
    """Find special tokens and tags in samples; they would be interpreted if they were not made inert when shown.

    Args:
        samples: the samples whose question, options and texts are searched.
        special: the model's special tokens; None = the model has no local tokenizer.
        style: its tags are searched for in the injected texts, as are `<image>` marks.

    Example:
        >>> from vlmrobust.prompting import KNOWN_TOKENS
        >>> sample = Sample(id="q1", images=["x.png"], question="Red?<|im_end|>", options=["yes", "no"], answer=1,
        ...                 texts={"correct_think": "It is.</think>"})
        >>> acting_in([sample], KNOWN_TOKENS, Style())
        {'q1': {'question': ('<|im_end|>',), 'texts.correct_think': ('</think>',)}}
    """
    tags = (*style.think_tags, *(style.answer_tags or ()), IMAGE_MARK)
    found: dict[str, dict[str, Sequence[str]]] = {}
    for sample in samples:
        for field, text, is_injected in _texts(sample):
            tokens = (special or _NONE).found(text)
            if is_injected:
                tokens = tuple(dict.fromkeys((*tokens, *tags_in(text, tags))))
            if tokens:
                found.setdefault(sample.id, {})[field] = tokens
    return found


def _texts(sample: Sample) -> Iterator[tuple[str, str, bool]]:
    """Yield each field with its text, and whether the text is one to inject."""
    yield "question", sample.question, False
    for index, option in enumerate(sample.options):
        yield f"options.{index}", option, False
    for name, text in sample.texts.items():
        if isinstance(text, Mapping):
            yield from ((f"texts.{name}.{index}", part, True) for index, part in text.items())
        else:
            yield f"texts.{name}", text, True


def listed(acting: Acting) -> str:
    """Return the first few findings as text.

    Example:
        >>> listed({"q1": {"question": ("<|im_end|>",)}})
        "sample 'q1', field 'question': '<|im_end|>'"
    """
    findings = [
        f"sample {sample!r}, field {field!r}: {', '.join(map(repr, tokens))}"
        for sample, fields in acting.items()
        for field, tokens in fields.items()
    ]
    rest = [f"and {len(findings) - _SHOWN} more"] if len(findings) > _SHOWN else []
    return "; ".join([*findings[:_SHOWN], *rest])
