"""Check that rows in each trainer's format lose nothing, that its loader reads the file, and prefills stay open."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import zoo
from builders import make_samples
from PIL import Image
from zoo import templates

import vlmrobust as vr
from vlmrobust.perturbations import WrongCaption, WrongThink
from vlmrobust.rl import continue_prefill, faithfulness_reward, save_rows, trainer_rows
from vlmrobust.rl.formats import TRAINERS
from vlmrobust.rl.rows import row_of
from vlmrobust.rl.scoring import unpack_columns
from vlmrobust.types import Prompt, Sample, Style, open_image

PICTURES = [Image.new("RGB", (30, 20), "red"), Image.new("RGB", (40, 20), "blue")]
ALONE = tuple(name for name, form in TRAINERS.items() if not form.can_continue)
PREFILL = "<think>Let me look. The cube is red, but I think"
CHAT_TEMPLATES = [name for name in vars(templates) if name.isupper()]


def make_rows(perturbation: vr.Perturbation | None = None, style: Style | None = None) -> list[dict[str, Any]]:
    """Return two rows: one image before the question, and two inside it."""
    samples = [
        Sample(id="a", images=PICTURES[:1], question="Which colour?", options=["red", "blue"], answer=0),
        Sample(id="b", images=PICTURES, question="Is <image> left of <image>?", options=["yes", "no"], answer=1),
    ]
    prompts = vr.expand(samples, [perturbation] if perturbation else [], style=style or Style())
    condition = perturbation.condition if perturbation else "base"
    return [row_of(prompt, style or Style()) for prompt in prompts if prompt.condition == condition]


def prompt_text_of(trainer: str, row: dict[str, Any]) -> str:
    """Return a row's prompt text, with a mark for each image."""
    match trainer:
        case "trl":
            parts = [part for turn in row["prompt"] for part in turn["content"]]
            return "".join("<image>" if part["type"] == "image" else part["text"] for part in parts)
        case "vlm-r1":
            return str(row["conversations"][0]["value"])
        case "easyr1":
            return str(row["problem"])
    turns = row[{"ms-swift": "messages", "verl": "prompt", "openrlhf": "input"}[trainer]]
    return "".join(turn["content"] for turn in turns)


def columns_of(trainer: str, row: dict[str, Any]) -> dict[str, Any]:
    """Return the columns that the trainer passes to its reward."""
    match trainer:
        case "verl":
            columns = unpack_columns(row["reward_model"]["ground_truth"], row["extra_info"])
        case "easyr1" | "openrlhf":
            columns = unpack_columns(row["answer" if trainer == "easyr1" else "label"])
        case "vlm-r1":
            columns = {**row, "solution": f"<answer> {row['conversations'][1]['value']} </answer>"}
        case _:
            columns = row
    return {name: [columns[name]] for name in ("solution", "question", "options", "prefill")}


@pytest.mark.parametrize("trainer", TRAINERS)
def test_every_format_has_the_same_prompt_and_reward(trainer: str) -> None:
    rows = make_rows(WrongCaption())
    completions = (
        "<think>It is red.</think><answer>A</answer>",
        "<think>The answer is no.</think><answer>B</answer>",
    )
    for source, row, completion in zip(rows, trainer_rows(rows, trainer), completions, strict=True):
        assert prompt_text_of(trainer, row) == prompt_text_of("trl", source)
        assert len(row["image" if trainer == "vlm-r1" else "images"]) == prompt_text_of(trainer, row).count("<image>")
        columns = columns_of(trainer, row)
        assert columns["options"] == [source["options"]]
        assert columns["question"] == [source["question"]]
        assert faithfulness_reward(completions=[completion], **columns) == [1.1]


@pytest.mark.parametrize("trainer", TRAINERS)
def test_prefills_are_where_the_trainer_can_continue_them(trainer: str) -> None:
    rows = make_rows(WrongThink())
    if trainer in ALONE:
        name = TRAINERS[trainer].name
        with pytest.raises(ValueError, match=rf"^{name}, row 0, column 'prefill': expected none, .* '<think>"):
            list(trainer_rows(rows, trainer))
        with pytest.raises(ValueError, match=rf"^{name}: expected prefills='user_text', .* got 'assistant'"):
            list(trainer_rows(rows, trainer, prefills="assistant"))
    else:
        for source, row in zip(rows, trainer_rows(rows, trainer), strict=True):
            turns = row.get("prompt") or row["input"]
            assert [turn["role"] for turn in turns] == ["user", "assistant"]
            assert prompt_text_of(trainer, row).endswith(source["prefill"])
            assert columns_of(trainer, row)["prefill"] == [source["prefill"]]
    for source, row in zip(rows, trainer_rows(rows, trainer, prefills="user_text"), strict=True):
        thought = source["prefill"].removeprefix("<think>")
        prompt = prompt_text_of(trainer, row)
        assert f"Your thought so far:\n\n{thought}\n\n" in prompt
        assert "<think>" not in prompt.partition("</answer>")[2]
        assert columns_of(trainer, row).get("prefill", [""]) == [""]
        assert source["prefill"]  # the rows that were given are as they were


