"""Test which responses paired metrics compare."""

import math

import pytest

from vlmrobust import Evaluator, Report, demo
from vlmrobust.metrics import Accuracy, CorrectProbability, FlipRate, Harmed, Metric, PairedMetric
from vlmrobust.perturbations import WrongThink
from vlmrobust.testing import FakeModel


def column(answers, metric):
    prompts, responses = zip(*answers, strict=True)
    frame = Report.from_responses(prompts, responses, [metric]).frame
    return frame.set_index(["sample_id", "condition", "draw"])[metric.column]


def test_each_draw_is_compared_with_the_same_draw_under_base(make_pair):
    answers = [make_pair("a", draw=0, choice=1), make_pair("a", draw=1, choice=0)]
    answers += [
        make_pair("a", "x", draw=0, choice=1),
        make_pair("a", "x", draw=1, choice=1),
        make_pair("a", "x", draw=2),
    ]
    values = column(answers[::-1], FlipRate())
    assert [values["a", "x", draw] for draw in range(3)] == pytest.approx([0, 1, math.nan], nan_ok=True)


@pytest.mark.parametrize(
    ("choices", "expected"),
    [
        ([1], [math.nan]),
        ([1, 0], [1, 1]),
        ([1, 0, 2], [1, 1, 1]),
        ([1, 0, 1, 2], [2 / 3, 1, 2 / 3, 1]),
        ([1, 1, 1, 1], [0, 0, 0, 0]),
    ],
)
def test_base_compares_every_draw_with_the_others(choices, expected, make_pair):
    answers = [make_pair("a", draw=draw, choice=choice) for draw, choice in enumerate(choices)]
    for given in (answers, answers[::-1]):
        values = column(given, FlipRate())
        assert [values["a", "base", draw] for draw in range(len(choices))] == pytest.approx(expected, nan_ok=True)


def test_asymmetric_metrics_are_averaged_over_both_directions(make_pair):
    answers = [make_pair("a", draw=draw, choice=choice) for draw, choice in enumerate([1, 0, 0])]
    values = column(answers, Harmed())
    # A right answer becomes wrong in 2 of 6 ordered pairs of draws.
    assert [values["a", "base", draw] for draw in range(3)] == [0, 0.5, 0.5]


def test_samples_may_have_different_numbers_of_draws(make_pair):
    choices = {"a": [1, 0], "b": [1, 1, 0, 1], "c": [2]}
    answers = [make_pair(name, draw=draw, choice=one) for name, row in choices.items() for draw, one in enumerate(row)]
    values = column(answers, FlipRate())
    for name, row in choices.items():
        for draw, one in enumerate(row):
            others = [one != other for place, other in enumerate(row) if place != draw]
            expected = sum(others) / len(others) if others else math.nan
            assert values[name, "base", draw] == pytest.approx(expected, nan_ok=True)


def test_failed_draws_are_not_compared(make_pair):
    answers = [
        make_pair("a"),
        make_pair("a", choice=None, draw=1, status="error", error="lost"),
        make_pair("b"),
        make_pair("b", choice=0, draw=1),
    ]
    values = column(answers, Harmed())
    assert math.isnan(values["a", "base", 1])
    assert values["b", "base", 1] == 1


class InPlace(Metric):
    """Modifies its input."""

    def per_sample(self, responses):
        responses.target.fill_(0)
        responses.option_logprobs.fill_(-1)
        return responses.choice.clamp_(max=0).float()

    def failures(self, responses):
        responses.choice.fill_(0)
        return {}

    def aggregate(self, values, responses, weights=None):
        return float(values.fill_(1).sum())


class PairInPlace(PairedMetric):
    """A paired metric that modifies its input."""

    def per_pair(self, base, responses):
        return responses.choice.fill_(0).float() + base.choice.fill_(0)


def test_in_place_metrics_do_not_modify_responses():
    samples = demo.samples(8)
    metrics = [InPlace(), PairInPlace(), Accuracy(), FlipRate(), CorrectProbability()]
    model = FakeModel(opens_images=False, follow_think=0.7)
    changed = Evaluator(model, [WrongThink()], metrics).run(samples)
    plain = Evaluator(model, [WrongThink()], metrics[2:]).run(samples)
    names = ["answer", "target", "accuracy", "flip_rate", "correct_probability"]
    assert changed.frame[names].equals(plain.frame[names])
    assert changed.responses.option_logprobs.equal(plain.responses.option_logprobs)
    assert changed.summary is not None
    assert changed.frame[names].equals(plain.frame[names])


def test_derived_values_are_computed_once_for_all_metrics():
    responses = Evaluator(FakeModel(), []).run(demo.samples(3)).responses
    calls = []
    copy = responses.copied()
    for one in (responses, copy, copy.copied()):
        one.derive("key", lambda given: calls.append(1) or len(given))
    assert calls == [1]
