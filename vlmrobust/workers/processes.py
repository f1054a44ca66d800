"""Run a job in this process, alone or as one of the processes that torchrun or accelerate starts."""

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
from ..report.run_report import last_report_file
from ..store import RunDirectory
from ..types import Sample
from .answering import answered, recorded
from .plan import Pair, Plan, shard
from .progress import Progress

__all__ = ["Job", "ModelSource", "Ranks", "ThisProcess", "Workers", "launched"]

_TIMEOUT = timedelta(days=30)  # one rank may finish long before another; one that dies is noticed at once


class ModelSource:
    """A model, or a function that returns one; a process that receives the source calls the function itself.

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
        """The model, made when it is first needed."""
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
        """The counts of work that the model reports for this process; empty where it was not made here."""
        made = self._given if isinstance(self._given, Model) else vars(self).get("model")
        return {} if made is None else work_of(made)

    def __getstate__(self) -> dict[str, Any]:
        return {"_given": self._given}


@dataclass(frozen=True)
class Job:
    """A run: what is asked, of which model, and where the answers are kept.

    Attributes:
        plan: what is asked.
        source: the model that is asked.
        samples: the samples that it is asked about.
        out: the run directory; None = none.
        progress_every: seconds between two lines of progress where there is no bar; None = no lines.
    """

    plan: Plan
    source: ModelSource
    samples: Sequence[Sample]
    out: Path | None
    progress_every: float | None = 30.0

    def shared(self, workers: str) -> Path:
        """Return the run directory, through which several workers share their answers.

        Raises:
            ValueError: there is none.
        """
        if self.out is None:
            raise ValueError(
                f"field 'out': expected a run directory, in which {workers} put their answers together, got None; "
                "'workers=ThisProcess()' asks everything in this process alone"
            )
        return self.out

    def report(self, make: "MakeReport", directory: RunDirectory) -> Report:
        """Report on what is in a directory in which everything was answered."""
        return make(recorded(self.plan, self.samples, directory), directory.manifest)


MakeReport = Callable[[Iterable[Pair], Manifest], Report]


class Workers(ABC):
    """Answers the batches of a run."""

    @abstractmethod
    def run(self, job: Job, make: MakeReport) -> Report:
        """Answer everything that is not on disk yet, and return the report that `make` makes of all of it.

        Raises:
            DirectoryInUseError: another run is at work in the run directory.
        """


@dataclass(frozen=True)
class ThisProcess(Workers):
    """Answers everything in this process, even where it is one of several ranks.

    Attributes:
        of_run: the run to join, which has locked the directory already (`locking.DirectoryLock.run`); None = none.

    Example:
        >>> from vlmrobust import Evaluator, demo
        >>> from vlmrobust.testing import FakeModel
        >>> len(Evaluator(FakeModel(), []).run(demo.samples(3), workers=ThisProcess()))
        3
    """

    of_run: str | None = None

    def run(self, job: Job, make: MakeReport) -> Report:
        """See `Workers.run`; without a directory nothing is kept."""
        directory = None
        with ExitStack() as stack:
            if job.out is not None:  # before a model is loaded
                stack.enter_context(DirectoryLock(job.out, self.of_run))
            manifest = job.plan.manifest(job.source.model, job.samples, job.out)
            if job.out is not None:
                directory = stack.enter_context(RunDirectory(job.out, manifest))
                manifest = directory.manifest
            progress = stack.enter_context(Progress(job.plan.size(job.samples), every=job.progress_every))
            batches = job.plan.batches(job.samples)
            rows = stack.enter_context(closing(answered(job.plan, job.source.model, batches, directory, progress)))
            return make(rows, manifest)


def launched() -> Workers:
    """Return the workers that this process was launched as: one of several ranks, or itself alone."""
    return Ranks.launched() or ThisProcess()


@dataclass(frozen=True)
class Ranks(Workers):
    """One of several processes that make the same call: rank r of w answers the batches r, r + w, r + 2w, ….

    Every rank writes its own files in the run directory, so that a run may be resumed by another number of ranks. They
    synchronise twice over gloo: when all is answered, and when rank 0 has saved the report; then all return it.

    Attributes:
        rank: which process this is, from 0.
        world_size: how many there are.

    Example:
        >>> Ranks(rank=1, world_size=4)
        Ranks(rank=1, world_size=4)
    """

    rank: int
    world_size: int

    @classmethod
    def launched(cls) -> Self | None:
        """Return the rank of this process, None where there is but one.

        It is known from `torch.distributed` if that is initialised, else from what torchrun and accelerate set in the
        environment, `RANK` and `WORLD_SIZE`.
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
            DirectoryInUseError: another run is at work in it; every rank raises it.
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
        """Lock the directory jointly: rank 0 locks it first, and the others follow, or learn why they cannot."""
        with ExitStack() as stack:
            told: list[Any] = [new_run(), None]
            if self.rank == 0:
                try:
                    stack.enter_context(DirectoryLock(out, told[0]))
                except DirectoryInUseError as error:
                    told[1] = str(error)
            distributed.broadcast_object_list(told, src=0, group=group)
            run, refusal = told
            if refusal is not None:
                raise DirectoryInUseError(refusal)
            if self.rank > 0:
                stack.enter_context(DirectoryLock(out, run))
            yield

    def _wait_for_all(self, group: Any, out: Path) -> None:
        try:
            distributed.barrier(group)
        except RuntimeError as error:
            raise RuntimeError(
                f"rank {self.rank} of {self.world_size}: expected all ranks to get here, but one has died or failed; "
                f"what was answered is in {out}, and the same call goes on from there"
            ) from error

    def _answer(self, job: Job, out: Path) -> None:
        share = shard(job.plan.batches(job.samples), self.rank, self.world_size)
        total = sum(job.plan.size(batch.samples) for batch in share)
        with (
            RunDirectory(out, job.plan.manifest(job.source.model, job.samples, out)) as directory,
            Progress(total, shown=self.rank == 0, every=job.progress_every) as progress,
            closing(answered(job.plan, job.source.model, share, directory, progress)) as rows,
        ):
            for _ in rows:
                pass


@contextmanager
def _group() -> Iterator[Any]:
    """Yield a process group of all ranks that waits as long as it takes, over gloo, which needs no GPU."""
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
    """Return where the ranks leave their addresses, rank and world size, and a count of the groups made there.

    torch gives every group the same name once the one before is destroyed, and the store outlives them all: without its
    own prefix, a second group would find the addresses of the first. Every rank makes the same calls, so counts agree.
    """
    from torch.distributed.rendezvous import rendezvous  # not in every build of torch

    store, rank, world_size = next(rendezvous("env://", timeout=_TIMEOUT))
    return store, rank, world_size, count()


class _SavedReport(Report):
    """The report that rank 0 has saved, read at first use: it may be large, and most ranks never use it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "_path" not in self.__dict__:
            raise AttributeError(name)
        vars(self).update(vars(Report.load(self.__dict__.pop("_path"))))
        return getattr(self, name)
