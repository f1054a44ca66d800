import copy
import functools
import logging
import random
import re
from collections.abc import Callable, Sequence
from typing import Any

import oracle
import pytest
import torch
import zoo
from PIL import Image
from torch import Tensor
from transformers import AutoProcessor, GenerationConfig

from vlmrobust import Prompt, Response, Sample, Style, expand
from vlmrobust.models import HFModel
from vlmrobust.models.base import Model, identity_of
from vlmrobust.perturbations import AbstainOption, StopThink
from vlmrobust.types.response import parse_turn

pytestmark = [
    # transformers' own, from handing tensors to numpy
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning"),
]

Build = Callable[[str], zoo.Tiny]
TextsOf = Callable[[Any], list[str]]
LETTERS_AT = "<think>It is red.</think><answer>"
PREFILLS = ("<think>The cube is", LETTERS_AT, LETTERS_AT, "")


def forced(samples: Sequence[Sample], mode: str) -> tuple[list[Prompt], str]:
    """Return prompts that are answered in one forward pass, and what is forced before the letter."""
    if mode == "direct":
        return list(expand(samples, [], style=Style(mode="direct"))), ""
    return [prompt for prompt in expand(samples, [StopThink()]) if prompt.condition == "stop_think"], "<answer>"


def written(samples: Sequence[Sample]) -> list[Prompt]:
    """Return prompts whose answers are decoded, their turns begun in several ways."""
    return [Prompt.of(sample).replace(prefill=PREFILLS[index % 4]) for index, sample in enumerate(samples)]


def shown_logprobs(response: Response) -> Tensor:
    assert response.error is None, response.error
    assert response.option_logprobs is not None
    return torch.tensor(response.option_logprobs, dtype=torch.float64)


def assert_same(responses: Sequence[Response], expected: Sequence[Response]) -> None:
    for response, other in zip(responses, expected, strict=True):
        assert (response.text, response.status, response.n_tokens) == (other.text, other.status, other.n_tokens)
        assert response.option_logprobs == pytest.approx(other.option_logprobs, abs=1e-4)
        assert response.token_entropy == pytest.approx(other.token_entropy, abs=1e-4)


# ---------------------------------------------------------------------- letters and texts against plain forwards


@pytest.mark.parametrize("mode", ["think", "direct"])
@pytest.mark.parametrize("family", zoo.FAMILIES)
def test_forced_letters_equal_a_plain_forward(
    family: str, mode: str, tiny: Build, samples: list[Sample], texts_of: TextsOf
) -> None:
    model, processor = tiny(family).model, tiny(family).processor
    prompts, opener = forced(samples, mode)
    texts = texts_of(processor.tokenizer)
    expected = [
        oracle.forced_letters(
            processor,
            model,
            oracle.rendered(processor, prompt) + opener,
            prompt.images,
            texts,
            oracle.MARKS[: len(prompt.options)],
        )
        for prompt in prompts
    ]
    order = list(range(len(prompts)))
    for batch_size in (1, 2, 3, 7):
        random.Random(batch_size).shuffle(order)
        responses = HFModel(model, processor, batch_size=batch_size).respond([prompts[index] for index in order])
        for index, response in zip(order, responses, strict=True):
            want = expected[index][: len(prompts[index].options)]
            assert response.key == (f"q{index}", prompts[index].condition, 0)
            torch.testing.assert_close(shown_logprobs(response), want, atol=1e-4, rtol=0)
            assert response.answer == int(want.argmax())
            assert (response.status, response.finish_reason, response.n_tokens) == ("answered", "readout", 0)
            assert response.readout == ("direct" if mode == "direct" else "fixed_prefix")
            assert response.letter_mass == pytest.approx(float(want.exp().sum()), abs=1e-4)


