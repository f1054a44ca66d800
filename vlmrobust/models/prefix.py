"""Many conditions for the price of one: what the prompts of a sample share is computed once.

The conditions of a sample have their beginning in common: the system turn, the image, often the question. This
beginning (the *prefix*) goes through the model once per sample; its cache is then branched, once per condition, and
what differs (the *suffixes*) runs as a batch. Suffixes that begin alike share that beginning (a *stem*) likewise.

What shares: prompts of one sample with the same images, all of which stand in the common prefix (`families`); behind
it those for which a stem is worth a pass of its own (`packing`).
What branches: the cache, by its own `reorder_cache`, which every kind of cache layer has.
Positions: read off the prefix's own forward pass and counted on from there, so that no rotary scheme is known by name.
What goes together: suffixes of similar lengths, padded on the right, where the cache can hold that padding
(`bears_gaps`); elsewhere, as with states of linear attention and convolutions, or sliding windows that are full, those
of one length. Each goes on from a copy of the cache as prefix and stem left it; their rows are put side by side to be
decoded (`rolling`).
What falls back to the plain path: a prompt that shares nothing; a model whose logits differ from the plain path's on
the first batch (prefix-LMs such as PaliGemma), or whose cache has layers of a kind that is not known (`caches`).
"""

import sys
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from .branches import Branches, Forward, Reached, bears_gaps, seen_positions
from .caches import unknown
from .encoding import Encoder
from .generation import Decoding
from .packing import Packing, Twig, pass_cost
from .plain_engine import Begun, PlainEngine, Reading, T, last_rows
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
        positions: where they stood among all prompts.
        prefix: how many tokens they share, image placeholders not yet expanded; 0 = a prompt by itself.
        suffixes: the tokens that follow, for each prompt; none is empty.
    """

    items: tuple[Rendered, ...]
    positions: tuple[int, ...]
    prefix: int
    suffixes: tuple[tuple[int, ...], ...]

    def part(self, start: int, end: int) -> "Family":
        """Return some of the prompts as a family of their own."""
        return Family(self.items[start:end], self.positions[start:end], self.prefix, self.suffixes[start:end])


def families(
    items: Mapping[int, Rendered],
    tokens: Mapping[int, Sequence[int]],
    *,
    image_tokens: Collection[int] = (),
    places: int = 1,
    shares: bool = True,
) -> list[Family]:
    """Group prompts by what they may share (`Rendered.kin`), and find what each group does.

    Args:
        items: prompts of any samples, by position.
        tokens: each prompt's tokens, image placeholders not yet expanded.
        image_tokens: the placeholders; a prefix that does not hold all of them is none.
        places: how many positions at the end of each prompt are read; all of them have to lie in the suffix.
        shares: False = every prompt by itself.

    Returns:
        The families in order of their first prompt; a prompt that shares nothing is a family of its own.
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
    """Reads families of prompts, and begins their texts.

    Args:
        model: a Hugging Face model.
        encoder: renders and encodes its prompts.
        head: its LM head.
        decoding: how texts are decoded.
        plain: what is compared with.

    Attributes:
        tokens: how many tokens the prompts had that were answered so far.
        spared: those of them that did not go through the model, since they stand in another prompt's prefix or stem.
    """

    def __init__(self, model: Any, encoder: Encoder, head: Head, decoding: Decoding, plain: PlainEngine) -> None:
        self.tokens = self.spared = 0
        self._model = model
        self._encoder = encoder
        self._head = head
        self._decoding = decoding
        self._plain = plain
        self._forward = Forward(model)

    def answer(
        self, batch: Sequence[Family], places: int, reading: Reading[T], *, joins: bool = False
    ) -> tuple[dict[int, T], list[Begun]]:
        """Read the letters of some prompts, and begin the texts of the others.

        Args:
            batch: families.
            places: how many positions at the end of a prompt are read.
            reading: what is made of the prompts that are read.
            joins: whether the rows of several caches can be put into one.

        Returns:
            By position, what `reading` made of these; and the others, whose texts may be decoded.
        """
        read: dict[int, T] = {}
        begun: list[Begun] = []
        items = {pair[0]: pair[1] for family in batch for pair in zip(family.positions, family.items, strict=True)}
        prefixes = self._prefill(batch)
        packing = self._packing(batch, prefixes.mask.shape[1], joins=joins)
        suffixes = [dict(zip(family.positions, family.suffixes, strict=True)) for family in batch]
        # Passes of one token a row are left to decoding: some caches take those by another way.
        twigs = packing.twigs(suffixes, max(2, places))
        rows = [row for row, some in enumerate(twigs) for _ in some]
        behind = [twig for some in twigs for twig in some]
        self.spared += sum(twig.spared for twig in behind)
        for ends, branches in self._ends(packing, behind, rows, prefixes):
            some, others = self._answered(ends, items, branches, places, reading)
            read |= some
            begun += others
        return read, begun

    def _packing(self, batch: Sequence[Family], width: int, *, joins: bool) -> Packing:
        """Return what may go on together from prefixes that are so many columns wide."""
        items = [item for family in batch for item in family.items]
        writes = any(item.forced is None for item in items)
        nothing_follows = all(item.scored is not None for item in items)
        new = self._decoding.config.max_new_tokens if writes else 0
        longest = width + max(len(suffix) for family in batch for suffix in family.suffixes) + new
        config = self._model.config.get_text_config()
        gaps = bears_gaps(config, longest)

        def fits(rows: int, columns: int) -> bool:
            total = width + columns + new
            return rows * total <= len(items) * longest and (not gaps or bears_gaps(config, total))

        # Texts that cannot be put into one cache are decoded one pass after another.
        cost = pass_cost(self._model.device.type) if joins or not writes else sys.maxsize
        return Packing(gaps, gaps or nothing_follows, fits, cost)

    def _ends(
        self, packing: Packing, twigs: Sequence[Twig], rows: Sequence[int], branches: Branches
    ) -> Iterator[tuple[list[Twig], Branches]]:
        """Run stems through the model, and yield the ends of prompts with what they go on from, a row for each.

        Args:
            packing: says what goes together.
            twigs: what follows.
            rows: the row of the branches that each follows.
            branches: these; they are used up.
        """
        passes = packing.passes(twigs)
        for number, places in enumerate(passes):
            chosen = torch.tensor([rows[place] for place in places], device=self._model.device)
            if number + 1 < len(passes):
                own = branches.selected(chosen)
            else:
                (own := branches).select(chosen)
            together = [twigs[place] for place in places]
            if not together[0].twigs:
                yield together, own
                continue
            self._appended(together, own, 1)
            following = [(row, twig) for row, stem in enumerate(together) for twig in stem.twigs]
            yield from self._ends(packing, [twig for _, twig in following], [row for row, _ in following], own)

    def _answered(
        self,
        ends: Sequence[Twig],
        items: Mapping[int, Rendered],
        branches: Branches,
        places: int,
        reading: Reading[T],
    ) -> tuple[Mapping[int, T], list[Begun]]:
        """Run the ends of prompts through the model; the branches that they go on from are used up."""
        items = {twig.prompt: items[twig.prompt] for twig in ends}
        reads = torch.tensor([item.forced is not None for item in items.values()], device=self._model.device)
        hidden, logits = self._appended(ends, branches, places)
        self._head.check(hidden[:, -1], logits[:, -1])
        read: Mapping[int, T] = {}
        if reads.any():
            rows = self._head.rows_at_once(hidden, logits)[reads]
            forced = {position: item for position, item in items.items() if item.forced is not None}
            read = reading(forced, rows, Reached(branches, reads.nonzero()[:, 0], kept=not reads.all()))
        if reads.all():
            return read, []
        writes = (~reads).nonzero()[:, 0]
        if read:
            branches.select(writes)
        begun = {position: item for position, item in items.items() if item.forced is None}
        return read, [Begun(begun, branches, hidden[writes][:, -1:], logits[writes][:, -1:])]

    def _appended(self, twigs: Sequence[Twig], branches: Branches, places: int) -> tuple[Tensor, Tensor]:
        """Append twigs to branches, a row each; return what the LM head is given at their last places, and logits."""
        width = max(len(twig.tokens) for twig in twigs)
        pad = self._decoding.config.pad_token_id
        tokens = torch.tensor([[*twig.tokens, *[pad] * (width - len(twig.tokens))] for twig in twigs])
        lengths = torch.tensor([[len(twig.tokens)] for twig in twigs])
        mask, wanted = (torch.arange(width) < lengths).long(), lengths + torch.arange(-places, 0)
        device = self._model.device
        with captured(self._model, self._head, wanted.to(device)) as seen:
            self._forward(branches, tokens.to(device), mask.to(device))
        return seen.last(places)

    def refusal(self, family: Family, letters: Callable[[Tensor], Tensor]) -> str | None:
        """Return why this model cannot share, None if it can: a family is read both ways, and has to come out the same.

        Args:
            family: the first one of a run.
            letters: what is made of the rows that were read, log-probabilities (nats).
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
        """Run the prefixes through the model: a cache with one row per sample."""
        firsts = [family.items[0] for family in batch]
        encoded = self._encoder.encode([item.text for item in firsts], [item.images for item in firsts])
        inputs = _cut_suffixes(
            encoded, [len(family.suffixes[0]) for family in batch], self._decoding.config.pad_token_id
        )
        for family, prefix in zip(batch, inputs["attention_mask"].sum(1).tolist(), strict=True):
            self.tokens += sum(prefix + len(suffix) for suffix in family.suffixes)
            self.spared += prefix * (len(family.items) - 1)
        inputs = self._encoder.to_device(inputs, self._model.device, self._model.dtype)
        # `generate` knows how each architecture wants its prompt: positions, masks, kind of cache.
        with seen_positions(self._model) as positions, self._decoding.prefilling() as config:
            output = self._model.generate(**inputs, generation_config=config)
        branches = self._forward.branches(output, inputs, positions[0])
        if kind := unknown(branches.cache):
            raise NotImplementedError(f"what a cache's {kind} does with what follows a prompt is not known")
        return branches


def _cut_suffixes(encoded: Mapping[str, Any], lengths: Sequence[int], pad: int) -> dict[str, Any]:
    """Take each row's last tokens off, and pad on the left again; whatever has a value per token goes along."""
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
