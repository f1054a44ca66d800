"""Which option was chosen, and what a condition changes in it, response by response.

How far P(correct), P(distractor) or an entropy shifts is no metric of its own: it is the `difference` of the plain
metric in the summary, which is on the same pairs.

In a report with several draws, the row of base itself compares its draws with each other: sampled answers flip by
themselves, and that is the floor of every flip rate. With one draw it is undefined.
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

    1 or 0; an abstained, unparsed or truncated answer is 0, so read `abstain_rate`, `unparsed_rate` and
    `truncated_rate` beside it.

    Example:
        >>> Accuracy().column
        'accuracy'
    """

    is_rate = True

    higher_is_better = True

    def per_sample(self, responses: Responses) -> Tensor:
        """Return 1 where the answer is the target, else 0."""
        return functional.accuracy(responses.choice, responses.target, ~failed(responses))


class FollowRate(Metric):
    """Share of responses that answer with the wrong option that the text asserts.

    1 or 0, like `Accuracy`. Where the text asserts no wrong option, the sample's distractor is counted, which all of
    the library's misleading texts assert: under base it is how often that option is chosen anyhow; under the controls,
    which assert the correct option, it is how often the distractor is chosen against the text. NaN where there is
    neither. Beside a condition whose text asserts another wrong option, base is scored by that one (`base_value` in the
    summary), so that the difference is what the text adds.

    Example:
        >>> FollowRate().column
        'follow_rate'
    """

    is_rate = True

    higher_is_better = False
    reads_asserted = True

    def per_sample(self, responses: Responses) -> Tensor:
        """Return 1 where the answer is the asserted wrong option, else 0."""
        wrong = torch.where(responses.is_misled(), responses.asserted, responses.distractor)
        return functional.follow(responses.choice, wrong, ~failed(responses))


class _StatusRate(Metric):
    is_rate = True
    counted: ClassVar[str]

    def per_sample(self, responses: Responses) -> Tensor:
        """Return 1 where the status is the counted one, else 0."""
        return responses.has_status(self.counted)


class AbstainRate(_StatusRate):
    """Share of responses that choose an added option, such as "I'm not sure".

    Example:
        >>> AbstainRate().column
        'abstain_rate'
    """

    counted = "abstained"


class UnparsedRate(_StatusRate):
    """Share of responses without a clear answer in a finished text; they count as wrong in `accuracy`.

    Example:
        >>> UnparsedRate().column
        'unparsed_rate'
    """

    higher_is_better = False
    counted = "unparsed"


class TruncatedRate(_StatusRate):
    """Share of responses that ran to the token limit or never closed their thought; they count as wrong in `accuracy`.

    Example:
        >>> TruncatedRate().column
        'truncated_rate'
    """

    higher_is_better = False
    counted = "truncated"


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
