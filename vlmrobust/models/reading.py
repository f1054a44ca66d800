"""What is read where nothing is decoded: the text before the letter, and the response that the letters make."""

import math
from collections.abc import Sequence

from ..prompting import LETTERS
from ..types import Prompt, Response
from ..types.response import parse_turn
from .encoding import Rendered

__all__ = ["closed", "forced_text", "not_finite", "read_response"]


def forced_text(prompt: Prompt) -> str | None:
    """Return what stands between the prefill and the letter where nothing is left to think, else None."""
    style = prompt.style
    if style.answer_by != "letter":
        return None
    think_open, think_close = style.think_tags
    if style.mode == "direct":
        # A template that opens the thought by itself: close it, as the template does when thinking is switched off.
        return f"\n{think_close}\n\n" if prompt.prefill.rstrip().endswith(think_open) else ""
    _, closed, after = prompt.prefill.rpartition(think_close)
    return style.answer_tags[0] if closed and not after.strip() else None


def closed(prompt: Prompt, text: str) -> str:
    """Return a text that was cut off, closed, up to the letter."""
    opener = prompt.style.answer_tags[0]
    return text + (prompt.style.think_tags[1] + opener if parse_turn(prompt, text).open_thought else opener)


def read_response(item: Rendered, letters: Sequence[float]) -> Response:
    """Return the response of a prompt whose letter was read: the likeliest of the shown ones."""
    prompt, written = item.prompt, item.written
    shown = letters[: len(prompt.options)]
    if any(map(math.isnan, shown)):
        return Response.failed(prompt, not_finite(prompt, "letter log-probabilities"))
    letter = LETTERS[max(range(len(shown)), key=shown.__getitem__)]
    return Response.parse(
        prompt,
        f"{item.forced}{letter}",
        finish_reason="readout" if written is None else written.finish_reason,
        option_logprobs=shown,
        readout="direct" if prompt.style.mode == "direct" else "fixed_prefix",
        token_entropy=None if written is None else written.token_entropy,
        n_tokens=0 if written is None else written.n_tokens,
    )


def not_finite(prompt: Prompt, what: str) -> str:
    """Return the error of a prompt for which the model gave NaN."""
    return f"sample {prompt.sample.id!r}, condition {prompt.condition!r}: expected finite {what}, got NaN"
