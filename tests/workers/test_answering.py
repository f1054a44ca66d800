"""Check that concurrent models are kept busy, recorded in order, and shut down cleanly."""

import json
import math
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from virtual_server import Key, VirtualServer, all_at_once

from vlmrobust import Evaluator, Prompt, Response, Sample, paper_conditions
from vlmrobust.jsonl import OwnFile
from vlmrobust.metrics import Accuracy
from vlmrobust.models.base import ConcurrentModel, RefusedError, is_concurrent
from vlmrobust.perturbations import (
    AbstainOption,
    EarlyAnswer,
    NotApplicable,
    Perturbation,
    StopThink,
    WrongCaption,
    WrongThink,
)
from vlmrobust.report import Report
from vlmrobust.testing import FakeModel
from vlmrobust.workers import answering

METRICS = [Accuracy()]
HERE = Path(__file__).parent


def samples_of(count: int) -> list[Sample]:
    options = ["red", "blue", "green"]
    return [
        Sample(id=f"q{index}", images=[b"not decoded"], question="Which?", options=options, answer=index % 3)
        for index in range(count)
    ]


class RespondOnly:
    """Hides a server's `ask`, so that it is called in batches."""

    def __init__(self, model: VirtualServer) -> None:
        self.model, self.queue = model, model.queue

    def identity(self) -> dict[str, str]:
        return self.model.identity()

    def respond(self, prompts: list[Prompt]) -> list[Response]:
        return self.model.respond(prompts)


def evaluate_server(
    server: VirtualServer | RespondOnly, conditions: Any, count: int, out: Path | None = None, **options: Any
) -> Report:
    """Evaluate a server in virtual time."""
    evaluator = Evaluator(server, conditions, METRICS, **options)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(answering, "SimpleQueue", server.queue)
        return evaluator.run(samples_of(count), out=out)


def uneven_times(seed: int) -> Callable[[Key], float]:
    """Return times of which a few are twenty times the usual."""
    return lambda key: random.Random(f"{seed}{key}").choice([0.5, 1.0, 1.5, 1.0, 20.0])


# ---------------------------------------------------------------------------------------------- never waiting


@settings(max_examples=25)
@given(
    concurrency=st.integers(1, 24),
    count=st.integers(1, 20),
    batch_size=st.integers(1, 9),
    draws=st.integers(1, 3),
    seed=st.integers(0, 999),
)
def test_total_time_equals_that_of_sending_all_prompts_at_once(
    concurrency: int, count: int, batch_size: int, draws: int, seed: int
) -> None:
    server = VirtualServer(concurrency, uneven_times(seed))
    evaluate_server(server, paper_conditions(), count, batch_size=batch_size, draws=draws)
    assert server.now == all_at_once(concurrency, [server.takes(key) for key in server.asked])
    assert server.idle == []
    assert server.most_waiting < 2 * concurrency + 8 * draws


def test_waiting_for_each_batch_takes_longer() -> None:
    # Otherwise the test above could not fail.
    server = VirtualServer(16, uneven_times(0))
    evaluate_server(RespondOnly(server), paper_conditions(), 100)
    assert server.now > 1.3 * all_at_once(16, [server.takes(key) for key in server.asked])


def test_one_slow_prompt_does_not_delay_others() -> None:
    server = VirtualServer(8, lambda key: 100.0 if key[:2] == ("q0", "base") else 1.0)
    evaluate_server(server, paper_conditions(), 100)
    assert server.answered[-1] == ("q0", "base", 0) or server.now == all_at_once(8, [100.0] + [1.0] * 799)
    assert server.now <= math.ceil(799 / 7) + 1


class Later(Perturbation):
    """Adds the base answer to the prompt."""

    needs_base: ClassVar[bool] = True

    def perturb(self, prompt: Prompt, rng: Any) -> Prompt:
        assert prompt.base is not None
        return prompt.replace(context=f"You said {prompt.base.answer} in draw {prompt.base.draw}.")


