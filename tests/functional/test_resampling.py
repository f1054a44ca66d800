"""Shared resamples against a multinomial distribution, slow loops, and each column on its own."""

import math
import tracemalloc
from itertools import chain

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from vlmrobust.functional import resample_counts, resampling
from vlmrobust.functional.resampling import GroupedColumn, columns_by_group, group_codes, replicate_means

NAN = math.nan
# Whole thousandths from -5 to 5, as values far from each other in size would make a slow sum inexact.
VALUES = st.one_of(st.integers(-5000, 5000).map(lambda number: number / 1000), st.just(NAN))


def rng(seed=0):
    return np.random.default_rng(seed)


@st.composite
def tables(draw):
    """Columns of the same length, and the groups of their rows."""
    n = draw(st.integers(2, 12))
    columns = draw(st.lists(st.lists(VALUES, min_size=n, max_size=n).map(np.array), min_size=1, max_size=5))
    groups = draw(st.lists(st.sampled_from("abcd"), min_size=n, max_size=n))
    return columns, groups


@pytest.mark.parametrize("count", [1, 2, 9, 300])
def test_counts_are_a_multinomial_draw(count):
    counts = np.concatenate(list(resample_counts(count, 20_000, rng())))
    assert counts.shape == (20_000, count)
    assert (counts.sum(axis=1) == count).all()
    # How often a group is drawn is Binomial(count, 1 / count); the first group's distribution against it.
    expected = 20_000 * stats.binom.pmf(np.arange(4), count, 1 / count)
    found = [np.count_nonzero(counts[:, 0] == times) for times in range(4)]
    assert found == pytest.approx(expected, abs=5 * math.sqrt(20_000 / 4))
    if count > 1:
        # Two groups' counts have covariance -1 / count.
        assert np.cov(counts[:, 0], counts[:, 1])[0, 1] == pytest.approx(-1 / count, abs=0.03)


@pytest.mark.parametrize("count", [2, 9, 63])
def test_results_do_not_depend_on_chunks(count, monkeypatch):
    columns = columns_by_group(rng(1).normal(size=(3, count)), None, rng())
    whole, means = np.concatenate(list(resample_counts(count, 100, rng()))), replicate_means(columns, 100, rng())
    monkeypatch.setattr(resampling, "_CHUNK_ELEMENTS", 64)
    parts = list(resample_counts(count, 100, rng()))
    assert len(parts) > 1
    assert np.array_equal(np.concatenate(parts), whole)
    assert np.array_equal(replicate_means(columns, 100, rng()), means)


@given(tables())
@settings(max_examples=40, deadline=None)
def test_replicates_agree_with_a_slow_loop(table):
    columns, groups = table
    labels = sorted(set(groups))
    found = replicate_means(columns_by_group(columns, groups, rng()), 20, rng())
    for replicate, counts in enumerate(np.concatenate(list(resample_counts(len(labels), 20, rng())))):
        times = [int(counts[labels.index(group)]) for group in groups]
        for number, column in enumerate(columns):
            drawn = [value for value, often in zip(column, times, strict=True) for _ in range(often)]
            defined = [value for value in drawn if not math.isnan(value)]
            expected = sum(defined) / len(defined) if defined else NAN
            assert found[number, replicate] == pytest.approx(expected, abs=1e-12, nan_ok=True)


@given(tables())
@settings(max_examples=40, deadline=None)
def test_a_columns_replicates_do_not_depend_on_other_columns(table):
    columns, groups = table
    together = replicate_means(columns_by_group(columns, groups, rng()), 20, rng())
    for column, means in zip(columns, together, strict=True):
        [alone] = replicate_means(columns_by_group([column], groups, rng()), 20, rng())
        assert np.array_equal(means, alone, equal_nan=True)


@given(tables())
@settings(max_examples=40, deadline=None)
def test_a_column_is_summed_by_group_and_left_without_each(table):
    columns, groups = table
    labels = sorted(set(groups))
    for values in columns:
        column = GroupedColumn.of(values, group_codes(groups, len(values)), len(labels))
        of_group = [
            [value for value, group in zip(values, groups, strict=True) if group == label and not math.isnan(value)]
            for label in labels
        ]
        assert column.sizes.tolist() == [len(members) for members in of_group]
        assert (column.sums * column.unit).tolist() == pytest.approx([sum(members) for members in of_group], abs=1e-12)
        assert column.groups == sum(map(bool, of_group))
        defined = list(chain(*of_group))
        assert column.n == len(defined)
        assert column.value == pytest.approx(np.mean(defined) if defined else NAN, nan_ok=True, abs=1e-12)
        assert column.ratio == pytest.approx(column.value, nan_ok=True, abs=1e-12)
        if column.groups > 1:
            without = [list(chain(*of_group[:leave], *of_group[leave + 1 :])) for leave in range(len(labels))]
            assert column.jackknife().tolist() == pytest.approx([np.mean(rest) for rest in without], abs=1e-12)


@given(st.lists(st.sampled_from(["b", "a", "c", "10", "9"]), max_size=9))
def test_groups_are_numbered_in_the_order_of_their_labels(groups):
    labels = sorted(set(groups))
    assert group_codes(groups, len(groups)).tolist() == [labels.index(group) for group in groups]
    assert group_codes(None, len(groups)).tolist() == list(range(len(groups)))


@given(st.floats(1e-300, 1e300), st.integers(1, 9))
def test_sums_are_exact_whatever_their_size(size, count):
    """A mean of equal and opposite values is exactly 0 in a resample that draws both alike."""
    values = np.tile([size, -size], count)
    column = GroupedColumn.of(values, np.arange(2 * count), 2 * count)
    assert column.ratio == 0.0
    assert (column.sums == np.rint(column.sums)).all()
    assert np.abs(column.sums).max() * 2 * count <= 2**53
    assert column.sums[0] * column.unit == pytest.approx(size, rel=1e-13)


def test_many_groups_are_merged_and_keep_their_spread(monkeypatch):
    values, groups = rng(4).exponential(size=12_000), np.repeat(np.arange(6000), 2)
    [exact] = replicate_means(columns_by_group([values], groups, rng()), 2000, rng())
    monkeypatch.setattr(resampling, "_MAX_GROUPS", 1000)
    [column] = columns_by_group([values], groups, rng())
    assert len(column.sums) == 1000
    assert column.value == values.mean()
    [merged] = replicate_means([column], 2000, rng())
    # 1,000 merged groups leave the standard error a relative error of 2.2 %, 2,000 replicates of 1.6 %.
    assert merged.std() == pytest.approx(exact.std(), rel=0.1)


def test_memory_does_not_grow_with_columns_times_values():
    tracemalloc.start()
    columns_by_group((rng(number).normal(size=50_000) for number in range(40)), np.arange(50_000) // 50, rng())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # All 40 columns together would be 16 MB.
    assert peak < 6e6


def test_invalid_arguments_are_refused():
    with pytest.raises(ValueError, match=r"expected 'groups' of shape \(3,\), got \(2,\)"):
        group_codes(["a", "b"], 3)
    with pytest.raises(ValueError, match="expected columns of the same length, got 2 and 3"):
        columns_by_group([np.zeros(2), np.zeros(3)], None, rng())
