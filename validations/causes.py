"""Guesses at what went wrong with a chunk, from what it violates and its row of statistics.

The rules are few and say only what the numbers show; where none fits, the cause is unknown and
the text says no more than what was seen.
"""

from collections.abc import Collection
from dataclasses import dataclass
from math import isfinite, nan

__all__ = ["UNEXPLAINED", "UNKNOWN", "UNUSABLE", "Statistics", "suspected_cause", "unit_change"]

UNUSABLE = "unusable forecast: the prediction failed its own checks"
"""The cause of everything that is found in a prediction."""

UNEXPLAINED = "values far from what was expected"
"""The cause where no rule fits."""

_CLEAR = (
    ("not_replayed", "replay: old data was ingested again"),
    ("not_revised", "revision: the source was changed after it was captured"),
    ("not_newly_constant", "constant fill: all cells became equal"),
    ("not_mostly_lost", "missing block: most cells that had values lost them"),
    ("no_new_infinities", "overflow: cells became infinite"),
)
"""Violations that explain all others of the chunk, the clearest first."""

_WEAK = (
    (
        "same_metadata",
        "changed metadata: units or other attributes that give values their meaning are others now",
    ),
    ("not_below_range", "values outside the range of the variable"),
    ("not_above_range", "values outside the range of the variable"),
    ("plausible", UNEXPLAINED),
    ("hardly_lost", "missing cells: some cells that had values lost them"),
    ("not_replaced", "replacement: the source replaced the state, as it may"),
    ("moving", "stale source: the data did not change"),
)
"""Violations that say little about the cause, the more telling first."""

_SHIFTED = frozenset({"plausible", "not_below_range", "not_above_range", "same_metadata"})
"""Violations that a change of unit can cause."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """What the rules need to know of a chunk, in the units of its variable."""

    mean: float
    """Mean of the finite captured values; NaN if there is none."""
    departure_mean: float
    """Mean of captured minus predicted; NaN without a forecast."""
    spread: float
    """Standard deviation of the finite captured values; NaN if there is none."""


UNKNOWN = Statistics(nan, nan, nan)
"""Of a chunk whose row is not at hand."""


@dataclass(frozen=True, slots=True)
class _Conversion:
    """``new = scale * old + offset``."""

    old: str
    new: str
    scale: float
    offset: float


_CONVERSIONS = (
    _Conversion("degrees Celsius", "kelvin", 1.0, 273.15),
    _Conversion("kelvin", "degrees Celsius", 1.0, -273.15),
    _Conversion("degrees Celsius", "degrees Fahrenheit", 1.8, 32.0),
    _Conversion("degrees Fahrenheit", "degrees Celsius", 1 / 1.8, -32 / 1.8),
    _Conversion("kelvin", "degrees Fahrenheit", 1.8, -459.67),
    _Conversion("degrees Fahrenheit", "kelvin", 1 / 1.8, 459.67 / 1.8),
    _Conversion("pascal", "hectopascal", 0.01, 0.0),
    _Conversion("hectopascal", "pascal", 100.0, 0.0),
    _Conversion("metres", "millimetres", 1000.0, 0.0),
    _Conversion("millimetres", "metres", 0.001, 0.0),
)

_TOLERANCE = 0.05
"""How far the mean may be from a converted one, as a fraction of what the conversion changes."""


def suspected_cause(violations: Collection[str], statistics: Statistics) -> str:
    """Return what probably went wrong with a captured chunk, in one phrase.

    Parameters
    ----------
    violations : collection of str
        Names of the expectations that the chunk violates.
    statistics : Statistics
        Of the chunk.
    """
    for name, cause in _CLEAR:
        if name in violations:
            return cause
    if _SHIFTED.intersection(violations) and (change := unit_change(statistics)):
        return change
    return next((cause for name, cause in _WEAK if name in violations), UNEXPLAINED)


def unit_change(statistics: Statistics) -> str | None:
    """Return the change of unit that takes the expected mean to the observed one, if one does.

    Notes
    -----
    The expected mean is the observed one minus the mean departure.  A ratio must be met within
    5 % of the converted mean.  An offset must be met within 5 % of the shift, and the shift must
    exceed the spread of the chunk: a varied field can be anywhere.
    """
    misfits = [
        (misfit, conversion)
        for conversion in _CONVERSIONS
        if (misfit := _misfit(conversion, statistics)) <= _TOLERANCE
    ]
    if not misfits:
        return None
    _, best = min(misfits, key=lambda pair: pair[0])
    return f"change of unit: values look like {best.new} instead of {best.old}"


def _misfit(conversion: _Conversion, statistics: Statistics) -> float:
    """Return the distance of the mean from the converted one, relative; infinite if no match."""
    expected = statistics.mean - statistics.departure_mean
    converted = conversion.scale * expected + conversion.offset
    scale = abs(converted)
    if conversion.offset:
        scale = abs(converted - expected)
        if not scale > statistics.spread:
            return float("inf")
    misfit = abs(statistics.mean - converted)
    return misfit / scale if scale > 0 and isfinite(misfit) else float("inf")
