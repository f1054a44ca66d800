"""Define the interface of workers, and run a job in this process, alone or as one of several ranks.

`Workers` processes a `Job` (plan, samples, run directory and `ModelSource`, which creates the model in each process)
and returns what `MakeReport` makes of all rows. `workers.ray` implements the same interface.

Ranks are started by torchrun or accelerate. If one dies or fails, the others, unless the launcher ends them first,
record the rest of their own batches and then raise a `RuntimeError`, without waiting for a timeout; the same call
resumes the run.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache, cached_property, partial
from itertools import count
from pathlib import Path
from typing import Any, Self

from torch import distributed

from ..locking import DirectoryInUseError, DirectoryLock, new_run
from ..manifest import Manifest
from ..models.base import Model, work_of
from ..report import Report
from ..report.files import last_report_file
from ..store import RunDirectory
from ..types import Sample
from .answering import answer_batches, recorded_responses
from .plan import Pair, RunPlan, shard
from .progress import Progress

__all__ = ["Job", "ModelSource", "Ranks", "ThisProcess", "Workers", "default_workers"]


_TIMEOUT = timedelta(days=30)  # ranks may finish far apart; a rank that dies is noticed at once


class ModelSource:
    """A model, or a function that returns one, which every process that receives the source calls for itself.

    Raises:
        TypeError: it is neither.
    """

    def __init__(self, given: Model | Callable[[], Model]) -> None:
        if not isinstance(given, Model) and not callable(given):
            raise TypeError(
                "expected a model with respond(prompts) -> list[Response], or a function that returns one, "
                f"got {type(given).__name__}"
            )
        self._given = given

    @property
    def name(self) -> str:
        """The name of the class or function, without a partial function's arguments, which may hold an API key."""
        given = self._given.func if isinstance(self._given, partial) else self._given
        return str(getattr(given, "__qualname__", type(given).__qualname__))

    @cached_property
    def model(self) -> Model:
        """The model, created when it is first needed."""
        if isinstance(self._given, Model):
            return self._given
        model = self._given()
        if not isinstance(model, Model):
            raise TypeError(
                f"{self.name}: expected it to return a model with respond(prompts) -> list[Response], "
                f"got {type(model).__name__}"
            )
        return model

    def work(self) -> Mapping[str, Any]:
        """The model's work counters in this process; empty if the model was not created here."""
        model = self._given if isinstance(self._given, Model) else vars(self).get("model")
        return {} if model is None else work_of(model)

    def __getstate__(self) -> dict[str, Any]:
        return {"_given": self._given}


@dataclass(frozen=True)
class Job:
    """A run: its plan, model, samples and directory."""

    plan: RunPlan
    source: ModelSource
    samples: Sequence[Sample]
    out: Path | None
    progress_every: float | None = 30.0  # seconds between two lines of progress without a bar; None = no lines

    def shared(self, workers: str) -> Path:
        """Return the run directory, through which several workers share their responses.

        Raises:
            ValueError: there is none.
        """
        if self.out is None:
            raise ValueError(
                f"field 'out': expected a run directory in which {workers} collect their responses, got None; use "
                "'workers=ThisProcess()' to run everything in this process"
            )
        return self.out

    def report(self, make: "MakeReport", directory: RunDirectory) -> Report:
        """Return the report of a complete run directory."""
        return make(recorded_responses(self.plan, self.samples, directory), directory.manifest)


MakeReport = Callable[[Iterable[Pair], Manifest], Report]


class Workers(ABC):
    """Processes the batches of a run."""

    @abstractmethod
    def run(self, job: Job, make: MakeReport) -> Report:
        """Get all responses that are not on disk yet, and return the report that `make` creates from all rows.

        Raises:
            DirectoryInUseError: another run is using the run directory.
        """


@dataclass(frozen=True)
class ThisProcess(Workers):
    """Processes everything in this process, even if it is one of several ranks.

    Attributes:
        of_run: the run to join, which already holds the directory's lock (`locking.DirectoryLock.run`); None = none.

    Example:
        >>> from vlmrobust import Evaluator, demo
        >>> from vlmrobust.testing import FakeModel
        >>> len(Evaluator(FakeModel(), []).run(demo.samples(3), workers=ThisProcess()))
        3
    """

    of_run: str | None = None

    def run(self, job: Job, make: MakeReport) -> Report:
        """See `Workers.run`; without a directory nothing is recorded."""
        directory = None
        with ExitStack() as stack:
            if job.out is not None:  # before the model is loaded
                stack.enter_context(DirectoryLock(job.out, self.of_run))
            manifest = job.plan.manifest(job.source.model, job.samples, job.out)
            if job.out is not None:
                directory = stack.enter_context(RunDirectory(job.out, manifest))
                manifest = directory.manifest
            progress = stack.enter_context(Progress(job.plan.size(job.samples), every=job.progress_every))
            batches = job.plan.batches(job.samples)
            rows = stack.enter_context(
                closing(answer_batches(job.plan, job.source.model, batches, directory, progress))
            )
            return make(rows, manifest)


