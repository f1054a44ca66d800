"""Plan which prompts run through the model together: by length, up to a number of tokens."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from .prefix import Family

__all__ = ["Batch", "Queue", "plan"]


@dataclass(frozen=True, slots=True)
class Batch:
    """Families that run through the model together.

    Attributes:
        families: with equally many images, and either all or none with a shared prefix.
        longest: maximum number of tokens of a row: prompt, new tokens and padding.
    """

    families: tuple[Family, ...]
    longest: int

    @property
    def rows(self) -> int:
        """The number of prompts."""
        return sum(len(family.items) for family in self.families)

    @property
    def tokens(self) -> int:
        """The number of tokens of the padded rows."""
        return self.rows * self.longest

    def singly(self) -> "list[Batch]":
        """Return a batch per prompt."""
        alone = [family.part(place, place + 1) for family in self.families for place in range(len(family.items))]
        return [Batch((family,), self.longest) for family in alone]


@dataclass(frozen=True, slots=True)
class Queue:
    """Families that may run together, longest first; each runs as soon as there is room.

    Attributes:
        waiting: the families, with the number of tokens of a row of each.
        max_tokens: tokens in the model at a time, padding included.
        max_rows: prompts at a time; None = as many as fit.
    """

    waiting: deque[tuple[int, Family]]
    max_tokens: int
    max_rows: int | None

    def take(self, rows: int = 0, longest: int = 0) -> Batch | None:
        """Return the next families that fit with the running rows; None = the next does not fit.

        Args:
            rows: number of running rows; if 0, one family is taken in any case.
            longest: number of tokens of the longest of them.
        """
        taken: list[Family] = []
        before = after = 0
        while self.waiting:
            tokens, family = self.waiting[0]
            more = rows + len(family.items)
            # Prefixes are padded to the longest, and so are suffixes, which may be another family's.
            suffix = max(map(len, family.suffixes)) if family.prefix else tokens
            wide = max(before, tokens - suffix), max(after, suffix)
            if rows and not _fits(more, max(longest, sum(wide)), self.max_tokens, self.max_rows):
                break
            taken.append(family)
            rows, (before, after) = more, wide
            self.waiting.popleft()
        return Batch(tuple(taken), before + after) if taken else None


def plan(
    families: Sequence[Family],
    length: Callable[[Family], int],
    *,
    max_tokens: int,
    max_rows: int | None = None,
) -> list[Queue]:
    """Queue families, longest first, with one queue per kind that may run together.

    The plan depends only on the families and the limits, so a resumed run is packed alike. A family that is too large
    is halved; a prompt that is too large runs alone.

    Args:
        families: the families to answer.
        length: number of tokens of a row of a family, prompt and new tokens.
        max_tokens: tokens in the model at a time, padding included.
        max_rows: prompts at a time; None = as many as fit.
    """
    fits = partial(_fits, max_tokens=max_tokens, max_rows=max_rows)
    kinds: dict[tuple[int, bool], list[tuple[int, Family]]] = {}
    for family in families:
        tokens = length(family)
        kind = (len(family.items[0].images), family.prefix > 0)
        kinds.setdefault(kind, []).extend((tokens, part) for part in _parts(family, partial(fits, longest=tokens)))
    return [
        Queue(deque(sorted(members, key=lambda member: (-member[0], member[1].positions))), max_tokens, max_rows)
        for members in kinds.values()
    ]


def _fits(rows: int, longest: int, max_tokens: int, max_rows: int | None) -> bool:
    return rows * longest <= max_tokens and (max_rows is None or rows <= max_rows)


def _parts(family: Family, fits: Callable[[int], bool]) -> list[Family]:
    count = len(family.items)
    if count == 1 or fits(count):
        return [family]
    half = count // 2
    return [part for piece in (family.part(0, half), family.part(half, count)) for part in _parts(piece, fits)]
