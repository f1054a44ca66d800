"""Tensors in, tensors out: letters, entropy, robustness and paired statistics, for people with their own loop."""

from .bootstrap import (
    Difference,
    Estimate,
    bootstrap_mean,
    bootstrap_means,
    paired_bootstrap,
    paired_bootstraps,
)
from .entropy import mean_token_entropy, token_entropy
from .intervals import mean_interval, mean_intervals, paired_interval, paired_intervals
from .letters import (
    correct_log_odds,
    correct_probability,
    letter_entropy,
    letter_mass,
    letter_probabilities,
    relative_letter_entropy,
)
from .resampling import resample_counts
from .robustness import QUADRANTS, accuracy, follow, quadrants
from .scoring import TokenScores, score_tokens
from .statistics import holm, mcnemar_exact, newcombe_paired_interval, wilson_interval

__all__ = [
    "QUADRANTS",
    "Difference",
    "Estimate",
    "TokenScores",
    "accuracy",
    "bootstrap_mean",
    "bootstrap_means",
    "correct_log_odds",
    "correct_probability",
    "follow",
    "holm",
    "letter_entropy",
    "letter_mass",
    "letter_probabilities",
    "mcnemar_exact",
    "mean_interval",
    "mean_intervals",
    "mean_token_entropy",
    "newcombe_paired_interval",
    "paired_bootstrap",
    "paired_bootstraps",
    "paired_interval",
    "paired_intervals",
    "quadrants",
    "relative_letter_entropy",
    "resample_counts",
    "score_tokens",
    "token_entropy",
    "wilson_interval",
]
