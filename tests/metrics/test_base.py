"""The base classes of metrics: validation, failed rows, aggregation."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vlmrobust import Prompt, Response, Responses
from vlmrobust.metrics import Accuracy, BaseMetric, Metric, PairedMetric

NAN = math.nan


class ShortThought(Metric):
    higher_is_better = False

    def per_sample(self, responses):
        return torch.tensor([float(len(t.split()) < 10) for t in responses.own_think])


class AnswerFlip(PairedMetric):
    higher_is_better = False

    def per_pair(self, base, responses):
        return base.choice != responses.choice


class Given(Metric):
    """Returns what it was given."""

    values: object = None

    def per_sample(self, responses):
        return self.values


class LargestValue(Metric):
    def per_sample(self, responses):
        return responses.choice.float()

    def aggregate(self, values, responses, weights=None):
        kept = values if weights is None else values[weights > 0]
        return float(kept[~kept.isnan()].max())


FAILED = {"status": "error", "answer": None, "error": "out of memory"}


def test_minimal_metric(plain_responses):
    responses = plain_responses({"own_think": "too short"}, {"own_think": "word " * 20}, FAILED)
    metric = ShortThought()
    assert metric.column == "short_thought"
    assert metric.higher_is_better is False
    assert metric(responses).tolist() == pytest.approx([1, 0, NAN], nan_ok=True)
    assert metric.aggregate(metric(responses), responses) == 0.5


def test_higher_is_better_needs_no_annotation_and_is_no_field():
    assert BaseMetric.higher_is_better is None
    assert Accuracy.higher_is_better is True
    assert "higher_is_better" not in ShortThought.model_fields
    assert ShortThought(name="brief").column == "brief"


def test_a_paired_metric_compares_with_base(plain_responses):
    base = plain_responses({"answer": 1}, {"answer": 1}, {"answer": 1}, FAILED)
    other = plain_responses({"answer": 0}, {"answer": 1}, FAILED, {"answer": 2})
    assert AnswerFlip()(base, other).tolist() == pytest.approx([1, 0, NAN, NAN], nan_ok=True)


def test_paired_metric_rejects_other_samples(plain_responses):
    responses = plain_responses({}, {}, {})
    with pytest.raises(ValueError, match=r"metric 'answer_flip': expected the same samples .* got 3 and 2 responses"):
        AnswerFlip()(responses, responses.select([0, 1]))
    with pytest.raises(ValueError, match=r"metric 'answer_flip': .* got 'q1' and 'q2' at position 1"):
        AnswerFlip()(responses, responses.select([0, 2, 1]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.bool])
def test_values_become_float32_or_stay_float64(dtype, plain_responses):
    values = Given(values=torch.tensor([1, 0], dtype=dtype))(plain_responses({}, {}))
    assert values.tolist() == [1.0, 0.0]
    assert values.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


def test_values_of_failed_rows_are_ignored(plain_responses):
    responses = plain_responses({}, FAILED, {"status": "not_applicable", "answer": None}, {})
    values = Given(values=torch.tensor([0.0, 5.0, 5.0, NAN]))(responses)
    assert values.tolist() == pytest.approx([0.0, NAN, NAN, NAN], nan_ok=True)


def test_values_carry_no_graph(plain_responses):
    values = Given(values=torch.ones(1, requires_grad=True) * 2)(plain_responses({}))
    assert not values.requires_grad


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        (None, TypeError, "got NoneType"),
        ([1.0, 0.0], TypeError, "got list"),
        (torch.tensor([1, 0]), TypeError, r"got torch\.int64"),
        (torch.tensor([1.0]), ValueError, r"got shape \(1,\)"),
        (torch.tensor(1.0), ValueError, r"got shape \(\)"),
        (torch.ones(2, 1), ValueError, r"got shape \(2, 1\)"),
    ],
)
def test_invalid_values_are_rejected(values, error, message, plain_responses):
    expected = rf"metric 'given': expected a float or bool tensor of shape \(2,\) from 'per_sample', {message}"
    with pytest.raises(error, match=expected):
        Given(values=values)(plain_responses({}, {}))


def test_missing_hook_is_rejected():
    class Nothing(Metric):
        pass

    with pytest.raises(TypeError, match="per_sample"):
        Nothing()


@given(rows=st.lists(st.tuples(st.one_of(st.floats(-5, 5), st.just(NAN)), st.integers(0, 3)), max_size=8))
def test_mean_is_weighted_over_defined_values(rows, plain_responses):
    values = torch.tensor([value for value, _ in rows], dtype=torch.float64)
    weights = torch.tensor([weight for _, weight in rows])
    repeated = [value for value, weight in rows for _ in range(weight) if not math.isnan(value)]
    expected = sum(repeated) / len(repeated) if repeated else NAN
    responses = plain_responses(*({} for _ in rows))
    assert ShortThought().aggregate(values, responses, weights) == pytest.approx(expected, abs=1e-9, nan_ok=True)
    defined = values[~values.isnan()]
    assert ShortThought().aggregate(values, responses) == pytest.approx(defined.mean().item(), abs=1e-9, nan_ok=True)


def test_infinite_value_with_weight_zero_is_ignored(plain_responses):
    responses, values = plain_responses({}, {}), torch.tensor([math.inf, 2.0])
    assert ShortThought().aggregate(values, responses, torch.tensor([0, 3])) == 2.0
    assert ShortThought().aggregate(values, responses) == math.inf


def test_custom_aggregate_is_not_a_mean(plain_responses):
    responses = plain_responses({"answer": 0}, {"answer": 3}, {"answer": 2}, FAILED)
    metric = LargestValue()
    assert not metric.is_mean
    assert ShortThought().is_mean
    assert metric.aggregate(metric(responses), responses) == 3
    assert metric.aggregate(metric(responses), responses, torch.tensor([1, 0, 1, 1])) == 2


def test_no_responses_have_no_values(plain_responses):
    responses = plain_responses({}).select([])
    assert Accuracy()(responses).shape == (0,)
    assert math.isnan(Accuracy().aggregate(Accuracy()(responses), responses))


def test_a_rate_is_zero_or_one(make_sample):
    class Half(Metric):
        is_rate = True

        def per_sample(self, responses):
            return torch.full((len(responses),), 0.5)

    prompt = Prompt.of(make_sample())
    responses = Responses.of([prompt], [Response.parse(prompt, "<answer>A</answer>")])
    message = r"metric 'half': expected .* with 0, 1 or NaN, since it declares itself a rate, got 0\.5"
    with pytest.raises(ValueError, match=message):
        Half()(responses)
