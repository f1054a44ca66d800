"""One prompt as a model reads it: the rendered text, its images, and the option's text that is scored after it."""

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
    """The tokens at the end of a text whose log-probability is asked for.

    Attributes:
        tokens: the tokens.
        rest: how many further tokens the text has, which are not scored.
        ends: tokens of which any one has to follow; none = nothing has to.
        answer: the option's text and what ends it, where the processor takes answers apart; else empty.
    """

    tokens: tuple[int, ...]
    rest: int
    ends: tuple[int, ...]
    answer: str = ""

    @property
    def count(self) -> int:
        """Over how many tokens the log-probability is summed."""
        return len(self.tokens) + bool(self.ends)

    def stands_in(self, tokens: Sequence[int]) -> bool:
        """Return whether a whole text's tokens have these where they are looked for."""
        start = len(tokens) - len(self.tokens) - self.rest
        return tuple(tokens[start : start + len(self.tokens)]) == self.tokens

    @property
    def places(self) -> int:
        """How many positions at the end of the text are looked at."""
        return len(self.tokens) + self.rest + 1

    @property
    def used(self) -> int:
        """Of how many of them, from the first on, logits are needed."""
        return self.count

    def read(self, logits: Tensor) -> list[float]:
        """Return the log-probability of the tokens (nats), and the first position's log-normaliser.

        The options of a prompt have that position in common, so that the latter is the same for all of them, unless
        the model sees ahead.

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
    """One prompt, ready for a processor.

    Attributes:
        prompt: the prompt, its prefill being what stands in the assistant's turn (an opener of the template included).
        turns: the chat template's rendering and the prefill.
        images: decoded.
        forced: where nothing is left to think, what stands between the prefill and the letter, which is then read in
            one forward pass; None = a text is to be decoded.
        written: the response so far, where the model's own text stands in `forced`.
        scored: the option's text that is scored, which stands at the end of `forced`, or follows it where the
            processor takes answers apart; None = a letter is read.
    """

    prompt: Prompt
    turns: str
    images: tuple["Image", ...]
    forced: str | None = None
    written: Response | None = None
    scored: ScoredText | None = None

    @property
    def kin(self) -> tuple[Any, ...]:
        """What prompts have in common that may share a beginning: sample and images, or being one prompt's options."""
        which = () if self.scored is None else (self.prompt.condition, self.prompt.draw)
        return (self.prompt.sample.id, *map(id, self.images), *which)

    @property
    def text(self) -> str:
        """All text that the model goes on from."""
        return self.turns + (self.forced or "")
