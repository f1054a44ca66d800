"""Define samples (multiple-choice visual questions) and styles, which say how a question is presented and answered.

Samples are checked for unique ids, and for special tokens and tags in their texts (`acting_in`).
"""

import re
import string
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, ModelWrapValidatorHandler, field_validator, model_validator

from ..prompting import IMAGE_MARK, LETTERS
from ..prompting.special_tokens import SpecialTokens, tags_in
from .frozen import Frozen, named_errors
from .image import ImageLike

__all__ = ["Acting", "Letters", "Sample", "Style", "acting_in", "check_samples", "listed"]


def _check_letters(letters: str) -> str:
    kind = string.digits if letters[:1].isdecimal() else LETTERS
    if len(letters) < 2 or len(set(letters)) < len(letters) or not set(letters) <= set(kind):
        raise ValueError(
            f"expected 2 to {len(LETTERS)} different capital letters from A to Z, or 2 to 10 different digits, "
            f"got {letters!r}"
        )
    return letters


Letters = Annotated[str, AfterValidator(_check_letters)]

_PART = re.compile(r"\{(question|options|instruction)\}")
_INSTRUCTIONS = {
    ("think", "letter"): (
        "Think about the question first, then answer. Write your thought between {think_open} and {think_close}, "
        "and only the letter of the correct option between {answer_open} and {answer_close}."
    ),
    ("think", "text"): (
        "Think about the question first, then answer. Write your thought between {think_open} and {think_close}, "
        "and only the exact text of the correct option between {answer_open} and {answer_close}."
    ),
    ("direct", "letter"): "Answer with the letter of the correct option only.",
    ("direct", "text"): "Answer with the exact text of the correct option only.",
}


class Style(Frozen):
    r"""How a question is presented and the answer parsed; part of a run's manifest.

    Attributes:
        system: text of the system turn; None = no such turn. If the model's template has no system role, it is put
            before the question.
        instruction: the instruction after the options; None = a default for `mode` and `answer_by`.
            `{think_open}`, `{think_close}`, `{answer_open}` and `{answer_close}` stand for the tags.
        question_template: the layout of question, options and instruction; must contain `{question}` and `{options}`,
            and `{instruction}` unless that is empty.
        think_tags: opening and closing tag of the thought.
        answer_tags: opening and closing tag of the answer; None = the answer follows the thought without tags.
        option_template: one option's line; must contain `{letter}` and `{text}`.
        letters: the options' letters, in order: 2 to 26 different capitals from A to Z, or 2 to 10 different digits
            ("0123"). A prompt may have fewer options, not more.
        image_position: images before ("first") or after ("last") the text, where no `<image>` mark places them.
        answer_by: the model answers by "letter", or by the option's exact "text".
        template_opens_thought: the model's chat template opens the thought, so that a turn without thought tags is a
            truncated thought, not an answer without tags.
        mode: "think" asks for a chain of thought, "direct" for the answer alone (one forward pass, no decoding).

    Example:
        >>> Style(option_template="({letter}) {text}").options_text(["red", "blue"])
        '(A) red\n(B) blue'
    """

    system: str | None = None
    instruction: str | None = None
    question_template: str = "{question}\n{options}\n{instruction}"
    think_tags: tuple[str, str] = ("<think>", "</think>")
    answer_tags: tuple[str, str] | None = ("<answer>", "</answer>")
    option_template: str = "{letter}. {text}"
    letters: Letters = LETTERS
    image_position: Literal["first", "last"] = "first"
    answer_by: Literal["letter", "text"] = "letter"
    mode: Literal["think", "direct"] = "think"
    template_opens_thought: bool = False

    @field_validator("option_template")
    @classmethod
    def _check_option_template(cls, template: str) -> str:
        if "{letter}" not in template or "{text}" not in template:
            raise ValueError(f"expected an option template with {{letter}} and {{text}}, got {template!r}")
        return template

    @field_validator("think_tags", "answer_tags")
    @classmethod
    def _check_tags(cls, tags: tuple[str, str] | None) -> tuple[str, str] | None:
        if tags is not None and not all(tag.strip() for tag in tags):
            raise ValueError(f"expected an opening and a closing tag, got {tags!r}")
        return tags

    @model_validator(mode="after")
    def _check_question_template(self) -> Self:
        expected = ("{question}", "{options}", *(["{instruction}"] if self.instruction != "" else []))
        if any(part not in self.question_template for part in expected):
            listed = ", ".join(expected)
            raise ValueError(f"expected a question template with {listed}, got {self.question_template!r}")
        if self.answer_tags is None and "{answer_" in (self.instruction or ""):
            raise ValueError(f"expected an instruction without answer tags, got {self.instruction!r}")
        return self

    @property
    def answer_opener(self) -> str:
        """The text between a thought and its answer."""
        return "\n\n" if self.answer_tags is None else self.answer_tags[0]

    @property
    def answer_closer(self) -> str:
        """The text after an answer; empty without tags."""
        return "" if self.answer_tags is None else self.answer_tags[1]

    def instruction_text(self) -> str:
        """Return the instruction with the tags filled in."""
        text = _INSTRUCTIONS[self.mode, self.answer_by] if self.instruction is None else self.instruction
        if self.answer_tags is None:
            text = text.replace(" between {answer_open} and {answer_close}", " after it")
        tags = ("{think_open}", "{think_close}", "{answer_open}", "{answer_close}")
        for placeholder, tag in zip(tags, (*self.think_tags, self.answer_opener, self.answer_closer), strict=True):
            text = text.replace(placeholder, tag)
        return text

    def question_text(self, question: str, options: Sequence[str]) -> str:
        r"""Return the text of a question: the question, the lettered options, the instruction.

        Example:
            >>> Style(instruction="Choose.", question_template="Q: {question} {instruction}\n{options}").question_text(
            ...     "Which?", ["red", "blue"]
            ... )
            'Q: Which? Choose.\nA. red\nB. blue'
        """
        parts = {"question": question, "options": self.options_text(options), "instruction": self.instruction_text()}
        return _PART.sub(lambda part: parts[part[1]], self.question_template)

    def asked_again(self, words: str) -> str:
        r"""Return the user's text in a later turn: some words, and the instruction again.

        Example:
            >>> Style(instruction="Choose.").asked_again("Are you sure?")
            'Are you sure?\nChoose.'
        """
        instruction = self.instruction_text()
        return f"{words}\n{instruction}" if instruction else words

    def options_text(self, options: Sequence[str]) -> str:
        """Return the lettered options, one per line."""
        lines = zip(self.letters, options, strict=False)
        return "\n".join(
            self.option_template.replace("{letter}", letter).replace("{text}", text) for letter, text in lines
        )


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
