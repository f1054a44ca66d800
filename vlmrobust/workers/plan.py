"""What a run asks, and in which batches."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from ..manifest import Manifest
from ..models.base import Model, special_tokens_of
from ..perturbations import Perturbation
from ..perturbations.distractor import Distractor
from ..perturbations.expansion import Prompts
from ..types import Sample, Style
from ..types.acting import Acting, acting_in, listed

__all__ = ["Batch", "Failure", "Plan", "shard"]

logger = logging.getLogger(__name__)

Failure = Literal["record", "raise"]


class Batch(NamedTuple):
    """Samples that are asked together under all conditions; `start` is the first one's place among all samples."""

    start: int
    samples: Sequence[Sample]


@dataclass(frozen=True)
class Plan:
    """What a run asks of samples: all that workers need to know beside samples and model; see `Evaluator`.

    A batch is the unit of work, and batches depend on the samples and `batch_size` alone: whoever answers one, and in
    whatever order, asks the same.
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
