"""Answer the batches of a run: one list of prompts after another, or keeping a concurrent model full.

`Queue` never waits for one slow prompt:

    plan     sample 1          sample 2          sample 3          sample 4 …
    asked    ■ ■ ■ ■ □ ■ ■ ■   ■ ■ □ ■ ■ ■ ■ □   □ □ ■ □ □ □ □ □   the next one, as soon as there is room

Answers (■) come in any order, and each is on disk as soon as it came; rows leave in the plan's order. One thread makes
prompts, writes and yields; how answers are computed is the model's own affair. While the thread writes, more answers
come, which are then written together: a slow disk costs one wait for all of them.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from queue import Empty, SimpleQueue

from ..models.base import ConcurrentModel, Model, RefusedError, expect, is_concurrent
from ..store import RunDirectory
from ..types import Prompt, Response, Sample
from .failures import Failing, checked, possible
from .plan import Asking, Batch, Pair, Phase, Phases, Plan
from .progress import Counted, Progress

__all__ = ["Batchwise", "Pair", "Queue", "answered", "recorded"]

_AHEAD = 2  # prompts in flight for each that is answered at a time: when one ends, the next is there
_MOST_ROWS = 10_000  # that wait in memory for an earlier one


def answered(
    plan: Plan,
    model: Model,
    batches: Sequence[Batch],
    directory: RunDirectory | None,
    progress: Progress | None = None,
    failing: Failing | None = None,
) -> Generator[Pair, None, None]:
    """Ask what is not on disk yet, write it there at once, and yield all prompts and responses in the plan's order.

    Args:
        plan: what is asked.
        model: the model that is asked.
        batches: the samples that it is asked about.
        directory: the run directory; None = nothing is kept.
        progress: counts responses; None = nobody does.
        failing: counts failures across several calls; None = those of this call.
    """
    asking, counted = Asking(plan, directory), progress or Progress(0, shown=False)
    failed = failing or Failing(plan.max_failures)
    expect(model, sum(plan.size(batch.samples) for batch in batches), plan.style)
    if is_concurrent(model):
        return Queue(asking, model, counted, failed).answer(batches)
    return Batchwise(asking, model, counted, failed).answer(batches)


def recorded(plan: Plan, samples: Sequence[Sample], directory: RunDirectory) -> Iterator[Pair]:
    """Yield what a finished run has on disk, by sample, condition and draw.

    Raises:
        LookupError: a response is missing.
    """
    asking = Asking(plan, directory, final=True)
    for batch in plan.batches(samples):
        asking.begin(batch.samples)
        yield from _rows(asking.phases(batch.samples), lambda phase: [])
        asking.end(batch.samples)


def _rows(phases: Phases, answer: Callable[[Phase], Sequence[Response]]) -> list[Pair]:
    """Answer phases one after another, and return the rows that come out at their end."""
    try:
        phase = next(phases)
        while True:
            phase = phases.send(answer(phase))
    except StopIteration as ended:
        rows: list[Pair] = ended.value
        return rows


class Batchwise:
    """Asks one list of prompts for each phase of a batch, and writes the answers to disk at once.

    Args:
        asking: what is asked, and where answers are kept.
        model: the model that is asked.
        progress: counts responses.
        failing: counts failures.
    """

    def __init__(self, asking: Asking, model: Model, progress: Progress, failing: Failing) -> None:
        self._asking, self._model, self._progress, self._failing = asking, model, progress, failing

    def answer(self, batches: Iterable[Batch]) -> Generator[Pair, None, None]:
        """Yield the prompts and responses of batches in order."""
        for batch in batches:
            self._asking.begin(batch.samples)
            yield from _rows(self._asking.phases(batch.samples), partial(self._answer_phase, batch))
            self._asking.end(batch.samples)

    def _answer_phase(self, batch: Batch, phase: Phase) -> list[Response]:
        self._progress.name(batch, phase.conditions)
        responses = self._respond(phase.to_ask)
        new = [*phase.failed, *zip(phase.to_ask, responses, strict=True)]
        self._asking.keep(new)
        self._progress.add(Counted.of(len(phase.known), new))
        self._failing.check()
        return responses

    def _respond(self, prompts: Sequence[Prompt]) -> list[Response]:
        """Ask the model; prompts that raise are asked again in smaller parts, down to the single culprits."""
        if not prompts:
            return []
        method = f"{type(self._model).__name__}.respond"
        try:
            responses = self._model.respond(prompts)
        except Exception as error:
            if self._asking.plan.on_error == "raise" or isinstance(error, RefusedError):
                error.add_note(
                    f"in {method}, first of {len(prompts)} prompts: "
                    f"sample {prompts[0].sample.id!r}, condition {prompts[0].condition!r}"
                )
                raise
            if len(prompts) == 1:
                return self._counted(prompts, [Response.failed(prompts[0], error)])
            by_sample = [list(group) for _, group in groupby(prompts, key=lambda prompt: prompt.sample.id)]
            parts = by_sample if len(by_sample) > 1 else [[prompt] for prompt in prompts]
            return [response for part in parts for response in self._part(part)]
        if not isinstance(responses, list | tuple):
            raise TypeError(f"{method}: expected a list of responses, got {type(responses).__name__}")
        if len(responses) != len(prompts):
            raise ValueError(f"{method}: expected one response per prompt ({len(prompts)}), got {len(responses)}")
        for position, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
            checked(response, prompt, method, f" at position {position}")
        on_error = self._asking.plan.on_error
        pairs = zip(prompts, responses, strict=True)
        return self._counted(prompts, [possible(response, prompt, method, on_error) for prompt, response in pairs])

    def _part(self, prompts: Sequence[Prompt]) -> list[Response]:
        """Ask a part of the prompts that raised, unless the run is over; answers are written to disk before it ends."""
        if self._failing.is_over:
            return [Response.failed(prompt, "not asked: all before it failed for one reason") for prompt in prompts]
        return self._respond(prompts)

    def _counted(self, prompts: Sequence[Prompt], responses: list[Response]) -> list[Response]:
        for prompt, response in zip(prompts, responses, strict=True):
            if not self._failing.is_over:
                self._failing.count(prompt, response)
        return responses


@dataclass(slots=True, eq=False)
class _Unfinished:
    """A sample that is not fully answered, or whose rows wait for those of an earlier one.

    Attributes:
        sample: the sample.
        phases: its phases.
        to_ask: the prompts of the current phase.
        answers: the answers to them so far, by position.
        rows: its prompts and responses; None = not all are there.
    """

    sample: Sample
    phases: Phases
    to_ask: Sequence[Prompt] = ()
    answers: dict[int, Response] = field(default_factory=dict)
    rows: list[Pair] | None = None


class Queue:
    """Keeps a concurrent model full, across samples and batches.

    Memory is bounded: a sample is begun only while fewer than `2 · concurrency` prompts are in flight and fewer than
    10,000 rows wait for an earlier one. A prompt does not hold its images, but knows how to make them.

    Args:
        asking: what is asked, and where answers are kept.
        model: the model that is asked.
        progress: counts responses.
        failing: counts failures.

    Raises:
        ValueError: the model's `concurrency` is below 1.
    """

    def __init__(self, asking: Asking, model: ConcurrentModel, progress: Progress, failing: Failing) -> None:
        self._asking, self._model, self._progress, self._failing = asking, model, progress, failing
        self._method = f"{type(model).__name__}.ask"
        if model.concurrency < 1:
            raise ValueError(f"{type(model).__name__}.concurrency: expected at least 1, got {model.concurrency}")
        self._unfinished: deque[_Unfinished] = deque()  # in the plan's order
        self._in_flight: dict[Future[Response], tuple[_Unfinished, int]] = {}
        self._arrived: SimpleQueue[Future[Response]] = SimpleQueue()
        self._unsaved: list[Pair] = []

    def answer(self, batches: Iterable[Batch]) -> Generator[Pair, None, None]:
        """Yield the prompts and responses of batches in order, while later ones are answered.

        However it ends (an error, an interrupt, the caller), prompts that were not begun are cancelled, those in flight
        are not waited for, and every answer that has come is on disk.
        """
        try:
            for batch in batches:
                self._asking.begin(batch.samples)
                self._progress.name(batch, self._asking.plan.conditions)
                for sample in batch.samples:
                    while not self._has_room():
                        yield from self._next_rows()
                    self._begin(sample)
            while self._unfinished:
                yield from self._next_rows()
        finally:
            self._close()

    def _has_room(self) -> bool:
        plan, busy = self._asking.plan, len(self._in_flight)
        waiting = len(self._unfinished) * len(plan.conditions) * plan.draws - busy
        return busy < _AHEAD * self._model.concurrency and waiting < _MOST_ROWS

    def _begin(self, sample: Sample) -> None:
        one = _Unfinished(sample, self._asking.phases([sample]))
        self._unfinished.append(one)
        self._advance(one)

    def _next_rows(self) -> Iterator[Pair]:
        """Wait for an answer, if one is due; take all that have come, and yield the rows whose turn it is."""
        answered = self._take_answers() if self._in_flight else []
        self._save()
        self._failing.check()
        for one in answered:
            responses = [one.answers[place] for place in range(len(one.to_ask))]
            one.answers = {}
            self._advance(one, responses)
        self._save()  # rows that stand for prompts which could not be made
        while self._unfinished and self._unfinished[0].rows is not None:
            one = self._unfinished.popleft()
            self._asking.end([one.sample])
            yield from one.rows or ()

    def _advance(self, one: _Unfinished, responses: Sequence[Response] | None = None) -> None:
        """Ask a sample's next phase that has prompts to ask; after its last one, set its rows."""
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
            self._in_flight[future] = one, place
            future.add_done_callback(self._arrived.put)

    def _count(self, phase: Phase) -> None:
        self._unsaved += phase.failed
        self._progress.add(Counted.of(len(phase.known), phase.failed))

    def _ask(self, prompt: Prompt) -> Future[Response]:
        try:
            future = self._model.ask(prompt)
        except Exception as error:  # noqa: BLE001 - handled where the answer would have been
            future = Future()
            future.set_exception(error)
        if not isinstance(future, Future):
            raise TypeError(f"{self._method}: expected a concurrent.futures.Future, got {type(future).__name__}")
        return future

    def _take_answers(self) -> list[_Unfinished]:
        """Take the answers that have come, waiting for at least one; return the samples whose phase is answered."""
        arrived = [self._arrived.get()]
        with suppress(Empty):
            while True:
                arrived.append(self._arrived.get_nowait())
        finished, answered = [], []
        for future in arrived:
            one, place = self._in_flight[future]
            one.answers[place] = response = self._response(one.to_ask[place], future)
            del self._in_flight[future]
            answered.append((one.to_ask[place], response))
            self._unsaved.append(answered[-1])
            if not self._failing.is_over:
                self._failing.count(one.to_ask[place], response)
            if len(one.answers) == len(one.to_ask):
                finished.append(one)
        self._progress.add(Counted.of(0, answered))
        return finished

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

    def _save(self) -> None:
        if self._unsaved:
            self._asking.keep(self._unsaved)
            self._unsaved = []

    def _close(self) -> None:
        """Cancel prompts that were not begun, and keep answers that were not taken yet."""
        for future in self._in_flight:
            future.cancel()
        for future, (one, place) in self._in_flight.items():
            if future.done() and not future.cancelled() and future.exception() is None:
                with suppress(Exception):  # what is no response is asked again
                    self._unsaved.append((one.to_ask[place], self._response(one.to_ask[place], future)))
        self._in_flight = {}
        self._save()
