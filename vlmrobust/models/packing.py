"""What goes through the model in one pass, and which tokens once for several prompts, so that all passes cost least.

Several suffixes behind one prefix may begin alike: the same question, the same caption, the same begun thought. Such a
beginning (a *stem*) goes through the model once; what follows goes on from a copy of its row.

    prefix ─┬─ stem ─┬─ suffix
            │        └─ suffix
            └─ suffix

A stem is worth a pass of its own, and a copy of its row, if it spares more tokens than these cost.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

__all__ = ["Packing", "Twig", "packed", "pass_cost"]

# How many tokens a stem has to spare to be one; all of these are tried.
_LEAST = (8, 64)


@dataclass(frozen=True, slots=True)
class Twig:
    """Tokens that go through the model in one row.

    Attributes:
        tokens: the tokens; none is missing.
        prompt: the prompt that ends with them; -1 = a stem, from which others go on.
        twigs: these.
    """

    tokens: tuple[int, ...]
    prompt: int = -1
    twigs: tuple["Twig", ...] = ()

    @property
    def prompts(self) -> int:
        """How many prompts have these tokens."""
        return sum(twig.prompts for twig in self.twigs) or 1

    @property
    def spared(self) -> int:
        """How many tokens do not go through the model, since they are the stem's."""
        return (self.prompts - 1) * len(self.tokens) + sum(twig.spared for twig in self.twigs)


@dataclass(frozen=True, slots=True)
class Packing:
    """What may go through the model together.

    Attributes:
        stems_padded: whether stems of several lengths may, padded on the right.
        ends_padded: whether what ends a prompt may.
        fits: whether so many rows of so many columns may, those of the prefix not counted.
        pass_cost: what a pass costs beside its tokens, in tokens.
    """

    stems_padded: bool
    ends_padded: bool
    fits: Callable[[int, int], bool]
    pass_cost: int

    def twigs(self, suffixes: Sequence[Mapping[int, Sequence[int]]], places: int) -> list[list[Twig]]:
        """Return what follows each of some prefixes: with the stems that spare most, or without any.

        Args:
            suffixes: for each prefix, by prompt, the tokens that follow.
            places: how many positions at the end of a prompt are read; none of them is in a stem.
        """
        without = [[Twig(tuple(tokens), prompt) for prompt, tokens in some.items()] for some in suffixes]
        found = [(self._cost([twig for twigs in without for twig in twigs], 0, bounded=False), without)]
        for least in _LEAST:
            stemmed = [_stemmed(some, places, least) for some in suffixes]
            found.append((self._cost([twig for twigs in stemmed for twig in twigs], 0, bounded=True), stemmed))
        return min(found, key=lambda one: one[0])[1]

    def passes(self, twigs: Sequence[Twig]) -> list[list[int]]:
        """Return which twigs go through the model in one pass: by their places, stems first."""
        found = []
        for is_end, padded in ((False, self.stems_padded), (True, self.ends_padded)):
            by_length: dict[int, list[int]] = defaultdict(list)
            for place, twig in enumerate(twigs):
                if (not twig.twigs) is is_end:
                    by_length[len(twig.tokens)].append(place)
            rows = {length: len(places) for length, places in by_length.items()}
            together = packed(rows, self.pass_cost) if padded else [[length] for length in rows]
            found += [[place for length in lengths for place in by_length[length]] for lengths in together]
        return found

    def _cost(self, twigs: Sequence[Twig], columns: int, *, bounded: bool) -> float:
        """Return what twigs behind so many columns cost in tokens; infinity where one pass does not fit."""
        total = 0.0
        for places in self.passes(twigs):
            width = max(len(twigs[place].tokens) for place in places)
            if bounded and not self.fits(len(places), columns + width):
                return float("inf")
            following = [twig for place in places for twig in twigs[place].twigs]
            total += self.pass_cost + len(places) * width + self._cost(following, columns + width, bounded=bounded)
        return total


def _stemmed(suffixes: Mapping[int, Sequence[int]], places: int, least: int) -> list[Twig]:
    """Return what follows one prefix, with every stem that spares more tokens than `least`."""
    heads = sorted((tuple(tokens[: max(0, len(tokens) - places)]), prompt) for prompt, tokens in suffixes.items())
    return _behind(heads, 0, suffixes, least)


def _behind(
    heads: Sequence[tuple[tuple[int, ...], int]], start: int, suffixes: Mapping[int, Sequence[int]], least: int
) -> list[Twig]:
    """Return what follows `start` tokens that sorted heads have in common."""
    found: list[Twig] = []
    for following, group in groupby(heads, key=lambda head: head[0][start : start + 1]):
        alike = list(group)
        if len(alike) == 1 or not following:
            found += [Twig(tuple(suffixes[prompt][start:]), prompt) for _, prompt in alike]
            continue
        first, last = alike[0][0], alike[-1][0]
        end = next(
            (place for place, pair in enumerate(zip(first, last, strict=False)) if pair[0] != pair[1]), len(first)
        )
        common, below = first[start:end], _behind(alike, end, suffixes, least)
        if len(common) * (len(below) - 1) > least:
            found.append(Twig(common, twigs=tuple(below)))
        else:
            found += [Twig(common + twig.tokens, twig.prompt, twig.twigs) for twig in below]
    return found


def pass_cost(kind: str) -> int:
    """Return what a pass costs beside its tokens, in tokens: all weights are read, and all kernels are started.

    Args:
        kind: of the device; what was measured on CPUs is on the page on performance.
    """
    return 48 if kind == "cpu" else 256


def packed(rows: Mapping[int, int], pass_cost: int) -> list[list[int]]:
    """Return which lengths go through the model in one pass, padded to the longest, so that all passes cost least.

    Args:
        rows: how many rows there are of each length.
        pass_cost: what a pass costs beside its tokens, in tokens.

    Example:
        >>> packed({50: 10, 52: 10, 90: 20}, pass_cost=64)
        [[50, 52], [90]]
    """
    lengths = sorted(rows)
    # By how many of the lengths have been packed: the least cost, and how many were before the last pass.
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
