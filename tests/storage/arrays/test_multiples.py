import numpy as np
import pytest

from gnomon.storage.arrays.multiples import BITS, DIGITS, from_multiples, to_multiples

STRANGE = [np.nan, np.inf, -np.inf, 0.0, 5e-324, 1.7e308, -1.7e308]


@pytest.mark.parametrize("exponent", [-1074, -40, 0, 7, 960])
def test_multiples_are_the_nearest(exponent: int) -> None:
    rng = np.random.default_rng(0)
    step = 2.0**exponent
    values = np.ldexp(rng.normal(size=1000), min(exponent + 20, 1000))
    exponents = np.full(1000, exponent)
    found = from_multiples(to_multiples(values, exponents), exponents)
    assert np.abs(found - values).max() <= step / 2
    again = from_multiples(to_multiples(found, exponents), exponents)
    assert np.array_equal(again, found)


def test_what_has_few_enough_digits_is_kept_bit_for_bit() -> None:
    values = np.random.default_rng(0).normal(280, 30, 1000).astype(np.float32).astype(np.float64)
    exponents = np.full(1000, 10 - DIGITS)
    assert np.array_equal(from_multiples(to_multiples(values, exponents), exponents), values)


def test_numbers_of_all_sizes_are_kept_by_their_bits() -> None:
    values = np.array([*STRANGE, -0.0, 1e-300, 292.0, 9.97e36])
    exponents = np.where(np.arange(len(values)) == 9, 0, BITS)
    found = from_multiples(to_multiples(values, exponents), exponents)
    assert found.tobytes() == values.tobytes()


@pytest.mark.parametrize("exponent", [-1074, 0, 950])
def test_what_is_no_number_stays_so(exponent: int) -> None:
    values, exponents = np.array(STRANGE), np.full(len(STRANGE), exponent)
    found = from_multiples(to_multiples(values, exponents), exponents)
    assert np.array_equal(found[:3], values[:3], equal_nan=True)
    assert found[3] == 0.0
    # Out of reach of so small steps is infinite, and never another number.
    large = np.abs(values) > 2.0**DIGITS * 2.0**exponent
    assert np.isinf(found[large & np.isfinite(values)]).all()
