"""Define styles: how a question is presented to a model, and how its answer is parsed."""

import re
import string
from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, field_validator, model_validator

from ..prompting import LETTERS
from .frozen import Frozen

__all__ = ["Letters", "Style"]


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
