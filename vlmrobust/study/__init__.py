"""A whole study as one value: models × benchmarks × conditions × judges → one folder, one page."""

from .study import Study

__all__ = ["Study"]
