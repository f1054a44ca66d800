"""Whether texts can be decoded over a cache, row by row: a step over it is compared with the model's own `generate`."""

import sys
from typing import Any

import torch
from torch import Tensor

from .ahead import LookAhead
from .branches import bears_gaps, joined
from .generation import Decoding
from .rendered import Rendered

__all__ = ["Stepping"]


class Stepping:
    """Whether texts can be decoded over a cache step by step, and rows of several caches in one: found out once.

    Args:
        model: a Hugging Face model.
        decoding: how texts are decoded.
        ahead: compares what a cache says with the model's own `generate`.
        token: any token, which stands after the prompt that is compared.

    Attributes:
        works: whether a step over the cache says what `generate` says; None = not compared yet.
        joins: whether it does so too where the cache was put together from two.
        takes_uneven: whether prompts of several lengths can be decoded over one cache: put together, or with gaps.
    """

    def __init__(self, model: Any, decoding: Decoding, ahead: LookAhead, token: int) -> None:
        self.works: bool | None = None if decoding.is_token_by_token else False
        self.joins = False
        self.takes_uneven = False
        self._config = model.config.get_text_config()
        self._ahead = ahead
        self._token = token
        # Attention by blocks depends on the column that a token stands in.
        kinds = getattr(self._config, "layer_types", None) or []
        self._by_column = "chunked_attention" in kinds

    def fits(self, item: Rendered) -> bool:
        """Return whether texts can be decoded so; the first prompt decides for the model."""
        if self._ahead.works is False:
            return False
        if self.works is None:
            self.works = self._compared(item)
        return self.works

    def _compared(self, item: Rendered) -> bool:
        branches = self._ahead.prefilled(item)
        if branches is None:
            return False
        one = torch.zeros(1, dtype=torch.int64, device=branches.mask.device)
        token = torch.full((1, 1), self._token, device=one.device)

        def alone() -> Tensor:
            return self._ahead.after(branches.selected(one), token)

        def beside_a_longer_one() -> Tensor:
            longer, same = branches.selected(one), branches.selected(one)
            self._ahead.after(longer, token)
            both = joined([longer, same])
            if both is None:
                raise NotImplementedError("its cache takes in no rows")
            return self._ahead.after(both, token.expand(2, 1))[1:]

        self.joins = not self._by_column and self._ahead.difference(item, self._token, beside_a_longer_one) is None
        self.takes_uneven = self.joins or bears_gaps(self._config, sys.maxsize)
        reason = None if self.joins else self._ahead.difference(item, self._token, alone)
        if self._ahead.works is None:
            self._ahead.believe(reason)
        return reason is None
