"""Responses as a struct of arrays: padding, missing values, selection and concatenation."""

import math
from collections.abc import Callable
from dataclasses import fields

import pytest
import torch

from vlmrobust import Prompt, Response, Responses, Sample
from vlmrobust.perturbations import AbstainOption

Make = Callable[..., Sample]


@pytest.fixture
def pairs(make_sample: Make) -> list[tuple[Prompt, Response]]:
    four = Prompt.of(make_sample("four", group="g", distractor=0, metadata={"kind": "colour"}))
    four = four.replace(context="A red cube.")
    two = AbstainOption()(Prompt.of(make_sample("two", options=("red", "blue")), draw=1))
    none = Prompt.of(make_sample("none", options=("red", "blue", "green")))
    return [
        (four, Response.parse(four, "<think>a</think><answer>B</answer>", option_logprobs=[-1.0, -2.0, -3.0, -4.0])),
        (two, Response.parse(two, "<think>b</think><answer>C</answer>", option_logprobs=[-1.0, -2.0, -0.5])),
        (none, Response.failed(none, "broken")),
    ]


def test_arrays(pairs: list[tuple[Prompt, Response]]) -> None:
    responses = Responses.of(*zip(*pairs, strict=True))
    assert len(responses) == 3
    inf = math.inf
    torch.testing.assert_close(responses.option_logprobs[:2], torch.tensor([[-1.0, -2, -3, -4], [-1, -2, -inf, -inf]]))
    assert responses.option_logprobs[2].isnan().all()
    assert responses.added_logprobs[1].tolist() == [-0.5]
    assert responses.option_count.tolist() == [4, 2, 3]
    assert responses.target.tolist() == [1, 1, 1]
    assert responses.choice.tolist() == [1, -1, -1]
    assert responses.distractor.tolist() == [0, -1, -1]
    assert responses.draw.tolist() == [0, 1, 0]
    assert responses.group == ("g", "two", "none")
    assert responses.status == ("answered", "abstained", "error")
    assert responses.has_status("answered", "abstained").tolist() == [True, True, False]
    assert responses.well_formed[:2].tolist() == [1.0, 1.0]
    assert responses.well_formed[2].isnan()
    assert responses.metadata[0] == {"kind": "colour"}
    assert responses.error == (None, None, "broken")
    assert responses.context == ("A red cube.", "", "")


def test_select_keeps_rows_together(pairs: list[tuple[Prompt, Response]]) -> None:
    responses = Responses.of(*zip(*pairs, strict=True))
    chosen = responses.select([2, 0])
    assert chosen.sample_id == ("none", "four")
    assert chosen.option_count.tolist() == [3, 4]
    assert chosen.option_logprobs[1].tolist() == [-1.0, -2.0, -3.0, -4.0]
    assert len(responses.select([])) == 0


@pytest.mark.parametrize("split", range(4))
def test_joined_parts_equal_the_whole(pairs: list[tuple[Prompt, Response]], split: int) -> None:
    whole = Responses.of(*zip(*pairs, strict=True))
    parts = [Responses.of([p for p, _ in part], [r for _, r in part]) for part in (pairs[:split], pairs[split:])]
    joined = Responses.joined(*parts)
    for name in (item.name for item in fields(Responses) if item.init):
        found, expected = getattr(joined, name), getattr(whole, name)
        if isinstance(expected, torch.Tensor):
            torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)
        else:
            assert found == expected


def test_empty_responses() -> None:
    responses = Responses.of([], [])
    assert len(responses) == 0
    assert responses.option_logprobs.shape[0] == 0


def test_mismatched_prompts_and_responses_are_rejected(pairs: list[tuple[Prompt, Response]]) -> None:
    prompts, answers = zip(*pairs, strict=True)
    with pytest.raises(ValueError, match=r"expected one response per prompt \(3\), got 2"):
        Responses.of(prompts, answers[:2])
    with pytest.raises(
        ValueError, match=r"expected the response to \('four', 'base', 0\) at position 0, got \('two', "
    ):
        Responses.of(prompts, [answers[1], answers[0], answers[2]])
    short = answers[0].replace(option_logprobs=(-1.0,))
    with pytest.raises(
        ValueError, match="sample 'four', condition 'base', field 'option_logprobs': expected 4 values, got 1"
    ):
        Responses.of(prompts[:1], [short])
