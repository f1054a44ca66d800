"""Engines in environments of their own, and what the model says without one."""

import os
from collections.abc import Callable, Generator, Iterator
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import environments
import pytest
from serving import Server

from vlmrobust import Report, demo

pytest.register_assert_rewrite("agreement")  # before the first import of it

WEIGHTS = Path(demo.__file__).parent / "weights"


@pytest.fixture(scope="session")
def python_of() -> Iterator[Callable[[str], Path]]:
    """Return a function that makes an engine's environment, in `VLMROBUST_ENGINES` where that names a folder."""
    kept = os.environ.get("VLMROBUST_ENGINES")
    with nullcontext(kept) if kept else TemporaryDirectory(prefix="engines") as folder:
        yield lambda name: environments.make(name, Path(folder))


@pytest.fixture(scope="session")
def weights() -> Path:
    """Return the folder of the bundled model."""
    return WEIGHTS


@pytest.fixture(scope="session")
def expected() -> Report:
    """Return what the model says in this process."""
    from agreement import expected_report

    return expected_report()


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Server]]:
    """Return a function that starts a server, which is stopped when another one is wanted or the module is done."""
    running: list[Server] = []

    def start(command: list[str | Path], env: dict[str, str] | None = None) -> Server:
        while running:
            running.pop().stop()
        running.append(Server(command, env or {}, tmp_path_factory.mktemp("server")))
        running[-1].start()
        return running[-1]

    yield start
    while running:
        running.pop().stop()


@pytest.fixture(scope="module")
def serve_vllm(
    python_of: Callable[[str], Path], weights: Path, serving: Callable[..., Server]
) -> Callable[..., Server]:
    """Return a function that starts vLLM with the bundled model, and more options if given."""
    options = [
        *("--model", weights, "--served-model-name", "demo", "--host", "127.0.0.1", "--port", "{port}"),
        *("--dtype", "float32", "--max-model-len", "4096", "--generation-config", "vllm", "--enforce-eager"),
        *("--block-size", "32", "--enable-prompt-tokens-details"),
    ]

    def start(*more: str) -> Server:
        return serving(
            [python_of("vllm"), "-m", "vllm.entrypoints.openai.api_server", *options, *more], dict(environments.VLLM)
        )

    return start


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """Show the end of the server's log where a test failed."""
    report = yield
    server = getattr(item, "funcargs", {}).get("server")
    if report.failed and isinstance(server, Server):
        report.sections.append(("the server's log", server.tail()))
    return report
