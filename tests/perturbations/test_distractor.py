"""The wrong option that all conditions assert: the sample's own, a drawn one, or the runner-up."""

import math
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlmrobust import Response, Sample
from vlmrobust.perturbations import draw_distractor
from vlmrobust.perturbations.texts import runner_up

Make = Callable[..., Sample]


def test_distractors_are_uniform_over_the_wrong_options(make_sample: Make) -> None:
    counts = Counter(draw_distractor(make_sample(f"q{number}"), seed=1) for number in range(1500))
    assert set(counts) == {0, 2, 3}
    assert sum((count - 500) ** 2 / 500 for count in counts.values()) < 13.8  # chi-square, 2 df, p = 0.001


def test_own_distractor_takes_precedence(make_sample: Make) -> None:
    assert {draw_distractor(make_sample(distractor=3), seed) for seed in range(20)} == {3}


def make_response(*logprobs: float) -> Response:
    return Response(sample_id="q1", condition="base", answer=0, status="answered", option_logprobs=logprobs or None)


@pytest.mark.parametrize(
    ("logprobs", "expected"),
    [
        ((-3.0, -0.1, -2.0, -4.0), 2),  # right: its second choice
        ((-0.1, -3.0, -2.0, -4.0), 0),  # wrong: its answer
        ((-2.0, -1.0, -2.0, -2.0), 0),  # the first of equals
        ((-math.inf, -0.1, -math.inf, -9.0), 3),
        ((-math.inf, -0.1, -math.inf, -math.inf), None),
        ((), None),
    ],
)
def test_runner_up_is_the_most_likely_wrong_option(
    make_sample: Make, logprobs: tuple[float, ...], expected: int | None
) -> None:
    assert runner_up(make_sample(), make_response(*logprobs)) == expected
    assert runner_up(make_sample(distractor=3), make_response(*logprobs)) == 3


@given(st.from_type(Sample), st.data())
def test_runner_up_is_wrong_and_the_most_likely(sample: Sample, data: st.DataObject) -> None:
    count = len(sample.options)
    values = data.draw(st.lists(st.floats(-50, 0), min_size=count, max_size=count))
    found = runner_up(sample, make_response(*values))
    assert found is not None
    assert found != sample.answer
    assert all(values[found] >= value for index, value in enumerate(values) if index != sample.answer)
