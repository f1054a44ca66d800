"""Requests that are tried again, after which failures and how long; an attempt's time is bounded as a whole.

HTTP libraries bound each wait: a server that sends a byte now and then is never late. Here every read and write of a
connection gets what is left of the attempt's time.
"""

import email.utils
import importlib
import logging
import random
import threading
import time
from collections.abc import Callable, Collection, Mapping
from math import isfinite
from typing import Any, TypeVar

from ..base import RefusedError

__all__ = ["CONNECTING", "Attempts", "bounded_client"]


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


_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 16.0  # seconds; doubled each time, five in a row are 31
_SPREAD = 0.15  # so much longer a pause may be, lest all come back at one moment
_PATIENCE = 40.0  # seconds for a server that takes no connection
_DEAD = 5  # times in a row that no connection came about, from which on nobody is there
_IN_DOUBT = 2  # times that a request is sent again which may never be understood
_PASSING = (408, 409, 429)  # and from 500 on
_TOLD_FROM = 60.0  # seconds that a server asks to wait for, from which on the log says so

Sent = TypeVar("Sent")


class Attempts:
    """Sends requests to one server, and tries again what failed in passing.

    That is: no connection, a timeout, 408, 409, 429 and from 500 on, unless the server says otherwise. Where nobody is
    at the address, all requests that wait learn it from the first that is sure.

    Args:
        retries: how often a request is sent again at most.
        host: the server, for errors.
        told: writes an error for people.
        ends: whether an address at which nobody is ends a run; if not, each request fails by itself.
        wait: sleeps.

    Example:
        >>> Attempts(0, "localhost", str).of(lambda: "reply")
        'reply'
    """

    def __init__(
        self,
        retries: int,
        host: str,
        told: Callable[[Exception], str],
        *,
        ends: bool = True,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        self._retries, self._host, self._told, self._ends, self._wait = retries, host, told, ends, wait
        self._lock = threading.Lock()
        self._answers = 0  # replies of any kind so far
        self._unconnected = 0  # attempts in a row, of whatever request, for which there was no connection
        self._refusals: list[RefusedError] = []

    def of(self, send: Callable[[], Sent], doubtful: Collection[int] = ()) -> Sent:
        """Return what `send` returns, sooner or later.

        Args:
            send: sends a request once.
            doubtful: statuses that may as well say that the server will never understand it: it is sent again twice at
                most.

        Raises:
            RefusedError: nobody is at the address: again and again no connection came about, for this and for all
                others.
            openai.OpenAIError: it failed for good.
        """
        from openai import APIConnectionError, APIStatusError

        refusals, answers, number = self._refusals, self._answers, 0
        begun: float | None = None  # since when no connection comes about
        while True:
            if refusals:
                raise refusals[0]
            started = time.monotonic()
            try:
                sent = send()
            except APIStatusError as error:
                self._there()
                most = min(self._retries, _IN_DOUBT) if error.status_code in doubtful else self._retries
                if number >= most or not _may_pass(error):
                    raise
                asked = _asked_to_wait(error.response.headers)
            except APIConnectionError as error:
                late, asked = number >= self._retries, None
                if _was_connected(error):
                    self._there()
                else:
                    self._not_there()
                    if begun is None:  # a connection that was cut may have been open for long
                        begun = max(started, time.monotonic() - CONNECTING)
                    late = late or time.monotonic() - begun > _PATIENCE
                    if late and self._ends:
                        self._refuse(error, answers, refusals)
                if late:
                    raise
            else:
                self._there()
                return sent
            self._wait(asked if asked is not None else _pause(number))
            number += 1

    def _there(self) -> None:
        with self._lock:
            self._answers += 1
            self._unconnected = 0

    def _not_there(self) -> None:
        with self._lock:
            self._unconnected += 1

    def _refuse(self, error: Exception, answers: int, refusals: list[RefusedError]) -> None:
        """Raise for all that wait, if nobody was reached since a request was begun."""
        with self._lock:
            if refusals:
                raise refusals[0] from None
            if self._answers > answers or self._unconnected < _DEAD:
                return
            refusal = RefusedError(
                f"nobody answers at {self._host}: {self._unconnected} times in a row no connection came about, the "
                f"last time with {self._told(error)}; what was answered is kept, and the same call goes on from there "
                "once the server is up"
            )
            refusals.append(refusal)
            self._refusals = []  # what is sent from now on finds out for itself
        raise refusal from None


def _may_pass(error: Any) -> bool:
    said = error.response.headers.get("x-should-retry")
    if said in ("true", "false"):
        return bool(said == "true")
    return error.status_code in _PASSING or error.status_code >= 500


def _was_connected(error: Exception) -> bool:
    """Return whether a request that failed had reached somebody, who was too slow."""
    from openai import APITimeoutError

    # The client's own errors, whichever of its HTTP libraries raised them, are told apart by their names.
    return isinstance(error, APITimeoutError) and type(error.__cause__).__name__ != "ConnectTimeout"


def _asked_to_wait(headers: Mapping[str, str]) -> float | None:
    """Return for how many seconds a server asks to wait, however long; None = it does not say."""
    seconds = _seconds(headers)
    if seconds is None or not isfinite(seconds) or seconds <= 0:
        return None
    if seconds >= _TOLD_FROM:
        logger.warning("the server asks to wait for %.0f s before the next attempt", seconds)
    return seconds


def _seconds(headers: Mapping[str, str]) -> float | None:
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            return float(headers.get(name, "")) / unit
        except ValueError:
            continue
    date = email.utils.parsedate_tz(headers.get("retry-after", ""))
    return None if date is None else email.utils.mktime_tz(date) - time.time()


def _pause(number: int) -> float:
    pause = min(_FIRST_PAUSE * 2.0 ** min(number, 16), _LONGEST_PAUSE)
    return pause * random.uniform(1.0, 1.0 + _SPREAD)
