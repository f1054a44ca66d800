"""Threads that answer what they are given, in the order in which it comes."""

import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, Generic, NamedTuple, TypeVar

__all__ = ["Pool"]

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
