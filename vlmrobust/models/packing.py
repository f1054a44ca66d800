"""Decide what runs through the model in one pass, and which common beginnings run once, at the least total cost.

Several suffixes of one prefix may begin alike: the same question, caption or partial thought. Such a beginning (a
*stem*) runs through the model once; the rest continues from a copy of its row.

    prefix ─┬─ stem ─┬─ suffix
            │        └─ suffix
            └─ suffix

A stem is worth its own pass, and a copy of its row, if it saves more tokens than these cost.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

__all__ = ["Packing", "Segment", "packed", "pass_cost"]

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
        found = [(self._cost([segment for segments in without for segment in segments], 0, bounded=False), without)]
        for least in _LEAST:
            stemmed = [_stemmed(some, places, least) for some in suffixes]
            found.append(
                (self._cost([segment for segments in stemmed for segment in segments], 0, bounded=True), stemmed)
            )
        return min(found, key=lambda one: one[0])[1]

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
        end = next(
            (place for place, pair in enumerate(zip(first, last, strict=False)) if pair[0] != pair[1]), len(first)
        )
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
