"""The plain path: a padded batch of whole prompts through the model's own forward and `generate`.

It works for every architecture that Hugging Face's `generate` works for, and is what any faster path is compared with.
"""

import inspect
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from .encoding import Encoder, EncodingError, Rendered
from .generation import Decoding, Written
from .probe import GenerationProbe, Head, captured

__all__ = ["PlainEngine"]


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

    def answer(self, items: Sequence[Rendered], places: int) -> tuple[Tensor | None, Written | None]:
        """Read the letters of some prompts and decode a text for the others.

        Args:
            items: prompts with equally many images.
            places: how many positions at the end of a prompt are read.

        Returns:
            What `Head.logits` needs of the last `places` positions of each prompt that is read, `(R, places, …)`, and
            what was written for the others; both in the order of the prompts, None where there are none.
        """
        reads = [item for item in items if item.forced is not None]
        writes = [item for item in items if item.forced is None]
        return self._read(reads, places) if reads else None, self._write(writes) if writes else None

    def _read(self, batch: Sequence[Rendered], places: int) -> Tensor:
        keep = {"logits_to_keep": places} if self._keeps_logits else {}
        inputs = self._inputs(batch)
        for item, tokens in zip(batch, inputs["input_ids"].tolist(), strict=True):
            if item.scored is not None and not item.scored.stands_in(tokens):
                raise EncodingError("expected the text to end with the option's own tokens; the processor adds others")
        with captured(self._model, self._head) as seen:
            self._model(**inputs, **keep, use_cache=False, return_dict=True)
        hidden, logits = seen.last(places)
        self._head.check(hidden[:, -1], logits[:, -1])
        return self._head.rows_at_once(hidden, logits)

    def _write(self, batch: Sequence[Rendered]) -> Written:
        with captured(self._model, self._head) as seen:
            probe = GenerationProbe(self._head, seen, self._letter_tokens)
            return self._decoding.generate(self._inputs(batch), [item.prompt for item in batch], probe)

    def _inputs(self, batch: Sequence[Rendered]) -> dict[str, Any]:
        answers = ["" if item.scored is None else item.scored.answer for item in batch]
        encoded = self._encoder.encode([item.text for item in batch], [item.images for item in batch], answers)
        return self._encoder.to_device(encoded, self._model.device, self._model.dtype)
