"""The command line: what it prints, what it refuses, and its exit codes."""

import json
import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

import vlmrobust
from vlmrobust import cli, demo
from vlmrobust.models import HFModel
from vlmrobust.named_conditions import CONDITIONS
from vlmrobust.perturbations import SwappedImage, paper_conditions
from vlmrobust.report import Report
from vlmrobust.testing import FakeModel


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    """A model with planted behaviour stands in for checkpoints; the calls that would load one are listed."""
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def load(*arguments: Any, **settings: Any) -> FakeModel:
        calls.append((arguments, settings))
        return FakeModel(follow_caption=0.5)

    monkeypatch.setattr(HFModel, "from_pretrained", load)
    monkeypatch.setattr(demo, "model", load)
    return calls


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    Image.new("RGB", (8, 8), "red").save(tmp_path / "red.png")
    lines = [
        {
            "id": f"q{n}",
            "image": "red.png",
            "question": "Which colour?",
            "options": ["red", "blue", "green"],
            "answer": "A",
        }
        for n in range(6)
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


def test_the_table_of_conditions_holds_the_papers_and_names_them_right() -> None:
    made = {name: make() for name, make in CONDITIONS.items()}
    assert {name: condition.condition for name, condition in made.items()} == {name: name for name in made}
    assert [made[condition.condition] for condition in paper_conditions()] == list(paper_conditions())


def test_conditions_lists_every_one_with_a_line() -> None:
    result = run("conditions")
    assert result.exit_code == 0
    for name, make in (CONDITIONS | {"swapped_image": partial(SwappedImage, pool=[b"x"])}).items():
        [line] = [line for line in result.stdout.splitlines() if line.split(" ")[0] == name]
        assert (make().__doc__ or "").strip().splitlines()[0] in line
    assert "[hedge='but I think']" in result.stdout


def test_version() -> None:
    result = run("--version")
    assert (result.exit_code, result.stdout) == (0, f"vlmrobust {vlmrobust.__version__}\n")


def test_run_reports_and_resumes(rows: Path, tmp_path: Path, loaded: list[Any]) -> None:
    out = tmp_path / "run"
    command = ("run", "--model", "org/name", "--data", rows, "--out", out, "--limit", 4, "--seed", 7)
    result = run(*command)
    assert result.exit_code == 0, result.output
    report = Report.load(out)
    assert report.conditions == tuple(condition.condition for condition in paper_conditions())
    assert len(report.frame) == 4 * 8
    assert str(report) in result.stdout
    assert str(out) in result.stderr
    again = run(*command, "--conditions", "base,wrong_think+abstain_option")
    assert again.exit_code == 0, again.output
    assert "wrong_think+abstain_option" in again.stdout


def test_images_are_swapped_with_those_of_the_other_rows(rows: Path, tmp_path: Path, loaded: list[Any]) -> None:
    Image.new("RGB", (8, 8), "blue").save(tmp_path / "blue.png")
    lines = rows.read_text().splitlines()
    rows.write_text("\n".join([*lines[:3], *(line.replace("red.png", "blue.png") for line in lines[3:])]))
    command = ("run", "--model", "org/name", "--data", rows, "--out", tmp_path / "run")
    result = run(*command, "--conditions", "swapped_image,swapped_image+early_answer_100", "--runner-up")
    assert result.exit_code == 0, result.output
    report = Report.load(tmp_path / "run")
    assert set(report.frame["status"]) == {"answered"}
    assert report.manifest["conditions"]["swapped_image"]["pool"].startswith("6 images, sha256:")
    assert report.manifest["distractor"] == "runner_up"


def test_every_flag_reaches_its_place(rows: Path, tmp_path: Path, loaded: list[Any]) -> None:
    result = run(
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


def test_columns_and_reading(tmp_path: Path, loaded: list[Any]) -> None:
    Image.new("RGB", (8, 8), "red").save(tmp_path / "red.png")
    line = {"index": 3, "picture": "red.png", "prompt": "How many?", "A": "1", "B": "2", "C": "3", "gold": "2"}
    (tmp_path / "rows.jsonl").write_text(json.dumps(line))
    command = ("run", "--model", "m", "--data", tmp_path / "rows.jsonl", "--out", tmp_path / "run")
    columns = ("id=index", "image=picture", "question=prompt", "options=A,B,C", "answer=gold")
    command += tuple(part for pair in columns for part in ("--columns", pair))
    refused = run(*command)
    assert refused.exit_code == 2
    assert "as index means '3' and text means '2'" in refused.stderr
    assert not loaded
    assert run(*command, "--answer-as", "text").exit_code == 0
    assert Report.load(tmp_path / "run").frame["target"].tolist() == [1] * 8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--conditions", "wrong_thnik"), "expected conditions out of base, stop_think, .*; got 'wrong_thnik'"),
        (("--conditions", "wrong_think+x"), "got 'x'"),
        (("--columns", "question"), "--columns: expected field=column, got 'question'"),
        (("--columns", "prompt=question"), "expected columns for the fields id, "),
        (("--columns", "question=prompt"), "expected one of the columns answer, id, "),
    ],
)
def test_bad_input_is_a_message_and_code_2(
    rows: Path, tmp_path: Path, loaded: list[Any], arguments: tuple[str, ...], message: str
) -> None:
    result = run("run", "--model", "m", "--data", rows, "--out", tmp_path / "run", *arguments)
    assert result.exit_code == 2
    assert re.search(message, result.stderr), result.stderr
    assert result.stderr.startswith("Error: ")
    assert "Traceback" not in result.output
    assert not loaded
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("arguments", [(), ("--limit", "0"), ("--style", "loud"), ("--data",)])
def test_wrong_usage_is_code_2(arguments: tuple[str, ...]) -> None:
    assert run("run", "--model", "m", *arguments).exit_code == 2


