"""Retry failed requests, and bound the total time of each attempt.

HTTP libraries bound each wait only, so a server that sends a byte now and then never times out. Here every read and
write of a connection gets the time left for the attempt.
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
from urllib.parse import urljoin, urlsplit

from ..base import RefusedError

__all__ = ["CONNECT_TIMEOUT", "UNSUPPORTED", "Retrier", "bounded_client"]


logger = logging.getLogger(__name__)

UNSUPPORTED = (400, 422, 500, 501)
"""Statuses of a request that the server does not support; with some servers, a template that raises is a 500."""

_MOVED, _REPEATED = (301, 302), 307  # statuses of redirects
_CHUNK = 65_536  # bytes per write
CONNECT_TIMEOUT = 5.0  # seconds, the official client's default
# Seconds after which an idle connection is closed: well before uvicorn does (5 s, as long as the official client keeps
# it), which would break off a request sent at that moment.
_KEEP_ALIVE = 2.0


def bounded_client(timeout: float) -> tuple[Any, Any]:
    """Return an HTTP client for the official client, with its defaults, and the timeouts of its requests.

    Args:
        timeout: seconds for one attempt.

    Raises:
        ImportError: the official client is not installed.
    """
    from openai import DefaultHttpxClient, Timeout

    deadline = _Deadline()

    class Bounded(DefaultHttpxClient):
        def send(self, *args: Any, **options: Any) -> Any:
            deadline.until = time.monotonic() + timeout
            try:
                return super().send(*args, **options)
            finally:
                deadline.until = None

        def __del__(self) -> None:
            try:
                if not self.is_closed:
                    self.close()
            except Exception:  # noqa: BLE001 - the interpreter exits, and its modules are gone
                pass

    limits = Timeout(timeout, connect=min(timeout, CONNECT_TIMEOUT))
    client = Bounded(timeout=limits, event_hooks={"response": [_Redirects()]})
    # Only the library's own transports read proxies, certificates and so on from the environment; their network backend
    # is not part of the public interface.
    for transport in filter(None, (client._transport, *client._mounts.values())):
        pool: Any = getattr(transport, "_pool", None)
        if hasattr(pool, "_network_backend"):
            pool._network_backend = _Bounded(pool._network_backend, deadline)
            pool._keepalive_expiry = _KEEP_ALIVE
        else:
            logger.warning("timeout=%g bounds each wait for the server, not the request as a whole", timeout)
    return client, limits


class _Redirects:
    """Lets a redirected POST be repeated at its new address; HTTP libraries turn one with 301 or 302 into a GET.

    Another host gets nothing: the question, the images and keys in headers are not meant for it.
    """

    def __init__(self) -> None:
        self._told: set[str] = set()

    def __call__(self, response: Any) -> None:
        """Treat the response as a redirect that keeps the method, and log its address once."""
        if response.status_code not in _MOVED or response.request.method != "POST":
            return
        if not response.has_redirect_location:
            return
        before = urlsplit(str(response.request.url))
        try:
            after = urlsplit(urljoin(before.geturl(), response.headers["location"]))
        except ValueError:  # an invalid address; the client says so
            return
        if after.hostname == before.hostname:
            response.status_code, what = _REPEATED, "change base_url accordingly"
        else:
            del response.headers["location"]
            what = "nothing was sent to this other host; if it is meant, change base_url"
        old, new = (
            f"{address.scheme}://{address.netloc.rpartition('@')[2]}{address.path}" for address in (before, after)
        )
        if new not in self._told:  # without queries, which may hold a token that is new each time
            self._told.add(new)
            logger.warning("the server redirects requests from %s to %s: %s", old, new, what)


class _Deadline(threading.local):
    """The deadline of the current thread's attempt."""

    until: float | None = None


class _Bounded:
    """An HTTP library's network backend, or a connection of it, whose calls get the time left until the deadline."""

    def __init__(self, inner: Any, deadline: _Deadline) -> None:
        self._inner, self._deadline = inner, deadline
        self._library = importlib.import_module(type(inner).__module__.partition(".")[0])

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def connect_tcp(self, *args: Any, timeout: float | None = None, **options: Any) -> "_Bounded":
        stream = self._inner.connect_tcp(*args, timeout=self._left(timeout, "ConnectTimeout"), **options)
        return _Bounded(stream, self._deadline)

    def connect_unix_socket(self, *args: Any, timeout: float | None = None, **options: Any) -> "_Bounded":
        stream = self._inner.connect_unix_socket(*args, timeout=self._left(timeout, "ConnectTimeout"), **options)
        return _Bounded(stream, self._deadline)

    def start_tls(self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None) -> Any:
        # By position, as tunnels through a proxy do.
        stream = self._inner.start_tls(ssl_context, server_hostname, self._left(timeout, "ConnectTimeout"))
        return _Bounded(stream, self._deadline)

    def read(self, max_bytes: int, timeout: float | None = None) -> Any:
        return self._inner.read(max_bytes, timeout=self._left(timeout, "ReadTimeout"))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        # Each chunk has its own timeout, or a server that reads slowly would never time out.
        for start in range(0, len(buffer), _CHUNK):
            self._inner.write(buffer[start : start + _CHUNK], timeout=self._left(timeout, "WriteTimeout"))

    def _left(self, timeout: float | None, late: str) -> float | None:
        """Return the seconds that a wait may take; raise the library's error `late` if none are left."""
        if self._deadline.until is None:
            return timeout
        left = self._deadline.until - time.monotonic()
        if left <= 0:
            raise getattr(self._library, late)("the attempt exceeded its timeout")
        return left if timeout is None else min(timeout, left)


