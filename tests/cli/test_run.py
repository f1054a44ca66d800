"""Test `vlmrobust run`: the effect of its flags, what is refused, what is saved, and exit codes."""

import json
import re
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import Result

from vlmrobust import demo, styles
from vlmrobust.cli import preview
from vlmrobust.data import Samples
from vlmrobust.models import HFModel
from vlmrobust.perturbations import paper_conditions
from vlmrobust.report import Report
from vlmrobust.testing import FakeModel
from vlmrobust.workers import ThisProcess

Command = Callable[..., Result]


def test_run_reports_and_resumes(command: Command, rows: Path, tmp_path: Path, loaded: list[Any]) -> None:
    out = tmp_path / "run"
    arguments = ("run", "--model", "org/name", "--data", rows, "--out", out, "--limit", 4, "--seed", 7)
    result = command(*arguments)
    assert result.exit_code == 0, result.output
    report = Report.load(out)
    assert report.conditions == tuple(condition.condition for condition in paper_conditions())
    assert len(report.frame) == 4 * 8
    assert str(report) in result.stdout
    assert str(out) in result.stderr
    again = command(*arguments, "--conditions", "base,wrong_think+abstain_option")
    assert again.exit_code == 0, again.output
    assert "wrong_think+abstain_option" in again.stdout


def test_metrics_are_measured_in_place_of_the_default_ones(
    command: Command, rows: Path, own: Path, tmp_path: Path, loaded: list[Any]
) -> None:
    arguments = ("run", "--model", "org/name", "--data", rows, "--out", tmp_path / "run", "--conditions", "wrong_think")
    wrong = command(*arguments, "--metrics", "accuracy,letter_entropie")
    assert wrong.exit_code == 2
    assert "got 'letter_entropie'; did you mean 'letter_entropy'? Known are accuracy, " in wrong.stderr
    assert not (tmp_path / "run").exists()
    result = command(*arguments, "--metrics", f"accuracy,{own}:Words")
    assert result.exit_code == 0, result.output
    assert Report.load(tmp_path / "run").metrics == ("accuracy", "words")
    assert "accuracy ↑" in result.stdout
    assert "words" in result.stdout
    assert "consistency" not in result.stdout
    again = command("run", "--config", tmp_path / "run" / "run.toml", "--json")  # with the metrics of the run
    assert {row["metric"] for row in json.loads(again.stdout)} == {"accuracy", "words"}


def test_images_are_swapped_with_those_of_the_other_rows(
    command: Command, rows: Path, tmp_path: Path, loaded: list[Any]
) -> None:
    Image.new("RGB", (8, 8), "blue").save(tmp_path / "blue.png")
    lines = rows.read_text().splitlines()
    rows.write_text("\n".join([*lines[:3], *(line.replace("red.png", "blue.png") for line in lines[3:])]))
    arguments = ("run", "--model", "org/name", "--data", rows, "--out", tmp_path / "run")
    result = command(*arguments, "--conditions", "swapped_image,swapped_image+early_answer_100", "--runner-up")
    assert result.exit_code == 0, result.output
    report = Report.load(tmp_path / "run")
    assert set(report.frame["status"]) == {"answered"}
    assert report.manifest["conditions"]["swapped_image"]["pool"].startswith("6 images, sha256:")
    assert report.manifest["distractor"] == "runner_up"


def test_every_flag_has_its_effect(command: Command, rows: Path, tmp_path: Path, loaded: list[Any]) -> None:
    result = command(
        *("run", "--model", "org/name", "--data", rows, "--out", tmp_path / "run", "--conditions", "wrong_caption"),
        *("--max-new-tokens", 99, "--batch-size", 3, "--dtype", "float32", "--device", "cpu", "--style", "direct"),
        *("--force-answer", "--trust-remote-code"),
    )
    assert result.exit_code == 0, result.output
    [(arguments, settings)] = loaded
    assert arguments == ("org/name",)
    assert settings == {
        "dtype": "float32",
        "device": "cpu",
        "generation": {"max_new_tokens": 99},
        "force_answer": True,
        "batch_size": 3,
        "trust_remote_code": True,
    }
    frame = Report.load(tmp_path / "run").frame
    assert set(frame["condition"]) == {"base", "wrong_caption"}
    assert set(frame["readout"]) == {"direct"}


