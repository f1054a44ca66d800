"""Requests that are sent again: after what, after how long, and until when."""

import socket
import threading
import time
from contextlib import suppress

import httpx2 as http
import pytest
from openai import APIConnectionError, APITimeoutError, BadRequestError, InternalServerError, RateLimitError
from openai_server import KEY

from vlmrobust import Evaluator, OpenAIModel
from vlmrobust.models.base import RefusedError
from vlmrobust.models.server import attempts as module
from vlmrobust.models.server.attempts import Attempts
from vlmrobust.models.server.client import Shared
from vlmrobust.perturbations import StopThink
from vlmrobust.testing.model_checks import varied_samples

REQUEST = http.Request("POST", "http://server/v1")


class Clock:
    """Time that passes while somebody waits."""

    def __init__(self, monkeypatch):
        self.now, self.waits = 0.0, []
        monkeypatch.setattr(module.time, "monotonic", lambda: self.now)

    def wait(self, seconds):
        self.waits.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


def status(code, headers=None):
    kind = {400: BadRequestError, 429: RateLimitError}.get(code, InternalServerError)
    return kind("said no", response=http.Response(code, headers=headers, request=REQUEST), body=None)


def no_connection():
    return APIConnectionError(request=REQUEST)


def failing(*errors):
    left = list(errors)

    def send():
        if left:
            raise left.pop(0)
        return "reply"

    return send


def made(clock, retries=5, **options):
    return Attempts(retries, "server", str, wait=clock.wait, **options)


def test_pauses_grow_and_make_up_for_half_a_minute(clock):
    assert made(clock).of(failing(*[status(503)] * 5)) == "reply"
    for pause, least in zip(clock.waits, (1, 2, 4, 8, 16), strict=True):
        assert least <= pause <= 1.15 * least
    assert clock.now >= 31


def test_a_server_that_is_gone_for_half_a_minute_is_waited_for(clock):
    def send():
        if clock.now < 30:
            raise no_connection()
        return "reply"

    assert made(clock).of(send) == "reply"


def test_a_connection_that_is_cut_after_long_is_made_again(clock):
    def send():
        if clock.now == 0:
            clock.now += 300  # of waiting for a reply
            raise no_connection()
        return "reply"

    assert made(clock).of(send) == "reply"


def test_a_server_that_never_comes_ends_the_run_within_a_minute(clock):
    def send():
        clock.now += 5  # of a packet that is not answered
        raise no_connection()

    with pytest.raises(RefusedError, match=r"nobody answers at server: 5 times in a row no connection came about"):
        made(clock).of(send)
    assert clock.now < 60


def test_all_that_wait_learn_it_from_the_first_that_is_sure(clock):
    asked, sent = made(clock, retries=6), []

    def send():
        sent.append(1)
        raise no_connection()

    waits, held = threading.Event(), threading.Event()

    def wait(seconds):
        waits.set()
        held.wait(10)

    asked._wait = wait
    found = []

    def ask():
        try:
            asked.of(send)
        except RefusedError as error:
            found.append(error)

    waiting = threading.Thread(target=ask)
    waiting.start()
    assert waits.wait(10)
    asked._wait = clock.wait
    with pytest.raises(RefusedError) as refused:
        asked.of(send)
    before = len(sent)
    held.set()
    waiting.join(10)
    assert found == [refused.value]
    assert len(sent) == before
    assert asked.of(lambda: "reply") == "reply"  # who comes later finds out for itself


def test_without_retries_few_failures_are_rows_and_many_end_it(clock):
    asked = made(clock, retries=0)
    for _ in range(4):
        with pytest.raises(APIConnectionError):
            asked.of(failing(no_connection()))
    with pytest.raises(RefusedError, match="5 times in a row"):
        asked.of(failing(no_connection()))


def test_an_answer_in_between_shows_that_somebody_is_there(clock):
    asked = made(clock, retries=0)
    for _ in range(20):
        with pytest.raises(APIConnectionError):
            asked.of(failing(no_connection()))
        with pytest.raises(BadRequestError):
            asked.of(failing(status(400)))


