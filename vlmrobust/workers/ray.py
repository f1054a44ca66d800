"""Actors of a Ray cluster, each with a model of its own; batches go to whoever is free."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..report import Report
from ..secrecy import error_text
from ..store import RunDirectory
from ..types import Sample
from .answering import Answerer
from .base import Job, MakeReport, ModelSource, Workers
from .plan import Batch, Plan
from .progress import Progress

__all__ = ["RayWorkers"]

_MOST_TASKS = 10_000  # beyond that, several batches are one task; a restarted actor skips those that it had finished


@dataclass(frozen=True)
class RayWorkers(Workers):
    """Actors of Ray Data (extra `ray`) on one or many machines, which share the file system of the run directory.

    The cluster is the one that `ray.init(…)` has joined before, else a new one on this machine. An actor that dies is
    restarted, as often as it takes, and asks again what it had not recorded. An error that a model or a perturbation
    raises does not kill its actor: it is recorded or reaches the caller, as `on_error` says.

    Give the evaluator a function that returns the model, such as
    `functools.partial(vr.HFModel.from_pretrained, "Qwen/Qwen2.5-VL-7B-Instruct")`: every actor calls it once, and this
    process never. A model itself is pickled and sent to every actor, where it can be: an `OpenAIModel` cannot.

    Attributes:
        count: how many actors, each with a model.
        num_gpus: how many GPUs an actor takes, None = Ray's default, which is none.
        num_cpus: how many CPUs an actor takes, None = Ray's default.

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
            TypeError: the model, or the function that returns it, cannot be pickled.
            ImportError: Ray is not installed.
        """
        out = job.shared("all actors").absolute()
        _check_pickled(job.source)
        with Progress(job.plan.size(job.samples)) as progress:
            for answered in self._answered(job, out):
                if answered["error"]:
                    raise _cloudpickle().loads(answered["error"])
                progress.add(answered["responses"], answered["asked"])
        with RunDirectory(out) as directory:
            return job.report(make, directory)

    def _answered(self, job: Job, out: Path) -> Any:
        """Yield what `_Actor` returns for each batch, as it is answered."""
        import ray.data

        pickle = _cloudpickle()
        batches = [{"batch": pickle.dumps(batch)} for batch in job.plan.batches(job.samples)]
        actor: Any = _Actor  # Ray Data takes classes, and annotates functions
        # Ray Data restarts actors, and repeats what they were at, without limit.
        answered = ray.data.from_items(batches, override_num_blocks=min(len(batches), _MOST_TASKS)).map(
            actor,
            fn_constructor_args=(job.plan, job.source, out),
            compute=ray.data.ActorPoolStrategy(size=min(self.count, len(batches))),
            num_gpus=self.num_gpus,
            num_cpus=self.num_cpus,
        )
        return answered.iter_rows()


class _Actor:
    """Answers batches; what goes wrong is returned, since Ray would wrap what is raised in errors of its own."""

    def __init__(self, plan: Plan, source: ModelSource, out: Path) -> None:
        self._plan, self._source, self._out = plan, source, out
        self._directory: RunDirectory | None = None

    def _opened(self, samples: Sequence[Sample]) -> RunDirectory:
        """Return the directory, whose manifest gets to know what is made inert in some samples."""
        manifest = self._plan.manifest(self._source.model, samples)
        if self._directory is None or manifest.made_inert:
            self._directory = RunDirectory(self._out, manifest)
        return self._directory

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        batch: Batch = _cloudpickle().loads(row["batch"])
        progress = Progress(0, shown=False)
        try:
            answerer = Answerer(self._plan, self._source.model, self._opened(batch.samples), progress)
            responses = sum(1 for _ in answerer.answer(batch))
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller gets it
            return {"responses": 0, "asked": 0, "error": _pickled(error)}
        return {"responses": responses, "asked": progress.asked, "error": b""}


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
    """Return an error with its notes; of one that does not survive it, what it says."""
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
