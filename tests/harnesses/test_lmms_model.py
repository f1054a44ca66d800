"""Test a model of lmms-eval under our conditions.

Run with the real package where it is installed (it was, in 0.7.3); it is in no extra, so that elsewhere stand-ins take
its place, with the fields and the behaviour of `lmms_eval/api/instance.py` that the adapter touches.
"""

import importlib.util
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import pytest

from vlmrobust import Evaluator, Prompt, Sample
from vlmrobust.harnesses.lmms_eval import LmmsModel
from vlmrobust.models import Model
from vlmrobust.perturbations import WrongCaption, WrongThink, expand

INSTALLED = importlib.util.find_spec("lmms_eval") is not None


@dataclass
class Instance:
    """As in lmms_eval 0.7.3."""

    request_type: str
    arguments: tuple[Any, ...]
    idx: int
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.task_name, self.doc_id, self.repeats = (self.metadata[key] for key in ("task", "doc_id", "repeats"))

    @property
    def args(self) -> tuple[Any, ...]:
        return self.arguments


@dataclass
class TokenCounts:
    """As in lmms_eval 0.7.3."""

    output_tokens: int | None = None


@dataclass
class GenerationResult:
    """As in lmms_eval 0.7.3."""

    text: str
    token_counts: TokenCounts | None = None


def unwrap_generation_output(output: Any) -> tuple[Any, TokenCounts | None]:
    """As in lmms_eval 0.7.3, for the outputs of the models below."""
    return (output, None) if isinstance(output, str) else (output.text, output.token_counts)


