"""Test that text fits 80 characters, or the terminal, and that data is not wrapped."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from typer.main import get_command_name
from typer.testing import Result

from vlmrobust.cli import app
from vlmrobust.text import wrapped

Command = Callable[..., Result]
COMMANDS = [[], *([get_command_name(one.callback.__name__)] for one in app.registered_commands)]


def too_long(text: str, width: int = 80) -> list[str]:
    """Return the lines wider than the limit, except single long words such as paths."""
    return [line for line in text.splitlines() if cell_len(line) > width and len(line.split()) > 1]


@pytest.mark.parametrize("command_line", COMMANDS, ids=" ".join)
def test_help_fits(command: Command, command_line: list[str]) -> None:
    result = command(*command_line, "--help", env={"COLUMNS": None})
    assert result.exit_code == 0
    assert too_long(result.output) == []


@pytest.mark.parametrize("width", [None, 60, 100])
@pytest.mark.parametrize(
    "words",
    [
        ("report", "torn"),
        ("report", "torn", "--by", "kind"),
        ("report", "torn", "--contrast", "wrong_think", "wrong_caption"),
        ("report", "torn", "--metrics", "accuracy,letter_entropy,format_rate"),
        ("compare", "good", "poor"),
        ("compare", "good", "poor", "--fail-if-worse", "accuracy", "--max-drop", "accuracy=0.1"),
        ("judge", "--check", "--judge", "rules"),
        ("conditions",),
        ("report", "nowhere/at/all"),
        ("compare", "good", "poor", "--metrics", "acuracy"),
        ("run", "--model", "m", "--data", "d", "--out", "o", "--conditions", "base,wrong_thought"),
    ],
    ids=" ".join,
)
def test_results_and_errors_fit(command: Command, runs: dict[str, Path], width: int | None, words: tuple[str]) -> None:
    result = command(*(runs.get(word, word) for word in words), env={"COLUMNS": width and str(width)})
    assert result.output.strip()
    assert too_long(result.stdout, width or 80) == []
    assert too_long(result.stderr, width or 80) == []


def test_data_is_not_wrapped(command: Command, runs: dict[str, Path]) -> None:
    shown = command("report", runs["torn"], "--json", env={"COLUMNS": "40"}).stdout
    assert len(json.loads(shown)) > 10
    assert max(map(len, shown.splitlines())) > 40
    rows = command("report", runs["torn"], "--csv", env={"COLUMNS": "40"}).stdout.splitlines()
    assert len({line.count(",") for line in rows if '"' not in line}) == 1


def test_logged_warnings_fit_and_are_printed_once(runs: dict[str, Path], tmp_path: Path) -> None:
    from vlmrobust import Report

    run = tmp_path / "run"
    Report.load(runs["torn"]).save(run / "report.parquet")
    row = {"prompt": "a", "batch": [0, 1], "response": {"sample_id": "q", "condition": "base", "status": "answered"}}
    (run / "responses-000.jsonl").write_text(f"{json.dumps(row)}\n")
    settings: dict[str, Any] = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    done = subprocess.run(
        [sys.executable, "-m", "vlmrobust.cli", "report", run],
        capture_output=True,
        text=True,
        check=True,
        env=settings,
    )
    assert too_long(done.stdout) == too_long(done.stderr) == []
    assert " ".join(done.stderr.split()).count("1 response that the run directory holds is in no report") == 1
    assert done.stderr.split()[0] == "Warning:"  # a long path has the next line for itself


def test_a_long_word_has_a_line_of_its_own() -> None:
    path = "/a/folder/that/is/far/away/from/everything/else/in/this/world/and/has/a/name/report.html"
    assert wrapped(f"The page is {path}", width=60) == f"The page is\n{path}"
