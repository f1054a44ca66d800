"""Plan which prompts run through the model together, and which common beginnings run once.

Several suffixes of one prefix may begin alike: the same question, caption or partial thought. Such a beginning (a
*stem*) runs through the model once; the rest continues from a copy of its row.

    prefix ─┬─ stem ─┬─ suffix
            │        └─ suffix
            └─ suffix

A stem is worth its own pass, and a copy of its row, if it saves more tokens than these cost.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, groupby
from typing import Any

from .base import common_length
from .encoding import Rendered

__all__ = ["Batch", "Family", "Packing", "Queue", "Segment", "families", "packed", "pass_cost", "plan"]


@dataclass(frozen=True, slots=True)
class Family:
    """Prompts of one sample, or options of one prompt, that share a prefix.

    Attributes:
        items: the prompts.
        positions: their positions among all prompts.
        prefix: number of shared tokens, image placeholders not yet expanded; 0 = a single prompt.
        suffixes: the following tokens of each prompt, never empty.
    """

    items: tuple[Rendered, ...]
    positions: tuple[int, ...]
    prefix: int
    suffixes: tuple[tuple[int, ...], ...]

    def part(self, start: int, end: int) -> "Family":
        """Return a range of the prompts as a family."""
        return Family(self.items[start:end], self.positions[start:end], self.prefix, self.suffixes[start:end])


def families(
    items: Mapping[int, Rendered],
    tokens: Mapping[int, Sequence[int]],
    *,
    image_tokens: Collection[int] = (),
    places: int = 1,
    shares: bool = True,
) -> list[Family]:
    """Group prompts that may share a prefix (`Rendered.kin`), and find the prefix of each group.

    Args:
        items: prompts of any samples, by position.
        tokens: each prompt's tokens, image placeholders not yet expanded.
        image_tokens: the placeholders; a prefix must contain all of them.
        places: number of positions read at the end of each prompt, all of which must be in the suffix.
        shares: False = a family per prompt.

    Returns:
        The families in order of their first prompt; a prompt that shares nothing is its own family.
    """
    groups: dict[Any, list[int]] = defaultdict(list)
    for position, item in items.items():
        groups[item.kin].append(position)
    found = []
    for group in groups.values():
        rows = [tokens[position] for position in group]
        shared = min(common_length(rows[0], row) for row in rows)
        shared = min(shared, min(map(len, rows)) - places)
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


# Minimum number of tokens that a stem must save; all of these are tried.
_LEAST = (8, 64)


@dataclass(frozen=True, slots=True)
class Segment:
    """Tokens that run through the model in one row.

    Attributes:
        tokens: the tokens, never empty.
        prompt: the prompt that ends with them; -1 = a stem.
        segments: the segments after a stem.
    """

    tokens: tuple[int, ...]
    prompt: int = -1
    segments: tuple["Segment", ...] = ()

    @property
    def prompts(self) -> int:
        """The number of prompts with these tokens."""
        return sum(segment.prompts for segment in self.segments) or 1

    @property
    def saved(self) -> int:
        """The number of tokens saved by the stem."""
        return (self.prompts - 1) * len(self.tokens) + sum(segment.saved for segment in self.segments)


@dataclass(frozen=True, slots=True)
class Packing:
    """What may run through the model together.

    Attributes:
        stems_padded: whether stems of different lengths may, padded on the right.
        ends_padded: whether ends of prompts may.
        fits: whether a number of rows of some columns fit, without those of the prefix.
        pass_cost: the cost of a pass in addition to its tokens, in tokens.
    """

    stems_padded: bool
    ends_padded: bool
    fits: Callable[[int, int], bool]
    pass_cost: int

    def segments(self, suffixes: Sequence[Mapping[int, Sequence[int]]], places: int) -> list[list[Segment]]:
        """Return the segments after each of some prefixes: with the stems that save most, or without stems.

        Args:
            suffixes: per prefix, by prompt, the following tokens.
            places: number of positions read at the end of a prompt; none of them is in a stem.
        """
        without = [[Segment(tuple(tokens), prompt) for prompt, tokens in some.items()] for some in suffixes]
        stemmed = [[_stemmed(some, places, least) for some in suffixes] for least in _LEAST]
        return min([without, *stemmed], key=lambda one: self._cost([*chain(*one)], 0, bounded=one is not without))

    def passes(self, segments: Sequence[Segment]) -> list[list[int]]:
        """Return the indices of the segments that run in each pass, stems first."""
        found = []
        for is_end, padded in ((False, self.stems_padded), (True, self.ends_padded)):
            by_length: dict[int, list[int]] = defaultdict(list)
            for place, segment in enumerate(segments):
                if (not segment.segments) is is_end:
                    by_length[len(segment.tokens)].append(place)
            rows = {length: len(places) for length, places in by_length.items()}
            together = packed(rows, self.pass_cost) if padded else [[length] for length in rows]
            found += [[place for length in lengths for place in by_length[length]] for lengths in together]
        return found

    def _cost(self, segments: Sequence[Segment], columns: int, *, bounded: bool) -> float:
        """Return the cost in tokens of segments after some columns; infinity if a pass does not fit."""
        total = 0.0
        for places in self.passes(segments):
            width = max(len(segments[place].tokens) for place in places)
            if bounded and not self.fits(len(places), columns + width):
                return float("inf")
            following = [segment for place in places for segment in segments[place].segments]
            total += self.pass_cost + len(places) * width + self._cost(following, columns + width, bounded=bounded)
        return total


def _stemmed(suffixes: Mapping[int, Sequence[int]], places: int, least: int) -> list[Segment]:
    """Return the segments after one prefix, with every stem that saves more tokens than `least`."""
    heads = sorted((tuple(tokens[: max(0, len(tokens) - places)]), prompt) for prompt, tokens in suffixes.items())
    return _behind(heads, 0, suffixes, least)


def _behind(
    heads: Sequence[tuple[tuple[int, ...], int]], start: int, suffixes: Mapping[int, Sequence[int]], least: int
) -> list[Segment]:
    """Return the segments after the first `start` tokens, which sorted heads have in common."""
    found: list[Segment] = []
    for following, group in groupby(heads, key=lambda head: head[0][start : start + 1]):
        alike = list(group)
        if len(alike) == 1 or not following:
            found += [Segment(tuple(suffixes[prompt][start:]), prompt) for _, prompt in alike]
            continue
        first, last = alike[0][0], alike[-1][0]
        end = common_length(first, last)
        common, below = first[start:end], _behind(alike, end, suffixes, least)
        if len(common) * (len(below) - 1) > least:
            found.append(Segment(common, segments=tuple(below)))
        else:
            found += [Segment(common + segment.tokens, segment.prompt, segment.segments) for segment in below]
    return found


def pass_cost(kind: str) -> int:
    """Return the cost of a pass in addition to its tokens, in tokens: reading all weights and launching all kernels.

    Args:
        kind: the device's kind; the page on performance has the measurements on CPUs.
    """
    return 48 if kind == "cpu" else 256


def packed(rows: Mapping[int, int], pass_cost: int) -> list[list[int]]:
    """Return the lengths that run in one pass, padded to the longest, at the least total cost.

    Args:
        rows: number of rows of each length.
        pass_cost: the cost of a pass in addition to its tokens, in tokens.

    Example:
        >>> packed({50: 10, 52: 10, 90: 20}, pass_cost=64)
        [[50, 52], [90]]
    """
    lengths = sorted(rows)
    # By number of lengths packed: the least cost, and the number before the last pass.
    best: list[tuple[int, int]] = [(0, 0)]
    for end in range(1, len(lengths) + 1):
        count, found = 0, []
        for start in range(end - 1, -1, -1):
            count += rows[lengths[start]]
            found.append((best[start][0] + count * lengths[end - 1] + pass_cost, start))
        best.append(min(found))
    passes: list[list[int]] = []
    end = len(lengths)
    while end:
        start = best[end][1]
        passes.insert(0, lengths[start:end])
        end = start
    return passes
