"""Samples × conditions, asked in a fixed plan of batches, resumable, with failures as rows of their own."""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Never, get_args

from .manifest import Manifest
from .metrics import Metric, PairedMetric
from .models.base import Model
from .perturbations import NotApplicable, Perturbation
from .perturbations.conditions import check_conditions
from .perturbations.distractor import Distractor
from .perturbations.expansion import BaseResponses, Prompts
from .report import Report
from .store import RunDirectory
from .types import Prompt, Response, Sample, Style

if TYPE_CHECKING:
    from tqdm import tqdm

__all__ = ["Evaluator"]

Failure = Literal["record", "raise"]
Answered = dict[tuple[str, str, int], tuple[Prompt, Response]]


class Evaluator:
    """Asks a model every sample under every condition, and reports.

    The batch plan is fixed: `batch_size` samples with all their conditions and draws go into one `respond` call, in the
    samples' order. Conditions that need the base answer follow in a second call. What is on disk already is not asked
    again, and what is left of a batch is asked where it was planned.

    Args:
        model: anything with `respond(prompts) -> list[Response]`.
        perturbations: the conditions; `Base()` is put in front if it is not among them.
        metrics: what is measured; None = `default_metrics()`.
        style: how questions are put; None = the default style.
        draws: how often each prompt is asked (for models that sample).
        batch_size: how many samples are handed to one `respond` call.
        seed: keys every random draw, together with the sample's id.
        distractor: the wrong option that all conditions of a sample assert, unless the sample has its own: "random", or
            the "runner_up", the wrong option that was likeliest under base (draw 0); base is then asked first, and
            where no letters were read under it, conditions that assert the distractor are not applicable.
        on_error: what a perturbation or a model that raises does: "record" makes rows of status `error` of what failed
            (a batch that raised is asked again sample by sample, and the failing sample prompt by prompt) and goes on;
            "raise" ends the run, and what was finished stays on disk.

    Raises:
        TypeError: the model has no `respond`, or something else than a perturbation is among the conditions.
        ValueError: two conditions or metrics have one name, or a number is below 1.

    Example:
        >>> from vlmrobust import Sample
        >>> from vlmrobust.perturbations import StopThink
        >>> from vlmrobust.testing import FakeModel
        >>> sample = Sample(id="q1", images=[b"not decoded"], question="Which?", options=["red", "blue"], answer=1)
        >>> report = Evaluator(FakeModel(opens_images=False), [StopThink()]).run([sample])
        >>> list(report.frame["condition"])
        ['base', 'stop_think']
    """

    def __init__(
        self,
        model: Model,
        perturbations: Sequence[Perturbation],
        metrics: Sequence[Metric | PairedMetric] | None = None,
        *,
        style: Style | None = None,
        draws: int = 1,
        batch_size: int = 8,
        seed: int = 0,
        distractor: Distractor = "random",
        on_error: Failure = "record",
    ) -> None:
        if not isinstance(model, Model):
            raise TypeError(f"expected a model with respond(prompts) -> list[Response], got {type(model).__name__}")
        if distractor not in get_args(Distractor):
            raise ValueError(f"field 'distractor': expected 'random' or 'runner_up', got {distractor!r}")
        for name, number in (("draws", draws), ("batch_size", batch_size)):
            if number < 1:
                raise ValueError(f"field {name!r}: expected at least 1, got {number}")
        if on_error not in ("record", "raise"):
            raise ValueError(f"field 'on_error': expected 'record' or 'raise', got {on_error!r}")
        self.model = model
        self.conditions = check_conditions(perturbations)
        self.metrics = metrics
        self.style = style or Style()
        self.draws, self.batch_size, self.seed = draws, batch_size, seed
        self.distractor: Distractor = distractor
        self.on_error: Failure = on_error

    def run(self, samples: Iterable[Sample], out: str | Path | None = None) -> Report:
        """Ask everything that is not on disk yet, and report on all of it.

        Args:
            samples: with ids that differ.
            out: the run directory. Every finished batch is on disk at once; after a kill the same call resumes. More
                samples, conditions or draws may join. Rows of status `error` are asked again, everything else is kept.
                The report is saved there too, for `Report.load(out)`.

        Raises:
            ValueError: two samples have one id; `out` holds a run of another model, seed, style, condition or sample;
                the model broke its contract (number, order or keys of the responses).
        """
        prompts = Prompts(
            list(samples),
            self.conditions,
            seed=self.seed,
            style=self.style,
            draws=self.draws,
            distractor=self.distractor,
        )
        manifest = Manifest.of(
            self.model,
            self.conditions,
            style=self.style,
            seed=self.seed,
            draws=self.draws,
            batch_size=self.batch_size,
            distractor=self.distractor,
        )
        store: AbstractContextManager[RunDirectory | None] = (
            nullcontext() if out is None else RunDirectory(out, manifest, prompts.samples)
        )
        with store as directory, _progress(prompts.planned) as bar:
            pairs = list(self._answer(prompts, directory, bar))
        report = Report.from_responses(
            [prompt for prompt, _ in pairs],
            [response for _, response in pairs],
            self.metrics,
            seed=self.seed,
            manifest=manifest.model_dump(mode="json"),
        )
        if out is not None:
            report.save(out)
        return report

    def _answer(
        self, prompts: Prompts, directory: RunDirectory | None, bar: "tqdm[Never]"
    ) -> Iterator[tuple[Prompt, Response]]:
        phases = [[c for c in self.conditions if prompts.needs_base(c) is later] for later in (False, True)]
        for start in range(0, len(prompts.samples), self.batch_size):
            samples = prompts.samples[start : start + self.batch_size]
            answered: Answered = {}
            for conditions in filter(None, phases):
                bar.set_description(f"samples {start + 1}–{start + len(samples)}: {_listed(conditions)}")
                asked = self._answer_batch(prompts, samples, conditions, answered, directory)
                total = len(samples) * len(conditions) * self.draws
                if not bar.disable:
                    # What was on disk already counts as done, but not for the rate.
                    bar.initial += total - asked
                bar.update(total)
            base = _base_of(answered)
            for sample in samples:
                for condition in self.conditions:
                    for draw in range(self.draws):
                        prompt, response = answered[sample.id, condition.condition, draw]
                        distractor = prompts.distractor_of(sample, base)
                        # The runner-up was not known yet when base was asked.
                        known = prompt.distractor == distractor
                        yield prompt if known else prompt.replace(distractor=distractor), response

    def _answer_batch(
        self,
        prompts: Prompts,
        samples: Sequence[Sample],
        conditions: Sequence[Perturbation],
        answered: Answered,
        directory: RunDirectory | None,
    ) -> int:
        """Put the answers of some conditions of a batch, from disk or new, into `answered`; return how many are new."""
        to_ask: list[Prompt] = []
        new: list[tuple[Prompt, Response]] = []
        base = _base_of(answered)
        for sample in samples:
            for condition in conditions:
                for draw in range(self.draws):
                    prompt, failure = self._make(prompts, sample, condition, draw, base)
                    finished = None if directory is None else directory.finished(prompt)
                    if finished is not None:
                        answered[finished.key] = prompt, finished
                    elif failure is not None:
                        new.append((prompt, failure))
                    else:
                        to_ask.append(prompt)
        new += zip(to_ask, self._respond(to_ask), strict=True)
        if directory is not None:
            directory.record([prompt for prompt, _ in new], [response for _, response in new])
        answered.update({response.key: (prompt, response) for prompt, response in new})
        return len(new)

    def _make(
        self, prompts: Prompts, sample: Sample, condition: Perturbation, draw: int, base: BaseResponses
    ) -> tuple[Prompt, Response | None]:
        """Return a prompt, and the row that stands for its answer if it could not be made."""
        try:
            return prompts.make(sample, condition, draw, base), None
        except NotApplicable as reason:
            stand_in = prompts.stand_in(sample, condition, draw, base)
            return stand_in, Response.failed(stand_in, str(reason), "not_applicable")
        except Exception as error:
            if self.on_error == "raise":
                error.add_note(f"in condition {condition.condition!r}, sample {sample.id!r}")
                raise
            stand_in = prompts.stand_in(sample, condition, draw, base)
            return stand_in, Response.failed(stand_in, error)

    def _respond(self, prompts: Sequence[Prompt]) -> list[Response]:
        """Ask the model; what raises is asked again in smaller parts until the culprits are alone."""
        if not prompts:
            return []
        try:
            responses = self.model.respond(prompts)
        except Exception as error:
            if self.on_error == "raise":
                error.add_note(
                    f"in {type(self.model).__name__}.respond, first of {len(prompts)} prompts: "
                    f"sample {prompts[0].sample.id!r}, condition {prompts[0].condition!r}"
                )
                raise
            if len(prompts) == 1:
                return [Response.failed(prompts[0], error)]
            by_sample = [list(group) for _, group in groupby(prompts, key=lambda prompt: prompt.sample.id)]
            parts = by_sample if len(by_sample) > 1 else [[prompt] for prompt in prompts]
            return [response for part in parts for response in self._respond(part)]
        _check_contract(self.model, prompts, responses)
        return [self._without_nan(prompt, response) for prompt, response in zip(prompts, responses, strict=True)]

    def _without_nan(self, prompt: Prompt, response: Response) -> Response:
        numbers = (*(response.option_logprobs or ()), *response.added_logprobs)
        if not any(math.isnan(number) for number in numbers):
            return response
        error = ValueError(
            f"sample {prompt.sample.id!r}, condition {prompt.condition!r}, field 'option_logprobs': "
            f"expected log-probabilities, got NaN in {numbers}"
        )
        if self.on_error == "raise":
            raise error
        return Response.failed(prompt, error)


