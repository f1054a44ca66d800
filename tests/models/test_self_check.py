"""The self-check of a new model: faults of models and processors that would affect every row."""

import copy
import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import zoo
from PIL import Image

from vlmrobust import Prompt, Response, Sample, expand
from vlmrobust.models import HFModel, huggingface
from vlmrobust.models.base import RefusedError
from vlmrobust.perturbations import StopThink

pytestmark = [
    # transformers' own, from handing tensors to numpy
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning"),
]

Build = Callable[[str], zoo.Tiny]
Called = Callable[..., Mapping[str, Any]]


def processing(processor: Any, called: Callable[[Called, dict[str, Any]], Any]) -> Any:
    """Return a copy of a processor whose calls are `called` with its own call and what it is given."""
    real = type(processor)

    def call(self: Any, images: Any = None, text: Any = None, **options: Any) -> Any:
        return called(functools.partial(real.__call__, self), {"images": images, "text": text, **options})

    changed = copy.copy(processor)
    changed.__class__ = type(real.__name__, (real,), {"__call__": call})
    return changed


def forced(samples: Sequence[Sample]) -> list[Prompt]:
    return [prompt for prompt in expand(samples, [StopThink()]) if prompt.condition == "stop_think"]


def assert_same(responses: Sequence[Response], expected: Sequence[Response]) -> None:
    for response, other in zip(responses, expected, strict=True):
        assert response.error is None, response.error
        assert response.text == other.text
        assert response.option_logprobs == pytest.approx(other.option_logprobs, abs=1e-4)


# ----------------------------------------------------------------------------------------------------- processors


def test_tokens_appended_by_a_processor_are_removed(tiny: Build, samples: list[Sample]) -> None:
    made = tiny("qwen2_5_vl")

    def appended(call: Called, given: dict[str, Any]) -> Any:
        return call(**given | {"text": [f"{text}<|im_end|>" for text in given["text"]]})

    prompts = [*forced(samples), *(Prompt.of(sample).replace(prefill="<think>It is") for sample in samples)]
    options = {"max_new_tokens": 3}
    responses = HFModel(made.model, processing(made.processor, appended), options).respond(prompts)
    assert_same(responses, HFModel(made.model, made.processor, options).respond(prompts))


def test_a_processor_that_replaces_the_prompt_is_refused(tiny: Build) -> None:
    made = tiny("qwen2_5_vl")

    def judged(call: Called, given: dict[str, Any]) -> Any:
        return call(**given | {"text": [f"{text} Does this violate the policy?" for text in given["text"]]})

    with pytest.raises(
        ValueError,
        match=r"expected Qwen2_5_VLProcessor to keep the rendered text, whose end is '.*It is red', got ' policy\?'",
    ):
        HFModel(made.model, processing(made.processor, judged))


def test_a_row_whose_end_the_processor_changes_is_an_error(tiny: Build, make_sample: Callable[..., Sample]) -> None:
    made = tiny("qwen2_5_vl")

    def trimmed(call: Called, given: dict[str, Any]) -> Any:
        return call(**given | {"text": [text.rstrip(" ") for text in given["text"]]})

    prompts = [Prompt.of(make_sample(f"q{end!r}")).replace(prefill=f"<think>It{end}") for end in ("", "  ")]
    kept, lost = HFModel(made.model, processing(made.processor, trimmed), {"max_new_tokens": 2}).respond(prompts)
    assert kept.error is None
    assert "expected Qwen2_5_VLProcessor to end the prompt with the text's own tokens" in (lost.error or "")
    assert HFModel(made.model, made.processor, {"max_new_tokens": 2}).respond(prompts)[1].error is None


def test_a_processor_that_takes_flat_lists_gets_them(tiny: Build, samples: list[Sample]) -> None:
    made = tiny("qwen2_5_vl")

    def flat(call: Called, given: dict[str, Any]) -> Any:
        if any(isinstance(image, list) for image in given["images"]):
            raise ValueError("Nested images are not supported.")
        return call(**given)

    prompts = forced(samples)  # some have two images
    assert_same(
        HFModel(made.model, processing(made.processor, flat)).respond(prompts),
        HFModel(made.model, made.processor).respond(prompts),
    )