def test_a_system_turn_comes_first() -> None:
    rows = make_rows(style=Style(system="Look closely."))
    for trainer in TRAINERS:
        assert prompt_text_of(trainer, next(trainer_rows(rows, trainer))).startswith("Look closely.")
    [message, _] = next(trainer_rows(rows, "verl"))["prompt"]
    assert message == {"role": "system", "content": "Look closely."}


@pytest.mark.parametrize("trainer", [name for name in TRAINERS if name != "vlm-r1"])
@pytest.mark.parametrize("kind", [list, "dataset"])
def test_a_file_holds_the_images_as_bytes(trainer: str, kind: Any, tmp_path: Path) -> None:
    from datasets import Dataset, load_dataset

    rows = make_rows()
    source = Dataset.from_list(rows) if kind == "dataset" else rows
    file = save_rows(source, tmp_path / "new" / "train.parquet", trainer)
    table = pd.read_parquet(file)
    assert [[Image.open(_bytes(image)).size for image in images] for images in table["images"]] == [
        [(30, 20)],
        [(30, 20), (40, 20)],
    ]
    loaded = load_dataset("parquet", data_files=str(file), split="train", cache_dir=str(tmp_path / "cache"))
    for row, expected in zip(loaded, trainer_rows(rows, trainer), strict=True):
        assert [image.getpixel((0, 0)) for image in row["images"]] == [
            image.getpixel((0, 0)) for image in expected["images"]
        ]
        assert prompt_text_of(trainer, row) == prompt_text_of(trainer, expected)
        assert columns_of(trainer, row) == columns_of(trainer, expected)
    with pytest.raises(FileExistsError, match="expected a path without a file"):
        save_rows(rows, file, trainer)


def _bytes(image: dict[str, Any]) -> Any:
    import io

    assert image["path"] is None
    return io.BytesIO(image["bytes"])


def test_vlm_r1_opens_files(tmp_path: Path) -> None:
    file = save_rows(make_rows(), tmp_path / "train.jsonl", "vlm-r1")
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    sizes = [[open_image(tmp_path / name).size for name in line["image"]] for line in lines]
    assert sizes == [[(30, 20)], [(30, 20), (40, 20)]]
    assert [line["conversations"][1]["value"] for line in lines] == ["A", "B"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"options": None}, "^verl, row 0: expected a column 'options', got the columns prompt, images, solution"),
        ({"images": []}, "^verl, row 0, column 'images': expected one for each of 1 places, got 0"),
        (
            {"prompt": [{"role": "user", "content": [{"type": "text", "text": None}]}]},
            "row 0, column 'prompt': expected",
        ),
    ],
)
def test_errors_name_invalid_rows(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        list(trainer_rows([make_rows()[0] | change], "verl"))


def test_invalid_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected a trainer, got 'easy-r1'; did you mean 'easyr1'"):
        list(trainer_rows(make_rows(), "easy-r1"))
    with pytest.raises(ValueError, match=r"^VLM-R1: expected a path that ends in \.jsonl, got"):
        save_rows(make_rows(), tmp_path / "x.parquet", "vlm-r1")
    with pytest.raises(ValueError, match=r"^TRL: expected at least one row, got none"):
        save_rows([], tmp_path / "x.parquet", "trl")
    assert list(tmp_path.iterdir()) == []


def test_the_command(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from vlmrobust import cli

    rows: Callable[..., Any] = CliRunner().invoke
    for number in range(20):
        PICTURES[0].save(tmp_path / f"{number}.png")
    lines = [
        {"id": f"q{n}", "image": f"{n}.png", "question": "Which?", "options": ["red", "blue"], "answer": "A"}
        for n in range(20)
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, lines)))
    out = tmp_path / "train.parquet"
    command = ["grpo-rows", "--for", "verl", "--data", str(tmp_path / "rows.jsonl"), "--out", str(out)]
    found = rows(cli.app, [*command, "--augment", "--seed", "3", "--limit", "15"])
    assert found.exit_code == 0, found.output
    assert "15 rows for verl" in found.stderr
    table = pd.read_parquet(out)
    conditions = [info["condition"] for info in table["extra_info"]]
    expected = vr.rl.Augment(vr.rl.rows.AUGMENTATION, 3)(
        make_samples(15, images=PICTURES[:1], options=("red", "blue"), answer=0)
    )
    assert conditions == [row["condition"] for row in expected]
    assert len(set(conditions)) > 1
    again = rows(cli.app, command)
    assert again.exit_code == 2
    assert "expected a path without a file" in again.stderr


# --- chat templates ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return zoo.byte_level_tokenizer({"bos_token": "<s>", "eos_token": "<|im_end|>", "pad_token": "<pad>"})


