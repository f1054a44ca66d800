"""Run a job on the actors of a Ray cluster, each with its own model, and send batches to idle actors."""

import math
import os
import threading
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from ..locking import DirectoryLock
from ..models.base import is_concurrent
from ..report import Report
from ..secrecy import error_text
from ..store import RunDirectory
from ..types import Sample
from .answering import answer_batches
from .plan import RunPlan, SampleBatch
from .progress import FailureStreak, Progress, ResponseCounts
from .ranks import Job, MakeReport, ModelSource, Workers

__all__ = ["RayWorkers"]

_CONCURRENT = "concurrent"  # the concurrency group of actors that process several batches at a time
_MAX_CONCURRENT_BATCHES = 64


@dataclass(frozen=True)
class RayWorkers(Workers):
    """Actors of Ray (extra `ray`) on one or many machines, which share the file system of the run directory.

    The cluster is the one joined by `ray.init(…)`, or else a new one on this machine. Actors that die are restarted
    without limit and repeat what they had not recorded. An error raised by a model or a perturbation does not kill its
    actor: it is recorded or raised in the caller, according to `on_error`.

    Give the evaluator a function that returns the model, such as
    `functools.partial(vr.HFModel.from_pretrained, "Qwen/Qwen2.5-VL-7B-Instruct")`: every actor calls it once, and this
    process never. A model object is pickled and sent to every actor if possible; an `OpenAIModel` cannot be pickled.

    Attributes:
        count: number of actors, each with a model.
        num_gpus: GPUs per actor; None = Ray's default, which is none.
        num_cpus: CPUs per actor; None = one, or Ray's default if an actor uses a GPU.

    Raises:
        ValueError: `count` is below 1.

    Example:
        >>> RayWorkers(count=64, num_gpus=1)
        RayWorkers(count=64, num_gpus=1, num_cpus=None)
    """

    count: int
    num_gpus: float | None = None
    num_cpus: float | None = None

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"field 'count': expected at least 1, got {self.count}")

    def run(self, job: Job, make: MakeReport) -> Report:
        """See `Workers.run`.

        Raises:
            ValueError: there is no run directory.
            DirectoryInUseError: another run is using it.
            TypeError: the model, or the function that returns it, cannot be pickled.
            ImportError: Ray is not installed.
        """
        out = job.shared("all actors").absolute()
        _check_pickled(job.source)
        with DirectoryLock(out) as lock:
            try:
                with (
                    Progress(job.plan.size(job.samples), every=job.progress_every) as progress,
                    closing(self._answered(job, out, lock.run)) as batches,
                ):
                    for batch in batches:
                        progress.add(ResponseCounts(*batch["counts"]))
            finally:
                lock.await_others()  # until Ray has killed them, actors hold the lock and block the next run
            with RunDirectory(out) as directory:
                return job.report(make, directory)

    def _answered(self, job: Job, out: Path, run: str) -> Generator[dict[str, Any], None, None]:
        """Yield the results of `_Actor.__call__` for the batches, in order of completion."""
        import ray

        pickle = _cloudpickle()
        batches = job.plan.batches(job.samples)
        unsent, unfinished = iter(batches), len(batches)
        remote: Any = ray.remote  # its annotations lack concurrency groups
        actor_class = remote(concurrency_groups={_CONCURRENT: _MAX_CONCURRENT_BATCHES})(_Actor)
        # Unlimited restarts of actors and retries of their calls.
        settings: dict[str, Any] = {"max_restarts": -1, "max_task_retries": -1, "scheduling_strategy": "SPREAD"}
        num_cpus = 1 if self.num_gpus is None and self.num_cpus is None else self.num_cpus
        settings |= {"num_gpus": self.num_gpus, "num_cpus": num_cpus}
        source = ray.put(job.source)  # once for all actors, as weights may be large
        actors = [actor_class.options(**settings).remote(job.plan, source, out, run) for _ in batches[: self.count]]
        try:
            # Pending calls; an actor that is never scheduled does not delay others.
            pending = {actor.capacity.remote(): actor for actor in actors}
            while unfinished:
                [call], _ = ray.wait(list(pending), num_returns=1)
                actor, result = pending.pop(call), ray.get(call)
                if result["error"]:
                    raise pickle.loads(result["error"])
                method = actor.__call__
                if result["concurrent"]:
                    method = method.options(concurrency_group=_CONCURRENT)
                for batch in islice(unsent, result["capacity"]):
                    pending[method.remote({"batch": pickle.dumps(batch)})] = actor
                if "counts" in result:
                    unfinished -= 1
                    yield result
        finally:
            for actor in actors:
                ray.kill(actor)


