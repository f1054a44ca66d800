"""Responses: parsing of completions, and log-probabilities in the sample's order."""

import math
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from vlmrobust import Prompt, Response, Sample, Style
from vlmrobust.perturbations import AbstainOption, StopThink, WrongThink

Make = Callable[..., Sample]


def test_thought_and_answer(make_sample: Make) -> None:
    response = Response.parse(Prompt.of(make_sample()), "<think>It is blue.</think><answer>B</answer>")
    assert response.key == ("q1", "base", 0)
    assert (response.answer, response.status, response.well_formed) == (1, "answered", True)
    assert response.think == response.own_think == "It is blue."
    assert (response.readout, response.option_logprobs, response.carrier) == (None, None, "assistant_prefill")
    assert math.isnan(response.letter_mass)


def test_injected_thought_is_not_own_thought(make_sample: Make) -> None:
    sample = make_sample(distractor=0, texts={"wrong_think": "The cube is red."})
    prompt = WrongThink()(Prompt.of(sample))
    response = Response.parse(prompt, " But no, it is blue.</think><answer>B</answer>")
    assert response.think == "The cube is red. But no, it is blue."
    assert response.own_think == "But no, it is blue."
    assert (response.condition, response.answer, response.well_formed) == ("wrong_think", 1, True)


def test_stop_think_leaves_no_own_thought(make_sample: Make) -> None:
    response = Response.parse(StopThink()(Prompt.of(make_sample())), "<answer>B</answer>")
    assert response.own_think == ""
    assert response.think == "Okay let's see. This should be the final answer."


def test_separate_reasoning_is_put_back_in_its_tags(make_sample: Make) -> None:
    apart = Response.parse(Prompt.of(make_sample()), "<answer>B</answer>", reasoning="It is blue.")
    whole = Response.parse(Prompt.of(make_sample()), "<think>It is blue.</think><answer>B</answer>")
    assert apart == whole


@pytest.mark.parametrize(
    ("completion", "finish_reason", "status"),
    [
        ("<think>It is", "length", "truncated"),
        ("<think>It is", "stop", "truncated"),
        ("<think>It is.</think>Hard to say", "stop", "unparsed"),
        ("<think>It is.</think>Hard to", "length", "truncated"),
        ("", "stop", "unparsed"),
    ],
)
def test_no_answer(make_sample: Make, completion: str, finish_reason: str, status: str) -> None:
    response = Response.parse(Prompt.of(make_sample()), completion, finish_reason=finish_reason)
    assert (response.answer, response.status) == (None, status)


def test_an_added_option_is_an_abstention(make_sample: Make) -> None:
    prompt = AbstainOption()(Prompt.of(make_sample()))
    response = Response.parse(
        prompt, "<think>Dark.</think><answer>E</answer>", option_logprobs=[-3.0, -2.0, -4.0, -5.0, -0.5]
    )
    assert (response.answer, response.status) == (None, "abstained")
    assert response.option_logprobs == (-3.0, -2.0, -4.0, -5.0)
    assert response.added_logprobs == (-0.5,)
    assert response.letter_mass == pytest.approx(sum(math.exp(x) for x in (-3.0, -2.0, -4.0, -5.0, -0.5)))


def test_log_probabilities_are_mapped_to_the_samples_order(make_sample: Make) -> None:
    prompt = Prompt.of(make_sample()).replace(options=("yellow", "blue"), order=(3, 1))
    response = Response.parse(prompt, "<think>.</think><answer>A</answer>", option_logprobs=[-0.1, -2.4])
    assert response.answer == 3
    assert response.option_logprobs == (-math.inf, -2.4, -math.inf, -0.1)
    assert response.readout == "own_thought"


@pytest.mark.parametrize(
    ("logprobs", "message"),
    [
        ([-1.0, -1.0], r"sample 'q1', condition 'base': expected one value per shown option \(4\), got 2"),
        ([-1.0, float("nan"), -1.0, -1.0], "sample 'q1', condition 'base', field 'option_logprobs': .*, got NaN"),
    ],
)
def test_invalid_log_probabilities_are_rejected(make_sample: Make, logprobs: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Response.parse(Prompt.of(make_sample()), "<answer>B</answer>", option_logprobs=logprobs)


def test_letter_mass_is_at_most_one() -> None:
    response = Response(
        sample_id="q",
        condition="base",
        status="answered",
        answer=0,
        option_logprobs=(math.log(0.6), math.log(0.4 + 1e-9)),
    )
    assert response.letter_mass == 1.0


def test_failure_becomes_an_error_response(make_sample: Make) -> None:
    response = Response.failed(Prompt.of(make_sample(), draw=2), OSError("no such image"))
    assert (response.key, response.status, response.error) == (("q1", "base", 2), "error", "OSError: no such image")
    assert Response.failed(Prompt.of(make_sample()), "too few", "not_applicable").error == "too few"


def test_direct_mode(make_sample: Make) -> None:
    prompt = Prompt.of(make_sample(), style=Style(mode="direct"))
    response = Response.parse(prompt, "B", finish_reason="readout", readout="direct")
    assert (response.answer, response.well_formed, response.readout) == (1, None, "direct")


def test_fields_are_checked() -> None:
    with pytest.raises(ValidationError, match="status"):
        Response(sample_id="q", condition="base", status="fine")  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match="token_entropy"):
        Response(sample_id="q", condition="base", status="answered", answer=0, token_entropy=-0.1)


def test_responses_survive_json() -> None:
    response = Response(
        sample_id="q",
        condition="base",
        status="answered",
        answer=0,
        option_logprobs=(-0.1, -2.5),
        added_logprobs=(-3.0,),
    )
    assert Response.model_validate_json(response.model_dump_json()) == response


def test_prefill_repeated_by_the_completion_is_removed(make_sample: Make) -> None:
    sample = make_sample(distractor=0, texts={"wrong_think": "The cube is red."})
    prompt = WrongThink()(Prompt.of(sample))
    once = Response.parse(prompt, " No, it is blue.</think><answer>B</answer>")
    twice = Response.parse(prompt, f"{prompt.prefill} No, it is blue.</think><answer>B</answer>")
    assert (twice.think, twice.own_think, twice.answer) == (once.think, once.own_think, once.answer)
    assert twice.think is not None
    assert twice.think.count("The cube is red.") == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"answer": None}, "field 'answer': expected an option's index with status 'answered', got None"),
        ({"option_logprobs": (3.0, -1.0)}, "field 'option_logprobs': expected log-probabilities.*at most 0, got 3.0"),
        ({"option_logprobs": (math.inf, -1.0)}, "field 'option_logprobs': expected log-probabilities.* got inf"),
        ({"added_logprobs": (0.5,)}, "field 'added_logprobs': expected log-probabilities"),
    ],
)
def test_contradictions_are_rejected_by_sample_and_condition(changes: dict[str, Any], message: str) -> None:
    whole = {"sample_id": "q", "condition": "base", "status": "answered", "answer": 0}
    with pytest.raises(ValidationError, match=f"sample 'q', condition 'base', {message}"):
        Response(**whole | changes)
    assert Response(**whole, option_logprobs=(-math.inf, 0.0)).answer == 0
    with pytest.raises(ValidationError, match=r"status\n.*Input should be 'answered', "):
        Response(**whole | {"status": "fine"})
