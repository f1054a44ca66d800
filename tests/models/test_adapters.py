"""PEFT adapters: an adapter in its layers gives the results of the merged model."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import oracle
import pytest
import torch
import zoo

from vlmrobust import Prompt, Sample, expand
from vlmrobust.models import HFModel
from vlmrobust.models.base import RefusedError, identity_of
from vlmrobust.models.caches import allows_gaps
from vlmrobust.perturbations import StopThink

peft = pytest.importorskip("peft")

pytestmark = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),  # peft asks for it
    pytest.mark.filterwarnings("ignore:Input and output embeddings are no longer tied:UserWarning"),  # and says so
    # transformers' own, from handing tensors to numpy
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning"),
]

Build = Callable[[str], zoo.Tiny]
LAYERS = ["q_proj", "v_proj", "o_proj", "down_proj"]


def adapted(model: Any, *, seed: int = 0, layers: list[str] | None = None, **settings: Any) -> Any:
    """Return a LoRA model over a copy of a model, its adapter as if it had been trained."""
    config = peft.LoraConfig(r=4, lora_alpha=16, target_modules=layers or LAYERS, **settings)
    made = peft.get_peft_model(copy.deepcopy(model), config)
    train(made, seed)
    return made.eval()


def train(model: Any, seed: int = 0) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.3, generator=generator)


def forced(samples: list[Sample]) -> list[Prompt]:
    return [prompt for prompt in expand(samples, [StopThink()]) if prompt.condition == "stop_think"]


@pytest.mark.parametrize("family", ["qwen2_5_vl", "gemma3", "lfm2_vl"])
def test_an_adapter_gives_the_results_of_the_merged_model(
    family: str, samples: list[Sample], texts_of: Callable[[Any], list[str]]
) -> None:
    made = zoo.build(family)
    model, processor = adapted(made.model), made.processor
    merged = copy.deepcopy(model).merge_and_unload()
    texts = texts_of(processor.tokenizer)
    read = forced(samples[:4])
    begun = [Prompt.of(sample).replace(prefill="<think>The cube") for sample in samples[:4]]
    engine = HFModel(model, processor, {"max_new_tokens": 4})
    responses = engine.respond([*read, *begun])
    plain = HFModel(merged, processor, {"max_new_tokens": 4}, batch_size=1, share_prefixes=False)
    base = HFModel(made.model, processor, {"max_new_tokens": 4}).respond([*read, *begun])
    for prompt, response in zip(read, responses, strict=False):
        count = len(prompt.options)
        text = oracle.rendered(processor, prompt) + "<answer>"
        shown, gaps = oracle.MARKS[:count], allows_gaps(merged.config.get_text_config(), 512)
        want = oracle.forced_letters(processor, merged, text, prompt.images, texts, shown, gaps=gaps)[:count]
        assert response.option_logprobs == pytest.approx(want.tolist(), abs=1e-4)
    written = plain.respond(begun)
    assert [response.text for response in responses[4:]] == [response.text for response in written]
    assert [response.token_entropy for response in responses[4:]] == pytest.approx(
        [response.token_entropy for response in written], abs=1e-4
    )
    assert responses != base, "the adapter makes no difference, and the test cannot fail"


def test_letters_follow_an_adapter_at_the_lm_head_while_it_is_trained(tiny: Build, samples: list[Sample]) -> None:
    made = tiny("qwen2_5_vl")
    model = peft.get_peft_model(copy.deepcopy(made.model), peft.LoraConfig(r=4, target_modules=["lm_head"]))
    engine = HFModel(model, made.processor)
    prompts = forced(samples[:2])
    before = engine.respond(prompts)
    train(model)
    after = engine.respond(prompts)
    merged = HFModel(copy.deepcopy(model).merge_and_unload(), made.processor).respond(prompts)
    for response, untrained, expected in zip(after, before, merged, strict=True):
        assert response.option_logprobs == pytest.approx(expected.option_logprobs, abs=1e-4)
        assert response.option_logprobs != pytest.approx(untrained.option_logprobs, abs=1e-2)


def test_training_mode_is_restored(tiny: Build, samples: list[Sample]) -> None:
    made = tiny("qwen2_5_vl")
    model = adapted(made.model, lora_dropout=0.5)
    prompts = forced(samples[:2])
    expected = HFModel(model, made.processor).respond(prompts)
    model.train()
    model.base_model.model.lm_head.eval()
    modes = {name: module.training for name, module in model.named_modules()}
    engine = HFModel(model, made.processor)
    for _ in range(2):
        assert engine.respond(prompts) == expected
    assert {name: module.training for name, module in model.named_modules()} == modes


def test_adapters_are_part_of_the_identity(tiny: Build) -> None:
    made = tiny("qwen2_5_vl")
    model = adapted(made.model)
    identity = identity_of(HFModel(model, made.processor))
    assert identity["adapters"]["active"] == ["default"]
    assert identity["adapters"]["configs"]["default"]["r"] == 4
    assert identity == identity_of(HFModel(adapted(made.model), made.processor))
    assert "adapters" not in identity_of(HFModel(made.model, made.processor))
    rescaled = adapted(made.model)
    for layer in rescaled.modules():
        if hasattr(layer, "set_scale"):
            layer.set_scale("default", 0.5)
    two = adapted(made.model)
    two.add_adapter("other", peft.LoraConfig(r=2, target_modules=LAYERS))
    two.set_adapter("other")
    for changed in (adapted(made.model, seed=1), rescaled, two):
        assert identity_of(HFModel(changed, made.processor)) != identity
    with model.disable_adapter():
        assert identity_of(HFModel(model, made.processor)) != identity


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("PREFIX_TUNING", {"num_virtual_tokens": 4}),
        ("PROMPT_TUNING", {"num_virtual_tokens": 4}),
        ("P_TUNING", {"num_virtual_tokens": 4, "encoder_hidden_size": 8}),
    ],
)
def test_prompt_learning_is_refused_by_name(kind: str, settings: dict[str, Any]) -> None:
    made = zoo.build("llava")
    sizes = {"num_layers": 2, "token_dim": 32, "num_attention_heads": 2, "num_transformer_submodules": 1}
    config = peft.get_peft_config({"peft_type": kind, "task_type": "CAUSAL_LM", **settings, **sizes})
    model = peft.get_peft_model(made.model, config)
    with pytest.raises(RefusedError, match=rf"got {kind} \(adapter 'default'\), whose prefix `generate` ignores"):
        HFModel(model, made.processor)


@pytest.mark.parametrize("own", [True, False], ids=["processor beside it", "processor of its base"])
def test_a_folder_of_an_adapter_is_loaded_with_its_base(
    own: bool, tiny: Build, samples: list[Sample], tmp_path: Path
) -> None:
    made = tiny("qwen2_5_vl")
    base, folder = tmp_path / "base", tmp_path / "adapter"
    made.model.save_pretrained(base)
    made.processor.save_pretrained(base)
    model = adapted(made.model)
    model.peft_config["default"].base_model_name_or_path = str(base)
    model.save_pretrained(folder)
    if own:
        made.processor.save_pretrained(folder)
    loaded = HFModel.from_pretrained(str(folder), device="cpu")
    assert identity_of(loaded)["adapters"]["active"] == ["default"]
    prompts = forced(samples[:2])
    for response, expected in zip(
        loaded.respond(prompts), HFModel(model, made.processor).respond(prompts), strict=True
    ):
        assert response.option_logprobs == pytest.approx(expected.option_logprobs, abs=1e-4)


def test_an_adapter_without_a_base_is_named(tiny: Build, tmp_path: Path) -> None:
    model = adapted(tiny("qwen2_5_vl").model)
    model.peft_config["default"].base_model_name_or_path = None
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"expected 'base_model_name_or_path' in adapter_config\.json, got none"):
        HFModel.from_pretrained(str(tmp_path))


def letters(model: Any, processor: Any, prompt: Prompt, texts: list[str]) -> list[float]:
    """Return log-probabilities of a prompt's letters, by whole forwards of the wrapped model alone."""
    text, count = oracle.rendered(processor, prompt) + "<answer>", len(prompt.options)
    return oracle.forced_letters(processor, model, text, prompt.images, texts, oracle.MARKS[:count])[:count].tolist()


