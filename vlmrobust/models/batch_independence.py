"""Measure whether other prompts of a batch change a text in half precision.

A matrix product of eight rows is rounded differently from one of a single row. In float32 the difference is negligible;
in bfloat16 and float16 two almost equally likely tokens may change places, after which the texts differ.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from .branches import Forward
from .generation import DecodedText, Decoding
from .look_ahead import LookAhead
from .probe import Head, captured
from .rendered import Rendered
from .unwrapping import compute_dtypes

__all__ = ["Independence", "is_half"]


_MOST = 16  # texts to compare


def is_half(model: Any) -> bool:
    """Return whether a model computes in half precision, also by autocast."""
    return not compute_dtypes(model).isdisjoint((torch.bfloat16, torch.float16))


@dataclass(frozen=True, slots=True)
class Independence:
    """Compares texts of a batch with those that the model would generate for each prompt alone.

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

    def measured(self, items: Sequence[Rendered], texts: Sequence[DecodedText]) -> tuple[int, int] | None:
        """Return how many texts of a batch would differ if decoded alone, and out of how many; None = no cache.

        Each prompt runs through the model alone, followed by its text in one pass: at every position the likeliest
        token must be the text's.

        Args:
            items: the prompts.
            texts: the greedily decoded texts.
        """
        changed = 0
        rows = list(zip(items, texts, strict=True))[:_MOST]
        for item, written in rows:
            tokens = written.tokens
            likeliest = self._likeliest(item, tokens)
            if likeliest is None:
                return None
            ends = likeliest[len(tokens) :]
            agrees = likeliest[: len(tokens)] == tokens
            changed += not (agrees and (not written.stopped or ends[0] in self.decoding.stop_tokens))
        return changed, len(rows)

    def _likeliest(self, item: Rendered, tokens: Sequence[int]) -> list[int] | None:
        """Return the likeliest token after a prompt, and after each token of the text that follows it."""
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
