"""vLLM's engine on a thread of its own, which is handed prompts as they come and is never waited for.

    ask ──▶ jobs ──▶ [ begin · step · step · begin · step … ] ──▶ futures

One thread does all that concerns the engine: it begins jobs while there is room, and hands on what a step has ended. A
job is a generator: it yields requests, gets what came of them, may yield further ones, and returns its result.
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
from .starting import Failures

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Flow", "Output", "Request", "VLLMEngine"]

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Request:
    """What the engine is asked for.

    Attributes:
        tokens: of the prompt, one placeholder for each image.
        images: decoded, in their order.
        hashes: of the images: what was encoded once is known by it.
        sampling: for `SamplingParams`.
    """

    tokens: Sequence[int]
    images: "Sequence[Image]"
    hashes: Sequence[str]
    sampling: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Output:
    """What came of a request.

    Attributes:
        prompt: the prompt's tokens, as many for an image as it takes.
        tokens: that were generated.
        stopped: whether the text ended by itself, not at a limit.
        logprobs: by generated token, log-probabilities (nats) by token; empty = not asked for.
        prompt_logprobs: the same of the prompt's own tokens; None for those that have none.
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
"""What a job does: it yields requests, gets their outputs in the same order, and returns its result."""


@dataclass(eq=False, slots=True)
class _Job(Generic[Result]):
    """A flow on its way.

    Attributes:
        future: holds its result.
        make: begins it.
        flow: once it is begun.
        left: how many outputs it waits for.
        outputs: those that came.
    """

    future: Future[Result]
    make: Callable[[], Flow[Result]]
    flow: Flow[Result] | None = None
    left: int = 0
    outputs: list[Output | None] = field(default_factory=list)


_Jobs = SimpleQueue[_Job[Any] | None]


class VLLMEngine:
    """Answers jobs, as many at a time as the engine has places; it is shut down when nobody holds this any more.

    Args:
        llm: vLLM's `LLM`.
        lora: the adapter's `LoRARequest`; None = none.
        failures: tells what the engine's own processes failed with.
        places: how many requests the engine computes at a time.
    """

    def __init__(self, llm: Any, lora: Any, failures: Failures, places: int) -> None:
        self._jobs: _Jobs = SimpleQueue()
        driver = _Driver(llm, lora, failures, self._jobs, places)
        thread = threading.Thread(target=driver.run, name="vlmrobust-vllm", daemon=True)
        self._end = weakref.finalize(self, _shut, self._jobs, thread)
        thread.start()

    def submit(self, make: Callable[[], Flow[Result]]) -> Future[Result]:
        """Return what will hold a flow's result; the flow is begun, on the engine's thread, when there is room.

        Args:
            make: begins the flow. What holds the engine should be held by it, so that an engine with work is held.
        """
        future: Future[Result] = Future()
        if not self._end.alive:
            raise RefusedError("expected vLLM's engine at work, got one that was closed")
        self._jobs.put(_Job(future, make))
        return future

    def close(self) -> None:
        """Shut the engine down; what is not answered yet is refused."""
        self._end()


def _shut(jobs: _Jobs, thread: threading.Thread) -> None:
    jobs.put(None)
    if thread is not threading.current_thread():  # which may be the last that held the engine
        thread.join()  # memory is free when this returns, and another engine may want it


