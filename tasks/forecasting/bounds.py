"""Which values a variable cannot take: as declared, by its CF standard name, or by the data."""

from __future__ import annotations

import numpy as np

from gnomon.tasks.forecasting.specification import Array

AT_BOUND = 0.02
"""Share of the values that sit exactly on their extreme, from which it is taken for a bound. With
less, forecasts could be cut off at an extreme that was only reached by chance; with more, they go
below zero where it is seldom zero."""
LEAST_AT_BOUND = 5
"""Number of such values, at least: in a small sample, two that are equal are a large share."""
FRACTIONS = ("_fraction", "_probability")
"""Endings of the standard names of quantities between nothing and everything."""
AMOUNTS = (
    "_amount",
    "_concentration",
    "_flux_density",
    "_speed",
    "_speed_of_gust",
    "_thickness",
    "humidity",
    "precipitation_flux",
    "rainfall_flux",
    "snowfall_flux",
    "surface_snow_thickness",
    "wave_significant_height",
)
"""Endings of those that cannot be below zero."""

type Bounds = tuple[float | None, float | None]


def bounds(declared: Bounds, standard_name: str, units: str, values: Array) -> Bounds:
    """Least and greatest possible value, None where there is none.

    Parameters
    ----------
    declared : (float or None, float or None)
        From ``valid_range`` and the like; it wins.
    standard_name, units : str
        CF attributes; empty where there are none.
    values : float64, (T, S), variable's units
        A sample, in order of time; NaN where missing. No bound contradicts it, but for a declared
        one.

    Notes
    -----
    Rain is zero on most days and ice cover one: where many values sit exactly on the least or the
    greatest, that is a bound, whatever the name. But not where they do so early or late only: a
    counter is at its greatest in its newest captures, and goes on from there.
    """
    finite = values[np.isfinite(values)]
    low, high = _of_name(standard_name, units)
    if finite.size:
        least, greatest = float(finite.min()), float(finite.max())
        low = None if low is not None and least < low else low
        high = None if high is not None and greatest > high else high
        # A constant sample sits on both its extremes, and shows no bound by it.
        if least < greatest:
            needed = max(LEAST_AT_BOUND, AT_BOUND * finite.size)
            if low is None and _is_reached(values, least, needed):
                low = least
            if high is None and _is_reached(values, greatest, needed):
                high = greatest
    return (
        low if declared[0] is None else declared[0],
        high if declared[1] is None else declared[1],
    )


def _is_reached(values: Array, extreme: float, needed: float) -> bool:
    """Whether so many values are at an extreme, in both halves of the captures."""
    reached = values == extreme
    half = len(values) // 2
    return bool(reached.sum() >= needed and reached[:half].any() and reached[half:].any())


def _of_name(standard_name: str, units: str) -> Bounds:
    if standard_name.endswith(FRACTIONS):
        return 0.0, 100.0 if units.strip() in ("%", "percent") else 1.0
    return (0.0 if standard_name.endswith(AMOUNTS) else None), None
