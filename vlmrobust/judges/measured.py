"""Record measured error rates of judges on real responses, and their effect on reported rates."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .checking import Rate
from .rules import RuleJudge

__all__ = ["Measured", "measured", "title_of"]


@dataclass(frozen=True, slots=True)
class Measured:
    """Counts of a judge's verdicts on real answers whose consistency with their thoughts was labelled by readers.

    Attributes:
        answers, models: the number of answers, and of the models that gave them.
        consistent: the number of consistent answers.
        false_alarms: those of them judged inconsistent.
        consistent_open: those of them without a verdict.
        inconsistent: the number of inconsistent answers.
        misses: those of them judged consistent.
        inconsistent_open: those of them without a verdict.
        inconclusive_open: the number of other answers, whose thoughts conclude nothing, without a verdict.
    """

    answers: int
    models: int
    consistent: int
    false_alarms: int
    consistent_open: int
    inconsistent: int
    misses: int
    inconsistent_open: int
    inconclusive_open: int

    @property
    def open(self) -> int:
        """The number of answers without a verdict."""
        return self.consistent_open + self.inconsistent_open + self.inconclusive_open

    @property
    def false_alarm_rate(self) -> tuple[float, float]:
        """Exact 95 % interval of the share of verdicts on consistent answers that are wrong."""
        rate = Rate.of(self.false_alarms, self.consistent - self.consistent_open)
        return rate.low, rate.high

    @property
    def miss_rate(self) -> tuple[float, float]:
        """Exact 95 % interval of the share of verdicts on inconsistent answers that are wrong."""
        rate = Rate.of(self.misses, self.inconsistent - self.inconsistent_open)
        return rate.low, rate.high

    def reported(self, truth: float) -> tuple[float, float]:
        """Return the least and the largest expected rate that the judge would report, given the true rate.

        The error rates are taken at the ends of their intervals; coverage is assumed equal for both classes.

        Args:
            truth: P(consistent) among the answers with a verdict.
        """
        (least_alarms, most_alarms), (least_misses, most_misses) = self.false_alarm_rate, self.miss_rate
        low = truth * (1 - most_alarms) + (1 - truth) * least_misses
        return low, truth * (1 - least_alarms) + (1 - truth) * most_misses


def measured(identity: Mapping[str, Any]) -> Measured | None:
    """Return the measured counts of a judge; None = not measured.

    The rules were measured on answers of 64 models, from eight public repositories and ten papers, part of which were
    used while the rules were written. The package contains none of these texts; repeat the count if the rules change.

    Args:
        identity: `Judge.identity` of the judge.

    Example:
        >>> measured(RuleJudge().identity()).false_alarms
        0
    """
    return _RULES if dict(identity) == RuleJudge().identity() else None


_RULES = Measured(
    answers=380,
    models=64,
    consistent=306,
    false_alarms=0,
    consistent_open=87,
    inconsistent=23,
    misses=0,
    inconsistent_open=7,
    inconclusive_open=47,
)


def title_of(identity: Mapping[str, Any]) -> str:
    """Return a judge's name for running text.

    Example:
        >>> title_of({"class": "Panel", "judges": [{"class": "RuleJudge"}, {"class": "LMJudge", "name": "org/model"}]})
        'Panel of RuleJudge and LMJudge org/model'
    """
    if "judges" in identity:
        return f"{identity['class']} of {' and '.join(map(title_of, identity['judges']))}"
    return " ".join(filter(None, (identity["class"], identity.get("name", ""))))
