"""What a run asks, and in which batches."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from ..manifest import Manifest
from ..models.base import Model
from ..perturbations import Perturbation
from ..perturbations.distractor import Distractor
from ..perturbations.expansion import Prompts
from ..types import Sample, Style

__all__ = ["Batch", "Failure", "Plan", "shard"]

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

    def manifest(self, model: Model) -> Manifest:
        """Describe a run in which `model` is asked."""
        return Manifest.of(
            model,
            self.conditions,
            style=self.style,
            seed=self.seed,
            draws=self.draws,
            batch_size=self.batch_size,
            distractor=self.distractor,
        )


def shard(batches: Sequence[Batch], rank: int, world_size: int) -> Sequence[Batch]:
    """Return the share of one rank: every `world_size`-th batch, so that shares are of one length and differ.

    Example:
        >>> [shard("abcde", rank, 2) for rank in (0, 1)]
        ['ace', 'bd']
    """
    return batches[rank::world_size]
