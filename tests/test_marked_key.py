"""A marked key goes through a run, a study, a judge, a check and all their failures: it is in no file, on no stream."""

import base64
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from openai_server import ChatServer, ToyModel
from typer.testing import CliRunner
from written import written

from vlmrobust import Evaluator, OpenAIModel, cli, demo
from vlmrobust.data import RowsError, read_rows
from vlmrobust.judges import OpenAIJudge
from vlmrobust.metrics import Accuracy, Consistency
from vlmrobust.models.base import RefusedError
from vlmrobust.study import Study

KEY, IN_BODY, IN_QUERY = "sk-MARKED-0123/abc", "MARKED-body-4567", "MARKED-query-8910"
ECHO = (
    f"key {KEY}, Bearer {KEY}, sk-MARKED-0123%2Fabc, {IN_BODY}, https://host/v1?api-key={IN_QUERY}&x=1, "
    f'{{"provider": {{"api_key": "{IN_BODY}"}}}}'
)
BODY = {"provider": {"api_key": IN_BODY}}

Fault = Callable[[int, dict[str, Any]], tuple[int, dict[str, str], str] | None]


def failing(status: int, *, every: int = 1) -> Fault:
    return lambda number, body: (status, {"X-Echo": f"Bearer {KEY}"}, ECHO) if number % every == 0 else None


FAULTS: dict[str, Fault] = {
    "nothing": lambda number, body: None,
    "wrong key": failing(401),
    "no model": failing(404),
    "bad request": failing(400),
    "overloaded": failing(503),
    "every third": failing(400, every=3),
}


@pytest.fixture
def server() -> Iterator[ChatServer]:
    running = ChatServer(ToyModel())
    yield running
    running.stop()


