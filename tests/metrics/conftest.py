"""Strategies for prompts and responses of every kind: 2 to 26 options, all statuses, with and without letters."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import strategies as st

from vlmrobust.judges import Judge
from vlmrobust.judges.base import Verdicts
from vlmrobust.types import Prompt, Response, Responses, Sample

STATES = ("answered", "abstained", "unparsed", "truncated", "not_applicable", "error")


def _prompt(identity: str, count: int, answer: int, distractor: int | None = None, added: bool = False) -> Prompt:
    options = [f"option number {i}" for i in range(count)]
    sample = Sample(id=identity, images=["x.png"], question="Which?", options=options, answer=answer)
    prompt = Prompt.of(sample, distractor=distractor)
    if added:
        prompt = prompt.replace(options=(*prompt.options, "I'm not sure"), order=(*prompt.order, None))
    return prompt


@st.composite
def _prompts(draw: Any) -> list[Prompt]:
    prompts = []
    for number in range(draw(st.integers(1, 7))):
        added = draw(st.booleans())
        count = draw(st.integers(2, 25 if added else 26))
        answer = draw(st.integers(0, count - 1))
        wrong = [i for i in range(count) if i != answer]
        prompts.append(_prompt(f"q{number}", count, answer, draw(st.sampled_from([None, *wrong])), added))
    return prompts


@st.composite
def _response(draw: Any, prompt: Prompt) -> Response:
    status = draw(st.sampled_from(STATES))
    if status in ("error", "not_applicable"):
        return Response.failed(prompt, "it went wrong", status)
    count, added = len(prompt.sample.options), None in prompt.order
    # Mostly small enough for a mass below 1, where one letter more or less shows.
    logprob = st.one_of(st.floats(-8, -3, width=32), st.floats(-40, 0, width=32))
    letters = draw(st.one_of(st.none(), st.lists(logprob, min_size=count, max_size=count)))
    if letters is not None and draw(st.booleans()):
        letters[draw(st.integers(0, count - 1))] = -math.inf
    return Response(
        sample_id=prompt.sample.id,
        condition=prompt.condition,
        # "says 3" is what the judge of these tests reads; anything else leaves it unsure.
        think=draw(st.sampled_from(["", "hm", *(f"says {i}" for i in range(-1, count))])),
        own_think=draw(st.sampled_from(["", "Hm.", "I see. I see. I see. I see.", "The caption is wrong."])),
        answer=draw(st.integers(0, count - 1)) if status == "answered" else None,
        status=status,
        well_formed=draw(st.sampled_from([None, False, True])),
        option_logprobs=None if letters is None else tuple(letters),
        added_logprobs=(draw(logprob),) if added and letters is not None else (),
        readout=None if letters is None else draw(st.sampled_from(["own_thought", "fixed_prefix"])),
        token_entropy=draw(st.one_of(st.none(), st.floats(0, 12, width=32))),
        n_tokens=draw(st.one_of(st.none(), st.integers(0, 50))),
    )


@st.composite
def _pairs(draw: Any) -> list[tuple[Prompt, Response]]:
    return [(prompt, draw(_response(prompt))) for prompt in draw(_prompts())]


@st.composite
def _sides(draw: Any) -> tuple[list[tuple[Prompt, Response]], list[tuple[Prompt, Response]]]:
    base = draw(_pairs())
    changed = [prompt.replace(condition="changed") for prompt, _ in base]
    return base, [(prompt, draw(_response(prompt))) for prompt in changed]


@pytest.fixture(scope="session")
def pairs() -> st.SearchStrategy[list[tuple[Prompt, Response]]]:
    """Return a strategy of prompts with their responses."""
    return _pairs()


@pytest.fixture(scope="session")
def sides() -> st.SearchStrategy[tuple[list[tuple[Prompt, Response]], list[tuple[Prompt, Response]]]]:
    """Return a strategy of the same samples' prompts with their responses under base and another condition."""
    return _sides()


@pytest.fixture(scope="session")
def arrays_of() -> Callable[[list[tuple[Prompt, Response]]], Responses]:
    """Return a function that converts pairs to arrays."""
    return lambda pairs: Responses.of([prompt for prompt, _ in pairs], [response for _, response in pairs])


@pytest.fixture(scope="session")
def plain_responses() -> Callable[..., Responses]:
    """Return a builder of responses to one question of four options, the second correct, the first the distractor."""

    def build(*rows: dict[str, Any]) -> Responses:
        prompts = [_prompt(f"q{i}", 4, 1, 0) for i in range(len(rows))]
        defaults: dict[str, Any] = {"condition": "base", "status": "answered", "answer": 1}
        said = [Response(sample_id=f"q{i}", **(defaults | row)) for i, row in enumerate(rows)]
        return Responses.of(prompts, said)

    return build


class StatedJudge(Judge):
    """Reads "says 3" and counts its calls."""

    asked: Any = None

    def conclude(self, responses: Responses) -> Verdicts:
        if self.asked is not None:
            self.asked.append(len(responses))
        said = [thought.removeprefix("says ") if thought.startswith("says ") else None for thought in responses.think]
        options = torch.tensor([-1 if text is None else int(text) for text in said], dtype=torch.int64)
        return Verdicts.of(options, torch.tensor([text is None for text in said], dtype=torch.bool))


@pytest.fixture(scope="session")
def stated_judge() -> type[StatedJudge]:
    """Return the class of a judge that reads these thoughts."""
    return StatedJudge