def test_a_checkpoint_on_vllm(command: Command, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []

    def make_model(*arguments: Any, **settings: Any) -> FakeModel:
        calls.append((arguments, settings))
        return FakeModel()

    monkeypatch.setattr("vlmrobust.models.VLLMModel", make_model)
    arguments = ("run", "--model", "org/name", "--data", rows, "--out", tmp_path / "run", "--engine", "vllm")
    options = ("--engine-option", "max_model_len=8192", "--engine-option", "quantization=fp8")
    result = command(*arguments, *options, "--temperature", 0.7, "--seed", 3, "--trust-remote-code")
    assert result.exit_code == 0, result.output
    [(positional, settings)] = calls
    generation = {"max_new_tokens": 512, "do_sample": True, "temperature": 0.7, "seed": 3}
    assert positional == ("org/name", generation)
    assert settings == {
        "dtype": "auto",
        "force_answer": False,
        "max_model_len": 8192,
        "quantization": "fp8",
        "trust_remote_code": True,
    }
    again = command("run", "--config", tmp_path / "run" / "run.toml", "--out", tmp_path / "again")
    assert again.exit_code == 0, again.output
    assert calls[1] == calls[0]


def test_columns_and_ambiguous_answers(command: Command, tmp_path: Path, loaded: list[Any]) -> None:
    Image.new("RGB", (8, 8), "red").save(tmp_path / "red.png")
    line = {"index": 3, "picture": "red.png", "prompt": "How many?", "A": "1", "B": "2", "C": "3", "gold": "2"}
    (tmp_path / "rows.jsonl").write_text(json.dumps(line))
    arguments = ("run", "--model", "m", "--data", tmp_path / "rows.jsonl", "--out", tmp_path / "run")
    columns = ("id=index", "image=picture", "question=prompt", "options=A,B,C", "answer=gold")
    arguments += tuple(part for pair in columns for part in ("--columns", pair))
    refused = command(*arguments)
    assert refused.exit_code == 2
    assert "as index means '3' and text means '2'" in refused.stderr
    assert not loaded
    assert command(*arguments, "--answer-as", "text").exit_code == 0
    assert Report.load(tmp_path / "run").frame["target"].tolist() == [1] * 8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--conditions", "wrong_thnik"), "got 'wrong_thnik'; did you mean 'wrong_think'. Known are base, stop"),
        (("--conditions", "wrong_think+x"), "got 'x'"),
        (("--columns", "question"), "--columns: expected field=column, got 'question'"),
        (
            ("--columns", "question=question", "--columns", "question=id"),
            "--columns: expected 'question' once, got question=question and question=id",
        ),
        (("--columns", "prompt=question"), "expected columns for the fields id, "),
        (("--columns", "question=prompt"), "expected one of the columns answer, id, "),
        (("--draws", "3"), "--draws: expected --temperature above 0 with 3 draws"),
        (("--draws", "3", "--temperature", "0.0"), "--draws: expected --temperature above 0 with 3 draws"),
        (("--download-urls",), "--download-urls: cannot be combined with --data"),
        (("--benchmark", "cvbench"), "expected a benchmark, got 'cvbench'; did you mean 'cv-bench'. Known"),
        (("--benchmark", "cv-bench", "--columns", "a=b"), "--columns: cannot be combined with --benchmark"),
        (("--base-url", "http://localhost", "--force-answer"), "--force-answer: cannot be combined with --base-url"),
        (("--engine", "vllm", "--device", "cpu"), "--device: cannot be combined with --engine vllm"),
        (("--engine-option", "max_model_len=5"), "--engine-option: cannot be combined with --engine transformers"),
        (("--engine", "vllm", "--engine-option", "x"), "--engine-option: expected name=value, got 'x'"),
        (("--engine", "vllm", "--base-url", "http://localhost"), "--engine: cannot be combined with --base-url"),
        (("--api-key-env", "NO_SUCH_KEY"), "--api-key-env: .* 'NO_SUCH_KEY' is not set"),
    ],
)
def test_bad_input_is_a_message_and_code_2(
    command: Command, rows: Path, tmp_path: Path, loaded: list[Any], arguments: tuple[str, ...], message: str
) -> None:
    result = command("run", "--model", "m", "--data", rows, "--out", tmp_path / "run", *arguments)
    assert result.exit_code == 2
    assert re.search(message, result.stderr), result.stderr
    assert result.stderr.startswith("Error: ")
    assert "Traceback" not in result.output
    assert not loaded
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("arguments", [(), ("--style", "loud"), ("--data",)])
def test_wrong_usage_is_code_2(command: Command, arguments: tuple[str, ...]) -> None:
    assert command("run", "--model", "m", *arguments).exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--limit", "0"), "Invalid value for '--limit': expected a number of at least 1, got '0'"),
        (("--limit", "few"), "Invalid value for '--limit': expected a whole number, got 'few'"),
        (("--temperature", "warm"), "Invalid value for '--temperature': expected a number, got 'warm'"),
        (("--engine", "vlm"), "Invalid value for '--engine': 'vlm' is not one of 'transformers', 'vllm'"),
    ],
)
def test_a_value_out_of_range_is_named(command: Command, arguments: tuple[str, ...], message: str) -> None:
    result = command("run", "--model", "m", "--data", "rows.jsonl", "--out", "run", *arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.replace("│", "").split())


