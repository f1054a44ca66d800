from collections.abc import Callable
from pathlib import Path
from typing import Any

import oracle
import pytest
import torch
import transformers as hf
import zoo
from PIL import Image
from rightness import assert_right
from zoo import families, templates

from vlmrobust import Prompt, Sample, Style
from vlmrobust.models import HFModel, encoding
from vlmrobust.models.encoding import Encoder
from vlmrobust.perturbations import BlurredImage

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning"),
]

Build = Callable[[str], zoo.Tiny]


def encoded(encoder: Encoder, prompts: list[Prompt]) -> dict[str, Any]:
    rendered = [encoder.render(prompt, {}) for prompt in prompts]
    return encoder.encode([item.text for item in rendered], [item.images for item in rendered])


@pytest.mark.parametrize("family", zoo.FAMILIES)
def test_rows_are_padded_on_the_left_and_nothing_is_lost(family: str, tiny: Build, samples: list[Sample]) -> None:
    processor = tiny(family).processor
    prompts = [Prompt.of(samples[index]) for index in (0, 1, 3, 4)]
    inputs = encoded(Encoder(processor), prompts)
    assert "labels" not in inputs
    for row, prompt in enumerate(prompts):
        plain = oracle.inputs_of(processor, oracle.rendered(processor, prompt), prompt.images)
        assert set(inputs) == set(plain)
        mask = inputs["attention_mask"][row].bool()
        start = int(mask.int().argmax())
        assert mask[start:].all()
        assert inputs["input_ids"][row, start:].tolist() == plain["input_ids"][0].tolist()
    assert not inputs["attention_mask"].bool().all(), "the test needs rows of unequal length"


@pytest.mark.parametrize("family", ["gemma3", "mistral3", "mllama"])
def test_the_templates_bos_token_is_not_repeated(family: str, tiny: Build, samples: list[Sample]) -> None:
    processor = tiny(family).processor
    bos = processor.tokenizer.bos_token_id
    [row] = encoded(Encoder(processor), [Prompt.of(samples[0])])["input_ids"].tolist()
    assert row[0] == bos
    assert row.count(bos) == 1


def test_a_plain_call_would_give_gemma_two_bos_tokens(tiny: Build, samples: list[Sample]) -> None:
    # Otherwise the test above could not fail.
    processor = tiny("gemma3").processor
    text = oracle.rendered(processor, Prompt.of(samples[0]))
    row = processor(text=text, images=[list(samples[0].images)])["input_ids"][0]
    assert list(row[:2]) == [processor.tokenizer.bos_token_id] * 2


def test_a_processor_that_pads_on_the_right_is_refused(tiny: Build, samples: list[Sample]) -> None:
    class Stubborn:
        def __init__(self, processor: Any) -> None:
            self._processor = processor

        def __getattr__(self, name: str) -> Any:
            return getattr(self._processor, name)

        def __call__(self, **given: Any) -> Any:
            return self._processor(**(given | {"padding_side": "right"}))

    with pytest.raises(ValueError, match="expected Stubborn to pad on the left, got padding at the end"):
        encoded(Encoder(Stubborn(tiny("qwen2_5_vl").processor)), [Prompt.of(samples[0]), Prompt.of(samples[4])])


def test_a_tokenizer_without_a_pad_token_pads_with_the_end_of_text(samples: list[Sample]) -> None:
    processor = zoo.build("internvl").processor
    processor.tokenizer.pad_token = None
    inputs = encoded(Encoder(processor), [Prompt.of(samples[0]), Prompt.of(samples[4])])
    assert processor.tokenizer.pad_token == processor.tokenizer.eos_token
    assert int(inputs["input_ids"][0, 0]) == processor.tokenizer.eos_token_id


def test_only_floating_point_inputs_are_cast() -> None:
    inputs = {"ids": torch.tensor([1]), "pixels": torch.ones(2), "mask": torch.tensor([True]), "sizes": [(1, 2)]}
    moved = Encoder.to_device(inputs, torch.device("cpu"), torch.bfloat16)
    assert {name: getattr(value, "dtype", value) for name, value in moved.items()} == {
        "ids": torch.int64,
        "pixels": torch.bfloat16,
        "mask": torch.bool,
        "sizes": [(1, 2)],
    }


