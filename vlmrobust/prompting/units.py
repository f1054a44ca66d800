r"""Read the unit after a number: "5 km/h", "12 square metres", "$30^{\circ}\mathrm{C}$".

A unit is a product of powers, so that "m/s²", "m s^{-2}" and "metres per second squared" are equal. Equal values of
other names ("cm³" and "mL", "J/s" and "W") are found by their dimensions.
"""

import math
import re
from typing import NamedTuple

__all__ = ["Unit", "has_smaller_part", "same_unit", "unit_at"]

# Kinds of units, with their dimension; then for each unit its size, its name in the folded text and its other
# spellings. Plurals in "s" are found without an entry. "nm" is missing because the folded text does not tell nanometres
# from newton metres. "°" is an angle or a temperature.
_TABLE = """
length m | 1 m meter metre; .1 dm decimeter decimetre; .01 cm centimeter centimetre; .001 mm millimeter millimetre
    ; 1000 km kilometer kilometre; 1e-6 µm μm micrometer micrometre; 1609.344 mi mile; .3048 ft foot feet
    ; .0254 inch inches; .9144 yd yard
mass kg | 1 kg kilogram kilogramme; .001 g gram gramme; 1e-6 mg milligram; 1000 t ton tonne; .45359 lb pound
    ; .02835 oz ounce
time s | 1 s sec second; .001 ms millisecond; 60 min minute; 3600 h hr hour; 86400 day; 604800 week; 2629800 month
    ; 31557600 year
volume m m m | .001 l liter litre; .0001 dl deciliter decilitre; 1e-6 ml milliliter millilitre
force kg m /s /s | 1 n newton; 1000 kn kilonewton
pressure kg /m /s /s | 1 pa pascal; 1000 kpa kilopascal; 1e6 mpa megapascal
amount mol | 1 mol mole
energy kg m m /s /s | 1 j joule; 1000 kj kilojoule
power kg m m /s /s /s | 1 w watt; 1000 kw kilowatt; 1e6 mw megawatt
voltage kg m m /s /s /s /amp | 1 v volt; 1000 kv kilovolt; .001 mv millivolt
current amp | 1 amp ampere; .001 ma milliampere
resistance kg m m /s /s /s /amp /amp | 1 ω ohm \\omega; 1000 kω kiloohm k\\omega
frequency /s | 1 hz hertz; 1000 khz kilohertz; 1e6 mhz megahertz
angle ° | 1 ° degree \\circ
temperature k | 1 k kelvin; 2 °c celsius c; 3 °f fahrenheit f
share % | 1 % percent \\%
money money | 1 dollar; .01 cent; 2 €  euro; 3 £
clock clock | 1 am; 2 pm
number | 100 hundred; 1e3 thousand; 1e6 million; 1e9 billion; 1e12 trillion
"""


class _Known(NamedTuple):
    kind: str
    size: float
    dimension: tuple[str, ...]


_KNOWN: dict[str, _Known] = {}
_NAMES = {"per cent": "%"}
for _kinds, _listed in (line.split("|") for line in _TABLE.strip().replace("\n    ", "").splitlines()):
    for _size, _name, *_others in (entry.split() for entry in _listed.split(";")):
        _KNOWN[_name] = _Known(_kinds.split()[0], float(_size), tuple(_kinds.split()[1:]))
        _NAMES.update(dict.fromkeys((_name, *_others), _name))
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
        >>> unit_at("5 km/h", 1, 6) == unit_at("5 kilometers per hour", 1, 21)._replace(end=6)
        True
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
    one, other = _KNOWN[name], _KNOWN[smaller]
    return power == its_power == 1 and one.kind == other.kind in ("length", "mass", "time") and one.size > other.size


def same_unit(one: Unit, other: Unit) -> bool | None:
    """Return whether two units are equal; None where it is not sure, as for two kinds of units.

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
    counts = [{name for name in powers if _KNOWN[name].kind == "number"} for powers in (first, second)]
    if counts[0] and counts[0] == counts[1] and counts[0] in (first.keys(), second.keys()):
        return True  # "5 million dollars" and "5 million"
    (dimension, size), (other_dimension, other_size) = _measure(first), _measure(second)
    if dimension == other_dimension:
        return math.isclose(size, other_size, rel_tol=1e-3)
    kinds, other_kinds = ({_KNOWN[name].kind for name in powers} for powers in (first, second))
    return False if kinds <= other_kinds or other_kinds <= kinds else None


def _without_rate(powers: dict[str, int], other: dict[str, int]) -> dict[str, int]:
    """Leave out "per day" and the like where the other unit has nothing of this kind."""
    if min(other.values()) < 0 or max(powers.values()) < 0:
        return powers
    counted = {_KNOWN[name].kind for name, power in powers.items() if power > 0} <= _COUNTED
    return {name: power for name, power in powers.items() if power > 0 or not (counted or name in _PERIODS)}


def _measure(powers: dict[str, int]) -> tuple[dict[str, int], float]:
    """Return a unit's dimension and its size."""
    dimension: dict[str, int] = {}
    size = 1.0
    for name, power in powers.items():
        unit = _KNOWN[name]
        # In "J/(kg °C)" only differences of temperature count.
        size *= 1.0 if len(powers) > 1 and name == "°c" else unit.size**power
        for base in unit.dimension:
            sign = -1 if base.startswith("/") else 1
            base = base.removeprefix("/")
            dimension[base] = dimension.get(base, 0) + sign * power
    return {base: power for base, power in dimension.items() if power}, size