def test_a_judge_is_not_ended_by_it(clock):
    asked = made(clock, retries=0, ends=False)
    for _ in range(20):
        with pytest.raises(APIConnectionError):
            asked.of(failing(no_connection()))


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "500"}, 500.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250"}, 0.25),
    ],
)
def test_a_server_is_waited_for_as_long_as_it_asks(clock, headers, seconds):
    assert made(clock).of(failing(status(429, headers))) == "reply"
    assert clock.waits == [seconds]


def test_a_date_is_understood_and_a_long_wait_told(clock, caplog):
    later = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 600))
    assert made(clock).of(failing(status(503, {"retry-after": later}))) == "reply"
    assert clock.waits == [pytest.approx(600, abs=5)]
    assert "the server asks to wait for" in caplog.text


@pytest.mark.parametrize(
    ("errors", "sent"),
    [
        ([status(400)], 1),
        ([status(503, {"x-should-retry": "false"})], 1),
        ([status(400, {"x-should-retry": "true"})], 2),
        ([APITimeoutError(REQUEST)], 2),
    ],
)
def test_what_does_not_pass_is_not_sent_again(clock, errors, sent):
    count = []
    send = failing(*errors)

    def counted():
        count.append(1)
        return send()

    with suppress(BadRequestError, InternalServerError):
        made(clock, retries=1).of(counted)
    assert len(count) == sent


def test_what_may_never_be_understood_is_sent_again_twice(clock):
    with pytest.raises(InternalServerError):
        made(clock).of(failing(*[status(500)] * 6), doubtful=(500,))
    assert len(clock.waits) == 2


# --- what is found out once -------------------------------------------------------------------------------------------


def test_a_failure_is_shared_by_all_that_wait_and_by_nobody_else():
    shared, entered, leave, tried = Shared(), threading.Event(), threading.Event(), []

    def find():
        tried.append(1)
        entered.set()
        leave.wait(10)
        raise ValueError("no")

    found = []

    def ask():
        try:
            shared.of("key", find)
        except ValueError as error:
            found.append(error)

    threads = [threading.Thread(target=ask)]
    threads[0].start()
    assert entered.wait(10)
    threads += [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads[1:]:
        thread.start()
    time.sleep(0.2)
    leave.set()
    for thread in threads:
        thread.join(10)
    assert len(tried) == 1
    assert len(set(map(id, found))) == 1
    assert len(found) == 9
    assert shared.of("key", lambda: "found") == "found"


# --- a model at an address at which nobody is -------------------------------------------------------------------------


def test_a_long_run_at_a_dead_address_ends_with_one_message(monkeypatch):
    monkeypatch.setattr(module, "_FIRST_PAUSE", 0.05)
    monkeypatch.setattr(module, "_LONGEST_PAUSE", 0.4)
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    samples = [sample.replace(id=f"{turn} {sample.id}") for turn in range(100) for sample in varied_samples()[:1]]
    model = OpenAIModel("toy", f"http://127.0.0.1:{port}/v1", KEY)
    begun = time.monotonic()
    with pytest.raises(RefusedError, match=r"nobody answers at 127\.0\.0\.1"):
        Evaluator(model, [StopThink()]).run(samples)
    model._client.close()
    assert time.monotonic() - begun < 20


def test_the_same_400_for_all_ends_the_run_with_its_reason(server, model_at):
    server.fault = lambda number, body: (400, {}, f"top_logprobs must be at most 5 (request {number})")
    samples = [sample.replace(id=f"{turn}") for turn in range(300) for sample in varied_samples()[:1]]
    model = model_at(server, concurrency=4, prefill="last_message")
    with pytest.raises(
        RefusedError, match=r"32 responses in a row, of \d+ samples, failed for the same reason.*top_logprobs"
    ):
        Evaluator(model, [StopThink()]).run(samples)
    assert len(server.seen) < 150


def test_a_gateway_without_a_server_behind_it_ends_a_long_run(server, model_at):
    server.fault = lambda number, body: (502, {}, "bad gateway")
    samples = [sample.replace(id=f"{turn}") for turn in range(100) for sample in varied_samples()[:1]]
    with pytest.raises(RefusedError, match=r"127\.0\.0\.1 could not be checked: .*bad gateway"):
        Evaluator(model_at(server), []).run(samples)
