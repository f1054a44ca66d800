"""Make responses of letters read and of decoded texts, and the text that comes between prefill and letter."""

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..prompting import letter_columns
from ..types import Prompt, Response
from ..types.response import parse_turn
from .caches import Branches, CachedPrompts
from .encoding import Rendered
from .generation import DecodedText, decoded_text
from .letter_tokens import Members
from .look_ahead import DecodedLetter, Look, LookAhead
from .plain_engine import ModelRunner

__all__ = [
    "PendingResponse",
    "TextReader",
    "closed",
    "forced_text",
    "not_finite",
    "read_response",
    "shown_letters",
    "step_of",
]


def forced_text(prompt: Prompt) -> str | None:
    """Return the text between the prefill and the answer if no thought is left to decode, else None."""
    style = prompt.style
    think_open, think_close = style.think_tags
    if style.mode == "direct":
        # If the template opens the thought, close it, as the template does when thinking is switched off.
        return f"\n{think_close}\n\n" if prompt.prefill.rstrip().endswith(think_open) else ""
    _, closed, after = prompt.prefill.rpartition(think_close)
    return style.answer_opener if closed and not after.strip() else None


def closed(prompt: Prompt, text: str) -> str:
    """Return a truncated text, closed and continued up to the answer."""
    opener = prompt.style.answer_opener
    return text + (prompt.style.think_tags[1] + opener if parse_turn(prompt, text).open_thought else opener)


def read_response(item: Rendered, letters: Sequence[float]) -> Response:
    """Return the response of a prompt whose letter was read: the likeliest of its letters."""
    prompt, written = item.prompt, item.written
    shown = shown_letters(letters, prompt)
    if any(map(math.isnan, shown)):
        return Response.failed(prompt, not_finite(prompt, "letter log-probabilities"))
    letter = prompt.style.letters[max(range(len(shown)), key=shown.__getitem__)]
    return Response.parse(
        prompt,
        f"{item.forced}{letter}",
        finish_reason="readout" if written is None else written.finish_reason,
        option_logprobs=shown,
        readout="direct" if prompt.style.mode == "direct" else "fixed_prefix",
        token_entropy=None if written is None else written.token_entropy,
        n_tokens=0 if written is None else written.n_tokens,
    )


@dataclass(frozen=True, slots=True)
class PendingResponse:
    """A decoded text whose letters may still be looked past.

    Attributes:
        item: the prompt.
        text: the text.
        written: its tokens and the values read during decoding.
        look: its letters; None = none were generated or kept.
    """

    item: Rendered
    text: str
    written: DecodedText
    look: Look | None


class TextReader:
    """Makes responses of decoded texts, with the letters and entropies read during decoding.

    Args:
        runner: runs the model.
        ahead: looks past letters.
    """

    def __init__(self, runner: ModelRunner, ahead: LookAhead) -> None:
        self._tokenizer = runner.encoder.tokenizer
        self._vocabulary = runner.vocabulary
        self._head = runner.head
        self._ahead = ahead

    def responses(
        self, items: Sequence[Rendered], texts: Sequence[DecodedText], branches: Branches | None
    ) -> list[Response]:
        """Return the responses of a batch that was decoded together.

        Args:
            items: its prompts.
            texts: the decoded texts.
            branches: the cache of prompts and texts, each without its last token; None = no cache.
        """
        pending = self.pending(items, texts)
        reached = None
        if branches is not None:
            everyone = torch.arange(len(items), device=branches.mask.device)
            reached = CachedPrompts(branches, everyone, kept=False, beyond=texts[0].steps - 1)
        self._ahead.letters([one.look for one in pending if one.look is not None], reached)
        return [self.response(one) for one in pending]

    def pending(self, items: Sequence[Rendered], texts: Sequence[DecodedText]) -> list[PendingResponse]:
        """Read decoded texts; whether their letters continue as words is open unless the next step shows it."""
        read = [decoded_text(self._tokenizer, written.tokens) for written in texts]
        wanted = {}
        for row, (item, text, written) in enumerate(zip(items, read, texts, strict=True)):
            letter = parse_turn(item.prompt, text).letter
            if letter is not None and (place := letter[0] - len(item.prompt.prefill)) >= 0:
                step = step_of(self._tokenizer, written.tokens, place)
                if step in written.kept:
                    wanted[row] = step
        members: dict[int, Members] = {}
        decoded: dict[int, DecodedLetter] = {}
        kept = [texts[row].kept[step] for row, step in wanted.items()]
        for (row, step), logits in zip(wanted.items(), self._head.logits_of(kept), strict=True):
            written = texts[row]
            members[row] = Members.of(logits, (self._vocabulary.either,), back=written.steps - 1 - step)
            token = written.tokens[step]
            # After a row's stop token there is padding, not text.
            after = written.kept.get(step + 1) if step + 1 < written.count else None
            decoded[row] = DecodedLetter(written.tokens[:step], token, self._vocabulary.is_small(token), after)
        looks = {look.place: look for look in self._ahead.begin(members, items, decoded)}
        return [
            PendingResponse(item, text, written, looks.get(row))
            for row, (item, text, written) in enumerate(zip(items, read, texts, strict=True))
        ]

    @staticmethod
    def response(pending: PendingResponse) -> Response:
        """Return the response of a text, with its letters as far as they were looked past."""
        prompt, written = pending.item.prompt, pending.written
        shown = None if pending.look is None else shown_letters(pending.look.letters(), prompt)
        if math.isnan(written.entropy) or any(map(math.isnan, shown or ())):
            return Response.failed(prompt, not_finite(prompt, "logits"))
        return Response.parse(
            prompt,
            pending.text,
            finish_reason="stop" if written.stopped else "length",
            option_logprobs=shown,
            token_entropy=max(written.entropy, 0.0),
            n_tokens=written.count,
        )


def step_of(tokenizer: Any, tokens: Sequence[int], place: int) -> int:
    """Return the step whose token has character `place` of the joined text."""
    steps = range(len(tokens) - 1)
    return bisect_right(steps, place, key=lambda step: len(decoded_text(tokenizer, tokens[: step + 1])))


def shown_letters(letters: Sequence[float], prompt: Prompt) -> list[float]:
    """Return the values of a prompt's letters, out of those of all `MARKS`."""
    return [letters[column] for column in letter_columns(prompt.style.letters[: len(prompt.options)])]


def not_finite(prompt: Prompt, what: str) -> str:
    """Return the error of a prompt with NaN from the model."""
    return f"sample {prompt.sample.id!r}, condition {prompt.condition!r}: expected finite {what}, got NaN"
