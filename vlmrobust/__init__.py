"""Evaluate whether vision-language models use the image, and whether their answers follow from their thoughts."""

import sys
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from .former_paths import FormerPaths

if TYPE_CHECKING:
    from . import demo, functional, judges, metrics, perturbations, plots, rl, styles, testing
    from .evaluator import Evaluator
    from .judges import Judge
    from .merging import merge_runs
    from .metrics import Metric, PairedMetric
    from .models import HFModel, Model, OpenAIModel, VLLMModel
    from .perturbations import Compose, NotApplicable, Perturbation, expand, paper_conditions
    from .report import Labels, Report
    from .study import Study
    from .types import Prompt, Response, Responses, Sample, Style
    from .written_texts import WrittenTexts

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
    "VLLMModel",
    "WrittenTexts",
    "demo",
    "expand",
    "functional",
    "judges",
    "merge_runs",
    "metrics",
    "paper_conditions",
    "perturbations",
    "plots",
    "rl",
    "styles",
    "testing",
]

# Where a name lives, which is imported when it is first used: torch alone takes over a second.
_HOMES = {
    name: home
    for home, names in {
        "evaluator": "Evaluator",
        "judges": "Judge",
        "merging": "merge_runs",
        "metrics": "Metric PairedMetric",
        "models": "HFModel Model OpenAIModel VLLMModel",
        "perturbations": "Compose NotApplicable Perturbation expand paper_conditions",
        "report": "Labels Report",
        "study": "Study",
        "types": "Prompt Response Responses Sample Style",
        "written_texts": "WrittenTexts",
    }.items()
    for name in names.split()
}

# Asked last, after the module was found nowhere else.
sys.meta_path.append(FormerPaths(__name__))


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        globals()[name] = value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
        return value
    if not name.startswith("_") and find_spec(f".{name}", __name__):
        return import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
