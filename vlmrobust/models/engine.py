"""Run rendered prompts through the model in batches, planned by length, with common prefixes computed once."""

import logging
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from ..types import Response
from .base import WorkCounts
from .batch_planning import Batch, Family, Queue, families, plan
from .caches import CachedPrompts
from .continuous_batching import ContinuousBatch, Stepping
from .encoding import EncodingError, Rendered, ScoredText
from .generation import DecodedText
from .letter_tokens import ForcedPrefix, Members
from .look_ahead import LookAhead
from .plain_engine import ModelRunner, PlainEngine, PrefilledPrompts
from .prefix import SharedEngine
from .probe import compute_dtypes
from .response_building import TextReader
from .self_check import SelfCheck, texts_changed_by_batch

__all__ = ["BatchEngine", "Outcome"]

logger = logging.getLogger(__name__)

Outcome = Response | list[float]


class BatchEngine:
    """Reads and decodes prompts in batches of limited size.

    Args:
        runner: runs the model.
        batch_size: see `HFModel`.
        batch_tokens: see `HFModel`.
        share_prefixes: see `HFModel`.

    Attributes:
        runner: as given.
        work: counts of work computed and saved so far; replace it to reset the counts.
    """

    def __init__(self, runner: ModelRunner, *, batch_size: int | None, batch_tokens: int, share_prefixes: bool) -> None:
        self.runner = runner
        self.work = WorkCounts()
        self._batch_size = batch_size
        self._batch_tokens = batch_tokens
        self._shares = None if share_prefixes else False
        self._alone = False
        self._ahead = LookAhead(runner)
        self._texts = TextReader(runner, self._ahead)
        self._plain = PlainEngine(runner)
        self._shared = SharedEngine(runner, self._plain)
        self._stepping = Stepping(runner, self._ahead)
        self._measured = False
        self._held = 0, 0

    def check(self) -> None:
        """Test the model on a few prompts; if batches change its results, prompts are run one by one.

        Raises:
            UnfitError: the model cannot answer, or would be read wrongly.
        """
        if reason := SelfCheck(self.runner, self._plain).run():
            self._alone = True
            logger.warning("%s takes prompts one by one: %s", type(self.runner.model).__name__, reason)

    def run(self, items: Mapping[int, Rendered], *, rows_per_prompt: int = 1) -> dict[int, Outcome]:
        """Read forced answers and decode the others; halve the batches when memory runs out.

        Args:
            items: prompts by position.
            rows_per_prompt: how many of them count as one for the batch size.

        Returns:
            By position: the reader's result for a prompt that is read (for letters, the log-probabilities of all 36
            marks); the response for one that is decoded or refused by its processor.
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
                    "out of memory with %d prompts in a batch; continuing with %d tokens per batch, not %d",
                    rows,
                    self._batch_tokens,
                    tokens,
                )
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()
                left = {place: item for place, item in items.items() if place not in outcomes}
                queues = self._plan(left, rows_per_prompt)
        return outcomes

    def _reader(self, item: Rendered) -> ScoredText | ForcedPrefix:
        return item.scored or self.runner.vocabulary.forced_prefix(item.text)

    def _plan(self, items: Mapping[int, Rendered], rows_per_prompt: int) -> list[Queue]:
        """Group prompts into families, and queue these."""
        encoder, decoding = self.runner.encoder, self.runner.decoding
        tokens = {position: encoder.tokens(item.text) for position, item in items.items()}
        readers = [self._reader(item) for item in items.values() if item.forced is not None]
        max_rows = 1 if self._alone else None if self._batch_size is None else self._batch_size * rows_per_prompt

        def length(family: Family) -> int:
            new = 0 if all(item.forced is not None for item in family.items) else decoding.config.max_new_tokens
            images = encoder.image_length(family.items[0].images)
            return family.prefix + max(map(len, family.suffixes)) + images + new

        shares = (
            not self._alone
            and self._shares is not False
            and decoding.is_token_by_token
            and bool(encoder.image_tokens)
            and not any(item.scored is not None and item.scored.answer for item in items.values())
        )
        places = max((reader.places for reader in readers), default=1)
        found = families(items, tokens, image_tokens=encoder.image_tokens, places=places, shares=shares)
        return plan(found, length, max_tokens=self._batch_tokens, max_rows=max_rows)

    def _may_share(self, family: Family) -> bool:
        """Return whether a family's prefix is computed once; decided for the model by the first family."""
        if not family.prefix:
            return False
        if self._shares is None:
            reason = self._shared.refusal(family)
            self._shares = reason is None
            if reason is not None:
                logger.warning("%s takes the plain path: %s", type(self.runner.model).__name__, reason)
        return self._shares

    def _answers(self, queue: Queue) -> Iterator[tuple[int, Outcome]]:
        """Answer the prompts of a queue, yielding position and outcome of each as soon as it is known."""
        running = ContinuousBatch(self.runner, self._texts, self._ahead, self._stepping)
        most = 0
        ended: list[tuple[Rendered, DecodedText]] = []
        while True:
            # Add prompts when a quarter of the rows is free: a few at a time cost less than one by one.
            while 4 * running.rows <= 3 * most and (batch := queue.take(running.rows, running.longest)):
                rows = running.rows + batch.rows
                self._held = rows, rows * max(running.longest, batch.longest)
                most = max(most, rows)
                yield from self._run_batch(batch, running)
            if not running.rows:
                break
            for position, pending in running.step():
                ended.append((pending.item, pending.written))
                yield position, self._texts.response(pending)
        self.work.row_steps += running.row_steps
        self.work.dropped_row_steps += running.dropped
        self.work.texts += running.ended
        self.work.refilled_texts += running.joined
        self._measure(ended)

    def _run_batch(self, batch: Batch, running: ContinuousBatch) -> Iterator[tuple[int, Outcome]]:
        """Run prompts through the model: yield the outcomes that are read, and queue the others for decoding."""
        try:
            found = self._begin(batch, running)
        except EncodingError as error:
            if batch.rows > 1:  # run prompts singly, so that only the faulty one fails
                for single in batch.singly():
                    yield from self._run_batch(single, running)
                return
            [family] = batch.families
            prompt = family.items[0].prompt
            where = f"sample {prompt.sample.id!r}, condition {prompt.condition!r}"
            yield family.positions[0], Response.failed(prompt, f"{where}: {error}")
        else:
            yield from found.items()

    def _begin(self, batch: Batch, running: ContinuousBatch) -> dict[int, Outcome]:
        placed = [pair for family in batch.families for pair in zip(family.positions, family.items, strict=True)]
        reads = {position: item for position, item in placed if item.forced is not None}
        writes = {position: item for position, item in placed if item.forced is None}
        places = max((self._reader(item).places for item in reads.values()), default=1)
        shares = self._may_share(batch.families[0])
        steps = not writes or self._stepping.fits(next(iter(writes.values())))
        # Comparisons are not counted.
        tokens, saved = self._plain.tokens + self._shared.tokens, self._shared.saved
        read: dict[int, Outcome] = {}
        prefilled: list[PrefilledPrompts] = []
        if shares and steps and (not writes or self._stepping.takes_uneven):
            read, prefilled = self._shared.answer(batch.families, places, self._read, joins=self._stepping.joins)
        else:
            looks = self._ahead.works is not False
            if reads:
                read = self._plain.read(reads, places, self._read, looks=looks)
            if writes and steps and (alone := self._plain.begin(writes)) is not None:
                prefilled = [alone]
            elif writes:
                read |= zip(writes, self._generated(list(writes.values()), looks=looks), strict=True)
        if prefilled:
            running.join(prefilled, batch.longest)
        self.work.prompt_tokens += self._plain.tokens + self._shared.tokens - tokens
        self.work.shared_tokens += self._shared.saved - saved
        return read

    def _generated(self, items: Sequence[Rendered], *, looks: bool) -> list[Outcome]:
        """Decode texts with the model's own `generate`, which runs a batch until its longest row ends."""
        texts, branches = self._plain.write(items, looks=looks)
        responses: list[Outcome] = [*self._texts.responses(items, texts, branches)]
        self.work.row_steps += len(texts) * (max(text.steps for text in texts) - 1)
        self.work.texts += len(texts)
        self._measure(list(zip(items, texts, strict=True)))
        return responses

    def _measure(self, ended: Sequence[tuple[Rendered, DecodedText]]) -> None:
        """Log once how many texts of a batch depend on the other prompts in it, in half precision."""
        decoding = self.runner.decoding
        if (
            self._measured
            or len(ended) < 2
            or decoding.options.get("do_sample")
            or not decoding.is_token_by_token
            or compute_dtypes(self.runner.model).isdisjoint((torch.bfloat16, torch.float16))
        ):
            return
        measured = texts_changed_by_batch(self.runner, ended)
        self._measured = True
        if measured is not None:
            logger.log(
                logging.WARNING if measured[0] else logging.INFO,
                "%s in half precision: %d of the first %d texts would differ if decoded alone instead of in their "
                "batch; in float32, or with batch_size=1, texts do not depend on other prompts",
                type(self.runner.model).__name__,
                *measured,
            )

    def _read(self, items: Mapping[int, Rendered], rows: Tensor, reached: CachedPrompts | None) -> dict[int, Outcome]:
        """Return what is read at the last positions of prompts; with a cache, letters are looked past."""
        readers = [self._reader(item) for item in items.values()]
        used = [row[-reader.places :][: reader.used] for reader, row in zip(readers, rows, strict=True)]
        read = [reader.read(logits) for reader, logits in zip(readers, self.runner.head.logits_of(used), strict=True)]
        members = {place: found for place, found in enumerate(read) if isinstance(found, Members)}
        letters = self._ahead.letters(self._ahead.begin(members, list(items.values())), reached)
        outcomes = [letters[place] if isinstance(found, Members) else found for place, found in enumerate(read)]
        return dict(zip(items, outcomes, strict=True))


def _is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
