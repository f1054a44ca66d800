"""How the batches of a run are answered: one after another, or without waiting for any, as the model allows."""

from collections.abc import Generator, Iterator, Sequence

from ..models.base import Model, expect, is_concurrent
from ..store import RunDirectory
from ..types import Sample
from .asking import Asking, Pair
from .batchwise import Batchwise
from .failing import Failing
from .plan import Batch, Plan
from .progress import Progress
from .queueing import Queue

__all__ = ["Pair", "answered", "recorded"]


def answered(
    plan: Plan,
    model: Model,
    batches: Sequence[Batch],
    directory: RunDirectory | None,
    progress: Progress | None = None,
    failing: Failing | None = None,
) -> Generator[Pair, None, None]:
    """Ask what is not on disk yet, put it there at once, and yield all prompts and responses in the plan's order.

    Args:
        plan: what is asked.
        model: who is asked.
        batches: of whom.
        directory: None = nothing is kept.
        progress: counts.
        failing: counts what failed before, where there are several calls; None = nothing did.
    """
    asking, counted = Asking(plan, directory), progress or Progress(0, shown=False)
    failed = failing or Failing(plan.max_failures)
    expect(model, sum(plan.size(batch.samples) for batch in batches), plan.style)
    if is_concurrent(model):
        return Queue(asking, model, counted, failed).answer(batches)
    return Batchwise(asking, model, counted, failed).answer(batches)


def recorded(plan: Plan, samples: Sequence[Sample], directory: RunDirectory) -> Iterator[Pair]:
    """Yield what a finished run has on disk, in the order of samples, conditions and draws.

    Raises:
        LookupError: a response is missing.
    """
    asking = Asking(plan, directory, final=True)
    for batch in plan.batches(samples):
        asking.begin(batch.samples)
        yield from _read(asking, batch)
        asking.end(batch.samples)


def _read(asking: Asking, batch: Batch) -> list[Pair]:
    phases = asking.phases(batch.samples)
    try:
        next(phases)
        while True:
            phases.send([])
    except StopIteration as ended:
        rows: list[Pair] = ended.value
        return rows
