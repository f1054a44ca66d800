"""Branch, rewind, combine and extend caches with one row per prompt.

transformers' caches can repeat and drop rows (`reorder_cache`), but not take rows in. The content of a row is known for
the layers named here: keys and values have a column per token, of which a sliding window keeps the last; states of
convolutions and of linear attention have none. A cache with any other layer takes no rows in, and is not branched: its
treatment of tokens may depend on whether they belong to a prompt.

Layers that keep all of their keys and values, and nothing else, are replaced by ones that grow in place (`growing`).
"""

import copy
import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

__all__ = [
    "Branches",
    "CachedPrompts",
    "Forward",
    "Rows",
    "allows_gaps",
    "bound",
    "growing",
    "joined",
    "joined_rows",
    "seen_positions",
    "selected",
    "unknown",
]


# By attribute, (dimension of the rows, dimension of the tokens).
_PER_TOKEN = {"keys": (0, 2), "values": (0, 2), "indexer_keys": (0, 1), "indexer_position_ids": (1, 2)}
_PER_ROW = ("conv_states", "recurrent_states")
_KNOWN = frozenset(
    (
        "DummyLayer",
        "DynamicIndexedLayer",
        "DynamicLayer",
        "DynamicSlidingWindowLayer",
        "GrowingLayer",
        "LinearAttentionAndFullAttentionLayer",
        "LinearAttentionAndSlidingWindowAttentionLayer",
        "LinearAttentionLayer",
    )
)


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of a cache, with the columns to keep.

    Attributes:
        cache: the cache.
        width: number of columns it has processed, padding included.
        columns: `(B, W)`, the cache column of each new column; -1 = padding.
    """

    cache: Any
    width: int
    columns: Tensor


def joined_rows(parts: Sequence[Rows]) -> Any | None:
    """Return a cache with all rows, in order; None if one of the caches cannot provide them.

    The caches are emptied layer by layer, so that no row is held twice.

    Args:
        parts: all with the same number of new columns.
    """
    layers: list[list[Any]] = [getattr(part.cache, "layers", []) for part in parts]
    if not layers[0] or any(len(found) != len(layers[0]) for found in layers):
        return None
    if not all(_gives(layer, part) for found, part in zip(layers, parts, strict=True) for layer in found):
        return None
    cache = copy.copy(parts[0].cache)
    cache.layers = []
    for index in range(len(layers[0])):
        cache.layers.append(_joined_layer([found[index] for found in layers], parts))
        for found in layers:
            found[index] = None
    return cache


def growing(cache: Any) -> Any:
    """Replace the layers of a cache that can grow in place, and return the cache."""
    from transformers.cache_utils import DynamicLayer

    from .growing_cache import GrowingLayer

    layers = getattr(cache, "layers", None) or []
    for index, layer in enumerate(layers):
        if type(layer) is DynamicLayer and layer.is_initialized:
            layers[index] = GrowingLayer(layer)
    return cache


def bound(cache: Any, columns: int) -> None:
    """Set the maximum number of columns of a cache, so that growing layers allocate no more."""
    for layer in getattr(cache, "layers", None) or []:
        if hasattr(layer, "most"):
            layer.most = columns


def unknown(cache: Any) -> str | None:
    """Return the kind of a cache's first unknown layer; None = all are known."""
    layers = getattr(cache, "layers", None) or [cache]
    return next((type(layer).__name__ for layer in layers if not _is_known(layer)), None)


def selected(cache: Any, rows: Tensor) -> Any:
    """Return a new cache with some rows of another, or with copies of them."""
    if getattr(cache, "layers", None) is None:
        cache = copy.deepcopy(cache)
    else:
        layers, cache = cache.layers, copy.copy(cache)
        # What an unknown layer changes in place is not known.
        cache.layers = [_shallow(layer) if _is_known(layer) else copy.deepcopy(layer) for layer in layers]
    cache.reorder_cache(rows)
    return cache


def _shallow(layer: Any) -> Any:
    """Return a copy of a layer that may be changed: `reorder_cache` copies states that are written in place."""
    made = copy.copy(layer)
    for name, value in vars(layer).items():
        if isinstance(value, dict):
            setattr(made, name, dict(value))
    return made


def _is_known(layer: Any) -> bool:
    ours = type(layer).__module__.startswith(("transformers.", f"{__package__}."))
    return ours and type(layer).__name__ in _KNOWN


