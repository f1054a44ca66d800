"""Text in, text out: a question put as chat turns, a chat template rendered, a completion read."""

from .chat import IMAGE_MARK, assistant_prefix, chat_turns, render_turns
from .parsing import LETTERS, Parsed, parse_completion

__all__ = [
    "IMAGE_MARK",
    "LETTERS",
    "Parsed",
    "assistant_prefix",
    "chat_turns",
    "parse_completion",
    "render_turns",
]
