"""Retries: which failures are retried, after which pauses and how often; a timeout bounds an attempt as a whole."""

import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx2 as http
import pytest
from openai import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    BadRequestError,
    InternalServerError,
    RateLimitError,
)
from openai_server import KEY

from vlmrobust import Evaluator, OpenAIModel
from vlmrobust.models.base import RefusedError
from vlmrobust.models.server import attempts as module
from vlmrobust.models.server.attempts import Retrier
from vlmrobust.models.server.client import Memo, make_client
from vlmrobust.perturbations import StopThink
from vlmrobust.testing.model_checks import varied_samples

REQUEST = http.Request("POST", "http://server/v1")


class Clock:
    """A clock that advances by the waits of the code under test."""

    def __init__(self, monkeypatch):
        self.now, self.waits = 0.0, []
        monkeypatch.setattr(module.time, "monotonic", lambda: self.now)

    def wait(self, seconds):
        self.waits.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


def status_error(code, headers=None):
    kind = {400: BadRequestError, 429: RateLimitError}.get(code, InternalServerError)
    return kind("said no", response=http.Response(code, headers=headers, request=REQUEST), body=None)


def no_connection():
    return APIConnectionError(request=REQUEST)


def failing_send(*errors):
    left = list(errors)

    def send():
        if left:
            raise left.pop(0)
        return "reply"

    return send


def make_retrier(clock, retries=5, **options):
    return Retrier(retries, "server", str, wait=clock.wait, **options)


def test_pauses_double_and_cover_half_a_minute(clock):
    assert make_retrier(clock).run(failing_send(*[status_error(503)] * 5)) == "reply"
    for pause, least in zip(clock.waits, (1, 2, 4, 8, 16), strict=True):
        assert least <= pause <= 1.15 * least
    assert clock.now >= 31


def test_a_server_down_for_half_a_minute_is_waited_for(clock):
    def send():
        if clock.now < 30:
            raise no_connection()
        return "reply"

    assert make_retrier(clock).run(send) == "reply"


def test_a_connection_cut_after_a_long_wait_is_retried(clock):
    def send():
        if clock.now == 0:
            clock.now += 300  # spent waiting for a reply
            raise no_connection()
        return "reply"

    assert make_retrier(clock).run(send) == "reply"


def test_a_server_that_stays_down_ends_the_run_within_a_minute(clock):
    def send():
        clock.now += 5  # until the connection attempt times out
        raise no_connection()

    with pytest.raises(RefusedError, match=r"nobody answers at server: 5 connection attempts in a row failed"):
        make_retrier(clock).run(send)
    assert clock.now < 60


def test_all_waiting_requests_end_with_the_first_that_gives_up(clock):
    retrier, sent = make_retrier(clock, retries=6), []

    def send():
        sent.append(1)
        raise no_connection()

    waits, held = threading.Event(), threading.Event()

    def wait(seconds):
        waits.set()
        held.wait(10)

    retrier._wait = wait
    found = []

    def call():
        try:
            retrier.run(send)
        except RefusedError as error:
            found.append(error)

    waiting = threading.Thread(target=call)
    waiting.start()
    assert waits.wait(10)
    retrier._wait = clock.wait
    with pytest.raises(RefusedError) as refused:
        retrier.run(send)
    before = len(sent)
    held.set()
    waiting.join(10)
    assert found == [refused.value]
    assert len(sent) == before
    assert retrier.run(lambda: "reply") == "reply"  # later requests try again


def test_without_retries_few_failures_are_errors_and_many_end_the_run(clock):
    retrier = make_retrier(clock, retries=0)
    for _ in range(4):
        with pytest.raises(APIConnectionError):
            retrier.run(failing_send(no_connection()))
    with pytest.raises(RefusedError, match="5 connection attempts in a row"):
        retrier.run(failing_send(no_connection()))


