"""Whether the probability of the given answer says how often it is right, and whether it tells right from wrong.

Both numbers belong to a set of responses, not to one: the value per response is the confidence that they are made of,
the renormalised probability of the letter that was answered. It is defined where a letter was read and one of the
sample's options was answered. Values of different read-outs are not comparable.
"""

import torch
from pydantic import Field
from torch import Tensor

from .. import functional
from ..types import Responses
from .base import Metric

__all__ = ["AreaUnderRiskCoverage", "ExpectedCalibrationError"]


class _ConfidenceMetric(Metric):
    higher_is_better = False
    reads_letters = True

    def per_sample(self, responses: Responses) -> Tensor:
        """Return the confidence: the renormalised probability of the answered letter."""
        return functional.correct_probability(responses.option_logprobs, responses.choice)


class ExpectedCalibrationError(_ConfidenceMetric):
    """Mean gap between confidence and accuracy over bins of confidence, in [0, 1].

    A condition's value is `functional.expected_calibration_error` of all its responses; its column in `report.frame` is
    the confidence. The error is biased upwards at small n, more so with many bins: read it beside
    `functional.calibration_error_floor`. A condition with fewer defined responses has a higher floor.

    Attributes:
        bins: how many.
        equal_mass: bins that hold equally many responses, instead of equally wide ones.

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
        """`expected_calibration_error`, with what is not the default."""
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
    """Mean error rate over all shares of questions that could be answered, the surest first (AURC), in [0, 1].

    A condition's value is `functional.area_under_risk_coverage` of all its responses, ranked by the log-odds of the
    answered letter; its column in `report.frame` is the confidence. It holds the error rate itself: `excess=True` takes
    away what the best possible order would leave.

    Attributes:
        excess: the area above that of the best order (E-AURC).

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
        # Not by the values: float32 probabilities saturate at 1 and tie.
        odds = responses.derive("log-odds of the answer", _answer_log_odds)
        correct = torch.where(values.isnan(), values, (responses.choice == responses.target).to(values))
        area = functional.excess_area_under_risk_coverage if self.excess else functional.area_under_risk_coverage
        return float(area(odds, correct, weights))


def _answer_log_odds(responses: Responses) -> Tensor:
    return functional.correct_log_odds(responses.option_logprobs.double(), responses.choice)
