"""Read samples from a file, a folder or a Hugging Face dataset.

`read_rows` opens a source; `samples_from` takes rows in memory; `load_benchmark` knows the columns of the published
benchmarks in `BENCHMARKS`.
"""

from .benchmarks import BENCHMARKS, load_benchmark
from .rows import FIELDS, AnswerAs, Row, RowsError, Samples, read_rows, samples_from

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
