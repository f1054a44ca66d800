"""Does a vision-language model still look at the image, and does its answer follow from its chain of thought?"""

import importlib
from typing import TYPE_CHECKING, Any

from . import functional, judges, metrics, perturbations, plots, styles
from .evaluator import Evaluator
from .judges import Judge
from .metrics import Metric, PairedMetric
from .models import HFModel, Model, OpenAIModel
from .perturbations import Compose, NotApplicable, Perturbation, expand, paper_conditions
from .report import Labels, Report
from .types import Prompt, Response, Responses, Sample, Style

if TYPE_CHECKING:
    from . import demo, rl, testing
    from .study import Study

__version__ = "0.1.0"

__all__ = [
    "Compose",
    "Evaluator",
    "HFModel",
    "Judge",
    "Labels",
    "Metric",
    "Model",
    "NotApplicable",
    "OpenAIModel",
    "PairedMetric",
    "Perturbation",
    "Prompt",
    "Report",
    "Response",
    "Responses",
    "Sample",
    "Study",
    "Style",
    "demo",
    "expand",
    "functional",
    "judges",
    "metrics",
    "paper_conditions",
    "perturbations",
    "plots",
    "rl",
    "styles",
    "testing",
]

_ON_FIRST_USE = frozenset({"demo", "rl", "testing"})


def __getattr__(name: str) -> Any:
    if name == "Study":
        return importlib.import_module(".study", __name__).Study
    if name in _ON_FIRST_USE:
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