@pytest.mark.parametrize("tied", [True, False])
def test_trained_single_tokens_take_effect(
    tied: bool, samples: list[Sample], texts_of: Callable[[Any], list[str]]
) -> None:
    made = zoo.build("qwen2_5_vl")
    if tied:
        made.model.config.tie_word_embeddings = made.model.config.get_text_config().tie_word_embeddings = True
        made.model.get_output_embeddings().weight = made.model.get_input_embeddings().weight
    tokens = [made.processor.tokenizer.convert_tokens_to_ids(letter) for letter in "ABC"]
    model = adapted(made.model, trainable_token_indices=tokens)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "trainable_tokens_delta" in name:
                parameter.add_(torch.randn(parameter.shape, generator=generator))
    texts, prompts = texts_of(made.processor.tokenizer), forced(samples[:3])
    engine = HFModel(model, made.processor, {"max_new_tokens": 3})
    for prompt, response in zip(prompts, engine.respond(prompts), strict=True):
        want = letters(model, made.processor, prompt, texts)
        assert response.option_logprobs == pytest.approx(want, abs=1e-4)
    without = HFModel(adapted(made.model), made.processor).respond(prompts[:1])[0]
    assert without.option_logprobs != pytest.approx(engine.respond(prompts[:1])[0].option_logprobs, abs=1e-2)
    [written] = engine.respond([Prompt.of(samples[0])])
    assert written.error is None
    assert written.n_tokens == 3


@pytest.mark.parametrize("inner", [False, True])
def test_the_model_inside_adapters_of_several_kinds_is_found(
    inner: bool, samples: list[Sample], texts_of: Callable[[Any], list[str]]
) -> None:
    made = zoo.build("qwen2_5_vl")
    model = peft.get_peft_model(made.model, peft.LoraConfig(r=4, target_modules=LAYERS), mixed=True)
    model.add_adapter("other", peft.LoHaConfig(r=4, target_modules=["q_proj"]))
    model.set_adapter(["default", "other"])
    train(model)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "hada_" in name:
                parameter.normal_(std=0.5, generator=generator)
    model.eval()
    texts, prompts = texts_of(made.processor.tokenizer), forced(samples[:3])
    engine = HFModel(model.base_model if inner else model, made.processor)
    for prompt, response in zip(prompts, engine.respond(prompts), strict=True):
        assert response.option_logprobs == pytest.approx(letters(model, made.processor, prompt, texts), abs=1e-4)
    assert identity_of(engine)["adapters"]["active"] == ["default", "other"]
    base = HFModel(zoo.build("qwen2_5_vl").model, made.processor).respond(prompts[:1])[0]
    assert base.option_logprobs != pytest.approx(engine.respond(prompts[:1])[0].option_logprobs, abs=1e-2)
