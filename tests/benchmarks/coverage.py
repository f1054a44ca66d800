"""How often 95 % intervals hold the truth, and how often p < 0.05 where there is no difference: the table of the docs.

Run as `python tests/benchmarks/coverage.py [--sets 10000]`. Every cell is so many simulated data sets: base and one
condition on the same samples, right with a chance that a sample (or its group) has in common under both. A cell's
simulation error is 0.2 % at 10,000 sets. Nothing but numpy draws the data, and the truth is known in closed form.
"""

import argparse
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vlmrobust.functional import mean_intervals, paired_intervals

RATES = (0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.98)
FALL = 0.8
BATCH = 500
REPLICATES = 2_000
ALIKE = 0.3
"""The share of the variance of 0 and 1 that is the samples', or the groups'."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Design:
    """So many samples, in groups of 1, 2, 3 and 6 in turn if they are grouped, asked so many times."""

    name: str
    units: int
    draws: int = 1
    is_grouped: bool = False

    @property
    def groups(self) -> NDArray[np.int64]:
        sizes = np.tile([1, 2, 3, 6], self.units)[: self.units] if self.is_grouped else np.ones(self.units, np.int64)
        return np.repeat(np.arange(self.units), sizes)


DESIGNS = [
    *(Design(f"{n} samples", n) for n in (12, 20, 50, 200)),
    *(Design(f"{n} samples, 4 draws", n, draws=4) for n in (12, 20, 50, 200)),
    *(Design(f"{n} groups", n, is_grouped=True) for n in (6, 10, 30, 60)),
]


@dataclass(frozen=True)
class Cell:
    """What was found of one design and rate, as shares of the sets.

    Attributes:
        value: the interval of the rate under base holds it.
        no_difference, difference: the interval of the difference holds it, where there is none, and where there is.
        small: p < 0.05 where there is no difference.
        against: p < 0.05 and an interval that holds 0, or the reverse; of all sets.
    """

    value: float
    no_difference: float
    difference: float
    small: float
    against: float


def shares(design: Design, chances: Floats, random: np.random.Generator) -> Floats:
    """Return the share of right draws of every sample, `(sets, samples)`."""
    return random.binomial(design.draws, chances[:, design.groups]) / design.draws


def cell(design: Design, rate: float, sets: int) -> Cell:
    """Simulate one cell."""
    outcome = "share" if design.draws > 1 else "rate"
    groups = design.groups if design.is_grouped else None
    strength = (1 - ALIKE) / ALIKE
    found: list[tuple[bool, ...]] = []
    for batch in range(math.ceil(sets / BATCH)):
        random = np.random.default_rng([batch, int(rate * 100), design.units, design.draws])
        size = min(BATCH, sets - batch * BATCH)
        chances = random.beta(strength * rate, strength * (1 - rate), size=(size, design.units))
        base, same, worse = (shares(design, factor * chances, random) for factor in (1.0, 1.0, FALL))
        settings = {"outcomes": [outcome] * size, "rng": random, "replicates": REPLICATES}
        values = mean_intervals(base, groups, **settings)
        nulls = paired_intervals(zip(base, same, strict=True), groups, **settings)
        falls = paired_intervals(zip(base, worse, strict=True), groups, **settings)
        truth = (FALL - 1) * rate
        for value, null, fall in zip(values, nulls, falls, strict=True):
            against = any((one.p < 0.05) == (one.low <= 0 <= one.high) for one in (null, fall))
            held = value.low <= rate <= value.high, null.low <= 0 <= null.high, fall.low <= truth <= fall.high
            found.append((*held, null.p < 0.05, against))
    return Cell(*np.mean(found, axis=0).tolist())


def cells(sets: int) -> Iterator[tuple[Design, float, Cell]]:
    """Yield all cells in turn."""
    for design in DESIGNS:
        for rate in RATES:
            yield design, rate, cell(design, rate, sets)


def main() -> None:
    """Print the table, and which cells are outside their limits by more than the simulation's error."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", type=int, default=10_000)
    sets = parser.parse_args().sets
    error = math.sqrt(0.05 * 0.95 / sets)
    wrong = []
    print("| data | rate | value | no difference | difference | p < 0.05 without one |\n|---|---|---|---|---|---|")
    for design, rate, found in cells(sets):
        row = (found.value, found.no_difference, found.difference, found.small)
        print(f"| {design.name} | {rate} | {' | '.join(f'{share:.3f}' for share in row)} |", flush=True)
        held = row[:3]
        is_large = 0.1 <= rate <= 0.9 and design.units >= (60 if design.is_grouped else 200)
        if min(held) < 0.92 - 2 * error or (is_large and not all(0.93 <= share <= 0.97 for share in held)):
            wrong.append(f"{design.name}, rate {rate}: coverage {min(held):.3f} to {max(held):.3f}")
        if found.small > 0.05 + 3 * error or found.against:
            wrong.append(f"{design.name}, rate {rate}: p < 0.05 in {found.small:.3f}, against its interval in any")
    print("\n".join(["", *wrong] if wrong else ["", "No cell is outside its limits."]))


if __name__ == "__main__":
    main()
