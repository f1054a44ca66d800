"""Metrics: responses in, one number per response out, NaN where undefined; and the base classes for your own."""

from ..functional import QUADRANTS
from .accuracy import AbstainRate, Accuracy, FollowRate, TruncatedRate, UnparsedRate
from .base import BaseMetric, Metric, PairedMetric
from .calibration import AreaUnderRiskCoverage, ExpectedCalibrationError
from .consistency import (
    Consistency,
    ConsistencyCoverage,
    ConsistencyGivenCorrect,
    ConsistentAccuracy,
    JudgedMetric,
    Quadrant,
    quadrant_labels,
)
from .letters import (
    BrierScore,
    CorrectProbability,
    DistractorProbability,
    LetterEntropy,
    LetterMass,
    NegativeLogLikelihood,
    RelativeLetterEntropy,
)
from .paired import FlipRate, Harmed, Helped, LetterDivergence, RobustAccuracy
from .text import FormatRate, TokenEntropy
from .thoughts import ConflictAcknowledgement, Repetition, ThoughtLength

__all__ = [
    "AbstainRate",
    "Accuracy",
    "AreaUnderRiskCoverage",
    "BaseMetric",
    "BrierScore",
    "ConflictAcknowledgement",
    "Consistency",
    "ConsistencyCoverage",
    "ConsistencyGivenCorrect",
    "ConsistentAccuracy",
    "CorrectProbability",
    "DistractorProbability",
    "ExpectedCalibrationError",
    "FlipRate",
    "FollowRate",
    "FormatRate",
    "Harmed",
    "Helped",
    "JudgedMetric",
    "LetterDivergence",
    "LetterEntropy",
    "LetterMass",
    "Metric",
    "NegativeLogLikelihood",
    "PairedMetric",
    "Quadrant",
    "RelativeLetterEntropy",
    "Repetition",
    "RobustAccuracy",
    "ThoughtLength",
    "TokenEntropy",
    "TruncatedRate",
    "UnparsedRate",
    "default_metrics",
    "quadrant_labels",
]


def default_metrics() -> tuple[Metric | PairedMetric, ...]:
    """Return the metrics of a report that names none: each share beside the ones it must be read with.

    They are what arXiv:2602.12506 measures, and what is cheap beside it. Proper scores, calibration, divergence,
    repetition and acknowledgement are for those who name them.

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
        FlipRate(),
        Harmed(),
        Helped(),
        RobustAccuracy(),
        CorrectProbability(),
        CorrectProbability(with_added=True),
        DistractorProbability(),
        LetterEntropy(),
        LetterEntropy(with_added=True),
        RelativeLetterEntropy(),
        LetterMass(),
        TokenEntropy(),
        FormatRate(),
        ThoughtLength(),
        Consistency(),
        ConsistencyCoverage(),
        ConsistencyGivenCorrect(),
        *(Quadrant(kind=kind) for kind in QUADRANTS),
    )
