"""Run a job on the actors of a Ray cluster, each with its own model; batches go to whichever actor is free."""

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
from .answering import answered
from .failures import Failing
from .plan import Batch, Plan
from .processes import Job, MakeReport, ModelSource, Workers
from .progress import Counted, Progress

__all__ = ["RayWorkers"]

_SEVERAL = "several"  # Ray's name for the threads of an actor that answers several batches at a time
_MOST_AT_ONCE = 64


@dataclass(frozen=True)
class RayWorkers(Workers):
    """Actors of Ray (extra `ray`) on one or many machines, which share the file system of the run directory.

    The cluster is the one that `ray.init(…)` has joined before, else a new one on this machine. An actor that dies is
    restarted, as often as necessary, and asks again what it had not recorded. An error that a model or a perturbation
    raises does not kill its actor: it is recorded or reaches the caller, as `on_error` says.

    Give the evaluator a function that returns the model, such as
    `functools.partial(vr.HFModel.from_pretrained, "Qwen/Qwen2.5-VL-7B-Instruct")`: every actor calls it once, and this
    process never. A model itself is pickled and sent to every actor, where it can be: an `OpenAIModel` cannot.

    Attributes:
        count: number of actors, each with a model.
        num_gpus: GPUs per actor; None = Ray's default, which is none.
        num_cpus: CPUs per actor; None = one, or Ray's default where an actor takes a GPU.

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
            DirectoryInUseError: another run is at work in it.
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
                        progress.add(Counted(*batch["counted"]))
            finally:
                lock.await_others()  # Ray kills actors in its own time, and they keep the next run out until then
            with RunDirectory(out) as directory:
                return job.report(make, directory)

    def _answered(self, job: Job, out: Path, run: str) -> Generator[dict[str, Any], None, None]:
        """Yield what `_Actor` returns for each batch, as it is answered."""
        import ray

        pickle = _cloudpickle()
        batches = job.plan.batches(job.samples)
        rest, left = iter(batches), len(batches)
        remote: Any = ray.remote  # its annotations leave concurrency groups out
        kind = remote(concurrency_groups={_SEVERAL: _MOST_AT_ONCE})(_Actor)
        # Ray restarts actors, and repeats their unfinished calls, without limit.
        settings: dict[str, Any] = {"max_restarts": -1, "max_task_retries": -1, "scheduling_strategy": "SPREAD"}
        alone = 1 if self.num_gpus is None and self.num_cpus is None else self.num_cpus
        settings |= {"num_gpus": self.num_gpus, "num_cpus": alone}
        source = ray.put(job.source)  # weights may be large: once for all actors
        actors = [kind.options(**settings).remote(job.plan, source, out, run) for _ in batches[: self.count]]
        try:
            # Calls by actor; an actor that is never scheduled delays no other.
            awaited = {actor.room.remote(): actor for actor in actors}
            while left:
                [answer], _ = ray.wait(list(awaited), num_returns=1)
                actor, said = awaited.pop(answer), ray.get(answer)
                if said["error"]:
                    raise pickle.loads(said["error"])
                for batch in islice(rest, said["room"]):
                    several = actor.__call__.options(concurrency_group=_SEVERAL) if said["several"] else actor.__call__
                    awaited[several.remote({"batch": pickle.dumps(batch)})] = actor
                if "counted" in said:
                    left -= 1
                    yield said
        finally:
            for actor in actors:
                ray.kill(actor)


class _Actor:
    """Answers batches; errors are returned, since Ray would wrap raised ones in its own classes.

    A model that is asked prompt by prompt gets batches from several threads at a time, so that it does not run dry at
    the end of each; any other model gets one after another, from one thread.
    """

    def __init__(self, plan: Plan, source: ModelSource, out: Path, run: str) -> None:
        self._plan, self._source, self._out = plan, source, out
        self._directory_lock = DirectoryLock(out, run).__enter__()  # until the actor ends
        self._failing = Failing(plan.max_failures)
        self._lock = threading.Lock()
        self._directory: RunDirectory | None = None

    def _opened(self, samples: Sequence[Sample]) -> RunDirectory:
        """Return the directory, after its manifest has listed what is made inert in some samples."""
        if self._directory is None:
            self._directory = RunDirectory(self._out, self._plan.manifest(self._source.model, samples, self._out))
        elif acting := self._plan.acting(self._source.model, samples):
            self._directory.join(self._directory.manifest.replace(made_inert=acting))
        return self._directory

    def room(self) -> dict[str, Any]:
        """Return how many batches to hand over at first, `room`, and whether `several` are answered at a time."""
        try:
            model = self._source.model
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller gets it
            return {"error": _pickled(error)}
        if not is_concurrent(model):
            return {"error": b"", "room": 1, "several": False}
        # Twice as many prompts as it answers at a time, as in one process, and a batch that is about to end.
        wanted = math.ceil(2 * model.concurrency / self._plan.batch_prompts) + 1
        return {"error": b"", "room": min(wanted, _MOST_AT_ONCE), "several": True}

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        batch: Batch = _cloudpickle().loads(row["batch"])
        progress = Progress(0, shown=False)
        try:
            with self._lock:  # after a restart, several threads may be the first
                model, directory = self._source.model, self._opened(batch.samples)
            with closing(answered(self._plan, model, [batch], directory, progress, self._failing)) as rows:
                for _ in rows:
                    pass
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller gets it
            return {"error": _pickled(error)}
        several = is_concurrent(model)
        return {"error": b"", "room": 1, "several": several, "counted": tuple(progress.counted)}


def _check_pickled(source: ModelSource) -> None:
    """Raise TypeError where a model cannot be sent to actors, before a cluster is started to find out."""
    pickle = _cloudpickle()
    try:
        with Path(os.devnull).open("wb") as nowhere:  # weights may be too large for a copy in memory
            pickle.dump(source, nowhere)
    except Exception as error:
        raise TypeError(
            f"expected a model that can be pickled and sent to every actor, got {source.name}, which cannot; give a "
            "function that returns the model, such as functools.partial(MyModel, ...), and every actor calls it"
        ) from error


def _pickled(error: Exception) -> bytes:
    """Return a pickled error with its notes; for one that cannot be pickled, a stand-in with its message."""
    pickle = _cloudpickle()
    try:
        pickled: bytes = pickle.dumps(error)
        pickle.loads(pickled)
    except Exception:  # noqa: BLE001 - classes decide themselves what pickling them raises
        stand_in = RuntimeError(error_text(error))
        for note in getattr(error, "__notes__", ()):
            stand_in.add_note(note)
        return bytes(pickle.dumps(stand_in))
    return pickled


def _cloudpickle() -> Any:
    from ray import cloudpickle

    return cloudpickle
