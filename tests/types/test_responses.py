"""Responses as a struct of arrays; their texts, which share content with the thoughts."""

import math
import pickle
import random
from collections.abc import Callable
from dataclasses import fields
from operator import add

import pytest
import torch

from vlmrobust import Prompt, Response, Responses, Sample
from vlmrobust.perturbations import AbstainOption
from vlmrobust.types.responses import Texts, within_thoughts

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


# Thought, own part, completion: usual and degenerate ones.
ROWS = [
    ("It is red.", "It is red.", "<think>It is red.</think><answer>A</answer>"),
    ("You said blue. It is red.", "It is red.", "It is red.</think><answer>A</answer>"),
    ("You said blue.", "", "</think><answer>B</answer>"),
    ("", "", "B"),
    ("", "", ""),
    ("own first, then more", "own first", "own first and something else"),  # the own part is not the end
    ("a a", "a", "a b a"),  # the text contains it twice
    ("红 👍", "👍", "<think>👍</think>"),
    ("thought", "thought", "cut before the tho"),  # not in the text
]
THOUGHTS, OWN, COMPLETIONS = (tuple(column) for column in zip(*ROWS, strict=True))


@pytest.fixture
def shared_texts():
    return within_thoughts(THOUGHTS, OWN, COMPLETIONS)


def test_texts_equal_the_originals(shared_texts):
    for found, expected in zip(shared_texts, (OWN, COMPLETIONS), strict=True):
        assert isinstance(found, Texts)
        assert list(found) == list(expected)
        assert [found[row] for row in range(-len(ROWS), len(ROWS))] == [*expected, *expected]
        assert found == expected == found
        assert found != expected[:-1]
        assert found != (*expected[:-1], "other")
        assert (found[2:5], found[::-2], repr(found)) == (expected[2:5], expected[::-2], repr(expected))
        assert (add(found, ("x",)), add(("x",), found)) == ((*expected, "x"), ("x", *expected))
        assert "B" not in found[:3]
        assert pickle.loads(pickle.dumps(found)) == expected
        with pytest.raises(IndexError):
            found[len(ROWS)]
        with pytest.raises(TypeError, match="unhashable"):
            hash(found)


def test_taken_and_joined(shared_texts):
    rows = random.Random(0).choices(range(len(ROWS)), k=30)
    for found, expected in zip(shared_texts, (OWN, COMPLETIONS), strict=True):
        assert found.taken(rows) == tuple(expected[row] for row in rows)
        assert found.taken([]) == ()
        assert Texts.joined([found, found.taken([1]), found.taken([])]) == (*expected, expected[1])


def test_text_of_the_thought_is_not_stored_again():
    thought = "word " * 1000 + "end"
    own, text = within_thoughts((f"injected {thought}",), (thought,), (f"<think>{thought}</think>",))
    assert own.before == own.after == ("",)
    assert (text.before, text.after) == (("<think>",), ("</think>",))
    assert own.longer is text.longer
