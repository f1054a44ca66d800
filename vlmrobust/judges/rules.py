"""Judge thoughts by rules, that is, by words and phrases, without a model.

`evidence` applies the rules; `sentences` has their phrases (conclusion, doubt, revision, contrast). The words that
reject an option are in `prompting.claims` (`_NEGATION`, `_NEGATED_AFTER`), and for an item of a list of options in
`sentences.NOT`.
"""

import math
from typing import Annotated, ClassVar

import torch
from pydantic import Field

from ..types import Responses
from .base import Judge, Verdicts

__all__ = ["RuleJudge"]


class RuleJudge(Judge):
    """Finds the final conclusion of a thought by rules, without a model; see `concluded_option`.

    A verdict rests on one piece of evidence; its probability is the precision of that kind of evidence on labelled
    responses of real models. A thought with unreliable evidence is unsure, so that its consistency is undefined.

    Attributes:
        min_probability: in [0, 1]; with less reliable evidence, the thought is unsure.
        min_contradiction: as for every judge; by default, evidence that was right nine times in ten.

    Example:
        >>> RuleJudge(min_probability=0.9).title
        'RuleJudge'
    """

    is_costly: ClassVar[bool] = False

    min_probability: Annotated[float, Field(ge=0, le=1)] = 0.0
    min_contradiction: Annotated[float, Field(ge=0, le=1)] = 0.9

    def conclude(self, responses: Responses) -> Verdicts:
        """Judge every thought."""
        from .evidence import RELIABILITY, concluded_option  # compiling its patterns is slow

        rows = zip(responses.think, responses.options, responses.letters, responses.question, strict=True)
        found = [concluded_option(*row) for row in rows]
        own = [
            None if evidence.option is None else order[evidence.option]
            for evidence, order in zip(found, responses.order, strict=True)
        ]
        reliability = [RELIABILITY.get(evidence.kind, math.nan) for evidence in found]
        probability = torch.tensor(reliability, dtype=torch.float32)
        unsure = torch.tensor([evidence.unsure for evidence in found], dtype=torch.bool)
        return Verdicts(
            torch.tensor([-1 if option is None else option for option in own], dtype=torch.int64),
            unsure | (probability < self.min_probability),
            probability,
        )
