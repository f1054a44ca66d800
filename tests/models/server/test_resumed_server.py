"""A server that dies during a run and comes back: nothing is lost and nothing is requested twice."""

import json
import os
import socket
import subprocess
import sys
import threading
import time

import openai_server
import pytest

from vlmrobust import Evaluator, OpenAIModel, expand
from vlmrobust.jsonl import files, read_lines
from vlmrobust.models.base import RefusedError
from vlmrobust.models.server import attempts
from vlmrobust.perturbations import StopThink, WrongCaption, WrongThink
from vlmrobust.testing.model_checks import varied_samples


@pytest.fixture
def serve(tmp_path):
    """Return a function that starts the server in its own process, on the same port each time."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    running = []

    def start(name, die_after=0):
        log = tmp_path / f"{name}.log"
        command = [sys.executable, openai_server.__file__, str(port), str(log), str(die_after)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        running.append(process)
        assert process.stdout.readline() == "ready\n"
        return f"http://127.0.0.1:{port}/v1", log

    def stop():
        for process in running:
            process.kill()
            process.wait()
            process.stdout.close()
        running.clear()

    start.stop, start.running = stop, running
    yield start
    stop()


SAMPLES = [
    sample.replace(id=f"{turn} {sample.id}", question=f"{turn}. {sample.question}")
    for turn in range(2)
    for sample in varied_samples()
]
CONDITIONS = [StopThink(), WrongThink(), WrongCaption()]


def run(url, out, max_retries=0):
    model = OpenAIModel("toy", url, "key", max_retries=max_retries, concurrency=4, prefill="continue_final_message")
    report = Evaluator(model, CONDITIONS, batch_size=3).run(SAMPLES, out=out)
    model._client.close()
    return report


def logged_rows(log):
    """Return the rows of a server's logged requests, once per request."""
    rows = {}
    for prompt in expand(SAMPLES, CONDITIONS, seed=0):
        rows[prompt.text, prompt.prefill] = (prompt.sample.id, prompt.condition)
    found = []
    for user, *begun in map(json.loads, log.read_text().splitlines()):
        begun = begun[0] if begun else ""
        of_user = {prefill: row for (text, prefill), row in rows.items() if text == user}
        # The readout after a prefill, `<answer`, takes one or two requests.
        found += [row for prefill, row in of_user.items() if begun.removesuffix(">").removesuffix("<answer") == prefill]
    return found


def test_a_run_resumes_after_the_server_died(serve, tmp_path):
    url, whole_log = serve("undisturbed")
    whole = run(url, tmp_path / "undisturbed")
    serve.stop()

    url, _ = serve("first", die_after=25)
    with pytest.raises(RefusedError, match=r"nobody answers at 127\.0\.0\.1: .*repeat the same call to resume"):
        run(url, tmp_path / "run")
    serve.stop()
    answered = {
        (row["response"]["sample_id"], row["response"]["condition"])
        for file in files(tmp_path / "run", "responses")
        for _, row in read_lines(file)
        if row["response"]["status"] != "error"
    }
    url, log = serve("second")
    resumed = run(url, tmp_path / "run")
    serve.stop()

    assert 0 < len(answered) < len(whole.frame)
    assert resumed.frame["error"].isna().all()
    assert resumed.frame.to_csv() == whole.frame.to_csv()
    assert resumed.summary.to_csv() == whole.summary.to_csv()
    to_ask = {(row.sample_id, row.condition) for row in whole.frame.itertuples()} - answered
    assert set(logged_rows(log)) == to_ask
    assert len(logged_rows(log)) == sum(row in to_ask for row in logged_rows(whole_log))


def test_a_server_that_is_down_for_a_while_is_waited_for(serve, tmp_path, monkeypatch):
    """`SECONDS_DOWN=30` tests half a minute; without it, the outage and the pauses are shorter."""
    down = float(os.environ.get("SECONDS_DOWN", "0"))
    if not down:
        down = 2.0  # and what the process takes to start
        monkeypatch.setattr(attempts, "_FIRST_PAUSE", 0.2)
        monkeypatch.setattr(attempts, "_LONGEST_PAUSE", 3.2)
    url, _ = serve("undisturbed")
    whole = run(url, tmp_path / "undisturbed")
    serve.stop()

    url, first_log = serve("first", die_after=25)
    [first] = serve.running
    times = []

    def bring_back():
        died_with = first.wait()
        times.append(time.monotonic())
        time.sleep(down)
        serve("second")
        times.append(time.monotonic())
        times.append(died_with)

    thread = threading.Thread(target=bring_back)
    thread.start()
    report = run(url, tmp_path / "run", max_retries=5)
    thread.join()
    died, back, died_with = times
    assert died_with == 1, "it should have died during a request"
    assert back - died >= down
    assert report.frame["error"].isna().all()
    assert report.frame.to_csv() == whole.frame.to_csv()
    assert report.summary.to_csv() == whole.summary.to_csv()
    before, after = set(logged_rows(first_log)), set(logged_rows(tmp_path / "second.log"))
    assert before
    assert after
    assert before | after == {(row.sample_id, row.condition) for row in whole.frame.itertuples()}
