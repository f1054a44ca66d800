"""The plain path: a padded batch of whole prompts through the model's own forward and `generate`.

It works for every architecture that Hugging Face's `generate` works for, and is what any faster path is compared with.
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from .branches import Branches, Forward, Reached, seen_positions
from .encoding import Encoder, EncodingError, Rendered
from .generation import Decoding, Written
from .probe import GenerationProbe, Head, Log, captured

__all__ = ["Begun", "PlainEngine", "Reading", "T"]

T = TypeVar("T")
# What is made of `(R, places, …)` rows that `Head.logits` takes, and of where their prompts stand in a cache, if any.
Reading = Callable[[Tensor, Reached | None], T]


@dataclass(frozen=True, slots=True)
class Begun:
    """Prompts that have gone through the model, and whose texts are to be decoded.

    Attributes:
        items: the prompts.
        branches: the cache that holds them, a row each.
        hidden: `(B, 1, D)`, what the LM head was given last.
        logits: `(B, 1, V)`, what the model made of it.
    """

    items: tuple[Rendered, ...]
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
    """

    def __init__(self, model: Any, encoder: Encoder, head: Head, decoding: Decoding, letter_tokens: Tensor) -> None:
        self._model = model
        self._encoder = encoder
        self._head = head
        self._decoding = decoding
        self._letter_tokens = letter_tokens
        self._keeps_logits = "logits_to_keep" in inspect.signature(model.forward).parameters
        self._forward = Forward(model)

    def read(self, items: Sequence[Rendered], places: int, reading: Reading[T], *, looks: bool) -> T:
        """Read the letters, or the texts, of prompts.

        Args:
            items: prompts with equally many images.
            places: how many positions at the end of a prompt are read.
            reading: what is made of them.
            looks: whether a cache is left for looking at what would follow.
        """
        cached = looks and all(item.scored is None for item in items)
        return (self._read_cached if cached else self._read)(items, places, reading)

    def begin(self, items: Sequence[Rendered]) -> Begun | None:
        """Run prompts through the model; None where `generate` leaves no cache to go on from.

        Args:
            items: prompts with equally many images.
        """
        inputs = self._inputs(items)
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
        return Begun(tuple(items), self._forward.branches(output, inputs, positions[0]), hidden, logits)

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

    def _read(self, batch: Sequence[Rendered], places: int, reading: Reading[T]) -> T:
        keep = {"logits_to_keep": places} if self._keeps_logits else {}
        inputs = self._inputs(batch)
        for item, tokens in zip(batch, inputs["input_ids"].tolist(), strict=True):
            if item.scored is not None and not item.scored.stands_in(tokens):
                raise EncodingError("expected the text to end with the option's own tokens; the processor adds others")
        with captured(self._model, self._head) as seen:
            self._model(**inputs, **keep, use_cache=False, return_dict=True)
        hidden, logits = seen.last(places)
        self._head.check(hidden[:, -1], logits[:, -1])
        return reading(self._head.rows_at_once(hidden, logits), None)

    def _read_cached(self, batch: Sequence[Rendered], places: int, reading: Reading[T]) -> T:
        """Read through `generate`, which knows how each architecture wants its prompt, and leaves a cache."""
        keep = {"logits_to_keep": places} if self._keeps_logits else {}
        inputs = self._inputs(batch)
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
            reached = Reached(branches, torch.arange(len(batch), device=self._model.device), kept=False)
        return reading(self._head.rows_at_once(hidden, logits), reached)

    def _inputs(self, batch: Sequence[Rendered]) -> dict[str, Any]:
        answers = ["" if item.scored is None else item.scored.answer for item in batch]
        encoded = self._encoder.encode([item.text for item in batch], [item.images for item in batch], answers)
        return self._encoder.to_device(encoded, self._model.device, self._model.dtype)
