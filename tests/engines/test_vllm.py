"""The bundled model behind vLLM says what it says in this process."""

from collections.abc import Callable
from pathlib import Path

import pytest
from agreement import agree, ask_served, goes_on_after_a_kill
from serving import Server

from vlmrobust import Report

pytestmark = [
    pytest.mark.engines,
    pytest.mark.filterwarnings("ignore:The image decoding and encoding capabilities of TorchVision"),
]

NATS = 1e-3


@pytest.fixture(scope="module")
def server(serve_vllm: Callable[..., Server]) -> Server:
    return serve_vllm()


def test_the_same_is_said(server: Server, expected: Report) -> None:
    agree(ask_served(server), expected, nats=NATS)


def test_a_run_goes_on_after_the_server_was_killed(server: Server, tmp_path: Path) -> None:
    goes_on_after_a_kill(server, tmp_path, nats=NATS)