@torch.inference_mode()
def plainly_written(model: Any, processor: Any, prompt: Prompt, limit: int, texts: list[str]) -> dict[str, Any]:
    """Decode greedily with `generate` alone, then read everything from one more forward over prompt and answer."""
    tokenizer = processor.tokenizer
    inputs = oracle.inputs_of(processor, oracle.rendered(processor, prompt), prompt.images)
    start = inputs["input_ids"].shape[1]
    stop = tokenizer.eos_token_id
    config = GenerationConfig(
        do_sample=False, max_new_tokens=limit, eos_token_id=stop, pad_token_id=tokenizer.pad_token_id
    )
    generated = model.generate(**inputs, generation_config=config, output_logits=True, return_dict_in_generate=True)
    tokens = generated.sequences[0, start:].tolist()
    if "PaliGemma" in type(model).__name__:  # its prompt would see the answer
        rows = torch.cat(generated.logits).double().log_softmax(-1)
    else:
        rows = oracle.logits_of(model, oracle.continued(inputs, tokens))[start - 1 : -1]
    kept = tokens[:-1] if tokens[-1] == stop else tokens
    text = tokenizer.decode(kept, clean_up_tokenization_spaces=False)
    letters = None
    found = parse_turn(prompt, text).letter
    if found is not None:
        place = found[0] - len(prompt.prefill)
        begun = [len(tokenizer.decode(kept[:end], clean_up_tokenization_spaces=False)) for end in range(len(kept) + 1)]
        step = next(step for step in range(len(kept)) if begun[step + 1] > place)
        if oracle.EITHER_CASE.fullmatch(texts[kept[step]]):
            count = len(prompt.options)
            shown = oracle.MARKS[:count]
            letters = oracle.letters_that_end(model, inputs, kept[:step], rows[step], texts, shown=shown)[:count]
    return {
        "text": text,
        "entropy": float(-(rows.exp() * rows).sum(-1).mean()),
        "letters": letters,
        "count": len(tokens),
        "reason": "stop" if tokens[-1] == stop else "length",
    }


@pytest.mark.parametrize("limit", [1, 4])
@pytest.mark.parametrize("family", zoo.FAMILIES)
def test_decoded_texts_letters_and_entropies_equal_a_plain_forward(
    family: str, limit: int, writer: Build, samples: list[Sample], texts_of: TextsOf
) -> None:
    model, processor = writer(family).model, writer(family).processor
    prompts = written(samples)
    texts = texts_of(processor.tokenizer)
    expected = [plainly_written(model, processor, prompt, limit, texts) for prompt in prompts]
    if limit == 1:
        assert sum(want["letters"] is not None for want in expected) >= 2, "the test needs answers with letters"
    for batch_size in (3, 7):
        responses = HFModel(model, processor, {"max_new_tokens": limit}, batch_size=batch_size).respond(prompts)
        for response, want in zip(responses, expected, strict=True):
            assert response.text == want["text"]
            assert (response.finish_reason, response.n_tokens) == (want["reason"], want["count"])
            assert response.token_entropy == pytest.approx(want["entropy"], abs=1e-4)
            if want["letters"] is None:
                assert response.option_logprobs is None
                assert response.readout is None
            else:
                torch.testing.assert_close(shown_logprobs(response), want["letters"], atol=1e-4, rtol=0)
                assert response.readout == "own_thought"


def test_other_letters_for_another_image(tiny: Build, samples: list[Sample]) -> None:
    # Otherwise the comparisons above could not see that images were mixed up.
    for family in zoo.FAMILIES:
        model = HFModel(tiny(family).model, tiny(family).processor)
        prompts, _ = forced(samples[1:2], "direct")
        other = prompts[0].replace(images=samples[3].images)
        first, second = model.respond([prompts[0], other])
        assert (shown_logprobs(first) - shown_logprobs(second)).abs().max() > 1e-2, family


def test_forced_letters_are_read_on_the_models_own_path(tiny: Build, samples: list[Sample], texts_of: TextsOf) -> None:
    # The vocabulary has ">A": reading after "<answer>" alone would miss nearly all of the letter's probability.
    model, processor = copy.deepcopy(tiny("qwen2_5_vl").model), tiny("qwen2_5_vl").processor
    merged = processor.tokenizer.convert_tokens_to_ids([">A", ">B"])
    zoo.favour(model, dict.fromkeys(merged, 20.0))
    prompts, opener = forced(samples[1:2], "think")
    text = oracle.rendered(processor, prompts[0]) + opener
    inputs = oracle.inputs_of(processor, text, prompts[0].images)
    after_the_tag = oracle.letters_at(oracle.logits_of(model, inputs)[-1], texts_of(processor.tokenizer))
    [response] = HFModel(model, processor).respond(prompts)
    assert response.letter_mass > 0.9
    want = oracle.forced_letters(processor, model, text, prompts[0].images, texts_of(processor.tokenizer), "ABCD")
    torch.testing.assert_close(shown_logprobs(response), want[:4], atol=1e-4, rtol=0)
    assert (shown_logprobs(response) - after_the_tag[:4]).abs().max() > 0.1


