"""Published benchmarks by name: `load_benchmark` reads one, `BENCHMARKS` lists them.

A reader is a pure function from a row with the benchmark's own columns to the fields of a sample; the rows then go the
way of all rows, through `samples_from`.
"""

from .load import load_benchmark
from .registry import BENCHMARKS

__all__ = ["BENCHMARKS", "load_benchmark"]
