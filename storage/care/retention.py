"""Retention: which captures a policy keeps, and why.

A pure function of valid times, step numbers and tags: it has no clock and removes nothing.  The
rules are those of restic's ``forget``, but durations run back from the newest valid time, in the
dataset's own calendar, and captures of one valid time (revisions) count as one state.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from typing import Any

import cftime
import numpy as np
from numpy.typing import NDArray

from gnomon.storage.errors import InvalidInput
from gnomon.storage.values.times import EPOCH, SECOND

__all__ = ["Decision", "Duration", "Policy", "TaggedCapture", "decide", "parse_duration"]

ALL = -1
RULES = ("last", "hourly", "daily", "weekly", "monthly", "yearly")
UNITS = {"y": "years", "m": "months", "d": "days", "h": "hours"}
HOUR, DAY = 3600 * SECOND, 86400 * SECOND

FIRST_YEAR, BEFORE_ALL = -280_000, -(2**63)
"""Earlier years are taken as before every instant: cftime's integers overflow, some in silence."""

EPOCH_WEEKDAY = {"standard": 3, "gregorian": 3, "proleptic_gregorian": 3, "tai": 3, "julian": 2}
"""Days from Monday to 1970-01-01, in the calendars that have weekdays."""


@dataclass(frozen=True, slots=True)
class Duration:
    """A length of time in calendar units, longer than nothing."""

    years: int = 0
    """Calendar years."""
    months: int = 0
    """Calendar months."""
    days: int = 0
    """Days of 24 hours."""
    hours: int = 0
    """Hours."""

    def __post_init__(self) -> None:
        counts = [getattr(self, name) for name in UNITS.values()]
        if min(counts) < 0 or max(counts) == 0:
            raise InvalidInput(
                f"found a duration of {str(self) or 'nothing'}, expected counts from 0 up and one "
                "above 0; write it as 2y5m7d3h"
            )

    def __str__(self) -> str:
        counts = {unit: getattr(self, name) for unit, name in UNITS.items()}
        return "".join(f"{count}{unit}" for unit, count in counts.items() if count)

    def before(self, instant: int, calendar: str) -> int:
        """Return the instant this long before another.

        Years and months go first and keep day and time of day; a day that the month lacks becomes
        the last before it that it has.  What the calendar cannot express is before all instants.
        """
        months = 12 * self.years + self.months
        start = _months_before(instant, months, calendar) if months else instant
        return start - self.days * DAY - self.hours * HOUR


def parse_duration(text: str) -> Duration:
    """Return the duration that text such as ``2y5m7d3h`` means, or raise :class:`InvalidInput`.

    Years, months, days and hours stand in any order, each at most once, as whole numbers.
    """
    parts = re.findall(r"([0-9]{1,9})([ymdh])", text)
    counts = {UNITS[unit]: int(number) for number, unit in parts}
    if "".join(n + unit for n, unit in parts) != text.strip() or len(counts) < len(parts):
        raise InvalidInput(
            f"cannot read the duration {text[:40]!r}, expected years, months, days and hours, "
            "each at most once; write it as 2y5m7d3h"
        )
    return Duration(**counts)


@dataclass(frozen=True, slots=True)
class Policy:
    """What to keep; a capture stays if any rule keeps it.

    A rule of n periods keeps the newest state of each of the newest n that have one; if there are
    fewer, the oldest state as well.  0 keeps none, -1 all.
    :func:`gnomon.storage.care.forget.forget` keeps or gives up a state with all its versions.
    """

    last: int = 0
    """Newest states kept."""
    hourly: int = 0
    """Hours of which a state is kept."""
    daily: int = 0
    """Days of which a state is kept."""
    weekly: int = 0
    """Weeks of which a state is kept; they begin on Monday (see :func:`decide`)."""
    monthly: int = 0
    """Months of which a state is kept."""
    yearly: int = 0
    """Years of which a state is kept."""
    within: Duration | None = None
    """States less than this long before the newest are kept."""
    tags: tuple[str, ...] = ()
    """States of which a version has any of these tags are kept."""

    def __post_init__(self) -> None:
        for rule in RULES:
            if (count := getattr(self, rule)) < ALL:
                raise InvalidInput(f"found {rule}={count}, expected a count; write -1 for all")
        if "" in self.tags:
            raise InvalidInput("found an empty tag, expected a name; leave it out")

    @property
    def is_empty(self) -> bool:
        """Whether no rule keeps anything: such a policy would forget every capture."""
        return self == Policy()


