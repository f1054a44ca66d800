"""Test the output and exit codes of `vlmrobust check-server`."""

import json
from collections.abc import Callable, Iterator

import pytest
from openai_server import KEY, ChatServer, ToyModel
from typer.testing import Result

from vlmrobust.cli import ExitCode

Command = Callable[..., Result]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ChatServer]:
    monkeypatch.setenv("SERVER_KEY", KEY)
    running = ChatServer(ToyModel())
    yield running
    running.stop()


def check_server(command: Command, server: ChatServer, *more: str) -> Result:
    address = ("--model", "toy", "--base-url", server.url, "--api-key-env", "SERVER_KEY")
    return command("check-server", *address, *more)


def test_a_server_that_changes_nothing(command: Command, server: ChatServer) -> None:
    server.exact = True
    result = check_server(command, server)
    assert (result.exit_code, result.stderr) == (ExitCode.FINISHED, "")
    assert "letters               exact\n" in result.stdout
    assert KEY not in result.output


def test_a_server_that_changes_the_experiment_is_code_3_with_warnings(command: Command, server: ChatServer) -> None:
    server.prefill = "never"
    result = check_server(command, server, "--json")
    assert result.exit_code == ExitCode.GATE_FAILED
    found = json.loads(result.stdout)
    assert (found["open_thought"], found["letters"], found["top_k"]) == ("user_text", "top_k", 20)
    assert "Warning: open thoughts cannot be prefilled" in result.stderr
    assert len(found["warnings"]) == 2


def test_a_server_without_the_model_is_refused(command: Command, server: ChatServer) -> None:
    server.fault = lambda number, body: (404, {}, f"no model for {KEY}")
    result = check_server(command, server)
    assert result.exit_code == ExitCode.REFUSED
    assert "127.0.0.1 could not be checked" in result.stderr
    assert KEY not in result.output