def default_workers() -> Workers:
    """Return the workers that match how this process was launched: one of several ranks, or alone."""
    return Ranks.launched() or ThisProcess()


@dataclass(frozen=True)
class Ranks(Workers):
    """One of several processes that make the same call: rank r of w processes the batches r, r + w, r + 2w, ….

    Every rank writes its own files in the run directory, so that a run may be resumed with another number of ranks.
    Ranks synchronise twice over gloo: when all responses are recorded, and when rank 0 has saved the report, which all
    ranks return.

    Attributes:
        rank: index of this process, from 0.
        world_size: number of processes.

    Example:
        >>> Ranks(rank=1, world_size=4)
        Ranks(rank=1, world_size=4)
    """

    rank: int
    world_size: int

    @classmethod
    def launched(cls) -> Self | None:
        """Return the rank of this process, or None if it is the only one.

        It comes from `torch.distributed` if that is initialised, else from the environment variables `RANK` and
        `WORLD_SIZE`, which torchrun and accelerate set.
        """
        if distributed.is_available() and distributed.is_initialized():
            rank, world_size = distributed.get_rank(), distributed.get_world_size()
        else:
            rank, world_size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        return cls(rank, world_size) if world_size > 1 else None

    def run(self, job: Job, make: MakeReport) -> Report:
        """See `Workers.run`; every rank has to make the call.

        Raises:
            ValueError: there is no run directory.
            DirectoryInUseError: another run is using it; every rank raises this error.
            RuntimeError: another rank has died or failed.
        """
        out = job.shared("all ranks")
        with _group() as group, self._locked(group, out):
            self._answer(job, out)
            self._wait_for_all(group, out)
            if self.rank == 0:
                with RunDirectory(out) as directory:
                    report = job.report(make, directory)
            self._wait_for_all(group, out)
        return report if self.rank == 0 else _SavedReport(last_report_file(out))

    @contextmanager
    def _locked(self, group: Any, out: Path) -> Iterator[None]:
        """Lock the directory jointly: rank 0 locks it and broadcasts the run or its error to the others."""
        with ExitStack() as stack:
            message: list[Any] = [new_run(), None]
            if self.rank == 0:
                try:
                    stack.enter_context(DirectoryLock(out, message[0]))
                except DirectoryInUseError as error:
                    message[1] = str(error)
            distributed.broadcast_object_list(message, src=0, group=group)
            run, lock_error = message
            if lock_error is not None:
                raise DirectoryInUseError(lock_error)
            if self.rank > 0:
                stack.enter_context(DirectoryLock(out, run))
            yield

    def _wait_for_all(self, group: Any, out: Path) -> None:
        try:
            distributed.barrier(group)
        except RuntimeError as error:
            raise RuntimeError(
                f"rank {self.rank} of {self.world_size}: expected all ranks to get here, but one has died or failed; "
                f"all responses so far are in {out}, and the same call resumes the run"
            ) from error

    def _answer(self, job: Job, out: Path) -> None:
        share = shard(job.plan.batches(job.samples), self.rank, self.world_size)
        total = sum(job.plan.size(batch.samples) for batch in share)
        with (
            RunDirectory(out, job.plan.manifest(job.source.model, job.samples, out)) as directory,
            Progress(total, shown=self.rank == 0, every=job.progress_every) as progress,
            closing(answer_batches(job.plan, job.source.model, share, directory, progress)) as rows,
        ):
            for _ in rows:
                pass


@contextmanager
def _group() -> Iterator[Any]:
    """Yield a process group of all ranks with a long timeout, over gloo, which needs no GPU."""
    if distributed.is_initialized():
        group = distributed.new_group(backend="gloo", timeout=_TIMEOUT)
        try:
            yield group
        finally:
            distributed.destroy_process_group(group)
        return
    from torch.distributed.distributed_c10d import PrefixStore  # not in every build of torch

    store, rank, world_size, calls = _rendezvous()
    own = PrefixStore(f"vlmrobust/{next(calls)}", store)
    distributed.init_process_group("gloo", store=own, rank=rank, world_size=world_size, timeout=_TIMEOUT)
    try:
        yield distributed.group.WORLD
    finally:
        distributed.destroy_process_group()


@cache
def _rendezvous() -> tuple[Any, int, int, Iterator[int]]:
    """Return the ranks' rendezvous store, rank and world size, and a counter of the groups created with the store.

    torch reuses a group's name once the group is destroyed, and the store outlives all groups: without its own prefix,
    a second group would find the addresses of the first. Every rank makes the same calls, so counters agree.
    """
    from torch.distributed.rendezvous import rendezvous  # not in every build of torch

    store, rank, world_size = next(rendezvous("env://", timeout=_TIMEOUT))
    return store, rank, world_size, count()


class _SavedReport(Report):
    """The report saved by rank 0, loaded at first use: it may be large, and most ranks never use it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "_path" not in self.__dict__:
            raise AttributeError(name)
        vars(self).update(vars(Report.load(self.__dict__.pop("_path"))))
        return getattr(self, name)