def test_a_refused_first_call_leaves_nothing_behind(
    command: Command, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any, **settings: Any) -> None:
        raise ValueError("no such checkpoint")

    monkeypatch.setattr(HFModel, "from_pretrained", refuse)
    out = tmp_path / "run"
    arguments = ("run", "--model", "m", "--data", rows, "--out", out)
    assert command(*arguments).exit_code == 2
    assert not out.exists()
    out.mkdir()
    assert command(*arguments).exit_code == 2
    assert [*out.rglob("*")] == []
    assert out.exists()  # it was there before
    (out / "mine" / "empty").mkdir(parents=True)
    assert command(*arguments).exit_code == 2
    assert [*out.rglob("*")] == [out / "mine", out / "mine" / "empty"]  # folders of the user's own stay
    (out / "run.toml").write_text("# mine\n")
    (out / "notes.txt").write_text("mine")
    assert command(*arguments).exit_code == 2
    assert {path.name for path in out.iterdir()} >= {"run.toml", "notes.txt"}


def test_a_predefined_style_by_name(command: Command, rows: Path, tmp_path: Path, loaded: list[Any]) -> None:
    arguments = ("run", "--model", "m", "--data", rows, "--out", tmp_path / "run", "--conditions", "wrong_caption")
    assert command(*arguments, "--style", "video_r1").exit_code == 0
    style = json.loads((tmp_path / "run" / "manifest.json").read_text())["style"]
    assert style == styles.video_r1.model_dump(mode="json")
    unknown = command(*arguments, "--style", "video_r2")
    assert unknown.exit_code == 2
    assert "video_r1" in unknown.stderr


def test_conditions_of_the_run_that_the_call_omits_are_named(
    command: Command, rows: Path, tmp_path: Path, loaded: list[Any]
) -> None:
    arguments = ("run", "--model", "m", "--data", rows, "--out", tmp_path / "run", "--conditions")
    assert "also holds" not in command(*arguments, "wrong_caption").stderr
    second = command(*arguments, "wrong_think")
    note = f"Note: {tmp_path / 'run'} also holds wrong_caption; this report covers only the conditions of this call.\n"
    assert note in second.stderr
    part = tmp_path / "run" / "report.part.parquet"
    assert f"Responses are in {tmp_path / 'run'}, and the report of this call is {part}\n" in second.stderr
    assert "Responses and report" not in second.stderr
    assert set(Report.load(tmp_path / "run").frame["condition"]) == {"base", "wrong_caption", "wrong_think"}
    assert set(Report.load(part).frame["condition"]) == {"base", "wrong_think"}
    third = command(*arguments, "wrong_think,wrong_caption")
    assert third.stderr.endswith(f"Responses and report are in {tmp_path / 'run'}\n")
    assert not part.exists()


def test_missing_data_and_missing_model(command: Command, rows: Path, tmp_path: Path) -> None:
    missing = command("run", "--model", "m", "--data", "no.jsonl", "--out", tmp_path / "run")
    assert (missing.exit_code, missing.stderr) == (
        2,
        "Error: expected rows in a file or folder, found none at 'no.jsonl'\n",
    )
    no_model = command("run", "--model", tmp_path / "nothing", "--data", rows, "--out", tmp_path / "run")
    assert no_model.exit_code == 2
    assert no_model.stderr.startswith("Error: ")


