"""The letters that options can be shown with."""

import string

__all__ = ["LETTERS", "letter_columns"]

LETTERS = string.ascii_uppercase


def letter_columns(letters: str) -> list[int]:
    """Return where letters stand among all 26, the columns of a table of their log-probabilities.

    Example:
        >>> letter_columns("PQ")
        [15, 16]
    """
    return [LETTERS.index(letter) for letter in letters]
