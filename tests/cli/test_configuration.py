"""Test options in a TOML file: what is accepted, what is refused, and what a run writes."""

import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import Result

from vlmrobust.cli.app import write_configuration

Command = Callable[..., Result]


def message(result: Result) -> str:
    """Return a usage error without the box around it."""
    return " ".join(result.stderr.replace("│", " ").split())


def write_options(folder: Path, text: str) -> Path:
    path = folder / "options.toml"
    path.write_text(text)
    return path


def test_a_file_gives_options_and_flags_override_them(
    command: Command, rows: Path, tmp_path: Path, loaded: list[Any]
) -> None:
    text = f"""
    model = "org/name"
    data = "{rows}"
    out = "{tmp_path / "run"}"
    conditions = ["wrong_think", "blank_image,typos_1"]
    max-new-tokens = 99
    batch_size = 3
    limit = 2
    force-answer = true
    check_images = false
    style = "direct"
    """
    result = command("run", "--config", write_options(tmp_path, text), "--batch-size", 5, "--limit", 3)
    assert result.exit_code == 0, result.output
    [(names, settings)] = loaded
    assert names == ("org/name",)
    assert (settings["batch_size"], settings["force_answer"]) == (5, True)
    assert settings["generation"] == {"max_new_tokens": 99}
    written = tomllib.loads((tmp_path / "run" / "run.toml").read_text())
    assert written["conditions"] == ["wrong_think", "blank_image,typos_1"]
    assert (written["limit"], written["batch_size"], written["check_images"]) == (3, 5, False)
    assert written["style"] == "direct"
    assert "device" not in written


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('modle = "x"', "'modle' is not an option of run; did you mean 'model'?"),
        ("max-new-token = 3", "'max-new-token' is not an option of run; did you mean 'max_new_tokens'?"),
        ("zzz = 3", "'zzz' is not an option of run; known are answer_as, api_key_env,"),
        ('config = "other.toml"', "'config' is not an option of run"),
        ("limit = 4.5", "Invalid value for '--limit'"),
        ("limit = true", "Invalid value for '--limit'"),
        ("limit = [1, 2]", "'limit': expected a value that its flag accepts, got [1, 2]"),
        ("limit = 0", "Invalid value for '--limit'"),
        ("force_answer = 'perhaps'", "Invalid value for '--force-answer'"),
        ("columns = {question = 'prompt'}", "'columns': expected a value that its flag accepts"),
        ("style = 'loud'", "Invalid value for '--style'"),
        ("base-url = 'http://me:secret@host/v1'", "without user and password"),
        ("limit = ", "expected a TOML file at"),
    ],
)
def test_invalid_files_are_refused(command: Command, tmp_path: Path, text: str, expected: str) -> None:
    flags = ("--model", "m", "--data", "rows.jsonl", "--out", tmp_path / "run")
    result = command("run", *flags, "--config", write_options(tmp_path, text))
    assert result.exit_code == 2
    assert expected in message(result)
    assert "Traceback" not in result.output


def test_a_missing_file_is_refused(command: Command, tmp_path: Path) -> None:
    result = command("run", "--config", tmp_path / "none.toml")
    assert result.exit_code == 2
    assert re.search("expected a TOML file at .*No such file", message(result))


VALUES = st.recursive(
    st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(),
    lambda values: st.lists(values, max_size=3),
    max_leaves=4,
)


@settings(max_examples=30)
@given(options=st.dictionaries(st.text("abcdefghijk_", min_size=1), VALUES, max_size=5))
def test_written_options_are_read_back(tmp_path_factory: pytest.TempPathFactory, options: dict[str, Any]) -> None:
    path = tmp_path_factory.getbasetemp() / "deep" / "run.toml"
    write_configuration(path, "run", options)
    assert tomllib.loads(path.read_text(encoding="utf-8")) == options
    assert path.read_text(encoding="utf-8").startswith("# vlmrobust ")
