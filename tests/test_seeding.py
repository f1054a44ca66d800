"""Keyed random numbers: the same for one key everywhere, independent between keys."""

import subprocess
import sys

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from vlmrobust.seeding import generator, integer_key, subset
from vlmrobust.text import snake_case

KEYS = st.lists(st.one_of(st.text(max_size=5), st.integers(0, 99)), min_size=1, max_size=4).map(tuple)


@given(KEYS, KEYS)
def test_different_keys_differ_and_equal_keys_agree(
    first: tuple[str | int, ...], second: tuple[str | int, ...]
) -> None:
    same = [(type(part), part) for part in first] == [(type(part), part) for part in second]
    assert (integer_key(*first) == integer_key(*second)) == same


def test_parts_are_kept_apart_and_have_a_type() -> None:
    assert integer_key("ab", "c") != integer_key("a", "bc")
    assert integer_key("1") != integer_key(1)
    assert integer_key("a") != integer_key("a", "")


def test_values_are_pinned() -> None:
    """A change here changes every text that was ever drawn, and no old run could be resumed."""
    assert integer_key("q1", "distractor") == 0x6B750966BEB5C19464476A2B395F3748
    assert generator(0, "q1", "distractor").integers(1000, size=3).tolist() == [335, 421, 107]


def test_another_process_with_another_hash_seed_draws_the_same() -> None:
    code = "from vlmrobust.seeding import integer_key; print(integer_key('q1', 'think', 3))"
    command = [sys.executable, "-c", code]
    seen = {
        int(subprocess.run(command, env={"PYTHONHASHSEED": seed}, capture_output=True, check=True).stdout)
        for seed in ("1", "2")
    }
    assert seen == {integer_key("q1", "think", 3)}


def test_draws_do_not_depend_on_order() -> None:
    keys = [f"q{number}" for number in range(20)]
    forwards = {key: generator(7, key, "x").random() for key in keys}
    backwards = {key: generator(7, key, "x").random() for key in reversed(keys)}
    assert forwards == backwards
    assert len(set(forwards.values())) == len(keys)


def test_seeds_differ_and_negative_ones_work() -> None:
    draws = {seed: generator(seed, "q1").random() for seed in (-1, 0, 1, 2**40)}
    assert len(set(draws.values())) == 4


def test_draws_over_keys_are_uniform() -> None:
    values = np.array([generator(0, f"q{number}", "x").random() for number in range(2000)])
    counts, _ = np.histogram(values, bins=10, range=(0, 1))
    assert ((counts - 200) ** 2 / 200).sum() < 27.9  # chi-square, 9 degrees of freedom, p = 0.001


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("WrongThink", "wrong_think"),
        ("AUROC", "auroc"),
        ("LMJudge", "lm_judge"),
        ("Top5Accuracy", "top5_accuracy"),
        ("ECE15", "ece15"),
        ("Base", "base"),
    ],
)
def test_snake_case(name: str, expected: str) -> None:
    assert snake_case(name) == expected


@given(st.sets(st.text(max_size=3), min_size=1, max_size=12), st.integers(1, 15), st.integers(0, 3))
def test_fewer_drawn_items_are_the_first_of_more(names: set[str], count: int, seed: int) -> None:
    whole = subset(names, len(names), seed, name=str)
    assert sorted(whole) == sorted(names)
    assert subset(sorted(names), count, seed, name=str) == whole[:count]
    assert [name for name in whole if name in whole[:count]] == subset(whole[:count], count, seed, name=str)


def test_every_item_is_drawn_as_often_as_another_and_comes_first_as_often() -> None:
    drawn = [subset("abcde", 2, seed, name=str) for seed in range(2000)]
    for chosen in ([name for names in drawn for name in names], [names[0] for names in drawn]):
        counts = np.unique(chosen, return_counts=True)[1]
        assert len(counts) == 5
        assert scipy.stats.chisquare(counts).pvalue > 0.001


def test_fewer_than_one_item_is_refused() -> None:
    with pytest.raises(ValueError, match="expected to draw at least 1, got 0"):
        subset("ab", 0, 0, name=str)