def _base_of(answered: Answered) -> BaseResponses:
    return {(sample, draw): response for (sample, name, draw), (_, response) in answered.items() if name == "base"}


def _check_contract(model: Model, prompts: Sequence[Prompt], responses: Sequence[Response]) -> None:
    name = f"{type(model).__name__}.respond"
    if not isinstance(responses, list | tuple):
        raise TypeError(f"{name}: expected a list of responses, got {type(responses).__name__}")
    if len(responses) != len(prompts):
        raise ValueError(f"{name}: expected one response per prompt ({len(prompts)}), got {len(responses)}")
    for position, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
        if not isinstance(response, Response):
            raise TypeError(f"{name}: expected a Response at position {position}, got {type(response).__name__}")
        expected = (prompt.sample.id, prompt.condition, prompt.draw)
        if response.key != expected:
            raise ValueError(f"{name}: expected the response to {expected} at position {position}, got {response.key}")
        count, logprobs = len(prompt.sample.options), response.option_logprobs
        if logprobs is not None and len(logprobs) != count:
            raise ValueError(
                f"{name}: sample {prompt.sample.id!r}, condition {prompt.condition!r}, field 'option_logprobs': "
                f"expected {count} values, one per option of the sample, got {len(logprobs)}"
            )
        if response.answer is not None and not 0 <= response.answer < count:
            raise ValueError(
                f"{name}: sample {prompt.sample.id!r}, condition {prompt.condition!r}, field 'answer': "
                f"expected an index of the sample's options (0 to {count - 1}), got {response.answer}"
            )


def _listed(conditions: Sequence[Perturbation]) -> str:
    names = [condition.condition for condition in conditions]
    return ", ".join(names) if len(names) <= 2 else f"{names[0]} … {names[-1]} ({len(names)} conditions)"


def _progress(total: int) -> "tqdm[Never]":
    from tqdm.auto import tqdm

    # `disable=None`: no bar where standard error is no terminal.
    return tqdm(total=total, unit=" responses", disable=None)