@pytest.fixture(autouse=True)
def marked(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("MARKED_KEY", KEY)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    caplog.set_level(logging.DEBUG)  # of all loggers: which of them a client has, its version decides


@pytest.fixture
def data(tmp_path: Path) -> Path:
    lines = []
    for sample in demo.samples(3):
        sample.images[0].save(tmp_path / f"{sample.id}.png")
        row = {"id": sample.id, "image": f"{sample.id}.png", "question": sample.question}
        lines.append(row | {"options": list(sample.options), "answer": sample.answer})
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return tmp_path / "rows.jsonl"


def assert_nowhere(folder: Path, *told: str) -> None:
    for place, text in (written(folder) | {f"text {number}": text for number, text in enumerate(told)}).items():
        assert "MARKED-" not in text.upper(), place


def address(server: ChatServer) -> str:
    return f"{server.url}?api-key={IN_QUERY}"


@pytest.mark.parametrize("fault", FAULTS)
def test_a_run(server: ChatServer, tmp_path: Path, fault: str, caplog: Any, capfd: Any) -> None:
    server.fault = FAULTS[fault]
    model = OpenAIModel("toy", address(server), KEY, extra_body=BODY, max_retries=0, prefill="last_message")
    told = [repr(model), json.dumps(model.identity())]
    try:
        report = Evaluator(model, [], [Accuracy()]).run(demo.samples(3), tmp_path / "run")
    except RefusedError as error:
        told += [str(error), *getattr(error, "__notes__", ())]
    else:
        told += [str(report), report.to_html(tmp_path / "page.html").read_text(), str(report.frame["error"].tolist())]
    assert server.keys == {f"Bearer {KEY}"}
    assert "HTTP Request: POST" in caplog.text  # the address was logged, with its query
    assert "[key]" in caplog.text
    assert all(body["provider"] == BODY["provider"] for body in server.seen)
    assert_nowhere(tmp_path, *told, caplog.text, *capfd.readouterr())


@pytest.mark.parametrize("fault", FAULTS)
def test_a_judge(server: ChatServer, tmp_path: Path, fault: str, caplog: Any, capfd: Any) -> None:
    answering = OpenAIModel("toy", server.url, max_retries=0, prefill="last_message")
    judge = OpenAIJudge(model="toy", base_url=address(server), api_key=KEY, extra_body=BODY, max_retries=0)
    server.fault = lambda number, body: FAULTS[fault](number, body) if "provider" in body else None
    told = [
        repr(judge),
        str(judge),
        judge.model_dump_json(),
        json.dumps(judge.identity()),
        repr(Consistency(judge=judge)),
    ]
    try:
        report = Evaluator(answering, [], [Consistency(judge=judge)]).run(demo.samples(3), tmp_path / "run")
    except RefusedError as error:
        told += [str(error), *getattr(error, "__notes__", ())]
    else:
        told += [
            str(report),
            str(report.frame["metric_error"].tolist()),
            report.to_html(tmp_path / "p.html").read_text(),
        ]
    assert_nowhere(tmp_path, *told, caplog.text, *capfd.readouterr())


def test_a_password_of_the_address(server: ChatServer, tmp_path: Path, caplog: Any, capfd: Any) -> None:
    """It is sent in base64, and a server that repeats what it got is not repeated."""
    coded = base64.b64encode(b"bobby:sword-MARKED-fishy").decode()
    sent: list[str] = []
    server.fault = lambda number, body: (400, {"X-Echo": f"Basic {coded}"}, f"bad credentials: Basic {coded}")
    at = server.url.replace("://", "://bobby:sword-MARKED-fishy@")
    report = Evaluator(OpenAIModel("toy", at, max_retries=0), [], [Accuracy()]).run(demo.samples(1), tmp_path / "run")
    assert "bad credentials: Basic [key]" in report.frame["error"][0]
    sent += written(tmp_path).values()
    assert not any(coded in text for text in [*sent, caplog.text, *capfd.readouterr()])
    assert_nowhere(tmp_path, caplog.text)


def study_text(server: ChatServer, data: Path) -> str:
    body = f'{{provider={{api_key="{IN_BODY}"}}}}'
    options = f"{{max_retries=0, extra_body={body}}}"
    return f"""
        conditions = ["base"]
        [[models]]
        name = "served"
        checkpoint = "toy"
        base_url = "{address(server)}"
        api_key_env = "MARKED_KEY"
        options = {options}
        [[models]]
        name = "no-client"
        checkpoint = "toy"
        base_url = "https://user:{IN_BODY}@host:not-a-port/v1"
        api_key_env = "MARKED_KEY"
        [[models]]
        name = "no-factory"
        factory = "json:loads"
        arguments = {{api_key = "{IN_BODY}"}}
        [[models]]
        name = "planted"
        factory = "vlmrobust.testing:FakeModel"
        [[judges]]
        name = "openai:toy"
        base_url = "{address(server)}"
        api_key_env = "MARKED_KEY"
        options = {options}
        [[benchmarks]]
        name = "own"
        data = "{data}"
        """


@pytest.mark.parametrize("fault", ["nothing", "wrong key", "bad request"])
def test_a_study(server: ChatServer, data: Path, tmp_path: Path, fault: str, caplog: Any, capfd: Any) -> None:
    server.fault = FAULTS[fault]
    (tmp_path / "input").mkdir()
    (tmp_path / "input" / "study.toml").write_text(study_text(server, data))
    study = Study.from_toml(tmp_path / "input" / "study.toml")
    told: list[str] = []
    result = study.run(tmp_path / "out", tell=told.append)
    rows = {row.model: row for row in result.run_rows}
    assert rows["no-factory"].status == rows["no-client"].status == "failed"
    assert rows["planted"].status == "finished"
    plan = study.plan(at_most=1)
    told += [repr(study), str(study), study.model_dump_json(), str(result), result.runs.to_csv(), str(plan)]
    assert_nowhere(tmp_path / "out", *told, caplog.text, *capfd.readouterr())


COMMANDS = {
    "run": lambda at, data, out: ("run", "--model", "toy", "--base-url", at, "--data", data, "--out", out / "run"),
    "dry run": lambda at, data, out: (*COMMANDS["run"](at, data, out), "--dry-run"),
    "debug": lambda at, data, out: ("--debug", *COMMANDS["run"](at, data, out)),
    "a key in the address": lambda at, data, out: COMMANDS["run"](
        at.replace("http://", f"http://me:{KEY}@"), data, out
    ),
    "no data": lambda at, data, out: COMMANDS["run"](at, "none.jsonl", out),
    "a key for a name": lambda at, data, out: (*COMMANDS["run"](at, data, out), "--api-key-env", KEY),
    "a key for a flag": lambda at, data, out: (*COMMANDS["run"](at, data, out), "--api-key", KEY),
    "check-server": lambda at, data, out: ("check-server", "--model", "toy", "--base-url", at),
    "check": lambda at, data, out: (
        "judge", "--check", out / "labelled.jsonl", "--judge", "openai:toy", "--base-url", at,
        "--api-key-env", "MARKED_KEY",
    ),
    "judge": lambda at, data, out: ("judge", out / "planted", "--judge", "openai:toy", "--base-url", at),
}  # fmt: skip


@pytest.mark.parametrize("fault", ["nothing", "wrong key", "bad request"])
@pytest.mark.parametrize("name", COMMANDS)
def test_commands(
    server: ChatServer, data: Path, tmp_path: Path, name: str, fault: str, caplog: Any, capfd: Any
) -> None:
    from vlmrobust.testing import FakeModel

    out = tmp_path / "out"
    out.mkdir()
    if name == "judge":
        Evaluator(FakeModel(), [], [Accuracy()]).run(demo.samples(3), out / "planted")
    if name == "check":
        line = {
            "question": "Which?",
            "options": ["red", "blue"],
            "thought": "It is red.",
            "asserts": 0,
            "style": "plain",
        }
        (out / "labelled.jsonl").write_text(json.dumps(line) + "\n")
    told = FAULTS[fault]
    server.fault = lambda number, body: (found := told(number, body)) and (*found[:2], found[2].replace(IN_BODY, ""))
    arguments = COMMANDS[name](address(server), data, out)
    result = CliRunner().invoke(cli.app, [str(argument) for argument in arguments])
    if fault == "nothing" and name in ("run", "dry run", "debug"):
        assert result.exit_code == 0, result.output
    assert_nowhere(out, result.output, result.stderr, caplog.text, *capfd.readouterr())


def test_a_resumed_run_reads_its_own_options(server: ChatServer, data: Path, tmp_path: Path) -> None:
    """What is written of an address asks the same server, and the key is given again."""
    first = COMMANDS["run"](address(server), data, tmp_path)
    assert CliRunner().invoke(cli.app, [*map(str, first), "--conditions", "base"]).exit_code == 0
    written = (tmp_path / "run" / "run.toml").read_text()
    assert f'base_url = "{server.url}"' in written
    assert "give --base-url as well as this file" in written
    again = ["run", "--config", str(tmp_path / "run" / "run.toml"), "--base-url", address(server)]
    assert CliRunner().invoke(cli.app, again).exit_code == 0


@pytest.mark.parametrize(
    "options",
    [{"api_key": KEY}, {"extra_body": 5, "api_key": KEY}, {"api_key": KEY, "max_retries": 0}, {"Api_Key": KEY}],
)
@pytest.mark.parametrize("kind", ["models", "judges"])
def test_a_key_among_the_options_of_a_study_is_refused_unrepeated(tmp_path: Path, kind: str, options: Any) -> None:
    text = f"""
        [[benchmarks]]
        name = "cv-bench"
        [[models]]
        name = "m"
        checkpoint = "m"
        {"options = " + as_toml(options) if kind == "models" else ""}
        [[judges]]
        name = "openai:j"
        {"options = " + as_toml(options) if kind == "judges" else ""}
        """
    (tmp_path / "study.toml").write_text(text)
    with pytest.raises(ValueError, match=r"field '(models|judges)\.0\.options'.*expected no 'api_key' here") as refused:
        Study.from_toml(tmp_path / "study.toml")
    assert KEY not in str(refused.value)
    assert [path.name for path in tmp_path.iterdir()] == ["study.toml"]


@pytest.mark.parametrize(
    "line",
    [
        f'api_key_env = ["{KEY}"]',
        f'api_key_env = {{x = "{KEY}"}}',
        f'options = "api_key={KEY}"',
        f'options = "token: {KEY}"',
        f'options = ["--token", "{KEY}"]',
        f'options = ["{KEY}"]',
    ],
)
@pytest.mark.parametrize("kind", ["models", "judges"])
def test_a_key_in_a_value_of_the_wrong_kind_is_refused_unrepeated(tmp_path: Path, kind: str, line: str) -> None:
    given = {"models": "", "judges": ""} | {kind: line}
    (tmp_path / "study.toml").write_text(f"""
        [[benchmarks]]
        name = "cv-bench"
        [[models]]
        name = "m"
        checkpoint = "m"
        {given["models"]}
        [[judges]]
        name = "openai:j"
        {given["judges"]}
        """)
    with pytest.raises(ValueError, match=rf"field '{kind}\.0\.{line.partition(' ')[0]}'.*, got ") as refused:
        Study.from_toml(tmp_path / "study.toml")
    if "options = [" not in line:  # a list of texts has no names
        assert "MARKED" not in str(refused.value)


@pytest.mark.parametrize("line", [f'api-key-env = ["{KEY}"]', f'api-key-env = {{x = "{KEY}"}}'])
def test_a_key_of_the_wrong_kind_in_a_file_of_options(tmp_path: Path, line: str) -> None:
    (tmp_path / "run.toml").write_text(f'model = "m"\n{line}\n')
    result = CliRunner().invoke(cli.app, ["run", "--config", str(tmp_path / "run.toml")])
    assert result.exit_code == 2
    told = " ".join(result.stderr.replace("│", " ").split())
    assert "'api-key-env': expected a value that its flag accepts, got" in told
    assert_nowhere(tmp_path / "none", result.output, result.stderr)


@pytest.mark.parametrize("command", ["run", "check-server", "judge"])
def test_an_address_that_is_none_is_refused_unrepeated(command: str, tmp_path: Path) -> None:
    at = f"http://me:{IN_BODY}@[::1/v1"
    arguments = {
        "run": ["run", "--model", "m", "--data", "none.jsonl", "--base-url", at],
        "check-server": ["check-server", "--model", "m", "--base-url", at],
        "judge": ["judge", str(tmp_path), "--judge", "openai:m", "--base-url", at],
    }
    result = CliRunner().invoke(cli.app, arguments[command])
    assert result.exit_code == 2
    assert "expected an address such as" in " ".join(result.stderr.replace("│", " ").split())
    assert_nowhere(tmp_path, result.output, result.stderr)


def test_signed_addresses_in_rows(tmp_path: Path) -> None:
    """A row with an address that is signed is refused, or passed over with a warning, without the signature."""
    demo.samples(1)[0].images[0].save(tmp_path / "a.png")
    row = {"question": "Which?", "options": ["red", "blue"], "answer": 0}
    at = "https://host/a.png?X-Amz-Credential=MARKED-1&X-Amz-Signature=MARKED-2&token=MARKED-3"
    lines = [
        row | {"id": "q1", "image": "a.png"},
        row | {"id": "q2", "image": at},
        row | {"id": "q3", "image": [at, 5]},
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, lines)))
    with pytest.raises(RowsError, match=r"field 'image': .*X-Amz-Signature=\[key\]") as refused:
        read_rows(tmp_path / "rows.jsonl")
    recorded = read_rows(tmp_path / "rows.jsonl", on_error="record")
    assert len(recorded.problems) == 2
    run = [
        "run",
        "--model",
        "m",
        "--data",
        str(tmp_path / "rows.jsonl"),
        "--skip-bad-rows",
        "--dry-run",
        "--out",
        "none",
    ]
    result = CliRunner().invoke(cli.app, [*run, "--base-url", "http://127.0.0.1:9"])
    assert "Warning: " in result.stderr
    assert_nowhere(tmp_path / "none", str(refused.value), *recorded.problems, result.output, result.stderr)