@pytest.fixture(autouse=True)
def instance(monkeypatch: pytest.MonkeyPatch) -> Any:
    """`lmms_eval.api.instance`, or what stands in for it."""
    if INSTALLED:
        from lmms_eval.api import instance

        return instance
    for name in ("lmms_eval", "lmms_eval.api", "lmms_eval.api.instance"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    module = sys.modules["lmms_eval.api.instance"]
    for part in (Instance, TokenCounts, GenerationResult, unwrap_generation_output):
        setattr(module, part.__name__, part)
    return module


class Chat:
    """A chat-style model, which reads its requests as lmms-eval's own do."""

    is_simple = False

    def __init__(
        self, answer: Callable[[str], Any] = lambda text: "<think>It is red.</think><answer>A</answer>"
    ) -> None:
        self.task_dict: dict[str, Any] = {}
        self.answer = answer
        self.seen: list[tuple[str, list[Any], dict[str, Any]]] = []

    def generate_until(self, requests: Sequence[Any]) -> list[Any]:
        return [self.answer(self._read(request)) for request in requests]

    def _read(self, request: Any) -> str:
        _, to_messages, settings, number, task, split = request.args
        messages = to_messages(self.task_dict[task][split][number])
        if INSTALLED:
            from lmms_eval.protocol import ChatMessages

            messages = [message.model_dump() for message in ChatMessages(messages=messages).messages]
        parts = [part for message in messages for part in message["content"]]
        text = "".join(part["text"] for part in parts if part["type"] == "text")
        self.seen.append((text, [part["url"] for part in parts if part["type"] == "image"], settings))
        settings.clear()  # adapters pop what they know
        return text


class Simple(Chat):
    """A model of the simple kind, which gets text and images apart."""

    is_simple = True

    def _read(self, request: Any) -> str:
        text, settings, to_visual, number, task, split = request.args
        self.seen.append((text, to_visual(self.task_dict[task][split][number]), settings))
        return str(text)


@pytest.fixture
def prompts(make_sample: Callable[..., Sample]) -> list[Prompt]:
    return list(expand([make_sample()], [WrongCaption(), WrongThink()], seed=0))


@pytest.mark.parametrize("kind", [Chat, Simple])
def test_both_kinds_are_shown_text_and_images(kind: type[Chat], prompts: list[Prompt]) -> None:
    lmms = kind()
    responses = LmmsModel(lmms, {"max_new_tokens": 7}).respond(prompts)
    assert [response.key[1] for response in responses] == ["base", "wrong_caption", "wrong_think"]
    for (text, images, _), prompt in zip(lmms.seen, prompts, strict=True):
        assert text.startswith(prompt.text)
        assert [image.size for image in images] == [(56, 56)]
    assert [response.answer for response in responses] == [0, 0, 0]
    assert all(response.option_logprobs is None for response in responses)


def test_earlier_turns_are_shown_to_models_that_take_them_and_fail_with_others(prompts: list[Prompt]) -> None:
    history = ({"role": "assistant", "text": "<answer>A</answer>"}, {"role": "user", "text": "Are you sure?"})
    asked = [prompts[0], prompts[1].replace(history=history)]
    lmms = Chat()
    LmmsModel(lmms).respond(asked)
    again = f"Are you sure?\n{asked[1].style.instruction_text()}"
    assert lmms.seen[1][0] == f"{asked[1].text}<answer>A</answer>{again}"
    base, failed = LmmsModel(Simple()).respond(asked)
    assert base.status != "error"
    assert failed.error == (
        "sample 'q1', condition 'wrong_caption': expected a chat-style model for a prompt with earlier turns, "
        "got Simple, which takes one text"
    )


def test_a_prefilled_thought_is_carried_by_the_users_text(prompts: list[Prompt]) -> None:
    lmms = Chat()
    base, caption, think = LmmsModel(lmms).respond(prompts)
    assert (base.carrier, caption.carrier, think.carrier) == ("assistant_prefill", "assistant_prefill", "user_text")
    assert prompts[2].prefill.removeprefix("<think>") in lmms.seen[2][0]
    assert think.think == "It is red."


def test_settings_are_given_anew_to_every_request(prompts: list[Prompt]) -> None:
    model = LmmsModel(Simple(), {"max_new_tokens": 7})
    model.respond(prompts)
    assert {settings["max_new_tokens"] for _, _, settings in model.lmms.seen} == {7}
    assert len({id(settings) for _, _, settings in model.lmms.seen}) == 3
    assert model.identity()["generation"]["max_new_tokens"] == 7


def test_tokens_are_counted_where_the_model_counts_them(prompts: list[Prompt], instance: Any) -> None:
    lmms = Chat(lambda _: instance.GenerationResult("A", instance.TokenCounts(output_tokens=5)))
    assert [response.n_tokens for response in LmmsModel(lmms).respond(prompts)] == [5, 5, 5]


def test_an_image_that_cannot_be_opened_fails_its_own_prompt(make_sample: Callable[..., Sample]) -> None:
    prompts = [Prompt.of(make_sample("q1", images=["none.png"])), Prompt.of(make_sample("q2"))]
    first, second = LmmsModel(Chat()).respond(prompts)
    assert (first.status, second.status) == ("error", "answered")
    assert "expected an image file at 'none.png'" in (first.error or "")


def test_what_the_model_raises_is_raised(prompts: list[Prompt]) -> None:
    def fail(text: str) -> str:
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        LmmsModel(Chat(fail)).respond(prompts)


def test_too_few_outputs_are_an_error(prompts: list[Prompt]) -> None:
    lmms = Chat()
    lmms.generate_until = lambda requests: ["A"]  # type: ignore[method-assign]
    with pytest.raises(ValueError, match="expected 3 outputs of Chat, got 1"):
        LmmsModel(lmms).respond(prompts)


def test_it_runs_in_an_evaluator(make_sample: Callable[..., Sample]) -> None:
    model = LmmsModel(Chat())
    assert isinstance(model, Model)
    report = Evaluator(model, [WrongCaption()]).run([make_sample(f"q{number}") for number in range(3)])
    assert len(report.frame) == 6
    assert model.identity()["class"].endswith("Chat")
