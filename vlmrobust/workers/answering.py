"""Get and validate the model's responses to the batches of a run, one list of prompts at a time or concurrently.

`ConcurrentAnswering` never waits for a single slow prompt:

    plan     sample 1          sample 2          sample 3          sample 4 …
    sent     ■ ■ ■ ■ □ ■ ■ ■   ■ ■ □ ■ ■ ■ ■ □   □ □ ■ □ □ □ □ □   the next one, as soon as there is capacity

Responses (■) arrive in any order and are written to disk at once; rows are yielded in the plan's order. One thread
creates prompts, writes and yields; the model decides how responses are computed. Responses that arrive during a write
are written together afterwards, so that a slow disk costs one wait for all of them.
"""

import math
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from queue import Empty, SimpleQueue
from typing import Any

from ..models.base import ConcurrentModel, Model, RefusedError, expect, is_concurrent
from ..store import RunDirectory
from ..types import Prompt, Response, Sample
from ..types.frozen import named_errors
from .plan import Failure, Pair, Phase, Phases, PromptSource, RunPlan, SampleBatch
from .progress import FailureStreak, Progress, ResponseCounts

__all__ = ["BatchAnswering", "ConcurrentAnswering", "answer_batches", "recorded_responses"]

_PROMPTS_PER_SLOT = 2  # prompts in flight per unit of concurrency, so that no slot runs idle
_MAX_WAITING_ROWS = 10_000  # rows in memory that wait for an earlier one
_ROUNDING = 0.05  # tolerance for the sum of the letters' probabilities in half precision


def answer_batches(
    plan: RunPlan,
    model: Model,
    batches: Sequence[SampleBatch],
    directory: RunDirectory | None,
    progress: Progress | None = None,
    streak: FailureStreak | None = None,
) -> Generator[Pair, None, None]:
    """Get responses that are not on disk, and yield all prompts and responses of batches in the plan's order.

    Without a directory nothing is recorded. `streak` counts failures across several calls; None = only in this call.
    """
    source, progress = PromptSource(plan, directory), progress or Progress(0, shown=False)
    streak = streak or FailureStreak(plan.max_failures)
    expect(model, sum(plan.size(batch.samples) for batch in batches), plan.style)
    if is_concurrent(model):
        return ConcurrentAnswering(source, model, progress, streak).answer(batches)
    return BatchAnswering(source, model, progress, streak).answer(batches)


def recorded_responses(plan: RunPlan, samples: Sequence[Sample], directory: RunDirectory) -> Iterator[Pair]:
    """Yield the prompts and responses of a finished run, by sample, condition and draw.

    Raises:
        LookupError: a response is missing.
    """
    source = PromptSource(plan, directory, final=True)
    for batch in plan.batches(samples):
        source.begin(batch.samples)
        yield from _rows(source.phases(batch.samples), lambda phase: [])
        source.end(batch.samples)


def _rows(phases: Phases, answer: Callable[[Phase], Sequence[Response]]) -> list[Pair]:
    """Answer phases one after another, and return the resulting rows."""
    try:
        phase = next(phases)
        while True:
            phase = phases.send(answer(phase))
    except StopIteration as ended:
        rows: list[Pair] = ended.value
        return rows


