"""Metrics by the names of their columns: the one table of them."""

from collections.abc import Collection

from .metrics import (
    AreaUnderRiskCoverage,
    BrierScore,
    ConflictAcknowledgement,
    ConsistentAccuracy,
    ExpectedCalibrationError,
    LetterDivergence,
    Metric,
    NegativeLogLikelihood,
    PairedMetric,
    Repetition,
    default_metrics,
)
from .naming import did_you_mean

__all__ = ["METRICS", "metrics_named"]

METRICS: dict[str, Metric | PairedMetric] = {
    metric.column: metric
    for metric in (
        *default_metrics(),
        AreaUnderRiskCoverage(),
        BrierScore(),
        ConflictAcknowledgement(),
        ConsistentAccuracy(),
        ExpectedCalibrationError(),
        LetterDivergence(),
        NegativeLogLikelihood(),
        Repetition(),
    )
}


def metrics_named(names: Collection[str], others: Collection[str] = ()) -> list[Metric | PairedMetric]:
    """Return the metrics of some names.

    Args:
        names: of their columns.
        others: what else there is, such as the metrics of a report; for the message alone.

    Raises:
        ValueError: a name is not known; the message has the nearest, or all.

    Example:
        >>> metrics_named(["brier_scores"])
        Traceback (most recent call last):
        ValueError: expected the name of a metric, got 'brier_scores'; did you mean 'brier_score'?
    """
    for name in names:
        if name not in METRICS:
            known = list(dict.fromkeys((*others, *METRICS)))
            hint = did_you_mean(name, known) or f"known are {', '.join(known)}"
            raise ValueError(f"expected the name of a metric, got {name!r}; {hint}")
    return [METRICS[name] for name in names]
