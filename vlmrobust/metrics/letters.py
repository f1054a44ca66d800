"""How sure the model was of its letter.

All are read from the letter distribution and defined where a letter was read and the text has an answer (status
`answered` or `abstained`). Values of different read-outs are not comparable.
"""

import math
from abc import abstractmethod

import torch
from torch import Tensor

from .. import functional
from ..types import Responses
from .base import Metric

__all__ = [
    "BrierScore",
    "CorrectProbability",
    "DistractorProbability",
    "LetterEntropy",
    "LetterMass",
    "NegativeLogLikelihood",
    "RelativeLetterEntropy",
]


class _LetterMetric(Metric):
    reads_letters = True

    def per_sample(self, responses: Responses) -> Tensor:
        """Return the value where a letter was read and an answer found."""
        return torch.where(responses.has_status("answered", "abstained"), self._values(responses), math.nan)

    @abstractmethod
    def _values(self, responses: Responses) -> Tensor: ...


class CorrectProbability(_LetterMetric):
    """Renormalised probability of the correct letter, in [0, 1].

    Example:
        >>> CorrectProbability().column
        'correct_probability'
    """

    higher_is_better = True

    def _values(self, responses: Responses) -> Tensor:
        return functional.correct_probability(responses.option_logprobs, responses.target)


class DistractorProbability(_LetterMetric):
    """Renormalised probability of the distractor's letter, in [0, 1]; NaN where the sample has no distractor.

    The distractor is the one wrong option that all conditions assert, so its difference from base is how much of the
    probability the misleading text draws to it, also where the answer stays.

    Example:
        >>> DistractorProbability().column
        'distractor_probability'
    """

    higher_is_better = False

    def _values(self, responses: Responses) -> Tensor:
        return functional.correct_probability(responses.option_logprobs, responses.distractor)


class NegativeLogLikelihood(_LetterMetric):
    """Negative log-likelihood of the correct letter, −ln P(correct), in nats; NaN where that letter is not shown.

    A proper score: it rewards honest probabilities, and a single confident error costs more than many mild ones.

    Example:
        >>> NegativeLogLikelihood().column
        'negative_log_likelihood'
    """

    higher_is_better = False

    def _values(self, responses: Responses) -> Tensor:
        values = functional.negative_log_likelihood(responses.option_logprobs, responses.target)
        return torch.where(values.isinf(), math.nan, values)


class BrierScore(_LetterMetric):
    """Squared distance of the letter distribution from the correct letter, Σ (p − 1[correct])², in [0, 2].

    A proper score like `NegativeLogLikelihood`, but bounded; 1 − 1/k for a uniform distribution over k options.

    Example:
        >>> BrierScore().column
        'brier_score'
    """

    higher_is_better = False

    def _values(self, responses: Responses) -> Tensor:
        return functional.brier_score(responses.option_logprobs, responses.target)


class LetterEntropy(_LetterMetric):
    """Entropy H of the renormalised letter distribution, in nats, between 0 and ln k for k options.

    Example:
        >>> LetterEntropy().column
        'letter_entropy'
    """

    def _values(self, responses: Responses) -> Tensor:
        return functional.letter_entropy(responses.option_logprobs)


class RelativeLetterEntropy(_LetterMetric):
    """Letter entropy over its largest possible value, H / ln k, in [0, 1]; k = the sample's options that are shown.

    Example:
        >>> RelativeLetterEntropy().column
        'relative_letter_entropy'
    """

    def _values(self, responses: Responses) -> Tensor:
        shown = [sum(index is not None for index in order) for order in responses.order]
        return functional.relative_letter_entropy(responses.option_logprobs, torch.tensor(shown, dtype=torch.int64))


class LetterMass(_LetterMetric):
    """Probability of all shown letters together, added options included, in [0, 1].

    Where it is small, the model was not about to write a letter, and its renormalised distribution says little.

    Example:
        >>> LetterMass().column
        'letter_mass'
    """

    def _values(self, responses: Responses) -> Tensor:
        return functional.letter_mass(responses.option_logprobs, responses.added_logprobs)
