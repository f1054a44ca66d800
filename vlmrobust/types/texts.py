"""Texts that are held once, although a response has them three times: in its thought, its own thought and its text."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Self, overload

import numpy as np
from numpy.typing import NDArray

__all__ = ["Texts", "within_thoughts"]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Texts(Sequence[str]):
    """Texts as a tuple has them, each made when it is asked for: the end of a longer one between two short ones.

    Attributes:
        before: what each begins with.
        longer: the texts whose ends they hold.
        start: where each of these ends begins.
        after: what each ends with.

    Example:
        >>> said = Texts(("<think>",), ("I was told: red. It is red.",), np.array([17]), ("</think>",))
        >>> said[0], said == ("<think>It is red.</think>",)
        ('<think>It is red.</think>', True)
    """

    before: tuple[str, ...]
    longer: tuple[str, ...]
    start: NDArray[np.int32]
    after: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.longer)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[str, ...]: ...
    def __getitem__(self, index: int | slice) -> str | tuple[str, ...]:
        if isinstance(index, slice):
            return tuple(self.taken(range(*index.indices(len(self)))))
        return self.before[index] + self.longer[index][self.start[index] :] + self.after[index]

    def __iter__(self) -> Iterator[str]:
        rows = zip(self.before, self.longer, self.start.tolist(), self.after, strict=True)
        return (before + longer[start:] + after for before, longer, start, after in rows)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Texts | tuple):
            return NotImplemented
        return len(self) == len(other) and all(one == two for one, two in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]  # as what is equal to it may be hashed otherwise

    def __add__(self, other: Sequence[str]) -> tuple[str, ...]:
        return (*self, *other)

    def __radd__(self, other: Sequence[str]) -> tuple[str, ...]:
        return (*other, *self)

    def __repr__(self) -> str:
        return repr(tuple(self))

    def taken(self, rows: Sequence[int]) -> Self:
        """Return those at some positions, in that order."""
        columns = (tuple(map(column.__getitem__, rows)) for column in (self.before, self.longer, self.after))
        before, longer, after = columns
        return type(self)(before, longer, self.start[np.asarray(rows, dtype=np.int64)], after)

    @classmethod
    def joined(cls, parts: Sequence["Texts"]) -> Self:
        """Return those of all parts, in their order."""
        before, longer, after = (
            tuple(chain.from_iterable(getattr(part, name) for part in parts)) for name in ("before", "longer", "after")
        )
        return cls(before, longer, np.concatenate([part.start for part in parts]), after)


def within_thoughts(thoughts: tuple[str, ...], own: Sequence[str], texts: Sequence[str]) -> tuple[Texts, Texts]:
    """Return own thoughts and texts that hold no copy of what is in the thoughts.

    Args:
        thoughts: the whole ones.
        own: the part of each that the model wrote, which is its end; any other text is taken as it is.
        texts: what the model wrote, the own thought within.
    """
    known: dict[str, str] = {}
    starts = np.zeros(len(thoughts), np.int32)
    starts_within = np.zeros(len(thoughts), np.int32)
    before_own, before, after = [], [], []
    for row, (thought, part, text) in enumerate(zip(thoughts, own, texts, strict=True)):
        length = len(thought)
        is_end = thought.endswith(part)
        starts[row] = length - len(part) if is_end else length
        before_own.append("" if is_end else part)
        place = text.find(part) if part and is_end else -1
        starts_within[row] = length if place < 0 else length - len(part)
        begun, ended = (text, "") if place < 0 else (text[:place], text[place + len(part) :])
        before.append(known.setdefault(begun, begun))
        after.append(known.setdefault(ended, ended))
    nothing = ("",) * len(thoughts)
    return Texts(tuple(before_own), thoughts, starts, nothing), Texts(
        tuple(before), thoughts, starts_within, tuple(after)
    )
