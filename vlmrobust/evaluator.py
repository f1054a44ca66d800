"""Samples × conditions, asked in a fixed plan of batches, resumable, with failures as rows of their own."""

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
from .perturbations import Perturbation, expand
from .perturbations.expansion import check_conditions
from .perturbations.texts import Distractor
from .report import Report
from .report.columns import score
from .types import Responses, Sample, Style, check_samples
from .workers import Workers
from .workers.plan import Failure, Pair, RunPlan
from .workers.processes import Job, ModelSource, default_workers

__all__ = ["Evaluator"]

logger = logging.getLogger(__name__)


class Evaluator:
    """Asks a model every sample under every condition, and reports.

    The batch plan is fixed: `batch_size` samples with all their conditions and draws go into one `respond` call, in the
    samples' order. Conditions that need the base answer follow in a second call. What is on disk already is not asked
    again, and what is left of a batch is asked where it was planned.

    A model that takes prompts one by one (`models.ConcurrentModel`: `OpenAIModel`, or one of your own with `ask`) is
    kept full across batches instead: no batch waits for its slowest prompt, and rows come out in the same order.

    Args:
        model: anything with `respond(prompts) -> list[Response]`, or a function that returns one, which is called where
            it is needed.
        perturbations: the conditions; `Base()` is put in front if it is not among them.
        metrics: what is measured: metrics, the names of their columns, or `module:Class` of one's own; None =
            `default_metrics()`.
        style: how questions are put; None = the default style.
        draws: how often each prompt is asked (for models that sample).
        batch_size: how many samples are handed to one `respond` call.
        seed: keys every random draw, together with the sample's id.
        distractor: the wrong option that all conditions of a sample assert, unless the sample has its own: "random", or
            the "runner_up", the wrong option that was likeliest under base (draw 0); base is then asked first, and
            where no letters were read under it, conditions that assert the distractor are not applicable.
        on_error: what a perturbation or a model that raises does: "record" makes rows of status `error` of what failed
            (a batch that raised is asked again sample by sample, and the failing sample prompt by prompt) and goes on;
            "raise" ends the run, and what was finished stays on disk; so do a model's `RefusedError` in any case, and
            `max_failures`.
        strict: refuse samples in which special tokens of the model stand, or in whose texts tags or image marks do;
            otherwise these are made inert before they are shown (`Prompt.with_inert`), and the manifest lists them.
        max_failures: how many responses in a row may fail for one reason before the run ends with it; a reason that
            names its own sample, such as a missing image, counts once a sample. None = any number.
        progress_every: seconds between two lines on how far the run is, where standard error is no terminal and there
            is no notebook, which have a bar; None = no lines.

    Raises:
        TypeError: the model has no `respond` and is no function, or something else than a perturbation is among the
            conditions, or than a metric among the metrics.
        ValueError: two conditions or metrics have one name, the name of a metric is not known (the message has the
            nearest), or a number is below 1.

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
        """Who is asked; a function that returns it is called now if it was not before."""
        return self._source.model

    def preview(self, samples: Iterable[Sample]) -> dict[str, str]:
        """Return by condition the first prompt as the model sees it, special tokens included: a look before a run.

        In brackets why there is none: the condition changes what the model says under base, or fits no sample.

        Args:
            samples: those of the run.

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
        prompts = expand(
            list(samples),
            self.conditions,
            seed=self.seed,
            style=self.style,
            draws=self.draws,
            distractor=self.distractor,
        )
        return prompts.first_of_each(partial(rendered_by, self.model))

    def run(
        self, samples: Iterable[Sample], out: str | Path | None = None, *, workers: Workers | None = None
    ) -> Report:
        """Ask everything of this call that is not on disk yet, and report on it.

        Args:
            samples: with ids that differ.
            out: the run directory. What was answered is on disk at once; after a kill the same call resumes. Calls add
                to it: more samples, conditions, draws or metrics, named with the others or alone, and what it holds is
                not asked again but for rows of status `error`. `Report.load(out)` is about all that it holds, the
                report that is returned about what this call names; where that is less, it is kept too, beside the whole
                one (`report.part…`).
            workers: who asks, for instance `workers.RayWorkers(count=64, num_gpus=1)`; None = this process, or, where
                torchrun or accelerate has started several that make the same call, all of them. Several need `out`, on
                a file system that all of them share, and report the same as one.

        Raises:
            DirectoryInUseError: another run is at work in `out`; the message says who, and since when.
            RefusedError: asking on is of no use: the model said so, or all responses in a row failed for one reason.
            ValueError: two samples have one id; `out` holds a run of another model, seed, style, condition or sample;
                several workers have no `out`; the model broke its contract (number, order or keys of the responses).
        """
        plan = RunPlan(
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
        job = Job(plan, self._source, check_samples(samples), None if out is None else Path(out), self.progress_every)

        def report(pairs: Iterable[Pair], manifest: Manifest) -> Report:
            responses = Responses.of_pairs(pairs)
            metrics = default_metrics() if self.metrics is None else self.metrics
            columns = score(responses, metrics, None if job.out is None else job.out / "verdicts")
            begun_with = manifest.model_dump(mode="json")
            if any((work := json_safe(dict(self._source.work()))).values()):
                logger.info("%s: %s", self._source.name, ", ".join(f"{name} {count}" for name, count in work.items()))
                begun_with["work"] = work
            made = Report(responses, columns, seed=self.seed, manifest=begun_with)
            if job.out is not None:
                made._keep(job.out)
            return made

        return (default_workers() if workers is None else workers).run(job, report)