def test_missing_data_and_missing_model(rows: Path, tmp_path: Path) -> None:
    missing = run("run", "--model", "m", "--data", "no.jsonl", "--out", tmp_path / "run")
    assert (missing.exit_code, missing.stderr) == (
        2,
        "Error: expected rows in a file or folder, found none at 'no.jsonl'\n",
    )
    no_model = run("run", "--model", tmp_path / "nothing", "--data", rows, "--out", tmp_path / "run")
    assert no_model.exit_code == 2
    assert no_model.stderr.startswith("Error: ")


def test_debug_shows_where_an_error_came_from(tmp_path: Path) -> None:
    result = run("--debug", "run", "--model", "m", "--data", "no.jsonl", "--out", tmp_path / "run")
    assert isinstance(result.exception, FileNotFoundError)


def test_another_run_in_the_folder_is_refused(rows: Path, tmp_path: Path, loaded: list[Any]) -> None:
    command = ("run", "--model", "m", "--data", rows, "--out", tmp_path / "run", "--conditions", "base")
    assert run(*command).exit_code == 0
    result = run(*command, "--seed", 1)
    assert result.exit_code == 2
    assert "seed" in result.stderr


def test_error_rows_are_counted_and_give_code_1(rows: Path, tmp_path: Path, loaded: list[Any]) -> None:
    line = {"id": "broken", "image": "none.png", "question": "?", "options": ["a", "b"], "answer": 0}
    rows.write_text(rows.read_text() + "\n" + json.dumps(line) + "\n" + json.dumps(line | {"id": "bad", "answer": 5}))
    command = ("run", "--model", "m", "--data", rows, "--out", tmp_path / "run", "--conditions", "base")
    refused = run(*command)
    assert refused.exit_code == 2
    assert "line 7: sample 'broken', field 'images.0'" in refused.stderr
    assert "line 8: sample 'bad', field 'answer'" in refused.stderr
    result = run(*command, "--skip-bad-rows")
    assert result.exit_code == 1
    assert "Warning: rows.jsonl, line 8: sample 'bad', field 'answer'" in result.stderr
    assert "Error rows: 1; problems in the data: 3." in result.stderr
    frame = Report.load(tmp_path / "run").frame
    assert frame.set_index("sample_id").loc["broken", "status"] == "error"
    assert len(frame) == 7


def test_demo_shows_an_example_the_table_and_how_to_read_it(tmp_path: Path, loaded: list[Any]) -> None:
    result = run("demo", "--samples", 12, "--seed", 2, "--out", tmp_path / "run")
    assert result.exit_code == 0, result.output
    report = Report.load(tmp_path / "run")
    assert set(report.frame["sample_id"]) == {sample.id for sample in demo.samples(12, seed=2)}
    assert str(report) in result.stdout
    for part in ("question", "wrong caption", "wrong thought", "How to read it", "no evidence about large models"):
        assert part in result.stdout
    example = result.stdout[: result.stdout.index(str(report))]
    asked = [sample for sample in demo.samples(12, seed=2) if sample.question in example]
    [shown] = [s for s in asked if all(option in example for option in s.options)][:1]
    answers = report.frame.set_index(["sample_id", "condition"])["answer"]
    assert answers[shown.id, "base"] == shown.answer
    assert answers[shown.id, "wrong_think"] != shown.answer


def test_help_does_not_load_what_only_a_run_needs() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from vlmrobust.cli import app; "
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0; "
        "print([name for name in ('transformers', 'pandas', 'datasets', 'PIL', 'scipy') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"
