"""Judges read a thought and say which option it asserts; they never see the answer."""

from .base import Judge, Verdicts
from .language_model import LMJudge
from .panel import Agreement, Panel
from .rules import RuleJudge
from .server import OpenAIJudge

__all__ = ["Agreement", "Judge", "LMJudge", "OpenAIJudge", "Panel", "RuleJudge", "Verdicts"]
