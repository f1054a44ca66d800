"""A judge that works by rules."""

import math
from typing import Annotated, ClassVar

import torch
from pydantic import Field

from ..types import Responses
from .base import Judge, Verdicts

__all__ = ["RuleJudge"]


class RuleJudge(Judge):
    """Reads what a thought finally concludes by rules, without any model; see `concluded_option`.

    A verdict rests on one piece of evidence, and has the probability that this kind of evidence was right on labelled
    responses of real models. What is said in a way that is not reliable is unsure, and so undefined, not inconsistent.

    Attributes:
        min_probability: in [0, 1]; evidence that is less reliable leaves the thought unsure.
        min_contradiction: as for every judge; the default takes evidence that was right nine times in ten.

    Example:
        >>> RuleJudge(min_probability=0.9).title
        'RuleJudge'
    """

    is_costly: ClassVar[bool] = False

    min_probability: Annotated[float, Field(ge=0, le=1)] = 0.0
    min_contradiction: Annotated[float, Field(ge=0, le=1)] = 0.9

    def conclude(self, responses: Responses) -> Verdicts:
        """Read every thought."""
        from .evidence import RELIABILITY, concluded_option  # its patterns take a while to compile: at first use

        rows = zip(responses.think, responses.options, responses.letters, responses.question, strict=True)
        found = [concluded_option(*row) for row in rows]
        own = [
            None if said.option is None else order[said.option]
            for said, order in zip(found, responses.order, strict=True)
        ]
        probability = torch.tensor([RELIABILITY.get(said.kind, math.nan) for said in found], dtype=torch.float32)
        unsure = torch.tensor([said.unsure for said in found], dtype=torch.bool)
        return Verdicts(
            torch.tensor([-1 if option is None else option for option in own], dtype=torch.int64),
            unsure | (probability < self.min_probability),
            probability,
        )
