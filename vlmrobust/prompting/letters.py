"""The letters that options are shown with."""

import string

__all__ = ["LETTERS"]

LETTERS = string.ascii_uppercase