class BatchAnswering:
    """Sends the prompts of a batch's phase as one list, and records the responses at once."""

    def __init__(self, source: PromptSource, model: Model, progress: Progress, streak: FailureStreak) -> None:
        self._source, self._model, self._progress, self._streak = source, model, progress, streak

    def answer(self, batches: Iterable[SampleBatch]) -> Generator[Pair, None, None]:
        """Yield the prompts and responses of batches in order."""
        for batch in batches:
            self._source.begin(batch.samples)
            yield from _rows(self._source.phases(batch.samples), partial(self._answer_phase, batch))
            self._source.end(batch.samples)

    def _answer_phase(self, batch: SampleBatch, phase: Phase) -> list[Response]:
        self._progress.name(batch, phase.conditions)
        responses = self._respond(phase.to_ask)
        new = [*phase.failed, *zip(phase.to_ask, responses, strict=True)]
        self._source.record(new)
        self._progress.add(ResponseCounts.of(len(phase.known), new))
        self._streak.check()
        return responses

    def _respond(self, prompts: Sequence[Prompt]) -> list[Response]:
        """Call the model; after an exception, retry in smaller parts to isolate the prompts that cause it."""
        if not prompts:
            return []
        method = f"{type(self._model).__name__}.respond"
        try:
            responses = self._model.respond(prompts)
        except Exception as error:
            if self._source.plan.on_error == "raise" or isinstance(error, RefusedError):
                error.add_note(
                    f"in {method}, first of {len(prompts)} prompts: "
                    f"sample {prompts[0].sample.id!r}, condition {prompts[0].condition!r}"
                )
                raise
            if len(prompts) == 1:
                return self._count_failures(prompts, [Response.failed(prompts[0], error)])
            by_sample = [list(group) for _, group in groupby(prompts, key=lambda prompt: prompt.sample.id)]
            parts = by_sample if len(by_sample) > 1 else [[prompt] for prompt in prompts]
            return [response for part in parts for response in self._respond_to_part(part)]
        if not isinstance(responses, list | tuple):
            raise TypeError(f"{method}: expected a list of responses, got {type(responses).__name__}")
        if len(responses) != len(prompts):
            raise ValueError(f"{method}: expected one response per prompt ({len(prompts)}), got {len(responses)}")
        for position, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
            check_response(response, prompt, method, f" at position {position}")
        on_error = self._source.plan.on_error
        pairs = zip(prompts, responses, strict=True)
        return self._count_failures(
            prompts, [validate_response(response, prompt, method, on_error) for prompt, response in pairs]
        )

    def _respond_to_part(self, prompts: Sequence[Prompt]) -> list[Response]:
        """Retry a part of the prompts, unless the run is about to end; it ends after responses are recorded."""
        if self._streak.is_exceeded:
            return [Response.failed(prompt, "not asked: all before it failed for one reason") for prompt in prompts]
        return self._respond(prompts)

    def _count_failures(self, prompts: Sequence[Prompt], responses: list[Response]) -> list[Response]:
        for prompt, response in zip(prompts, responses, strict=True):
            if not self._streak.is_exceeded:
                self._streak.count(prompt, response)
        return responses


@dataclass(slots=True, eq=False)
class _PendingSample:
    """A sample without all responses, or whose rows wait for those of an earlier sample.

    `to_ask` are the prompts of the current phase, and `answers` the responses to them so far, by position.
    """

    sample: Sample
    phases: Phases
    to_ask: Sequence[Prompt] = ()
    answers: dict[int, Response] = field(default_factory=dict)
    rows: list[Pair] | None = None  # None = not complete


