"""How classes get the names that stand in reports, and how these names are shown to people."""

import re
from collections import Counter
from collections.abc import Iterable

__all__ = ["readable", "snake_case", "unit_labels"]

Unit = tuple[str, str | None]

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


def unit_labels(units: Iterable[Unit]) -> dict[Unit, str]:
    """Return how the responses of each condition that were carried in one way are called.

    The carrier stands in the label where it is no prefill, or where the condition was carried in another way as well.

    Args:
        units: pairs of a condition's name and its carrier, None = nothing was carried; each may come several times.

    Example:
        >>> unit_labels([("base", "assistant_prefill"), ("wrong_think", "user_text")]).values()
        dict_values(['base', 'wrong_think [user_text]'])
    """
    distinct = list(dict.fromkeys(units))
    count = Counter(condition for condition, _ in distinct)
    return {
        (condition, carrier): f"{condition} [{carrier}]"
        if count[condition] > 1 or carrier == "user_text"
        else condition
        for condition, carrier in distinct
    }
