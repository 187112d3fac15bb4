"""Which times are believed: those that fit the cadence of the others, and the clock.

A wrong year, the epoch of the units or a fill value that nobody declared is a time far from all
others.  A gap is no such thing: what follows it is believed as soon as a few steps agree, or at
once if it is of the present.  Pure numbers: nothing here reads, and nobody asks for the time.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from gnomon.storage.errors import InvalidInput
from gnomon.storage.values.times import SECOND, clock, format_instant

__all__ = [
    "DAY",
    "among",
    "are_fresh",
    "clock_or_none",
    "distance",
    "distinct",
    "doubtful",
    "misplaced",
]

DAY = 86_400 * SECOND
REACH = 100
"""Intervals between two captures from which on a gap sets what is beyond it apart."""
FEW = 3
"""Steps that follow one another are believed from this many on, however far from the others."""
USUAL = 0.2
"""Share of such gaps from which on they are the rule: of a source that reports events, say."""
MINORITY = 1 / 3
"""Share of the steps up to which what lies ahead of the clock is doubted; projections are more."""
SAMPLE = 32
"""Of so many of the others it is asked whether they were captured as they came."""
LEAP = 3
"""Intervals between the last step of the present and one ahead of the clock, above which that is
no forecast that goes on from it."""


Fresh = Callable[[NDArray[np.intp]], NDArray[np.bool_]]
"""Tells of some places in a series whether each was captured about when it is valid."""


def doubtful(
    instants: NDArray[np.int64], *, now: int | None = None, fresh: Fresh | None = None
) -> NDArray[np.bool_]:
    """Return which of some times are not believed beside the others, shape (T,).

    Parameters
    ----------
    instants
        int64 (T,), microseconds, increasing.
    now
        The clock, an instant of the same calendar; None: it is not asked.
    fresh
        Of a source that is captured as it goes, what was captured about when it is valid is
        believed wherever it lies.  Asked only where there is a doubt.
    """
    doubted = np.zeros(instants.shape, bool)
    if instants.size < FEW:
        return doubted
    with np.errstate(over="ignore"):
        gaps = np.diff(instants).view(np.uint64)  # of any two instants, without overflow
    middle = (gaps.size - 1) // 2
    interval = int(np.partition(gaps, middle)[middle])
    far = gaps > min(REACH * interval, 2**63)
    if far.sum() < max(FEW, USUAL * gaps.size):
        doubted |= _lonely(far, fresh)
    if now is not None:
        doubted |= _ahead(instants, gaps, far, interval, now)
    return doubted


def are_fresh(
    instants: NDArray[np.int64],
    captured_at: Sequence[str],
    calendar: str,
    places: NDArray[np.intp],
) -> NDArray[np.bool_]:
    """Tell which of some captures were made within a day of their valid time."""
    near = []
    for k in places.tolist():
        now = clock_or_none(captured_at[k], calendar)
        near.append(now is not None and abs(now - int(instants[k])) <= DAY)
    return np.array(near, bool)


def clock_or_none(text: str, calendar: str) -> int | None:
    """Return a wall-clock time as an instant; None for a text that is no time."""
    try:
        return clock(text, calendar)
    except InvalidInput:
        return None


def _lonely(far: NDArray[np.bool_], fresh: Fresh | None) -> NDArray[np.bool_]:
    """Return the steps in groups of few, apart from a group that is larger."""
    group = np.concatenate([[0], np.cumsum(far)])
    sizes = np.bincount(group)
    lonely = (sizes < FEW) & (2 * sizes <= sizes.max())
    doubted = np.asarray(lonely[group])
    if fresh is not None and doubted.any():
        others = np.flatnonzero(~doubted)
        sample = others[np.linspace(0, others.size - 1, min(others.size, SAMPLE)).astype(np.intp)]
        if fresh(sample).mean() >= 0.5:
            places = np.flatnonzero(doubted)
            doubted[places] = ~fresh(places)
    return doubted


def _ahead(
    instants: NDArray[np.int64],
    gaps: NDArray[np.uint64],
    far: NDArray[np.bool_],
    interval: int,
    now: int,
) -> NDArray[np.bool_]:
    """Return the steps ahead of the clock that do not go on from those up to it."""
    doubted = np.zeros(instants.shape, bool)
    allowed = now + DAY + min(interval, 366 * DAY)
    first = int(np.searchsorted(instants, allowed, side="right"))
    count = instants.size - first
    if first == 0 or not 0 < count <= MINORITY * instants.size:
        return doubted
    leaps = gaps[first - 1] > LEAP * interval
    doubted[first:] = far[first - 1] or (leaps and count < FEW)
    return doubted


def distinct(instants: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the distinct values, increasing; sorting is faster here than NumPy's hash table."""
    if (instants[1:] > instants[:-1]).all():
        return instants
    ordered = np.sort(instants)
    return ordered[np.append(True, ordered[1:] != ordered[:-1])] if ordered.size else ordered