def test_debug_shows_the_traceback(command: Command, tmp_path: Path) -> None:
    result = command("--debug", "run", "--model", "m", "--data", "no.jsonl", "--out", tmp_path / "run")
    assert result.exit_code == 2
    assert "Traceback" in result.stderr
    assert "FileNotFoundError: " in result.stderr


def test_another_run_in_the_folder_is_refused(command: Command, rows: Path, tmp_path: Path, loaded: list[Any]) -> None:
    arguments = ("run", "--model", "m", "--data", rows, "--out", tmp_path / "run", "--conditions", "base")
    assert command(*arguments).exit_code == 0
    result = command(*arguments, "--seed", 1)
    assert result.exit_code == 2
    assert "seed" in result.stderr


def test_error_rows_are_counted_and_give_code_1(
    command: Command, rows: Path, tmp_path: Path, loaded: list[Any]
) -> None:
    line = {"id": "broken", "image": "none.png", "question": "?", "options": ["a", "b"], "answer": 0}
    rows.write_text(rows.read_text() + "\n" + json.dumps(line) + "\n" + json.dumps(line | {"id": "bad", "answer": 5}))
    arguments = ("run", "--model", "m", "--data", rows, "--out", tmp_path / "run", "--conditions", "base")
    refused = command(*arguments)
    assert refused.exit_code == 2
    assert "line 7: sample 'broken', field 'images.0'" in refused.stderr
    assert "line 8: sample 'bad', field 'answer'" in refused.stderr
    result = command(*arguments, "--skip-bad-rows")
    assert result.exit_code == 1
    assert "Warning: rows.jsonl, line 8: sample 'bad', field 'answer'" in result.stderr
    assert "Error rows: 1; problems in the data: 3." in result.stderr
    frame = Report.load(tmp_path / "run").frame
    assert frame.set_index("sample_id").loc["broken", "status"] == "error"
    assert len(frame) == 7


def test_a_seed_keys_sampling_too(command: Command, rows: Path, tmp_path: Path, loaded: list[Any]) -> None:
    arguments = ("run", "--model", "m", "--data", rows, "--out", tmp_path / "run", "--conditions", "base")
    assert command(*arguments, "--draws", 3, "--temperature", 0.7, "--seed", 4).exit_code == 0
    [(_, settings)] = loaded
    assert settings["generation"] == {"max_new_tokens": 512, "do_sample": True, "temperature": 0.7, "seed": 4}
    assert len(Report.load(tmp_path / "run").frame) == 6 * 3


