"""Engines in environments of their own, and what the model says without one."""

import os
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import environments
import pytest
from agreement import expected_report
from serving import Server

from vlmrobust import Report, demo

WEIGHTS = Path(demo.__file__).parent / "weights"


@pytest.fixture(scope="session")
def python_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function that makes an engine's environment, in `VLMROBUST_ENGINES` if that names a folder."""
    kept = os.environ.get("VLMROBUST_ENGINES")
    folder = Path(kept) if kept else tmp_path_factory.mktemp("engines")
    return lambda name: environments.make(name, folder)


@pytest.fixture(scope="session")
def weights() -> Path:
    """Return the folder of the bundled model."""
    return WEIGHTS


@pytest.fixture(scope="session")
def expected() -> Report:
    """Return what the model says in this process."""
    return expected_report()


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Server]]:
    """Return a function that starts a server, which is stopped when another one is wanted or the module is done."""
    running: list[Server] = []

    def start(command: list[str | Path], env: dict[str, str] | None = None) -> Server:
        while running:
            running.pop().stop()  # the memory is enough for one
        running.append(Server(command, env or {}, tmp_path_factory.mktemp("server")))
        running[-1].start()
        return running[-1]

    yield start
    while running:
        running.pop().stop()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """Show the end of the server's log where a test failed."""
    report = yield
    server = getattr(item, "funcargs", {}).get("server")
    if report.failed and isinstance(server, Server):
        report.sections.append(("the server's log", server.tail()))
    return report