def among(instants: NDArray[np.int64], ordered: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell which instants are among others, which increase."""
    if not ordered.size:
        return np.zeros(instants.shape, bool)
    places = np.searchsorted(ordered, instants)
    return np.asarray(ordered[np.minimum(places, ordered.size - 1)] == instants)


def misplaced(instants: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which times in the order of a source stand where another one belongs, shape (T,).

    The two beside such a one are two intervals apart, so that it should lie midway between them;
    but it lies outside of all others, or between the slots of their cadence.

    Parameters
    ----------
    instants
        int64 (T,), microseconds, in the order of the source, without missing ones.
    """
    wrong = np.zeros(instants.shape, bool)
    if instants.size < 2 * FEW or (instants[1:] > instants[:-1]).all():
        return wrong
    gaps = np.diff(distinct(instants))
    if not gaps.size:
        return wrong
    middle = (gaps.size - 1) // 2
    interval = float(np.partition(gaps, middle)[middle])
    apart = instants[2:].astype(np.float64) - instants[:-2]
    room = np.abs(np.abs(apart) - 2 * interval) <= interval / 4
    low, high = np.minimum(instants[:-2], instants[2:]), np.maximum(instants[:-2], instants[2:])
    inner = instants[1:-1]
    outside = room & ((inner <= low) | (inner >= high))
    if not outside.any():
        return wrong
    # What is as far from another one as times usually are fills a gap there: it came late.
    wrong[1:-1] = outside & (np.abs(_nearest(instants)[1:-1] - interval) > interval / 4)
    return wrong


def _nearest(instants: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return how far each time is from the nearest of the others."""
    order = np.argsort(instants, kind="stable")
    gaps = np.diff(instants[order].astype(np.float64))
    nearest = np.empty(instants.shape)
    nearest[order] = np.minimum(np.append(np.inf, gaps), np.append(gaps, np.inf))
    return nearest


def distance(instant: int, others: NDArray[np.int64], calendar: str) -> str:
    """Say how far a time that is not believed is from the others."""
    if not others.size:
        return "is far from all others"
    ahead = others[others >= instant].min(initial=2**62)
    behind = others[others <= instant].max(initial=-(2**62))
    if ahead == behind or (ahead < 2**62 and behind > -(2**62)):
        return "does not fit in the order of the times around it"
    nearest, side = (int(ahead), "before") if ahead < 2**62 else (int(behind), "after")
    other = format_instant(nearest, calendar)
    return f"is {_length(abs(instant - nearest))} {side} {other}, the nearest of the others"


def _length(microseconds: int) -> str:
    """Return a length of time as people say it."""
    for name, size in (("years", 365.2425 * DAY), ("days", DAY), ("hours", 3600 * SECOND)):
        if microseconds >= 2 * size:
            return f"{microseconds / size:.0f} {name}"
    return f"{microseconds / SECOND:.0f} s"
