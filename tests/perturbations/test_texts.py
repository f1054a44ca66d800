"""Text sources: any named callable, checked when it is given and when it is called."""

import functools

import numpy as np
import pytest
from pydantic import ValidationError

from vlmrobust import Prompt, Sample
from vlmrobust.perturbations import CorrectCaption, WrongCaption, WrongThink
from vlmrobust.perturbations.texts import callable_name


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
    assert callable_name(claim).endswith("test_texts.claim")
    assert callable_name(Claimer()).endswith("test_texts.Claimer")
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
