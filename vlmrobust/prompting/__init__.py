"""Convert questions to chat turns, render chat templates, and parse completions."""

from typing import TYPE_CHECKING, Any

from .chat import IMAGE_MARK, chat_turns, check_template_arguments, render_turns, template_of, template_source
from .special_tokens import KNOWN_TOKENS, SpecialTokens, inert_tags
from .tags import assistant_prefix, template_tags, thought_note
from .words import LETTERS, MARKS, letter_columns, without_labels

if TYPE_CHECKING:
    from .parsing import Parsed, parse_completion

__all__ = [
    "IMAGE_MARK",
    "KNOWN_TOKENS",
    "LETTERS",
    "MARKS",
    "Parsed",
    "SpecialTokens",
    "assistant_prefix",
    "chat_turns",
    "check_template_arguments",
    "inert_tags",
    "letter_columns",
    "parse_completion",
    "render_turns",
    "template_of",
    "template_source",
    "template_tags",
    "thought_note",
    "without_labels",
]


def __getattr__(name: str) -> Any:
    # Compiling the parser's patterns is slow, so it waits until first use.
    if name in {"Parsed", "parse_completion"}:
        from . import parsing

        return getattr(parsing, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
