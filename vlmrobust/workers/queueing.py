"""Never waiting for one slow prompt: a model that takes more prompts than it can answer at once is kept full.

    plan     sample 1          sample 2          sample 3          sample 4 …
    asked    ■ ■ ■ ■ □ ■ ■ ■   ■ ■ □ ■ ■ ■ ■ □   □ □ ■ □ □ □ □ □   the next one, as soon as there is room

Answers (■) come as they like, and each is on disk as soon as it came; rows leave in the plan's order. One thread makes
prompts, writes and yields; what answers is the model's own affair. While it writes, more answers come, and are written
together: a slow disk costs a wait for all of them and not for each.
"""

from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue

from ..models.base import ConcurrentModel, RefusedError
from ..types import Prompt, Response, Sample
from .asking import Asking, Pair, Phase, Phases
from .contract import checked, possible
from .failing import Failing
from .plan import Batch
from .progress import Counted, Progress

__all__ = ["Queue"]

_AHEAD = 2  # prompts that are asked for each that is answered at a time: when one ends, the next is there
_MOST_ROWS = 10_000  # that wait in memory for an earlier one


@dataclass(slots=True, eq=False)
class _Open:
    """A sample of which something is still to be answered, or which waits for an earlier one.

    Attributes:
        sample: which.
        phases: what it asks.
        to_ask: the prompts of the phase that it is in.
        answers: what was answered of them, by their places.
        rows: what came out; None = it is not finished.
    """

    sample: Sample
    phases: Phases
    to_ask: Sequence[Prompt] = ()
    answers: dict[int, Response] = field(default_factory=dict)
    rows: list[Pair] | None = None


class Queue:
    """Keeps a model's prompts coming, across samples and batches.

    What is in memory is bounded: a sample is begun while fewer than `2 · concurrency` prompts are on their way, and
    fewer than 10,000 rows wait for an earlier one. What a prompt holds of an image is how to make it.

    Args:
        asking: what is asked, and where answers are kept.
        model: who is asked.
        progress: counts.
        failing: counts what fails.

    Raises:
        ValueError: the model answers none at a time.
    """

    def __init__(self, asking: Asking, model: ConcurrentModel, progress: Progress, failing: Failing) -> None:
        self._asking, self._model, self._progress, self._failing = asking, model, progress, failing
        self._method = f"{type(model).__name__}.ask"
        if model.concurrency < 1:
            raise ValueError(f"{type(model).__name__}.concurrency: expected at least 1, got {model.concurrency}")
        self._open: deque[_Open] = deque()  # in the plan's order
        self._on_their_way: dict[Future[Response], tuple[_Open, int]] = {}
        self._arrived: SimpleQueue[Future[Response]] = SimpleQueue()
        self._unkept: list[Pair] = []

    def answer(self, batches: Iterable[Batch]) -> Generator[Pair, None, None]:
        """Yield the prompts and responses of batches in order, while later ones are answered.

        Whatever ends it, an error, an interrupt or the caller: what was not begun is cancelled, what is on its way is
        not waited for, and what was answered is on disk.
        """
        try:
            for batch in batches:
                self._asking.begin(batch.samples)
                self._progress.name(batch, self._asking.plan.conditions)
                for sample in batch.samples:
                    while not self._has_room():
                        yield from self._next_rows()
                    self._begin(sample)
            while self._open:
                yield from self._next_rows()
        finally:
            self._leave()

    def _has_room(self) -> bool:
        plan, busy = self._asking.plan, len(self._on_their_way)
        waiting = len(self._open) * len(plan.conditions) * plan.draws - busy
        return busy < _AHEAD * self._model.concurrency and waiting < _MOST_ROWS

    def _begin(self, sample: Sample) -> None:
        one = _Open(sample, self._asking.phases([sample]))
        self._open.append(one)
        self._go_on(one)

    def _next_rows(self) -> Iterator[Pair]:
        """Wait for an answer, if there is one to come; take all that came, and yield the rows whose turn it is."""
        answered = self._take() if self._on_their_way else []
        self._keep()
        self._failing.check()
        for one in answered:
            responses = [one.answers[place] for place in range(len(one.to_ask))]
            one.answers = {}
            self._go_on(one, responses)
        self._keep()  # rows that stand for prompts which could not be made
        while self._open and self._open[0].rows is not None:
            one = self._open.popleft()
            self._asking.end([one.sample])
            yield from one.rows or ()

    def _go_on(self, one: _Open, responses: Sequence[Response] | None = None) -> None:
        """Ask a sample's next phase in which there is something to ask; at its end its rows are there."""
        try:
            phase = next(one.phases) if responses is None else one.phases.send(responses)
            self._count(phase)
            while not phase.to_ask:
                phase = one.phases.send([])
                self._count(phase)
        except StopIteration as ended:
            one.rows = ended.value
            return
        one.to_ask = phase.to_ask
        for place, prompt in enumerate(phase.to_ask):
            future = self._ask(prompt)
            self._on_their_way[future] = one, place
            future.add_done_callback(self._arrived.put)

    def _count(self, phase: Phase) -> None:
        self._unkept += phase.failed
        self._progress.add(Counted.of(len(phase.known), phase.failed))

    def _ask(self, prompt: Prompt) -> Future[Response]:
        try:
            future = self._model.ask(prompt)
        except Exception as error:  # noqa: BLE001 - taken up where the answer would have been
            future = Future()
            future.set_exception(error)
        if not isinstance(future, Future):
            raise TypeError(f"{self._method}: expected a concurrent.futures.Future, got {type(future).__name__}")
        return future

    def _take(self) -> list[_Open]:
        """Take what came, waiting for one answer at least; return the samples whose phase is through."""
        arrived = [self._arrived.get()]
        with suppress(Empty):
            while True:
                arrived.append(self._arrived.get_nowait())
        through, answered = [], []
        for future in arrived:
            one, place = self._on_their_way[future]
            one.answers[place] = response = self._response(one.to_ask[place], future)
            del self._on_their_way[future]
            answered.append((one.to_ask[place], response))
            self._unkept.append(answered[-1])
            if not self._failing.is_over:
                self._failing.count(one.to_ask[place], response)
            if len(one.answers) == len(one.to_ask):
                through.append(one)
        self._progress.add(Counted.of(0, answered))
        return through

    def _response(self, prompt: Prompt, future: Future[Response]) -> Response:
        on_error = self._asking.plan.on_error
        try:
            response = future.result()
        except Exception as error:
            if on_error == "raise" or isinstance(error, RefusedError):
                error.add_note(f"in {self._method}, sample {prompt.sample.id!r}, condition {prompt.condition!r}")
                raise
            return Response.failed(prompt, error)
        return possible(checked(response, prompt, self._method), prompt, self._method, on_error)

    def _keep(self) -> None:
        if self._unkept:
            self._asking.keep(self._unkept)
            self._unkept = []

    def _leave(self) -> None:
        """Cancel what was not begun, and keep what was answered but not taken yet."""
        for future in self._on_their_way:
            future.cancel()
        for future, (one, place) in self._on_their_way.items():
            if future.done() and not future.cancelled() and future.exception() is None:
                with suppress(Exception):  # what is no response is asked again
                    self._unkept.append((one.to_ask[place], self._response(one.to_ask[place], future)))
        self._on_their_way = {}
        self._keep()
