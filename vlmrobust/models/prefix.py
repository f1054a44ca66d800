"""Many conditions for the price of one: what the prompts of a sample share is computed once.

The conditions of a sample have their beginning in common: the system turn, the image, often the question. This
beginning (the *prefix*) goes through the model once per sample; its cache is then branched, once per condition, and
what differs (the *suffixes*) runs as a batch.

What shares: prompts of one sample with the same images, all of which stand in the common prefix (`families`).
What branches: the cache, by its own `reorder_cache`, which every kind of cache layer has.
Positions: read off the prefix's own forward pass and counted on from there, so that no rotary scheme is known by name.
What goes together: suffixes of similar lengths, padded on the right, where the cache can hold that padding
(`bears_gaps`); elsewhere, as with states of linear attention and convolutions, or sliding windows that are full, those
of one length. Each goes on from a copy of the cache as the prefix left it; their rows are put side by side to be
decoded (`rolling`).
What falls back to the plain path: a prompt that shares nothing; a model whose logits differ from the plain path's on
the first batch (prefix-LMs such as PaliGemma), or whose cache has layers of a kind that is not known (`caches`).
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from .branches import Branches, Forward, Reached, bears_gaps, seen_positions
from .caches import unknown
from .encoding import Encoder
from .generation import Decoding
from .plain import Begun, PlainEngine, Reading, T, last_rows
from .probe import Head, captured
from .processing import FAULTS
from .rendered import Rendered
from .running import tolerance

__all__ = ["FAULTS", "Family", "SharedEngine", "families", "packed"]

# What a pass costs beside its tokens, in tokens: all weights are read, and all kernels are started.
_PASS = 256


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
        spared: those of them that did not go through the model, since they stand in another prompt's prefix.
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
        prefixes = self._prefill(batch)
        groups = self._groups(batch, prefixes, joins=joins)
        for number, group in enumerate(groups):
            rows = torch.tensor([branch.prefix for branch in group], device=self._model.device)
            if number + 1 < len(groups):
                branches = prefixes.selected(rows)
            else:
                (branches := prefixes).select(rows)
            some, others = self._answered(group, branches, places, reading)
            read |= some
            begun += others
        return read, begun

    def _groups(self, batch: Sequence[Family], prefixes: Branches, *, joins: bool) -> "list[list[_Branch]]":
        """Return the prompts that may go on from their prefixes together."""
        rows = [
            _Branch(number, *row)
            for number, family in enumerate(batch)
            for row in zip(family.positions, family.items, family.suffixes, strict=True)
        ]
        writes = any(row.item.forced is None for row in rows)
        new = self._decoding.config.max_new_tokens if writes else 0
        longest = prefixes.mask.shape[1] + max(len(row.suffix) for row in rows) + new
        nothing_follows = all(row.item.scored is not None for row in rows)
        by_length: dict[int, list[_Branch]] = defaultdict(list)
        for row in rows:
            by_length[len(row.suffix)].append(row)
        if not (nothing_follows or bears_gaps(self._model.config.get_text_config(), longest)):
            return list(by_length.values())
        if writes and not joins:
            return [rows]
        together = packed({length: len(some) for length, some in by_length.items()})
        return [[row for length in lengths for row in by_length[length]] for lengths in together]

    def _answered(
        self, group: "Sequence[_Branch]", branches: Branches, places: int, reading: Reading[T]
    ) -> tuple[Mapping[int, T], list[Begun]]:
        """Run suffixes through the model, each behind its prefix; the branches are used up."""
        reads = torch.tensor([row.item.forced is not None for row in group], device=self._model.device)
        tokens, mask = self._padded([row.suffix for row in group])
        wanted = mask.sum(1, keepdim=True) + torch.arange(-places, 0, device=mask.device)
        with captured(self._model, self._head, wanted) as seen:
            self._forward(branches, tokens, mask)
        hidden, logits = seen.last(places)
        self._head.check(hidden[:, -1], logits[:, -1])
        read: Mapping[int, T] = {}
        if reads.any():
            rows = self._head.rows_at_once(hidden, logits)[reads]
            items = {row.position: row.item for row in group if row.item.forced is not None}
            read = reading(items, rows, Reached(branches, reads.nonzero()[:, 0], kept=not reads.all()))
        if reads.all():
            return read, []
        writes = (~reads).nonzero()[:, 0]
        if read:
            branches.select(writes)
        begun = {row.position: row.item for row in group if row.item.forced is None}
        return read, [Begun(begun, branches, hidden[writes][:, -1:], logits[writes][:, -1:])]

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

    def _padded(self, suffixes: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Return suffixes as `(B, L)` tokens, padded on the right, and their mask."""
        width = max(map(len, suffixes))
        pad = self._decoding.config.pad_token_id
        tokens = torch.tensor([[*suffix, *[pad] * (width - len(suffix))] for suffix in suffixes])
        lengths = torch.tensor([len(suffix) for suffix in suffixes])
        mask = (torch.arange(width) < lengths[:, None]).long()
        return tokens.to(self._model.device), mask.to(self._model.device)


def packed(rows: Mapping[int, int]) -> list[list[int]]:
    """Return which lengths go through the model in one pass, padded to the longest, so that all passes cost least.

    Args:
        rows: how many rows there are of each length.

    Example:
        >>> packed({50: 10, 52: 10, 90: 20})
        [[50, 52], [90]]
    """
    lengths = sorted(rows)
    # By how many of the lengths have been packed: the least cost, and how many were before the last pass.
    best: list[tuple[int, int]] = [(0, 0)]
    for end in range(1, len(lengths) + 1):
        count, found = 0, []
        for start in range(end - 1, -1, -1):
            count += rows[lengths[start]]
            found.append((best[start][0] + count * lengths[end - 1] + _PASS, start))
        best.append(min(found))
    passes: list[list[int]] = []
    end = len(lengths)
    while end:
        start = best[end][1]
        passes.insert(0, lengths[start:end])
        end = start
    return passes


@dataclass(frozen=True, slots=True)
class _Branch:
    """A prompt that goes on from its prefix: which one that is, where the prompt stood among all, and its suffix."""

    prefix: int
    position: int
    item: Rendered
    suffix: tuple[int, ...]


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
