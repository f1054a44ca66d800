"""The interval of an average of estimates: closed forms where there are some, and coverage by simulation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm
from statsmodels.stats.proportion import proportion_confint

from vlmrobust.functional import average_interval, wilson_interval

Z = norm.ppf(0.975)
ESTIMATES = st.lists(st.tuples(st.floats(-1, 1), st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=6)


def test_of_normal_estimates_it_is_the_usual_one():
    values, errors = np.array([0.2, 0.5, 0.9]), np.array([0.1, 0.05, 0.2])
    low, high = average_interval(values, values - Z * errors, values + Z * errors)
    error = math.sqrt((errors**2).sum()) / 3
    assert (low, high) == pytest.approx((values.mean() - Z * error, values.mean() + Z * error))


@given(ESTIMATES, st.data())
def test_order_is_nothing_and_dependence_only_widens(estimates, data):
    values, below, above = (np.array(side) for side in zip(*estimates, strict=True))
    alone = average_interval(values, values - below, values + above)
    order = list(data.draw(st.permutations(range(len(values)))))
    assert average_interval(*(side[order] for side in (values, values - below, values + above))) == pytest.approx(alone)
    blocks = data.draw(st.lists(st.sampled_from("ab"), min_size=len(values), max_size=len(values)))
    joined = average_interval(values, values - below, values + above, blocks)
    together = average_interval(values, values - below, values + above, ["all"] * len(values))
    assert together[0] <= joined[0] + 1e-12 <= alone[0] + 2e-12 <= values.mean() + 3e-12
    assert together == pytest.approx((values.mean() - below.mean(), values.mean() + above.mean()))


def test_one_estimate_keeps_its_own_interval():
    assert average_interval([0.3], [0.1], [0.4]) == pytest.approx((0.1, 0.4))
    assert average_interval([1.0], *[[limit] for limit in wilson_interval(5, 5)]) == pytest.approx(
        wilson_interval(5, 5)
    )


@pytest.mark.parametrize("rates", [(0.1, 0.5, 0.9), (0.95, 0.97), (0.3, 0.3, 0.3, 0.3)])
def test_it_covers_the_average_of_rates_of_unequal_samples(rates):
    rng = np.random.default_rng(0)
    sizes = np.array([40, 60, 100, 200])[: len(rates)]
    counts = rng.binomial(sizes, rates, size=(3000, len(rates)))
    low, high = proportion_confint(counts, sizes, method="wilson")
    limits = np.array([average_interval(*row) for row in zip(counts / sizes, low, high, strict=True)])
    covered = np.mean((limits[:, 0] <= np.mean(rates)) & (np.mean(rates) <= limits[:, 1]))
    assert 0.935 <= covered <= 0.965


def test_what_is_not_known_stays_unknown_and_lengths_are_checked():
    assert np.isnan(average_interval([], [], [])).all()
    assert np.isnan(average_interval([0.1, math.nan], [0, 0], [1, 1])).all()
    with pytest.raises(ValueError, match="'values', 'low', 'high' and 'blocks' of one length, got 2, 2, 1, 2"):
        average_interval([0, 1], [0, 1], [1])
