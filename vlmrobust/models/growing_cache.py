"""Grow keys and values in place: a new token is written into spare room, and the rest is not copied.

transformers' `DynamicLayer` copies all keys and values of all rows for every token that is decoded.

This module imports transformers, and is itself imported by whoever has a cache already.
"""

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicLayer

__all__ = ["GrowingLayer"]


_SPARE = 32  # columns; so much room is made beside what is needed, and all is copied but once in so many steps


class GrowingLayer(DynamicLayer):
    """A `DynamicLayer` with room for further tokens behind its keys and values.

    `keys` and `values` are what it holds, views of the room. Whoever sets them, as `crop` does, leaves no room.

    Rows that leave do so in place too: those that move into their places are copied, and no others. A shallow copy has
    the room in common until either is changed.

    Args:
        layer: what it takes the place of.

    Attributes:
        most: how many columns the layer will ever hold, as far as that is known: there is no room for more.
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
        """Append `(B, heads, L, D)` keys and values, and return all."""
        fits = self._takes("keys", key_states) and self._takes("values", value_states)
        if not fits:  # nothing is held yet, or it has to be converted: that is left to torch.cat
            return super().update(key_states, value_states, *args, **kwargs)
        return self._append("keys", key_states), self._append("values", value_states)

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Keep some rows, or repeat them, with the room that they have."""
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
        """Return a layer that holds the same; whichever of the two is changed first makes a room of its own."""
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
        self._in_common.add(name)  # with whoever made it

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
