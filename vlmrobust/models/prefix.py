"""Many conditions for the price of one: what the prompts of a sample share is computed once.

The conditions of a sample have their beginning in common: the system turn, the image, often the question. This
beginning (the *prefix*) goes through the model once per sample; its cache is then branched, once per condition, and
what differs (the *suffixes*) runs as a batch.

What shares: prompts of one sample with the same images, all of which stand in the common prefix (`families`).
What branches: the cache, by its own `reorder_cache`, which every kind of cache layer has.
Positions: read off the prefix's own forward pass and counted on from there, so that no rotary scheme is known by name.
What falls back to the plain path: a prompt that shares nothing; a model whose logits differ from the plain path's on
the first batch (prefix-LMs such as PaliGemma). Where a cache cannot bear gaps (`bears_gaps`), only prompts of the same
length are decoded together.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from .branches import Branches, Forward, Reached, seen_positions
from .encoding import Encoder, Rendered
from .generation import Decoding
from .plain import Begun, PlainEngine, Reading, T
from .probe import Head, captured
from .processing import FAULTS
from .running import tolerance

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
    gaps: bool = True,
    shares: bool = True,
) -> list[Family]:
    """Group prompts by what they may share (`Rendered.kin`), and find what each group does.

    Args:
        items: prompts of any samples, by position.
        tokens: each prompt's tokens, image placeholders not yet expanded.
        image_tokens: the placeholders; a prefix that does not hold all of them is none.
        places: how many positions at the end of each prompt are read; all of them have to lie in the suffix.
        gaps: whether the model's cache bears gaps; else only prompts of the same length share.
        shares: False = every prompt by itself.

    Returns:
        The families in order of their first prompt; a prompt that shares nothing is a family of its own.
    """
    groups: dict[Any, list[int]] = defaultdict(list)
    for position, item in items.items():
        length = 0 if gaps else len(tokens[position])
        groups[item.kin, length].append(position)
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
    """

    def __init__(self, model: Any, encoder: Encoder, head: Head, decoding: Decoding) -> None:
        self._model = model
        self._encoder = encoder
        self._head = head
        self._decoding = decoding
        self._forward = Forward(model)

    def answer(self, batch: Sequence[Family], places: int, reading: Reading[T]) -> tuple[T | None, Begun | None]:
        """Read the letters of some prompts, and begin the texts of the others.

        Args:
            batch: families.
            places: how many positions at the end of a prompt are read.
            reading: what is made of the prompts that are read.

        Returns:
            What `reading` made of these, and the others, whose texts may be decoded; both in the order of the batch,
            None where there are none.
        """
        items = [item for family in batch for item in family.items]
        device = self._model.device
        reads = torch.tensor([item.forced is not None for item in items], device=device)
        branches = self._prefill(batch)
        tokens, mask = self._padded_suffixes(batch)
        wanted = mask.sum(1, keepdim=True) + torch.arange(-places, 0, device=device)
        with captured(self._model, self._head, wanted) as seen:
            self._forward(branches, tokens, mask)
        hidden, logits = seen.last(places)
        self._head.check(hidden[:, -1], logits[:, -1])
        read = None
        if reads.any():
            rows = self._head.rows_at_once(hidden, logits)[reads]
            read = reading(rows, Reached(branches, reads.nonzero()[:, 0], kept=not reads.all()))
        if reads.all():
            return read, None
        writes = (~reads).nonzero()[:, 0]
        if read is not None:
            branches.select(writes)
        begun = tuple(item for item in items if item.forced is None)
        return read, Begun(begun, branches, hidden[writes][:, -1:], logits[writes][:, -1:])

    def refusal(self, plain: PlainEngine, family: Family, letters: Callable[[Tensor], Tensor]) -> str | None:
        """Return why this model cannot share, None if it can: a family is read both ways, and has to come out the same.

        Args:
            plain: the engine that is compared with.
            family: the first one of a run.
            letters: what is made of the rows that were read, log-probabilities (nats).
        """
        few = family.part(0, 4)
        few = replace(few, items=tuple(replace(item, forced=item.forced or "") for item in few.items))
        expected = plain.read(few.items, 1, lambda rows, _: rows, looks=False)
        try:
            shared, _ = self.answer([few], 1, lambda rows, _: rows)
        except torch.OutOfMemoryError:
            raise
        except FAULTS as error:
            return f"{type(error).__name__}: {error}"
        assert shared is not None
        difference = float((letters(shared[:, 0]) - letters(expected[:, 0])).abs().nan_to_num(0.0).max())
        if difference <= tolerance(self._model):
            return None
        return f"its letter log-probabilities differ by {difference:.2g} from the plain path's"

    def _prefill(self, batch: Sequence[Family]) -> Branches:
        """Run the prefixes through the model, once per sample, and branch the cache."""
        firsts = [family.items[0] for family in batch]
        encoded = self._encoder.encode([item.text for item in firsts], [item.images for item in firsts])
        inputs = _cut_suffixes(
            encoded, [len(family.suffixes[0]) for family in batch], self._decoding.config.pad_token_id
        )
        inputs = self._encoder.to_device(inputs, self._model.device, self._model.dtype)
        # `generate` knows how each architecture wants its prompt: positions, masks, kind of cache.
        with seen_positions(self._model) as positions, self._decoding.prefilling() as config:
            output = self._model.generate(**inputs, generation_config=config)
        branches = self._forward.branches(output, inputs, positions[0])
        counts = torch.tensor([len(family.items) for family in batch])
        branches.select(torch.arange(len(batch)).repeat_interleave(counts).to(self._model.device))
        return branches

    def _padded_suffixes(self, batch: Sequence[Family]) -> tuple[Tensor, Tensor]:
        """Return all suffixes as `(B, L)` tokens, padded on the right, and their mask."""
        suffixes = [suffix for family in batch for suffix in family.suffixes]
        width = max(map(len, suffixes))
        pad = self._decoding.config.pad_token_id
        tokens = torch.tensor([[*suffix, *[pad] * (width - len(suffix))] for suffix in suffixes])
        lengths = torch.tensor([len(suffix) for suffix in suffixes])
        mask = (torch.arange(width) < lengths[:, None]).long()
        return tokens.to(self._model.device), mask.to(self._model.device)


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
