"""Combine rows of several caches into one, without the padding between tokens.

transformers' caches can repeat and drop rows (`reorder_cache`), but not take rows in. The content of a row is known for
the layers named here: keys and values have a column per token, of which a sliding window keeps the last; states of
convolutions and of linear attention have none. A cache with any other layer takes no rows in, and is not branched: its
treatment of tokens may depend on whether they belong to a prompt.

Layers that keep all of their keys and values, and nothing else, are replaced by ones that grow in place (`growing`).
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = ["Rows", "bound", "growing", "joined", "selected", "unknown"]

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
    """Some rows of a cache.

    Attributes:
        cache: the cache.
        width: number of columns it has processed, padding included.
        rows: `(N,)`, the selected rows.
        columns: `(N, W)`, the cache column of each new column; -1 = padding.
    """

    cache: Any
    width: int
    rows: Tensor
    columns: Tensor


def joined(parts: Sequence[Rows]) -> Any | None:
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
        cache.layers = [_shallow(layer) for layer in layers]
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
                taken = [
                    getattr(layer, name)[index].index_select(0, part.rows)
                    for layer, part in zip(same, parts, strict=True)
                ]
                states[index] = torch.cat(taken)  # type: ignore[index]
    if getattr(made, "is_sliding", False):
        made.cumulative_length, made.record_past = width, False
    return made


def _tokens(layer: Any, part: Rows, name: str, axis: int) -> Tensor:
    """Return a layer's values of some rows' tokens, in their new columns."""
    held = getattr(layer, name)
    columns = part.columns
    if getattr(layer, "is_sliding", False):
        columns = columns[:, max(0, columns.shape[1] - layer.sliding_window + 1) :]
    columns = (columns - (part.width - held.shape[axis])).clamp(min=0)
    if axis == 1:
        return held[part.rows[:, None], columns]  # type: ignore[no-any-return]
    if name == "indexer_position_ids":
        return held[:, part.rows[:, None], columns]  # type: ignore[no-any-return]
    return held.transpose(1, 2)[part.rows[:, None], columns].transpose(1, 2)  # type: ignore[no-any-return]
