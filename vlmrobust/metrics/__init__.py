"""Metrics: responses in, one number per response out, NaN where undefined; and the base classes for your own."""

from ..functional import QUADRANTS
from .accuracy import AbstainRate, Accuracy, FollowRate, TruncatedRate, UnparsedRate
from .base import BaseMetric, Metric, PairedMetric
from .consistency import Consistency, ConsistencyCoverage, ConsistencyGivenCorrect, Quadrant, quadrant_labels
from .letters import CorrectProbability, LetterEntropy, LetterMass, RelativeLetterEntropy
from .text import FormatRate, TokenEntropy

__all__ = [
    "AbstainRate",
    "Accuracy",
    "BaseMetric",
    "Consistency",
    "ConsistencyCoverage",
    "ConsistencyGivenCorrect",
    "CorrectProbability",
    "FollowRate",
    "FormatRate",
    "LetterEntropy",
    "LetterMass",
    "Metric",
    "PairedMetric",
    "Quadrant",
    "RelativeLetterEntropy",
    "TokenEntropy",
    "TruncatedRate",
    "UnparsedRate",
    "default_metrics",
    "quadrant_labels",
]


def default_metrics() -> tuple[Metric | PairedMetric, ...]:
    """Return the metrics of a report that names none: each share beside the ones it must be read with.

    Example:
        >>> [metric.column for metric in default_metrics()][:3]
        ['accuracy', 'unparsed_rate', 'truncated_rate']
    """
    return (
        Accuracy(),
        UnparsedRate(),
        TruncatedRate(),
        AbstainRate(),
        FollowRate(),
        CorrectProbability(),
        LetterEntropy(),
        RelativeLetterEntropy(),
        LetterMass(),
        TokenEntropy(),
        FormatRate(),
        Consistency(),
        ConsistencyCoverage(),
        ConsistencyGivenCorrect(),
        *(Quadrant(kind=kind) for kind in QUADRANTS),
    )
