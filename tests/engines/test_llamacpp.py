"""The bundled model behind llama.cpp's server says what it says in this process."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import environments
import pytest
from agreement import agree, ask_served, goes_on_after_a_kill
from serving import Server

from vlmrobust import Report

pytestmark = [
    pytest.mark.engines,
    pytest.mark.filterwarnings("ignore:The image decoding and encoding capabilities of TorchVision"),
]

HERE = Path(__file__).parent
NATS = 0.02  # pictures are scaled by another routine


@pytest.fixture(scope="module")
def server(
    python_of: Callable[[str], Path],
    weights: Path,
    serving: Callable[..., Server],
    tmp_path_factory: pytest.TempPathFactory,
) -> Server:
    python, converted = python_of("llamacpp"), tmp_path_factory.mktemp("gguf")
    subprocess.run([python, HERE / "to_gguf.py", weights, converted], check=True, env=environments.plain())
    return serving([python, HERE / "serve_llamacpp.py", converted, "{port}"])


def test_the_same_is_said(server: Server, expected: Report) -> None:
    agree(ask_served(server), expected, nats=NATS)


def test_a_run_goes_on_after_the_server_was_killed(server: Server, tmp_path: Path) -> None:
    goes_on_after_a_kill(server, tmp_path, nats=NATS)
