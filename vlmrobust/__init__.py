"""Does a vision-language model still look at the image, and does its answer follow from its chain of thought?"""

from . import perturbations
from .perturbations import Compose, Perturbation, expand, paper_conditions
from .types import Prompt, Response, Responses, Sample, Style

__version__ = "0.1.0"

__all__ = [
    "Compose",
    "Perturbation",
    "Prompt",
    "Response",
    "Responses",
    "Sample",
    "Style",
    "expand",
    "paper_conditions",
    "perturbations",
]
