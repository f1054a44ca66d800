"""Represent a prompt as the model reads it: rendered text, images, and an option text to score."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..types import Prompt, Response

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Rendered", "ScoredText"]


@dataclass(frozen=True, slots=True)
class ScoredText:
    """The tokens at the end of a text whose log-probability is read.

    Attributes:
        tokens: the tokens.
        rest: number of further tokens of the text, which are not scored.
        ends: tokens of which any one must follow; empty = no condition.
        answer: the option's text with its end, if the processor takes answers separately; else empty.
    """

    tokens: tuple[int, ...]
    rest: int
    ends: tuple[int, ...]
    answer: str = ""

    @property
    def count(self) -> int:
        """The number of tokens over which the log-probability is summed."""
        return len(self.tokens) + bool(self.ends)

    def stands_in(self, tokens: Sequence[int]) -> bool:
        """Return whether a whole text's tokens have these at the expected position."""
        start = len(tokens) - len(self.tokens) - self.rest
        return tuple(tokens[start : start + len(self.tokens)]) == self.tokens

    @property
    def places(self) -> int:
        """The number of positions read at the end of the text."""
        return len(self.tokens) + self.rest + 1

    @property
    def used(self) -> int:
        """The number of these, from the first, whose logits are needed."""
        return self.count

    def read(self, logits: Tensor) -> list[float]:
        """Return the tokens' log-probability (nats) and the first position's log-normaliser.

        The options of a prompt share that position, so that its normaliser is the same for all of them, unless the
        model attends to later tokens.

        Args:
            logits: `(used, V)` float32, next-token logits before each of the tokens, and after the last.
        """
        normalisers = logits.logsumexp(-1)
        count = len(self.tokens)
        chosen = logits[torch.arange(count), list(self.tokens)] - normalisers[:count]
        total = chosen.double().sum()
        if self.ends:
            total = total + logits[count, list(self.ends)].logsumexp(-1) - normalisers[count]
        return [float(total), float(normalisers[0])]


@dataclass(frozen=True, slots=True)
class Rendered:
    """A prompt ready for a processor.

    Attributes:
        prompt: the prompt; its prefill includes an opener from the template.
        turns: the chat template's rendering and the prefill.
        images: the decoded images.
        forced: the text between the prefill and the letter, which is then read in one forward pass; None = a text is
            to be decoded.
        written: the response so far, if `forced` contains the model's own text.
        scored: the option's text to score, at the end of `forced`, or after it if the processor takes answers
            separately; None = a letter is read.
    """

    prompt: Prompt
    turns: str
    images: tuple["Image", ...]
    forced: str | None = None
    written: Response | None = None
    scored: ScoredText | None = None

    @property
    def kin(self) -> tuple[Any, ...]:
        """The key of prompts that may share a prefix: the same sample and images, or options of one prompt."""
        which = () if self.scored is None else (self.prompt.condition, self.prompt.draw)
        return (self.prompt.sample.id, *map(id, self.images), *which)

    @property
    def text(self) -> str:
        """The whole text that the model continues."""
        return self.turns + (self.forced or "")
