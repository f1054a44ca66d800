"""What a condition does to single answers: each response against the one to the same sample under base.

How far P(correct), P(distractor) or an entropy shifts is no metric of its own: it is the `difference` of the plain
metric in the summary, which is on the same pairs.

In a report with several draws, the row of base itself compares its draws with each other: sampled answers flip by
themselves, and that is the floor of every flip rate. With one draw it is undefined.
"""

import math

import torch
from torch import Tensor

from .. import functional
from ..types import Responses
from .base import PairedMetric

__all__ = ["FlipRate", "Harmed", "Helped", "LetterDivergence", "RobustAccuracy"]


class FlipRate(PairedMetric):
    """Share of samples that are answered otherwise than under base.

    1 or 0; no answer (abstained, unparsed, truncated) counts as one answer more.

    Example:
        >>> FlipRate().column
        'flip_rate'
    """

    is_rate = True

    higher_is_better = False

    def per_pair(self, base: Responses, responses: Responses) -> Tensor:
        """Return 1 where the two answers differ, else 0."""
        return base.choice != responses.choice


class Harmed(PairedMetric):
    """Share of samples that are right under base and not right here.

    1 or 0. `helped` − `harmed` is the difference in accuracy, which hides how many answers moved. Over base accuracy it
    is the share of right answers that are lost.

    Example:
        >>> Harmed().column
        'harmed'
    """

    is_rate = True

    higher_is_better = False

    def per_pair(self, base: Responses, responses: Responses) -> Tensor:
        """Return 1 where right became wrong, else 0."""
        return _right(base) & ~_right(responses)


class Helped(PairedMetric):
    """Share of samples that are not right under base and right here.

    1 or 0. Under a control that leaks the answer it is expected; under a wrong text it is chance, or luck in guessing.

    Example:
        >>> Helped().column
        'helped'
    """

    is_rate = True

    higher_is_better = True

    def per_pair(self, base: Responses, responses: Responses) -> Tensor:
        """Return 1 where wrong became right, else 0."""
        return ~_right(base) & _right(responses)


class RobustAccuracy(PairedMetric):
    """Share of samples that are right under base and here.

    1 or 0; base accuracy − `harmed`. `Report.robust_accuracy` takes several conditions together.

    Example:
        >>> RobustAccuracy().column
        'robust_accuracy'
    """

    is_rate = True

    higher_is_better = True

    def per_pair(self, base: Responses, responses: Responses) -> Tensor:
        """Return 1 where both answers are right, else 0."""
        return _right(base) & _right(responses)


class LetterDivergence(PairedMetric):
    """Jensen–Shannon divergence of the letter distributions under base and here, in nats, in [0, ln 2].

    It moves where the answer does not: a distribution may shift without a flip. NaN where one of the two has no letters
    or no answer, or where they were read at different places.

    Example:
        >>> LetterDivergence().column
        'letter_divergence'

    Source:
        Lin, IEEE Transactions on Information Theory 37 (1991).
    """

    reads_letters = True

    def per_pair(self, base: Responses, responses: Responses) -> Tensor:
        """Return the divergence."""
        comparable = torch.tensor(
            [first == second for first, second in zip(base.readout, responses.readout, strict=True)], dtype=torch.bool
        )
        comparable &= base.has_status("answered", "abstained") & responses.has_status("answered", "abstained")
        divergence = functional.letter_divergence(base.option_logprobs, responses.option_logprobs)
        return torch.where(comparable, divergence, math.nan)


def _right(responses: Responses) -> Tensor:
    return responses.choice == responses.target
