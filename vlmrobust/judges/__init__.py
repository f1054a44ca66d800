"""Judges read a thought and say which option it asserts; they never see the answer."""

from .base import Judge, Verdicts
from .rules import RuleJudge

__all__ = ["Judge", "RuleJudge", "Verdicts"]
