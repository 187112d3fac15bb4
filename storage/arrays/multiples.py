"""Numbers as multiples of a power of two: no more digits than they are worth.

An integer says how often; the exponent is that of a row and chunk.  Where it is small enough,
nothing is lost.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["DIGITS", "from_multiples", "to_multiples"]

DIGITS = 61
"""Binary digits that a multiple may have: float64 has 53, so that one may be 2^8 times as fine as
the largest number of its row."""
LARGEST_POWER = 1000
"""Exponent up to which a power of two, and its inverse, are numbers that float64 has in full."""
_NAN = np.iinfo(np.int64).min
_INFINITE = np.iinfo(np.int64).max

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


def to_multiples(values: Floats, exponents: Integers) -> Integers:
    """Return numbers as the nearest multiples of powers of two, int64 in their shape.

    Parameters
    ----------
    values
        float64; NaN and infinities are kept.
    exponents
        int64, broadcast to them. Larger numbers than 2^`DIGITS` of the powers become infinite.
    """
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        scaled = np.rint(_times(values, -exponents))
    fits = np.abs(scaled) <= 2.0**DIGITS  # not so for NaN
    multiples = np.where(fits, scaled, 0.0).astype(np.int64)
    if not fits.all():
        ends = np.where(np.isnan(scaled), _NAN, np.where(scaled > 0, _INFINITE, -_INFINITE))
        multiples = np.where(fits, multiples, ends)
    return multiples


def from_multiples(multiples: Integers, exponents: Integers) -> Floats:
    """Return the numbers, float64 in their shape, that multiples of powers of two stand for."""
    values = _times(multiples.astype(np.float64), exponents)
    strange = np.abs(multiples) > 2**DIGITS
    strange |= multiples == _NAN  # has no absolute value
    if strange.any():
        values[multiples == _NAN] = np.nan
        values[multiples == _INFINITE] = np.inf
        values[multiples == -_INFINITE] = -np.inf
    return np.asarray(values)


def _times(values: Floats, exponents: Integers) -> Floats:
    """Return numbers times powers of two."""
    if np.abs(exponents).max(initial=0) > LARGEST_POWER:
        return np.asarray(np.ldexp(values, exponents))
    # The same to the last bit, in a tenth of the time.
    return np.asarray(values * np.ldexp(1.0, exponents))
