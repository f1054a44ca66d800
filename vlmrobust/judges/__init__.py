"""Export the judges: they find the option that a thought asserts, and never see the answer."""

from .base import Judge, Verdicts
from .language_model import LMJudge
from .measured import Checked, LabelledThought, Measured, Rate, check, labelled_thoughts, measured, read_labelled
from .panel import Agreement, Kept, Panel
from .rules import RuleJudge
from .server import OpenAIJudge

__all__ = [
    "Agreement",
    "Checked",
    "Judge",
    "Kept",
    "LMJudge",
    "LabelledThought",
    "Measured",
    "OpenAIJudge",
    "Panel",
    "Rate",
    "RuleJudge",
    "Verdicts",
    "check",
    "labelled_thoughts",
    "measured",
    "read_labelled",
]
