"""Compute the common prefix of a sample's prompts once.

The conditions of a sample begin alike: the system turn, the image, often the question. This *prefix* runs through the
model once per sample; its cache is then branched, once per condition, and the rest of the prompts (the *suffixes*) runs
as a batch. Suffixes that begin alike share that beginning (a *stem*) likewise.

Sharing: prompts of one sample with the same images, all of which are in the common prefix (`families`); after it, those
for which a stem is worth its own pass (`packing`).
Branching: by the cache's own `reorder_cache`, which every kind of cache layer has.
Positions: read from the prefix's forward pass and counted on from there, so that no rotary scheme needs to be known.
Batching: suffixes of similar lengths, padded on the right if the cache allows gaps (`allows_gaps`); otherwise, as with
states of linear attention and convolutions, or full sliding windows, suffixes of one length. Each continues from a copy
of the cache after prefix and stem; the rows are combined for decoding (`continuous_batching`).
Fallback to the plain path: a prompt that shares nothing; a model whose logits differ from the plain path's on the first
batch (prefix-LMs such as PaliGemma), or whose cache has unknown layers (`caches`).
"""

import sys
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from .branches import Branches, CachedPrompts, Forward, allows_gaps, seen_positions
from .caches import unknown
from .encoding import Encoder
from .generation import Decoding
from .packing import Packing, Segment, pass_cost
from .plain_engine import PlainEngine, PrefilledPrompts, Reading, T, last_rows
from .probe import Head, captured
from .processing import FAULTS
from .rendered import Rendered
from .unwrapping import tolerance

__all__ = ["FAULTS", "Family", "SharedEngine", "families"]


@dataclass(frozen=True, slots=True)
class Family:
    """Prompts of one sample, or options of one prompt, that share a prefix.

    Attributes:
        items: the prompts.
        positions: their positions among all prompts.
        prefix: number of shared tokens, image placeholders not yet expanded; 0 = a single prompt.
        suffixes: the following tokens of each prompt, never empty.
    """

    items: tuple[Rendered, ...]
    positions: tuple[int, ...]
    prefix: int
    suffixes: tuple[tuple[int, ...], ...]

    def part(self, start: int, end: int) -> "Family":
        """Return a range of the prompts as a family."""
        return Family(self.items[start:end], self.positions[start:end], self.prefix, self.suffixes[start:end])


def families(
    items: Mapping[int, Rendered],
    tokens: Mapping[int, Sequence[int]],
    *,
    image_tokens: Collection[int] = (),
    places: int = 1,
    shares: bool = True,
) -> list[Family]:
    """Group prompts that may share a prefix (`Rendered.kin`), and find the prefix of each group.

    Args:
        items: prompts of any samples, by position.
        tokens: each prompt's tokens, image placeholders not yet expanded.
        image_tokens: the placeholders; a prefix must contain all of them.
        places: number of positions read at the end of each prompt, all of which must be in the suffix.
        shares: False = a family per prompt.

    Returns:
        The families in order of their first prompt; a prompt that shares nothing is its own family.
    """
    groups: dict[Any, list[int]] = defaultdict(list)
    for position, item in items.items():
        groups[item.kin].append(position)
    found = []
    for group in groups.values():
        rows = [tokens[position] for position in group]
        shared = _common_prefix(rows, min(map(len, rows)) - places)
        if (
            shares
            and len(group) > 1
            and shared > 0
            and not any(token in image_tokens for row in rows for token in row[shared:])
        ):
            found.append(_family(items, group, shared, rows))
        else:
            found += [_family(items, [position], 0, [row]) for position, row in zip(group, rows, strict=True)]
    return found


def _family(items: Mapping[int, Rendered], group: Sequence[int], shared: int, rows: Sequence[Sequence[int]]) -> Family:
    suffixes = tuple(tuple(row[shared:]) for row in rows)
    return Family(tuple(items[position] for position in group), tuple(group), shared, suffixes)


def _common_prefix(rows: Sequence[Sequence[int]], length: int) -> int:
    for row in rows[1:]:
        length = next((place for place in range(max(0, length)) if row[place] != rows[0][place]), length)
    return max(0, length)


