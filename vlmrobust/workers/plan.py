"""Plan the prompts of a run in batches and phases, independently of the model and the workers.

A generator yields the prompts of one phase after another, is sent the responses, and finally returns the rows. The same
code thus serves a model that answers one list at a time and one with hundreds of prompts in flight.
"""

import logging
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Literal, NamedTuple

from ..manifest import Manifest
from ..models.base import Model, special_tokens_of
from ..perturbations import NotApplicable, Perturbation
from ..perturbations.expansion import BaseResponses, Prompts
from ..perturbations.wordings import Distractor
from ..store import RunDirectory
from ..types import Prompt, Response, Sample, Style
from ..types.sample import Acting, acting_in, listed

__all__ = ["Failure", "Pair", "Phase", "Phases", "PromptSource", "RunPlan", "SampleBatch", "shard"]

logger = logging.getLogger(__name__)

Failure = Literal["record", "raise"]
Pair = tuple[Prompt, Response]
_AnsweredPairs = Mapping[tuple[str, str, int], Pair]


class SampleBatch(NamedTuple):
    """Samples that are processed together under all conditions; `start` is the index of the first one."""

    start: int
    samples: Sequence[Sample]


@dataclass(frozen=True)
class RunPlan:
    """Settings that workers need besides the samples and the model; see `Evaluator`.

    A batch is the unit of work. Batches depend only on the samples and `batch_size`, so that results do not depend on
    which worker processes one, or in what order.
    """

    conditions: Sequence[Perturbation]
    style: Style
    draws: int
    batch_size: int
    seed: int
    distractor: Distractor
    on_error: Failure
    strict: bool = False
    max_failures: int | None = None

    def batches(self, samples: Sequence[Sample]) -> list[SampleBatch]:
        """Return the samples in batches, in their order."""
        starts = range(0, len(samples), self.batch_size)
        return [SampleBatch(start, samples[start : start + self.batch_size]) for start in starts]

    def prompts(self, samples: Sequence[Sample]) -> Prompts:
        """Return the prompts of samples, which are created lazily."""
        return Prompts(
            samples, self.conditions, seed=self.seed, style=self.style, draws=self.draws, distractor=self.distractor
        )

    def size(self, samples: Sequence[Sample]) -> int:
        """Return the number of prompts of samples."""
        return len(samples) * len(self.conditions) * self.draws

    @property
    def batch_prompts(self) -> int:
        """The number of prompts of a full batch."""
        return self.batch_size * len(self.conditions) * self.draws

    def acting(self, model: Model, samples: Sequence[Sample]) -> Acting:
        """Return the control text in samples that is made inert before a model sees it, and log a warning.

        Raises:
            ValueError: there is such text, and the plan is strict.
        """
        acting = acting_in(samples, special_tokens_of(model), self.style)
        if acting and self.strict:
            raise ValueError(
                f"expected samples without active special tokens, tags and image marks, got {listed(acting)}"
            )
        if acting:
            logger.warning(
                "%d of %d samples contain special tokens of the model, or tags and image marks in injected text; they "
                "are made inert before the model sees them, and the manifest lists them: %s",
                len(acting),
                len(samples),
                listed(acting),
            )
        return acting

    def manifest(self, model: Model, samples: Sequence[Sample], out: Path | None = None) -> Manifest:
        """Return the manifest of a run of `model` in the directory `out`; see `acting`."""
        acting = self.acting(model, samples)
        return Manifest.of(
            model,
            self.conditions,
            style=self.style,
            seed=self.seed,
            draws=self.draws,
            batch_size=self.batch_size,
            distractor=self.distractor,
            out=out,
        ).replace(made_inert=acting)


def shard(batches: Sequence[SampleBatch], rank: int, world_size: int) -> Sequence[SampleBatch]:
    """Return the batches of one rank: every `world_size`-th one, so that shares are disjoint and balanced.

    Example:
        >>> [shard("abcde", rank, 2) for rank in (0, 1)]
        ['ace', 'bd']
    """
    return batches[rank::world_size]


@dataclass(frozen=True, slots=True)
class Phase:
    """The prompts of some conditions and samples."""

    conditions: Sequence[Perturbation]
    to_ask: Sequence[Prompt]
    failed: Sequence[Pair]  # prompts that could not be created, with responses that record the failure
    known: Sequence[Pair]  # prompts with recorded responses


Phases = Generator[Phase, Sequence[Response], list[Pair]]


