r"""Read the unit after a number: "5 km/h", "12 square metres", "$30^{\circ}\mathrm{C}$".

A unit is a product of powers, so that "m/s²", "m s^{-2}" and "metres per second squared" are equal.
"""

import re
from typing import NamedTuple

__all__ = ["Unit", "has_smaller_part", "same_unit", "unit_at"]

# For each kind its units, smaller ones first: a name in the folded text, and its other spellings. Plurals in "s" are
# found without an entry. "nm" is missing because the folded text does not tell nanometres from newton metres. "°" is an
# angle or a temperature.
_TABLE = """
length: µm μm micrometer micrometre; mm millimeter millimetre; cm centimeter centimetre; inch inches
    ; dm decimeter decimetre; ft foot feet; yd yard; m meter metre; km kilometer kilometre; mi mile
mass: mg milligram; g gram gramme; oz ounce; lb pound; kg kilogram kilogramme; t ton tonne
time: ms millisecond; s sec second; min minute; h hr hour; day; week; month; year
volume: ml milliliter millilitre; dl deciliter decilitre; l liter litre
force: n newton; kn kilonewton
pressure: pa pascal; kpa kilopascal; mpa megapascal
amount: mol mole
energy: j joule; kj kilojoule
power: w watt; kw kilowatt; mw megawatt
voltage: mv millivolt; v volt; kv kilovolt
current: ma milliampere; amp ampere
resistance: ω ohm \\omega; kω kiloohm k\\omega
frequency: hz hertz; khz kilohertz; mhz megahertz
angle: ° degree \\circ
temperature: k kelvin; °c celsius c; °f fahrenheit f
share: % percent \\%
money: cent; dollar; € euro; £
clock: am; pm
number: hundred; thousand; million; billion; trillion
"""
_KIND: dict[str, str] = {}
_RANK: dict[str, int] = {}
_NAMES = {"per cent": "%"}
for _line in _TABLE.strip().replace("\n    ", "").splitlines():
    for _rank, _spellings in enumerate(map(str.split, _line.split(":")[1].split(";"))):
        _KIND[_spellings[0]], _RANK[_spellings[0]] = _line.split(":")[0], _rank
        _NAMES.update(dict.fromkeys(_spellings, _spellings[0]))