def test_any_reply_shows_that_the_server_is_up(clock):
    retrier = make_retrier(clock, retries=0)
    for _ in range(20):
        with pytest.raises(APIConnectionError):
            retrier.run(failing_send(no_connection()))
        with pytest.raises(BadRequestError):
            retrier.run(failing_send(status_error(400)))


def test_a_judge_raises_each_connection_error(clock):
    retrier = make_retrier(clock, retries=0, ends_run=False)
    for _ in range(20):
        with pytest.raises(APIConnectionError):
            retrier.run(failing_send(no_connection()))


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "500"}, 500.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250"}, 0.25),
    ],
)
def test_retry_after_is_respected(clock, headers, seconds):
    assert make_retrier(clock).run(failing_send(status_error(429, headers))) == "reply"
    assert clock.waits == [seconds]


def test_retry_after_may_be_a_date_and_a_long_wait_is_logged(clock, caplog):
    later = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 600))
    assert make_retrier(clock).run(failing_send(status_error(503, {"retry-after": later}))) == "reply"
    assert clock.waits == [pytest.approx(600, abs=5)]
    assert "the server asks to wait" in caplog.text


@pytest.mark.parametrize(
    ("errors", "sent"),
    [
        ([status_error(400)], 1),
        ([status_error(503, {"x-should-retry": "false"})], 1),
        ([status_error(400, {"x-should-retry": "true"})], 2),
        ([APITimeoutError(REQUEST)], 2),
    ],
)
def test_permanent_failures_are_not_retried(clock, errors, sent):
    count = []
    send = failing_send(*errors)

    def counted():
        count.append(1)
        return send()

    with suppress(BadRequestError, InternalServerError):
        make_retrier(clock, retries=1).run(counted)
    assert len(count) == sent


def test_requests_that_may_be_unsupported_are_retried_twice(clock):
    with pytest.raises(InternalServerError):
        make_retrier(clock).run(failing_send(*[status_error(500)] * 6), unsupported=(500,))
    assert len(clock.waits) == 2


# --- memo -------------------------------------------------------------------------------------------------------------


def test_a_failure_is_shared_by_waiting_threads_only():
    memo, entered, leave, calls = Memo(), threading.Event(), threading.Event(), []

    def find():
        calls.append(1)
        entered.set()
        leave.wait(10)
        raise ValueError("no")

    found = []

    def call():
        try:
            memo.get("key", find)
        except ValueError as error:
            found.append(error)

    threads = [threading.Thread(target=call)]
    threads[0].start()
    assert entered.wait(10)
    threads += [threading.Thread(target=call) for _ in range(8)]
    for thread in threads[1:]:
        thread.start()
    time.sleep(0.2)
    leave.set()
    for thread in threads:
        thread.join(10)
    assert len(calls) == 1
    assert len(set(map(id, found))) == 1
    assert len(found) == 9
    assert memo.get("key", lambda: "found") == "found"


# --- a model without a server -----------------------------------------------------------------------------------------


def test_a_long_run_without_a_server_ends_with_one_message(monkeypatch):
    monkeypatch.setattr(module, "_FIRST_PAUSE", 0.05)
    monkeypatch.setattr(module, "_LONGEST_PAUSE", 0.4)
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    samples = [sample.replace(id=f"{turn} {sample.id}") for turn in range(100) for sample in varied_samples()[:1]]
    model = OpenAIModel("toy", f"http://127.0.0.1:{port}/v1", KEY)
    started = time.monotonic()
    with pytest.raises(RefusedError, match=r"nobody answers at 127\.0\.0\.1"):
        Evaluator(model, [StopThink()]).run(samples)
    model._client.close()
    assert time.monotonic() - started < 20


