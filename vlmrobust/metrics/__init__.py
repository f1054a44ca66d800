"""Metrics: responses in, one number per response out, NaN where undefined; and the base classes for your own."""

from .accuracy import AbstainRate, Accuracy, FollowRate, TruncatedRate, UnparsedRate
from .base import BaseMetric, Metric, PairedMetric
from .calibration import AreaUnderRiskCoverage, ExpectedCalibrationError
from .catalogue import default_metrics
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
