"""Plan what a run asks, in which batches and phases; who is asked, and in what order, is not known here.

A generator yields what is to be asked, phase by phase, and is sent the responses; at its end it returns the rows. So
the same few lines serve a model that answers a list at a time and one with hundreds of prompts in flight.
"""

import logging
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from ..manifest import Manifest
from ..models.base import Model, special_tokens_of
from ..perturbations import NotApplicable, Perturbation
from ..perturbations.expansion import BaseResponses, Prompts
from ..perturbations.texts import Distractor
from ..store import RunDirectory
from ..types import Prompt, Response, Sample, Style
from ..types.sample import Acting, acting_in, listed

__all__ = ["Asking", "Batch", "Failure", "Pair", "Phase", "Phases", "Plan", "shard"]

logger = logging.getLogger(__name__)

Failure = Literal["record", "raise"]
Pair = tuple[Prompt, Response]
_Answered = Mapping[tuple[str, str, int], Pair]


class Batch(NamedTuple):
    """Samples that are asked together under all conditions; `start` is the first one's place among all samples."""

    start: int
    samples: Sequence[Sample]


@dataclass(frozen=True)
class Plan:
    """What a run asks of samples: all that workers need to know besides the samples and the model; see `Evaluator`.

    A batch is the unit of work. Batches depend on the samples and `batch_size` alone, so that it makes no difference
    which worker answers one, or in what order.
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

    def batches(self, samples: Sequence[Sample]) -> list[Batch]:
        """Return the samples in batches, in their order."""
        starts = range(0, len(samples), self.batch_size)
        return [Batch(start, samples[start : start + self.batch_size]) for start in starts]

    def prompts(self, samples: Sequence[Sample]) -> Prompts:
        """Return the prompts of samples, made when they are asked for."""
        return Prompts(
            samples, self.conditions, seed=self.seed, style=self.style, draws=self.draws, distractor=self.distractor
        )

    def size(self, samples: Sequence[Sample]) -> int:
        """Return the number of prompts of samples."""
        return len(samples) * len(self.conditions) * self.draws

    @property
    def batch_prompts(self) -> int:
        """The number of prompts of a whole batch."""
        return self.batch_size * len(self.conditions) * self.draws

    def acting(self, model: Model, samples: Sequence[Sample]) -> Acting:
        """Return what is made inert in samples before a model is asked, and say so in the log.

        Raises:
            ValueError: there is something to be made inert, and the plan is strict.
        """
        acting = acting_in(samples, special_tokens_of(model), self.style)
        if acting and self.strict:
            raise ValueError(
                f"expected samples without special tokens, tags and image marks that would act, got {listed(acting)}"
            )
        if acting:
            logger.warning(
                "in %d of %d samples stand special tokens of the model, or tags and image marks in a text that is "
                "injected; they are made inert before they are shown, and the manifest lists them: %s",
                len(acting),
                len(samples),
                listed(acting),
            )
        return acting

    def manifest(self, model: Model, samples: Sequence[Sample], out: Path | None = None) -> Manifest:
        """Describe a run in which `model` is asked, in the directory `out`; see `acting`."""
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


def shard(batches: Sequence[Batch], rank: int, world_size: int) -> Sequence[Batch]:
    """Return the share of one rank: every `world_size`-th batch, so that shares are of one length and differ.

    Example:
        >>> [shard("abcde", rank, 2) for rank in (0, 1)]
        ['ace', 'bd']
    """
    return batches[rank::world_size]


@dataclass(frozen=True, slots=True)
class Phase:
    """What some conditions ask of some samples.

    Attributes:
        conditions: the conditions.
        to_ask: prompts that are to be answered.
        failed: prompts that could not be made, with the rows that stand for their answers.
        known: prompts that were answered before, with their answers.
    """

    conditions: Sequence[Perturbation]
    to_ask: Sequence[Prompt]
    failed: Sequence[Pair]
    known: Sequence[Pair]


Phases = Generator[Phase, Sequence[Response], list[Pair]]


class Asking:
    """What a run asks of samples, and where the answers are kept.

    Args:
        plan: what is asked.
        directory: None = nothing is kept.
        final: no model is asked: what is not recorded is an error, and failed responses stay as they are.
    """

    def __init__(self, plan: Plan, directory: RunDirectory | None, *, final: bool = False) -> None:
        self.plan = plan
        self._directory, self._final = directory, final

    def begin(self, samples: Sequence[Sample]) -> None:
        """Begin samples, before their phases."""
        if self._directory is not None:
            self._directory.begin(samples)

    def keep(self, pairs: Sequence[Pair]) -> None:
        """Write answers to disk."""
        if self._directory is not None:
            self._directory.record([prompt for prompt, _ in pairs], [response for _, response in pairs])

    def end(self, samples: Sequence[Sample]) -> None:
        """End samples, after their phases."""
        if self._directory is not None:
            self._directory.end(samples)

    def phases(self, samples: Sequence[Sample]) -> Phases:
        """Yield what to ask, base first where a condition needs it; return prompts and responses in order.

        Send the responses to a phase's `to_ask`, in that order.
        """
        prompts = self.plan.prompts(samples)
        answered: dict[tuple[str, str, int], Pair] = {}
        for later in (False, True):
            conditions = [c for c in self.plan.conditions if prompts.needs_base(c) is later]
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
        for sample in prompts.samples:
            for condition in conditions:
                for draw in range(self.plan.draws):
                    prompt, failure = self._make(prompts, sample, condition, draw, base)
                    # A stand-in for a prompt that could not be made is not the prompt that was answered before.
                    before = self._known(prompt) if failure is None or failure.status != "error" else None
                    if before is None and self._final:
                        before = failure
                    if before is not None:
                        known.append((prompt, before))
                    elif failure is not None:
                        failed.append((prompt, failure))
                    else:
                        to_ask.append(prompt)
        return Phase(conditions, to_ask, failed, known)

    def _known(self, prompt: Prompt) -> Response | None:
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
        """Return a prompt, and the row that stands for its answer if it could not be made."""
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

    def _in_order(self, prompts: Prompts, answered: _Answered) -> list[Pair]:
        base = _base_of(answered)
        rows: list[Pair] = []
        for sample in prompts.samples:
            distractor = prompts.distractor_of(sample, base)
            for condition in self.plan.conditions:
                for draw in range(self.plan.draws):
                    prompt, response = answered[sample.id, condition.condition, draw]
                    # The runner-up was not known yet when base was asked.
                    known = prompt.distractor == distractor
                    rows.append((prompt if known else prompt.replace(distractor=distractor), response))
        return rows


def _base_of(answered: _Answered) -> BaseResponses:
    return {(sample, draw): response for (sample, name, draw), (_, response) in answered.items() if name == "base"}
