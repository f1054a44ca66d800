"""Statements written from questions and options, by rules where a rule is sure."""

from .statement import statement, statements

__all__ = ["statement", "statements"]
