"""Simulate a server in virtual time, where requests in flight are counted rather than measured."""

import heapq
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from itertools import count
from queue import Empty

from vlmrobust import Prompt, Response
from vlmrobust.testing import FakeModel

Key = tuple[str, str, int]


class VirtualServer:
    """Answers `concurrency` prompts at a time, in the order in which they come, each after a time of its own.

    It is a model, and its `queue` stands for the queue in which answers arrive: to wait for one is to let time pass
    until the next is there.

    Args:
        concurrency: how many it answers at a time.
        takes: returns how long a prompt takes, by its key.
        says: answers, when the time has come.

    Attributes:
        now: the time.
        asked, answered: the keys of prompts, in the order in which that happened.
        most_waiting: the largest number of prompts that were asked and not answered.
        idle: for every time at which a place was free while something was still to come: when, and for how long.
    """

    def __init__(
        self,
        concurrency: int,
        takes: Callable[[Key], float],
        says: Callable[[Prompt], Response] | None = None,
    ) -> None:
        fake = FakeModel(opens_images=False, accuracy=0.6, follow_think=0.7, truncated=0.1)
        self.concurrency, self.takes = concurrency, takes
        self.says = says or (lambda prompt: fake.respond([prompt])[0])
        self.now = 0.0
        self.asked: list[Key] = []
        self.answered: list[Key] = []
        self.most_waiting = 0
        self.free_since: list[float] = [0.0] * concurrency
        self.idle: list[tuple[float, float]] = []
        self._numbers = count()
        self._waiting: deque[tuple[Prompt, Future[Response]]] = deque()
        self._under_way: list[tuple[float, int, Prompt, Future[Response]]] = []

    def identity(self) -> dict[str, str]:
        return {"class": "VirtualServer"}

    def respond(self, prompts: Sequence[Prompt]) -> list[Response]:
        futures = [self.ask(prompt) for prompt in prompts]
        while self._under_way:
            self.pass_time()
        return [future.result() for future in futures]

    def ask(self, prompt: Prompt) -> Future[Response]:
        future: Future[Response] = Future()
        self.asked.append(prompt.key)
        self._waiting.append((prompt, future))
        self._start()
        self.most_waiting = max(self.most_waiting, len(self._waiting) + len(self._under_way))
        return future

    def _start(self) -> None:
        while self._waiting and len(self._under_way) < self.concurrency:
            prompt, future = self._waiting.popleft()
            if future.set_running_or_notify_cancel():
                since = self.free_since.pop()
                if since < self.now:
                    self.idle.append((since, self.now - since))
                entry = (self.now + self.takes(prompt.key), next(self._numbers), prompt, future)
                heapq.heappush(self._under_way, entry)

    def pass_time(self) -> None:
        self.now, _, prompt, future = heapq.heappop(self._under_way)
        self.free_since.append(self.now)
        self.answered.append(prompt.key)
        self._start()
        try:
            future.set_result(self.says(prompt))
        except Exception as error:  # noqa: BLE001 - as a thread would
            future.set_exception(error)

    def queue(self) -> "Arrivals":
        return Arrivals(self)


class Arrivals:
    """In place of a `SimpleQueue`."""

    def __init__(self, server: VirtualServer) -> None:
        self.server, self.here = server, deque[Future[Response]]()

    def put(self, future: Future[Response]) -> None:
        self.here.append(future)

    def get(self) -> Future[Response]:
        while not self.here:
            self.server.pass_time()
        return self.here.popleft()

    def get_nowait(self) -> Future[Response]:
        if not self.here:
            raise Empty
        return self.here.popleft()


def all_at_once(concurrency: int, times: Sequence[float]) -> float:
    """Return how long as many places need for all requests, which stand in line from the beginning."""
    free = [0.0] * concurrency
    for time in times:
        heapq.heapreplace(free, free[0] + time)
    return max(free)
