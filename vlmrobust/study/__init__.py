"""A whole study as one value: models × benchmarks × conditions × judges → one folder, one page."""

from .cost import Rates
from .result import StudyResult
from .study import Study

__all__ = ["Rates", "Study", "StudyResult"]
