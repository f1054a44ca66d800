"""Perturbations of five strengths."""

from typing import Annotated

from pydantic import Field

from ..naming import snake_case
from .base import Perturbation

__all__ = ["Graded", "Severity"]

Severity = Annotated[int, Field(ge=1, le=5)]


class Graded(Perturbation):
    """A perturbation of a strength from 1 to 5, which its condition's name ends in.

    Strengths of one sample share their random numbers, so that they differ in the strength alone.
    """

    severity: Severity = 3

    @property
    def condition(self) -> str:
        """The class name in snake case and the severity, such as `typos_3`, unless a name was given."""
        return self.name or f"{snake_case(type(self).__name__)}_{self.severity}"
