"""Checks of the numbers that a user may set for a forecast.

The limits are those of times, which are 64-bit microseconds and reach 290,000 years.
"""

import re
from collections.abc import Sequence
from contextlib import suppress

from gnomon.storage.errors import InvalidInput
from gnomon.storage.values.plausible import MOST_LEADS
from gnomon.storage.values.times import SECOND, UNITS

__all__ = ["LONGEST_S", "check_forecast", "duration_s"]

LONGEST_S = 100_000 * 366 * 86400.0
"""A hundred thousand years in seconds."""
SHORTEST_S = 1e-6
MOST_PERIODS = 16
"""Each has up to three harmonics in a regression that is solved for every chunk."""


def check_forecast(
    leads: int | None, periods_s: Sequence[float] | None, interval_s: float | None
) -> None:
    """Refuse leads, seasons and intervals that no forecast can have.

    Raises
    ------
    InvalidInput
        Names the option, what it is and what it may be.
    """
    if leads is not None and not 1 <= leads <= MOST_LEADS:
        raise InvalidInput(f"leads is {leads}; it must be at least 1 and at most {MOST_LEADS}")
    if periods_s is not None and len(periods_s) > MOST_PERIODS:
        raise InvalidInput(f"{len(periods_s)} periods were given; give {MOST_PERIODS} at most")
    for name, value in (("the interval", interval_s), *(("a period", p) for p in periods_s or ())):
        if value is not None and not SHORTEST_S <= value <= LONGEST_S:
            raise InvalidInput(
                f"{name} is {value:g} s; it must be between a microsecond and 100,000 years"
            )
    if interval_s is not None and leads is not None and interval_s * leads > LONGEST_S:
        raise InvalidInput(
            f"{leads} leads of {interval_s:g} s are longer than 100,000 years; "
            "give fewer, or a shorter interval"
        )


def duration_s(text: str) -> float:
    """Return the seconds of a duration such as ``1h``, ``30min`` or ``1d``; a number is hours.

    Raises
    ------
    InvalidInput
        The text is not a duration.
    """
    with suppress(ValueError):
        return float(text) * 3600.0
    match = re.fullmatch(r"\s*(\d+\.?\d*|\.\d+)\s*([A-Za-z]+)\s*", text)
    unit = UNITS.get(match[2].lower()) if match else None
    if match is None or unit is None:
        raise InvalidInput(
            f"{text!r:.40} is not a duration; write it as 1h, 30min, 1d, or in hours"
        )
    return float(match[1]) * unit / SECOND
