"""Guesses at what went wrong with a chunk, from what it violates and its row of statistics.

The rules are few and say only what the numbers show; where none fits, the cause is unknown and
the text says no more than what was seen.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import isfinite, nan

from gnomon.storage.checks.captures import CAPTURE_CHECKS, UNEXPLAINED
from gnomon.storage.checks.check import CRITICAL, Check

__all__ = ["UNEXPLAINED", "UNKNOWN", "UNUSABLE", "Statistics", "suspected_cause", "unit_change"]

UNUSABLE = "unusable forecast: the prediction failed its own checks"
"""The cause of everything that is found in a prediction."""

_CLEAR = 0.5
"""Clarity of a check, above which its cause is told before a change of unit is looked for."""

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


def suspected_cause(
    violations: Collection[str],
    statistics: Statistics,
    checks: Sequence[Check] = CAPTURE_CHECKS,
) -> str:
    """Return what probably went wrong with a captured chunk, in one phrase.

    Parameters
    ----------
    violations : collection of str
        Names of the checks that the chunk violates.
    statistics : Statistics
        Of the chunk.
    checks : sequence of Check
        Those that there are; each says how clearly its violation shows its cause.
    """
    violated = [check for check in checks if check.name in violations]
    critical = [check for check in violated if check.severity == CRITICAL]
    # What only warns does not explain what is worse.
    clearest = max(critical or violated, key=lambda check: check.clarity, default=None)
    if clearest is None or clearest.clarity <= _CLEAR:
        shifted = not _SHIFTED.isdisjoint(violations)
        if shifted and (change := unit_change(statistics)):
            return change
    return UNEXPLAINED if clearest is None else clearest.cause or clearest.reason


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
