"""The bundled model on vLLM in this process says what it says on transformers."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import environments
import numpy as np
import peft
import pytest
import torch
import transformers
import zoo
from agreement import agree
from what_is_asked import JUDGED, TOKENS

from vlmrobust import Evaluator, HFModel, Report, Style, demo, paper_conditions
from vlmrobust.judges import LMJudge
from vlmrobust.prompting import letter_columns

pytestmark = [
    pytest.mark.engines,
    pytest.mark.filterwarnings("ignore:The image decoding and encoding capabilities of TorchVision"),
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),  # peft asks for it
]

HERE = Path(__file__).parent
NATS = 1e-3
LIMIT = 400  # seconds; a busy machine takes many times as long as an idle one

Ran = Callable[[str], tuple[Path, dict[str, Any]]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("in_process")


@pytest.fixture(scope="module")
def ran(python_of: Callable[[str], Path], folder: Path) -> Ran:
    """Return a function that runs a part of in_process.py, once, and returns the folder and what it found."""
    python, found = python_of("vllm"), {}

    def run(part: str) -> tuple[Path, dict[str, Any]]:
        if part not in found:
            paths = os.pathsep.join([str(HERE.parents[1]), str(HERE)])
            env = environments.plain() | dict(environments.VLLM) | {"HF_HUB_OFFLINE": "1", "PYTHONPATH": paths}
            command = [python, HERE / "in_process.py", part, folder]
            done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=LIMIT)
            assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-6000:]}"
            found[part] = json.loads((folder / f"{part}.json").read_text())
        return folder, found[part]

    return run


@pytest.fixture(scope="module")
def text_model(folder: Path) -> tuple[Any, Any]:
    """Return a language model without images and its tokenizer, which lie in the folder as well."""
    special = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    tokenizer = zoo.byte_level_tokenizer(special, ("<|im_start|>",), kind="Qwen2TokenizerFast")
    tokenizer.chat_template = (
        "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
        "{% endfor %}<|im_start|>assistant\n"
    )
    sizes = {"hidden_size": 128, "intermediate_size": 192, "num_hidden_layers": 2, "head_dim": 32}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 2048}
    size = (len(tokenizer) // 64 + 1) * 64
    config = transformers.Qwen3Config(**sizes, **heads, vocab_size=size, eos_token_id=tokenizer.eos_token_id)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    zoo.redraw(model)
    for part in (model, tokenizer):
        part.save_pretrained(folder / "text")
    return model, tokenizer


def test_the_same_is_said_and_the_model_keeps_what_is_asked_of_one(ran: Ran, expected: Report) -> None:
    folder, _ = ran("greedy")  # with `check_model`
    agree(Report.load(folder / "greedy"), expected, nats=NATS)


def test_option_texts_are_scored_alike(ran: Ran) -> None:
    folder, _ = ran("greedy")
    model = demo.model(generation={"max_new_tokens": TOKENS})
    here = Evaluator(model, paper_conditions(), style=Style(answer_by="text")).run(demo.samples(4)).responses
    there = Report.load(folder / "texts").responses
    assert there.text == here.text
    assert there.readout == here.readout
    assert "option_text_fixed_prefix" in there.readout
    np.testing.assert_allclose(there.option_logprobs, here.option_logprobs, rtol=0, atol=NATS)


def judges_alike(found: dict[str, Any], judge: LMJudge) -> None:
    letters = torch.tensor(found["letters"])
    expected = judge.letter_logprobs(JUDGED)
    for row, (_, _, _, shown) in enumerate(JUDGED):
        columns = letter_columns(shown)
        torch.testing.assert_close(letters[row, columns], expected[row, columns], rtol=0, atol=NATS)
    assert list(found["refused"]) == [str(len(JUDGED))]
    assert "1024" in found["refused"][str(len(JUDGED))]
    assert found["engines"] == 1


def test_the_model_that_answers_judges_on_the_same_engine(ran: Ran) -> None:
    _, found = ran("greedy")
    judges_alike(found["judged"], LMJudge.of(demo.model()))
    assert found["judged"]["identity"]["name"] == str(Path(demo.__file__).parent / "weights")


def test_a_language_model_without_images_judges(ran: Ran, text_model: tuple[Any, Any]) -> None:
    _, found = ran("judge")
    judges_alike(found, LMJudge(*text_model))


def test_a_worker_that_is_killed_is_not_waited_for(ran: Ran, text_model: Any) -> None:
    _, found = ran("judge")
    assert "vLLM's engine died" in (found["killed"] or "")


def test_a_prompt_that_is_refused_is_a_row(ran: Ran) -> None:
    folder, _ = ran("greedy")
    frame = Report.load(folder / "refused").frame.set_index("sample_id")
    assert frame["status"].value_counts().to_dict() == {"answered": 3, "error": 1}
    assert "1024" in frame.loc["long", "error"]


def test_an_engine_that_is_killed_ends_the_run_and_what_was_answered_stays(ran: Ran) -> None:
    folder, found = ran("greedy")
    assert "vLLM's engine died" in found["killed"]
    files = (folder / "killed").glob("responses-*")
    rows = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    assert 100 <= len(rows) < 500 * 8
    assert {row["response"]["status"] for row in rows} <= {"answered", "truncated", "unparsed"}


def test_draws_repeat_with_their_keys_however_many_are_asked_at_a_time(ran: Ran) -> None:
    folder, _ = ran("draws")
    many, few = (Report.load(folder / f"draws-{count}").responses for count in (64, 1))
    assert many.text == few.text
    texts: dict[tuple[str, str], set[str]] = {}
    for sample, condition, text in zip(many.sample_id, many.condition, many.text, strict=True):
        texts.setdefault((sample, condition), set()).add(text)
    assert max(map(len, texts.values())) > 1, "nothing is drawn"


def test_an_adapter_acts_as_in_transformers(ran: Ran, folder: Path) -> None:
    model = peft.get_peft_model(
        demo.model().model, peft.LoraConfig(r=4, lora_alpha=16, target_modules=r".*language_model.*(q|v|o|down)_proj")
    )
    generator = torch.Generator().manual_seed(0)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            weight.data.normal_(0.0, 0.05, generator=generator)
    model.save_pretrained(folder / "adapter")
    adapted = HFModel.from_pretrained(str(folder / "adapter"), dtype="float32", generation={"max_new_tokens": TOKENS})
    here = Evaluator(adapted, paper_conditions()).run(demo.samples(6)).responses
    ran("adapter")
    there = Report.load(folder / "adapted").responses
    assert there.text == here.text
    np.testing.assert_allclose(there.option_logprobs, here.option_logprobs, rtol=0, atol=NATS)
    base = Evaluator(demo.model(generation={"max_new_tokens": TOKENS}), paper_conditions()).run(demo.samples(6))
    assert base.responses.text != here.text, "the adapter makes no difference, and the test cannot fail"


def test_what_cannot_start_says_why_and_what_may_help(ran: Ran, folder: Path, weights: Path) -> None:
    unknown = folder / "unknown"
    unknown.mkdir()
    for file in weights.iterdir():
        (unknown / file.name).write_bytes(file.read_bytes())
    config = json.loads((unknown / "config.json").read_text()) | {"architectures": ["NoSuchModel"]}
    (unknown / "config.json").write_text(json.dumps(config))
    _, said = ran("refusals")
    assert "NoSuchModel" in said["unknown"]
    assert "HFModel supports any" in said["unknown"]
    assert "10000000" in said["context"]
    assert "max_model_len" in said["memory"]
    assert "cache" in said["memory"].casefold()


def test_two_actors_give_the_report_of_one(ran: Ran, expected: Report) -> None:
    folder, found = ran("actors")
    assert found["writers"] == 2
    agree(Report.load(folder / "actors"), expected, nats=NATS)


def test_the_check_for_a_gpu_runs_its_part_on_vllm(python_of: Callable[[str], Path], tmp_path: Path) -> None:
    paths = {"PYTHONPATH": str(HERE.parents[1]), "HF_HUB_OFFLINE": "1"}
    script = HERE.parent / "benchmarks" / "gpu_check.py"
    command = [python_of("vllm"), script, "--out", tmp_path, "--dry-run", "--parts", "vllm"]
    env = environments.plain() | dict(environments.VLLM) | paths
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-6000:]}"
    [row] = json.loads((tmp_path / "gpu_check.json").read_text())["vllm"]
    assert not {"failed", "left out"} & row.keys(), row
    assert row["rows"] == 8
    assert row["requests"] >= 8
    assert 0 < row["tokens"] <= 8 * 400
    assert {name: len(row[name]) for name in ("VLLMModel s", "LLM.generate s", "HFModel s")} == {
        "VLLMModel s": 2,
        "LLM.generate s": 2,
        "HFModel s": 1,
    }
    assert row["rate against LLM.generate"] > 0
    assert "| rows |" in (tmp_path / "gpu_check.md").read_text()