# A value of these kinds may be said with what it is counted by: "3 days per week", "25 cents per apple".
_COUNTED = {"share", "money", "time", "frequency", "angle"}
_PERIODS = {"day", "week", "month", "year"}
_GAP = r"(?:[ ~$*·⋅{}-]|\\[,;:! ]|\\(?:text(?:rm|bf)?|math(?:rm|bf)|cdot|times)(?![a-z]))*+"
_FACTOR = re.compile(
    rf"(?P<gap>{_GAP})(?P<per>(?:/|(?P<word>(?:per|pro|par|por) (?!cent\b))"
    rf"|(?:an?|each|every) (?=(?:second|minute|hour|day|week|month|year)\b)){_GAP})?"
    rf"(?P<power>(?:square|sq\.?|cubic) )?\^?{_GAP}"
    rf"(?P<name>per cent\b|[°%€£]|\\%|\\circ|[km]?\\omega|[^\W\d_⁻¹²³]+)"
    r"(?:(?P<raised> (?:squared|cubed)\b)"
    r"|(?P<exponent>[} ]*(?:\^ ?|\*\*(?=\d))\{? ?-?\d\b\}?|⁻?[¹²³]|-?[1-3](?!\w|[.,]\d))?)"
)
_GOES_ON = re.compile(r"[{}$ ]*(?:/(?! |\w+/)|[\^·⋅]|[^\W\d_⁻¹²³]+(?:\^|⁻|[²³]))")
_PART = re.compile(r",?(?: and)? ?\d+")
_POWERS = {"square": 2, "sq": 2, "sq.": 2, "cubic": 3, "squared": 2, "cubed": 3}
_SUPERSCRIPTS = str.maketrans("⁻¹²³", "-123", "^{} $*")


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
        >>> sorted(unit_at("5 km/h", 1, 6).powers), sorted(unit_at("5 kilometers per hour", 1, 21).powers)
        ([('h', -1), ('km', 1)], [('h', -1), ('km', 1)])
        >>> unit_at("5 cubes", 1, 7)
    """
    powers: dict[str, int] = {}
    stop = position
    divided = False  # after "/", as in "J/kg·K"
    for _ in range(6):
        factor = _FACTOR.match(folded, stop, end)
        name = _named(factor["name"]) if factor else None
        if factor is None or name is None:
            if powers and factor and factor["word"]:
                return None  # "5 km per lap"
            break
        of_degrees = False
        if name in ("°c", "°f"):
            of_degrees = powers.pop("°", None) is not None
            if factor["name"] == name[1:] and not of_degrees and (powers or "-" in factor["gap"]):
                break  # "5 m C" and "5 - C" name an option
            name = "k" if powers and name == "°c" else name  # "J/(kg °C)"
        exponent = int((factor["exponent"] or "1").translate(_SUPERSCRIPTS))
        exponent *= _POWERS.get((factor["power"] or factor["raised"] or "").strip(), 1)
        if name == "ms" and exponent < 0:  # "m s^{-1}" without its space
            powers["m"], name = 1, "s"
        goes_on = of_degrees or re.search(r"[·⋅*]|cdot", factor["gap"]) is not None
        divided = bool(factor["per"]) or (divided and goes_on)
        powers[name] = powers.get(name, 0) + (-exponent if divided and exponent > 0 else exponent)
        stop = factor.end()
    return Unit(frozenset(powers.items()), stop) if powers and not _GOES_ON.match(folded, stop, end) else None


def _named(word: str) -> str | None:
    return _NAMES.get(word) or (_NAMES.get(word.removesuffix("s")) if len(word) > 2 else None)


def has_smaller_part(unit: Unit, folded: str, end: int) -> bool:
    """Return whether a smaller unit of the same kind follows, as in "2 hours 30 minutes"."""
    further = _PART.match(folded, unit.end, end)
    part = unit_at(folded, further.end(), end) if further else None
    if part is None or len(unit.powers) != 1 or len(part.powers) != 1:
        return False
    (name, power), (smaller, its_power) = *unit.powers, *part.powers
    is_divided = _KIND[name] == _KIND[smaller] in ("length", "mass", "time") and _RANK[name] > _RANK[smaller]
    return power == its_power == 1 and is_divided


def same_unit(one: Unit, other: Unit) -> bool | None:
    """Return whether two units are equal; None where it is not sure: "J/s" may be "W", and "cm³" "mL".

    Example:
        >>> celsius, fahrenheit, degrees = (unit_at(f"5{text}", 1, 20) for text in ("°c", " fahrenheit", " degrees"))
        >>> same_unit(celsius, fahrenheit), same_unit(celsius, degrees)
        (False, True)
        >>> kilogram, per_day, volt = (unit_at(f"5 {text}", 1, 20) for text in ("kg", "kg per day", "v"))
        >>> same_unit(kilogram, per_day), same_unit(kilogram, volt)
        (True, None)
    """
    first, second = dict(one.powers), dict(other.powers)
    first, second = _without_rate(first, second), _without_rate(second, first)
    if {*first, *second} in ({"k", "thousand"}, {"m", "million"}, {"°", "°c"}, {"°", "°f"}):
        return True
    counts = [{name for name in powers if _KIND[name] == "number"} for powers in (first, second)]
    if counts[0] and counts[0] == counts[1] and counts[0] in (first.keys(), second.keys()):
        return True  # "5 million dollars" and "5 million"
    left, right = first.items() - second.items(), second.items() - first.items()
    if not left or not right:
        return not left and not right  # "km" and "km/h" are different
    if len(left) > 1 or len(right) > 1:
        return None
    [(name, _)], [(other_name, _)] = left, right
    return False if _KIND[name] == _KIND[other_name] else None


def _without_rate(powers: dict[str, int], other: dict[str, int]) -> dict[str, int]:
    """Leave out "per day" and the like where the other unit has nothing of this kind."""
    if min(other.values()) < 0 or max(powers.values()) < 0:
        return powers
    counted = {_KIND[name] for name, power in powers.items() if power > 0} <= _COUNTED
    return {name: power for name, power in powers.items() if power > 0 or not (counted or name in _PERIODS)}
