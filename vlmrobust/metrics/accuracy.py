"""Measure the chosen options, the shares without an answer, and how a condition changes answers and letters.

Shifts of P(correct), P(distractor) or an entropy are no separate metrics: the summary has them as the `difference` of
the plain metric, on the same pairs.

In a report with several draws, the row of base compares its draws with each other. Sampled answers flip without any
perturbation, and this is the noise floor of flip rates. With one draw it is undefined.
"""

import math
from typing import ClassVar

import torch
from torch import Tensor

from .. import functional
from ..types import Responses
from .base import Metric, PairedMetric, failed

__all__ = [
    "AbstainRate",
    "Accuracy",
    "FlipRate",
    "FollowRate",
    "Harmed",
    "Helped",
    "LetterDivergence",
    "RobustAccuracy",
    "TruncatedRate",
    "UnparsedRate",
]


class Accuracy(Metric):
    """Share of responses that answer with the correct option.

    1 or 0; an abstained, unparsed or truncated answer is 0, so consider `abstain_rate`, `unparsed_rate` and
    `truncated_rate` too.

    Example:
        >>> Accuracy().column
        'accuracy'
    """

    is_rate = True
    higher_is_better = True

    def per_sample(self, responses: Responses) -> Tensor:
        """Return 1 if the answer is the target, else 0."""
        return functional.accuracy(responses.choice, responses.target, ~failed(responses))


class FollowRate(Metric):
    """Share of responses that answer with the wrong option that the text asserts.

    1 or 0, like `Accuracy`. If the text asserts no wrong option, the sample's distractor is used, which all misleading
    texts of the library assert: under base, this is how often that option is chosen without a text; under the controls,
    which assert the correct option, how often the distractor is chosen against the text. NaN if there is neither. If a
    condition's text asserts another wrong option, base is scored by that one (`base_value` in the summary), so that the
    difference is the effect of the text.

    Example:
        >>> FollowRate().column
        'follow_rate'
    """

    is_rate = True
    higher_is_better = False
    reads_asserted = True

    def per_sample(self, responses: Responses) -> Tensor:
        """Return 1 if the answer is the asserted wrong option, else 0."""
        wrong = torch.where(responses.is_misled(), responses.asserted, responses.distractor)
        return functional.follow(responses.choice, wrong, ~failed(responses))


class _StatusRate(Metric):
    is_rate = True
    counted: ClassVar[str]

    def per_sample(self, responses: Responses) -> Tensor:
        """Return 1 if the status is the counted one, else 0."""
        return responses.has_status(self.counted)


class AbstainRate(_StatusRate):
    """Share of responses that choose an added option, such as "I'm not sure".

    Example:
        >>> AbstainRate().column
        'abstain_rate'
    """

    counted = "abstained"


class UnparsedRate(_StatusRate):
    """Share of responses without a clear answer in a complete text; they count as wrong in `accuracy`.

    Example:
        >>> UnparsedRate().column
        'unparsed_rate'
    """

    higher_is_better = False
    counted = "unparsed"


class TruncatedRate(_StatusRate):
    """Share of responses that reached the token limit or never closed their thought; counted as wrong in `accuracy`.

    Example:
        >>> TruncatedRate().column
        'truncated_rate'
    """

    higher_is_better = False
    counted = "truncated"


class FlipRate(PairedMetric):
    """Share of samples whose answer differs from that under base.

    1 or 0; no answer (abstained, unparsed, truncated) counts as a further answer.

    Example:
        >>> FlipRate().column
        'flip_rate'
    """

    is_rate = True
    higher_is_better = False

    def per_pair(self, base: Responses, responses: Responses) -> Tensor:
        """Return 1 if the two answers differ, else 0."""
        return base.choice != responses.choice


class Harmed(PairedMetric):
    """Share of samples that are right under base and not right under the condition.

    1 or 0. `helped` − `harmed` is the difference in accuracy, which hides how many answers changed. Divided by base
    accuracy, it is the share of right answers that are lost.

    Example:
        >>> Harmed().column
        'harmed'
    """

    is_rate = True
    higher_is_better = False

    def per_pair(self, base: Responses, responses: Responses) -> Tensor:
        """Return 1 if right became wrong, else 0."""
        return _right(base) & ~_right(responses)


class Helped(PairedMetric):
    """Share of samples that are not right under base and right under the condition.

    1 or 0. Under a control that leaks the answer it is expected; under a wrong text it is chance, or a lucky guess.

    Example:
        >>> Helped().column
        'helped'
    """

    is_rate = True
    higher_is_better = True

    def per_pair(self, base: Responses, responses: Responses) -> Tensor:
        """Return 1 if wrong became right, else 0."""
        return ~_right(base) & _right(responses)


class RobustAccuracy(PairedMetric):
    """Share of samples that are right under base and under the condition.

    1 or 0; base accuracy − `harmed`. `Report.robust_accuracy` combines several conditions.

    Example:
        >>> RobustAccuracy().column
        'robust_accuracy'
    """

    is_rate = True
    higher_is_better = True

    def per_pair(self, base: Responses, responses: Responses) -> Tensor:
        """Return 1 if both answers are right, else 0."""
        return _right(base) & _right(responses)


class LetterDivergence(PairedMetric):
    """Jensen–Shannon divergence of the letter distributions under base and the condition, in nats, in [0, ln 2].

    It also detects shifts that do not flip the answer. NaN if one of the two has no letters or no answer, or if their
    read-outs differ.

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
