"""A judge that works by rules."""

import torch

from ..types import Responses
from .base import Judge, Verdicts

__all__ = ["RuleJudge"]


class RuleJudge(Judge):
    """Reads what a thought finally asserts by rules, without any model; see `concluded_option`.

    It is precise rather than complete: what is said in a way it does not know is "asserts nothing" or "unsure", and so
    undefined, not inconsistent.

    Example:
        >>> RuleJudge().title
        'RuleJudge'
    """

    def conclude(self, responses: Responses) -> Verdicts:
        """Read every thought."""
        from .conclusion import concluded_option  # its patterns take a while to compile: at first use, not on import

        options, unsure = [], []
        rows = zip(responses.think, responses.options, responses.letters, responses.order, strict=True)
        for thought, shown, letters, order in rows:
            index, doubtful = concluded_option(thought, shown, letters)
            own = None if index is None else order[index]
            options.append(-1 if own is None else own)
            unsure.append(doubtful)
        return Verdicts.of(torch.tensor(options, dtype=torch.int64), torch.tensor(unsure, dtype=torch.bool))
