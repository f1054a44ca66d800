"""Evaluate a model on samples under conditions, in a fixed plan of batches, resumably, and with failures as rows."""

import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import get_args

from .jsonl import json_safe
from .manifest import Manifest
from .metrics import Metric, PairedMetric
from .metrics.catalogue import default_metrics, metrics_named
from .models.base import Model, rendered_by
from .perturbations import Perturbation
from .perturbations.expansion import check_conditions
from .perturbations.wordings import Distractor
from .report import Report
from .report.metric_columns import score
from .types import Responses, Sample, Style, check_samples
from .workers import Workers
from .workers.plan import Failure, Pair, RunPlan
from .workers.ranks import Job, ModelSource, default_workers

__all__ = ["Evaluator"]

logger = logging.getLogger(__name__)


class Evaluator:
    """Evaluates a model on every sample under every condition, and reports.

    The batch plan is fixed: `batch_size` samples with all their conditions and draws go into one `respond` call, in the
    samples' order. Conditions that need the base answer follow in a second call. Recorded responses are not requested
    again, and the rest of a batch is processed where it was planned.

    A model that takes prompts one by one (`models.ConcurrentModel`: `OpenAIModel`, or a custom one with `ask`) is kept
    busy across batches instead: no batch waits for its slowest prompt, and rows have the same order.

    Args:
        model: anything with `respond(prompts) -> list[Response]`, or a function that returns one, which is called when
            it is needed.
        perturbations: the conditions; `Base()` is added in front if missing.
        metrics: metrics, names of their columns, or `module:Class` for custom ones; None = `default_metrics()`.
        style: style of the prompts; None = the default style.
        draws: number of responses to each prompt (for models that sample).
        batch_size: number of samples per `respond` call.
        seed: seeds every random draw, together with the sample's id.
        distractor: the wrong option that all conditions of a sample assert, unless the sample has its own: "random", or
            the "runner_up", the most likely wrong option under base (draw 0); base is then processed first, and without
            its letters, conditions that assert the distractor are not applicable.
        on_error: handling of exceptions by a perturbation or the model: "record" records failures as rows with status
            `error` (a failed batch is retried sample by sample, and the failing sample prompt by prompt) and continues;
            "raise" ends the run, with finished responses on disk. A model's `RefusedError` and `max_failures` always
            end it.
        strict: refuse samples with special tokens of the model, or with tags or image marks in their texts; otherwise
            these are made inert before the model sees them (`Prompt.with_inert`), and the manifest lists them.
        max_failures: number of consecutive responses that fail for the same reason and end the run; a reason that names
            its own sample, such as a missing image, counts once per sample. None = unlimited.
        progress_every: seconds between two lines of progress where there is no bar (terminals and notebooks have one);
            None = no lines.

    Raises:
        TypeError: the model has no `respond` and is not a function, or the conditions or metrics contain objects of
            another type.
        ValueError: two conditions or metrics have the same name, the name of a metric is unknown (the message suggests
            the closest), or a number is below 1.

    Example:
        >>> from vlmrobust import Sample
        >>> from vlmrobust.perturbations import StopThink
        >>> from vlmrobust.testing import FakeModel
        >>> sample = Sample(id="q1", images=[b"not decoded"], question="Which?", options=["red", "blue"], answer=1)
        >>> report = Evaluator(FakeModel(opens_images=False), [StopThink()], ["accuracy", "consistency"]).run([sample])
        >>> list(report.frame["condition"]), report.metrics
        (['base', 'stop_think'], ('accuracy', 'consistency'))
    """

    def __init__(
        self,
        model: Model | Callable[[], Model],
        perturbations: Sequence[Perturbation],
        metrics: Sequence[Metric | PairedMetric | str] | None = None,
        *,
        style: Style | None = None,
        draws: int = 1,
        batch_size: int = 8,
        seed: int = 0,
        distractor: Distractor = "random",
        on_error: Failure = "record",
        strict: bool = False,
        max_failures: int | None = 32,
        progress_every: float | None = 30.0,
    ) -> None:
        self._source = ModelSource(model)
        if distractor not in get_args(Distractor):
            raise ValueError(f"field 'distractor': expected 'random' or 'runner_up', got {distractor!r}")
        for name, number in (("draws", draws), ("batch_size", batch_size), ("max_failures", max_failures)):
            if number is not None and number < 1:
                raise ValueError(f"field {name!r}: expected at least 1, got {number}")
        if on_error not in ("record", "raise"):
            raise ValueError(f"field 'on_error': expected 'record' or 'raise', got {on_error!r}")
        if progress_every is not None and not progress_every > 0:
            raise ValueError(f"field 'progress_every': expected seconds above 0, or None, got {progress_every}")
        self.conditions = check_conditions(perturbations)
        self.metrics = None if metrics is None else metrics_named(metrics)
        self.style = style or Style()
        self.draws, self.batch_size, self.seed = draws, batch_size, seed
        self.distractor: Distractor = distractor
        self.on_error: Failure = on_error
        self.strict = strict
        self.max_failures = max_failures
        self.progress_every = progress_every

    @property
    def model(self) -> Model:
        """The model; a function that returns it is called on first access."""
        return self._source.model

    def preview(self, samples: Iterable[Sample]) -> dict[str, str]:
        """Return each condition's first prompt as the model sees it, with special tokens, to check before a run.

        If there is none, the reason in brackets: the condition modifies the base response, or applies to no sample.

        Args:
            samples: the samples of the run.

        Example:
            >>> from vlmrobust import Sample
            >>> from vlmrobust.perturbations import WrongCaption
            >>> from vlmrobust.testing import FakeModel
            >>> sample = Sample(id="q1", images=["cube.png"], question="What colour is the cube?",
            ...                 options=["red", "blue"], answer=1)
            >>> for text in Evaluator(FakeModel(), [WrongCaption()]).preview([sample]).values():
            ...     print(text.splitlines()[0])
            [user] <image> What colour is the cube?
            [user] <image> Caption: The cube is red.
        """
        return self._plan().prompts(list(samples)).first_of_each(partial(rendered_by, self.model))

    def _plan(self) -> RunPlan:
        return RunPlan(
            self.conditions,
            self.style,
            self.draws,
            self.batch_size,
            self.seed,
            self.distractor,
            self.on_error,
            self.strict,
            self.max_failures,
        )

    def run(
        self, samples: Iterable[Sample], out: str | Path | None = None, *, workers: Workers | None = None
    ) -> Report:
        """Get all responses that are not on disk yet, and return the report.

        Args:
            samples: samples with unique ids.
            out: the run directory. Responses are written at once; after a kill, the same call resumes. Later calls may
                add samples, conditions, draws or metrics, with or without the earlier ones; recorded responses are kept
                unless their status is `error`. `Report.load(out)` covers the whole directory, the returned report only
                what this call names; if that is less, it is saved too, next to the whole one (`report.part…`).
            workers: for instance `workers.RayWorkers(count=64, num_gpus=1)`; None = this process, or all processes that
                torchrun or accelerate has started and that make the same call. Several workers need `out`, on a shared
                file system, and give the same report as one.

        Raises:
            DirectoryInUseError: another run is using `out`; the message says which one, and since when.
            RefusedError: it is pointless to continue: the model said so, or consecutive responses failed for the same
                reason.
            ValueError: two samples have the same id; `out` holds a run of another model, seed, style, condition or
                sample; several workers have no `out`; the model's responses have the wrong number, order or keys.
        """
        where = None if out is None else Path(out)
        job = Job(self._plan(), self._source, check_samples(samples), where, self.progress_every)

        def report(pairs: Iterable[Pair], manifest: Manifest) -> Report:
            responses = Responses.of_pairs(pairs)
            metrics = default_metrics() if self.metrics is None else self.metrics
            columns = score(responses, metrics, None if job.out is None else job.out / "verdicts")
            content = manifest.model_dump(mode="json")
            if any((work := json_safe(dict(self._source.work()))).values()):
                logger.info("%s: %s", self._source.name, ", ".join(f"{name} {count}" for name, count in work.items()))
                content["work"] = work
            created = Report(responses, columns, seed=self.seed, manifest=content)
            if job.out is not None:
                created._keep(job.out)
            return created

        return (default_workers() if workers is None else workers).run(job, report)