def _gives(layer: Any, part: Rows) -> bool:
    if not _is_known(layer):
        return False
    held = _held(layer)
    if held is None:
        return True
    if not getattr(layer, "is_sliding", False):
        return held == part.width
    # Columns outside the window are gone.
    wanted = part.columns[:, max(0, part.columns.shape[1] - layer.sliding_window + 1) :]
    lost = (wanted >= 0) & (wanted < part.width - held)
    return bool(layer.get_seq_length() == part.width) and not bool(lost.any())


def _held(layer: Any) -> int | None:
    """Return the number of columns of a layer; None = it has none."""
    keys = getattr(layer, "keys", None)
    return keys.shape[2] if isinstance(keys, Tensor) and keys.ndim == 4 else None


def _joined_layer(same: Sequence[Any], parts: Sequence[Rows]) -> Any:
    made = _shallow(same[0])
    width = parts[0].columns.shape[1]
    for name, (row_axis, axis) in _PER_TOKEN.items():
        if isinstance(getattr(made, name, None), Tensor) and getattr(made, name).ndim > axis:
            taken = [_tokens(layer, part, name, axis) for layer, part in zip(same, parts, strict=True)]
            setattr(made, name, torch.cat(taken, dim=row_axis))
    for name in _PER_ROW:
        states = getattr(made, name, None)
        for index, state in (states or {}).items():
            if state is not None:
                states[index] = torch.cat([getattr(layer, name)[index] for layer in same])  # type: ignore[index]
    if getattr(made, "is_sliding", False):
        made.cumulative_length, made.record_past = width, False
    return made


def _tokens(layer: Any, part: Rows, name: str, axis: int) -> Tensor:
    """Return a layer's values of the rows' tokens, in their new columns."""
    held = getattr(layer, name)
    columns = part.columns
    if getattr(layer, "is_sliding", False):
        columns = columns[:, max(0, columns.shape[1] - layer.sliding_window + 1) :]
    columns = (columns - (part.width - held.shape[axis])).clamp(min=0)
    rows = torch.arange(len(columns), device=columns.device)[:, None]
    if axis == 1:
        return held[rows, columns]  # type: ignore[no-any-return]
    if name == "indexer_position_ids":
        return held[:, rows, columns]  # type: ignore[no-any-return]
    return held.transpose(1, 2)[rows, columns].transpose(1, 2)  # type: ignore[no-any-return]


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

    def selected(self, rows: Tensor, *, kept: bool = True) -> "Branches":
        """Return some rows, or copies of them: with their own cache if these branches are kept, else these branches."""
        if not kept:
            self.select(rows)
            return self
        chosen = replace(self, cache=selected(self.cache, rows))
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
        # The sort is stable: padding first, then the tokens in order.
        columns = part.mask.argsort(dim=1, stable=True)[:, -width:]
        mask = part.mask.gather(1, columns)
        columns = columns.masked_fill(mask == 0, -1)
        missing = (width - columns.shape[1], 0)
        masks.append(torch.nn.functional.pad(mask, missing))
        rows.append(Rows(part.cache, part.mask.shape[1], torch.nn.functional.pad(columns, missing, value=-1)))
    cache = joined_rows(rows)
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
        branches = self.branches.selected(self.rows[prompts], kept=kept or self.kept)
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

    def branches(self, output: Any, inputs: Mapping[str, Any], positions: Sequence[Tensor | None]) -> Branches | None:
        """Return the cache from `generate`, without the last generated token; None = it is not known, or there is none.

        Args:
            output: the result of `generate`.
            inputs: its inputs.
            positions: what `seen_positions` recorded of it.
        """
        cache = getattr(output, self.cache_name, None)
        if cache is None or not positions:
            return None
        [ids] = positions
        mask = inputs["attention_mask"]
        fed = output.sequences.shape[1] - mask.shape[1] - 1  # the last token did not run through the model
        if ids is None:  # language models then count the columns of their cache, padding included
            last = mask.new_full((len(mask), 1), mask.shape[1] + fed - 1)
        else:
            last = ids[..., -1:]
            last = last.expand(*last.shape[:-2], len(mask), 1)
        cross = inputs.get("cross_attention_mask")
        if cross is not None and fed:
            cross = torch.cat([cross, cross[:, -1:].expand(-1, fed, -1, -1)], dim=1)
        return Branches(growing(cache), torch.cat([mask, mask.new_ones(len(mask), fed)], dim=1), last, cross)


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
