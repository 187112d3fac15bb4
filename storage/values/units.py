"""Units as people spell them: whether two texts name the same unit, and how numbers are converted.

UDUNITS knows the units and their spellings; here is what it lacks.  What it does not know either
is compared as text, and never converted.
"""

import re
from functools import lru_cache

import cf_units
import numpy as np

__all__ = ["conversion", "same_units"]

_SPELLINGS = {
    "degcelsius": "celsius",
    "°c": "celsius",
    "degfahrenheit": "fahrenheit",
    "°f": "fahrenheit",
    "deg": "degree",
    "hpa": "hPa",
    "kpa": "kPa",
    "mins": "min",
    "hrs": "h",
    "percentage": "%",
    "dimensionless": "1",
    "unitless": "1",
    "none": "1",
    "": "1",
}
_NORTH = re.compile(r"degrees?_?n(orth)?", re.IGNORECASE)
_EAST = re.compile(r"degrees?_?e(ast)?", re.IGNORECASE)
_LONGEST = 200
_FAR = 1e6
"""Where the slope is measured: next to a shift, that of one unit would be rounded."""


def same_units(first: str, second: str) -> bool:
    """Tell whether two texts name the same unit.

    Examples
    --------
    >>> same_units("degC", "degrees_celsius"), same_units("m s-1", "m/s")
    (True, True)
    >>> same_units("mW", "MW"), same_units("hPa", "Pa")
    (False, False)
    """
    plain, other = _plain(first), _plain(second)
    if plain == other:
        return True
    if _since(plain) or _since(other):
        return _since(plain) == _since(other) and _since(plain) is not None
    # North and east are both degrees to UDUNITS.
    if any(bool(side.fullmatch(plain)) != bool(side.fullmatch(other)) for side in (_NORTH, _EAST)):
        return False
    return conversion(first, second) == (1.0, 0.0)


@lru_cache(maxsize=1024)
def conversion(units: str, to: str) -> tuple[float, float] | None:
    """Return by which factor numbers are multiplied, and what is added then, to be in other units.

    None if the units are not of one quantity, one of them is not known or not told, or no such line
    leads from one to the other, as with logarithms.

    Examples
    --------
    >>> conversion("hPa", "Pa"), conversion("degC", "K"), conversion("m", "s")
    ((100.0, 0.0), (1.0, 273.15), None)
    """
    plain, other = _plain(units), _plain(to)
    is_told = bool(units.strip()), bool(to.strip())
    if _since(plain) or _since(other) or (is_told[0] != is_told[1] and plain != other):
        return None  # what says nothing may be in any units: a percentage as well as a fraction
    try:
        with cf_units.suppress_errors():
            before, after = cf_units.Unit(plain), cf_units.Unit(other)
            if not before.is_convertible(after):
                return None
            if before == after:
                return 1.0, 0.0
            shift, near, far = before.convert(np.array([0.0, 1.0, _FAR]), after).tolist()
    except (ValueError, TypeError, OverflowError):
        return None
    factor = (far - shift) / _FAR
    rounding = 1e-9 * abs(shift)
    is_line = np.isfinite([shift, far]).all() and factor != 0
    is_line = is_line and np.isclose(near - shift, factor, rtol=1e-6, atol=rounding)
    # Digits beyond these are of the arithmetic, and not of the units.
    return (float(f"{factor:.15g}"), float(f"{shift:.15g}")) if is_line else None


def _plain(units: str) -> str:
    """Return units as UDUNITS spells them."""
    words = " ".join(units[:_LONGEST].split())
    return _SPELLINGS.get(words.casefold(), words).replace(" per ", "/").replace("·", " ")


def _since(units: str) -> tuple[str, str] | None:
    """Return the unit and the epoch of a time, comparable as text; None for other units."""
    unit, since, epoch = units.partition(" since ")
    return (unit.casefold().rstrip("s"), epoch.casefold()) if since else None
