"""Tensors in, tensors out: letters, entropy, robustness and paired statistics, for people with their own loop."""

from .entropy import mean_token_entropy, token_entropy
from .letters import (
    correct_log_odds,
    correct_probability,
    letter_entropy,
    letter_mass,
    letter_probabilities,
    relative_letter_entropy,
)
from .robustness import QUADRANTS, accuracy, follow, quadrants

__all__ = [
    "QUADRANTS",
    "accuracy",
    "correct_log_odds",
    "correct_probability",
    "follow",
    "letter_entropy",
    "letter_mass",
    "letter_probabilities",
    "mean_token_entropy",
    "quadrants",
    "relative_letter_entropy",
    "token_entropy",
]
