"""Which prompts go through the model together: as many tokens at a time as are allowed, packed by length."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from .prefix import Family

__all__ = ["Batch", "plan"]


@dataclass(frozen=True, slots=True)
class Batch:
    """Families that go through the model together.

    Attributes:
        families: with equally many images, and all shared or none.
        tokens: what their padded rows take, prompts and new tokens together.
    """

    families: tuple[Family, ...]
    tokens: int

    @property
    def rows(self) -> int:
        """The number of prompts."""
        return sum(len(family.items) for family in self.families)

    def singly(self) -> "list[Batch]":
        """Return a batch for each prompt."""
        alone = [family.part(place, place + 1) for family in self.families for place in range(len(family.items))]
        return [Batch((family,), self.tokens // self.rows) for family in alone]


def plan(
    families: Sequence[Family],
    length: Callable[[Family], int],
    *,
    max_tokens: int,
    max_rows: int | None = None,
    gaps: bool = True,
) -> list[Batch]:
    """Pack families into batches, longest first.

    The plan depends on the families and the limits alone, so a run that is resumed packs alike. A family that is too
    large by itself is halved; a prompt that is too large by itself gets a batch of its own.

    Args:
        families: what has to be answered.
        length: how many tokens a row of a family takes, prompt and new tokens together.
        max_tokens: tokens in a batch, padding included.
        max_rows: prompts in a batch; None = as many as fit.
        gaps: whether rows of different suffix lengths may be decoded together, see `bears_gaps`.
    """

    def fits(rows: int, longest: int) -> bool:
        return rows * longest <= max_tokens and (max_rows is None or rows <= max_rows)

    kinds: dict[tuple[int, bool, int], list[tuple[int, Family]]] = {}
    for family in families:
        tokens = length(family)
        suffix = 0 if gaps or not family.prefix else len(family.suffixes[0])
        kind = (len(family.items[0].images), family.prefix > 0, suffix)
        kinds.setdefault(kind, []).extend((tokens, part) for part in _parts(family, partial(fits, longest=tokens)))
    batches = []
    for members in kinds.values():
        packed: list[Family] = []
        longest = rows = 0
        for tokens, family in sorted(members, key=lambda member: (-member[0], member[1].positions)):
            if packed and not fits(rows + len(family.items), longest):
                batches.append(Batch(tuple(packed), rows * longest))
                packed, longest, rows = [], 0, 0
            packed.append(family)
            longest = max(longest, tokens)
            rows += len(family.items)
        batches.append(Batch(tuple(packed), rows * longest))
    return batches


def _parts(family: Family, fits: Callable[[int], bool]) -> list[Family]:
    count = len(family.items)
    if count == 1 or fits(count):
        return [family]
    half = count // 2
    return [part for piece in (family.part(0, half), family.part(half, count)) for part in _parts(piece, fits)]
