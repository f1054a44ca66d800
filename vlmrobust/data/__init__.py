"""Rows of a file, of a folder or of a Hugging Face dataset → samples.

`read_rows` opens what it is given; `samples_from` takes rows that you have already.
"""

from .rows import FIELDS, AnswerAs, Row, RowsError, Samples, samples_from
from .sources import read_rows

__all__ = ["FIELDS", "AnswerAs", "Row", "RowsError", "Samples", "read_rows", "samples_from"]
