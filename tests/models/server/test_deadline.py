"""Timeouts bound an attempt as a whole, however slowly bytes arrive."""

import socket
import threading
import time

import pytest
from openai import APIConnectionError, APITimeoutError

from vlmrobust.models.server.client import make_client

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
