"""The letters and digits that options can be shown with."""

import string

__all__ = ["LETTERS", "MARKS", "letter_columns"]

LETTERS = string.ascii_uppercase
MARKS = LETTERS + string.digits


def letter_columns(letters: str) -> list[int]:
    """Return where letters or digits stand among all `MARKS`, the columns of a table of their log-probabilities.

    Example:
        >>> letter_columns("PQ")
        [15, 16]
    """
    return [MARKS.index(letter) for letter in letters]
