"""Measure the model's confidence in its letter, and its calibration.

All metrics use the letter distribution and are defined if a letter was read and the text has an answer (status
`answered` or `abstained`). Values of different read-outs are not comparable.

If a style answers by text, the options' texts take the place of their letters. A text's log-probability is summed over
its tokens; `per_token=True` uses the mean instead, which does not favour short options but is not a log-probability; it
is NaN if letters were read.

By default, probabilities are renormalised over the sample's own options: comparable with base, and ignoring options
that a condition adds. `with_added=True` uses all options that are shown.

Calibration error and area under the risk-coverage curve are properties of a set of responses. Their value per response
is the underlying confidence, the renormalised probability of the answered letter, defined if a letter was read and one
of the sample's options was answered.
"""

import math
from abc import abstractmethod

import torch
from pydantic import Field
from torch import Tensor

from .. import functional
from ..types import Responses
from .base import Metric

__all__ = [
    "AreaUnderRiskCoverage",
    "BrierScore",
    "CorrectProbability",
    "DistractorProbability",
    "ExpectedCalibrationError",
    "LetterEntropy",
    "LetterMass",
    "NegativeLogLikelihood",
    "RelativeLetterEntropy",
]


class _LetterMetric(Metric):
    reads_letters = True

    def per_sample(self, responses: Responses) -> Tensor:
        """Return the value if a letter was read and the response has an answer."""
        return torch.where(responses.has_status("answered", "abstained"), self._values(responses), math.nan)

    @abstractmethod
    def _values(self, responses: Responses) -> Tensor: ...


class _RenormalisedMetric(_LetterMetric):
    per_token: bool = False
    with_added: bool = False

    @property
    def column(self) -> str:
        """The class name in snake case, with the suffixes `_per_token` and `_with_added` if set."""
        return self.name or super().column + "_per_token" * self.per_token + "_with_added" * self.with_added

    def _logprobs(self, responses: Responses) -> Tensor:
        own = responses.option_mean_logprobs() if self.per_token else responses.option_logprobs
        if not self.with_added:
            return own
        # Added options come last, so that the indices of the sample's own stay valid.
        return torch.cat([own, responses.added_logprobs], dim=1)


class CorrectProbability(_RenormalisedMetric):
    """Renormalised probability of the correct letter, in [0, 1].

    Attributes:
        per_token: use the mean log-probability over the tokens of the options' texts, not the sum.
        with_added: renormalise over all options shown, including added ones (such as "I'm not sure"), not only over the
            sample's own.

    Example:
        >>> CorrectProbability().column, CorrectProbability(per_token=True).column
        ('correct_probability', 'correct_probability_per_token')
    """

    higher_is_better = True

    def _values(self, responses: Responses) -> Tensor:
        return functional.correct_probability(self._logprobs(responses), responses.target)


class DistractorProbability(_RenormalisedMetric):
    """Renormalised probability of the distractor's letter, in [0, 1]; NaN if the sample has no distractor.

    The distractor is the wrong option that all conditions assert, so the difference from base is the probability that
    the misleading text shifts to it, even if the answer does not change.

    Attributes:
        per_token, with_added: see `CorrectProbability`.

    Example:
        >>> DistractorProbability().column
        'distractor_probability'
    """

    higher_is_better = False

    def _values(self, responses: Responses) -> Tensor:
        return functional.correct_probability(self._logprobs(responses), responses.distractor)


class NegativeLogLikelihood(_RenormalisedMetric):
    """Negative log-likelihood of the correct letter, −ln P(correct), in nats; NaN if that letter is not shown.

    A proper score: it rewards honest probabilities, and one confident error costs more than many mild ones.

    Attributes:
        per_token, with_added: see `CorrectProbability`.

    Example:
        >>> NegativeLogLikelihood().column
        'negative_log_likelihood'
    """

    higher_is_better = False

    def _values(self, responses: Responses) -> Tensor:
        values = functional.negative_log_likelihood(self._logprobs(responses), responses.target)
        return torch.where(values.isinf(), math.nan, values)


class BrierScore(_RenormalisedMetric):
    """Squared distance of the letter distribution from the correct letter, Σ (p − 1[correct])², in [0, 2].

    A proper score like `NegativeLogLikelihood`, but bounded; 1 − 1/k for a uniform distribution over k options.

    Attributes:
        per_token, with_added: see `CorrectProbability`.

    Example:
        >>> BrierScore().column
        'brier_score'
    """

    higher_is_better = False

    def _values(self, responses: Responses) -> Tensor:
        return functional.brier_score(self._logprobs(responses), responses.target)