def as_toml(values: dict[str, Any]) -> str:
    return "{" + ", ".join(f"{name} = {json.dumps(value)}" for name, value in values.items()) + "}"


@pytest.mark.parametrize("name", [KEY, "sk_MARKED_0123", "MARKED0123456789ABCDEF"])
def test_a_key_for_the_name_of_its_variable_in_a_study(tmp_path: Path, data: Path, name: str) -> None:
    fields = {"name": "m", "checkpoint": "m", "base_url": "http://127.0.0.1:9", "api_key_env": name}
    told: list[str] = []
    try:
        study = Study(models=[fields], benchmarks=[{"name": "own", "data": str(data)}], conditions=["base"])
        study.run(tmp_path / "out", tell=told.append)
    except ValueError as refused:
        told.append(str(refused))
    texts = [*told, *written(tmp_path / "out").values()]
    assert not any("MARKED" in text for text in texts)


def test_text_by_the_model_is_unchanged(server: ChatServer, tmp_path: Path) -> None:
    written = f"<think>The sign says {KEY}, at http://host?api-key={IN_QUERY}.</think><answer>A</answer>"
    message = {"role": "assistant", "content": written}
    reply = {"choices": [{"index": 0, "finish_reason": "stop", "message": message}], "usage": None}
    server.completion = lambda body: {"id": "1", "object": "chat.completion", "created": 0, "model": "toy", **reply}  # type: ignore[method-assign]
    model = OpenAIModel("toy", address(server), KEY, max_retries=0, prefill="last_message")
    report = Evaluator(model, [], [Accuracy()]).run(demo.samples(2), tmp_path / "run")
    assert set(report.frame["text"]) == {written}
    assert set(report.frame["status"]) == {"answered"}
