"""Judges read a thought and say which option it asserts; they never see the answer."""

from .base import Judge, Verdicts
from .checking import Checked, LabelledThought, Rate, check, labelled_thoughts, read_labelled
from .language_model import LMJudge
from .panel import Agreement, Panel
from .rules import RuleJudge
from .server import OpenAIJudge

__all__ = [
    "Agreement",
    "Checked",
    "Judge",
    "LMJudge",
    "LabelledThought",
    "OpenAIJudge",
    "Panel",
    "Rate",
    "RuleJudge",
    "Verdicts",
    "check",
    "labelled_thoughts",
    "read_labelled",
]
