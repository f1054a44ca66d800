"""An HTTP client whose timeout bounds an attempt as a whole, from the first byte sent to the last one read.

HTTP libraries bound each wait: a server that sends a byte now and then is never late. Here every read and write of a
connection gets what is left of the attempt's time.
"""

import importlib
import logging
import threading
import time
from typing import Any

__all__ = ["CONNECTING", "bounded_client"]

logger = logging.getLogger(__name__)

_PIECE = 65_536  # bytes that are written at once
CONNECTING = 5.0  # seconds at most for a connection, as the official client has it


def bounded_client(timeout: float) -> tuple[Any, Any]:
    """Return the HTTP client for the official client, with its defaults, and the timeouts of its requests.

    Args:
        timeout: seconds for one attempt.

    Raises:
        ImportError: the official client is not installed.
    """
    from openai import DefaultHttpxClient, Timeout

    deadline = _Deadline()

    class Bounded(DefaultHttpxClient):
        def send(self, *args: Any, **options: Any) -> Any:
            deadline.set(timeout)
            try:
                return super().send(*args, **options)
            finally:
                deadline.clear()

        def __del__(self) -> None:
            if not self.is_closed:
                self.close()

    limits = Timeout(timeout, connect=min(timeout, CONNECTING))
    client = Bounded(timeout=limits)
    # Only the library's own transports know how to take proxies, certificates and the like from the environment; what
    # they connect through is no part of their public interface.
    for transport in filter(None, (client._transport, *client._mounts.values())):
        pool: Any = getattr(transport, "_pool", None)
        if hasattr(pool, "_network_backend"):
            pool._network_backend = _Backend(pool._network_backend, deadline)
        else:
            logger.warning("timeout=%g bounds each wait for the server, and not a request as a whole", timeout)
    return client, limits


class _Deadline(threading.local):
    """Until when the attempt that this thread makes may take."""

    until: float | None = None

    def set(self, seconds: float) -> None:
        self.until = time.monotonic() + seconds

    def clear(self) -> None:
        self.until = None

    def left(self, timeout: float | None, late: type[Exception]) -> float | None:
        """Return how many seconds a wait may take."""
        if self.until is None:
            return timeout
        left = self.until - time.monotonic()
        if left <= 0:
            raise late("the attempt has taken its time")
        return left if timeout is None else min(timeout, left)


class _Wrapped:
    """Passes on everything but what is bounded."""

    def __init__(self, inner: Any, deadline: _Deadline) -> None:
        self._inner, self._deadline = inner, deadline
        library = importlib.import_module(type(inner).__module__.partition(".")[0])
        self._late = {name: getattr(library, f"{name}Timeout") for name in ("Connect", "Read", "Write")}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def _left(self, timeout: float | None, kind: str) -> float | None:
        return self._deadline.left(timeout, self._late[kind])


class _Backend(_Wrapped):
    """Opens connections."""

    def connect_tcp(self, *args: Any, timeout: float | None = None, **options: Any) -> "_Stream":
        stream = self._inner.connect_tcp(*args, timeout=self._left(timeout, "Connect"), **options)
        return _Stream(stream, self._deadline)

    def connect_unix_socket(self, *args: Any, timeout: float | None = None, **options: Any) -> "_Stream":
        stream = self._inner.connect_unix_socket(*args, timeout=self._left(timeout, "Connect"), **options)
        return _Stream(stream, self._deadline)


class _Stream(_Wrapped):
    """A connection."""

    def read(self, max_bytes: int, timeout: float | None = None) -> Any:
        return self._inner.read(max_bytes, timeout=self._left(timeout, "Read"))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        # Each piece has a timeout of its own: a server that reads slowly would never be late.
        for start in range(0, len(buffer), _PIECE):
            self._inner.write(buffer[start : start + _PIECE], timeout=self._left(timeout, "Write"))

    def start_tls(self, *args: Any, timeout: float | None = None, **options: Any) -> "_Stream":
        stream = self._inner.start_tls(*args, timeout=self._left(timeout, "Connect"), **options)
        return _Stream(stream, self._deadline)
