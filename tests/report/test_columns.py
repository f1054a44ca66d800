"""Which response a paired metric compares with which."""

import math

import pytest

from vlmrobust import Report
from vlmrobust.metrics import FlipRate, Harmed


def column(answers, metric):
    prompts, responses = zip(*answers, strict=True)
    frame = Report.from_responses(prompts, responses, [metric]).frame
    return frame.set_index(["sample_id", "condition", "draw"])[metric.column]


def test_each_draw_is_compared_with_the_same_draw_under_base(answer):
    answers = [answer("a", draw=0, choice=1), answer("a", draw=1, choice=0)]
    answers += [answer("a", "x", draw=0, choice=1), answer("a", "x", draw=1, choice=1), answer("a", "x", draw=2)]
    values = column(answers[::-1], FlipRate())
    assert [values["a", "x", draw] for draw in range(3)] == pytest.approx([0, 1, math.nan], nan_ok=True)


@pytest.mark.parametrize(
    ("choices", "expected"),
    [
        ([1], [math.nan]),
        ([1, 0], [math.nan, 1]),
        ([1, 0, 2], [math.nan, 1, math.nan]),
        ([1, 0, 1, 2], [math.nan, math.nan, 0, 1]),
    ],
)
def test_base_compares_one_half_of_its_draws_with_the_other(choices, expected, answer):
    answers = [answer("a", draw=draw, choice=choice) for draw, choice in enumerate(choices)]
    for given in (answers, answers[::-1]):
        values = column(given, FlipRate())
        assert [values["a", "base", draw] for draw in range(len(choices))] == pytest.approx(expected, nan_ok=True)


def test_a_failed_draw_is_compared_with_nothing(answer):
    answers = [
        answer("a"),
        answer("a", choice=None, draw=1, status="error", error="lost"),
        answer("b"),
        answer("b", choice=0, draw=1),
    ]
    values = column(answers, Harmed())
    assert math.isnan(values["a", "base", 1])
    assert values["b", "base", 1] == 1