@pytest.mark.parametrize("distractor", ["random", "runner_up"])
def test_slots_stay_busy_where_conditions_need_the_base_answer(distractor: str) -> None:
    server = VirtualServer(8, uneven_times(3))
    evaluate_server(server, [WrongThink(), Later(), EarlyAnswer()], 60, distractor=distractor)
    until = server.now - 50  # at the end there is nothing left to ask
    lost = sum(length for since, length in server.idle if since < until)
    assert lost <= 0.01 * 8 * server.now
    assert server.now <= 1.1 * all_at_once(8, [server.takes(key) for key in server.asked])


def test_rows_that_wait_for_an_earlier_one_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answering, "_MAX_WAITING_ROWS", 40)
    server = VirtualServer(4, lambda key: 1000.0 if key[:2] == ("q3", "base") else 1.0)
    asked_meanwhile: list[int] = []
    plain = server.says

    def says(prompt: Prompt) -> Response:
        if prompt.key == ("q3", "base", 0):
            asked_meanwhile.append(len(server.asked))
        return plain(prompt)

    server.says = says
    report = evaluate_server(server, paper_conditions(), 40)
    assert len(report) == 320
    assert 3 * 8 + 40 <= asked_meanwhile[0] <= 3 * 8 + 40 + 2 * 4 + 8


# ------------------------------------------------------------------------------------------- the same report


@settings(max_examples=25)
@given(
    seed=st.integers(0, 999),
    concurrency=st.integers(1, 20),
    batch_size=st.integers(1, 7),
    draws=st.integers(1, 2),
    distractor=st.sampled_from(["random", "runner_up"]),
)
def test_the_report_does_not_depend_on_delays(
    seed: int, concurrency: int, batch_size: int, draws: int, distractor: str
) -> None:
    conditions = [WrongThink(), Later(), WrongCaption() + AbstainOption(), EarlyAnswer(), Fussy()]
    options: dict[str, Any] = {"draws": draws, "distractor": distractor}
    server = VirtualServer(concurrency, uneven_times(seed))
    report = evaluate_server(server, conditions, 7, batch_size=batch_size, **options)
    expected = evaluate_server(RespondOnly(VirtualServer(1, uneven_times(0))), conditions, 7, **options)
    assert report.frame.equals(expected.frame)
    assert report.summary.equals(expected.summary)
    assert report.responses.distractor.tolist() == expected.responses.distractor.tolist()
    assert sorted(server.asked) == sorted(set(server.asked))


class Fussy(Perturbation):
    """Does not apply to one sample, and raises on another."""

    def perturb(self, prompt: Prompt, rng: Any) -> Prompt:
        if prompt.sample.id == "q0":
            raise NotApplicable("too short")
        if prompt.sample.id == "q1":
            raise ZeroDivisionError("boom")
        return prompt


def test_a_failed_base_fails_only_conditions_that_need_it() -> None:
    server = VirtualServer(4, uneven_times(1))
    plain = server.says
    server.says = lambda prompt: (
        Response.failed(prompt, "no image") if prompt.key == ("q1", "base", 0) else plain(prompt)
    )
    frame = evaluate_server(server, [Later(), WrongThink()], 6).frame
    failed = frame[frame["status"] == "error"]
    assert list(zip(failed["sample_id"], failed["condition"], strict=True)) == [("q1", "base"), ("q1", "later")]


def test_added_samples_conditions_and_draws_repeat_nothing(tmp_path: Path) -> None:
    conditions = [WrongThink(), Later(), Fussy()]
    first = VirtualServer(4, uneven_times(1))
    evaluate_server(first, conditions[:2], 5, tmp_path)
    second = VirtualServer(4, uneven_times(2))
    joined = evaluate_server(second, conditions, 9, tmp_path, draws=2, batch_size=2)
    assert not set(first.asked) & set(second.asked)
    assert joined.frame.equals(evaluate_server(VirtualServer(4, uneven_times(3)), conditions, 9, draws=2).frame)
    third = VirtualServer(4, uneven_times(4))
    assert evaluate_server(third, conditions, 9, tmp_path, draws=2).frame.equals(joined.frame)
    assert {key[:2] for key in third.asked} == set()
    behind = VirtualServer(4, uneven_times(4))
    assert evaluate_server(RespondOnly(behind), conditions, 9, tmp_path, draws=2).frame.equals(joined.frame)
    assert behind.asked == []


