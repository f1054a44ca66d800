"""Tensors in, tensors out: letters, calibration, robustness and paired statistics, for people with their own loop."""

from .agreement import fleiss_kappa, pairwise_agreement, strict_agreement
from .averages import average_interval
from .bootstrap import (
    Difference,
    Estimate,
    bootstrap_mean,
    bootstrap_means,
    paired_bootstrap,
    paired_bootstraps,
)
from .calibration import (
    ReliabilityCurve,
    brier_score,
    calibration_error_floor,
    confidence_brier_score,
    expected_calibration_error,
    negative_log_likelihood,
    reliability_curve,
)
from .draws import answer_entropy, draw_agreement, majority_correct, majority_share, pass_at_k
from .entropy import mean_token_entropy, token_entropy
from .intervals import mean_interval, mean_intervals, paired_interval, paired_intervals
from .letters import (
    correct_log_odds,
    correct_probability,
    letter_divergence,
    letter_entropy,
    letter_mass,
    letter_probabilities,
    relative_letter_entropy,
)
from .prediction_powered import PoweredDifference, post_stratified_difference, post_stratified_rate
from .ranking import auroc, auroc_interval
from .resampling import resample_counts
from .robustness import QUADRANTS, accuracy, follow, quadrants
from .scoring import TokenScores, score_tokens
from .selective import (
    RiskCoverage,
    area_under_risk_coverage,
    excess_area_under_risk_coverage,
    risk_coverage_curve,
)
from .statistics import (
    benjamini_hochberg,
    holm,
    mcnemar_exact,
    minimum_detectable_effect,
    newcombe_paired_interval,
    tango_interval,
    tango_p,
    wilson_interval,
)

__all__ = [
    "QUADRANTS",
    "Difference",
    "Estimate",
    "PoweredDifference",
    "ReliabilityCurve",
    "RiskCoverage",
    "TokenScores",
    "accuracy",
    "answer_entropy",
    "area_under_risk_coverage",
    "auroc",
    "auroc_interval",
    "average_interval",
    "benjamini_hochberg",
    "bootstrap_mean",
    "bootstrap_means",
    "brier_score",
    "calibration_error_floor",
    "confidence_brier_score",
    "correct_log_odds",
    "correct_probability",
    "draw_agreement",
    "excess_area_under_risk_coverage",
    "expected_calibration_error",
    "fleiss_kappa",
    "follow",
    "holm",
    "letter_divergence",
    "letter_entropy",
    "letter_mass",
    "letter_probabilities",
    "majority_correct",
    "majority_share",
    "mcnemar_exact",
    "mean_interval",
    "mean_intervals",
    "mean_token_entropy",
    "minimum_detectable_effect",
    "negative_log_likelihood",
    "newcombe_paired_interval",
    "paired_bootstrap",
    "paired_bootstraps",
    "paired_interval",
    "paired_intervals",
    "pairwise_agreement",
    "pass_at_k",
    "post_stratified_difference",
    "post_stratified_rate",
    "quadrants",
    "relative_letter_entropy",
    "reliability_curve",
    "resample_counts",
    "risk_coverage_curve",
    "score_tokens",
    "strict_agreement",
    "tango_interval",
    "tango_p",
    "token_entropy",
    "wilson_interval",
]
