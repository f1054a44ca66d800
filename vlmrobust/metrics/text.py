"""What the generated text looks like: its format, and the entropy of its tokens."""

import torch
from torch import Tensor

from ..types import Responses
from .base import Metric

__all__ = ["FormatRate", "TokenEntropy"]


class FormatRate(Metric):
    """Share of responses whose whole turn is one thought in its tags, then one answer in its tags.

    1 or 0; 0 where the text was truncated, NaN where the model did not write it (a forced read-out).

    Example:
        >>> FormatRate().column
        'format_rate'
    """

    is_rate = True

    higher_is_better = True

    def per_sample(self, responses: Responses) -> Tensor:
        """Return 1 where the turn is well formed, else 0."""
        return torch.where(responses.has_status("truncated"), 0.0, responses.well_formed)


class TokenEntropy(Metric):
    """Mean entropy of the next-token distribution over the generated tokens, in nats; NaN where it was not measured.

    Example:
        >>> TokenEntropy().column
        'token_entropy'
    """

    def per_sample(self, responses: Responses) -> Tensor:
        """Return the mean token entropy."""
        return responses.token_entropy
