"""Rows of a file, of a folder or of a Hugging Face dataset → samples.

`read_rows` opens what it is given; `samples_from` takes rows that you have already; `load_benchmark` knows the columns
of published benchmarks, which `BENCHMARKS` lists.
"""

from .benchmarks import BENCHMARKS, load_benchmark
from .rows import FIELDS, AnswerAs, Row, RowsError, Samples, samples_from
from .sources import read_rows

__all__ = [
    "BENCHMARKS",
    "FIELDS",
    "AnswerAs",
    "Row",
    "RowsError",
    "Samples",
    "load_benchmark",
    "read_rows",
    "samples_from",
]
