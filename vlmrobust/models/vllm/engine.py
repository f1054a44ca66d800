"""Run vLLM's engine on its own thread, which takes prompts as they come and returns futures.

    ask ──▶ jobs ──▶ [ start · step · step · start · step … ] ──▶ futures

Only this thread uses the engine: it starts jobs while there is room, and resumes those whose requests a step has
finished. A job is a generator: it yields requests, receives their outputs, may yield more, and returns its result.
"""

import threading
import weakref
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ...secrecy import error_text
from ..base import RefusedError
from ..encoding import EncodingError
from .starting import ErrorLog

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Flow", "Output", "Request", "VLLMEngine"]

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Request:
    """A request to the engine.

    Attributes:
        tokens: the prompt's tokens, with one placeholder per image.
        images: the decoded images, in order.
        hashes: the images' hashes, by which the engine caches their encodings.
        sampling: arguments of `SamplingParams`.
    """

    tokens: Sequence[int]
    images: "Sequence[Image]"
    hashes: Sequence[str]
    sampling: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Output:
    """The output of a request.

    Attributes:
        prompt: the prompt's tokens, with all placeholders of each image.
        tokens: the generated tokens.
        stopped: whether the text ended by itself, not at a limit.
        logprobs: per generated token, log-probabilities (nats) by token; empty = not requested.
        prompt_logprobs: the same for the prompt's tokens; None for those without.
    """

    prompt: Sequence[int]
    tokens: list[int]
    stopped: bool
    logprobs: Sequence[Mapping[int, Any]] = ()
    prompt_logprobs: Sequence[Mapping[int, Any] | None] = ()

    @classmethod
    def of(cls, output: Any) -> "Output":
        """Read vLLM's `RequestOutput`."""
        [completion] = output.outputs
        return cls(
            prompt=output.prompt_token_ids or (),
            tokens=list(completion.token_ids),
            stopped=completion.finish_reason == "stop",
            logprobs=completion.logprobs or (),
            prompt_logprobs=output.prompt_logprobs or (),
        )


Flow = Generator[Sequence[Request], Sequence[Output], Result]
"""A job's generator: it yields requests, receives their outputs in the same order, and returns its result."""


@dataclass(eq=False, slots=True)
class _Job(Generic[Result]):
    """A flow in progress, with the number of missing outputs and those so far."""

    future: Future[Result]
    make: Callable[[], Flow[Result]]
    flow: Flow[Result] | None = None
    pending: int = 0
    outputs: list[Output | None] = field(default_factory=list)


_Jobs = SimpleQueue[_Job[Any] | None]


class VLLMEngine:
    """Runs jobs, as many at a time as the engine has room for; shut down when garbage-collected.

    Args:
        llm: vLLM's `LLM`.
        lora: the adapter's `LoRARequest`; None = none.
        failures: log of the errors of the engine's processes.
        places: maximum number of requests that the engine computes at a time.
    """

    def __init__(self, llm: Any, lora: Any, failures: ErrorLog, places: int) -> None:
        self._jobs: _Jobs = SimpleQueue()
        driver = _Driver(llm, lora, failures, self._jobs, places)
        thread = threading.Thread(target=driver.run, name="vlmrobust-vllm", daemon=True)
        self._end = weakref.finalize(self, _shut, self._jobs, thread)
        thread.start()

    def submit(self, make: Callable[[], Flow[Result]]) -> Future[Result]:
        """Return the future of a flow's result; the flow starts on the engine's thread when there is room.

        Args:
            make: creates the flow. It should reference the owner of this engine, so that a queued job keeps it alive.
        """
        future: Future[Result] = Future()
        if not self._end.alive:
            raise RefusedError("expected a running vLLM engine, got one that was closed")
        self._jobs.put(_Job(future, make))
        return future

    def close(self) -> None:
        """Shut the engine down; unfinished jobs are refused."""
        self._end()


def _shut(jobs: _Jobs, thread: threading.Thread) -> None:
    jobs.put(None)
    if thread is not threading.current_thread():  # the engine's thread may hold the last reference
        thread.join()  # so that memory is free for another engine when this returns