class PromptSource:
    """Provides the prompts of a run phase by phase, and records the responses if there is a directory.

    With `final`, it reads a finished run: a missing response is an error, and failed responses are not retried.
    """

    def __init__(self, plan: RunPlan, directory: RunDirectory | None, *, final: bool = False) -> None:
        self.plan = plan
        self._directory, self._final = directory, final

    def begin(self, samples: Sequence[Sample]) -> None:
        """Start samples, before their phases."""
        if self._directory is not None:
            self._directory.begin(samples)

    def record(self, pairs: Sequence[Pair]) -> None:
        """Write responses to disk."""
        if self._directory is not None:
            self._directory.record([prompt for prompt, _ in pairs], [response for _, response in pairs])

    def end(self, samples: Sequence[Sample]) -> None:
        """Finish samples, after their phases."""
        if self._directory is not None:
            self._directory.end(samples)

    def phases(self, samples: Sequence[Sample]) -> Phases:
        """Yield phases, base first if a condition needs it; return prompts and responses in the plan's order.

        The caller sends the responses to a phase's `to_ask`, in that order.
        """
        prompts = self.plan.prompts(samples)
        answered: dict[tuple[str, str, int], Pair] = {}
        for needs_base in (False, True):
            conditions = [c for c in self.plan.conditions if prompts.needs_base(c) is needs_base]
            if conditions:
                phase = self._phase(prompts, conditions, _base_of(answered))
                responses = yield phase
                answered |= {pair[0].key: pair for pair in (*phase.known, *phase.failed)}
                answered |= {pair[0].key: pair for pair in zip(phase.to_ask, responses, strict=True)}
        return self._in_order(prompts, answered)

    def _phase(self, prompts: Prompts, conditions: Sequence[Perturbation], base: BaseResponses) -> Phase:
        to_ask: list[Prompt] = []
        failed: list[Pair] = []
        known: list[Pair] = []
        for sample, condition, draw in product(prompts.samples, conditions, range(self.plan.draws)):
            prompt, failure = self._make(prompts, sample, condition, draw, base)
            # The stand-in for a prompt that raised is not the prompt that was recorded.
            recorded = self._recorded(prompt) if failure is None or failure.status != "error" else None
            if recorded is None and self._final:
                recorded = failure
            if recorded is not None:
                known.append((prompt, recorded))
            elif failure is not None:
                failed.append((prompt, failure))
            else:
                to_ask.append(prompt)
        return Phase(conditions, to_ask, failed, known)

    def _recorded(self, prompt: Prompt) -> Response | None:
        if self._directory is None:
            return None
        if not self._final:
            return self._directory.finished(prompt)
        response = self._directory.recorded(prompt)
        if response is None:
            raise LookupError(
                f"run directory {self._directory.path}: sample {prompt.sample.id!r}, condition {prompt.condition!r}, "
                f"draw {prompt.draw}: expected a response, found none"
            )
        return response

    def _make(
        self, prompts: Prompts, sample: Sample, condition: Perturbation, draw: int, base: BaseResponses
    ) -> tuple[Prompt, Response | None]:
        """Return a prompt, and a response that records the failure if it could not be created."""
        try:
            return prompts.make(sample, condition, draw, base), None
        except NotApplicable as reason:
            stand_in = prompts.stand_in(sample, condition, draw, base)
            return stand_in, Response.failed(stand_in, str(reason), "not_applicable")
        except Exception as error:
            if self.plan.on_error == "raise":
                error.add_note(f"in condition {condition.condition!r}, sample {sample.id!r}")
                raise
            stand_in = prompts.stand_in(sample, condition, draw, base)
            return stand_in, Response.failed(stand_in, error)

    def _in_order(self, prompts: Prompts, answered: _AnsweredPairs) -> list[Pair]:
        base = _base_of(answered)
        rows: list[Pair] = []
        for sample in prompts.samples:
            distractor = prompts.distractor_of(sample, base)
            for condition, draw in product(self.plan.conditions, range(self.plan.draws)):
                prompt, response = answered[sample.id, condition.condition, draw]
                # The runner-up is unknown until base is answered.
                is_set = prompt.distractor == distractor
                rows.append((prompt if is_set else prompt.replace(distractor=distractor), response))
        return rows


def _base_of(answered: _AnsweredPairs) -> BaseResponses:
    return {(sample, draw): response for (sample, name, draw), (_, response) in answered.items() if name == "base"}