# ----------------------------------------------------------------------------------------------------- rendering


@pytest.mark.parametrize("family", zoo.FAMILIES)
@pytest.mark.parametrize("prefill", ["", "<think>The cube is", "<think>So: B.</think><answer>", "<think> It"])
def test_the_prompt_ends_with_exactly_the_prefill(
    family: str, prefill: str, tiny: Build, samples: list[Sample]
) -> None:
    processor = tiny(family).processor
    rendered = Encoder(processor).render(Prompt.of(samples[0]).replace(prefill=prefill), {})
    assert rendered.prompt.prefill == prefill
    assert rendered.text == oracle.rendered(processor, Prompt.of(samples[0])) + prefill
    ids = processor.tokenizer(rendered.text, add_special_tokens=False)["input_ids"]
    assert processor.tokenizer.decode(ids, clean_up_tokenization_spaces=False).endswith(prefill)


def thinking() -> tuple[Any, Any]:
    return families.qwen2_5_vl(templates.QWEN_THINKING)


@pytest.mark.parametrize("prefill", ["", "<think>The cube is", "<think>Done.</think>"])
def test_a_template_that_opens_the_thought_leaves_one_opener(prefill: str, samples: list[Sample]) -> None:
    processor = thinking()[1]
    rendered = Encoder(processor).render(
        Prompt.of(samples[0], style=Style(instruction="Go.")).replace(prefill=prefill), {}
    )
    begun = "<think>\n" + prefill.removeprefix("<think>")
    assert rendered.prompt.prefill == begun
    assert rendered.text.endswith("<|im_start|>assistant\n" + begun)
    assert rendered.text.count("<think>") == 1


def test_a_thought_opened_by_the_template_is_truncated_without_its_closing_tag(samples: list[Sample]) -> None:
    model, processor = thinking()
    zoo.redraw(model)
    model.generation_config.eos_token_id = processor.tokenizer.eos_token_id
    [response] = HFModel(model.eval(), processor, {"max_new_tokens": 3}).respond([Prompt.of(samples[1])])
    assert response.status == "truncated"
    assert response.own_think == response.text.strip()
    direct = Prompt.of(samples[1], style=Style(mode="direct"))
    [read] = HFModel(model, processor).respond([direct])
    assert read.text.startswith("\n</think>\n\n")
    assert (read.status, read.readout) == ("answered", "direct")


@pytest.mark.parametrize("family", zoo.FAMILIES)
def test_system_text_is_rendered_by_any_template(family: str, tiny: Build, samples: list[Sample]) -> None:
    prompt = Prompt.of(samples[0], style=Style(system="Be brief, please."))
    text = Encoder(tiny(family).processor).render(prompt, {}).text
    assert text.count("Be brief, please.") == 1
    assert text.index("Be brief, please.") < text.index(prompt.question)


def test_paligemmas_template_has_no_system_turn(tiny: Build, samples: list[Sample]) -> None:
    # Otherwise the test above would not show that the text is put in front of the user's.
    prompt = Prompt.of(samples[0], style=Style(system="Be brief, please."))
    with pytest.raises(Exception, match="System role not supported"):
        oracle.rendered(tiny("paligemma").processor, prompt)


