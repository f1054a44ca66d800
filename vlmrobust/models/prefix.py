"""Compute the common prefix of a sample's prompts once.

The conditions of a sample begin alike: the system turn, the image, often the question. This *prefix* runs through the
model once per sample; its cache is then branched, once per condition, and the rest of the prompts (the *suffixes*) runs
as a batch. Suffixes that begin alike share that beginning (a *stem*) likewise.

Sharing: prompts of one sample with the same images, all of which are in the common prefix
(`batch_planning.families`); after it, those for which a stem is worth its own pass (`batch_planning.Packing`).
Branching: by the cache's own `reorder_cache`, which every kind of cache layer has.
Positions: read from the prefix's forward pass and counted on from there, so that no rotary scheme needs to be known.
Batching: suffixes of similar lengths, padded on the right if the cache allows gaps (`caches.allows_gaps`); otherwise,
as with states of linear attention and convolutions, or full sliding windows, suffixes of one length. Each continues
from a copy of the cache after prefix and stem; the rows are combined for decoding (`continuous_batching`).
Fallback to the plain path: a prompt that shares nothing; a model whose logits differ from the plain path's on the first
batch (prefix-LMs such as PaliGemma), or whose cache has unknown layers (`caches`).
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from .batch_planning import Family, Packing, Segment, pass_cost
from .caches import Branches, CachedPrompts, allows_gaps, unknown
from .encoding import Rendered
from .plain_engine import ModelRunner, PlainEngine, PrefilledPrompts, Reading, T, last_rows

__all__ = ["SharedEngine"]


class SharedEngine:
    """Reads families of prompts, and prefills those whose texts are to be decoded.

    Args:
        runner: runs the model.
        plain: the plain path, for comparison.

    Attributes:
        tokens: number of tokens of the prompts answered so far.
        saved: those of them not computed, since they are in another prompt's prefix or stem.
    """

    def __init__(self, runner: ModelRunner, plain: PlainEngine) -> None:
        self.tokens = self.saved = 0
        self._runner = runner
        self._plain = plain

    def answer(
        self, batch: Sequence[Family], places: int, reading: Reading[T], *, joins: bool = False
    ) -> tuple[dict[int, T], list[PrefilledPrompts]]:
        """Read the letters of some prompts, and prefill the others.

        Args:
            batch: families.
            places: number of positions read at the end of a prompt.
            reading: makes the result of the prompts that are read.
            joins: whether rows of several caches can be combined.

        Returns:
            By position, the results of `reading`; and the other prompts, whose texts can be decoded.
        """
        read: dict[int, T] = {}
        prefilled: list[PrefilledPrompts] = []
        items = {pair[0]: pair[1] for family in batch for pair in zip(family.positions, family.items, strict=True)}
        prefixes = self._prefill(batch)
        packing = self._packing(batch, prefixes.mask.shape[1], joins=joins)
        suffixes = [dict(zip(family.positions, family.suffixes, strict=True)) for family in batch]
        # Passes of one token per row are left to decoding, since some caches treat them differently.
        segments = packing.segments(suffixes, max(2, places))
        rows = [row for row, some in enumerate(segments) for _ in some]
        behind = [segment for some in segments for segment in some]
        self.saved += sum(segment.saved for segment in behind)
        for ends, branches in self._ends(packing, behind, rows, prefixes):
            some, others = self._answered(ends, items, branches, places, reading)
            read |= some
            prefilled += others
        return read, prefilled

    def _packing(self, batch: Sequence[Family], width: int, *, joins: bool) -> Packing:
        """Return what may run together after prefixes of some width in columns."""
        items = [item for family in batch for item in family.items]
        writes = any(item.forced is None for item in items)
        nothing_follows = all(item.scored is not None for item in items)
        new = self._runner.decoding.config.max_new_tokens if writes else 0
        longest = width + max(len(suffix) for family in batch for suffix in family.suffixes) + new
        config = self._runner.config
        gaps = allows_gaps(config, longest)

        def fits(rows: int, columns: int) -> bool:
            total = width + columns + new
            return rows * total <= len(items) * longest and (not gaps or allows_gaps(config, total))

        # Texts whose caches cannot be combined are decoded one pass after another.
        cost = pass_cost(self._runner.device.type) if joins or not writes else sys.maxsize
        return Packing(gaps, gaps or nothing_follows, fits, cost)

    def _ends(
        self, packing: Packing, segments: Sequence[Segment], rows: Sequence[int], branches: Branches
    ) -> Iterator[tuple[list[Segment], Branches]]:
        """Run stems through the model, and yield the ends of prompts with their branches, one row each.

        Each segment follows one of `rows` of the branches, which are consumed.
        """
        passes = packing.passes(segments)
        for number, places in enumerate(passes):
            chosen = torch.tensor([rows[place] for place in places], device=self._runner.device)
            own = branches.selected(chosen, kept=number + 1 < len(passes))
            together = [segments[place] for place in places]
            if not together[0].segments:
                yield together, own
                continue
            self._appended(together, own, 1)
            following = [(row, segment) for row, stem in enumerate(together) for segment in stem.segments]
            yield from self._ends(packing, [segment for _, segment in following], [row for row, _ in following], own)

    def _answered(
        self,
        ends: Sequence[Segment],
        items: Mapping[int, Rendered],
        branches: Branches,
        places: int,
        reading: Reading[T],
    ) -> tuple[Mapping[int, T], list[PrefilledPrompts]]:
        """Run the ends of prompts through the model; their branches are consumed."""
        items = {segment.prompt: items[segment.prompt] for segment in ends}
        reads = torch.tensor([item.forced is not None for item in items.values()], device=self._runner.device)
        hidden, logits = self._appended(ends, branches, places)
        self._runner.head.check(hidden[:, -1], logits[:, -1])
        read: Mapping[int, T] = {}
        if reads.any():
            rows = self._runner.head.rows_at_once(hidden, logits)[reads]
            forced = {position: item for position, item in items.items() if item.forced is not None}
            read = reading(forced, rows, CachedPrompts(branches, reads.nonzero()[:, 0], kept=not reads.all()))
        if reads.all():
            return read, []
        writes = (~reads).nonzero()[:, 0]
        if read:
            branches.select(writes)
        prefilled = {position: item for position, item in items.items() if item.forced is None}
        return read, [PrefilledPrompts(prefilled, branches, hidden[writes][:, -1:], logits[writes][:, -1:])]

    def _appended(self, segments: Sequence[Segment], branches: Branches, places: int) -> tuple[Tensor, Tensor]:
        """Append segments to branches, one row each; return the LM head's inputs and the logits at their ends."""
        width = max(len(segment.tokens) for segment in segments)
        pad = self._runner.decoding.config.pad_token_id
        tokens = torch.tensor([[*segment.tokens, *[pad] * (width - len(segment.tokens))] for segment in segments])
        lengths = torch.tensor([[len(segment.tokens)] for segment in segments])
        mask, wanted = (torch.arange(width) < lengths).long(), lengths + torch.arange(-places, 0)
        device = self._runner.device
        return self._runner.append(
            branches, tokens.to(device), mask.to(device), places=places, wanted=wanted.to(device)
        )

    def refusal(self, family: Family) -> str | None:
        """Return why this model cannot share prefixes; None = it can. A family is read both ways and compared."""
        few = family.part(0, 4)
        few = replace(few, items=tuple(replace(item, forced=item.forced or "") for item in few.items))
        items = dict(zip(few.positions, few.items, strict=True))

        def shared() -> Tensor:
            rows, _ = self.answer([few], 1, last_rows)
            return torch.cat([rows[position] for position in items])

        expected = torch.cat(list(self._plain.read(items, 1, last_rows, looks=False).values()))
        return self._runner.difference(
            shared, expected, "its letter log-probabilities differ by {:.2g} from the plain path's"
        )

    def _prefill(self, batch: Sequence[Family]) -> Branches:
        """Run the prefixes through the model; return a cache with one row per sample."""
        runner, firsts = self._runner, [family.items[0] for family in batch]
        encoded = runner.encoder.encode([item.text for item in firsts], [item.images for item in firsts])
        inputs = _cut_suffixes(
            encoded, [len(family.suffixes[0]) for family in batch], self._runner.decoding.config.pad_token_id
        )
        for family, prefix in zip(batch, inputs["attention_mask"].sum(1).tolist(), strict=True):
            self.tokens += sum(prefix + len(suffix) for suffix in family.suffixes)
            self.saved += prefix * (len(family.items) - 1)
        _, _, branches = runner.prefill(runner.encoder.to_device(inputs, runner.device, runner.model.dtype))
        if branches is None:
            raise NotImplementedError("its `generate` returns no cache to continue from")
        if kind := unknown(branches.cache):
            raise NotImplementedError(f"it is unknown how a cache's {kind} treats tokens after a prompt")
        return branches


def _cut_suffixes(encoded: Mapping[str, Any], lengths: Sequence[int], pad: int) -> dict[str, Any]:
    """Remove each row's last tokens and pad on the left again, also inputs with a value per token."""
    mask = encoded["attention_mask"]
    kept = mask.sum(1) - torch.tensor(lengths)
    width = int(kept.max())
    source = mask.shape[1] - torch.tensor(lengths)[:, None] - width + torch.arange(width)
    holds = torch.arange(width) >= width - kept[:, None]
    rows = torch.arange(len(mask))[:, None]
    cut = dict(encoded)
    for name, value in encoded.items():
        if isinstance(value, Tensor) and value.shape[:2] == mask.shape:
            taken = value[rows, source.clamp(min=0)]
            taken[~holds] = pad if name == "input_ids" else 0
            cut[name] = taken
    return cut