class SharedEngine:
    """Reads families of prompts, and prefills those whose texts are to be decoded.

    Args:
        model: a Hugging Face model.
        encoder: renders and encodes its prompts.
        head: its LM head.
        decoding: how texts are decoded.
        plain: the plain path, for comparison.

    Attributes:
        tokens: number of tokens of the prompts answered so far.
        saved: those of them not computed, since they are in another prompt's prefix or stem.
    """

    def __init__(self, model: Any, encoder: Encoder, head: Head, decoding: Decoding, plain: PlainEngine) -> None:
        self.tokens = self.saved = 0
        self._model = model
        self._encoder = encoder
        self._head = head
        self._decoding = decoding
        self._plain = plain
        self._forward = Forward(model)

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
        new = self._decoding.config.max_new_tokens if writes else 0
        longest = width + max(len(suffix) for family in batch for suffix in family.suffixes) + new
        config = self._model.config.get_text_config()
        gaps = allows_gaps(config, longest)

        def fits(rows: int, columns: int) -> bool:
            total = width + columns + new
            return rows * total <= len(items) * longest and (not gaps or allows_gaps(config, total))

        # Texts whose caches cannot be combined are decoded one pass after another.
        cost = pass_cost(self._model.device.type) if joins or not writes else sys.maxsize
        return Packing(gaps, gaps or nothing_follows, fits, cost)

    def _ends(
        self, packing: Packing, segments: Sequence[Segment], rows: Sequence[int], branches: Branches
    ) -> Iterator[tuple[list[Segment], Branches]]:
        """Run stems through the model, and yield the ends of prompts with their branches, one row each.

        Args:
            packing: decides what runs together.
            segments: the segments that follow.
            rows: the row of the branches that each follows.
            branches: the branches; they are consumed.
        """
        passes = packing.passes(segments)
        for number, places in enumerate(passes):
            chosen = torch.tensor([rows[place] for place in places], device=self._model.device)
            if number + 1 < len(passes):
                own = branches.selected(chosen)
            else:
                (own := branches).select(chosen)
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
        reads = torch.tensor([item.forced is not None for item in items.values()], device=self._model.device)
        hidden, logits = self._appended(ends, branches, places)
        self._head.check(hidden[:, -1], logits[:, -1])
        read: Mapping[int, T] = {}
        if reads.any():
            rows = self._head.rows_at_once(hidden, logits)[reads]
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
        pad = self._decoding.config.pad_token_id
        tokens = torch.tensor([[*segment.tokens, *[pad] * (width - len(segment.tokens))] for segment in segments])
        lengths = torch.tensor([[len(segment.tokens)] for segment in segments])
        mask, wanted = (torch.arange(width) < lengths).long(), lengths + torch.arange(-places, 0)
        device = self._model.device
        with captured(self._model, self._head, wanted.to(device)) as seen:
            self._forward(branches, tokens.to(device), mask.to(device))
        return seen.last(places)

    def refusal(self, family: Family, letters: Callable[[Tensor], Tensor]) -> str | None:
        """Return why this model cannot share prefixes; None = it can. A family is read both ways and compared.

        Args:
            family: the first one of a run.
            letters: converts the rows that were read to log-probabilities (nats).
        """
        few = family.part(0, 4)
        few = replace(few, items=tuple(replace(item, forced=item.forced or "") for item in few.items))
        items = dict(zip(few.positions, few.items, strict=True))
        expected = self._plain.read(items, 1, last_rows, looks=False)
        try:
            shared, _ = self.answer([few], 1, last_rows)
        except torch.OutOfMemoryError:
            raise
        except FAULTS as error:
            return f"{type(error).__name__}: {error}"
        both = [torch.cat([rows[position] for position in items]) for rows in (shared, expected)]
        difference = float((letters(both[0]) - letters(both[1])).abs().nan_to_num(0.0).max())
        if difference <= tolerance(self._model):
            return None
        return f"its letter log-probabilities differ by {difference:.2g} from the plain path's"

    def _prefill(self, batch: Sequence[Family]) -> Branches:
        """Run the prefixes through the model; return a cache with one row per sample."""
        firsts = [family.items[0] for family in batch]
        encoded = self._encoder.encode([item.text for item in firsts], [item.images for item in firsts])
        inputs = _cut_suffixes(
            encoded, [len(family.suffixes[0]) for family in batch], self._decoding.config.pad_token_id
        )
        for family, prefix in zip(batch, inputs["attention_mask"].sum(1).tolist(), strict=True):
            self.tokens += sum(prefix + len(suffix) for suffix in family.suffixes)
            self.saved += prefix * (len(family.items) - 1)
        inputs = self._encoder.to_device(inputs, self._model.device, self._model.dtype)
        # `generate` prepares each architecture's prompt: positions, masks, kind of cache.
        with seen_positions(self._model) as positions, self._decoding.prefilling() as config:
            output = self._model.generate(**inputs, generation_config=config)
        branches = self._forward.branches(output, inputs, positions[0])
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