def test_added_options_have_letters_as_well(tiny: Build, samples: list[Sample], texts_of: TextsOf) -> None:
    model, processor = tiny("internvl").model, tiny("internvl").processor
    [prompt] = [
        prompt
        for prompt in expand(samples[1:2], [StopThink() + AbstainOption()])
        if prompt.condition == "stop_think+abstain_option"
    ]
    [response] = HFModel(model, processor).respond([prompt])
    text = oracle.rendered(processor, prompt) + "<answer>"
    texts = texts_of(processor.tokenizer)
    want = oracle.forced_letters(processor, model, text, prompt.images, texts, "ABCDE")
    letters = torch.tensor([*(response.option_logprobs or ()), *response.added_logprobs], dtype=torch.float64)
    torch.testing.assert_close(letters, want[:5], atol=1e-4, rtol=0)


def test_options_2_to_26_and_one_to_three_images_in_one_call(tiny: Build, make_sample: Callable[..., Sample]) -> None:
    pictures = [Image.new("RGB", (56, 56), colour) for colour in ("red", "green", "blue")]
    samples = [
        make_sample(
            f"q{count}", images=pictures[: 1 + count % 3], options=[f"o{index}" for index in range(count)], answer=1
        )
        for count in range(2, 27)
    ]
    prompts, _ = forced(samples, "direct")
    model = HFModel(tiny("qwen2_vl").model, tiny("qwen2_vl").processor, batch_size=4)
    together = model.respond(prompts)
    assert [len(shown_logprobs(response)) for response in together] == list(range(2, 27))
    assert_same(together, [model.respond([prompt])[0] for prompt in prompts])


# ---------------------------------------------------------------------------------------- settings of checkpoints


def test_a_checkpoints_generation_settings_are_replaced_and_restored(writer: Build, samples: list[Sample]) -> None:
    model, processor = copy.deepcopy(writer("qwen2_5_vl").model), writer("qwen2_5_vl").processor
    prompts = written(samples)
    options = {"max_new_tokens": 4}
    expected = HFModel(writer("qwen2_5_vl").model, processor, options).respond(prompts)
    own = model.generation_config
    own.update(do_sample=True, temperature=5.0, top_k=3, top_p=0.5, repetition_penalty=3.0, no_repeat_ngram_size=1)
    before = own.to_dict()
    assert_same(HFModel(model, processor, options).respond(prompts), expected)
    assert model.generation_config is own
    assert own.to_dict() == before


def test_a_checkpoints_generation_settings_are_restored_after_an_error(
    writer: Build, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = copy.deepcopy(writer("qwen2_5_vl").model)
    own = model.generation_config

    def broken(**inputs: Any) -> None:
        raise RuntimeError("a defect of the model")

    monkeypatch.setattr(model, "generate", broken)
    with pytest.raises(RuntimeError, match="a defect of the model"):
        HFModel(model, writer("qwen2_5_vl").processor).respond(written(samples))
    assert model.generation_config is own
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.modules())


def test_given_generation_settings_take_effect(writer: Build, samples: list[Sample]) -> None:
    model, processor = writer("qwen2_5_vl").model, writer("qwen2_5_vl").processor
    prompts = written(samples)
    plain = HFModel(model, processor, {"max_new_tokens": 6}).respond(prompts)
    penalised = HFModel(model, processor, {"max_new_tokens": 6, "repetition_penalty": 50.0}).respond(prompts)
    assert [response.text for response in plain] != [response.text for response in penalised]
    # Entropy is that of the raw logits, so the first token's is the same.
    one = HFModel(model, processor, {"max_new_tokens": 1, "repetition_penalty": 50.0}).respond(prompts)
    same = HFModel(model, processor, {"max_new_tokens": 1}).respond(prompts)
    assert [r.token_entropy for r in one] == pytest.approx([r.token_entropy for r in same], abs=1e-5)


