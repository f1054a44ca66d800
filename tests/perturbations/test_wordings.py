"""The wrong option that all conditions assert, and text sources, which are checked when given and when called."""

import functools
import math
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from vlmrobust import Prompt, Response, Sample
from vlmrobust.perturbations import CorrectCaption, WrongCaption, WrongThink, draw_distractor
from vlmrobust.perturbations.wordings import callable_name, runner_up

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


def claim(prompt: Prompt, option: int, rng: np.random.Generator) -> str:
    return f" Number {rng.integers(1000)}: {prompt.sample.options[option]}. "


def nothing(prompt: Prompt, option: int, rng: np.random.Generator) -> str:
    return " "


class Claimer:
    def __call__(self, prompt: Prompt, option: int, rng: np.random.Generator) -> str:
        return "said"


@pytest.fixture
def prompt() -> Prompt:
    sample = Sample(
        id="q1", images=[b"x"], question="?", options=["red", "blue"], answer=1, texts={"correct_caption": "Blue."}
    )
    return Prompt.of(sample, distractor=0)


def test_source_takes_precedence_and_gets_the_same_draws_for_both_truths(prompt: Prompt) -> None:
    wrong = WrongCaption(source=claim)(prompt).context
    correct = CorrectCaption(source=claim)(prompt).context
    assert wrong.endswith(": red.")
    assert correct == wrong.replace("red", "blue")


def test_source_without_text_is_reported(prompt: Prompt) -> None:
    with pytest.raises(ValueError, match=r"sample 'q1', field 'texts.wrong_think': expected a text, got ' '"):
        WrongThink(source=nothing)(prompt)


def test_sources_are_identified_by_name() -> None:
    assert callable_name(claim).endswith("test_wordings.claim")
    assert callable_name(Claimer()).endswith("test_wordings.Claimer")
    assert WrongThink(source=claim).model_dump()["source"] == callable_name(claim)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            lambda prompt, option, rng: "x",
            "expected a callable with a name of its own at the top of a module, got .*lambda",
        ),
        (
            functools.partial(claim, option=0),
            "expected a callable with a name of its own, got functools.partial of .*claim",
        ),
        ("claim", r"expected a callable \(prompt, option, rng\) -> str, got str"),
    ],
)
def test_unnamed_sources_are_rejected(source: object, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        WrongThink(source=source)  # type: ignore[arg-type]
