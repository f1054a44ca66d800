"""All conditions in one run of a real, tiny model; prompts without an image against plain forwards."""

from collections.abc import Callable
from typing import Any

import oracle
import pytest
import torch
import zoo

from vlmrobust import Evaluator, Prompt, Response, Sample, expand
from vlmrobust.models import HFModel
from vlmrobust.perturbations import (
    OptionLetters,
    ParaphrasedThought,
    RemovedImage,
    RotatedOptions,
    StopThink,
    SwappedImage,
)
from vlmrobust.perturbations.catalogue import CONDITIONS

pytestmark = [
    # transformers' own, from handing tensors to numpy
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning"),
]

Build = Callable[[str], zoo.Tiny]
TextsOf = Callable[[Any], list[str]]


def backwards(thought: str) -> str:
    return " ".join(thought.split()[::-1])


class Thinking(HFModel):
    """Closes its thought after a few tokens, so that there is one under base; untrained models never do."""

    def respond(self, prompts: Any) -> Any:
        responses = super().respond(prompts)
        return [
            response.replace(status="answered", own_think=f"{response.own_think} It is red. Is it?", answer=0)
            if response.condition == "base"
            else response
            for response in responses
        ]


def test_all_conditions_in_one_run(tiny: Build, samples: list[Sample]) -> None:
    made = tiny("qwen2_5_vl")
    model = Thinking(made.model, made.processor, {"max_new_tokens": 3}, force_answer=True)
    conditions = [make() for make in CONDITIONS.values()]
    conditions += [SwappedImage(pool=samples), ParaphrasedThought(paraphrase=backwards)]
    asked = samples[:2]
    report = Evaluator(model, conditions, distractor="runner_up", batch_size=2).run(asked)
    frame = report.frame
    assert set(report.conditions) == {condition.condition for condition in conditions}
    assert len(frame) == len(conditions) * len(asked)
    assert not (frame["status"] == "error").any(), frame["error"].dropna().tolist()
    applicable = frame[frame["status"] != "not_applicable"]
    assert set(frame["condition"]) - set(applicable["condition"]) == {"rotated_options_4", "rotated_options_5"}
    assert (applicable.groupby("sample_id")["distractor"].nunique() == 1).all()
    closed = applicable[applicable["condition"].str.contains("early|filler|paraphrased|stop_think")]
    assert len(closed) == 8 * len(asked)
    assert set(closed["readout"]) == {"fixed_prefix"}
    assert closed["letter_mass"].notna().all()
    thoughts = applicable.set_index(["condition", "sample_id"])["think"]
    for sample in asked:
        assert set(thoughts["filler_thought", sample.id].split()) == {"…"}
        assert thoughts["paraphrased_thought", sample.id] == backwards(thoughts["early_answer_100", sample.id])
        assert thoughts["early_answer_100", sample.id].startswith(thoughts["early_answer_50", sample.id])


@pytest.mark.parametrize("family", [family for family in zoo.FAMILIES if family != "paligemma"])
def test_letters_without_an_image_equal_a_plain_forward(
    family: str, tiny: Build, samples: list[Sample], texts_of: TextsOf
) -> None:
    model, processor = tiny(family).model, tiny(family).processor
    blind = RemovedImage() + StopThink()
    prompts = [prompt for prompt in expand(samples[:3], [StopThink(), blind]) if prompt.condition != "base"]
    texts = texts_of(processor.tokenizer)
    for prompt, response in zip(prompts, HFModel(model, processor).respond(prompts), strict=True):
        assert response.error is None, response.error
        text = oracle.rendered(processor, prompt) + "<answer>"
        shown = shown_letters(prompt)
        expected = oracle.forced_letters(processor, model, text, prompt.images, texts, shown)[: len(prompt.options)]
        found = torch.tensor(response.option_logprobs, dtype=torch.float64)
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("family", ["qwen2_5_vl", "paligemma"])
def test_other_letters_equal_a_plain_forward(
    family: str, tiny: Build, writer: Build, samples: list[Sample], texts_of: TextsOf
) -> None:
    model, processor = tiny(family).model, tiny(family).processor
    texts = texts_of(processor.tokenizer)
    turned = RotatedOptions() + OptionLetters(letters="QZPBAXYCDEFG") + StopThink()
    prompts = [prompt for prompt in expand(samples, [turned]) if prompt.condition != "base"]
    assert len(prompts) == len(samples) - 1  # one has 26 options
    for prompt, response in zip(prompts, HFModel(model, processor).respond(prompts), strict=True):
        text = oracle.rendered(processor, prompt) + "<answer>"
        expected = oracle.forced_letters(processor, model, text, prompt.images, texts, shown_letters(prompt))
        assert_letters(response, expected, prompt)
        assert response.text == "<answer>" + max(shown_letters(prompt), key=lambda letter: expected[place(letter)])
    # Written: this one likes to write A, B, C and D.
    model, processor = writer(family).model, writer(family).processor
    prompts = [
        prompt.replace(prefill="<think>It is red.</think><answer>")
        for prompt in expand(samples, [OptionLetters(letters="DCBA")])
        if prompt.condition != "base"
    ]
    read = 0
    for prompt, response in zip(
        prompts, HFModel(model, processor, {"max_new_tokens": 1}).respond(prompts), strict=True
    ):
        written = oracle.EITHER_CASE.fullmatch(response.text)
        if written is None or response.answer is None:
            assert response.option_logprobs is None
            continue
        inputs = oracle.inputs_of(processor, oracle.rendered(processor, prompt), prompt.images)
        logprobs = oracle.logits_of(model, inputs)[-1]
        expected = oracle.letters_that_end(model, inputs, [], logprobs, texts, shown=shown_letters(prompt))
        assert_letters(response, expected, prompt)
        assert response.answer == "DCBA".index(written[1].upper())
        read += 1
    assert read >= 2, "the test needs answers with letters"


def place(letter: str) -> int:
    return ord(letter) - ord("A")


def shown_letters(prompt: Prompt) -> str:
    return prompt.style.letters[: len(prompt.options)]


def assert_letters(response: Response, expected: torch.Tensor, prompt: Prompt) -> None:
    assert response.error is None, response.error
    own = {index: expected[place(letter)] for letter, index in zip(shown_letters(prompt), prompt.order, strict=True)}
    found = torch.tensor(response.option_logprobs, dtype=torch.float64)
    torch.testing.assert_close(found, torch.stack([own[i] for i in range(len(own))]), atol=1e-4, rtol=0)


def test_a_processor_that_needs_an_image_fails_these_prompts_alone(tiny: Build, samples: list[Sample]) -> None:
    model = HFModel(tiny("paligemma").model, tiny("paligemma").processor)
    prompts = expand(samples[:1], [StopThink(), RemovedImage() + StopThink()])
    *_, shown, removed = model.respond(list(prompts))
    assert shown.status == "answered"
    assert removed.status == "error"
    assert "PaliGemmaProcessor refused text or image" in (removed.error or "")
