"""A whole study as one value: models × benchmarks × conditions × judges → one folder, one page."""

from .counting import Rates
from .study import Study, StudyResult

__all__ = ["Rates", "Study", "StudyResult"]