def test_images_are_decoded_once_for_all_prompts(
    tiny: Build, make_sample: Callable[..., Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (56, 56), "red").save(tmp_path / "red.png")
    opened = []
    real = encoding.open_image
    monkeypatch.setattr(encoding, "open_image", lambda image: opened.append(image) or real(image))
    encoder, cache = Encoder(tiny("llava").processor), {}
    for name in ("a", "b"):
        prompt = Prompt.of(make_sample(name, images=[tmp_path / "red.png", Image.new("RGB", (56, 56))]))
        shown = encoder.render(prompt, cache).images
        assert [image.getpixel((0, 0)) for image in shown] == [(255, 0, 0), (0, 0, 0)]
    assert opened.count(tmp_path / "red.png") == 1


def test_equal_derived_images_are_made_once(tiny: Build, make_sample: Callable[..., Sample], tmp_path: Path) -> None:
    encoder, cache = Encoder(tiny("llava").processor), {}
    Image.linear_gradient("L").resize((56, 56)).save(tmp_path / "grey.png")
    sample = make_sample(images=[tmp_path / "grey.png", Image.new("RGB", (56, 56))])
    blurred = [BlurredImage(severity=severity)(Prompt.of(sample, draw=draw)) for severity in (1, 5) for draw in (0, 1)]
    first, again, other, _ = (encoder.render(prompt, cache).images for prompt in blurred)
    assert [one is two for one, two in zip(first, again, strict=True)] == [True, True]
    assert [one is two for one, two in zip(first, other, strict=True)] == [False, False]
    assert len(cache) == 4


def test_an_image_that_cannot_be_opened_is_named(
    tiny: Build, make_sample: Callable[..., Sample], tmp_path: Path
) -> None:
    prompt = Prompt.of(make_sample("q7", images=[Image.new("RGB", (56, 56)), tmp_path / "gone.png"]))
    with pytest.raises(FileNotFoundError, match=r"sample 'q7', field 'images\.1': .*gone\.png"):
        Encoder(tiny("llava").processor).render(prompt, {})


@pytest.mark.parametrize("fault", [TypeError("'NoneType' object is not subscriptable"), ZeroDivisionError("a side")])
def test_batches_are_planned_with_a_guess_if_the_processor_cannot_count_image_tokens(
    fault: Exception, tiny: Build, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tiny("internvl")
    prompts = [Prompt.of(sample, style=Style(mode="direct")) for sample in samples[:2]]
    expected = HFModel(made.model, made.processor).respond(prompts)

    def uncounted(self: Any, **sizes: Any) -> Any:
        raise fault

    monkeypatch.setattr(type(made.processor), "_get_num_multimodal_tokens", uncounted)
    responses = HFModel(made.model, made.processor).respond(prompts)
    assert [response.option_logprobs for response in responses] == [
        pytest.approx(other.option_logprobs, abs=1e-5) for other in expected
    ]


def test_image_tokens_are_counted_once_per_size(
    tiny: Build, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    processor, asked = tiny("qwen2_5_vl").processor, []
    real = type(processor)._get_num_multimodal_tokens

    def counted(self: Any, image_sizes: Any) -> Any:
        asked.append(tuple(image_sizes))
        return real(self, image_sizes)

    monkeypatch.setattr(type(processor), "_get_num_multimodal_tokens", counted)
    encoder = Encoder(processor)
    images = [Image.new("RGB", size) for size in ((56, 56), (84, 56), (56, 56), (56, 84))]
    small, large = (real(processor, [size])["num_image_tokens"][0] for size in ((56, 56), (56, 84)))
    assert small != large
    for _ in range(2):
        assert [encoder.image_length([image]) for image in images] == [small, large, small, large]
        assert encoder.image_length(images) == 2 * (small + large)
    assert asked == [((56, 56),), ((56, 84),), ((84, 56),), ((56, 56), (56, 84), (56, 56), (84, 56))]


def test_llava_with_an_image_processor_that_crops_nothing_is_right(
    samples: list[Sample], texts_of: Callable[[Any], list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    # Its processor counts an image's tokens by the crop of a CLIP image processor; some checkpoints have SigLIP's.
    config, processor = families.llava()[0].config, families.llava()[1]
    config.vision_config = hf.SiglipVisionConfig(
        hidden_size=32,
        intermediate_size=37,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=56,
        patch_size=14,
        vision_use_head=False,
    )
    config.vision_feature_select_strategy = "full"
    processor = hf.LlavaProcessor(
        hf.SiglipImageProcessor(size={"height": 56, "width": 56}),
        processor.tokenizer,
        patch_size=14,
        vision_feature_select_strategy="full",
        chat_template=templates.LLAVA,
    )
    model = hf.LlavaForConditionalGeneration(config).eval()
    zoo.redraw(model)
    model.generation_config.eos_token_id = processor.tokenizer.eos_token_id
    model.generation_config.pad_token_id = processor.tokenizer.pad_token_id
    assert_right(zoo.Tiny("llava", model, processor), samples[:3], texts_of, lambda: caplog.text)
