"""How a question is put to a model, and how its answer is read."""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, field_validator

from ..prompting import LETTERS
from .validated import Frozen

__all__ = ["Letters", "Style"]


def _different_letters(letters: str) -> str:
    if len(letters) < 2 or len(set(letters)) < len(letters) or not set(letters) <= set(LETTERS):
        raise ValueError(f"expected 2 to {len(LETTERS)} different capital letters out of A to Z, got {letters!r}")
    return letters


Letters = Annotated[str, AfterValidator(_different_letters)]

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
    r"""How a question is put and how the answer is read; a plain value that becomes part of the run's manifest.

    Attributes:
        system: text of the system turn; None = no such turn. Models whose template has no system role get it in front
            of the question.
        instruction: what is asked for, after the options; None = a default that fits `mode` and `answer_by`.
            `{think_open}`, `{think_close}`, `{answer_open}` and `{answer_close}` stand for the tags.
        think_tags, answer_tags: opening and closing tag.
        option_template: one option's line; has to contain `{letter}` and `{text}`.
        letters: the options' letters, in their order: 2 to 26 different capitals out of A to Z. A prompt may have fewer
            options, not more.
        image_position: images before ("first") or after ("last") the text, where no `<image>` mark says otherwise.
        answer_by: the model answers by "letter", or by the option's exact "text".
        mode: "think" asks for a chain of thought, "direct" for the answer alone (one forward pass, no decoding).

    Example:
        >>> Style(option_template="({letter}) {text}").options_text(["red", "blue"])
        '(A) red\n(B) blue'
    """

    system: str | None = None
    instruction: str | None = None
    think_tags: tuple[str, str] = ("<think>", "</think>")
    answer_tags: tuple[str, str] = ("<answer>", "</answer>")
    option_template: str = "{letter}. {text}"
    letters: Letters = LETTERS
    image_position: Literal["first", "last"] = "first"
    answer_by: Literal["letter", "text"] = "letter"
    mode: Literal["think", "direct"] = "think"

    @field_validator("option_template")
    @classmethod
    def _template_has_its_fields(cls, template: str) -> str:
        if "{letter}" not in template or "{text}" not in template:
            raise ValueError(f"expected an option template with {{letter}} and {{text}}, got {template!r}")
        return template

    @field_validator("think_tags", "answer_tags")
    @classmethod
    def _tags_are_there(cls, tags: tuple[str, str]) -> tuple[str, str]:
        if not all(tag.strip() for tag in tags):
            raise ValueError(f"expected an opening and a closing tag, got {tags!r}")
        return tags

    def instruction_text(self) -> str:
        """Return the instruction with the tags filled in."""
        text = _INSTRUCTIONS[self.mode, self.answer_by] if self.instruction is None else self.instruction
        tags = ("{think_open}", "{think_close}", "{answer_open}", "{answer_close}")
        for mark, tag in zip(tags, (*self.think_tags, *self.answer_tags), strict=True):
            text = text.replace(mark, tag)
        return text

    def options_text(self, options: Sequence[str]) -> str:
        """Return the lettered options, one a line."""
        lines = zip(self.letters, options, strict=False)
        return "\n".join(
            self.option_template.replace("{letter}", letter).replace("{text}", text) for letter, text in lines
        )