def test_promised_token_types_are_requested(tiny: Build, samples: list[Sample]) -> None:
    made = tiny("qwen2_5_vl")
    if "mm_token_type_ids" not in made.processor.model_input_names:
        pytest.skip("this version of transformers does not promise them")

    def on_request(call: Called, given: dict[str, Any]) -> Any:
        asked = given.pop("return_mm_token_type_ids", False)
        returned = call(**given)
        return returned if asked else {name: value for name, value in returned.items() if name != "mm_token_type_ids"}

    prompts = forced(samples)
    assert_same(
        HFModel(made.model, processing(made.processor, on_request)).respond(prompts),
        HFModel(made.model, made.processor).respond(prompts),
    )


@pytest.mark.parametrize(
    ("family", "name"),
    [
        ("qwen2_5_vl", "mm_token_type_ids"),
        ("gemma3", "token_type_ids"),
        ("mllama", "cross_attention_mask"),
        ("idefics3", "pixel_attention_mask"),
        ("llava_next", "image_sizes"),
    ],
)
def test_a_missing_promised_input_is_refused(family: str, name: str, tiny: Build) -> None:
    made = tiny(family)
    if name not in made.processor.model_input_names:
        pytest.skip("this version of transformers does not promise it")

    def without(call: Called, given: dict[str, Any]) -> Any:
        given.pop(f"return_{name}", None)
        return {kind: value for kind, value in call(**given).items() if kind != name}

    processor = processing(made.processor, without)
    expected = f"expected {type(processor).__name__} to return '{name}', listed in its model_input_names and "
    with pytest.raises(RefusedError, match=f"{expected}accepted by {type(made.model).__name__}, got inputs without"):
        HFModel(made.model, processor)
    HFModel(made.model, processor, self_check=False)


def test_a_missing_attention_mask_is_the_processors_fault(tiny: Build) -> None:
    made = tiny("llava")

    def unmasked(call: Called, given: dict[str, Any]) -> Any:
        return {name: value for name, value in call(**given).items() if name != "attention_mask"}

    with pytest.raises(ValueError, match="expected LlavaProcessor to return an attention mask, got input_ids, pixel_v"):
        HFModel(made.model, processing(made.processor, unmasked))


def test_a_processor_that_takes_no_images_is_refused(tiny: Build) -> None:
    made = tiny("qwen2_5_vl")

    def broken(call: Called, given: dict[str, Any]) -> Any:
        raise TypeError("unhashable type: 'list'")

    with pytest.raises(ValueError, match="expected Qwen2_5_VLProcessor to take a text and an image, got TypeError"):
        HFModel(made.model, processing(made.processor, broken))


# --------------------------------------------------------------------------------------------------------- models


def test_a_blind_model_is_refused(tiny: Build) -> None:
    made = tiny("qwen2_5_vl")

    def blanked(call: Called, given: dict[str, Any]) -> Any:
        blank = [[Image.new("RGB", image.size) for image in shown] for shown in given["images"]]
        return call(**given | {"images": blank})

    with pytest.raises(RefusedError, match=r"expected Qwen2_5_VL\w+ to answer differently for another image"):
        HFModel(made.model, processing(made.processor, blanked))


