"""A server as a process group of its own, on one port of the loopback interface; it can be killed and started again."""

import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from environments import plain

__all__ = ["Server"]

_START = 400.0  # seconds; a busy machine takes many times as long as an idle one
_STOP = 20.0


class Server:
    """Serves one model.

    Args:
        command: the Python of an engine's environment, and what it runs; `{port}` is the port.
        env: what is set beside what is set here.
        folder: for its log and temporary files; caches go to the engine's environment.

    Attributes:
        url: the address of its API, the same after each start.
        log: what it has printed.
        starts: how long each start took, in seconds.
    """

    def __init__(self, command: Sequence[str | Path], env: Mapping[str, str], folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = int(probe.getsockname()[1])
        self._command = [str(part).replace("{port}", str(self._port)) for part in command]
        home = Path(command[0]).parents[1]
        self._env = plain() | {"HOME": str(home), "TMPDIR": str(folder), "HF_HUB_OFFLINE": "1"} | dict(env)
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"http://127.0.0.1:{self._port}/v1"
        self.log = folder / "server.log"
        self.starts: list[float] = []

    def start(self) -> None:
        """Start it, and wait until it answers."""
        begun = time.monotonic()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # its processes are one group, which is killed as a whole
            )
        while not self._is_healthy():
            ended, late = self._process.poll() is not None, time.monotonic() - begun > _START
            if ended or late:
                self.kill()
                raise RuntimeError(f"the server {'ended' if ended else 'did not come up'}:\n{self.tail()}")
            time.sleep(0.2)
        self.starts.append(time.monotonic() - begun)

    def kill(self) -> None:
        """Kill it without notice, as a machine that fails does."""
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """End it, and whatever is left of it."""
        self._signal(signal.SIGTERM)
        if self._process is not None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_STOP)
        self.kill()

    def tail(self, lines: int = 60) -> str:
        """Return the end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def _signal(self, number: int) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):  # all of it has ended
                os.killpg(self._process.pid, number)

    def _is_healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url.removesuffix('/v1')}/health", timeout=5) as reply:
                return bool(reply.status == 200)
        except (urllib.error.URLError, OSError):
            return False