def test_a_response_is_on_disk_as_soon_as_it_arrives(tmp_path: Path) -> None:
    server = VirtualServer(2, lambda key: 1.0 + random.Random(str(key)).random())
    plain, behind = server.says, []

    def says(prompt: Prompt) -> Response:
        on_disk = {tuple(key) for key in keys_on_disk(tmp_path)}
        behind.append(len(set(server.answered[:-1]) - on_disk))
        return plain(prompt)

    server.says = says
    evaluate_server(server, paper_conditions(), 10, tmp_path)
    assert max(behind) == 0


def keys_on_disk(folder: Path) -> list[list[Any]]:
    rows = [json.loads(line) for path in folder.glob("responses-*") for line in path.read_text().splitlines()]
    said = [row["response"] for row in rows]
    return [[each["sample_id"], each["condition"], each.get("draw", 0)] for each in said]


# ------------------------------------------------------------------------------------------------- what fails


def failing_at(bad: Key, error: BaseException, server: VirtualServer) -> VirtualServer:
    plain = server.says

    def says(prompt: Prompt) -> Response:
        if prompt.key == bad:
            raise error
        return plain(prompt)

    server.says = says
    return server


def test_an_error_is_a_row_and_other_prompts_are_sent_once() -> None:
    server = failing_at(("q2", "base", 0), RuntimeError("cannot do this one"), VirtualServer(4, uneven_times(0)))
    frame = evaluate_server(server, [WrongThink()], 9).frame
    assert list(frame.loc[frame["status"] == "error", "error"]) == ["RuntimeError: cannot do this one"]
    assert len(server.asked) == 18


def test_an_error_raised_by_ask_is_a_row_too() -> None:
    class Full(VirtualServer):
        def ask(self, prompt: Prompt) -> Future[Response]:
            if prompt.key == ("q2", "base", 0):
                raise BufferError("no room")
            return super().ask(prompt)

    frame = evaluate_server(Full(4, uneven_times(0)), [WrongThink()], 9).frame
    assert list(frame.loc[frame["status"] == "error", "error"]) == ["BufferError: no room"]


@pytest.mark.parametrize(
    ("error", "on_error"),
    [(RuntimeError("down"), "raise"), (RefusedError("no such key"), "record"), (RefusedError("x"), "raise")],
)
def test_an_error_that_ends_a_run_names_the_place_and_loses_nothing(
    error: Exception, on_error: str, tmp_path: Path
) -> None:
    bad = ("q4", "wrong_think", 0)
    server = failing_at(bad, error, VirtualServer(4, uneven_times(5)))
    with pytest.raises(type(error)) as caught:
        evaluate_server(server, [WrongThink(), Later()], 30, tmp_path, on_error=on_error)
    assert caught.value.__notes__ == ["in VirtualServer.ask, sample 'q4', condition 'wrong_think'"]
    begun = len(server.answered)
    while server._waiting or server._under_way:  # what was on its way is answered, and nothing else
        server.pass_time()
    assert len(server.answered) - begun <= 4
    assert {tuple(key) for key in keys_on_disk(tmp_path)} == set(server.answered[:begun]) - {bad}
    again = VirtualServer(4, uneven_times(6))
    report = evaluate_server(again, [WrongThink(), Later()], 30, tmp_path)
    assert not set(again.asked) & (set(server.answered[:begun]) - {bad})
    assert report.frame.equals(evaluate_server(VirtualServer(4, uneven_times(7)), [WrongThink(), Later()], 30).frame)


def test_a_perturbation_that_raises_ends_the_run_if_asked_to(tmp_path: Path) -> None:
    server = VirtualServer(4, uneven_times(0))
    with pytest.raises(ZeroDivisionError) as caught:
        evaluate_server(server, [Fussy()], 9, tmp_path, on_error="raise")
    assert caught.value.__notes__ == ["in condition 'fussy', sample 'q1'"]


