"""Half precision: measured dependence on the batch, and letters in float32."""

import copy
import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
import zoo

from vlmrobust import Prompt, Sample, Style, expand
from vlmrobust.models import HFModel
from vlmrobust.models.probe import tolerance
from vlmrobust.models.self_check import texts_changed_by_batch
from vlmrobust.perturbations import StopThink

Build = Callable[[str], zoo.Tiny]

pytestmark = [
    # transformers' own, from handing tensors to numpy
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning"),
]


def said(caplog: pytest.LogCaptureFixture) -> list[tuple[int, int]]:
    found = [record.args for record in caplog.records if "in half precision" in record.msg]
    return [(args[1], args[2]) for args in found if isinstance(args, tuple)]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("family", ["llava", "qwen2_5_vl"])
def test_texts_that_depend_on_their_batch_are_counted(
    family: str, dtype: torch.dtype, tiny: Build, samples: list[Sample], caplog: pytest.LogCaptureFixture
) -> None:
    model, processor = copy.deepcopy(tiny(family).model).to(dtype), tiny(family).processor
    prompts = [
        Prompt.of(sample, draw=draw).replace(prefill=f"<think>{'It is' * draw}")
        for sample in samples
        for draw in (0, 1)
    ]
    options = {"max_new_tokens": 12}
    with caplog.at_level(logging.INFO, logger="vlmrobust"):
        engine = HFModel(model, processor, options)
        together = engine.respond(prompts)
        engine.respond(prompts)
    [(changed, seen)] = said(caplog)
    assert 1 < seen <= 14
    alone = HFModel(model, processor, options, batch_size=1, share_prefixes=False).respond(prompts)
    differing = sum(one.text != other.text for one, other in zip(together, alone, strict=True))
    assert 0 <= changed <= seen
    # Rounding of a pass over the whole text is not that of one token after the other: counts are near, not equal.
    assert abs(changed - differing * seen / len(prompts)) <= 3


def test_a_text_changed_by_its_batch_is_detected(tiny: Build, samples: list[Sample]) -> None:
    model, processor = copy.deepcopy(tiny("llava").model).bfloat16(), tiny("llava").processor
    engine = HFModel(model, processor, {"max_new_tokens": 6})
    items = [engine._encoder.render(Prompt.of(sample), {}) for sample in samples[:3]]
    with torch.inference_mode():
        runner = engine._engine.runner
        [written], _ = engine._engine._plain.write(items[:1], looks=False)
        assert texts_changed_by_batch(runner, [(items[0], written)]) == (0, 1)
        written.tokens[-1] = (written.tokens[-1] + 1) % 300
        assert texts_changed_by_batch(runner, [(items[0], written)]) == (1, 1)


def test_nothing_is_measured_in_float32(tiny: Build, samples: list[Sample], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="vlmrobust"):
        HFModel(tiny("llava").model, tiny("llava").processor, {"max_new_tokens": 2}).respond(
            [Prompt.of(sample) for sample in samples]
        )
    assert said(caplog) == []


@pytest.mark.parametrize("family", ["qwen2_5_vl", "gemma3"])
def test_letters_are_float32_whatever_autocast_does(family: str, tiny: Build, samples: list[Sample]) -> None:
    made = tiny(family)
    engine = HFModel(made.model, made.processor)
    engine._engine._ahead.works = False  # one state, and what its head makes of it
    prompts = [Prompt.of(sample, style=Style(mode="direct")) for sample in samples]
    states: list[Any] = []
    head = made.model.get_output_embeddings()
    with torch.autocast("cpu", torch.bfloat16):
        hook = head.register_forward_pre_hook(lambda module, arguments: states.append(arguments[0]))
        [response] = engine.respond(prompts[1:2])
        hook.remove()
    exact = (states[-1][0, -1].double() @ head.weight.double().T).log_softmax(-1)
    from oracle import MARKS, letters_that_end, token_texts

    texts = token_texts(made.processor.tokenizer)
    with torch.inference_mode():
        letters = letters_that_end(made.model, {}, [], exact, texts, shown="")[: len(prompts[1].options)]
    assert MARKS.startswith("ABCD")
    assert response.option_logprobs == pytest.approx(letters.tolist(), abs=1e-3)


def test_float32_logits_of_a_half_precision_head_are_not_exact(tiny: Build, samples: list[Sample]) -> None:
    model, processor = copy.deepcopy(tiny("llava").model).bfloat16(), tiny("llava").processor
    prompts = [Prompt.of(sample, style=Style(mode="direct")) for sample in samples]
    expected = HFModel(model, processor).respond(prompts)
    real = model.forward

    def upcast(**inputs: Any) -> Any:
        output = real(**inputs)
        output.logits = output.logits.float()
        return output

    upcast.__signature__ = __import__("inspect").signature(real)  # type: ignore[attr-defined]
    model.forward = upcast
    for response, other in zip(HFModel(model, processor).respond(prompts), expected, strict=True):
        assert response.option_logprobs == pytest.approx(other.option_logprobs, abs=1e-6)


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("family", ["qwen3_vl", "gemma3", "idefics3", "cohere2_vision"])
def test_rounding_under_autocast_is_no_fault(
    family: str, inside: bool, tiny: Build, samples: list[Sample], caplog: pytest.LogCaptureFixture
) -> None:
    # If letters are not looked past, it is nats off (10 in Cohere2Vision), and rounding part of one.
    made = tiny(family)
    prompts = [Prompt.of(sample, style=Style(mode="direct")) for sample in samples]
    prompts += [prompt for prompt in expand(samples[:4], [StopThink()]) if prompt.condition == "stop_think"]
    exact = HFModel(made.model, made.processor).respond(prompts)
    made_outside = None if inside else HFModel(made.model, made.processor)
    with torch.autocast("cpu", torch.bfloat16):
        responses = (made_outside or HFModel(made.model, made.processor)).respond(prompts)
    assert caplog.text == "", "neither one by one, nor without a look ahead, nor by the plain path"
    for response, other in zip(responses, exact, strict=True):
        assert response.option_logprobs == pytest.approx(other.option_logprobs, abs=1.0)
    assert responses[0].option_logprobs != exact[0].option_logprobs


@pytest.mark.parametrize(
    ("dtype", "inside", "nats"),
    [
        (torch.float32, None, 2e-4),
        (torch.float32, torch.bfloat16, 0.25),
        (torch.float32, torch.float16, 0.05),
        (torch.bfloat16, None, 0.25),
        (torch.bfloat16, torch.float16, 0.25),
    ],
)
def test_the_tolerance_follows_from_the_compute_dtypes(
    dtype: torch.dtype, inside: torch.dtype | None, nats: float
) -> None:
    model = torch.nn.Linear(2, 2, dtype=dtype)
    model.dtype, model.device = dtype, torch.device("cpu")  # type: ignore[assignment]
    with torch.autocast("cpu", inside, enabled=inside is not None):
        assert tolerance(model) == nats
