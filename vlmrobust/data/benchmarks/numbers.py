"""Options for open questions whose answer is a number."""

import re
from decimal import Decimal

import numpy as np

from .questions import LeftOut

__all__ = ["OPTIONS", "nearby_numbers"]

OPTIONS = 4
_PLAIN = re.compile(r"[0-9]+(?:\.[0-9]+)?")


def nearby_numbers(number: str, generator: np.random.Generator) -> list[str]:
    """Return four successive numbers with as many decimals, the given one first.

    It is as likely to be the smallest of them as the second, third or largest, so that its place among the others tells
    nothing; distractors around it would make it the middle one. No number is below zero: those below three have fewer
    places. All steps are one unit of the last digit, whatever the number: if larger numbers had wider steps, the step
    would tell how large the right one is.

    Args:
        number: without sign, such as "7" or "12.5".
        generator: draws the place.

    Raises:
        LeftOut: it is no such number; a formula or a unit are not taken apart.

    Example:
        >>> nearby_numbers("7", np.random.default_rng(0))
        ['7', '4', '5', '6']
        >>> nearby_numbers("0.0", np.random.default_rng(0))
        ['0.0', '0.1', '0.2', '0.3']
    """
    if not _PLAIN.fullmatch(number):
        raise LeftOut("an open question whose answer is no plain number")
    decimals = len(number.partition(".")[2])
    units = int(Decimal(number).scaleb(decimals))
    smallest = units - int(generator.integers(min(units, OPTIONS - 1) + 1))
    others = [value for value in range(smallest, smallest + OPTIONS) if value != units]
    return [number, *(f"{Decimal(value).scaleb(-decimals):f}" for value in others)]
