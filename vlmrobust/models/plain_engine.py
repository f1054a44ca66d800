"""Run whole prompts in padded batches through the model's own forward, and compare other engines with that.

The plain path works for every architecture that Hugging Face's `generate` works for, and is what any faster path is
compared with.
"""

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from .branches import Branches, Forward, Reached, bears_gaps, joined, seen_positions
from .encoding import Encoder, EncodingError
from .generation import Decoding, Written
from .look_ahead import LookAhead
from .probe import GenerationProbe, Head, Log, captured
from .rendered import Rendered

__all__ = ["Begun", "PlainEngine", "Reading", "Stepping", "T", "last_rows"]


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


T = TypeVar("T")
# What is made, by position, of prompts, their `(R, places, …)` rows for `Head.logits`, and where they stand in a cache.
Reading = Callable[[Mapping[int, Rendered], Tensor, Reached | None], dict[int, T]]


def last_rows(items: Mapping[int, Rendered], rows: Tensor, reached: Reached | None) -> dict[int, Tensor]:
    """Make of what is read `(1, …)` for `Head.logits`: each prompt's last position."""
    return dict(zip(items, rows[:, -1:].unbind(), strict=True))


@dataclass(frozen=True, slots=True)
class Begun:
    """Prompts that have gone through the model, and whose texts are to be decoded.

    Attributes:
        items: by position, the prompts, in the order of their rows.
        branches: the cache that holds them, a row each.
        hidden: `(B, 1, D)`, what the LM head was given last.
        logits: `(B, 1, V)`, what the model made of it.
    """

    items: Mapping[int, Rendered]
    branches: Branches
    hidden: Tensor
    logits: Tensor


class PlainEngine:
    """Reads and writes padded batches.

    Args:
        model: a Hugging Face model.
        encoder: renders and encodes its prompts.
        head: its LM head.
        decoding: how texts are decoded.
        letter_tokens: `(V,)` bool, tokens that read as an option letter.

    Attributes:
        tokens: how many tokens the prompts had that went through the model so far, padding left out.
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
            places: how many positions at the end of a prompt are read.
            reading: what is made of them.
            looks: whether a cache is left for looking at what would follow.
        """
        cached = looks and all(item.scored is None for item in items.values())
        return (self._read_cached if cached else self._read)(items, places, reading)

    def begin(self, items: Mapping[int, Rendered]) -> Begun | None:
        """Run prompts through the model; None where `generate` leaves no cache to go on from.

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
        return Begun(items, self._forward.branches(output, inputs, positions[0]), hidden, logits)

    def write(self, items: Sequence[Rendered], *, looks: bool) -> tuple[list[Written], Branches | None]:
        """Decode texts with the model's own `generate`.

        Args:
            items: prompts with equally many images.
            looks: whether a cache is left for looking at what would follow.

        Returns:
            What was written, and the cache that holds prompts and texts but for their last column; None = none is left.
        """
        inputs = self._inputs(items)
        with captured(self._model, self._head) as seen, seen_positions(self._model) as positions:
            probe = GenerationProbe(self._head, seen, self._letter_tokens, [Log() for _ in items])
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
        """Read through `generate`, which knows how each architecture wants its prompt, and leaves a cache."""
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
            reached = Reached(branches, torch.arange(len(items), device=self._model.device), kept=False)
        return reading(items, self._head.rows_at_once(hidden, logits), reached)

    def _inputs(self, batch: Sequence[Rendered]) -> dict[str, Any]:
        answers = ["" if item.scored is None else item.scored.answer for item in batch]
        encoded = self._encoder.encode([item.text for item in batch], [item.images for item in batch], answers)
        self.tokens += int(encoded["attention_mask"].sum())
        return self._encoder.to_device(encoded, self._model.device, self._model.dtype)