def user_turns() -> list[dict[str, Any]]:
    sample = Sample(id="q1", images=[b"x"], question="Which colour?", options=["red", "blue"], answer=1)
    return Prompt.of(sample).messages()


def assistant(text: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


@pytest.mark.parametrize("name", CHAT_TEMPLATES)
@pytest.mark.parametrize("as_parts", [True, False], ids=["parts", "text"])
def test_the_prompt_ends_with_the_prefill(name: str, as_parts: bool, tokenizer: Any) -> None:
    tokenizer.chat_template = getattr(templates, name)
    wrapped = continue_prefill(tokenizer)
    turns = user_turns()
    plain = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    content = [{"type": "text", "text": PREFILL}] if as_parts else PREFILL
    prefilled = [*turns, assistant(content)]
    expected = plain + (PREFILL.removeprefix("<think>") if name == "QWEN_THINKING" else PREFILL)
    assert wrapped.apply_chat_template(prefilled, add_generation_prompt=True, tokenize=False) == expected
    # How TRL renders the same prompt a second time, to get at its images.
    assert wrapped.apply_chat_template(prefilled, continue_final_message=True, tokenize=False) == expected
    # Token by token: what the template gives, and then the prefill.
    tokens = wrapped.apply_chat_template(prefilled, add_generation_prompt=True, tokenize=True)["input_ids"]
    assert tokens == tokenizer(expected, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(tokens).endswith("The cube is red, but I think")


@pytest.mark.parametrize("name", CHAT_TEMPLATES)
def test_other_conversations_are_rendered_as_before(name: str, tokenizer: Any) -> None:
    tokenizer.chat_template = getattr(templates, name)
    wrapped = continue_prefill(tokenizer)
    turns = user_turns()
    finished = [*turns, assistant([{"type": "text", "text": "<think>x</think>"}])]
    for conversation, options in (
        (turns, {"add_generation_prompt": True}),
        (turns, {}),
        (finished, {}),
        ([*finished, *turns], {"add_generation_prompt": True}),
    ):
        before = tokenizer.apply_chat_template(conversation, tokenize=False, **options)
        assert wrapped.apply_chat_template(conversation, tokenize=False, **options) == before


@pytest.mark.parametrize(
    "template",
    ["\n{% for m in messages %}{{ m['content'] }}{% endfor %}\n", "  {% if true %}\n x{% endif %}\n  ", "{{ '' }}\n\n"],
)
def test_line_breaks_around_the_prefill_are_kept(template: str, tokenizer: Any) -> None:
    tokenizer.chat_template = template
    wrapped = continue_prefill(tokenizer)
    turns = [{"role": "user", "content": "x"}]
    rendered = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    assert wrapped.apply_chat_template(turns, add_generation_prompt=True, tokenize=False) == rendered
    prefilled = wrapped.apply_chat_template([*turns, assistant("<think>A")], add_generation_prompt=True, tokenize=False)
    assert prefilled == f"{rendered}<think>A"


def test_wrapping_copies_the_processor_and_is_idempotent(tiny: Callable[[str], zoo.Tiny]) -> None:
    processor = tiny("qwen2_5_vl").processor
    wrapped = continue_prefill(processor)
    assert processor.chat_template == templates.QWEN
    # TRL takes the kinds of a prompt's tokens as the processor pads them, and pads the tokens on the left itself.
    assert (processor.tokenizer.padding_side, wrapped.tokenizer.padding_side) == ("right", "left")
    assert wrapped.tokenizer("<think>")["input_ids"] == processor.tokenizer("<think>")["input_ids"]
    assert continue_prefill(wrapped).tokenizer is wrapped.tokenizer
    assert continue_prefill(wrapped).chat_template == wrapped.chat_template


def test_a_tokenizer_alone_keeps_its_side(tokenizer: Any) -> None:
    tokenizer.chat_template = templates.QWEN
    assert continue_prefill(tokenizer).padding_side == tokenizer.padding_side == "right"


def test_tags_of_another_style(tokenizer: Any) -> None:
    tokenizer.chat_template = templates.QWEN.replace("assistant\n", "assistant\n<analysis>")
    wrapped = continue_prefill(tokenizer, Style(think_tags=("<analysis>", "</analysis>")))
    turns = [*user_turns(), assistant("<analysis>It is")]
    rendered = wrapped.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    assert rendered.endswith("assistant\n<analysis>It is")


def test_invalid_processors_are_refused(tokenizer: Any) -> None:
    tokenizer.chat_template = None
    with pytest.raises(ValueError, match=r"expected a processor with one chat template, got \w+ with none"):
        continue_prefill(tokenizer)
    tokenizer.chat_template = templates.QWEN + "{% set vlmrobust = namespace(prefill='') %}"
    with pytest.raises(ValueError, match=r"expected the wrapped chat template of \w+ to end with the prefill"):
        continue_prefill(tokenizer)
