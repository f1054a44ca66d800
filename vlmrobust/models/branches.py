"""Branch, rewind, combine and extend caches with one row per prompt."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from . import caches

__all__ = ["Branches", "CachedPrompts", "Forward", "allows_gaps", "joined", "seen_positions"]


def allows_gaps(config: Any, length: int) -> bool:
    """Return whether a cache may hold padding between tokens without an effect on later tokens.

    A mask hides padding from full attention. A sliding window counts it, once texts are longer than the window, and a
    recurrent or convolutional layer processes it.

    Args:
        config: the language model's config.
        length: maximum number of tokens of a cache row.
    """
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"]) - {"full_attention"}
    return not kinds or (kinds == {"sliding_attention"} and length <= (config.sliding_window or 0))


@dataclass(slots=True)
class Branches:
    """A cache with one row per prompt.

    Attributes:
        cache: the branched cache.
        mask: `(B, T)`, 1 where the cache holds a token of the row.
        position: `(…, B, 1)`, position ids of each row's last token, in the model's own layout.
        cross: Mllama's mask from text to image tiles, `(B, T, images, tiles)`; None elsewhere.
    """

    cache: Any
    mask: Tensor
    position: Tensor
    cross: Tensor | None

    def select(self, rows: Tensor) -> None:
        """Keep some rows, or repeat them; every kind of cache layer has `reorder_cache`."""
        self.cache.reorder_cache(rows)
        self._select_beside(rows)

    def selected(self, rows: Tensor) -> "Branches":
        """Return some rows, or copies of them, with their own cache."""
        chosen = replace(self, cache=caches.selected(self.cache, rows))
        chosen._select_beside(rows)
        return chosen

    def _select_beside(self, rows: Tensor) -> None:
        self.mask = self.mask.index_select(0, rows)
        self.position = self.position.index_select(-2, rows)
        self.cross = None if self.cross is None else self.cross.index_select(0, rows)

    def rewind(self, backs: Tensor) -> None:
        """Hide the last tokens of every row, so that appended tokens take their positions.

        Args:
            backs: `(B,)`, number of tokens to hide; if not 0, the cache must allow gaps (`allows_gaps`).
        """
        from_the_end = self.mask.flip(1).cumsum(1).flip(1)
        self.mask = self.mask * (from_the_end > backs[:, None])
        self.position = self.position - backs[:, None]


def joined(parts: Sequence[Branches]) -> Branches | None:
    """Return branches with all rows, in order, without padding between or after tokens; None = not supported by caches.

    Rows end together: padding is on the left, as wide as the longest row needs.
    """
    if any(part.cross is not None for part in parts) or len({part.position.shape[:-2] for part in parts}) > 1:
        return None
    width = max(int(part.mask.sum(1).max()) for part in parts)
    rows, masks = [], []
    for part in parts:
        held = part.mask.shape[1]
        # The sort is stable: padding first, then the tokens in order.
        columns = part.mask.argsort(dim=1, stable=True)[:, -width:]
        mask = part.mask.gather(1, columns)
        columns = columns.masked_fill(mask == 0, -1)
        missing = (width - columns.shape[1], 0)
        masks.append(torch.nn.functional.pad(mask, missing))
        everyone = torch.arange(len(mask), device=mask.device)
        rows.append(caches.Rows(part.cache, held, everyone, torch.nn.functional.pad(columns, missing, value=-1)))
    cache = caches.joined(rows)
    if cache is None:
        return None
    return Branches(cache, torch.cat(masks), torch.cat([part.position for part in parts], dim=-2), None)


@dataclass(frozen=True, slots=True)
class CachedPrompts:
    """The prompts of a batch in a cache.

    Attributes:
        branches: the cache.
        rows: `(N,)`, each prompt's row of it.
        kept: whether the cache is needed afterwards.
        beyond: number of tokens that it holds after each prompt, padding included.
    """

    branches: Branches
    rows: Tensor
    kept: bool
    beyond: int = 0

    def branched(self, prompts: Tensor, backs: Tensor, *, kept: bool) -> Branches:
        """Return branches with a row for each of some prompts, rewound; the cache is consumed unless `kept`."""
        rows = self.rows[prompts]
        if kept or self.kept:
            branches = self.branches.selected(rows)
        else:
            branches = self.branches
            branches.select(rows)
        branches.rewind(backs)
        return branches


class Forward:
    """Appends tokens to branches: one pass through the model.

    Args:
        model: a Hugging Face model.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._accepted = frozenset(inspect.signature(model.forward).parameters)
        self.cache_name = "cache" if "cache" in self._accepted else "past_key_values"  # transformers < 5.24

    def __call__(self, branches: Branches, tokens: Tensor, mask: Tensor, **arguments: Any) -> Any:
        """Append `(B, L)` tokens to the branches, padded on the right where `mask` is 0; return the model's output.

        Args:
            branches: the branches to extend.
            tokens: the tokens to append.
            mask: 1 where there is a token.
            **arguments: further arguments for the model.
        """
        branches.mask = torch.cat([branches.mask, mask], dim=1)
        position_ids = branches.position + mask.cumsum(1)
        branches.position = position_ids[..., -1:]
        further = {}
        if branches.cross is not None:
            added = branches.cross[:, -1:].expand(-1, tokens.shape[1], -1, -1)
            further["cross_attention_mask"] = branches.cross = torch.cat([branches.cross, added], dim=1)
            if "cache_position" in self._accepted:  # transformers 4 slices that mask by it
                total = branches.mask.shape[1]
                further["cache_position"] = torch.arange(total - tokens.shape[1], total, device=tokens.device)
        return self._model(
            input_ids=tokens,
            attention_mask=branches.mask,
            position_ids=position_ids,
            use_cache=True,
            return_dict=True,
            **{self.cache_name: branches.cache},
            **further,
            **arguments,
        )

    def branches(self, output: Any, inputs: Mapping[str, Any], positions: Tensor | None) -> Branches:
        """Return the cache from `generate`, without the last generated token.

        Args:
            output: the result of `generate`.
            inputs: its inputs.
            positions: the position ids of its last pass; None = the model got none.
        """
        mask = inputs["attention_mask"]
        fed = output.sequences.shape[1] - mask.shape[1] - 1  # the last token did not run through the model
        if positions is None:  # language models then count the columns of their cache, padding included
            last = mask.new_full((len(mask), 1), mask.shape[1] + fed - 1)
        else:
            last = positions[..., -1:]
            last = last.expand(*last.shape[:-2], len(mask), 1)
        cross = inputs.get("cross_attention_mask")
        if cross is not None and fed:
            cross = torch.cat([cross, cross[:, -1:].expand(-1, fed, -1, -1)], dim=1)
        cache = caches.growing(getattr(output, self.cache_name))
        return Branches(cache, torch.cat([mask, mask.new_ones(len(mask), fed)], dim=1), last, cross)


@contextmanager
def seen_positions(model: Any) -> Iterator[list[Tensor | None]]:
    """Record the language model's position ids in its last pass; None = it explicitly gets none.

    If nothing is recorded, they are unknown.
    """
    seen: list[Tensor | None] = []

    def note(module: Any, arguments: Any, keywords: Mapping[str, Any]) -> None:
        positions = keywords.get("position_ids", False)
        if positions is None or isinstance(positions, Tensor):
            seen[:] = [positions]

    handle = model.get_decoder().register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield seen
    finally:
        handle.remove()