@pytest.mark.parametrize(
    ("says", "error", "message"),
    [
        (lambda prompt: "B", TypeError, "VirtualServer.ask: expected a Response, got str"),
        (
            lambda prompt: Response.failed(prompt.replace(draw=3), "x"),
            ValueError,
            r"VirtualServer.ask: expected the response to \('q0', 'base', 0\), got \('q0', 'base', 3\)",
        ),
        (
            lambda prompt: Response(
                sample_id=prompt.sample.id, condition=prompt.condition, status="answered", answer=7
            ),
            ValueError,
            r"field 'answer': expected an index of the sample's options \(0 to 2\), got 7",
        ),
    ],
)
def test_invalid_responses_raise_an_error(says: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        evaluate_server(VirtualServer(1, uneven_times(0), says), [], 3)


def test_a_concurrency_of_zero_is_refused() -> None:
    server = VirtualServer(1, uneven_times(0))
    server.concurrency = 0
    with pytest.raises(ValueError, match=r"VirtualServer\.concurrency: expected at least 1, got 0"):
        evaluate_server(server, [], 3)


def test_a_result_that_is_not_a_future_is_refused() -> None:
    class Odd(VirtualServer):
        def ask(self, prompt: Prompt) -> Any:
            return self.says(prompt)

    with pytest.raises(TypeError, match=r"Odd\.ask: expected a concurrent\.futures\.Future, got Response"):
        evaluate_server(Odd(1, uneven_times(0)), [], 3)


def test_nan_letters_are_an_error_row() -> None:
    server = VirtualServer(3, uneven_times(0))
    plain = server.says
    server.says = lambda prompt: plain(prompt).replace(
        option_logprobs=(-1.0, math.nan if prompt.key == ("q1", "base", 0) else -2.0, -3.0), readout="own_thought"
    )
    frame = evaluate_server(server, [], 4).frame
    assert list(frame["status"] == "error") == [False, True, False, False]
    assert "sample 'q1', condition 'base', field 'option_logprobs'" in frame["error"].iloc[1]


def test_a_class_that_overrides_only_respond_is_called_through_it() -> None:
    class Own(VirtualServer):
        def respond(self, prompts: Any) -> list[Response]:
            return [response.replace(text="mine") for response in super().respond(prompts)]

    class Both(Own):
        def ask(self, prompt: Prompt) -> Future[Response]:
            return super().ask(prompt)

    class Passing:
        def __init__(self, model: VirtualServer) -> None:
            self.model = model

        def __getattr__(self, name: str) -> Any:
            return getattr(self.model, name)

        def respond(self, prompts: Any) -> list[Response]:
            return self.model.respond(prompts)

    assert not is_concurrent(Passing(VirtualServer(1, uneven_times(0))))
    assert isinstance(Own(1, uneven_times(0)), ConcurrentModel)
    assert [is_concurrent(kind(1, uneven_times(0))) for kind in (VirtualServer, Own, Both)] == [True, False, True]
    assert not is_concurrent(FakeModel())
    assert set(evaluate_server(Own(2, uneven_times(0)), [StopThink()], 3).frame["text"]) == {"mine"}


def test_a_truncated_write_stays_the_last_of_its_file(tmp_path: Path) -> None:
    class Interrupted:
        name = "rows-000.jsonl"

        def write(self, data: bytes) -> None:
            opened.write(data[:5])
            opened.flush()
            raise KeyboardInterrupt

        def close(self) -> None:
            opened.close()

    file = OwnFile(tmp_path, "rows")
    file.append([{"a": 1}])
    opened: Any = file._file
    file._file = Interrupted()  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        file.append([{"b": 2}])
    file.append([{"b": 2}])
    file.close()
    assert [path.read_text() for path in sorted(tmp_path.iterdir())] == ['{"a": 1}\n{"b":', '{"b": 2}\n']


# -------------------------------------------------------------------------------------- in threads, and killed


class Threaded:
    """A fake model behind a pool of threads, which takes its time."""

    def __init__(self, concurrency: int = 8, most: float = 0.02, log: Path | None = None) -> None:
        self.fake = FakeModel(opens_images=False, accuracy=0.6, follow_think=0.7, truncated=0.1)
        self.concurrency, self.most, self.log = concurrency, most, log
        self.pool = ThreadPoolExecutor(concurrency)
        self.lock = threading.Lock()

    def identity(self) -> dict[str, str]:
        return {"class": "Threaded"}

    def respond(self, prompts: list[Prompt]) -> list[Response]:
        return [self.ask(prompt).result() for prompt in prompts]

    def ask(self, prompt: Prompt) -> Future[Response]:
        return self.pool.submit(self.answer, prompt)

    def answer(self, prompt: Prompt) -> Response:
        time.sleep(self.most * random.random())
        response = self.fake.respond([prompt])[0]
        if self.log is not None:
            with self.lock, self.log.open("a") as file:
                file.write(json.dumps(prompt.key) + "\n")
        return response


CONDITIONS = [StopThink(), WrongThink(), WrongCaption() + AbstainOption(), EarlyAnswer()]


def test_threads_give_the_same_report_as_sequential_prompts(tmp_path: Path) -> None:
    expected = evaluate_server(RespondOnly(VirtualServer(1, uneven_times(0))), CONDITIONS, 40, draws=2)
    report = Evaluator(Threaded(16), CONDITIONS, METRICS, draws=2, batch_size=3).run(samples_of(40), out=tmp_path)
    assert report.frame.equals(expected.frame)


def logged_keys(log: Path) -> list[Key]:
    return [tuple(json.loads(line)) for line in log.read_text().splitlines()] if log.exists() else []


def test_a_repeatedly_killed_run_repeats_nothing_recorded_and_gives_the_same_report(tmp_path: Path) -> None:
    """Each attempt is a process of its own that is killed at a random moment."""
    done = subprocess.run(
        [sys.executable, "-W", "error", __file__, tmp_path], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["same"]
    assert result["killed"] >= 5
    assert result["repeated although on disk"] == 0
    # What a kill can lose are answers that came within the last write.
    assert result["repeated"] <= 16 * result["killed"] / 2
    assert result["asked when complete"] == 0


def killed_runs(folder: Path) -> dict[str, Any]:
    samples, chance, killed, again = samples_of(60), random.Random(0), 0, 0

    def run(out: Path, log: Path, most: float = 0.02) -> Report:
        return Evaluator(Threaded(8, most, log), CONDITIONS, METRICS, draws=2, batch_size=5).run(samples, out=out)

    for attempt in range(8):
        log = folder / f"log {attempt}"
        before = {tuple(key) for key in keys_of_whole_lines(folder / "run")}
        child = os.fork()
        if child == 0:
            run(folder / "run", log)
            os._exit(0)
        while not log.exists():
            time.sleep(0.002)
        time.sleep(chance.uniform(0.0, 0.12))
        os.kill(child, signal.SIGKILL)
        killed += os.WIFSIGNALED(os.waitpid(child, 0)[1])
        again += len(before & set(logged_keys(log)))
    resumed = run(folder / "run", folder / "log last", 0.0)
    keys = [key for path in folder.glob("log *") for key in logged_keys(path)]
    whole = run(folder / "whole", folder / "whole log", 0.0)
    run(folder / "run", folder / "nothing left", 0.0)
    return {
        "same": bool(resumed.frame.equals(whole.frame) and resumed.summary.equals(whole.summary)),
        "killed": killed,
        "repeated although on disk": again,
        "repeated": len(keys) - len(set(keys)),
        "asked when complete": len(logged_keys(folder / "nothing left")),
    }


def keys_of_whole_lines(folder: Path) -> list[Key]:
    """The keys on disk, in whole groups, read without the library."""
    found: list[Key] = []
    for path in folder.glob("responses-*"):
        group: list[Key] = []
        for line in path.read_text().split("\n")[:-1]:
            row = json.loads(line)
            said = row["response"]
            group.append((said["sample_id"], said["condition"], said.get("draw", 0)))
            if row["batch"][0] + 1 == row["batch"][1]:
                found += group[-row["batch"][1] :]
    return found


if __name__ == "__main__":
    print(json.dumps(killed_runs(Path(sys.argv[1]))))
