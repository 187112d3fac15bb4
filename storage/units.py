"""Units as people spell them: whether two texts name the same unit.

A table of the spellings that are met in climate and ocean data, and the grammar of UDUNITS for
products and powers.  It knows no conversion: ``hPa`` and ``Pa`` are simply not the same.  What it
does not know is compared as text.
"""

import re
from collections import Counter

__all__ = ["same_units"]

_SPELLINGS = {
    "degC": "celsius degree_celsius degrees_celsius degcelsius deg_c degree_c degrees_c degc °c °C",
    "degF": "fahrenheit degree_fahrenheit degrees_fahrenheit deg_f degree_f degf °f °F",
    "K": "kelvin kelvins degk deg_k degree_k degrees_k degree_kelvin degrees_kelvin",
    "degrees_north": "degree_north degree_n degrees_n degreen degreesn",
    "degrees_east": "degree_east degree_e degrees_e degreee degreese",
    "degree": "degrees deg arc_degree arcdegree °",
    "rad": "radian radians",
    "%": "percent percentage",
    "": "dimensionless unitless none",
    "m": "meter meters metre metres",
    "km": "kilometer kilometers kilometre kilometres",
    "cm": "centimeter centimeters centimetre centimetres",
    "mm": "millimeter millimeters millimetre millimetres",
    "s": "sec secs second seconds",
    "min": "minute minutes mins",
    "h": "hr hrs hour hours",
    "d": "day days",
    "kg": "kilogram kilograms",
    "g": "gram grams",
    "hPa": "hpa hectopascal hectopascals mbar mbars millibar millibars",
    "kPa": "kpa kilopascal kilopascals",
    "Pa": "pascal pascals",
    "N": "newton newtons",
    "J": "joule joules",
    "W": "watt watts",
    "mol": "mole moles",
}
_NAMES = {
    spelling: name
    for name, others in _SPELLINGS.items()
    for spelling in (name.casefold(), *others.split())
    if spelling == name or len(spelling) > 1
}
_LONG = 5
"""Letters from which on the case of a word means nothing; ``mW`` is no ``MW``."""
_FACTOR = re.compile(r"(?P<word>[^\W\d_][^\W\d]*|%|°[cCfF]?)(?:(?:\^|\*\*)?(?P<power>[+-]?\d+))?$")
_MOST = 200


def same_units(first: str, second: str) -> bool:
    """Tell whether two texts name the same unit, by what is known of their spellings.

    Examples
    --------
    >>> same_units("degC", "degrees_celsius"), same_units("m s-1", "m/s")
    (True, True)
    >>> same_units("mW", "MW"), same_units("hPa", "Pa")
    (False, False)
    """
    return first == second or _canonical(first) == _canonical(second)


def _canonical(text: str) -> object:
    """Return what is equal for texts that name the same unit."""
    plain = " ".join(text[:_MOST].split()).replace(" per ", "/")
    unit, since, epoch = plain.partition(" since ")
    if since:
        return _word(unit), epoch.casefold()
    powers: Counter[str] = Counter()
    # In UDUNITS a solidus divides by the factor that follows, and by no more.
    for sign, factor in re.findall(r"(/?)\s*([^\s./*·^]+(?:(?:\^|\*\*)[+-]?\d+)?)", plain):
        found = _FACTOR.match(factor) if factor != "1" else None
        if found is None and factor != "1":
            return plain
        if found is not None:
            power = int(found["power"] or 1)
            powers[_word(found["word"])] += -power if sign else power
    return frozenset((word, power) for word, power in powers.items() if word and power)


def _word(word: str) -> str:
    lower = word.casefold()
    if len(word) >= _LONG or lower.startswith(("deg", "hpa", "kpa", "day", "hour")):
        return _NAMES.get(word, _NAMES.get(lower, word))
    return _NAMES.get(word, word)
