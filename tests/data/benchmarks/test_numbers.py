"""Options around a number: what they may be, and what their order and distance may not tell."""

import itertools
from collections import Counter
from decimal import Decimal

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from vlmrobust.data.benchmarks.questions import OPTIONS, LeftOut, nearby_numbers

COUNTS = st.integers(0, 10_000).map(str)
NUMBERS = st.decimals(0, 10_000, allow_nan=False, places=3).map(lambda number: f"{number.normalize():f}") | COUNTS
SEEDS = st.integers(0, 2**32)


@given(NUMBERS, SEEDS)
def test_options_are_successive_numbers_from_zero_of_which_one_is_right(number: str, seed: int) -> None:
    options = nearby_numbers(number, np.random.default_rng(seed))
    values = sorted(map(Decimal, options))
    assert options[0] == number
    assert len(set(values)) == OPTIONS == len(options)
    assert values[0] >= 0
    unit = Decimal(1).scaleb(-len(number.partition(".")[2]))
    assert {after - before for before, after in itertools.pairwise(values)} == {unit}
    assert {len(option.partition(".")[2]) for option in options} == {len(number.partition(".")[2])}
    assert max(abs(value - Decimal(number)) for value in values) < OPTIONS * unit


@pytest.mark.parametrize(("number", "places"), [("0", 1), ("1", 2), ("2", 3), ("3", 4), ("12", 4), ("0.2", 3)])
def test_every_place_that_there_is_is_equally_likely(number: str, places: int) -> None:
    ranks = Counter(
        sum(Decimal(other) < Decimal(number) for other in nearby_numbers(number, np.random.default_rng(seed)))
        for seed in range(2000)
    )
    assert set(ranks) == set(range(places))
    assert places == 1 or scipy.stats.chisquare([*ranks.values()]).pvalue > 0.001


@given(st.integers(3, 10_000), SEEDS)
def test_options_could_be_those_of_any_number_among_them(count: int, seed: int) -> None:
    """What is right cannot be read off the options: each of them, from three on, has these with some seed."""
    options = set(nearby_numbers(str(count), np.random.default_rng(seed)))
    for other in options:
        if int(other) >= OPTIONS - 1:
            assert any(set(nearby_numbers(other, np.random.default_rng(draw))) == options for draw in range(100))


@pytest.mark.parametrize("answer", ["2 \\sqrt { 221 }", "36 \\pi", "-3", "1,000", "12 cm", "1e3", "½", "", ".5", "٣"])
def test_what_is_no_plain_number_is_left_out(answer: str) -> None:
    with pytest.raises(LeftOut, match="an open question whose answer is no plain number"):
        nearby_numbers(answer, np.random.default_rng(0))
