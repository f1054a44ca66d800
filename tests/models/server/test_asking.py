"""Concurrency: slow requests delay no others, images are shared, and runs end promptly."""

import gc
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from openai_server import KEY

from vlmrobust import Evaluator, OpenAIModel, expand, paper_conditions
from vlmrobust.metrics import Accuracy
from vlmrobust.models.base import RefusedError
from vlmrobust.models.server.client import Pool
from vlmrobust.perturbations import EarlyAnswer, StopThink, WrongCaption
from vlmrobust.testing.model_checks import varied_samples


def many_samples(count):
    return [
        sample.replace(id=f"{turn} {sample.id}", question=f"{turn}. {sample.question}")
        for turn in range(count)
        for sample in varied_samples()
    ]


def evaluate(model, samples, conditions=(), **options):
    return Evaluator(model, [StopThink(), WrongCaption(), *conditions], [Accuracy()]).run(samples, **options)


def has_question(body, text):
    return text in str(body["messages"][0]["content"][-1])


def test_a_hanging_request_delays_no_other(server, model_at):
    samples = many_samples(6)
    rest, held_back = set(), []

    def fault(number, body):
        if has_question(body, samples[0].question) and not held_back:
            held_back.append(number)
            if not done.wait(30):
                raise AssertionError(f"only {len(rest)} other requests arrived")
        with server.lock:
            rest.add(str(body["messages"]))
            if sum(any(has_question(seen, sample.question) for seen in server.seen) for sample in samples) == len(
                samples
            ):
                done.set()

    done = threading.Event()
    server.fault = fault
    report = evaluate(model_at(server, concurrency=3, prefill="continue_final_message"), samples)
    assert set(report.frame["status"]) == {"answered"}
    assert held_back


def test_the_report_does_not_depend_on_concurrency_or_delays(server, model_at, tmp_path):
    samples = many_samples(3)
    expected = evaluate(model_at(server, concurrency=1), samples, [EarlyAnswer()])
    server.fault = lambda number, body: time.sleep(random.Random(number).choice([0, 0.002, 0.05]))
    server.most = 0
    report = evaluate(model_at(server, concurrency=7), samples, [EarlyAnswer()], out=tmp_path)
    assert report.frame.to_csv() == expected.frame.to_csv()
    assert server.most == 7


def test_images_are_freed_with_the_last_prompt_that_needs_them(server, model_at):
    model = model_at(server, concurrency=4)
    held = []
    server.fault = lambda number, body: held.append(len(model._urls._pending))
    samples = many_samples(8)
    evaluate(model, samples)
    gc.collect()
    # With three conditions per sample, the queued prompts belong to at most five samples of at most two images.
    assert 0 < max(held) <= 10
    assert len(samples) == 40
    assert not model._urls._pending


def test_refused_prompts_can_be_asked_again(server, model_at):
    model = model_at(server, concurrency=2)
    prompts = list(expand(many_samples(4), [WrongCaption()], seed=0))
    server.fault = lambda number, body: (401, {}, "no such key")
    with pytest.raises(RefusedError):
        model.respond(prompts)
    assert len(server.seen) <= 4
    server.fault = lambda number, body: None
    assert {response.status for response in model.respond(prompts)} == {"answered"}


def test_an_exception_of_one_prompt_cancels_the_others(server, model_at, monkeypatch):
    model = model_at(server, concurrency=1)
    plain = model._answer
    begun = []

    def answer(prompt, images):
        begun.append(prompt.key)
        if len(begun) == 2:
            raise ZeroDivisionError
        return plain(prompt, images)

    monkeypatch.setattr(model, "_answer", answer)
    with pytest.raises(ZeroDivisionError):
        model.respond(list(expand(many_samples(4), [WrongCaption()], seed=0)))
    assert len(begun) <= 3


def test_a_pool_starts_threads_on_demand_and_ends_them_with_its_owner():
    def running():
        return [thread for thread in threading.enumerate() if thread not in before]

    before = threading.enumerate()
    pool = Pool(5)
    for number in range(3):
        assert pool.submit(lambda number=number: number).result() == number
        time.sleep(0.01)
    assert len(running()) == 1
    together = threading.Barrier(5)
    futures = [pool.submit(lambda: together.wait(10)) for _ in range(15)]
    assert sorted(future.result() for future in futures) == sorted([*range(5)] * 3)
    assert len(running()) == 5
    gate = threading.Event()
    held = [pool.submit(gate.wait) for _ in range(5)]
    late = pool.submit(lambda: 1)
    assert late.cancel()
    gate.set()
    assert all(future.result() for future in held)
    del pool
    gc.collect()
    for thread in running():
        thread.join(10)
    assert running() == []


def test_an_interrupt_ends_a_run_at_once_and_responses_are_on_disk(server, tmp_path):
    never = threading.Event()
    answered = 30  # requests, including those that test the server
    server.fault = lambda number, body: never.wait(60) and None if number > answered else None
    command = [sys.executable, "-W", "error", __file__, server.url, tmp_path / "run"]
    path = os.pathsep.join(sys.path)
    child = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path})

    def recorded():
        return [line for path in (tmp_path / "run").glob("responses-*") for line in path.read_text().splitlines()]

    enough = answered // 4
    try:
        deadline = time.monotonic() + 60
        while (server.now < 4 or len(recorded()) < enough) and time.monotonic() < deadline:
            time.sleep(0.01)
        begun = time.monotonic()
        os.kill(child.pid, signal.SIGINT)
        _, error = child.communicate(timeout=30)
        took = time.monotonic() - begun
    finally:
        never.set()
        child.kill()
        child.wait()
    assert "KeyboardInterrupt" in error
    assert took < 10  # the server would have been waited for for a minute
    assert len(recorded()) >= enough, error
    assert len(server.seen) == answered + 4


if __name__ == "__main__":
    url, out = sys.argv[1:]
    signal.signal(signal.SIGINT, signal.default_int_handler)  # shells ignore it for background processes
    model = OpenAIModel("toy", url, KEY, max_retries=0, concurrency=4, prefill="continue_final_message")
    Evaluator(model, paper_conditions(), [Accuracy()]).run(many_samples(5), out=Path(out))
