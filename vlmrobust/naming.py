"""How classes get the names that stand in reports, and how these names are shown to people."""

import re

__all__ = ["readable", "snake_case", "unit_label"]

_TITLES = {"correct_probability": "P(correct)"}


def snake_case(name: str) -> str:
    """Return a class name in snake case, as conditions and metric columns are called.

    Example:
        >>> snake_case("WrongThink"), snake_case("AUROC"), snake_case("LMJudge")
        ('wrong_think', 'auroc', 'lm_judge')
    """
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def readable(name: str) -> str:
    """Return the name of a condition or a metric as people read it.

    Example:
        >>> readable("letter_entropy"), readable("correct_probability"), readable("wrong_caption+abstain_option")
        ('letter entropy', 'P(correct)', 'wrong caption + abstain option')
    """
    return _TITLES.get(name, name.replace("_", " ").replace("+", " + "))


def unit_label(condition: str, carrier: str | None, *, is_split: bool) -> str:
    """Return how the responses of one condition that were carried in one way are called.

    Args:
        condition: its name.
        carrier: how it was carried; None = nothing was.
        is_split: the condition was carried in another way as well.

    Example:
        >>> unit_label("wrong_think", "user_text", is_split=False)
        'wrong_think [user_text]'
    """
    return f"{condition} [{carrier}]" if is_split or carrier == "user_text" else condition
