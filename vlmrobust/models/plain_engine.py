"""Run whole prompts in padded batches through the model's own forward pass.

This plain path works for every architecture that Hugging Face's `generate` supports. Faster paths are compared with it.
"""

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from .branches import Branches, CachedPrompts, Forward, allows_gaps, joined, seen_positions
from .encoding import Encoder, EncodingError
from .generation import DecodedText, Decoding
from .look_ahead import LookAhead
from .probe import DecodingLog, GenerationProbe, Head, captured
from .rendered import Rendered

__all__ = ["PlainEngine", "PrefilledPrompts", "Reading", "Stepping", "T", "last_rows"]


class Stepping:
    """Tests once whether texts can be decoded step by step from a cache, and rows of several caches be combined.

    Args:
        model: a Hugging Face model.
        decoding: how texts are decoded.
        ahead: compares a cache with the model's own `generate`.
        token: any token, which is appended to the compared prompt.

    Attributes:
        works: whether a step from the cache agrees with `generate`; None = not compared yet.
        joins: whether it also does from a cache combined from two.
        takes_uneven: whether prompts of different lengths can be decoded from one cache: combined, or with gaps.
    """

    def __init__(self, model: Any, decoding: Decoding, ahead: LookAhead, token: int) -> None:
        self.works: bool | None = None if decoding.is_token_by_token else False
        self.joins = False
        self.takes_uneven = False
        self._config = model.config.get_text_config()
        self._ahead = ahead
        self._token = token
        # Chunked attention depends on a token's column.
        kinds = getattr(self._config, "layer_types", None) or []
        self._by_column = "chunked_attention" in kinds

    def fits(self, item: Rendered) -> bool:
        """Return whether texts can be decoded step by step; decided for the model by the first prompt."""
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
                raise NotImplementedError("its cache takes no rows in")
            return self._ahead.after(both, token.expand(2, 1))[1:]

        self.joins = not self._by_column and self._ahead.difference(item, self._token, beside_a_longer_one) is None
        self.takes_uneven = self.joins or allows_gaps(self._config, sys.maxsize)
        reason = None if self.joins else self._ahead.difference(item, self._token, alone)
        if self._ahead.works is None:
            self._ahead.believe(reason)
        return reason is None


T = TypeVar("T")
# Makes results by position from prompts, their `(R, places, …)` rows for `Head.logits`, and their cache.
Reading = Callable[[Mapping[int, Rendered], Tensor, CachedPrompts | None], dict[int, T]]


def last_rows(items: Mapping[int, Rendered], rows: Tensor, reached: CachedPrompts | None) -> dict[int, Tensor]:
    """Return the `(1, …)` row for `Head.logits` of each prompt's last position."""
    return dict(zip(items, rows[:, -1:].unbind(), strict=True))


@dataclass(frozen=True, slots=True)
class PrefilledPrompts:
    """Prefilled prompts whose texts are to be decoded.

    Attributes:
        items: by position, the prompts, in the order of their rows.
        branches: their cache, one row each.
        hidden: `(B, 1, D)`, the LM head's last input.
        logits: `(B, 1, V)`, the model's last logits.
    """

    items: Mapping[int, Rendered]
    branches: Branches
    hidden: Tensor
    logits: Tensor


