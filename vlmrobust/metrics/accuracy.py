"""Which option was chosen: the correct one, the distractor, an added one, or none that could be read."""

from typing import ClassVar

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

    higher_is_better = True

    def per_sample(self, responses: Responses) -> Tensor:
        """Return 1 where the answer is the target, else 0."""
        return functional.accuracy(responses.choice, responses.target, ~failed(responses))


class FollowRate(Metric):
    """Share of responses that answer with the sample's distractor, the one wrong option that all conditions assert.

    1 or 0, like `Accuracy`; NaN where the sample has no distractor. It counts the distractor also where nothing asserts
    it: under base it is how often that option is chosen anyhow, and the difference from base is what the misleading
    text adds. Under the controls, which assert the correct option, it is how often the distractor is chosen against
    the text.

    Example:
        >>> FollowRate().column
        'follow_rate'
    """

    higher_is_better = False

    def per_sample(self, responses: Responses) -> Tensor:
        """Return 1 where the answer is the distractor, else 0."""
        return functional.follow(responses.choice, responses.distractor, ~failed(responses))


class _StatusRate(Metric):
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
