"""Convert questions and options to statements by rules, where a rule is certain."""

from .statement import statement, statements

__all__ = ["statement", "statements"]
