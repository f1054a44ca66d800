"""Test what all commands share: help, version, exit codes, imports."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest
import typer.main
from typer.testing import Result

import vlmrobust
from vlmrobust.cli import ExitCode, app
from vlmrobust.cli.output import as_csv, as_json

Command = Callable[..., Result]


def test_version(command: Command) -> None:
    result = command("--version")
    assert (result.exit_code, result.stdout) == (0, f"vlmrobust {vlmrobust.__version__}\n")


COMMANDS: Any = typer.main.get_command(app)


def test_the_help_lists_every_command_and_the_exit_codes(command: Command) -> None:
    shown = command("--help").stdout
    assert list(COMMANDS.commands) == [
        "demo",
        "conditions",
        "check-server",
        *("run", "study", "report", "compare", "judge", "merge", "texts", "grpo-rows"),
    ]
    for name in COMMANDS.commands:
        assert f" {name} " in shown
    for code in ExitCode:
        assert re.search(rf"\b{int(code)} ", shown[shown.index("Exit codes") :])


@pytest.mark.parametrize("name", COMMANDS.commands)
def test_every_command_and_flag_has_a_help_text(command: Command, name: str) -> None:
    found = COMMANDS.commands[name]
    assert found.help
    for param in found.params:
        assert param.help, param.name
    help_text = command(name, "--help")
    assert help_text.exit_code == 0
    assert command(name, "-h").stdout == help_text.stdout


def test_the_exit_codes() -> None:
    assert {code.name: int(code) for code in ExitCode} == {
        "FINISHED": 0,
        "ERROR_ROWS": 1,
        "REFUSED": 2,
        "GATE_FAILED": 3,
        "CANNOT_TELL": 4,
        "INTERRUPTED": 130,
    }


def test_help_does_not_load_what_only_a_run_needs() -> None:
    heavy = ("transformers", "pandas", "datasets", "PIL", "scipy", "matplotlib", "openai", "tomli_w", "sklearn")
    code = (
        "import sys; from typer.testing import CliRunner; from vlmrobust.cli import app; "
        "commands = [[], ['run'], ['report'], ['compare'], ['judge']]; "
        "assert not any(CliRunner().invoke(app, [*words, '--help']).exit_code for words in commands); "
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


def test_undefined_values_are_null_in_json_and_empty_in_csv() -> None:
    table = pd.DataFrame({"n": [1, 2], "value": [0.1, float("nan")], "text": pd.array(["a", None], dtype="string")})
    assert json.loads(as_json(table)) == [
        {"n": 1, "value": 0.1, "text": "a"},
        {"n": 2, "value": None, "text": None},
    ]
    assert json.loads(as_json({"rows": table, "kappa": float("nan"), "high": float("inf")})) == {
        "rows": json.loads(as_json(table)),
        "kappa": None,
        "high": "Infinity",
    }
    assert as_csv(table) == "n,value,text\n1,0.1,a\n2,,"