class _Driver:
    """The loop of the engine's thread; holds no reference to `VLLMEngine`, which it would keep alive."""

    def __init__(self, llm: Any, lora: Any, failures: ErrorLog, jobs: _Jobs, places: int) -> None:
        self._llm, self._lora, self._failures, self._jobs = llm, lora, failures, jobs
        self._most = places + max(8, places // 4)  # a few more than fit, so that the next one is ready at once
        self._waiting: dict[str, tuple[_Job[Any], int]] = {}
        self._failure: RefusedError | None = None
        self._is_closed = False

    def run(self) -> None:
        finished = threading.Event()
        core = self._llm.llm_engine.engine_core
        threading.Thread(target=_watch, args=(core, finished), name="vlmrobust-vllm-watch", daemon=True).start()
        while not self._is_closed:
            self._start_jobs()
            if self._waiting and not self._is_closed:
                self._step()
        self._refuse(RefusedError("vLLM's engine was closed before the prompt was answered"))
        finished.set()
        core.shutdown()
        self._failures.close()

    def _start_jobs(self) -> None:
        """Start jobs while there is room; wait for one if there is nothing else to do."""
        while len(self._waiting) < self._most and not self._is_closed:
            try:
                job = self._jobs.get(block=not self._waiting)
            except Empty:
                return
            if job is None:
                self._is_closed = True
            elif job.future.set_running_or_notify_cancel():
                self._advance(job)
            del job  # frees what it references

    def _step(self) -> None:
        try:
            outputs = self._llm.llm_engine.step()
        except Exception as error:  # noqa: BLE001 - after any error the engine is unreliable
            self._failure = self._failures.death_error(error)
            self._refuse(self._failure)
            return
        for output in outputs:
            if output.finished and (found := self._waiting.pop(output.request_id, None)) is not None:
                job, place = found
                if job.future.done():
                    continue  # another of its requests was refused
                job.outputs[place] = Output.of(output)
                job.pending -= 1
                if not job.pending:
                    self._advance(job)

    def _refuse(self, error: RefusedError) -> None:
        """Refuse all jobs in progress."""
        jobs = {job for job, _ in self._waiting.values()}
        self._waiting.clear()
        for job in jobs:
            if not job.future.done():
                job.future.set_exception(error)

    def _advance(self, job: _Job[Any]) -> None:
        """Run a job until it waits for outputs, or ends."""
        try:
            if self._failure is not None:
                raise self._failure
            if job.flow is None:
                job.flow = job.make()
                requests = next(job.flow)
            else:
                outputs = [output for output in job.outputs if output is not None]
                job.outputs = []
                requests = job.flow.send(outputs)
            while (refusal := self._send(job, requests)) is not None:
                requests = job.flow.throw(refusal)
        except StopIteration as ended:
            job.future.set_result(ended.value)
        except BaseException as error:  # noqa: BLE001 - raised again by `Future.result`
            job.future.set_exception(error)

    def _send(self, job: _Job[Any], requests: Sequence[Request]) -> EncodingError | None:
        """Queue requests in the engine; return the error if vLLM refuses one."""
        from vllm import SamplingParams

        job.outputs, job.pending = [None] * len(requests), len(requests)
        for place, request in enumerate(requests):
            prompt: dict[str, Any] = {"prompt_token_ids": list(request.tokens)}
            if request.images:
                prompt["multi_modal_data"] = {"image": list(request.images)}
                prompt["multi_modal_uuids"] = {"image": list(request.hashes)}
            try:
                params = SamplingParams(**request.sampling)
                [number] = self._llm.enqueue([prompt], params, lora_request=self._lora, use_tqdm=False)
            except Exception as error:
                if type(error).__name__ == "EngineDeadError":
                    self._failure = self._failures.death_error(error)
                    raise self._failure from error
                return EncodingError(f"vLLM refused the prompt: {error_text(error)}")
            # Inside the engine, ids have a suffix; outputs have it not.
            self._waiting[str(number).partition("-")[0]] = job, place
        return None


def _watch(core: Any, finished: threading.Event) -> None:
    """Wake the thread that waits for outputs if the engine's process was killed, which vLLM does not."""
    while not finished.wait(1.0):
        try:
            core.ensure_alive()
        except Exception as error:  # noqa: BLE001 - vLLM's error, raised where outputs are awaited
            core.outputs_queue.put_nowait(error)
            return