_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 16.0  # seconds; doubled each time, five in a row are 31
_JITTER = 0.15  # largest relative lengthening of a pause, so that clients do not retry in step
_PATIENCE = 40.0  # seconds to wait for a connection
_DEAD = 5  # consecutive connection failures after which the server counts as down
_UNSUPPORTED_RETRIES = 2  # retries of a request that the server may never accept
_TEMPORARY = (408, 409, 429)  # and 500 and above
_LOGGED_WAIT = 60.0  # seconds of `Retry-After` from which the wait is logged

Sent = TypeVar("Sent")


class Retrier:
    """Sends requests to one server and retries temporary failures.

    Temporary are: no connection, a timeout, 408, 409, 429 and 500 and above, unless the server says otherwise. If the
    server is down, the first request to establish this ends all that wait.

    Args:
        retries: maximum number of retries per request.
        host: the server's host, for errors.
        describe: formats an error for people.
        ends_run: whether a server that is down ends the run; if not, each request fails by itself.
        wait: the sleep function.

    Example:
        >>> Retrier(0, "localhost", str).run(lambda: "reply")
        'reply'
    """

    def __init__(
        self,
        retries: int,
        host: str,
        describe: Callable[[Exception], str],
        *,
        ends_run: bool = True,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        self._retries, self._host, self._describe, self._ends_run, self._wait = retries, host, describe, ends_run, wait
        self._lock = threading.Lock()
        self._answers = 0  # replies of any kind so far
        self._unconnected = 0  # consecutive attempts without a connection, over all requests
        self._refusals: list[RefusedError] = []

    def run(self, send: Callable[[], Sent], unsupported: Collection[int] = ()) -> Sent:
        """Return the result of `send`, with retries.

        Args:
            send: sends a request once.
            unsupported: statuses that may also mean that the server does not support the request: at most two retries.

        Raises:
            RefusedError: the server is down: this and all other requests repeatedly failed to connect.
            openai.OpenAIError: the request failed for good.
        """
        from openai import APIConnectionError, APIStatusError

        refusals, answers, number = self._refusals, self._answers, 0
        unreachable_since: float | None = None
        while True:
            if refusals:
                raise refusals[0]
            started = time.monotonic()
            try:
                sent = send()
            except APIStatusError as error:
                self._record(connected=True)
                most = min(self._retries, _UNSUPPORTED_RETRIES) if error.status_code in unsupported else self._retries
                if number >= most or not _is_temporary(error):
                    raise
                retry_after = _retry_after(error.response.headers)
            except APIConnectionError as error:
                give_up, retry_after = number >= self._retries, None
                connected = _was_connected(error)
                self._record(connected=connected)
                if not connected:
                    if unreachable_since is None:  # a connection that was cut may have been open for long
                        unreachable_since = max(started, time.monotonic() - CONNECT_TIMEOUT)
                    give_up = give_up or time.monotonic() - unreachable_since > _PATIENCE
                    if give_up and self._ends_run:
                        self._refuse(error, answers, refusals)
                if give_up:
                    raise
            else:
                self._record(connected=True)
                return sent
            pause = min(_FIRST_PAUSE * 2.0 ** min(number, 16), _LONGEST_PAUSE) * random.uniform(1.0, 1.0 + _JITTER)
            self._wait(retry_after if retry_after is not None else pause)
            number += 1

    def _record(self, *, connected: bool) -> None:
        with self._lock:
            self._answers += connected
            self._unconnected = 0 if connected else self._unconnected + 1

    def _refuse(self, error: Exception, answers: int, refusals: list[RefusedError]) -> None:
        """Raise for all waiting requests if no request has connected since this one began."""
        with self._lock:
            if refusals:
                raise refusals[0] from None
            if self._answers > answers or self._unconnected < _DEAD:
                return
            refusal = RefusedError(
                f"nobody answers at {self._host}: {self._unconnected} connection attempts in a row failed, the last "
                f"with {self._describe(error)}; completed responses are kept: repeat the same call to resume once the "
                "server is up"
            )
            refusals.append(refusal)
            self._refusals = []  # later requests try again
        raise refusal from None


def _is_temporary(error: Any) -> bool:
    should_retry = error.response.headers.get("x-should-retry")
    if should_retry in ("true", "false"):
        return bool(should_retry == "true")
    return error.status_code in _TEMPORARY or error.status_code >= 500


def _was_connected(error: Exception) -> bool:
    """Return whether a failed request had a connection."""
    from openai import APITimeoutError

    # The client wraps errors of several HTTP libraries, whose causes share names but not classes.
    return isinstance(error, APITimeoutError) and type(error.__cause__).__name__ != "ConnectTimeout"


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that the server asks to wait, however many; None = it does not say."""
    seconds = _seconds(headers)
    if seconds is None or not isfinite(seconds) or seconds <= 0:
        return None
    if seconds >= _LOGGED_WAIT:
        logger.warning("the server asks to wait %.0f s before the next attempt", seconds)
    return seconds


def _seconds(headers: Mapping[str, str]) -> float | None:
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            return float(headers.get(name, "")) / unit
        except ValueError:
            continue
    date = email.utils.parsedate_tz(headers.get("retry-after", ""))
    return None if date is None else email.utils.mktime_tz(date) - time.time()
