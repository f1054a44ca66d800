"""Test solver and scorer with inspect_ai's own states and outputs and a function as the model.

What `inspect eval` makes of them is in the logs that `write_logs.py` wrote, see `test_inspect_logs.py`.
"""

import asyncio
import io
import math
from collections.abc import Callable
from typing import Any

import pytest
from inspect_ai._util.registry import registry_info, registry_params
from inspect_ai.model import ChatMessageUser, ContentImage, ContentText, ModelName, ModelOutput
from inspect_ai.scorer import Score, Target
from inspect_ai.solver import Solver, TaskState
from PIL import Image

from vlmrobust import Prompt, Response, Responses, Sample, Style
from vlmrobust.harnesses.inspect_logs import RECORD, sample_from
from vlmrobust.harnesses.inspect_task import _answered, perturbed, robustness
from vlmrobust.metrics import Accuracy, Consistency, FollowRate, FormatRate, default_metrics
from vlmrobust.models.server.messages import data_url
from vlmrobust.perturbations import (
    Base,
    BlankImage,
    EarlyAnswer,
    Perturbation,
    RotatedOptions,
    StopThink,
    WrongCaption,
    WrongThink,
    expand,
)
from vlmrobust.report.metric_columns import score as measured

SAMPLE = Sample(
    id="q1",
    images=[b"not decoded"],
    question="Which colour is the cube?",
    options=["red", "blue", "green"],
    answer=1,
)


@pytest.fixture(scope="module")
def picture() -> str:
    buffer = io.BytesIO()
    half = Image.new("RGB", (8, 8), "red")
    half.paste("blue", (0, 0, 4, 8))
    half.save(buffer, "PNG")
    return data_url(buffer.getvalue())


def state_of(picture: str, **fields: Any) -> TaskState:
    message = ChatMessageUser(content=[ContentImage(image=picture), ContentText(text=SAMPLE.question)])
    given = {
        "model": ModelName("mockllm/model"),
        "sample_id": SAMPLE.id,
        "epoch": 1,
        "input": [message],
        "messages": [message],
        "target": Target("B"),
        "choices": list(SAMPLE.options),
    }
    return TaskState(**(given | fields))


def solve(solver: Solver, state: TaskState, text: str = "<think>It is red.</think><answer>A</answer>") -> TaskState:
    async def generate(state: TaskState, *_: Any, **__: Any) -> TaskState:
        state.output = ModelOutput.from_content("mockllm/model", text)
        state.messages.append(state.output.message)
        return state

    return asyncio.run(solver(state, generate))  # type: ignore[arg-type]


def run_scorer(state: TaskState, scorer: Any) -> Score:
    score: Score = asyncio.run(scorer(state, Target("B")))
    return score


def message_texts(state: TaskState) -> list[tuple[str, str]]:
    return [(message.role, message.text) for message in state.messages]


@pytest.mark.parametrize(
    "condition", [Base(), WrongThink(), WrongCaption(), StopThink(), RotatedOptions(by=1)], ids=lambda c: c.condition
)
def test_a_task_asks_what_expand_asks(picture: str, condition: Any) -> None:
    expected = {prompt.condition: prompt for prompt in expand([SAMPLE], [condition], seed=3)}[condition.condition]
    state = solve(perturbed(condition, seed=3), state_of(picture))
    turns = [("user", expected.text)] + [("assistant", expected.prefill)] * bool(expected.prefill)
    assert message_texts(state)[:-1] == turns
    [image] = [part for part in state.messages[0].content if not isinstance(part, str) and part.type == "image"]
    assert image.image == picture
    assert state.store.get(RECORD)["prompt"]["condition"] == condition.condition


class DoubtfulQuestion(Perturbation):
    """Goes on from an answer that nobody gave."""

    def perturb(self, prompt: Prompt, rng: Any) -> Prompt:
        return prompt.replace(history=[{"role": "assistant", "text": "A"}, {"role": "user", "text": "Sure?</s>"}])


def test_earlier_turns_are_messages_and_are_recorded(picture: str) -> None:
    state = solve(perturbed(DoubtfulQuestion()), state_of(picture))
    [prompt] = [prompt for prompt in expand([SAMPLE], [DoubtfulQuestion()]) if prompt.condition == "doubtful_question"]
    again = f"Sure?< /s>\n{prompt.style.instruction_text()}"
    assert message_texts(state)[:-1] == [("user", prompt.text), ("assistant", "A"), ("user", again)]
    assert state.store.get(RECORD)["prompt"]["history"] == [turn.model_dump() for turn in prompt.history]


def test_the_style_has_a_system_turn(picture: str) -> None:
    state = solve(perturbed(style=Style(system="Look closely.", image_position="last")), state_of(picture))
    assert message_texts(state)[0] == ("system", "Look closely.")
    assert [part.type for part in state.messages[1].content] == ["text", "image"]  # type: ignore[union-attr]