def test_the_same_400_for_all_requests_ends_the_run_with_its_reason(server, model_at):
    server.fault = lambda number, body: (400, {}, f"top_logprobs must be at most 5 (request {number})")
    samples = [sample.replace(id=f"{turn}") for turn in range(300) for sample in varied_samples()[:1]]
    model = model_at(server, concurrency=4, prefill="last_message")
    with pytest.raises(
        RefusedError, match=r"32 responses in a row, of \d+ samples, failed for the same reason.*top_logprobs"
    ):
        Evaluator(model, [StopThink()]).run(samples)
    assert len(server.seen) < 150


def test_a_gateway_without_a_server_ends_a_long_run(server, model_at):
    server.fault = lambda number, body: (502, {}, "bad gateway")
    samples = [sample.replace(id=f"{turn}") for turn in range(100) for sample in varied_samples()[:1]]
    with pytest.raises(RefusedError, match=r"127\.0\.0\.1 could not be checked: .*bad gateway"):
        Evaluator(model_at(server), []).run(samples)


BODY = b'{"choices": []}'


@pytest.fixture
def slow_server():
    """Return a function that starts a server which pauses between the bytes of a reply's head and body."""
    servers = []

    def start(head_pause, body_pause):
        server = socket.create_server(("127.0.0.1", 0))
        servers.append(server)

        def answer(connection):
            with connection:
                connection.recv(65536)
                head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(BODY)}\r\n"
                head += "connection: close\r\n\r\n"
                try:
                    for part, pause in ((head.encode(), head_pause), (BODY, body_pause)):
                        for byte in part if pause else [part]:
                            connection.sendall(bytes([byte]) if pause else part)
                            time.sleep(pause)
                except OSError:
                    return

        def serve():
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=answer, args=(connection,), daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        return f"http://127.0.0.1:{server.getsockname()[1]}/v1"

    yield start
    for server in servers:
        server.close()


@pytest.mark.parametrize(("head_pause", "body_pause"), [(0.2, 0), (0, 0.2)])
def test_a_reply_that_arrives_byte_by_byte_times_out(slow_server, head_pause, body_pause):
    client = make_client("test", base_url=slow_server(head_pause, body_pause), api_key="key", timeout=0.8)
    begun = time.monotonic()
    with pytest.raises(APITimeoutError):
        client.post("/chat/completions", cast_to=str, body={})
    assert 0.7 < time.monotonic() - begun < 2.5
    client.close()


def test_a_slow_reply_in_time_arrives_and_each_attempt_has_its_own_timeout(slow_server):
    client = make_client("test", base_url=slow_server(0, 0.04), api_key="key", timeout=3)
    for _ in range(6):  # longer than the timeout in total
        assert client.post("/chat/completions", cast_to=str, body={}) == BODY.decode()
    client.close()


def test_a_request_that_is_read_slowly_times_out():
    with socket.create_server(("127.0.0.1", 0)) as server:
        held = []
        threading.Thread(target=lambda: held.append(server.accept()), daemon=True).start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/v1"
        client = make_client("test", base_url=url, api_key="key", timeout=0.8)
        begun = time.monotonic()
        with pytest.raises(APITimeoutError):
            client.post("/chat/completions", cast_to=str, body={"image": "x" * 50_000_000})
        assert time.monotonic() - begun < 5
        client.close()
        for connection, _ in held:
            connection.close()


@pytest.fixture
def redirecting():
    """Return the address of a server that redirects requests with the status in their path, and what it has seen."""
    seen = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self):
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            seen.append((self.command, self.path, body))
            status = int(self.path.split("/")[1])
            self.send_response(status)
            if "elsewhere" in self.path:
                self.send_header(
                    "Location", f"http://user:word@localhost:{server.server_port}/200/v1?token={len(seen)}"
                )
            elif status != 200 and "nowhere" not in self.path:
                self.send_header("Location", self.path.replace(str(status), "200") + f"?token={len(seen)}")
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def do_GET(self):
            self.answer()

        def do_POST(self):
            self.answer()

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", seen
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("status", "method", "told"), [(301, "POST", 1), (302, "POST", 1), (303, "GET", 0), (307, "POST", 0)]
)
def test_a_redirected_request_is_repeated_as_it_was(redirecting, caplog, status, method, told):
    address, seen = redirecting
    with make_client("test", base_url=f"{address}/{status}/v1", api_key="key", timeout=5.0) as client:
        for _ in range(2):
            assert client.post("/chat/completions", cast_to=str, body={"model": "m"}) == "{}"
    assert [verb for verb, _, _ in seen] == ["POST", method] * 2
    assert seen[1][1:] == ("/200/v1/chat/completions?token=1", b'{"model":"m"}' if method == "POST" else b"")
    line = f"from {address}/{status}/v1/chat/completions to {address}/200/v1/chat/completions: change base_url accord"
    assert caplog.text.count(line) == told
    assert "token" not in caplog.text


