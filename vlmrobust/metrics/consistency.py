"""Measure chain-of-thought consistency (does the answer follow from the thought?) and its cross with correctness.

Consistency is the agreement of thought and answer; it does not check that the thought is true, grounded or causal. A
model that follows an injected wrong thought is consistent.

Four shares have different denominators and must not be mixed:

- `consistency`, P(consistent): over the answers for whose thought the judge gave a verdict;
- `consistent_correct`, P(correct ∧ consistent), and the three other quadrants: over the same answers, so that the four
  add up to 1, and consistent_correct + consistent_incorrect is `consistency`;
- `consistency_given_correct`, P(consistent | correct): over the correct ones among them;
- `consistency_coverage`: the share of all answers with a verdict.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self

import torch
from pydantic import Field
from torch import Tensor

from .. import functional
from ..judges import Judge, Kept, Panel, RuleJudge, Verdicts
from ..types import Responses
from .base import Metric, failed

__all__ = [
    "Consistency",
    "ConsistencyCoverage",
    "ConsistencyGivenCorrect",
    "ConsistentAccuracy",
    "JudgedMetric",
    "Quadrant",
    "quadrant_labels",
]


class JudgedMetric(Metric):
    """A metric based on a judge's verdicts; metrics with equal judges share them per set of responses.

    Attributes:
        judge: finds the option that a thought asserts.
    """

    judge: Judge = Field(default_factory=RuleJudge)

    @property
    def asks(self) -> bool:
        """Whether its judge, or a judge of its panel, is costly."""
        return _is_costly(self.judge)

    def keeping(self, verdicts: Path) -> Self:
        """Return the metric with its judge's verdicts cached in a folder, if the judge is costly."""
        return self.replace(judge=Kept.of(self.judge, verdicts))

    def failures(self, responses: Responses) -> Mapping[int, str]:
        """Return by position why a thought could not be judged."""
        return _verdicts(self.judge, responses).errors


class Consistency(JudgedMetric):
    """Share of judged answers that the thought concludes, P(consistent).

    1 or 0; NaN if there is no answer, the thought is empty, or the judge is unsure; consider `consistency_coverage`
    too.

    Attributes:
        judge: finds the option that a thought asserts; metrics with equal judges share verdicts.

    Example:
        >>> Consistency().column
        'consistency'

    Source:
        Zhao et al., arXiv:2602.12506.
    """

    is_rate = True
    higher_is_better = True

    def per_sample(self, responses: Responses) -> Tensor:
        """Return 1 if the thought asserts the answer, 0 if it asserts another option."""
        return _consistent(self.judge, responses)


class ConsistencyCoverage(JudgedMetric):
    """Share of answers for whose thought the judge gave a verdict; NaN if there is no answer.

    Attributes:
        judge: as in `Consistency`.

    Example:
        >>> ConsistencyCoverage().column
        'consistency_coverage'
    """

    is_rate = True

    def per_sample(self, responses: Responses) -> Tensor:
        """Return 1 if an answer has a verdict, else 0."""
        judged = (~_consistent(self.judge, responses).isnan()).float()
        return torch.where(responses.has_status("answered"), judged, math.nan)


class ConsistencyGivenCorrect(JudgedMetric):
    """Share of correct, judged answers that the thought concludes, P(consistent | correct).

    1 or 0; NaN if the answer is wrong or `consistency` is undefined. Its paired differences are over samples that are
    correct on both sides.

    Attributes:
        judge: as in `Consistency`.

    Example:
        >>> ConsistencyGivenCorrect().column
        'consistency_given_correct'
    """

    is_rate = True
    higher_is_better = True

    def per_sample(self, responses: Responses) -> Tensor:
        """Return `consistency` if the answer is correct."""
        correct = responses.choice == responses.target
        return torch.where(correct, _consistent(self.judge, responses), math.nan)


class ConsistentAccuracy(JudgedMetric):
    """Share of responses that are right and whose thought concludes the answer.

    1 or 0; 0 without an answer (abstained, unparsed, truncated), as in `Accuracy`, unlike the quadrant
    `consistent_correct`. NaN if there is an answer, right or wrong, without a verdict on its thought; consider
    `consistency_coverage` too.

    Attributes:
        judge: as in `Consistency`.

    Example:
        >>> ConsistentAccuracy().column
        'consistent_accuracy'

    Source:
        Zhao et al., arXiv:2602.12506: the product in its faithfulness-aware reward.
    """

    is_rate = True
    higher_is_better = True

    def per_sample(self, responses: Responses) -> Tensor:
        """Return 1 if the answer is correct and consistent, else 0."""
        correct = (responses.choice == responses.target).float()
        return torch.where(responses.has_status("answered"), correct * _consistent(self.judge, responses), 0.0)


class Quadrant(JudgedMetric):
    """Share of judged answers in one quadrant of {consistent, inconsistent} × {correct, incorrect}.

    1 or 0; NaN if `consistency` is undefined. The four quadrants add up to 1.

    Attributes:
        kind: the quadrant; also the column's name, unless one is given.
        judge: as in `Consistency`.

    Example:
        >>> Quadrant(kind="inconsistent_correct").column
        'inconsistent_correct'

    Source:
        Zhao et al., arXiv:2602.12506.
    """

    is_rate = True

    kind: Literal["consistent_correct", "consistent_incorrect", "inconsistent_correct", "inconsistent_incorrect"]

    @property
    def column(self) -> str:
        """The quadrant, unless a name was given."""
        return self.name or self.kind

    def per_sample(self, responses: Responses) -> Tensor:
        """Return 1 in this quadrant, 0 in another."""
        codes = _quadrants(self.judge, responses)
        inside = (codes == functional.QUADRANTS.index(self.kind)).float()
        return torch.where(codes >= 0, inside, math.nan)


def _is_costly(judge: Judge) -> bool:
    return any(map(_is_costly, judge.judges)) if isinstance(judge, Panel) else judge.is_costly


def quadrant_labels(responses: Responses, judge: Judge | None = None) -> list[str | None]:
    """Return the quadrant of each response by name, for a table.

    Args:
        responses: N responses.
        judge: as in `Consistency`; None = `RuleJudge()`.

    Returns:
        N of `consistent_correct`, `consistent_incorrect`, `inconsistent_correct`, `inconsistent_incorrect`, or
        `undefined` without an answer or a verdict; None for a failed response.
    """
    codes = _quadrants(RuleJudge() if judge is None else judge, responses).tolist()
    names = [functional.QUADRANTS[code] if code >= 0 else "undefined" for code in codes]
    return [None if is_failed else name for name, is_failed in zip(names, failed(responses).tolist(), strict=True)]


def _quadrants(judge: Judge, responses: Responses) -> Tensor:
    correct = functional.accuracy(responses.choice, responses.target, responses.has_status("answered"))
    return functional.quadrants(_consistent(judge, responses), correct)


def _consistent(judge: Judge, responses: Responses) -> Tensor:
    return judge.agrees(_verdicts(judge, responses), responses)


def _verdicts(judge: Judge, responses: Responses) -> Verdicts:
    return responses.derive(("verdicts", judge), judge.verdicts)