def test_an_address_selects_a_server(
    command: Command, rows: Path, tmp_path: Path, loaded: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def make_model(*arguments: Any, **settings: Any) -> FakeModel:
        calls.append((arguments, settings))
        return FakeModel()

    monkeypatch.setattr("vlmrobust.models.OpenAIModel", make_model)
    monkeypatch.setenv("KEY_OF_THE_SERVER", "hunter2")
    out = tmp_path / "run"
    server = ("--base-url", "http://localhost:8000/v1", "--api-key-env", "KEY_OF_THE_SERVER")
    arguments = ("run", "--model", "m", "--data", rows, "--out", out, "--conditions", "base", "--max-new-tokens", 99)
    result = command(*arguments, *server)
    assert result.exit_code == 0, result.output
    generation = {"max_tokens": 99, "temperature": 0, "seed": 0}
    assert calls == [(("m", "http://localhost:8000/v1", "hunter2"), {"generation": generation})]
    assert not loaded
    assert "KEY_OF_THE_SERVER" in (out / "run.toml").read_text()
    assert not [path for path in out.iterdir() if b"hunter2" in path.read_bytes()]


def test_a_password_in_an_address_is_refused(command: Command, rows: Path, tmp_path: Path) -> None:
    arguments = ("run", "--model", "m", "--data", rows, "--out", tmp_path / "run")
    result = command(*arguments, "--base-url", "http://me:hunter2@localhost/v1")
    assert result.exit_code == 2
    assert "without user and password" in " ".join(result.stderr.replace("│", "").split())
    assert "hunter2" not in result.output


def test_a_benchmark_is_read_from_a_folder(
    command: Command, tmp_path: Path, loaded: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def load(*arguments: Any, **settings: Any) -> Samples:
        calls.append((arguments, settings))
        return Samples(demo.samples(2))

    monkeypatch.setattr("vlmrobust.data.load_benchmark", load)
    arguments = ("run", "--model", "m", "--benchmark", "blink", "--data", tmp_path, "--out", tmp_path / "run")
    result = command(*arguments, "--conditions", "base", "--limit", 2, "--split", "val", "--skip-bad-rows")
    assert result.exit_code == 0, result.output
    [(names, settings)] = calls
    assert names == ("blink",)
    assert settings == {
        "source": str(tmp_path),
        "download_urls": False,
        "split": "val",
        "limit": 2,
        "on_error": "record",
        "check_images": True,
    }


def test_json_is_the_summary_and_nothing_else(command: Command, rows: Path, tmp_path: Path, loaded: list[Any]) -> None:
    page = tmp_path / "page.html"
    arguments = ("run", "--model", "m", "--data", rows, "--out", tmp_path / "run", "--json", "--html", page)
    result = command(*arguments)
    found = json.loads(result.stdout)
    summary = Report.load(tmp_path / "run").summary
    assert [row["metric"] for row in found] == summary["metric"].tolist()
    assert list(found[0]) == list(summary.columns)
    assert found[0]["difference"] is None
    assert page.read_text().startswith("<!doctype html>")
    assert "data:image/" in page.read_text()
    assert str(page) in result.stderr


def test_a_dry_run_shows_prompts_and_loads_no_weights(command: Command, rows: Path, tmp_path: Path) -> None:
    weights = Path(demo.__file__).parent / "weights"
    arguments = ("run", "--model", weights, "--data", rows, "--out", tmp_path / "run", "--dry-run")
    arguments += ("--conditions", "wrong_think,early_answer_50,removed_image,rotated_options_5")
    found = json.loads(command(*arguments, "--json").stdout)
    assert {name: found[name] for name in ("samples", "conditions", "draws", "prompts")} == {
        "samples": 6,
        "conditions": 5,
        "draws": 1,
        "prompts": 30,
    }
    examples = found["examples"]
    assert list(examples) == ["base", "wrong_think", "early_answer_50", "removed_image", "rotated_options_5"]
    assert examples["base"].startswith(
        "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>Which colour?\nA. red"
    )
    assert examples["wrong_think"].removeprefix(examples["base"]).startswith("<think>")
    assert "<|image_pad|>" not in examples["removed_image"]
    assert examples["early_answer_50"] == "(made of the model's own answer under base)"
    assert examples["rotated_options_5"].startswith("(not applicable to any sample: a rotation by 5 needs")
    assert not (tmp_path / "run").exists()
    served = command(*arguments, "--base-url", "http://localhost:1/v1")
    assert served.exit_code == 0, served.output
    assert "6 samples × 5 conditions × 1 draw = 30 prompts" in served.stdout
    assert "[user] <image> Which colour?" in served.stdout
    assert "[assistant begins] <think>" in served.stdout


def test_a_long_run_shows_its_first_prompts_before_it_begins_and_on_standard_error_alone(
    command: Command, rows: Path, tmp_path: Path, loaded: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    weights, out = Path(demo.__file__).parent / "weights", tmp_path / "run"
    arguments: tuple[Any, ...] = ("run", "--model", weights, "--data", rows, "--conditions", "wrong_think", "--json")
    marks = ("── base ──", "── wrong_think ──", "<|im_start|>user\n<|vision_start|><|image_pad|>", "<think>")
    short = command(*arguments, "--out", tmp_path / "short")
    assert "──" not in short.stderr
    wanted = command(*arguments, "--out", tmp_path / "wanted", "--preview")
    assert all(mark in wanted.stderr for mark in marks)
    monkeypatch.setattr(preview, "LONG", 11)  # there are twelve
    long = command(*arguments, "--out", out)
    assert "12 prompts in all; the first of each condition:" in long.stderr
    assert all(mark in long.stderr for mark in marks)
    assert "──" not in long.stdout
    assert json.loads(long.stdout) == json.loads(short.stdout)
    assert "──" not in command(*arguments, "--out", out).stderr  # it resumes
    assert "──" not in command(*arguments, "--out", tmp_path / "quiet", "--no-preview").stderr
    assert "preview" not in (tmp_path / "wanted" / "run.toml").read_text()


def test_long_prompts_are_shown_without_their_middle(command: Command, rows: Path, tmp_path: Path, loaded: Any) -> None:
    row = json.loads(rows.read_text().splitlines()[0])
    rows.write_text(json.dumps(row | {"question": f"Before all, {'look again, ' * 200}which colour?"}))
    arguments = (
        "run",
        "--model",
        "m",
        "--base-url",
        "http://localhost:1/v1",
        "--data",
        rows,
        "--out",
        tmp_path / "run",
    )
    messages = command(*arguments, "--conditions", "wrong_caption", "--preview").stderr
    shown = messages.split("── wrong_caption ──\n")[1].split("\nError")[0]
    assert "[user] <image> Caption" in shown
    assert "characters…]" in shown
    assert len(shown.split("</answer>.")[0]) < 700


def test_a_run_starts_without_the_processor_that_shows_prompts(
    command: Command, rows: Path, tmp_path: Path, loaded: list[Any]
) -> None:
    result = command("run", "--model", tmp_path / "none", "--data", rows, "--out", tmp_path / "run", "--preview")
    assert result.exit_code == 0, result.output
    assert "Note: the first prompts cannot be shown" in result.stderr


def test_a_run_can_be_repeated_from_its_recorded_options(
    command: Command, rows: Path, tmp_path: Path, loaded: list[Any]
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    arguments = ("run", "--model", "m", "--data", rows, "--out", first, "--conditions", "wrong_think+abstain_option")
    arguments += ("--conditions", "typos_3", "--columns", "question=question", "--seed", 5, "--no-check-images")
    arguments += ("--style", "think", "--answer-as", "letter", "--runner-up", "--limit", 4, "--temperature", 0.5)
    assert command(*arguments).exit_code == 0
    again = command("run", "--config", first / "run.toml", "--out", second)
    assert again.exit_code == 0, again.output
    assert loaded[0] == loaded[1]
    manifests = [json.loads((folder / "manifest.json").read_text()) for folder in (first, second)]
    for manifest in manifests:
        del manifest["started"]
    assert manifests[0] == manifests[1]
    before, after = Report.load(first), Report.load(second)
    assert before.frame.equals(after.frame)
    assert before.summary.equals(after.summary)
    options = [tomllib.loads((folder / "run.toml").read_text()) for folder in (first, second)]
    assert options[0] | {"out": str(second)} == options[1]


def test_ranks_other_than_the_first_are_silent(
    command: Command, rows: Path, tmp_path: Path, loaded: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rank under test does not wait for others, unlike a real one."""
    monkeypatch.setattr("vlmrobust.evaluator.default_workers", ThisProcess)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    arguments = ("run", "--model", "m", "--data", rows, "--out", tmp_path / "run", "--conditions", "base")
    result = command(*arguments, "--html", tmp_path / "page.html")
    assert (result.exit_code, result.output) == (0, "")
    assert not (tmp_path / "page.html").exists()
    assert not (tmp_path / "run" / "run.toml").exists()


def test_a_rank_uses_its_own_gpu(
    command: Command, rows: Path, tmp_path: Path, loaded: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "3")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    arguments = ("run", "--model", "m", "--data", rows, "--out", tmp_path / "run", "--conditions", "base")
    assert command(*arguments).exit_code == 0
    assert loaded[0][1]["device"] == "cuda:3"
    assert "device" not in tomllib.loads((tmp_path / "run" / "run.toml").read_text())


def test_an_unexpected_failure_is_a_message_too(
    command: Command, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any, **settings: Any) -> None:
        raise RuntimeError("CUDA error")

    monkeypatch.setattr(HFModel, "from_pretrained", fail)
    arguments = ("run", "--model", "m", "--data", rows, "--out", tmp_path / "run")
    result = command(*arguments)
    assert result.exit_code == 2
    assert result.stderr == "Error: RuntimeError: CUDA error (vlmrobust --debug … shows the traceback)\n"
    debugged = command("--debug", *arguments)
    assert debugged.exit_code == 2
    assert debugged.stderr.startswith("Traceback")
    assert debugged.stderr.endswith("RuntimeError: CUDA error\n\n")


INTERRUPTED = """
import os, signal
from vlmrobust import cli
from vlmrobust.models import HFModel
from vlmrobust.testing import FakeModel
from vlmrobust.workers import ThisProcess

class Stopped(FakeModel):
    def identity(self):
        return FakeModel(follow_caption=0.5).identity()

    def respond(self, prompts):
        if self.calls:
            os.kill(os.getpid(), signal.SIGINT)
        return super().respond(prompts)

signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
HFModel.from_pretrained = lambda *arguments, **settings: Stopped(follow_caption=0.5)
cli.main()
"""


def test_ctrl_c_keeps_the_responses_so_far(command: Command, rows: Path, tmp_path: Path, loaded: list[Any]) -> None:
    line = json.loads(rows.read_text().splitlines()[0])
    rows.write_text("\n".join(json.dumps(line | {"id": f"q{n}"}) for n in range(20)))
    out = tmp_path / "run"
    arguments = ["run", "--model", "m", "--data", str(rows), "--out", str(out), "--conditions", "wrong_think"]
    stopped = subprocess.run([sys.executable, "-c", INTERRUPTED, *arguments], capture_output=True, text=True)
    assert stopped.returncode == 130, stopped.stderr
    assert stopped.stdout == ""
    message = f"Interrupted. The responses so far are in {out}; repeat the call to resume.\n"
    assert stopped.stderr.endswith(message), stopped.stderr
    assert "Traceback" not in stopped.stderr
    assert not (out / "report.parquet").exists()
    resumed = command("run", "--config", out / "run.toml")
    assert resumed.exit_code == 0, resumed.output
    before, after = (
        {json.loads(line)["response"]["sample_id"] for line in (out / name).read_text().splitlines()}
        for name in ("responses-000.jsonl", "responses-001.jsonl")
    )
    assert (len(before), len(after), before & after) == (8, 12, set())
    assert len(Report.load(out).frame) == 40


def test_a_dry_run_counts_tokens_and_says_how_long_it_takes(command: Command, rows: Path, tmp_path: Path) -> None:
    from transformers import AutoProcessor

    weights = Path(demo.__file__).parent / "weights"
    arguments = ("run", "--model", weights, "--data", rows, "--out", tmp_path / "run", "--dry-run")
    arguments += ("--conditions", "wrong_caption", "--max-new-tokens", 50)
    found = json.loads(command(*arguments, "--json", "--rate", 0.5).stdout)
    assert found["seconds"] == 12 / 0.5
    tokens = found["tokens"]
    # The examples show each image as one token.
    processor = AutoProcessor.from_pretrained(weights)
    image = processor(images=[Image.new("RGB", (8, 8))], text=["<|image_pad|>"], return_tensors="pt")[
        "input_ids"
    ].shape[1]
    own = len(processor.tokenizer(found["examples"]["base"])["input_ids"]) + image - 1
    assert tokens["of_images"] == 12 * image
    assert tokens["prompts"] > 12 * own * 0.9
    assert tokens["shared"] < tokens["prompts"]
    assert (tokens["new_at_most"], tokens["counted_samples"], tokens["is_stand_in"]) == (12 * 50, 6, False)
    text = command(*arguments, "--rate", 0.5).stdout
    assert f"{tokens['prompts']:,} prompt tokens" in text
    assert "at most 600 new tokens" in text
    assert "24 s at 0.5 responses per second" in text
    assert "--rate RESPONSES" in command(*arguments).stdout
    served = command(*arguments, "--base-url", "http://localhost:1/v1").stdout
    assert "(4 characters per token, images by the rule of Qwen2.5-VL)" in served


def test_a_rate_without_a_dry_run_is_refused(command: Command, rows: Path, tmp_path: Path, loaded: list[Any]) -> None:
    refused = command("run", "--model", "m", "--data", rows, "--out", tmp_path / "run", "--rate", 3)
    assert refused.exit_code == 2
    assert "--dry-run" in refused.stderr
    assert not loaded


def test_the_pace_of_lines_is_an_option(
    command: Command, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow(FakeModel):
        def respond(self, prompts: Any) -> Any:
            time.sleep(0.4)
            return super().respond(prompts)

    monkeypatch.setattr(HFModel, "from_pretrained", lambda *arguments, **settings: Slow())
    arguments = ("run", "--model", "m", "--data", rows, "--conditions", "base")
    often = command(*arguments, "--out", tmp_path / "one", "--progress-every", 0.1)
    assert often.exit_code == 0
    assert "of 6 responses (" in often.stderr
    quiet = command(*arguments, "--out", tmp_path / "two", "--progress-every", 0)
    assert " responses (" not in quiet.stderr
    assert "progress" not in (tmp_path / "one" / "run.toml").read_text()
