"""The bundled model: stock classes, small, and it looks; its training runs from nothing."""

import hashlib
import json
import subprocess
import sys

import demo_language
import pytest
import torch
import train_demo
import transformers

from vlmrobust import Prompt, demo
from vlmrobust.demo import evaluate, scenes
from vlmrobust.types import open_image

WEIGHTS = evaluate.WEIGHTS
LOG = json.loads((WEIGHTS / "training_log.json").read_text())


@pytest.fixture(scope="module")
def loaded():
    return evaluate.load()


@pytest.fixture(scope="module")
def figures(loaded):
    return evaluate.measure(*loaded, n=100, seed=5)


def test_weights_are_those_of_the_committed_training_and_small():
    file = WEIGHTS / "model.safetensors"
    assert hashlib.sha256(file.read_bytes()).hexdigest() == LOG["sha256"]
    assert file.stat().st_size <= 8e6
    assert LOG["parameters"] <= 4e6
    assert LOG["cpu_seconds"] <= 2 * 45 * 60


def test_stock_classes_in_float32(loaded):
    model, found = loaded
    assert type(model).__name__ == "Qwen2_5_VLForConditionalGeneration"
    assert type(found).__name__ == "Qwen2_5_VLProcessor"
    assert type(model).__module__.startswith("transformers.")
    assert model.dtype == torch.float32
    assert model.num_parameters() == LOG["parameters"]


def test_loading_shows_no_bar_and_keeps_the_setting(capsys):
    logging = transformers.utils.logging
    for shown in (True, False):
        (logging.enable_progress_bar if shown else logging.disable_progress_bar)()
        try:
            demo.model()
            assert logging.is_progress_bar_enabled() is shown
        finally:
            logging.enable_progress_bar()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("text", ["", "Is it 42?", "Ünï — 漢字 😀\x00", "a\n\n  b\t", "<think>no", "I'm naïve's"])
def test_any_text_comes_back_from_the_tokenizer(loaded, text):
    tokenizer = loaded[1].tokenizer
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text


def test_options_and_letters_are_single_tokens(loaded):
    tokenizer = loaded[1].tokenizer
    for word in (*demo_language.OPTION_WORDS, *train_demo.TAGS, "A", "B", "C", "D"):
        assert len(tokenizer.encode(word, add_special_tokens=False)) == 1
    for word in demo_language.OPTION_WORDS:
        assert len(tokenizer.encode(f" {word}", add_special_tokens=False)) == 1


def test_an_image_takes_few_tokens_whatever_its_size(loaded):
    from PIL import Image

    for size in [(224, 224), (56, 56), (640, 480)]:
        batch = loaded[1].image_processor([Image.new("RGB", size)], return_tensors="pt")
        assert batch["image_grid_thw"].prod() // 4 <= demo_language.IMAGE_TOKENS


def test_prompts_have_no_system_turn_and_end_where_the_assistant_begins(loaded):
    text = Prompt.of(demo.samples(1)[0]).render(loaded[1])
    assert text.startswith("<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>What colour")
    assert text.endswith("</answer>.<|im_end|>\n<|im_start|>assistant\n")


def test_it_uses_the_image(figures):
    assert figures["base"]["accuracy"] >= 0.9
    assert min(figures["base"]["accuracy_by_kind"].values()) >= 0.9  # 20 samples each; the card has the figures
    assert figures["blank_image"]["accuracy"] <= 0.4
    assert figures["base"]["scene_described_right"] >= 0.9


def test_it_is_misled(figures):
    assert figures["wrong_think"]["accuracy"] <= figures["base"]["accuracy"] - 0.3
    assert figures["wrong_caption"]["accuracy"] < figures["base"]["accuracy"]
    assert figures["correct_think"]["accuracy"] >= 0.9
    assert figures["correct_caption"]["accuracy"] >= 0.9


def test_thoughts_are_short_and_end_in_a_conclusion(loaded):
    model, found = loaded
    prompts = [Prompt.of(sample) for sample in demo.samples(10, seed=6)]
    for text in evaluate.complete(model, found, prompts):
        thought = text.removeprefix("<think>").partition("</think>")[0]
        assert thought.startswith("I see ")
        assert thought.split(" ")[-5:-1] == ["So", "the", "answer", "is"]
        assert len(found.tokenizer.encode(text)) <= 60


def test_the_library_runs_it():
    model = demo.model()
    [response] = model.respond([Prompt.of(demo.samples(1)[0])])
    assert response.status == "answered"
    assert response.answer == demo.samples(1)[0].answer
    assert sum(torch.tensor(response.option_logprobs).exp()).item() > 0.9


def test_training_prompts_equal_the_librarys(loaded):
    """The prompt at test time is token for token the one of training, and pointers point at equal words."""
    tokenizer = loaded[1].tokenizer
    drawn = [(*scenes.draw(i, split="training"), scenes.to_sample(i, split="training")) for i in range(25)]
    episodes = train_demo.episodes_of(drawn, loaded[1], train_demo.Recipe(captioned=0.0))
    for row, (_, question, sample) in enumerate(drawn):
        prompt = Prompt.of(sample)
        batch = loaded[1](text=[prompt.render(loaded[1])], images=[[open_image(prompt.images[0])]], return_tensors="pt")
        asked = batch["input_ids"][0]
        assert torch.equal(episodes.ids[row, : len(asked)], asked)
        assert (episodes.roles[row, : len(asked)] == 0).all()
        learnt = {role: episodes.ids[row][episodes.roles[row] == role] for role in (2, 3)}
        assert tokenizer.decode(learnt[demo_language.CONCLUSION]).strip() == question.options[question.answer]
        assert tokenizer.decode(learnt[demo_language.LETTER]) == "ABCD"[question.answer]
        of_row = episodes.pointers[episodes.pointers[:, 0] == row]
        assert (of_row[:, 4] <= of_row[:, 3]).all()
        [letter] = [p for p in of_row.tolist() if tokenizer.decode(episodes.ids[row, p[3]]) == "<answer>"]
        assert tokenizer.decode(episodes.ids[row, letter[4]]).strip() == question.options[question.answer]


def test_pointer_losses_are_the_negative_logarithm_of_attention():
    uniform = torch.full((2, 4, 5, 5), 0.2)
    where = torch.tensor([[7, 0, 1, 4, 2], [9, 1, 0, 3, 3], [8, 0, 0, 1, 1]])
    rows = torch.tensor([9, 7])
    expected = torch.log(torch.tensor(5.0)).item()
    assert demo_language.pointers_loss((uniform, uniform), where, rows).item() == pytest.approx(expected, abs=1e-4)
    assert demo_language.offsets_loss((uniform,)).item() == pytest.approx(expected, abs=1e-4)
    right = uniform.clone()
    right[1, 1, 4, 2] = 1.0  # episode 7 is the second row
    assert demo_language.pointers_loss((right, uniform), where, rows).item() == pytest.approx(expected / 2, abs=1e-4)


@pytest.mark.skipif(transformers.__version__ < "5", reason="the training makes its tokenizer with transformers 5")
def test_training_from_scratch_is_reproducible(tmp_path):
    digests = []
    for run in ("one", "two"):
        command = [sys.executable, train_demo.__file__, "--out", str(tmp_path / run), "--steps-scale", "0.01"]
        subprocess.run(command, check=True, capture_output=True)
        log = json.loads((tmp_path / run / "training_log.json").read_text())
        digests.append(log["sha256"])
    assert digests[0] == digests[1]
    assert log["figures"]["samples"] == log["recipe"]["held_out"]
    assert evaluate.load(tmp_path / "one")[0].num_parameters() == log["parameters"]
