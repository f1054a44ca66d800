"""Convert class names to report names and labels, suggest similar names, and import objects by name."""

import importlib
import importlib.util
import re
import sys
from collections import Counter
from collections.abc import Collection, Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any

__all__ = ["did_you_mean", "imported", "made_at", "readable", "snake_case", "unit_labels", "unknown_name"]

Unit = tuple[str, str | None]

_TITLES = {"correct_probability": "P(correct)", "correct_probability_with_added": "P(correct) with added"}


def snake_case(name: str) -> str:
    """Return a class name in snake case, as in the names of conditions and metric columns.

    Example:
        >>> snake_case("WrongThink"), snake_case("AUROC"), snake_case("LMJudge")
        ('wrong_think', 'auroc', 'lm_judge')
    """
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def readable(name: str) -> str:
    """Return the name of a condition or a metric in readable form.

    Example:
        >>> readable("letter_entropy"), readable("correct_probability"), readable("wrong_caption+abstain_option")
        ('letter entropy', 'P(correct)', 'wrong caption + abstain option')
    """
    return _TITLES.get(name, name.replace("_", " ").replace("+", " + "))


def unit_labels(units: Iterable[Unit]) -> dict[Unit, str]:
    """Return the labels of pairs of condition and carrier.

    The label includes the carrier if it is not a prefill, or if the condition has several carriers.

    Args:
        units: pairs of a condition's name and its carrier, None = no carrier; pairs may repeat.

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
    """Return a suggestion of the most similar known name, ignoring case; None = none is similar.

    Example:
        >>> did_you_mean("CVBench", ["blink", "cv-bench"])
        "did you mean 'cv-bench'?"
        >>> did_you_mean("pope", ["blink", "cv-bench"])
    """
    as_written = {each.lower(): each for each in known}
    nearest = get_close_matches(name.lower(), as_written, n=1)
    return f"did you mean {as_written[nearest[0]]!r}?" if nearest else None


def unknown_name(name: str, known: Collection[str]) -> str:
    """Return the end of a message about an unknown name: the name, the most similar known one, if any, and all of them.

    Example:
        >>> unknown_name("red", ["Red", "blue"])
        "got 'red'; did you mean 'Red'? Known are Red, blue"
        >>> unknown_name("x", ["Red", "blue"])
        "got 'x'; known are Red, blue"
    """
    nearest = did_you_mean(name, known)
    begun = f"{nearest} Known" if nearest else "known"
    return f"got {name!r}; {begun} are {', '.join(known)}"


def imported(name: str, kind: str, where: str) -> Any:
    """Return the object named `module:name` or `file.py:name`; its module is imported, which runs its code.

    Args:
        name: the object's name.
        kind: the expected kind of object, for messages.
        where: start of messages.

    Raises:
        ValueError: the name has another form, or the file, the module or the name in it does not exist.

    Example:
        >>> imported("vlmrobust.naming:readable", "function", where="example")("wrong_think")
        'wrong think'
    """
    place, _, wanted = name.rpartition(":")
    if not place or not wanted:
        raise ValueError(f"{where}: expected module:{kind} or file.py:{kind}, got {name!r}")
    module = _file_module(Path(place), where) if place.endswith(".py") else _module(place, where)
    found = getattr(module, wanted, None)
    if found is None:
        raise ValueError(f"{where}: expected a {kind.lower()} {wanted!r} in {place}, found none")
    return found


def made_at(name: str, kinds: tuple[type, ...], what: str) -> Any:
    """Return the object named `module:Class` or `file.py:Class`; a class is instantiated without arguments.

    Args:
        name: the object's name.
        kinds: the allowed classes.
        what: name of such an object in messages.

    Raises:
        ValueError: the file, module or name does not exist, the object is of another kind, or its class needs
            arguments.

    Example:
        >>> from fractions import Fraction
        >>> made_at("fractions:Fraction", (Fraction,), "number")
        Fraction(0, 1)
    """
    where = f"{what} {name!r}"
    found = imported(name, "Class", where=where)
    if isinstance(found, type) and issubclass(found, kinds):
        try:
            found = found()
        except (TypeError, ValueError) as error:  # an abstract one, or one that has to be set
            raise ValueError(
                f"{where}: expected a class that needs no settings, or a {what} that is made there: {error}"
            ) from error
    if not isinstance(found, kinds):
        raise ValueError(
            f"{where}: expected a {' or a '.join(kind.__name__ for kind in kinds)} there, got {found!r:.100}"
        )
    return found


def _module(name: str, where: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # what it imports itself is missing
        raise ValueError(f"{where}: expected a module {name!r} that can be imported: {error}") from None


def _file_module(path: Path, where: str) -> Any:
    name = str(path)  # no other module is called like it
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise ValueError(f"{where}: expected a Python file, found none at {name!r}")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
