"""The official OpenAI client with its secrets, the threads that use it, and what is found out once for all of them."""

import os
import threading
import weakref
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar
from urllib.parse import SplitResult, parse_qsl, urlsplit, urlunsplit

from pydantic import SecretStr

from ...log_records import keep_out_of_logs
from ...secrecy import Secrets
from .attempts import bounded_client

if TYPE_CHECKING:
    from openai import OpenAI

__all__ = ["ANY_KEY", "Pool", "Shared", "make_client", "secrets_of"]


ANY_KEY = "any"
"""What is sent where no key is given: a server of one's own asks for none, but the client must send one."""


def make_client(user: str, *, base_url: str | None, api_key: str | SecretStr | None, timeout: float) -> "OpenAI":
    """Return a client that sends each request once (`Attempts` sends it again); it is safe to share between threads.

    Args:
        user: who needs it, for the error.
        base_url: the server's address; None = `OPENAI_BASE_URL`, or else OpenAI's. Its query is that of every request.
        api_key: None = `OPENAI_API_KEY`; where that is not set either, a server at `base_url` is asked without one.
        timeout: seconds for a request, from its first byte to the last one of the reply.

    Raises:
        ImportError: the client is not installed; the message says what to install.
        ValueError: the address is none.
        openai.OpenAIError: no key at all, for OpenAI's own server.
    """
    try:
        from openai import OpenAI
    except ImportError as error:
        raise ImportError(f"{user} needs the openai client: pip install vlmrobust[api]") from error
    key = api_key.get_secret_value() if isinstance(api_key, SecretStr) else api_key
    if key is None and base_url is not None and not os.environ.get("OPENAI_API_KEY"):
        key = ANY_KEY
    address = _checked(base_url or os.environ.get("OPENAI_BASE_URL") or "")
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


def _checked(address: str) -> SplitResult:
    """Return the parts of an address; what is wrong with it is told without it, since a key may stand in its middle."""
    try:
        parts = urlsplit(address)
        _ = parts.port
    except ValueError:
        raise ValueError(
            "field 'base_url': expected an address such as http://localhost:8000/v1, got one whose host or port cannot "
            "be read (it is not repeated here, since a key may stand in it)"
        ) from None
    return parts


def secrets_of(client: "OpenAI", settings: Any) -> Secrets:
    """Return what is secret of a client, and keep it out of all logs as long as that is held.

    Args:
        client: with its key, address, headers and query.
        settings: what requests say beside.
    """
    own = {"address": str(client.base_url), "query": client.default_query, "headers": client.default_headers}
    secrets = Secrets.of(client.api_key, settings=[own, settings])
    keep_out_of_logs(secrets)
    return secrets


Result = TypeVar("Result")


class _Job(NamedTuple):
    future: Future[Any]
    call: Callable[[], Any]

    def run(self) -> None:
        if self.future.set_running_or_notify_cancel():
            try:
                result = self.call()
            except BaseException as error:  # noqa: BLE001 - it is raised where the result is asked for
                self.future.set_exception(error)
            else:
                self.future.set_result(result)


_Jobs = SimpleQueue[_Job | None]


class Pool(Generic[Result]):
    """As many threads as there is work for, up to a size; they end when nobody holds the pool any more.

    Unlike those of `concurrent.futures`, they keep no process from ending: a request that takes minutes would.

    Args:
        size: how many threads at most.

    Example:
        >>> pool = Pool(2)
        >>> [future.result() for future in [pool.submit(lambda: 1), pool.submit(lambda: 2)]]
        [1, 2]
    """

    def __init__(self, size: int) -> None:
        self._size, self._started = size, 0
        self._jobs: _Jobs = SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._lock = threading.Lock()
        weakref.finalize(self, _end, self._jobs)

    def submit(self, call: Callable[[], Result]) -> Future[Result]:
        """Return what will hold the result of a call."""
        future: Future[Result] = Future()
        self._jobs.put(_Job(future, call))
        with self._lock:
            if not self._idle.acquire(blocking=False) and self._started < self._size:
                self._started += 1
                threading.Thread(target=_work, args=(self._jobs, self._idle), name="vlmrobust", daemon=True).start()
        return future


def _work(jobs: _Jobs, idle: threading.Semaphore) -> None:
    # The pool itself is not known here, or it would never be let go of.
    while (job := jobs.get()) is not None:
        job.run()
        del job  # with what it holds
        idle.release()
    jobs.put(None)  # for the next one


def _end(jobs: _Jobs) -> None:
    jobs.put(None)


Found = TypeVar("Found")


class Shared:
    """Holds what was found out, by keys; a thread at a time finds out, and the others wait for it.

    Those that wait while an attempt fails get its error. Who comes later tries for itself.

    Example:
        >>> shared = Shared()
        >>> shared.of("answer", lambda: 42), shared.of("answer", lambda: 43)
        (42, 42)
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._known: dict[Hashable, Any] = {}
        self._failures = 0
        self._failed: dict[Hashable, tuple[int, Exception]] = {}

    def of(self, key: Hashable, find: Callable[[], Found]) -> Found:
        """Return what `find` has returned for a key; what it needs to know of another key it may ask here as well."""
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
