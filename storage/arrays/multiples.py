"""Numbers as multiples of a power of two: no more digits than they are worth.

An integer says how often; the exponent is that of a row and chunk.  Where it is small enough,
nothing is lost.  Where no exponent would do, since some numbers are too much larger than others,
the integers are the numbers' own bits.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["BITS", "DIGITS", "from_multiples", "to_multiples", "turned_to_numbers"]

BITS = 2**15
"""In place of an exponent: the integers are the bits of float64."""
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
        int64, broadcast to them; `BITS` where all digits are kept. Larger numbers than 2^`DIGITS`
        of the powers become infinite.
    """
    as_bits = exponents == BITS
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        scaled = np.rint(_times(values, np.where(as_bits, 0, -exponents)))
    fits = np.abs(scaled) <= 2.0**DIGITS  # not so for NaN
    multiples = np.where(fits, scaled, 0.0).astype(np.int64)
    if not fits.all():
        ends = np.where(np.isnan(scaled), _NAN, np.where(scaled > 0, _INFINITE, -_INFINITE))
        multiples = np.where(fits, multiples, ends)
    if as_bits.any():
        bits = np.ascontiguousarray(values, np.float64).view(np.int64)
        multiples = np.where(as_bits, bits, multiples)
    return multiples


def from_multiples(multiples: Integers, exponents: Integers) -> Floats:
    """Return the numbers, float64 in their shape, that multiples of powers of two stand for."""
    as_bits = exponents == BITS
    with np.errstate(over="ignore", under="ignore"):
        values = _times(multiples.astype(np.float64), np.where(as_bits, 0, exponents))
    strange = np.abs(multiples) > 2**DIGITS
    strange |= multiples == _NAN  # has no absolute value
    if strange.any():
        values[multiples == _NAN] = np.nan
        values[multiples == _INFINITE] = np.inf
        values[multiples == -_INFINITE] = -np.inf
    if as_bits.any():
        bits = np.ascontiguousarray(multiples, np.int64).view(np.float64)
        values = np.where(as_bits, bits, values)
    return values


def turned_to_numbers(multiples: Integers, exponents: Integers, counts: Integers) -> Floats:
    """Turn multiples into the numbers that they stand for, where they lie, and return these.

    Parameters
    ----------
    multiples
        int64 (n,), written over.
    exponents, counts
        int64 (k,): so many multiples after one another have one exponent.

    Returns
    -------
    float64 (n,), the same memory; its numbers are those of `from_multiples`.
    """
    numbers = multiples.view(np.float64)
    as_bits = exponents == BITS
    if as_bits.all():
        return numbers
    is_plain = not as_bits.any() and np.abs(exponents).max(initial=0) <= LARGEST_POWER
    if (
        is_plain
        and -(2**DIGITS) <= multiples.min(initial=0) <= multiples.max(initial=0) <= 2**DIGITS
    ):
        scales = np.repeat(np.ldexp(1.0, exponents), counts)
        np.multiply(multiples.astype(np.float64), scales, out=numbers)
    else:
        numbers[:] = from_multiples(multiples, np.repeat(exponents, counts))
    return numbers


def _times(values: Floats, exponents: Integers) -> Floats:
    """Return numbers times powers of two."""
    if np.abs(exponents).max(initial=0) > LARGEST_POWER:
        return np.asarray(np.ldexp(values, exponents))
    # The same to the last bit, in a tenth of the time.
    return np.asarray(values * np.ldexp(1.0, exponents))