class LetterEntropy(_RenormalisedMetric):
    """Entropy H of the renormalised letter distribution, in nats, between 0 and ln k for k options.

    Attributes:
        per_token, with_added: see `CorrectProbability`.

    Example:
        >>> LetterEntropy().column
        'letter_entropy'
    """

    def _values(self, responses: Responses) -> Tensor:
        return functional.letter_entropy(self._logprobs(responses))


class RelativeLetterEntropy(_RenormalisedMetric):
    """Letter entropy over its largest possible value, H / ln k, in [0, 1]; k = the sample's options that are shown.

    Attributes:
        per_token, with_added: see `CorrectProbability`.

    Example:
        >>> RelativeLetterEntropy().column
        'relative_letter_entropy'
    """

    def _values(self, responses: Responses) -> Tensor:
        shown = [sum(self.with_added or index is not None for index in order) for order in responses.order]
        return functional.relative_letter_entropy(self._logprobs(responses), torch.tensor(shown, dtype=torch.int64))


class LetterMass(_LetterMetric):
    """Total probability of all shown letters, added options included, in [0, 1].

    If it is small, the model was not about to write a letter, and the renormalised distribution means little.

    Example:
        >>> LetterMass().column
        'letter_mass'
    """

    def _values(self, responses: Responses) -> Tensor:
        return functional.letter_mass(responses.option_logprobs, responses.added_logprobs)


class _ConfidenceMetric(Metric):
    higher_is_better = False
    reads_letters = True

    def per_sample(self, responses: Responses) -> Tensor:
        """Return the confidence: the renormalised probability of the answered letter."""
        return functional.correct_probability(responses.option_logprobs, responses.choice)


class ExpectedCalibrationError(_ConfidenceMetric):
    """Mean gap between confidence and accuracy over bins of confidence, in [0, 1].

    A condition's value is `functional.expected_calibration_error` of all its responses; its column in `report.frame` is
    the confidence. The error is biased upwards for small n, more so with many bins; compare it with
    `functional.calibration_error_floor`. A condition with fewer defined responses has a higher floor.

    Attributes:
        bins: the number of bins.
        equal_mass: use bins with equally many responses, instead of equally wide ones.

    Example:
        >>> ExpectedCalibrationError().column, ExpectedCalibrationError(bins=10, equal_mass=True).column
        ('expected_calibration_error', 'expected_calibration_error_equal_mass_10')

    Source:
        Guo et al., arXiv:1706.04599; Nixon et al., arXiv:1904.01685 (equal mass).
    """

    bins: int = Field(default=15, ge=1)
    equal_mass: bool = False

    @property
    def column(self) -> str:
        """`expected_calibration_error`, with suffixes for non-default settings."""
        mass, bins = "_equal_mass" if self.equal_mass else "", "" if self.bins == 15 else f"_{self.bins}"
        return self.name or f"expected_calibration_error{mass}{bins}"

    def aggregate(self, values: Tensor, responses: Responses, weights: Tensor | None = None) -> float:
        """Return the error of these confidences."""
        correct = (responses.choice == responses.target).double()
        error = functional.expected_calibration_error(
            values, correct, bins=self.bins, equal_mass=self.equal_mass, weights=weights
        )
        return float(error)


class AreaUnderRiskCoverage(_ConfidenceMetric):
    """Mean error rate over all coverages, with the most confident answers first (AURC), in [0, 1].

    A condition's value is `functional.area_under_risk_coverage` of all its responses, ranked by the log-odds of the
    answered letter; its column in `report.frame` is the confidence. It depends on the error rate itself; `excess=True`
    subtracts the area of the best possible ranking.

    Attributes:
        excess: the area above that of the best ranking (E-AURC).

    Example:
        >>> AreaUnderRiskCoverage().column, AreaUnderRiskCoverage(excess=True).column
        ('area_under_risk_coverage', 'excess_area_under_risk_coverage')

    Source:
        Geifman, Uziel and El-Yaniv, arXiv:1805.08206.
    """

    excess: bool = False

    @property
    def column(self) -> str:
        """`area_under_risk_coverage`, or `excess_area_under_risk_coverage`."""
        return self.name or ("excess_" if self.excess else "") + "area_under_risk_coverage"

    def aggregate(self, values: Tensor, responses: Responses, weights: Tensor | None = None) -> float:
        """Return the area of these answers."""
        # Do not rank by `values`: float32 probabilities saturate at 1 and tie.
        odds = responses.derive("log-odds of the answer", _answer_log_odds)
        correct = torch.where(values.isnan(), values, (responses.choice == responses.target).to(values))
        area = functional.excess_area_under_risk_coverage if self.excess else functional.area_under_risk_coverage
        return float(area(odds, correct, weights))


def _answer_log_odds(responses: Responses) -> Tensor:
    return functional.correct_log_odds(responses.option_logprobs.double(), responses.choice)
