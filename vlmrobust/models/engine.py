"""Rendered prompts through the model in batches: planned by length, what they share computed once."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from ..types import Response
from .ahead import LookAhead
from .branches import Reached, bears_gaps
from .encoding import Encoder, EncodingError, Rendered
from .generation import Decoding, Written
from .plain import PlainEngine
from .planning import Batch, plan
from .precision import Independence, is_half
from .prefix import Family, SharedEngine, families
from .probe import Head
from .reading import TextReader
from .running import tolerance
from .self_check import SelfCheck
from .vocabulary import LetterVocabulary, Members, letter_logprobs

__all__ = ["Engine", "Outcome"]

logger = logging.getLogger(__name__)

Outcome = Response | list[float]


class _Reader(Protocol):
    """What is read at the end of a prompt: a letter after it, or its own last tokens."""

    @property
    def places(self) -> int:
        """How many positions at the end of the prompt are looked at."""

    @property
    def used(self) -> int:
        """Of how many of them, from the first on, logits are needed."""

    def read(self, logits: Tensor) -> Members | list[float]:
        """Return what is made of these `(used, V)` float32 logits: of letters, what may be written as one."""


class Engine:
    """Reads and writes prompts, in batches of as many tokens as are allowed.

    Args:
        model: a Hugging Face model.
        encoder: renders and encodes its prompts.
        head: its LM head.
        decoding: how texts are decoded.
        vocabulary: which tokens read as which letter.
        batch_size, batch_tokens, share_prefixes: see `HFModel`.
    """

    def __init__(
        self,
        model: Any,
        encoder: Encoder,
        head: Head,
        decoding: Decoding,
        vocabulary: LetterVocabulary,
        *,
        batch_size: int | None,
        batch_tokens: int,
        share_prefixes: bool,
    ) -> None:
        self.encoder = encoder
        self._model = model
        self._head = head
        self._decoding = decoding
        self._vocabulary = vocabulary
        self._batch_size = batch_size
        self._batch_tokens = batch_tokens
        self._shares = None if share_prefixes else False
        self._alone = False
        self._ahead = LookAhead(model, encoder, head, decoding, vocabulary)
        self._independence: Independence | None = Independence(model, head, decoding, self._ahead)
        self._texts = TextReader(encoder.tokenizer, vocabulary, head, self._ahead)
        letter_tokens = vocabulary.reads_as_letter(head.vocabulary_size()).to(model.device)
        self._plain = PlainEngine(model, encoder, head, decoding, letter_tokens)
        self._shared = SharedEngine(model, encoder, head, decoding, letter_tokens)

    @property
    def tolerance(self) -> float:
        """How far log-probabilities (nats) may differ that have to be the same."""
        return tolerance(self._model)

    def check(self) -> None:
        """Try the model on a few prompts; where batches change what it says, prompts go through it one by one.

        Raises:
            UnfitError: the model cannot be asked, or would be read wrongly.
        """
        check = SelfCheck(self._model, self.encoder, self._head, self._decoding, self._vocabulary, self._plain)
        if reason := check.run():
            self._alone = True
            logger.warning("%s takes prompts one by one: %s", type(self._model).__name__, reason)

    def run(self, items: Mapping[int, Rendered], *, rows_per_prompt: int = 1) -> dict[int, Outcome]:
        """Read what is forced, decode the others; halve the batches when memory runs out.

        Args:
            items: prompts by position.
            rows_per_prompt: how many of them count as one towards the batch size.

        Returns:
            By position: for a prompt that is read, what its reader made of it (the log-probabilities of all 26
            letters, say); for one that is decoded, or that its processor refused, the response.
        """
        outcomes: dict[int, Outcome] = {}
        batches = self._plan(items, rows_per_prompt)
        while batches:
            batch = batches.pop(0)
            try:
                found = self._answer(batch.families)
            except EncodingError as error:
                if batch.rows > 1:  # so that the one at fault fails alone
                    batches[:0] = batch.singly()
                    continue
                prompt = batch.families[0].items[0].prompt
                where = f"sample {prompt.sample.id!r}, condition {prompt.condition!r}"
                found = [Response.failed(prompt, f"{where}: {error}")]
            except (torch.OutOfMemoryError, RuntimeError) as error:
                if batch.rows == 1 or not _is_out_of_memory(error):
                    raise
                self._batch_tokens = batch.tokens // 2
                logger.warning(
                    "out of memory with %d prompts in a batch; going on with %d tokens in one, not %d",
                    batch.rows,
                    self._batch_tokens,
                    batch.tokens,
                )
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()
                left = {place: item for place, item in items.items() if place not in outcomes}
                batches = self._plan(left, rows_per_prompt)
                continue
            positions = [position for family in batch.families for position in family.positions]
            outcomes |= zip(positions, found, strict=True)
        return outcomes

    def _reader(self, item: Rendered) -> _Reader:
        return item.scored or self._vocabulary.forced_prefix(item.text)

    def _plan(self, items: Mapping[int, Rendered], rows_per_prompt: int) -> list[Batch]:
        """Group prompts into families, and families into batches."""
        tokens = {position: self.encoder.tokens(item.text) for position, item in items.items()}
        readers = [self._reader(item) for item in items.values() if item.forced is not None]
        max_rows = 1 if self._alone else None if self._batch_size is None else self._batch_size * rows_per_prompt

        def length(family: Family) -> int:
            new = 0 if all(item.forced is not None for item in family.items) else self._decoding.config.max_new_tokens
            images = self.encoder.image_length(family.items[0].images)
            return family.prefix + max(map(len, family.suffixes)) + images + new

        alone = families(items, tokens, shares=False)
        is_apart = any(item.scored is not None and item.scored.answer for item in items.values())
        if (
            self._alone
            or self._shares is False
            or not self._decoding.is_plain_greedy
            or not self.encoder.image_tokens
            or is_apart
        ):
            return plan(alone, length, max_tokens=self._batch_tokens, max_rows=max_rows)
        longest = max(map(length, alone), default=0)
        gaps = len(readers) == len(items) or bears_gaps(self._model.config.get_text_config(), longest)
        places = max((reader.places for reader in readers), default=1)
        shared = families(items, tokens, image_tokens=self.encoder.image_tokens, places=places, gaps=gaps)
        return plan(shared, length, max_tokens=self._batch_tokens, max_rows=max_rows, gaps=gaps)

    def _may_share(self, family: Family) -> bool:
        """Return whether a family's prefix is computed once; the first family decides for the model."""
        if not family.prefix:
            return False
        if self._shares is None:
            reason = self._shared.refusal(
                self._plain, family, lambda rows: letter_logprobs(self._head.logits(rows), self._vocabulary.families)
            )
            self._shares = reason is None
            if reason is not None:
                logger.warning("%s takes the plain path: %s", type(self._model).__name__, reason)
        return self._shares

    def _answer(self, batch: Sequence[Family]) -> list[Outcome]:
        """Answer a batch, in its order."""
        items = [item for family in batch for item in family.items]
        readers = [self._reader(item) for item in items if item.forced is not None]
        places = max((reader.places for reader in readers), default=1)
        reads = [item for item in items if item.forced is not None]

        def reading(rows: Tensor, reached: Reached | None) -> list[Outcome]:
            return self._read(reads, readers, rows, reached)

        if self._may_share(batch[0]):
            read, written = self._shared.answer(batch, places, reading)
        else:
            read, written = self._plain.answer(items, places, reading, looks=self._ahead.works is not False)
        writes = [item for item in items if item.forced is None]
        wrote = iter(self._texts.responses(writes, written))
        if written is not None and len(writes) > 1:
            self._measure(writes, written)
        found = iter(read or ())
        return [next(wrote) if item.forced is None else next(found) for item in items]

    def _measure(self, items: Sequence[Rendered], written: Written) -> None:
        """Say, once, how many texts of a batch depend on their neighbours, where half precision lets them."""
        if self._independence is None or not self._decoding.is_plain_greedy or not is_half(self._model):
            return
        measured, self._independence = self._independence.measured(items, written), None
        if measured is not None:
            logger.log(
                logging.WARNING if measured[0] else logging.INFO,
                "%s in half precision: %d of the first %d texts would be written otherwise by themselves than in their "
                "batch; in float32, or with batch_size=1, texts do not depend on their neighbours",
                type(self._model).__name__,
                *measured,
            )

    def _read(
        self, items: Sequence[Rendered], readers: Sequence[_Reader], rows: Tensor, reached: Reached | None
    ) -> list[Outcome]:
        """Return what is read off the last positions of prompts; letters are looked past where there is a cache."""
        used = [row[-reader.places :][: reader.used] for reader, row in zip(readers, rows, strict=True)]
        read = [reader.read(logits) for reader, logits in zip(readers, self._head.logits_of(used), strict=True)]
        members = {place: found for place, found in enumerate(read) if isinstance(found, Members)}
        letters = self._ahead.letters(members, items, reached)
        return [letters[place] if isinstance(found, Members) else found for place, found in enumerate(read)]


def _is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
