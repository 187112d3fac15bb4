"""Cadence: the regular grid of times on which captures fall, and the next ones will.

Forecasting counts captures in slots: consecutive integers on the cadence.  Most datasets have a
fixed interval; monthly and annual ones follow the calendar, whose months differ in length.
"""

from dataclasses import asdict, dataclass
from typing import Any

import cftime
import numpy as np
from numpy.typing import NDArray

from gnomon.storage.errors import InvalidInput
from gnomon.storage.values.documents import number, text, whole
from gnomon.storage.values.times import EPOCH, SECOND

__all__ = ["MIN_CAPTURES", "Cadence", "distinct_slots", "identify_cadence", "year_seconds"]

MIN_CAPTURES = 3
"""Captures below which nothing is forecast."""

_MONTHS = 12
_MOST_MONTHS = 12 * 10_000
_MOST_SLOTS = 2**25
"""A year of seconds; some arrays have a value for each."""
_LONGEST_MONTH = 31 * 86400 * SECOND
_SHORTEST_MONTH = 28 * 86400 * SECOND


@dataclass(frozen=True, slots=True)
class Cadence:
    """A grid of instants.

    With ``months == 0``, slot k is at ``anchor + k * interval``.  Otherwise slot k is in the
    month ``k * months`` after that of the anchor, at ``fraction`` of its length plus ``offset``:
    a fraction of 1 and an offset of minus a day are its last day.
    """

    calendar: str
    """CF calendar."""
    anchor: int
    """Instant of slot 0."""
    interval: int
    """Microseconds between slots; the mean for calendar months."""
    months: int = 0
    """Calendar months between slots, or 0 for a fixed interval."""
    fraction: float = 0.0
    """Position in the month as a share of its length."""
    offset: int = 0
    """Microseconds to add to that."""

    def slot(self, instant: int) -> int:
        """Return the nearest slot."""
        if self.months == 0:
            return round((instant - self.anchor) / self.interval)
        guess = round((instant - self.anchor) / self.interval)
        return min(
            (guess - 1, guess, guess + 1), key=lambda slot: abs(self.instant(slot) - instant)
        )

    def instant(self, slot: int) -> int:
        """Return the time of a slot."""
        if self.months == 0:
            return self.anchor + slot * self.interval
        start, length = _month(
            _month_number(self.anchor, self.calendar) + slot * self.months, self.calendar
        )
        return start + round(self.fraction * length) + self.offset

    @property
    def interval_s(self) -> float:
        """Mean interval in seconds."""
        return self.interval / SECOND

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Cadence":
        """Read the JSON form; ValueError or the like if it is not one."""
        return cls(
            text(data["calendar"], "calendar"),
            whole(data["anchor"], "anchor"),
            whole(data["interval"], "interval", least=1),
            whole(data["months"], "months", least=0, most=_MOST_MONTHS),
            number(data["fraction"], "fraction", least=0.0, most=1.0),
            whole(data["offset"], "offset", least=-_LONGEST_MONTH, most=_LONGEST_MONTH),
        )


def identify_cadence(
    instants: NDArray[np.int64], calendar: str, interval_s: float | None = None
) -> Cadence:
    """Return the cadence of increasing capture times.

    Parameters
    ----------
    instants
        int64 (T,), strictly increasing.
    interval_s
        Interval if the user gave it; else the median interval.

    Raises
    ------
    InvalidInput
        Fewer than two times and no interval, or an interval that is nothing beside the gaps.
    """
    if interval_s is not None:
        return _counted(Cadence(calendar, int(instants[0]), round(interval_s * SECOND)), instants)
    if instants.size < 2:
        raise InvalidInput("one capture has no interval; capture once more, or give --interval")
    steps = np.diff(instants)
    # The lower median is one of the steps; a mean of two of them would be no step at all.
    middle = int(np.sort(steps)[(steps.size - 1) // 2])
    fixed = _counted(Cadence(calendar, int(instants[0]), middle), instants)
    monthly = _monthly(instants, calendar) if middle >= _SHORTEST_MONTH else None
    if monthly is None or (_misses(fixed, instants) == 0 and _misses(monthly, instants) > 0):
        return fixed
    return monthly


def _counted(cadence: Cadence, instants: NDArray[np.int64]) -> Cadence:
    """Return the cadence if the slots of the captures can be gone through, one by one."""
    slots = (int(instants[-1]) - int(instants[0])) // cadence.interval
    if slots > _MOST_SLOTS:
        raise InvalidInput(
            f"captures span {slots} intervals of {cadence.interval_s:g} s, at most {_MOST_SLOTS} "
            "can be forecast from; give the interval at which they are taken, with --interval"
        )
    return cadence


def _misses(cadence: Cadence, instants: NDArray[np.int64]) -> int:
    """Return how far the captures are from their slots, in microseconds, together."""
    return sum(abs(cadence.instant(cadence.slot(int(i))) - int(i)) for i in instants)


def _monthly(instants: NDArray[np.int64], calendar: str) -> Cadence | None:
    numbers = np.array([_month_number(int(i), calendar) for i in instants])
    steps = np.diff(numbers)
    months = int(np.median(steps))
    if months < 1 or np.any(steps % months) or np.any(steps < 1):
        return None
    starts, lengths = np.array([_month(int(n), calendar) for n in numbers]).T
    since, until = instants - starts, instants - starts - lengths
    fractions = since / lengths
    mean = round(float(np.mean(np.diff(instants) / steps)) * months)
    # By share of the month, from its start, or from its end: what the captures agree on best.
    places: list[tuple[float, dict[str, Any]]] = [
        (np.ptp(fractions) * 30 * 86400 * SECOND, {"fraction": float(np.median(fractions))}),
        (np.ptp(since), {"offset": int(np.median(since))}),
        (np.ptp(until), {"fraction": 1.0, "offset": int(np.median(until))}),
    ]
    if since.min() >= _SHORTEST_MONTH:  # not every month has such a day: of equals, from the end
        places.reverse()
    _, place = min(places, key=lambda spread: spread[0])
    return Cadence(calendar, int(instants[0]), mean, months, **place)


def _month_number(instant: int, calendar: str) -> int:
    date = cftime.num2date(instant, EPOCH, calendar=calendar)
    return int(date.year * _MONTHS + date.month - 1)


def _month(number: int, calendar: str) -> tuple[int, int]:
    start, stop = (
        int(
            cftime.date2num(
                cftime.datetime(n // _MONTHS, n % _MONTHS + 1, 1, calendar=calendar),
                EPOCH,
                calendar=calendar,
            )
        )
        for n in (number, number + 1)
    )
    return start, stop - start


def distinct_slots(cadence: Cadence, times: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return positions of the captures that open a new slot; a second one in it is not learnt."""
    slots = np.array([cadence.slot(int(t)) for t in times])
    highest = np.maximum.accumulate(slots)
    return np.flatnonzero(np.concatenate([[True], slots[1:] > highest[:-1]]))


def year_seconds(calendar: str) -> float:
    """Return the mean length of a year in seconds."""
    days = {
        "360_day": 360.0,
        "noleap": 365.0,
        "365_day": 365.0,
        "all_leap": 366.0,
        "366_day": 366.0,
    }
    return 86400.0 * days.get(calendar, 365.2425)
