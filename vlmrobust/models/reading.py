"""From what was read off the model to responses: of prompts whose letter is read, and of texts that were decoded."""

import math
from collections.abc import Sequence
from typing import Any

import torch

from ..prompting import letter_columns
from ..types import Prompt, Response
from ..types.response import parse_turn
from .ahead import Decoded, LookAhead
from .branches import Reached
from .encoding import Rendered
from .generation import Written
from .probe import Head
from .vocabulary import LetterVocabulary, Members

__all__ = ["TextReader", "closed", "forced_text", "not_finite", "read_response", "shown_letters"]


def forced_text(prompt: Prompt) -> str | None:
    """Return what stands between the prefill and the answer where nothing is left to think, else None."""
    style = prompt.style
    think_open, think_close = style.think_tags
    if style.mode == "direct":
        # A template that opens the thought by itself: close it, as the template does when thinking is switched off.
        return f"\n{think_close}\n\n" if prompt.prefill.rstrip().endswith(think_open) else ""
    _, closed, after = prompt.prefill.rpartition(think_close)
    return style.answer_opener if closed and not after.strip() else None


def closed(prompt: Prompt, text: str) -> str:
    """Return a text that was cut off, closed, up to the answer."""
    opener = prompt.style.answer_opener
    return text + (prompt.style.think_tags[1] + opener if parse_turn(prompt, text).open_thought else opener)


def read_response(item: Rendered, letters: Sequence[float]) -> Response:
    """Return the response of a prompt whose letter was read: the likeliest of the shown ones."""
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


class TextReader:
    """Makes responses of decoded texts, with the letters and entropies that were read on the way.

    Args:
        tokenizer: decodes the tokens.
        vocabulary: which tokens read as which letter.
        head: the model's LM head.
        ahead: looks past letters.
    """

    def __init__(self, tokenizer: Any, vocabulary: LetterVocabulary, head: Head, ahead: LookAhead) -> None:
        self._tokenizer = tokenizer
        self._vocabulary = vocabulary
        self._head = head
        self._ahead = ahead

    def responses(self, items: Sequence[Rendered], written: Written | None) -> list[Response]:
        """Return the response of each row of a decoded batch; None = no row."""
        if written is None:
            return []
        texts = [self._decode(tokens) for tokens in written.tokens]
        letters = self._letters(items, texts, written)
        responses = []
        for row, prompt in enumerate(item.prompt for item in items):
            entropy, shown = written.entropies[row], letters.get(row)
            if math.isnan(entropy) or any(map(math.isnan, shown or ())):
                responses.append(Response.failed(prompt, not_finite(prompt, "logits")))
                continue
            responses.append(
                Response.parse(
                    prompt,
                    texts[row],
                    finish_reason="stop" if written.stopped[row] else "length",
                    option_logprobs=shown,
                    token_entropy=max(entropy, 0.0),
                    n_tokens=written.counts[row],
                )
            )
        return responses

    def _letters(self, items: Sequence[Rendered], texts: Sequence[str], written: Written) -> dict[int, list[float]]:
        """Return the shown letters' log-probabilities where each answer's letter was written, by row of the batch."""
        wanted = {}
        for row, (item, text) in enumerate(zip(items, texts, strict=True)):
            letter = parse_turn(item.prompt, text).letter
            if letter is not None and (place := letter[0] - len(item.prompt.prefill)) >= 0:
                wanted[row] = self._step_of(written.tokens[row], place)
        kept = written.probe.kept_of(wanted)
        after = written.probe.kept_of({row: wanted[row] + 1 for row in kept})
        members: dict[int, Members] = {}
        decoded: dict[int, Decoded] = {}
        last = len(written.probe.entropies) - 1
        for row, logits in zip(kept, self._head.logits_of(list(kept.values())), strict=True):
            step, tokens = wanted[row], written.tokens[row]
            members[row] = Members.of(logits, (self._vocabulary.either,), back=last - step)
            is_small = self._vocabulary.is_small(tokens[step])
            # What stands behind a row's stop token is padding, and not its own.
            following = after.get(row) if step + 1 < written.counts[row] else None
            decoded[row] = Decoded(tokens[:step], tokens[step], is_small, following)
        branches = written.branches
        reached = None
        if branches is not None:
            everyone = torch.arange(len(items), device=branches.mask.device)
            reached = Reached(branches, everyone, kept=False, beyond=last)
        values = self._ahead.letters(members, items, reached, decoded)
        return {row: shown_letters(values[row], items[row].prompt) for row in kept}

    def _step_of(self, tokens: Sequence[int], place: int) -> int:
        """Return the step whose token holds character `place` of the text."""
        low, high = 0, len(tokens) - 1
        while low < high:
            middle = (low + high) // 2
            if len(self._decode(tokens[: middle + 1])) > place:
                high = middle
            else:
                low = middle + 1
        return low

    def _decode(self, tokens: Sequence[int]) -> str:
        # Tags may be special tokens of the vocabulary; skipping those would cut the thought's tags out of the text.
        text = self._tokenizer.decode(tokens, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return str(text)


def shown_letters(letters: Sequence[float], prompt: Prompt) -> list[float]:
    """Return the values of the letters that a prompt shows, out of those of all `MARKS`."""
    return [letters[column] for column in letter_columns(prompt.style.letters[: len(prompt.options)])]


def not_finite(prompt: Prompt, what: str) -> str:
    """Return the error of a prompt for which the model gave NaN."""
    return f"sample {prompt.sample.id!r}, condition {prompt.condition!r}: expected finite {what}, got NaN"
