"""How classes get the names that stand in reports."""

import re

__all__ = ["snake_case"]


def snake_case(name: str) -> str:
    """Return a class name in snake case, as conditions and metric columns are called.

    Example:
        >>> snake_case("WrongThink"), snake_case("AUROC"), snake_case("LMJudge")
        ('wrong_think', 'auroc', 'lm_judge')
    """
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