@dataclass(frozen=True, slots=True)
class TaggedCapture:
    """A capture to decide on."""

    step: int
    """Number of the capture; of two with one valid time the higher is the newer revision."""
    instant: int
    """Valid time, microseconds since 1970 in the dataset's calendar."""
    tags: tuple[str, ...] = ()
    """Names that it was given."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of a capture."""

    step: int
    """Number of the capture."""
    instant: int
    """Valid time, microseconds since 1970 in the dataset's calendar."""
    keep: bool
    """Whether it is kept."""
    reasons: tuple[str, ...]
    """Why: rules in the order of the policy's fields, then the guard; empty if it goes."""


def decide(
    captures: Sequence[TaggedCapture],
    policy: Policy,
    calendar: str,
    *,
    guarded: Mapping[int, str] = {},
) -> tuple[Decision, ...]:
    """Return what becomes of each capture, in the order given, or raise :class:`InvalidInput`.

    Parameters
    ----------
    captures
        Captures in any order; a step that occurs twice is refused.
    policy
        What to keep.  An empty one drops all that is not guarded; refuse it before.
    calendar
        CF calendar, which has all instants.  Without weekdays, weeks are 7 days from 1970-01-01.
    guarded
        Per step, why it must stay.  This adds a reason and uses up no count; the rules do as if
        it were not there.  Steps that are not among the captures are ignored.

    Examples
    --------
    >>> days = [TaggedCapture(step, step * DAY) for step in range(4)]
    >>> [d.reasons for d in decide(days, Policy(last=1, yearly=2), "noleap", guarded={2: "base"})]
    [('oldest yearly',), (), ('base',), ('last', 'yearly')]
    """
    reasons: dict[int, list[str]] = {c.step: [] for c in captures}
    if len(reasons) < len(captures):
        raise InvalidInput(
            f"found {len(reasons)} steps in {len(captures)} captures, expected one each; "
            "pass every capture once"
        )
    for step, reason in chain(_kept(captures, policy, calendar), guarded.items()):
        if step in reasons:
            reasons[step].append(reason)
    return tuple(
        Decision(c.step, c.instant, bool(r := reasons[c.step]), tuple(r)) for c in captures
    )


def _kept(
    captures: Sequence[TaggedCapture], policy: Policy, calendar: str
) -> Iterator[tuple[int, str]]:
    """Yield step and reason of what the policy keeps, rule by rule."""
    if not captures:
        return
    states = dict(sorted((c.instant, c.step) for c in captures))  # of revisions, the last stays
    steps = [*reversed(states.values())]
    for rule, periods in _periods([*reversed(states)], calendar).items():
        for position, prefix in _winners(periods, getattr(policy, rule)):
            yield steps[position], prefix + rule
    if policy.within is not None:
        start = policy.within.before(max(states), calendar)
        yield from ((c.step, f"within {policy.within}") for c in captures if c.instant > start)
    for tag in policy.tags:
        yield from ((c.step, f"tag {tag}") for c in captures if tag in c.tags)


def _periods(instants: Sequence[int], calendar: str) -> dict[str, NDArray[np.int64]]:
    """Return, per rule that counts, the number of the period that each instant lies in."""
    exact = np.array(instants, np.int64)
    dates = _dates(exact, calendar)
    months = np.array([12 * date.year + date.month - 1 for date in dates], np.int64)
    days = exact // DAY
    weeks = (days + EPOCH_WEEKDAY.get(calendar.lower(), 0)) // 7
    return dict(zip(RULES, (exact, exact // HOUR, days, weeks, months, months // 12), strict=True))


def _winners(periods: NDArray[np.int64], count: int) -> Iterator[tuple[int, str]]:
    """Yield the states that a rule keeps, newest first, with the prefix of its name."""
    newest = np.flatnonzero(np.diff(periods, prepend=periods[:1] - 1)).tolist()
    yield from ((position, "") for position in (newest if count == ALL else newest[:count]))
    oldest = periods.size - 1
    if newest[-1:] != [oldest] and (count == ALL or len(newest) < count):
        yield oldest, "oldest "


def _dates(instants: NDArray[np.int64], calendar: str) -> Any:
    """Return the instants as an array of cftime dates."""
    try:
        return cftime.num2date(instants, EPOCH, calendar=calendar)
    except (ValueError, TypeError, OverflowError) as error:
        raise InvalidInput(
            f"cannot read valid times in the calendar {calendar!r} ({error}), expected a CF "
            "calendar that has them; correct the calendar of the time coordinate"
        ) from error


def _months_before(instant: int, months: int, calendar: str) -> int:
    date = _dates(np.array([instant], np.int64), calendar)[0]
    year, month = divmod(12 * date.year + date.month - 1 - months, 12)
    if year >= (FIRST_YEAR if date.has_year_zero else 1):  # CF: no year 0, then none before it
        for day in range(date.day, 0, -1):
            with suppress(ValueError):  # there is no 31 June, and no 10 October 1582
                moved = date.replace(year=year, month=month + 1, day=day)
                return int(cftime.date2num(moved, EPOCH, calendar=calendar))
    return BEFORE_ALL