def test_a_model_that_raises_is_refused_with_its_error(tiny: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    made = tiny("llava")
    monkeypatch.setattr(made.model.model.language_model, "forward", lambda **inputs: inputs["no such input"])
    with pytest.raises(
        RefusedError, match=r"answer one prompt with an image, got KeyError from Llava\w+: 'no such input'"
    ):
        HFModel(made.model, made.processor)
    HFModel(made.model, made.processor, self_check=False)


def test_a_large_model_on_a_cpu_is_checked_before_its_first_response(
    tiny: Build, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tiny("llava")
    monkeypatch.setattr(huggingface, "_FEW_PARAMETERS", 10)
    monkeypatch.setattr(made.model.model.language_model, "forward", lambda **inputs: inputs["no such input"])
    engine = HFModel(made.model, made.processor)
    with pytest.raises(RefusedError, match="KeyError"):
        engine.respond(forced(samples))


def test_a_model_whose_tokens_contradict_its_logits_is_refused(tiny: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    made = tiny("llava")
    real = made.model.generate

    def other(**inputs: Any) -> Any:
        output = real(**inputs)
        output.sequences[:, -1] = (output.sequences[:, -1] + 1) % 100
        return output

    monkeypatch.setattr(made.model, "generate", other)
    with pytest.raises(RefusedError, match=r"to generate the likeliest token of its logits, got .* instead of"):
        HFModel(made.model, made.processor)


def test_prompts_run_one_by_one_if_batches_change_the_results(
    tiny: Build, samples: list[Sample], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made = tiny("llava")
    prompts = [*forced(samples), *(Prompt.of(sample).replace(prefill="<think>It is") for sample in samples)]
    options = {"max_new_tokens": 3}
    expected = HFModel(made.model, made.processor, options, batch_size=1, share_prefixes=False).respond(prompts)
    real, sizes = made.model.model.get_image_features, []

    @functools.wraps(real)
    def mixed(pixel_values: Any, **inputs: Any) -> Any:
        sizes.append(len(pixel_values))
        return real(pixel_values=pixel_values + (pixel_values.mean() if len(pixel_values) > 2 else 0), **inputs)

    monkeypatch.setattr(made.model.model, "get_image_features", mixed)
    with caplog.at_level(logging.WARNING, logger="vlmrobust"):
        engine = HFModel(made.model, made.processor, options)
    assert [record.getMessage().split(": letter")[0] for record in caplog.records] == [
        "LlavaForConditionalGeneration takes prompts one by one"
    ]
    sizes.clear()
    assert_same(engine.respond(prompts), expected)
    assert set(sizes) <= {1, 2}  # one prompt of one or two images


def test_prompts_run_one_by_one_if_a_batch_raises(
    tiny: Build, samples: list[Sample], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made = tiny("llava")
    expected = HFModel(made.model, made.processor, batch_size=1, share_prefixes=False).respond(forced(samples))
    real = made.model.model.get_image_features

    @functools.wraps(real)
    def single(pixel_values: Any, **inputs: Any) -> Any:
        if len(pixel_values) > 2:
            raise RuntimeError("images of different sizes cannot be stacked")
        return real(pixel_values=pixel_values, **inputs)

    monkeypatch.setattr(made.model.model, "get_image_features", single)
    engine = HFModel(made.model, made.processor)
    assert "one by one: a batch with images of several sizes raises RuntimeError: images of different" in caplog.text
    assert_same(engine.respond(forced(samples)), expected)


def test_an_encoder_decoder_is_refused_by_name(tiny: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    made = tiny("llava")
    monkeypatch.setattr(made.model.config, "is_encoder_decoder", True)
    with pytest.raises(
        ValueError, match="expected a decoder-only model, got LlavaForConditionalGeneration, an encoder–"
    ):
        HFModel(made.model, made.processor)


def test_an_lm_head_within_a_part_is_found(tiny: Build, samples: list[Sample], monkeypatch: pytest.MonkeyPatch) -> None:
    made = tiny("qwen2_5_vl")
    expected = HFModel(made.model, made.processor).respond(forced(samples))
    model = copy.deepcopy(made.model)
    head = model.get_output_embeddings()
    monkeypatch.setattr(type(model), "get_output_embeddings", lambda self: None)
    monkeypatch.setattr(type(model.model.language_model), "get_output_embeddings", lambda self: head)
    assert_same(HFModel(model, made.processor).respond(forced(samples)), expected)


@pytest.mark.parametrize("shares", [True, False])
def test_a_head_that_computes_no_logits_is_refused(
    shares: bool, tiny: Build, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tiny("qwen2_5_vl")
    other = torch.nn.Linear(made.model.get_output_embeddings().in_features, 10)
    monkeypatch.setattr(type(made.model), "get_output_embeddings", lambda self: other)
    said = (
        r"expected Qwen2_5_VLForConditionalGeneration to compute its logits with its LM head \(Linear\), got logits "
        "without it; the model's `get_output_embeddings` returns another layer"
    )
    with pytest.raises(RefusedError, match=said):
        HFModel(made.model, made.processor)
    for prompts in (forced(samples[:2]), [Prompt.of(sample) for sample in samples[:2]]):
        unchecked = HFModel(made.model, made.processor, {"max_new_tokens": 2}, self_check=False, share_prefixes=shares)
        with pytest.raises(RefusedError, match=said):
            unchecked.respond(prompts)


def test_logits_without_some_of_the_letters_are_refused(tiny: Build) -> None:
    made = tiny("qwen2_5_vl")
    model = copy.deepcopy(made.model)
    model.config.tie_word_embeddings = model.config.get_text_config().tie_word_embeddings = False
    head = model.get_output_embeddings()
    narrow = torch.nn.Linear(head.in_features, 40, bias=False)
    model.set_output_embeddings(narrow)
    said = r"Qwen2_5_VL\w+ to return logits of all letters' tokens, of which \d+ is the last, got 40 logits; model and"
    with pytest.raises(RefusedError, match=said):
        HFModel(model, made.processor)


def test_logits_narrower_than_the_head_are_read_in_float32(tiny: Build, samples: list[Sample]) -> None:
    made = tiny("qwen2_5_vl")
    expected = HFModel(made.model, made.processor).respond(forced(samples))
    model = copy.deepcopy(made.model)
    head, width = model.get_output_embeddings(), made.model.get_output_embeddings().out_features
    wider = torch.nn.Linear(head.in_features, width + 32, bias=False)
    with torch.no_grad():
        wider.weight[:width] = head.weight
        wider.weight[width:] = 1.0
    model.set_output_embeddings(wider)
    real = model.forward

    @functools.wraps(real)
    def narrower(**inputs: Any) -> Any:
        output = real(**inputs)
        output.logits = output.logits[..., :width]
        return output

    model.forward = narrower
    engine = HFModel(model, made.processor)
    assert_same(engine.respond(forced(samples)), expected)
    assert engine._engine.runner.head.exact is True
    assert engine._engine.runner.head.vocabulary_size() == width


def test_a_model_in_training_mode_is_evaluated_in_eval_mode(tiny: Build, samples: list[Sample]) -> None:
    made = tiny("qwen2_5_vl")
    model = copy.deepcopy(made.model)
    model.model.language_model.layers[0].mlp.register_module("dropout", torch.nn.Dropout(0.5))
    real = model.model.language_model.layers[0].mlp.forward
    model.model.language_model.layers[0].mlp.forward = lambda x: model.model.language_model.layers[0].mlp.dropout(
        real(x)
    )
    expected = HFModel(model.eval(), made.processor).respond(forced(samples))
    model.train()
    model.lm_head.eval()
    engine = HFModel(model, made.processor)
    assert engine.respond(forced(samples)) == expected
    assert model.training
    assert model.model.language_model.layers[0].mlp.dropout.training
    assert not model.lm_head.training


def test_hooks_go_to_the_model_inside_a_compiled_one(tiny: Build, samples: list[Sample]) -> None:
    made = tiny("qwen2_5_vl")
    compiled = torch.compile(made.model, backend="eager")
    assert_same(
        HFModel(compiled, made.processor).respond(forced(samples)),
        HFModel(made.model, made.processor).respond(forced(samples)),
    )


def test_the_text_part_of_an_omni_model_is_used(samples: list[Sample]) -> None:
    made = zoo.build("qwen2_5_omni")
    whole, part = HFModel(made.model, made.processor), HFModel(made.model.thinker, made.processor)
    assert_same(whole.respond(forced(samples)), part.respond(forced(samples)))
    assert whole.identity() == part.identity()


# -------------------------------------------------------------------------------------------------------- loading


@pytest.mark.parametrize("family", ["phi4_multimodal", "t5gemma2"])
def test_a_checkpoint_of_another_mapping_is_loaded_or_refused(
    family: str, samples: list[Sample], tmp_path: Path
) -> None:
    made = zoo.build(family)
    made.model.save_pretrained(tmp_path)
    made.processor.save_pretrained(tmp_path)
    if family == "t5gemma2":
        with pytest.raises(RefusedError, match="expected a decoder-only model, got T5Gemma2"):
            HFModel.from_pretrained(str(tmp_path), device="cpu")
        return
    loaded = HFModel.from_pretrained(str(tmp_path), device="cpu")
    assert_same(loaded.respond(forced(samples)), HFModel(made.model, made.processor).respond(forced(samples)))
