"""Judges read a thought and say which option it asserts; they never see the answer."""

from .base import Judge, Verdicts
from .panel import Agreement, Panel
from .rules import RuleJudge

__all__ = ["Agreement", "Judge", "Panel", "RuleJudge", "Verdicts"]