@pytest.mark.parametrize("status", [301, 302])
def test_a_redirect_to_another_host_gets_no_request(redirecting, caplog, status):
    address, seen = redirecting
    with make_client("test", base_url=f"{address}/{status}/elsewhere", api_key="key", timeout=5.0) as client:
        for _ in range(2):
            with pytest.raises(APIStatusError, match=f"Error code: {status}"):
                client.post("/chat/completions", cast_to=str, body={"model": "m"})
    assert [path for _, path, _ in seen] == [f"/{status}/elsewhere/chat/completions"] * 2
    other = address.replace("127.0.0.1", "localhost")
    assert (
        caplog.text.count(f"to {other}/200/v1: nothing was sent to this other host; if it is meant, change base") == 1
    )
    assert "word" not in caplog.text
    assert "token" not in caplog.text


def test_a_redirect_without_an_address_keeps_its_status(redirecting, caplog):
    with (
        make_client("test", base_url=f"{redirecting[0]}/302/nowhere", api_key="key", timeout=5.0) as client,
        pytest.raises(APIStatusError, match="Error code: 302"),
    ):
        client.post("/chat/completions", cast_to=str, body={"model": "m"})
    assert "redirects" not in caplog.text


def test_a_process_that_ends_with_an_open_connection_writes_nothing(redirecting):
    script = (
        "import sys; from vlmrobust.models.server.client import make_client\n"
        "client = make_client('test', base_url=sys.argv[1], api_key='key', timeout=5.0)\n"
        "client.post('/chat/completions', cast_to=str, body={})\n"
    )
    call = [sys.executable, "-c", script, f"{redirecting[0]}/200/v1"]
    ended = subprocess.run(call, capture_output=True, text=True, timeout=60, check=True)
    assert ended.stderr == ""


def test_an_idle_connection_is_closed_before_the_server_closes_it(monkeypatch):
    assert module._KEEP_ALIVE < 5  # uvicorn's
    monkeypatch.setattr(module, "_KEEP_ALIVE", 0.3)
    opened = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self):
            opened.append(self.client_address)
            super().setup()

        def do_GET(self):
            body = b'{"object": "list", "data": []}'
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/v1"
    with make_client("test", base_url=address, api_key="key", timeout=5.0) as client:
        for pause, connections in ((0.0, 1), (0.0, 1), (0.6, 2)):
            time.sleep(pause)
            client.models.list()
            assert len(opened) == connections
    server.shutdown()
    server.server_close()


def test_https_through_a_proxy_begins_tls_in_the_tunnel(monkeypatch):
    sent = []

    def tunnel(server):
        connection, _ = server.accept()
        with connection:
            sent.append(connection.recv(65536))
            connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            sent.append(connection.recv(65536))

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=tunnel, args=(server,), daemon=True).start()
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        client = make_client("test", base_url="https://models.example/v1", api_key="key", timeout=5)
        with pytest.raises(APIConnectionError):  # the server closes the tunnel
            client.post("/chat/completions", cast_to=str, body={})
        client.close()
    assert sent[0].startswith(b"CONNECT models.example:443")
    assert sent[1][:2] == b"\x16\x03"  # a TLS handshake