class ConcurrentAnswering:
    """Keeps a concurrent model busy across samples and batches.

    Memory is bounded: a sample is started only while fewer than `2 · concurrency` prompts are in flight and fewer than
    10,000 rows wait for an earlier one. Prompts create their images on demand.

    Raises:
        ValueError: the model's `concurrency` is below 1.
    """

    def __init__(self, source: PromptSource, model: ConcurrentModel, progress: Progress, streak: FailureStreak) -> None:
        self._source, self._model, self._progress, self._streak = source, model, progress, streak
        self._method = f"{type(model).__name__}.ask"
        if model.concurrency < 1:
            raise ValueError(f"{type(model).__name__}.concurrency: expected at least 1, got {model.concurrency}")
        self._unfinished: deque[_PendingSample] = deque()  # in the plan's order
        self._in_flight: dict[Future[Response], tuple[_PendingSample, int]] = {}
        self._completed: SimpleQueue[Future[Response]] = SimpleQueue()
        self._unsaved: list[Pair] = []

    def answer(self, batches: Iterable[SampleBatch]) -> Generator[Pair, None, None]:
        """Yield the prompts and responses of batches in order, while later ones are being answered.

        However it ends (an error, an interrupt, the caller), pending prompts are cancelled, running ones are not waited
        for, and every response received is on disk.
        """
        try:
            for batch in batches:
                self._source.begin(batch.samples)
                self._progress.name(batch, self._source.plan.conditions)
                for sample in batch.samples:
                    while not self._has_capacity():
                        yield from self._next_rows()
                    self._unfinished.append(_PendingSample(sample, self._source.phases([sample])))
                    self._advance(self._unfinished[-1])
            while self._unfinished:
                yield from self._next_rows()
        finally:
            self._close()

    def _has_capacity(self) -> bool:
        plan, busy = self._source.plan, len(self._in_flight)
        waiting = len(self._unfinished) * len(plan.conditions) * plan.draws - busy
        return busy < _PROMPTS_PER_SLOT * self._model.concurrency and waiting < _MAX_WAITING_ROWS

    def _next_rows(self) -> Iterator[Pair]:
        """Wait for a response if any is in flight, process all that have arrived, and yield the rows that are next."""
        answered = self._take_answers() if self._in_flight else []
        self._save()
        self._streak.check()
        for pending in answered:
            responses = [pending.answers[place] for place in range(len(pending.to_ask))]
            pending.answers = {}
            self._advance(pending, responses)
        self._save()  # failures of prompts that could not be created
        while self._unfinished and self._unfinished[0].rows is not None:
            pending = self._unfinished.popleft()
            self._source.end([pending.sample])
            yield from pending.rows or ()

    def _advance(self, pending: _PendingSample, responses: Sequence[Response] | None = None) -> None:
        """Send the prompts of a sample's next phase that has any; after the last phase, set its rows."""
        try:
            phase = next(pending.phases) if responses is None else pending.phases.send(responses)
            self._count(phase)
            while not phase.to_ask:
                phase = pending.phases.send([])
                self._count(phase)
        except StopIteration as ended:
            pending.rows = ended.value
            return
        pending.to_ask = phase.to_ask
        for place, prompt in enumerate(phase.to_ask):
            future = self._ask(prompt)
            self._in_flight[future] = pending, place
            future.add_done_callback(self._completed.put)

    def _count(self, phase: Phase) -> None:
        self._unsaved += phase.failed
        self._progress.add(ResponseCounts.of(len(phase.known), phase.failed))

    def _ask(self, prompt: Prompt) -> Future[Response]:
        try:
            future = self._model.ask(prompt)
        except Exception as error:  # noqa: BLE001 - handled with the future's result
            future = Future()
            future.set_exception(error)
        if not isinstance(future, Future):
            raise TypeError(f"{self._method}: expected a concurrent.futures.Future, got {type(future).__name__}")
        return future

    def _take_answers(self) -> list[_PendingSample]:
        """Take the responses that have arrived, at least one; return the samples whose phase is complete."""
        completed = [self._completed.get()]
        with suppress(Empty):
            while True:
                completed.append(self._completed.get_nowait())
        finished, answered = [], []
        for future in completed:
            pending, place = self._in_flight[future]
            pending.answers[place] = response = self._response(pending.to_ask[place], future)
            del self._in_flight[future]
            answered.append((pending.to_ask[place], response))
            self._unsaved.append(answered[-1])
            if not self._streak.is_exceeded:
                self._streak.count(pending.to_ask[place], response)
            if len(pending.answers) == len(pending.to_ask):
                finished.append(pending)
        self._progress.add(ResponseCounts.of(0, answered))
        return finished

    def _response(self, prompt: Prompt, future: Future[Response]) -> Response:
        on_error = self._source.plan.on_error
        try:
            response = future.result()
        except Exception as error:
            if on_error == "raise" or isinstance(error, RefusedError):
                error.add_note(f"in {self._method}, sample {prompt.sample.id!r}, condition {prompt.condition!r}")
                raise
            return Response.failed(prompt, error)
        return validate_response(check_response(response, prompt, self._method), prompt, self._method, on_error)

    def _save(self) -> None:
        if self._unsaved:
            self._source.record(self._unsaved)
            self._unsaved = []

    def _close(self) -> None:
        """Cancel pending prompts, and record responses that were not taken yet."""
        for future in self._in_flight:
            future.cancel()
        for future, (pending, place) in self._in_flight.items():
            if future.done() and not future.cancelled() and future.exception() is None:
                with suppress(Exception):  # an invalid response is requested again
                    self._unsaved.append((pending.to_ask[place], self._response(pending.to_ask[place], future)))
        self._in_flight = {}
        self._save()