@pytest.mark.parametrize("pad", ["<|endoftext|>", "<|im_end|>"])
def test_rows_that_end_at_a_stop_string_do_not_count_their_padding(
    pad: str, writer: Build, samples: list[Sample]
) -> None:
    model, processor = copy.deepcopy(writer("internvl").model), writer("internvl").processor
    model.generation_config.pad_token_id = processor.tokenizer.convert_tokens_to_ids(pad)  # the second ends texts, too
    prompts = written(samples)
    plain = HFModel(model, processor, {"max_new_tokens": 6}).respond(prompts)
    # a character that some texts have later than others
    stop = next(c for c in "ABCD" if len({response.text.find(c) for response in plain} - {-1}) > 1)
    options = {"max_new_tokens": 6, "stop_strings": [stop]}
    alone = HFModel(model, processor, options, batch_size=1).respond(prompts)
    assert len({response.n_tokens for response in alone}) > 1
    assert_same(HFModel(model, processor, options, batch_size=7).respond(prompts), alone)
    for response, unstopped in zip(alone, plain, strict=True):
        assert unstopped.text.startswith(response.text)
        assert (stop in response.text) == (stop in unstopped.text)
        if stop in response.text:
            assert response.text.endswith(stop)
            assert response.finish_reason == "stop"


def test_padding_on_the_right_is_overruled(tiny: Build, samples: list[Sample]) -> None:
    for family in ("qwen2_5_vl", "llava", "gemma3"):
        model, processor = tiny(family).model, zoo.build(family).processor
        prompts, _ = forced(samples, "think")
        expected = HFModel(model, tiny(family).processor, batch_size=1).respond(prompts)
        engine = HFModel(model, processor, batch_size=7)
        processor.tokenizer.padding_side = "right"
        assert_same(engine.respond(prompts), expected)


def test_identity_tells_weights_and_settings_apart(tiny: Build) -> None:
    model, processor = tiny("qwen2_5_vl").model, tiny("qwen2_5_vl").processor
    engine = HFModel(model, processor)
    assert isinstance(engine, Model)
    assert identity_of(engine) == identity_of(HFModel(copy.deepcopy(model), processor))
    other = copy.deepcopy(model)
    zoo.redraw(other, seed=1)
    for changed in (
        HFModel(other, processor),
        HFModel(copy.deepcopy(model).bfloat16(), processor),
        HFModel(model, processor, {"max_new_tokens": 7}),
        HFModel(model, processor, force_answer=True),
        HFModel(tiny("qwen2_vl").model, processor),
    ):
        assert identity_of(changed) != identity_of(engine)


@pytest.mark.parametrize("family", ["qwen2_5_vl", "llava", "idefics3"])
def test_from_pretrained_reads_what_was_saved(family: str, tiny: Build, samples: list[Sample], tmp_path: Any) -> None:
    model, processor = tiny(family).model, tiny(family).processor
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    prompts, _ = forced(samples[:3], "think")
    loaded = HFModel.from_pretrained(str(tmp_path), device="cpu")
    assert_same(loaded.respond(prompts), HFModel(model, processor).respond(prompts))
    assert loaded.identity()["name"] == str(tmp_path)
    assert HFModel.from_pretrained(str(tmp_path), dtype="bfloat16", device="cpu").model.dtype == torch.bfloat16


