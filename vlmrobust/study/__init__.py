"""Run studies: models × benchmarks × conditions × judges in one folder, with tables and one page."""

from .cost import Rates
from .study import Study, StudyResult

__all__ = ["Rates", "Study", "StudyResult"]
