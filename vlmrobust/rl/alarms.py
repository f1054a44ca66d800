"""Compare evaluations during training: detect collapsing thoughts, and resumed runs whose values differ."""

import math
from collections.abc import Mapping

from pydantic import Field

from ..types.frozen import Frozen

__all__ = ["Alarms", "moved"]


class Alarms(Frozen):
    """Thresholds for warnings; the `base` condition is compared with its first evaluation.

    All defaults are ours, and rough: they flag runs worth inspecting. A warning is not a significance test; the
    step's report has the intervals.

    Attributes:
        consistency_drop, accuracy_rise: warn when consistency has dropped by at least the first while accuracy has
            risen by more than the second, both in [0, 1].
        entropy_share, entropy_drop: warn when letter or token entropy is below this share of its first value and has
            dropped by at least `entropy_drop` nats.
        thought_share: warn when thoughts have fewer than this share of the first evaluation's words.

    Example:
        >>> before = {"accuracy": 0.6, "consistency": 0.9, "letter_entropy": 0.8, "thought_length": 40.0}
        >>> now = {"accuracy": 0.7, "consistency": 0.7, "letter_entropy": 0.7, "thought_length": 12.0}
        >>> for message in Alarms().raised(before, now):
        ...     print(message)
        consistency fell from 0.900 to 0.700 while accuracy rose from 0.600 to 0.700
        thoughts shortened from 40.0 to 12.0 words

    Source: arXiv:2602.12506 reports all three; the thresholds are ours.
    """

    consistency_drop: float = Field(default=0.05, ge=0, le=1)
    accuracy_rise: float = Field(default=0.0, ge=0, le=1)
    entropy_share: float = Field(default=0.5, ge=0, le=1)
    entropy_drop: float = Field(default=0.05, ge=0)
    thought_share: float = Field(default=0.5, ge=0, le=1)

    def raised(self, before: Mapping[str, float], now: Mapping[str, float]) -> list[str]:
        """Return a message for each alarm.

        Args:
            before: metrics of the first evaluation by column; a missing or NaN value raises no alarm.
            now: metrics of the current evaluation.
        """

        def pair(name: str) -> tuple[float, float]:
            return before.get(name, math.nan), now.get(name, math.nan)

        messages = []
        consistency, accuracy = pair("consistency"), pair("accuracy")
        dropped = consistency[1] <= consistency[0] - self.consistency_drop
        if dropped and accuracy[1] > accuracy[0] + self.accuracy_rise:
            messages.append(
                f"consistency fell from {consistency[0]:.3f} to {consistency[1]:.3f} "
                f"while accuracy rose from {accuracy[0]:.3f} to {accuracy[1]:.3f}"
            )
        for name in ("letter_entropy", "token_entropy"):
            first, last = pair(name)
            if last < self.entropy_share * first and last <= first - self.entropy_drop:
                messages.append(f"{name.replace('_', ' ')} collapsed from {first:.3f} to {last:.3f} nats")
        first, last = pair("thought_length")
        if last < self.thought_share * first:
            messages.append(f"thoughts shortened from {first:.1f} to {last:.1f} words")
        return messages


def moved(before: Mapping[str, float], now: Mapping[str, float], samples: int) -> list[str]:
    """Return messages `<name> was …, is …` for values of a resumed run that differ from those logged at its step.

    The same weights give the same values up to rounding, which may change a few answers.

    Args:
        before: logged values by `<condition>/<metric>`.
        now: values of the resumed run.
        samples: number of samples evaluated.
    """
    messages = []
    for name, value in before.items():
        allowed = max(0.02, 2 / samples, 0.05 * abs(value))
        if name in now and abs(now[name] - value) > allowed:
            messages.append(f"{name} was {value:.3f}, is {now[name]:.3f}")
    return messages