class PlainEngine:
    """Reads and decodes padded batches.

    Args:
        model: a Hugging Face model.
        encoder: renders and encodes its prompts.
        head: its LM head.
        decoding: how texts are decoded.
        letter_tokens: `(V,)` bool, tokens that read as an option letter.

    Attributes:
        tokens: number of prompt tokens computed so far, without padding.
    """

    def __init__(self, model: Any, encoder: Encoder, head: Head, decoding: Decoding, letter_tokens: Tensor) -> None:
        self.tokens = 0
        self._model = model
        self._encoder = encoder
        self._head = head
        self._decoding = decoding
        self._letter_tokens = letter_tokens
        self._keeps_logits = "logits_to_keep" in inspect.signature(model.forward).parameters
        self._forward = Forward(model)

    def read(self, items: Mapping[int, Rendered], places: int, reading: Reading[T], *, looks: bool) -> dict[int, T]:
        """Read the letters, or the texts, of prompts.

        Args:
            items: prompts with equally many images, by position.
            places: number of positions read at the end of a prompt.
            reading: makes the result.
            looks: whether to keep a cache for looking ahead.
        """
        cached = looks and all(item.scored is None for item in items.values())
        return (self._read_cached if cached else self._read)(items, places, reading)

    def begin(self, items: Mapping[int, Rendered]) -> PrefilledPrompts | None:
        """Prefill prompts; None = `generate` returns no cache to continue from.

        Args:
            items: prompts with equally many images, by position.
        """
        inputs = self._inputs(list(items.values()))
        with (
            captured(self._model, self._head) as seen,
            seen_positions(self._model) as positions,
            self._decoding.prefilling() as config,
        ):
            output = self._model.generate(**inputs, generation_config=config)
        if not positions or getattr(output, self._forward.cache_name, None) is None:
            return None
        hidden, logits = seen.last(1)
        self._head.check(hidden[:, -1], logits[:, -1])
        return PrefilledPrompts(items, self._forward.branches(output, inputs, positions[0]), hidden, logits)

    def write(self, items: Sequence[Rendered], *, looks: bool) -> tuple[list[DecodedText], Branches | None]:
        """Decode texts with the model's own `generate`.

        Args:
            items: prompts with equally many images.
            looks: whether to keep a cache for looking ahead.

        Returns:
            The texts, and the cache of prompts and texts without their last column; None = no cache.
        """
        inputs = self._inputs(items)
        with captured(self._model, self._head) as seen, seen_positions(self._model) as positions:
            probe = GenerationProbe(self._head, seen, self._letter_tokens, [DecodingLog() for _ in items])
            output, written = self._decoding.generate(inputs, [item.prompt for item in items], probe)
        if not (looks and positions and getattr(output, self._forward.cache_name, None) is not None):
            return written, None
        return written, self._forward.branches(output, inputs, positions[0])

    def _read(self, items: Mapping[int, Rendered], places: int, reading: Reading[T]) -> dict[int, T]:
        keep = {"logits_to_keep": places} if self._keeps_logits else {}
        inputs = self._inputs(list(items.values()))
        for item, tokens in zip(items.values(), inputs["input_ids"].tolist(), strict=True):
            if item.scored is not None and not item.scored.stands_in(tokens):
                raise EncodingError("expected the text to end with the option's own tokens; the processor adds others")
        with captured(self._model, self._head) as seen:
            self._model(**inputs, **keep, use_cache=False, return_dict=True)
        hidden, logits = seen.last(places)
        self._head.check(hidden[:, -1], logits[:, -1])
        return reading(items, self._head.rows_at_once(hidden, logits), None)

    def _read_cached(self, items: Mapping[int, Rendered], places: int, reading: Reading[T]) -> dict[int, T]:
        """Read through `generate`, which prepares each architecture's prompt and returns a cache."""
        keep = {"logits_to_keep": places} if self._keeps_logits else {}
        inputs = self._inputs(list(items.values()))
        with (
            captured(self._model, self._head) as seen,
            seen_positions(self._model) as positions,
            self._decoding.prefilling() as config,
        ):
            output = self._model.generate(**inputs, **keep, generation_config=config)
        hidden, logits = seen.last(places)
        self._head.check(hidden[:, -1], logits[:, -1])
        reached = None
        if positions and getattr(output, self._forward.cache_name, None) is not None:
            branches = self._forward.branches(output, inputs, positions[0])
            reached = CachedPrompts(branches, torch.arange(len(items), device=self._model.device), kept=False)
        return reading(items, self._head.rows_at_once(hidden, logits), reached)

    def _inputs(self, batch: Sequence[Rendered]) -> dict[str, Any]:
        answers = ["" if item.scored is None else item.scored.answer for item in batch]
        encoded = self._encoder.encode([item.text for item in batch], [item.images for item in batch], answers)
        self.tokens += int(encoded["attention_mask"].sum())
        return self._encoder.to_device(encoded, self._model.device, self._model.dtype)
