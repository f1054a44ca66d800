"""Paired metrics against a plain loop over pairs of single responses."""

import inspect
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.special import softmax

from vlmrobust import metrics
from vlmrobust.metrics import Accuracy, FlipRate, Harmed, Helped, LetterDivergence, RobustAccuracy
from vlmrobust.testing import check_metric

NAN = math.nan
PAIRED = [FlipRate(), Harmed(), Helped(), RobustAccuracy(), LetterDivergence()]


def right(prompt, response):
    return response.answer == prompt.sample.answer


def divergence(prompt, base, response):
    for side in (base, response):
        read = side.option_logprobs is not None and side.status in ("answered", "abstained")
        if not read or max(side.option_logprobs) == -math.inf:
            return NAN
    if base.readout != response.readout:
        return NAN
    return jensenshannon(softmax(base.option_logprobs), softmax(response.option_logprobs)) ** 2


ORACLES = {
    "flip_rate": lambda prompt, base, response: float(base.answer != response.answer),
    "harmed": lambda prompt, base, response: float(right(prompt, base) and not right(prompt, response)),
    "helped": lambda prompt, base, response: float(not right(prompt, base) and right(prompt, response)),
    "robust_accuracy": lambda prompt, base, response: float(right(prompt, base) and right(prompt, response)),
    "letter_divergence": divergence,
}


def test_every_paired_metric_is_tested():
    exported = {getattr(metrics, name) for name in metrics.__all__ if name[0].isupper()}
    concrete = {kind for kind in exported if not inspect.isabstract(kind) and issubclass(kind, metrics.PairedMetric)}
    assert concrete == {type(metric) for metric in PAIRED}


@given(data=st.data(), metric=st.sampled_from(PAIRED))
@settings(max_examples=120)
def test_values_agree_with_a_plain_loop_in_any_batch(metric, data, sides, arrays_of):
    before, after = data.draw(sides)
    base, responses = arrays_of(before), arrays_of(after)
    values = metric(base, responses)
    expected = []
    for (prompt, first), (_, second) in zip(before, after, strict=True):
        failed = {first.status, second.status} & {"error", "not_applicable"}
        expected.append(NAN if failed else ORACLES[metric.column](prompt, first, second))
    assert values.tolist() == pytest.approx(expected, abs=2e-6, nan_ok=True)
    order = data.draw(st.permutations(range(len(before))))
    cut = data.draw(st.integers(0, len(before)))
    parts = [metric(base.select(part), responses.select(part)) for part in (order[:cut], order[cut:])]
    torch.testing.assert_close(torch.cat(parts), values[list(order)], equal_nan=True)
    rebuilt = [metric(arrays_of([before[i]]), arrays_of([after[i]])) for i in order]
    torch.testing.assert_close(torch.cat(rebuilt), values[list(order)], equal_nan=True)


@given(data=st.data())
@settings(max_examples=40)
def test_harm_and_help_add_up_to_the_difference_in_accuracy(data, sides, arrays_of):
    base, responses = map(arrays_of, data.draw(sides))
    before, after = Accuracy()(base), Accuracy()(responses)
    harmed, helped = Harmed()(base, responses), Helped()(base, responses)
    torch.testing.assert_close(helped - harmed, after - before, equal_nan=True)
    robust = RobustAccuracy()(base, responses)
    torch.testing.assert_close(robust + harmed, torch.where(after.isnan(), NAN, before), equal_nan=True)


@pytest.mark.parametrize("metric", PAIRED, ids=lambda metric: metric.column)
def test_paired_metrics_pass_the_metric_checks(metric):
    check_metric(metric)


def test_different_readouts_are_not_compared(plain_responses):
    letters = {"option_logprobs": (-1.0, -2.0, -3.0, -4.0)}
    base = plain_responses(letters | {"readout": "own_thought"}, letters | {"readout": "own_thought"})
    other = plain_responses(letters | {"readout": "fixed_prefix"}, letters | {"readout": "own_thought"})
    assert LetterDivergence()(base, other).tolist() == pytest.approx([NAN, 0.0], nan_ok=True)