class _Actor:
    """Processes batches; returns errors, as Ray would wrap raised ones in its own classes.

    A concurrent model gets batches from several threads at a time, so that it does not run idle at the end of each; any
    other model gets them one after another from a single thread.
    """

    def __init__(self, plan: RunPlan, source: ModelSource, out: Path, run: str) -> None:
        self._plan, self._source, self._out = plan, source, out
        self._directory_lock = DirectoryLock(out, run).__enter__()  # until the actor ends
        self._streak = FailureStreak(plan.max_failures)
        self._lock = threading.Lock()
        self._directory: RunDirectory | None = None

    def _opened(self, samples: Sequence[Sample]) -> RunDirectory:
        """Return the directory, whose manifest lists the text made inert in the samples."""
        if self._directory is None:
            self._directory = RunDirectory(self._out, self._plan.manifest(self._source.model, samples, self._out))
        elif acting := self._plan.acting(self._source.model, samples):
            self._directory.join(self._directory.manifest.replace(made_inert=acting))
        return self._directory

    def capacity(self) -> dict[str, Any]:
        """Return the initial number of batches to send, `capacity`, and whether they run concurrently."""
        try:
            model = self._source.model
        except Exception as error:  # noqa: BLE001 - passed on to the caller
            return {"error": _pickled(error)}
        if not is_concurrent(model):
            return {"error": b"", "capacity": 1, "concurrent": False}
        # Twice the model's concurrency, as in one process, plus a batch that is about to finish.
        batches = math.ceil(2 * model.concurrency / self._plan.batch_prompts) + 1
        return {"error": b"", "capacity": min(batches, _MAX_CONCURRENT_BATCHES), "concurrent": True}

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        batch: SampleBatch = _cloudpickle().loads(row["batch"])
        progress = Progress(0, shown=False)
        try:
            with self._lock:  # after a restart, several threads may be the first
                model, directory = self._source.model, self._opened(batch.samples)
            with closing(answer_batches(self._plan, model, [batch], directory, progress, self._streak)) as rows:
                for _ in rows:
                    pass
        except Exception as error:  # noqa: BLE001 - passed on to the caller
            return {"error": _pickled(error)}
        counts = tuple(progress.counts)
        return {"error": b"", "capacity": 1, "concurrent": is_concurrent(model), "counts": counts}


def _check_pickled(source: ModelSource) -> None:
    """Raise TypeError if a model cannot be sent to actors, before a cluster is started."""
    pickle = _cloudpickle()
    try:
        with Path(os.devnull).open("wb") as nowhere:  # weights may be too large for a copy in memory
            pickle.dump(source, nowhere)
    except Exception as error:
        raise TypeError(
            f"expected a model that can be pickled and sent to every actor, got {source.name}, which cannot; pass a "
            "function that returns the model instead, such as functools.partial(MyModel, ...), which every actor calls"
        ) from error


def _pickled(error: Exception) -> bytes:
    """Return a pickled error with its notes; for one that cannot be pickled, a stand-in with its message."""
    pickle = _cloudpickle()
    try:
        pickled: bytes = pickle.dumps(error)
        pickle.loads(pickled)
    except Exception:  # noqa: BLE001 - pickling may raise anything
        stand_in = RuntimeError(error_text(error))
        for note in getattr(error, "__notes__", ()):
            stand_in.add_note(note)
        return bytes(pickle.dumps(stand_in))
    return pickled


def _cloudpickle() -> Any:
    from ray import cloudpickle

    return cloudpickle
