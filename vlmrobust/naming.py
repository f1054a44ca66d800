"""How classes get the names that stand in reports, how people see these names, and which they meant by another."""

import re
from collections import Counter
from collections.abc import Collection, Iterable
from difflib import get_close_matches

__all__ = ["did_you_mean", "readable", "snake_case", "unit_labels", "unknown_name"]

Unit = tuple[str, str | None]

_TITLES = {"correct_probability": "P(correct)", "correct_probability_with_added": "P(correct) with added"}


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


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """Return the question after the known name that is nearest to another, whatever their case; None = none is near.

    Example:
        >>> did_you_mean("CVBench", ["blink", "cv-bench"])
        "did you mean 'cv-bench'?"
        >>> did_you_mean("pope", ["blink", "cv-bench"])
    """
    as_written = {each.lower(): each for each in known}
    nearest = get_close_matches(name.lower(), as_written, n=1)
    return f"did you mean {as_written[nearest[0]]!r}?" if nearest else None


def unknown_name(name: str, known: Collection[str]) -> str:
    """Return what came instead of a known name, for the end of a message: the nearest known one, if any, and then all.

    Example:
        >>> unknown_name("red", ["Red", "blue"])
        "got 'red'; did you mean 'Red'? Known are Red, blue"
        >>> unknown_name("x", ["Red", "blue"])
        "got 'x'; known are Red, blue"
    """
    nearest = did_you_mean(name, known)
    begun = f"{nearest} Known" if nearest else "known"
    return f"got {name!r}; {begun} are {', '.join(known)}"
