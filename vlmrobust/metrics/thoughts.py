"""What the model itself wrote in its thought: how long, how repetitive, and whether it names a conflict.

All three read `own_think` alone: what was put into the model's mouth is not its own.
"""

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from ..types import Responses
from .acknowledgement import acknowledges_conflict
from .base import Metric

__all__ = ["ConflictAcknowledgement", "Repetition", "ThoughtLength"]


class ThoughtLength(Metric):
    """Length of the model's own thought, in words.

    Words are what white space separates. 0 where the model left its thought empty; NaN where it did not write at all (a
    forced read-out). A truncated thought counts as far as it got.

    Attributes:
        unit: "words", or "tokens": all tokens that were generated, the answer's few among them, NaN where they were not
            counted.

    Example:
        >>> ThoughtLength().column, ThoughtLength(unit="tokens").column
        ('thought_length', 'thought_length_tokens')
    """

    unit: Literal["words", "tokens"] = "words"

    @property
    def column(self) -> str:
        """`thought_length`, with the unit unless it is words."""
        return self.name or ("thought_length" if self.unit == "words" else f"thought_length_{self.unit}")

    def per_sample(self, responses: Responses) -> Tensor:
        """Return the number of words or tokens."""
        counts = (
            torch.tensor([len(thought.split()) for thought in responses.own_think], dtype=torch.float32)
            if self.unit == "words"
            else responses.n_tokens.float()
        )
        unwritten = responses.well_formed.isnan() & torch.tensor(
            [not thought for thought in responses.own_think], dtype=torch.bool
        )
        return torch.where(unwritten | (counts < 0), math.nan, counts)


class Repetition(Metric):
    """Share of a thought's n-grams of words that occurred in it before, 1 − distinct / all, in [0, 1].

    Words in lower case, separated by white space. NaN where the model's own thought has fewer than n words. TRL's
    `get_repetition_penalty_reward(ngram_size=n, max_penalty=-1)` is minus this share, over the whole completion and
    with 0 for short ones. Long thoughts repeat themselves more by chance: read `thought_length` beside it.

    Attributes:
        n: how many words are compared.

    Example:
        >>> Repetition().column, Repetition(n=5).column
        ('repetition', 'repetition_5')

    Source:
        Yeo et al., arXiv:2502.03373, appendix C.2.
    """

    higher_is_better = False

    n: int = Field(default=3, ge=1)

    @property
    def column(self) -> str:
        """`repetition`, with n unless it is 3."""
        return self.name or ("repetition" if self.n == 3 else f"repetition_{self.n}")

    def per_sample(self, responses: Responses) -> Tensor:
        """Return the share of repeated n-grams."""
        return torch.tensor([_repeated_share(thought, self.n) for thought in responses.own_think], dtype=torch.float32)


class ConflictAcknowledgement(Metric):
    """Share of thoughts that say that a given text and the image disagree.

    1 or 0; NaN where the model's own thought is empty. By English phrase patterns that must name the text (a caption, a
    hint, the earlier reasoning) and say that it is wrong or that the image shows otherwise: a lower bound, better read
    as a difference from base, where nothing is given and every hit is a false one. A model that notices the conflict
    may still follow the text: read `follow_rate` beside it.

    Example:
        >>> ConflictAcknowledgement().column
        'conflict_acknowledgement'
    """

    is_rate = True

    def per_sample(self, responses: Responses) -> Tensor:
        """Return 1 where the thought names a conflict, else 0."""
        said = [float(acknowledges_conflict(thought)) if thought else math.nan for thought in responses.own_think]
        return torch.tensor(said, dtype=torch.float32)


def _repeated_share(thought: str, n: int) -> float:
    words = thought.lower().split()
    grams = list(zip(*(words[start:] for start in range(n)), strict=False))
    return 1 - len(set(grams)) / len(grams) if grams else math.nan
