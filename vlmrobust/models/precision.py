"""Whether half precision lets the neighbours in a batch change a text: measured where texts are decoded.

A matrix product of eight rows is rounded otherwise than one of a single row. In float32 that is too little to matter;
in bfloat16 and float16 two tokens that are nearly as likely may change places, and the text goes on in another way.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from .branches import Forward
from .generation import Decoding, Written
from .look_ahead import LookAhead
from .probe import Head, captured
from .rendered import Rendered
from .unwrapping import kinds_of_numbers

__all__ = ["Independence", "is_half"]

_MOST = 16  # texts that are looked at


def is_half(model: Any) -> bool:
    """Return whether a model computes in half precision, be it by autocast."""
    return not kinds_of_numbers(model).isdisjoint((torch.bfloat16, torch.float16))


@dataclass(frozen=True, slots=True)
class Independence:
    """Compares texts of a batch with what the model would write to each prompt by itself.

    Attributes:
        model: a Hugging Face model.
        head: its LM head.
        decoding: how texts are decoded.
        ahead: fills a cache with one prompt.
    """

    model: Any
    head: Head
    decoding: Decoding
    ahead: LookAhead

    def measured(self, items: Sequence[Rendered], texts: Sequence[Written]) -> tuple[int, int] | None:
        """Return how many texts of a batch would be written otherwise by themselves, and of how many; None = no cache.

        Each prompt goes through the model alone, and its text as one pass behind it: at every place the likeliest
        token has to be the one that stands there.

        Args:
            items: the prompts.
            texts: what was decoded, greedily.
        """
        changed = 0
        rows = list(zip(items, texts, strict=True))[:_MOST]
        for item, written in rows:
            tokens = written.tokens
            likeliest = self._likeliest(item, tokens)
            if likeliest is None:
                return None
            ends = likeliest[len(tokens) :]
            as_written = likeliest[: len(tokens)] == tokens
            changed += not (as_written and (not written.stopped or ends[0] in self.decoding.stop_tokens))
        return changed, len(rows)

    def _likeliest(self, item: Rendered, tokens: Sequence[int]) -> list[int] | None:
        """Return the likeliest token after a prompt, and after each token of a text behind it."""
        with captured(self.model, self.head) as seen:
            branches = self.ahead.prefilled(item)
        first = int(seen.last(1)[1][0, -1].argmax())
        if not tokens:
            return [first]
        if branches is None:
            return None
        new = torch.tensor([list(tokens)], device=self.model.device)
        with captured(self.model, self.head) as seen:
            Forward(self.model)(branches, new, torch.ones_like(new))
        following: list[int] = seen.last(len(tokens))[1][0].argmax(-1).tolist()
        return [first, *following]
