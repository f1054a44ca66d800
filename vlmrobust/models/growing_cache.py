"""Grow keys and values in place: new tokens are written into spare capacity, without copying the rest.

transformers' `DynamicLayer` copies all keys and values of all rows for every decoded token.

This module imports transformers; import it only where a cache already exists.
"""

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicLayer

__all__ = ["GrowingLayer"]


_SPARE = 32  # columns of spare capacity; everything is copied only once in so many steps


class GrowingLayer(DynamicLayer):
    """A `DynamicLayer` with spare capacity after its keys and values.

    `keys` and `values` are views of the capacity. Setting them, as `crop` does, leaves no spare capacity.

    Rows are also removed in place: only rows that move are copied. A shallow copy shares the capacity until either is
    changed.

    Args:
        layer: the layer to replace.

    Attributes:
        most: maximum number of columns, if known; limits the capacity.
    """

    def __init__(self, layer: Any) -> None:
        self.most: int | None = None
        self._rooms: dict[str, Tensor | None] = {}
        self._held: dict[str, int] = {}
        self._in_common: set[str] = set()
        for name, value in vars(layer).items():
            setattr(self, name, value)

    @property
    def keys(self) -> Tensor | None:
        """`(B, heads, T, D)`."""
        return self._get("keys")

    @keys.setter
    def keys(self, held: Tensor | None) -> None:
        self._set("keys", held)

    @property
    def values(self) -> Tensor | None:
        """`(B, heads, T, D)`."""
        return self._get("values")

    @values.setter
    def values(self, held: Tensor | None) -> None:
        self._set("values", held)

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Append `(B, heads, L, D)` keys and values, and return all of them."""
        fits = self._takes("keys", key_states) and self._takes("values", value_states)
        if not fits:  # empty, or a conversion is needed, which torch.cat does
            return super().update(key_states, value_states, *args, **kwargs)
        return self._append("keys", key_states), self._append("values", value_states)

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Keep or repeat some rows, with their capacity."""
        wanted = beam_idx.tolist()
        moved = [place for place, row in enumerate(wanted) if row != place]
        for name, room in self._rooms.items():
            if room is None or not self._held[name]:
                continue
            rows = beam_idx.to(room.device)
            if name in self._in_common or len(wanted) > len(room) or 2 * len(moved) > len(wanted):
                self._rooms[name] = room.index_select(0, rows)
                self._in_common.discard(name)
                continue
            if moved:
                places = torch.tensor(moved, device=room.device)
                held = room[:, :, : self._held[name]]
                held[places] = held[rows[places]]
            self._rooms[name] = room[: len(wanted)]

    def __copy__(self) -> "GrowingLayer":
        """Return a layer with the same content; the first of the two to change allocates its own capacity."""
        made = GrowingLayer.__new__(GrowingLayer)
        self._in_common = set(self._rooms)
        vars(made).update(vars(self))
        made._rooms, made._held, made._in_common = dict(self._rooms), dict(self._held), set(self._in_common)
        return made

    def _get(self, name: str) -> Tensor | None:
        room = self._rooms[name]
        return room if room is None or room.ndim < 4 else room[:, :, : self._held[name]]

    def _set(self, name: str, held: Tensor | None) -> None:
        self._rooms[name] = held
        self._held[name] = held.shape[2] if held is not None and held.ndim == 4 else 0
        self._in_common.add(name)  # shared with the caller

    def _takes(self, name: str, states: Tensor) -> bool:
        room = self._rooms[name]
        if room is None or room.ndim < 4 or (room.dtype, room.device) != (states.dtype, states.device):
            return False
        return room.shape[:2] == states.shape[:2] and room.shape[3] == states.shape[3]

    def _append(self, name: str, states: Tensor) -> Tensor:
        room, start = self._rooms[name], self._held[name]
        assert room is not None
        end = start + states.shape[2]
        if end > room.shape[2] or name in self._in_common:
            columns = max(end, min(end + _SPARE, self.most or end + _SPARE))
            wider = room.new_empty(*room.shape[:2], columns, room.shape[3])
            wider[:, :, :start] = room[:, :, :start]
            self._rooms[name] = room = wider
            self._in_common.discard(name)
        room[:, :, start:end] = states
        self._held[name] = end
        return room[:, :, :end]
