"""Which option was chosen: the correct one, the distractor, an added one, or none that could be read."""

from typing import ClassVar

import torch
from torch import Tensor

from .. import functional
from ..types import Responses
from .base import Metric, failed

__all__ = ["AbstainRate", "Accuracy", "FollowRate", "TruncatedRate", "UnparsedRate"]


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
