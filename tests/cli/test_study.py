"""Test `vlmrobust study`: the file, parts of a study, the plan, output and exit codes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

Command = Callable[..., Result]

STUDY = """
out = "study"
conditions = ["wrong_think"]

[[models]]
name = "good"
factory = "own.py:good"

[[models]]
name = "broken"
factory = "own.py:broken"

[[benchmarks]]
name = "colours"
data = "rows.jsonl"
"""
OWN = """
from vlmrobust.testing import FakeModel

def good():
    return FakeModel()

def broken():
    raise RuntimeError("no engine")
"""


@pytest.fixture
def file(rows: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("vlmrobust.plots.panels.svgs", lambda report: [])
    monkeypatch.setattr("vlmrobust.study.running.free_memory", lambda: None)
    (rows.parent / "own.py").write_text(OWN)
    path = rows.parent / "study.toml"
    path.write_text(STUDY)
    return path


def test_a_study_with_a_model_that_fails(command: Command, file: Path) -> None:
    result = command("study", file)
    assert result.exit_code == 1, result.output
    out = file.parent / "study"
    assert "good / colours" in result.stdout
    assert "1 of 2 runs finished" in result.stdout
    assert "runs/broken/colours: failed: RuntimeError: no engine" in result.stdout
    assert f"The page is {out / 'study.html'}" in result.stderr
    assert "runs/broken/colours failed: RuntimeError: no engine" in result.stderr
    assert (out / "study.md").is_file()
    as_json = json.loads(command("study", file, "--json").stdout)
    assert [(row["model"], row["status"], row["responses"]) for row in as_json] == [
        ("good", "finished", 12),
        ("broken", "failed", 0),
    ]


def test_a_part_of_it_elsewhere(command: Command, file: Path, tmp_path: Path) -> None:
    result = command("study", file, "--models", "good", "--benchmarks", "colours", "--out", tmp_path / "else")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "else" / "runs" / "good" / "colours" / "report.parquet").is_file()
    assert not (file.parent / "study").exists()


def test_a_dry_run_counts_and_writes_nothing(command: Command, file: Path) -> None:
    rates = ("--throughput", 1, "--bandwidth", 1)
    result = command("study", file, "--dry-run", "--models", "good", *rates)
    assert result.exit_code == 0, result.output
    assert "Time at 1 TFLOP/s and 1 GB/s, as stated." in result.stdout
    [row] = json.loads(command("study", file, "--dry-run", "--models", "good", "--at-most", 2, "--json").stdout)
    assert (row["samples"], row["prompts"]) == (6, 12)
    assert row["operations"] is None
    assert row["stand_ins"].startswith("tokenizer: 4 characters a token")
    assert not (file.parent / "study").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--models", "goood"),
            "expected models of the study, got 'goood'; did you mean 'good'? Known are good, broken",
        ),
        (("--dry-run", "--throughput", "5"), "expected --throughput and --bandwidth together, got one"),
    ],
)
def test_invalid_studies_are_refused(command: Command, file: Path, arguments: tuple[Any, ...], message: str) -> None:
    result = command("study", file, *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    file.write_text(STUDY.replace("conditions", "condition"))
    result = command("study", file)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "'condition' is not a key here; did you mean 'conditions'?" in result.stderr
    result = command("study", file.with_name("studdy.toml"))
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.endswith("studdy.toml, found nothing; did you mean 'study.toml'?\n")
    file.write_text("conditions = 3")
    result = command("study", file)
    assert result.exit_code == 2
    assert "field 'models'" in result.stderr


def test_the_page_of_a_part_is_named(command: Command, file: Path) -> None:
    whole = command("study", file)
    assert f"The page is {file.parent / 'study' / 'study.html'}\n" in whole.stderr
    content = (file.parent / "study" / "study.html").read_bytes()
    broken = command("study", file, "--models", "broken")
    assert f"The page is {file.parent / 'study' / 'study.part.html'}\n" in broken.stderr
    assert (file.parent / "study" / "study.html").read_bytes() == content
