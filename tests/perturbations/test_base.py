"""The base class of perturbations: defaults, errors, and compositions."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from pydantic import ValidationError

from vlmrobust import Prompt, Response, Sample
from vlmrobust.perturbations import (
    AbstainOption,
    Base,
    Compose,
    NotApplicable,
    Perturbation,
    StopThink,
    WrongCaption,
    WrongThink,
)

Make = Callable[..., Sample]


class Shouted(Perturbation):
    """Upper-cases the question."""

    times: int = 1

    def perturb(self, prompt: Prompt, rng: np.random.Generator) -> Prompt:
        return prompt.replace(question=prompt.question.upper() + "!" * self.times)


class Numbered(Perturbation):
    """Writes a random number before the question."""

    def perturb(self, prompt: Prompt, rng: np.random.Generator) -> Prompt:
        return prompt.replace(question=f"{rng.integers(10**9)} {prompt.question}")


class Broken(Perturbation):
    """Shows one option."""

    def perturb(self, prompt: Prompt, rng: np.random.Generator) -> Prompt:
        return prompt.replace(options=("red",), order=(0,))


class Forgetful(Perturbation):
    """Returns nothing."""

    def perturb(self, prompt: Prompt, rng: np.random.Generator) -> Prompt:
        prompt.replace(question="Why?")
        return None  # type: ignore[return-value]


class Second(Perturbation):
    """Needs the base answer."""

    needs_base = True

    def perturb(self, prompt: Prompt, rng: np.random.Generator) -> Prompt:
        return prompt.replace(context=f"You said: {prompt.base.text if prompt.base else None}")


def test_minimal_subclass(make_sample: Make) -> None:
    prompt = Shouted()(Prompt.of(make_sample()))
    assert (prompt.condition, prompt.question) == ("shouted", "WHICH COLOUR IS THE CUBE?!")
    assert Shouted(name="loud")(Prompt.of(make_sample())).condition == "loud"


def test_fields_are_validated_and_frozen() -> None:
    with pytest.raises(ValidationError, match="times"):
        Shouted(times="often")  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        Shouted(tims=2)  # type: ignore[call-arg]
    with pytest.raises(ValidationError, match="frozen"):
        Shouted().times = 2  # type: ignore[misc]
    assert Shouted().replace(times=3) == Shouted(times=3)


def test_base_class_is_abstract() -> None:
    with pytest.raises(TypeError, match="abstract"):
        Perturbation()  # type: ignore[abstract]


def test_errors_name_sample_and_condition(make_sample: Make) -> None:
    with pytest.raises(ValidationError, match="sample 'q1', condition 'broken', field 'options': expected 2 to 26"):
        Broken()(Prompt.of(make_sample()))
    with pytest.raises(
        TypeError, match="sample 'q1', condition 'forgetful': expected a Prompt from 'perturb', got NoneType"
    ):
        Forgetful()(Prompt.of(make_sample()))


def test_missing_base_response_is_reported(make_sample: Make) -> None:
    with pytest.raises(ValueError, match="sample 'q1', condition 'second': expected the response under base"):
        Second()(Prompt.of(make_sample()))
    asked = Prompt.of(make_sample())
    said = Response.parse(asked, "<answer>B</answer>")
    assert Second()(asked.replace(base=said)).context == "You said: <answer>B</answer>"
    with pytest.raises(ValidationError, match="base"):
        asked.replace(base="B")


def test_draws_depend_only_on_seed_and_sample(make_sample: Make) -> None:
    samples = [make_sample(f"q{number}") for number in range(6)]
    asked = {sample.id: Numbered()(Prompt.of(sample), seed=3).question for sample in samples}
    assert len(set(asked.values())) == len(samples)
    for sample in reversed(samples):
        assert Numbered()(Prompt.of(sample, draw=5), seed=3).question == asked[sample.id]
        assert Numbered(name="other")(Prompt.of(sample), seed=3).question == asked[sample.id]
        assert Numbered()(Prompt.of(sample), seed=4).question != asked[sample.id]


def test_draws_do_not_depend_on_the_position_in_a_composition(make_sample: Make) -> None:
    unperturbed = Prompt.of(make_sample(), distractor=0)
    alone = Numbered()(unperturbed)
    for composed in (Numbered() + AbstainOption(), AbstainOption() + Numbered(), WrongCaption() + Numbered()):
        assert composed(unperturbed).question == alone.question


def test_compositions_join_names_and_flatten() -> None:
    parts = (WrongThink(hedge="but"), AbstainOption(), Shouted(name="loud"))
    names = "wrong_think_but+abstain_option+loud"
    assert Compose(*parts).condition == names
    assert (parts[0] + parts[1] + parts[2]).condition == names
    assert (parts[0] + (parts[1] + parts[2])).condition == names
    assert Compose(*parts).perturbations == (parts[0] + (parts[1] + parts[2])).perturbations == parts
    assert Compose(*parts, name="all").condition == "all"
    assert (Compose(parts[0], parts[1], name="both") + parts[2]).condition == "both+loud"


def test_composition_applies_its_parts_in_sequence(make_sample: Make) -> None:
    unperturbed = Prompt.of(make_sample(), distractor=2)
    for first, second in itertools.permutations([WrongCaption(), StopThink(), AbstainOption(), Shouted()], 2):
        together = (first + second)(unperturbed, seed=9)
        assert together == second(first(unperturbed, seed=9), seed=9).replace(condition=together.condition)
        assert together.condition == f"{first.condition}+{second.condition}"


def test_compositions_are_validated_on_replace() -> None:
    composed = Compose(WrongThink(), AbstainOption())
    assert composed.replace(name="x").condition == "x"
    assert composed.replace(perturbations=(Base(),)).condition == "base"
    with pytest.raises(ValidationError, match="at least 1"):
        Compose()
    with pytest.raises(ValidationError, match="Perturbation"):
        Compose("base")  # type: ignore[arg-type]


def test_errors_inside_a_composition_name_the_composition(make_sample: Make) -> None:
    with pytest.raises(ValidationError, match=r"condition 'abstain_option\+broken', field 'options'"):
        (AbstainOption() + Broken())(Prompt.of(make_sample()))
    with pytest.raises(NotApplicable, match="the turn begins with one already"):
        (StopThink() + WrongThink())(Prompt.of(make_sample(), distractor=0))
