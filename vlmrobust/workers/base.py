"""Who answers the batches of a run: by default, this process alone."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from ..locking import DirectoryLock
from ..manifest import Manifest
from ..models.base import Model, work_of
from ..report import Report
from ..store import RunDirectory
from ..types import Sample
from .answering import Pair, answered, recorded
from .plan import Plan
from .progress import Progress

__all__ = ["Job", "ModelSource", "ThisProcess", "Workers"]


class ModelSource:
    """A model, or a function that returns one: another process that gets it calls the function for itself.

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
        """What was given, without the arguments that a function was given with: a key may be among them."""
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
        """What the model says of what it has computed in this process; empty where it was not made here."""
        made = self._given if isinstance(self._given, Model) else vars(self).get("model")
        return {} if made is None else work_of(made)

    def __getstate__(self) -> dict[str, Any]:
        return {"_given": self._given}


@dataclass(frozen=True)
class Job:
    """A run: what is asked of whom, and where the answers are kept.

    Attributes:
        plan: what is asked.
        source: who is asked.
        samples: of whom.
        out: the run directory, None = none.
        progress_every: seconds between two lines on how far it is where there is no bar, None = no lines.
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
    """Who answers the batches of a run."""

    @abstractmethod
    def run(self, job: Job, make: MakeReport) -> Report:
        """Answer everything that is not on disk yet, and return the report that `make` makes of all of it.

        Raises:
            DirectoryInUseError: another run is at work in the run directory.
        """


@dataclass(frozen=True)
class ThisProcess(Workers):
    """Answers everything in this process, also where it is one of several ranks.

    Attributes:
        of_run: the run that holds the directory already (`locking.DirectoryLock.run`), and is joined; None = none does.

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
