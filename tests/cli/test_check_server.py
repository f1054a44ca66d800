"""What `vlmrobust check-server` prints, and how a script reads it."""

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


def asked(command: Command, server: ChatServer, *more: str) -> Result:
    where = ("--model", "toy", "--base-url", server.url, "--api-key-env", "SERVER_KEY")
    return command("check-server", *where, *more)


def test_a_server_that_changes_nothing(command: Command, server: ChatServer) -> None:
    server.exact = True
    result = asked(command, server)
    assert (result.exit_code, result.stderr) == (ExitCode.FINISHED, "")
    assert "letters               exact\n" in result.stdout
    assert KEY not in result.output


def test_what_changes_the_experiment_is_a_warning_and_an_exit_code(command: Command, server: ChatServer) -> None:
    server.prefill = "never"
    result = asked(command, server, "--json")
    assert result.exit_code == ExitCode.GATE_FAILED
    found = json.loads(result.stdout)
    assert (found["open_thought"], found["letters"], found["top_k"]) == ("user_text", "top_k", 20)
    assert "Warning: open thoughts cannot be prefilled" in result.stderr
    assert len(found["warnings"]) == 2


def test_a_server_that_is_not_there_is_refused(command: Command, server: ChatServer) -> None:
    server.fault = lambda number, body: (404, {}, f"no model for {KEY}")
    result = asked(command, server)
    assert result.exit_code == ExitCode.REFUSED
    assert "127.0.0.1 could not be checked" in result.stderr
    assert KEY not in result.output
