r"""Read the unit after a number: "5 km/h", "12 square metres", "$30^{\circ}\mathrm{C}$".

A unit is a product of powers, so that "m/s²", "m s^{-2}" and "metres per second squared" are equal.
"""

import re
from typing import NamedTuple

__all__ = ["Unit", "same_unit", "unit_at"]

# A unit's name in the folded text, and its other spellings; plurals in "s" are found without an entry. "nm" is missing
# because the folded text does not tell nanometres from newton metres.
_SPELLINGS = """
m meter metre; cm centimeter centimetre; mm millimeter millimetre; km kilometer kilometre
µm μm micrometer micrometre; mi mile; ft foot feet; inch inches; yd yard
g gram gramme; kg kilogram kilogramme; mg milligram; t ton tonne; lb pound; oz ounce
s sec second; ms millisecond; min minute; h hr hour; day; week; month; year
l liter litre; ml milliliter millilitre; n newton; kn kilonewton; pa pascal; kpa kilopascal; mpa megapascal; mol mole
j joule; kj kilojoule; w watt; kw kilowatt; mw megawatt; v volt; kv kilovolt; mv millivolt; amp ampere; ma milliampere
ω ohm \\omega; kω kiloohm k\\omega; hz hertz; khz kilohertz; mhz megahertz
° degree \\circ; °c celsius c; °f fahrenheit f; k kelvin; % percent \\%
€ euro; £; dollar; cent; am; pm; hundred; thousand; million; billion; trillion
"""
_NAMES = {
    spelling: spellings[0]
    for spellings in map(str.split, re.split("[;\n]", _SPELLINGS.strip()))
    for spelling in spellings
}
_GAP = r"(?:[ ~$*·⋅{}-]|\\[,;:! ]|\\(?:text(?:rm|bf)?|math(?:rm|bf)|cdot|times)(?![a-z]))*+"
_FACTOR = re.compile(
    rf"{_GAP}(?P<per>(?:/|per ){_GAP})?(?P<power>(?:square|sq\.?|cubic) )?\^?{_GAP}"
    rf"(?P<name>[°%€£]|\\%|\\circ|[km]?\\omega|[^\W\d_⁻¹²³]+)"
    rf"(?:(?P<raised> (?:squared|cubed)\b)|(?P<exponent>[}} ]*\^ ?\{{? ?-?\d\b\}}?|⁻?[¹²³]|-?[1-3](?![\w.,]))?)"
)
_GOES_ON = re.compile(r"[{}$ ]*(?:/(?! |\w+/)|[\^·⋅])")
_POWERS = {"square": 2, "sq": 2, "sq.": 2, "cubic": 3, "squared": 2, "cubed": 3}
_SUPERSCRIPTS = str.maketrans("⁻¹²³", "-123", "^{} $")


class Unit(NamedTuple):
    """A unit in a text.

    Attributes:
        powers: the unit's names with their exponents.
        end: where it ends in the text.
    """

    powers: frozenset[tuple[str, int]]
    end: int


def unit_at(folded: str, position: int, end: int) -> Unit | None:
    r"""Return the unit after a number that ends at `position`; None where no known unit follows.

    Example:
        >>> unit_at("5 km/h", 1, 6) == unit_at("5 kilometers per hour", 1, 21)._replace(end=6)
        True
        >>> unit_at("5 cubes", 1, 7)
    """
    powers: dict[str, int] = {}
    stop = position
    for _ in range(6):
        factor = _FACTOR.match(folded, stop, end)
        name = _named(factor["name"]) if factor else None
        if factor is None or name is None:
            break
        if name in ("°c", "°f") and (powers.pop("°", None), factor["name"]) == (None, name[1:]) and powers:
            break  # "5 m C" names an option
        exponent = int((factor["exponent"] or "1").translate(_SUPERSCRIPTS))
        exponent *= _POWERS.get((factor["power"] or factor["raised"] or "").strip(), 1)
        powers[name] = powers.get(name, 0) + (-exponent if factor["per"] else exponent)
        stop = factor.end()
    return Unit(frozenset(powers.items()), stop) if powers and not _GOES_ON.match(folded, stop, end) else None


def _named(word: str) -> str | None:
    return _NAMES.get(word) or (_NAMES.get(word.removesuffix("s")) if len(word) > 2 else None)


def same_unit(one: Unit, other: Unit) -> bool:
    """Return whether two units are equal; a degree may be one of temperature.

    Example:
        >>> celsius, fahrenheit, degrees = (unit_at(f"5{text}", 1, 20) for text in ("°c", " fahrenheit", " degrees"))
        >>> same_unit(celsius, fahrenheit), same_unit(celsius, degrees)
        (False, True)
    """
    degree = frozenset({("°", 1)})
    if degree in (one.powers, other.powers):
        return (one.powers | other.powers) <= {("°", 1), ("°c", 1), ("°f", 1)}
    return one.powers == other.powers