def test_images_are_changed_and_paths_are_passed_on(picture: str) -> None:
    blurred = solve(perturbed(BlankImage()), state_of(picture)).messages[0].content[0].image  # type: ignore[union-attr]
    assert blurred.startswith("data:image/png;base64,")
    assert blurred != picture
    message = ChatMessageUser(content=[ContentImage(image="cube.png"), ContentText(text="Which?")])
    state = solve(perturbed(), state_of(picture, input=[message], messages=[message]))
    assert state.messages[0].content[0].image == "cube.png"  # type: ignore[union-attr]


@pytest.mark.parametrize("condition", [Base(), WrongThink(), RotatedOptions(by=2)], ids=lambda c: c.condition)
def test_the_scorer_measures_what_a_report_measures(picture: str, condition: Any) -> None:
    text = "It is red.</think><answer>A</answer>"
    metrics = [metric for metric in default_metrics() if hasattr(metric, "per_sample")]
    score = run_scorer(solve(perturbed(condition), state_of(picture), text), robustness(metrics))
    [prompt] = [prompt for prompt in expand([SAMPLE], [condition], seed=0) if prompt.condition == condition.condition]
    response = Response.parse(prompt, text, finish_reason="stop")
    expected = {
        column.name: float(column.scores[0]) for column in measured(Responses.of([prompt], [response]), metrics)
    }
    assert isinstance(score.value, dict)
    assert score.value.keys() == expected.keys()
    for name, value in expected.items():
        assert score.value[name] == value or (math.isnan(value) and math.isnan(score.value[name])), name  # type: ignore[arg-type]
    assert response.answer is not None
    assert score.answer == "ABC"[response.answer]
    assert score.metadata == {"condition": condition.condition, "status": "answered"}


def test_the_default_scorer_without_the_solver(picture: str) -> None:
    state = solve(plain(), state_of(picture), "<think>It is blue.</think><answer>B</answer>")
    score = run_scorer(state, robustness())
    assert score.value["accuracy"] == score.value["consistency"] == score.value["consistency_coverage"] == 1  # type: ignore[call-overload, index]
    assert math.isnan(score.value["follow_rate"])  # type: ignore[call-overload, index, arg-type]
    direct = run_scorer(state, robustness([FormatRate()], style=Style(mode="direct")))
    assert direct.value == {"format_rate": 0}


def plain() -> Solver:
    async def solve(state: TaskState, generate: Callable[..., Any]) -> TaskState:
        result: TaskState = await generate(state)
        return result

    return solve  # type: ignore[return-value]


def test_ready_made_texts_and_distractors_lie_in_the_metadata(picture: str) -> None:
    own = {"texts": {"wrong_caption": {"C": "A green cube."}}, "distractor": "C", "group": "image 1"}
    state = solve(perturbed(WrongCaption()), state_of(picture, metadata={"vlmrobust": own, "kind": "hue"}))
    assert message_texts(state)[0][1].startswith("A green cube.\n")
    record = state.store.get(RECORD)["prompt"]
    assert (record["distractor"], record["asserted"]) == (2, 2)
    sample = sample_from(_answered(state))
    assert (sample.group, sample.metadata) == ("image 1", {"kind": "hue"})


def test_a_condition_that_does_not_fit_ends_without_a_call(picture: str) -> None:
    state = solve(perturbed(RotatedOptions(by=3)), state_of(picture))
    assert state.completed
    assert not state.output.choices
    score = run_scorer(state, robustness([Accuracy(), FollowRate(), Consistency()]))
    assert all(math.isnan(value) for value in score.value.values())  # type: ignore[union-attr, arg-type]
    assert score.metadata == {"condition": "rotated_options_3", "status": "not_applicable"}
    assert score.explanation == "a rotation by 3 needs more than 3 options"


def test_a_condition_that_needs_the_base_answer_says_so(picture: str) -> None:
    with pytest.raises(ValueError, match=r"expected the response under base in 'prompt\.base', got none"):
        solve(perturbed(EarlyAnswer()), state_of(picture))


def test_a_sample_without_choices_is_refused(picture: str) -> None:
    with pytest.raises(ValueError, match="expected a question with lettered options"):
        solve(perturbed(), state_of(picture, choices=None))


def test_epochs_are_draws(picture: str) -> None:
    assert solve(perturbed(), state_of(picture, epoch=3)).store.get(RECORD)["prompt"]["draw"] == 2


def test_inspect_knows_both_by_name_and_settings() -> None:
    solver = perturbed(WrongThink(), seed=1)
    assert registry_info(solver).name.endswith("perturbed")
    assert registry_params(solver)["seed"] == 1
    assert registry_info(robustness()).name.endswith("robustness")


def test_a_recorded_prompt_is_the_prompt(picture: str) -> None:
    """The record holds all that `Prompt` has but sample and images: a new field is not forgotten."""
    record = solve(perturbed(WrongThink()), state_of(picture)).store.get(RECORD)["prompt"]
    assert record.keys() == Prompt.model_fields.keys() - {"sample", "images", "base"}
