"""Rendered prompts through the model in batches: planned by length, what they share computed once."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from ..types import Response
from .base import Work
from .branches import Reached
from .continuous_batching import Rolling
from .encoding import Encoder, EncodingError
from .generation import Decoding, Written
from .look_ahead import LookAhead
from .plain_engine import Begun, PlainEngine, Stepping
from .planning import Batch, Queue, plan
from .precision import Independence, is_half
from .prefix import Family, SharedEngine, families
from .probe import Head
from .reading import TextReader
from .rendered import Rendered
from .self_check import SelfCheck
from .unwrapping import tolerance
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
        batch_size: see `HFModel`.
        batch_tokens: see `HFModel`.
        share_prefixes: see `HFModel`.

    Attributes:
        work: what was computed so far, and what was not; whoever replaces it begins to count anew.
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
        self.work = Work()
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
        self._letter_tokens = vocabulary.reads_as_letter(head.vocabulary_size()).to(model.device)
        self._plain = PlainEngine(model, encoder, head, decoding, self._letter_tokens)
        self._shared = SharedEngine(model, encoder, head, decoding, self._plain)
        any_letter = int(self._letter_tokens.int().argmax())
        self._stepping = Stepping(model, decoding, self._ahead, any_letter)
        self._held = 0, 0

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
        queues = self._plan(items, rows_per_prompt)
        while queues:
            try:
                for position, outcome in self._answers(queues[0]):
                    outcomes[position] = outcome
                queues.pop(0)
            except (torch.OutOfMemoryError, RuntimeError) as error:
                rows, tokens = self._held
                if rows == 1 or not _is_out_of_memory(error):
                    raise
                self._batch_tokens = tokens // 2
                logger.warning(
                    "out of memory with %d prompts in a batch; going on with %d tokens in one, not %d",
                    rows,
                    self._batch_tokens,
                    tokens,
                )
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()
                left = {place: item for place, item in items.items() if place not in outcomes}
                queues = self._plan(left, rows_per_prompt)
        return outcomes

    def _reader(self, item: Rendered) -> _Reader:
        return item.scored or self._vocabulary.forced_prefix(item.text)

    def _plan(self, items: Mapping[int, Rendered], rows_per_prompt: int) -> list[Queue]:
        """Group prompts into families, and line these up."""
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
            or not self._decoding.is_token_by_token
            or not self.encoder.image_tokens
            or is_apart
        ):
            return plan(alone, length, max_tokens=self._batch_tokens, max_rows=max_rows)
        places = max((reader.places for reader in readers), default=1)
        shared = families(items, tokens, image_tokens=self.encoder.image_tokens, places=places)
        return plan(shared, length, max_tokens=self._batch_tokens, max_rows=max_rows)

    def _may_share(self, family: Family) -> bool:
        """Return whether a family's prefix is computed once; the first family decides for the model."""
        if not family.prefix:
            return False
        if self._shares is None:
            reason = self._shared.refusal(
                family, lambda rows: letter_logprobs(self._head.logits(rows), self._vocabulary.families)
            )
            self._shares = reason is None
            if reason is not None:
                logger.warning("%s takes the plain path: %s", type(self._model).__name__, reason)
        return self._shares

    def _answers(self, queue: Queue) -> Iterator[tuple[int, Outcome]]:
        """Answer the prompts of a queue, each as soon as it can be: position and outcome."""
        rolling = Rolling(
            self._model,
            self._head,
            self._decoding,
            self._letter_tokens,
            self._texts,
            self._ahead,
            self._stepping,
        )
        most = 0
        ended: list[tuple[Rendered, Written]] = []
        while True:
            # Prompts come in when a quarter of the places is free: a few at a time cost less than one by one.
            while 4 * rolling.rows <= 3 * most and (batch := queue.take(rolling.rows, rolling.longest)):
                rows = rolling.rows + batch.rows
                self._held = rows, rows * max(rolling.longest, batch.longest)
                most = max(most, rows)
                yield from self._begun(batch, rolling)
            if not rolling.rows:
                break
            for row in rolling.step():
                ended.append((row.draft.item, row.written))
                yield row.position, self._texts.response(row.draft)
        self._count(rolling)
        if len(ended) > 1:
            self._measure(ended)

    def _count(self, rolling: Rolling) -> None:
        self.work.row_steps += rolling.row_steps
        self.work.dropped_row_steps += rolling.dropped
        self.work.texts += rolling.ended
        self.work.refilled_texts += rolling.joined

    def _begun(self, batch: Batch, rolling: Rolling) -> Iterator[tuple[int, Outcome]]:
        """Run prompts through the model: yield what is read of them at once, and leave the others to be decoded."""
        try:
            found = self._begin(batch, rolling)
        except EncodingError as error:
            if batch.rows > 1:  # so that the one at fault fails alone
                for single in batch.singly():
                    yield from self._begun(single, rolling)
                return
            [family] = batch.families
            prompt = family.items[0].prompt
            where = f"sample {prompt.sample.id!r}, condition {prompt.condition!r}"
            yield family.positions[0], Response.failed(prompt, f"{where}: {error}")
        else:
            yield from found.items()

    def _begin(self, batch: Batch, rolling: Rolling) -> dict[int, Outcome]:
        placed = [pair for family in batch.families for pair in zip(family.positions, family.items, strict=True)]
        reads = {position: item for position, item in placed if item.forced is not None}
        writes = {position: item for position, item in placed if item.forced is None}
        places = max((self._reader(item).places for item in reads.values()), default=1)
        shares = self._may_share(batch.families[0])
        steps = not writes or self._stepping.fits(next(iter(writes.values())))
        # What was only compared is not counted.
        tokens, spared = self._plain.tokens + self._shared.tokens, self._shared.spared
        read: dict[int, Outcome] = {}
        begun: list[Begun] = []
        if shares and steps and (not writes or self._stepping.takes_uneven):
            read, begun = self._shared.answer(batch.families, places, self._read, joins=self._stepping.joins)
        else:
            looks = self._ahead.works is not False
            if reads:
                read = self._plain.read(reads, places, self._read, looks=looks)
            if writes and steps and (alone := self._plain.begin(writes)) is not None:
                begun = [alone]
            elif writes:
                read |= zip(writes, self._generated(list(writes.values()), looks=looks), strict=True)
        if begun:
            rolling.join(begun, batch.longest)
        self.work.prompt_tokens += self._plain.tokens + self._shared.tokens - tokens
        self.work.shared_tokens += self._shared.spared - spared
        return read

    def _generated(self, items: Sequence[Rendered], *, looks: bool) -> list[Outcome]:
        """Decode texts with the model's own `generate`, a batch until its longest row ends."""
        texts, branches = self._plain.write(items, looks=looks)
        responses: list[Outcome] = [*self._texts.responses(items, texts, branches)]
        self.work.row_steps += len(texts) * (max(text.steps for text in texts) - 1)
        self.work.texts += len(texts)
        if len(items) > 1:
            self._measure(list(zip(items, texts, strict=True)))
        return responses

    def _measure(self, ended: Sequence[tuple[Rendered, Written]]) -> None:
        """Say, once, how many texts of a batch depend on their neighbours, where half precision lets them."""
        if (
            self._independence is None
            or self._decoding.options.get("do_sample")
            or not self._decoding.is_token_by_token
            or not is_half(self._model)
        ):
            return
        items, texts = zip(*ended, strict=True)
        measured, self._independence = self._independence.measured(items, texts), None
        if measured is not None:
            logger.log(
                logging.WARNING if measured[0] else logging.INFO,
                "%s in half precision: %d of the first %d texts would be written otherwise by themselves than in their "
                "batch; in float32, or with batch_size=1, texts do not depend on their neighbours",
                type(self._model).__name__,
                *measured,
            )

    def _read(self, items: Mapping[int, Rendered], rows: Tensor, reached: Reached | None) -> dict[int, Outcome]:
        """Return what is read off the last positions of prompts; letters are looked past where there is a cache."""
        readers = [self._reader(item) for item in items.values()]
        used = [row[-reader.places :][: reader.used] for reader, row in zip(readers, rows, strict=True)]
        read = [reader.read(logits) for reader, logits in zip(readers, self._head.logits_of(used), strict=True)]
        members = {place: found for place, found in enumerate(read) if isinstance(found, Members)}
        letters = self._ahead.letters(self._ahead.begin(members, list(items.values())), reached)
        outcomes = [letters[place] if isinstance(found, Members) else found for place, found in enumerate(read)]
        return dict(zip(items, outcomes, strict=True))


def _is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
