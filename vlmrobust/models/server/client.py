"""Create OpenAI clients that hide their secrets, and provide a thread pool and a thread-safe memo for their users."""

import os
import threading
import weakref
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from pydantic import SecretStr

from ...secrecy import Secrets, keep_out_of_logs
from .attempts import bounded_client

if TYPE_CHECKING:
    from openai import OpenAI

__all__ = ["ANY_KEY", "Memo", "Pool", "make_client", "secrets_of"]


_EXPECTED = "field 'base_url': expected an address such as http://localhost:8000/v1"
_NOT_QUOTED = "(not quoted here, since it may contain a key)"
ANY_KEY = "any"
"""The key sent if none is given: the client requires one, a local server ignores it."""


def make_client(user: str, *, base_url: str | None, api_key: str | SecretStr | None, timeout: float) -> "OpenAI":
    """Return a thread-safe client that sends each request once (`Retrier` repeats it).

    Args:
        user: the name of the class that needs it, for the error message.
        base_url: the server's address; None = `OPENAI_BASE_URL`, else OpenAI's. Its query is added to every request.
        api_key: None = `OPENAI_API_KEY`; if that is unset too, a server at `base_url` is used without a key.
        timeout: seconds for a request, from its first byte to the last byte of the reply.

    Raises:
        ImportError: the client is not installed; the message says what to install.
        ValueError: the address or the key is invalid.
        openai.OpenAIError: no key for OpenAI's own server.
    """
    try:
        from openai import OpenAI
    except ImportError as error:
        raise ImportError(f"{user} needs the openai client: pip install vlmrobust[api]") from error
    key = api_key.get_secret_value() if isinstance(api_key, SecretStr) else api_key
    key = os.environ.get("OPENAI_API_KEY") if key is None else key
    key = None if key is None else key.strip()  # files end in a line break
    if key and not (key.isascii() and key.isprintable()):
        raise ValueError("field 'api_key': expected printable ASCII characters, got others (the key is not shown)")
    if not key and api_key is None:
        key = None if base_url is None else ANY_KEY
    if base_url is None:
        base_url = os.environ.get("OPENAI_BASE_URL") or None
    base_url = None if base_url is None else base_url.strip()
    try:
        address = urlsplit(base_url or "")
        _ = address.port
    except ValueError:
        raise ValueError(f"{_EXPECTED}, got one with an invalid host or port {_NOT_QUOTED}") from None
    if base_url is not None and (address.scheme not in ("http", "https") or not address.hostname):
        raise ValueError(f"{_EXPECTED}, got one without http:// or https:// and a host {_NOT_QUOTED}")
    query = dict(parse_qsl(address.query, keep_blank_values=True))
    http_client, timeouts = bounded_client(timeout)
    return OpenAI(
        base_url=urlunsplit(address._replace(query="")) if query else base_url,
        api_key=key,
        max_retries=0,
        timeout=timeouts,
        default_query=query or None,
        http_client=http_client,
    )


def secrets_of(client: "OpenAI", settings: Any) -> Secrets:
    """Return the secrets of a client, and keep them out of all logs while the result exists.

    Args:
        client: the client, with its key, address, headers and query.
        settings: other fields of its requests.
    """
    own = {"address": str(client.base_url), "query": client.default_query, "headers": client.default_headers}
    secrets = Secrets.of(client.api_key, settings=[own, settings])
    keep_out_of_logs(secrets)
    return secrets


Result = TypeVar("Result")


class _Call(NamedTuple):
    future: Future[Any]
    call: Callable[[], Any]

    def run(self) -> None:
        if self.future.set_running_or_notify_cancel():
            try:
                result = self.call()
            except BaseException as error:  # noqa: BLE001 - raised again by `Future.result`
                self.future.set_exception(error)
            else:
                self.future.set_result(result)


_Calls = SimpleQueue[_Call | None]


class Pool(Generic[Result]):
    """A thread pool that starts threads on demand and ends them when the pool is garbage-collected.

    Unlike `concurrent.futures`, its threads do not delay the exit of the process by requests that take minutes.

    Args:
        size: maximum number of threads.

    Example:
        >>> pool = Pool(2)
        >>> [future.result() for future in [pool.submit(lambda: 1), pool.submit(lambda: 2)]]
        [1, 2]
    """

    def __init__(self, size: int) -> None:
        self._size, self._started = size, 0
        self._calls: _Calls = SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._lock = threading.Lock()
        weakref.finalize(self, self._calls.put, None)

    def submit(self, call: Callable[[], Result]) -> Future[Result]:
        """Queue a call and return the future of its result."""
        future: Future[Result] = Future()
        self._calls.put(_Call(future, call))
        with self._lock:
            if not self._idle.acquire(blocking=False) and self._started < self._size:
                self._started += 1
                threading.Thread(target=_work, args=(self._calls, self._idle), name="vlmrobust", daemon=True).start()
        return future


def _work(calls: _Calls, idle: threading.Semaphore) -> None:
    # Takes no reference to the pool, which would keep it alive.
    while (call := calls.get()) is not None:
        call.run()
        del call  # frees what it references while the thread waits
        idle.release()
    calls.put(None)  # ends the next thread


Found = TypeVar("Found")


class Memo:
    """A thread-safe memo by key; one thread computes at a time, the others wait for the result.

    Threads that wait while a computation fails get its error; later callers compute again.

    Example:
        >>> memo = Memo()
        >>> memo.get("answer", lambda: 42), memo.get("answer", lambda: 43)
        (42, 42)
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._known: dict[Hashable, Any] = {}
        self._failures = 0
        self._failed: dict[Hashable, tuple[int, Exception]] = {}

    def get(self, key: Hashable, find: Callable[[], Found]) -> Found:
        """Return the value of a key, computed by `find` on first use; `find` may itself call `get` for other keys."""
        before = self._failures
        with self._lock:
            if key not in self._known:
                number, error = self._failed.get(key, (0, None))
                if error is not None and number > before:
                    raise error
                try:
                    self._known[key] = find()
                except Exception as error:
                    self._failures += 1
                    self._failed[key] = self._failures, error
                    raise
            found: Found = self._known[key]
            return found