class _Driver:
    """What the thread does; it knows nothing of the `VLLMEngine`, or that would never be let go of."""

    def __init__(self, llm: Any, lora: Any, failures: Failures, jobs: _Jobs, places: int) -> None:
        self._llm, self._lora, self._failures, self._jobs = llm, lora, failures, jobs
        self._most = places + max(8, places // 4)  # a few more than there are places: when one ends, the next is there
        self._waiting: dict[str, tuple[_Job[Any], int]] = {}
        self._lost: RefusedError | None = None
        self._is_over = False

    def run(self) -> None:
        over = threading.Event()
        core = self._llm.llm_engine.engine_core
        threading.Thread(target=_watch, args=(core, over), name="vlmrobust-vllm-watch", daemon=True).start()
        while not self._is_over:
            self._begin_jobs()
            if self._waiting and not self._is_over:
                self._step()
        self._refuse(RefusedError("vLLM's engine was closed before the prompt was answered"))
        over.set()
        core.shutdown()
        self._failures.close()

    def _begin_jobs(self) -> None:
        """Begin jobs while there is room, waiting for one if there is nothing else to do."""
        while len(self._waiting) < self._most and not self._is_over:
            try:
                job = self._jobs.get(block=not self._waiting)
            except Empty:
                return
            if job is None:
                self._is_over = True
            elif job.future.set_running_or_notify_cancel():
                self._go_on(job)
            del job  # with what it holds

    def _step(self) -> None:
        try:
            outputs = self._llm.llm_engine.step()
        except Exception as error:  # noqa: BLE001 - whatever it is, the engine is not to be relied on any more
            self._lost = self._failures.died(error)
            self._refuse(self._lost)
            return
        for output in outputs:
            if output.finished and (found := self._waiting.pop(output.request_id, None)) is not None:
                job, place = found
                if job.future.done():
                    continue  # another of its requests was refused
                job.outputs[place] = Output.of(output)
                job.left -= 1
                if not job.left:
                    self._go_on(job)

    def _refuse(self, error: RefusedError) -> None:
        """Refuse all that is on its way."""
        jobs = {job for job, _ in self._waiting.values()}
        self._waiting.clear()
        for job in jobs:
            if not job.future.done():
                job.future.set_exception(error)

    def _go_on(self, job: _Job[Any]) -> None:
        """Let a job go on until it waits for outputs, or ends."""
        try:
            if self._lost is not None:
                raise self._lost
            if job.flow is None:
                job.flow = job.make()
                requests = next(job.flow)
            else:
                outputs = [output for output in job.outputs if output is not None]
                job.outputs = []
                requests = job.flow.send(outputs)
            while (refusal := self._ask(job, requests)) is not None:
                requests = job.flow.throw(refusal)
        except StopIteration as ended:
            job.future.set_result(ended.value)
        except BaseException as error:  # noqa: BLE001 - it is raised where the result is asked for
            job.future.set_exception(error)

    def _ask(self, job: _Job[Any], requests: Sequence[Request]) -> EncodingError | None:
        """Hand requests over; return what is wrong with one that vLLM refuses."""
        job.outputs, job.left = [None] * len(requests), len(requests)
        for place, request in enumerate(requests):
            try:
                [number] = self._enqueue(request)
            except Exception as error:
                if _is_dead(error):
                    self._lost = self._failures.died(error)
                    raise self._lost from error
                return EncodingError(f"vLLM refused the prompt: {error_text(error)}")
            # Inside the engine a number has a tail; what comes back has not.
            self._waiting[str(number).partition("-")[0]] = job, place
        return None

    def _enqueue(self, request: Request) -> list[str]:
        from vllm import SamplingParams

        prompt: dict[str, Any] = {"prompt_token_ids": list(request.tokens)}
        if request.images:
            prompt["multi_modal_data"] = {"image": list(request.images)}
            prompt["multi_modal_uuids"] = {"image": list(request.hashes)}
        params = SamplingParams(**request.sampling)
        numbers: list[str] = self._llm.enqueue([prompt], params, lora_request=self._lora, use_tqdm=False)
        return numbers


def _watch(core: Any, over: threading.Event) -> None:
    """Tell who waits for the next outputs that none will come: where the engine's process is killed, vLLM does not."""
    while not over.wait(1.0):
        try:
            core.ensure_alive()
        except Exception as error:  # noqa: BLE001 - vLLM's own, which is raised where outputs are waited for
            core.outputs_queue.put_nowait(error)
            return


def _is_dead(error: BaseException) -> bool:
    return type(error).__name__ == "EngineDeadError"