def check_response(response: Any, prompt: Prompt, method: str, place: str = "") -> Response:
    """Return what a method such as "HFModel.respond" returned for a prompt, at a place such as " at position 3".

    Raises:
        TypeError, ValueError: it is not a response, belongs to another prompt, or does not fit the sample.
    """
    if not isinstance(response, Response):
        raise TypeError(f"{method}: expected a Response{place}, got {type(response).__name__}")
    key = tuple(vars(response).get(field) for field in ("sample_id", "condition", "draw"))
    if key != prompt.key:
        raise ValueError(f"{method}: expected the response to {prompt.key}{place}, got {key}")
    where = f"{method}: sample {prompt.sample.id!r}, condition {prompt.condition!r}"
    count, logprobs = len(prompt.sample.options), response.option_logprobs
    if isinstance(logprobs, Sequence) and len(logprobs) != count:
        raise ValueError(
            f"{where}, field 'option_logprobs': expected {count} values, one per option of the sample, "
            f"got {len(logprobs)}"
        )
    if isinstance(response.answer, int) and not 0 <= response.answer < count:
        raise ValueError(
            f"{where}, field 'answer': expected an index of the sample's options (0 to {count - 1}), "
            f"got {response.answer}"
        )
    return response


def validate_response(response: Response, prompt: Prompt, method: str, on_error: Failure) -> Response:
    """Return a response, or a failed response if its values are invalid, such as NaN for a letter.

    All fields are validated, as `model_construct` and `model_copy` bypass validation.

    Raises:
        ValueError: the response is invalid and `on_error` is "raise".
    """

    def validated() -> Response:
        return type(response)(**vars(response))

    try:
        valid: Response = named_errors(f"sample {prompt.sample.id!r}, condition", prompt.condition, validated)
        check_response(valid, prompt, method)  # validation may have converted text to an index out of range
        problem = _letters_problem(valid)
        if problem is None:
            return valid
        problem = f"sample {prompt.sample.id!r}, condition {prompt.condition!r}, field 'option_logprobs': {problem}"
    except ValueError as invalid:
        problem = str(invalid)
    error = ValueError(f"{method}: {problem}")
    if on_error == "raise":
        raise error
    return Response.failed(prompt, error)


def _letters_problem(response: Response) -> str | None:
    """Return what is invalid in a model's letter probabilities; those in other tools' logs are not checked."""
    numbers = (*(response.option_logprobs or ()), *response.added_logprobs)
    if not numbers:
        return None
    if any(map(math.isnan, numbers)):
        return f"expected log-probabilities, got NaN in {numbers}"
    if max(numbers) == -math.inf:
        return f"expected an option with a probability above 0, got {numbers}"
    total = math.fsum(map(math.exp, numbers))
    # Letters are mutually exclusive, but one option's text may be a prefix of another's.
    if total > 1 + _ROUNDING and not (response.readout or "").startswith("option_text"):
        return f"expected probabilities that sum to at most 1, got {total:.3g}"
    return None