# -------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize("name", ["./nofolder", "../nofolder", "/no/folder", "~/nofolder", "runs/nofolder/step_100"])
def test_a_path_without_a_folder_is_told_from_a_name_on_the_hub(
    name: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sentence = f"expected a checkpoint's folder or a name on the hub, found no folder at '{name}'"
    with pytest.raises(FileNotFoundError, match=f"^{re.escape(sentence)}$"):
        HFModel.from_pretrained(name)


@pytest.mark.parametrize("name", ["name", "owner/name", "./here", "runs/here/step_100"])
def test_names_on_the_hub_and_folders_are_looked_up_with_every_dtype(
    name: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look_up(looked_up: str, **settings: Any) -> Any:
        raise LookupError(looked_up)

    monkeypatch.chdir(tmp_path)
    for folder in ("here", "runs/here/step_100"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.setattr(AutoProcessor, "from_pretrained", look_up)
    for dtype in ("auto", "float32", "bfloat16", "half", torch.float16):
        with pytest.raises(LookupError, match=f"^{re.escape(name)}$"):
            HFModel.from_pretrained(name, dtype=dtype)


@pytest.mark.parametrize(
    ("dtype", "hint"),
    [
        ("bf16", "; did you mean 'bfloat16'?"),
        ("torch.bfloat16", "; did you mean 'bfloat16'?"),
        ("nn", ""),
        ("", ""),
    ],
)
def test_an_invalid_dtype_is_refused_before_loading(dtype: str, hint: str) -> None:
    kinds = "auto, bfloat16, float16, float32 or another of torch's floating-point dtypes"
    with pytest.raises(ValueError, match=f"^field 'dtype': expected {kinds}, got '{dtype}'{re.escape(hint)}$"):
        HFModel.from_pretrained("owner/name", dtype=dtype)


def test_a_missing_or_corrupt_image_fails_alone(tiny: Build, make_sample: Callable[..., Sample], tmp_path: Any) -> None:
    (tmp_path / "text.png").write_text("not an image")
    good = make_sample("good")
    cases = {
        "gone": (tmp_path / "gone.png",),
        "text": (str(tmp_path / "text.png"),),
        "bytes": (good.images[0], b"\x89PNG\r\n\x1a\nbroken"),
    }
    samples = [good, *(make_sample(name, images=images) for name, images in cases.items()), make_sample("last")]
    prompts, _ = forced(samples, "direct")
    responses = HFModel(tiny("qwen2_5_vl").model, tiny("qwen2_5_vl").processor).respond(prompts)
    assert [response.status for response in responses] == ["answered", "error", "error", "error", "answered"]
    for response, position in zip(responses[1:4], (0, 0, 1), strict=True):
        assert f"sample {response.sample_id!r}" in (response.error or "")
        assert f"field 'images.{position}'" in (response.error or "")
        assert response.option_logprobs is None
    assert_same(responses[:1], responses[4:])


def test_an_image_that_the_processor_refuses_fails_alone(tiny: Build, make_sample: Callable[..., Sample]) -> None:
    thin = make_sample("thin", images=(Image.new("RGB", (1000, 2)),))  # Qwen refuses aspect ratios beyond 200
    prompts, _ = forced([make_sample("good"), thin, make_sample("last")], "direct")
    responses = HFModel(tiny("qwen2_5_vl").model, tiny("qwen2_5_vl").processor).respond(prompts)
    assert [response.status for response in responses] == ["answered", "error", "answered"]
    assert "sample 'thin'" in (responses[1].error or "")
    assert "aspect ratio" in (responses[1].error or "")


def test_nan_weights_give_error_rows_that_name_the_sample(writer: Build, samples: list[Sample]) -> None:
    model, processor = copy.deepcopy(writer("qwen2_5_vl").model), writer("qwen2_5_vl").processor
    torch.nn.init.constant_(model.get_output_embeddings().weight[7], torch.nan)
    engine = HFModel(model, processor, {"max_new_tokens": 2})
    for response in engine.respond(written(samples[:2]) + forced(samples[2:4], "think")[0]):
        assert response.status == "error"
        assert f"sample {response.sample_id!r}" in (response.error or "")
        assert "NaN" in (response.error or "")


def test_a_processor_without_a_chat_template_is_refused() -> None:
    made = zoo.build("qwen2_5_vl")
    made.processor.chat_template = made.processor.tokenizer.chat_template = None
    with pytest.raises(ValueError, match="expected a processor with a chat template, got Qwen2_5_VLProcessor"):
        HFModel(made.model, made.processor)


def test_a_template_without_a_place_for_images_is_refused() -> None:
    made = zoo.build("qwen2_5_vl")
    made.processor.chat_template = (
        "{% for m in messages %}{% for part in m['content'] if part['type'] == 'text' %}{{ part['text'] }}{% endfor %}"
        "{% endfor %}"
    )
    with pytest.raises(ValueError, match="give an image a place"):
        HFModel(made.model, made.processor)


def test_a_tokenizer_in_place_of_a_processor_is_refused(tiny: Build) -> None:
    with pytest.raises(ValueError, match="expected a processor with a tokenizer"):
        HFModel(tiny("qwen2_5_vl").model, tiny("qwen2_5_vl").processor.tokenizer)


def test_a_batch_size_of_zero_is_refused(tiny: Build) -> None:
    with pytest.raises(ValueError, match="batch size of at least 1, got 0"):
        HFModel(tiny("llava").model, tiny("llava").processor, batch_size=0)


def test_no_prompts_no_responses(tiny: Build) -> None:
    assert HFModel(tiny("llava").model, tiny("llava").processor).respond([]) == []


# ---------------------------------------------------------------------------------------------------- memory


@pytest.mark.parametrize("method", ["forward", "generate"])
def test_out_of_memory_halves_the_batch_and_continues(
    method: str,
    writer: Build,
    make_sample: Callable[..., Sample],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    model, processor = copy.deepcopy(writer("qwen2_5_vl").model), writer("qwen2_5_vl").processor
    seven = [make_sample(f"q{index}") for index in range(7)]
    prompts = forced(seven, "think")[0] if method == "forward" else written(seven)
    engine = HFModel(model, processor, {"max_new_tokens": 3}, batch_size=7)
    expected = engine.respond(prompts)
    real, sizes = getattr(model, method), []

    @functools.wraps(real)  # `generate` asks which arguments it takes
    def small_memory(**inputs: Any) -> Any:
        if inputs["input_ids"].shape[1] == 1:  # looks past a letter
            return real(**inputs)
        sizes.append(len(inputs["input_ids"]))
        if sizes[-1] > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return real(**inputs)

    monkeypatch.setattr(model, method, small_memory)
    with caplog.at_level(logging.WARNING, logger="vlmrobust"):
        assert_same(engine.respond(prompts), expected)
    assert sizes == [7, 3, 1, 1, 1, 1, 1, 1, 1]
    assert [record.getMessage().split(" with ")[0] for record in caplog.records] == ["out of memory"] * 2
    assert "prompts" in caplog.text


def test_out_of_memory_with_one_prompt_and_other_errors_are_raised(
    tiny: Build, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = copy.deepcopy(tiny("qwen2_5_vl").model)
    engine = HFModel(model, tiny("qwen2_5_vl").processor)
    prompts, _ = forced(samples[:2], "direct")

    def failing(error: Exception) -> Callable[..., Any]:
        @functools.wraps(type(model).forward.__get__(model))
        def forward(**inputs: Any) -> Any:
            raise error

        return forward

    for error in (torch.OutOfMemoryError("CUDA out of memory."), RuntimeError("shapes cannot be multiplied")):
        monkeypatch.setattr(model, "forward", failing(error))
        with pytest.raises(type(error), match=str(error)):
            engine.respond(prompts)


# ------------------------------------------------------------------------------------------------ force_answer


def test_force_answer_closes_a_truncated_thought(writer: Build, samples: list[Sample], texts_of: TextsOf) -> None:
    model, processor = writer("qwen2_5_vl").model, writer("qwen2_5_vl").processor
    prompts = [Prompt.of(sample).replace(prefill="<think>The cube") for sample in samples]
    options = {"max_new_tokens": 2}
    for response, closed, prompt in zip(
        HFModel(model, processor, options).respond(prompts),
        HFModel(model, processor, options, force_answer=True).respond(prompts),
        prompts,
        strict=True,
    ):
        assert response.status == "truncated"
        assert response.answer is None
        assert response.option_logprobs is None
        text = oracle.rendered(processor, prompt) + response.text + "</think><answer>"
        shown = oracle.MARKS[: len(prompt.options)]
        want = oracle.forced_letters(processor, model, text, prompt.images, texts_of(processor.tokenizer), shown)
        want = want[: len(prompt.options)]
        torch.testing.assert_close(shown_logprobs(closed), want, atol=1e-4, rtol=0)
        assert closed.status == "answered"
        assert closed.answer == int(want.argmax())
        assert closed.readout == "fixed_prefix"
        assert closed.text.startswith(response.text + "</think><answer>")
        assert closed.own_think == response.own_think
        assert (closed.n_tokens, closed.token_entropy) == (response.n_tokens, response.token_entropy)


# ---------------------------------------------------------------------------------------------------- styles


def test_a_style_hint_for_the_models_name_is_logged_once(
    tiny: Build, samples: list[Sample], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model, processor = tiny("qwen2_5_vl").model, tiny("qwen2_5_vl").processor
    monkeypatch.setattr(model.config, "_name_or_path", "RUBBISHLIKE/SpaceR")
    engine = HFModel(model, processor)
    default, other = forced(samples[:1], "think")[0][0], forced(samples[:1], "direct")[0][0]
    with caplog.at_level(logging.WARNING, logger="vlmrobust"):
        engine.respond([other])
        assert not caplog.records
        engine.respond([default])
        engine.respond([default])
    assert [record.getMessage() for record in caplog.records] == [
        "the name 'RUBBISHLIKE/SpaceR' suggests style=vlmrobust.styles.space_r; the default style is used"
    ]
