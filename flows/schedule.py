"""When the next update is due: before the confidence would fall below its target.

The interval is adapted: trouble makes it the shortest at once, calm lets it grow, at most twofold
at a time, so that one good forecast after a storm does not put off the next look by days.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from math import floor
from typing import Any

from gnomon.storage.log.bodies.shadow import PredictedEntry

__all__ = [
    "Due",
    "Limits",
    "Look",
    "dataset_confidence",
    "due_at",
    "longest_lead",
    "next_due",
    "usual_delay",
]

RELAXES = 2
"""By how much an interval may grow from one update to the next."""
RECENT = 20
"""Captures whose delay tells how long the source takes to publish."""


@dataclass(frozen=True, slots=True)
class Due:
    """When to capture next, and why."""

    lead: int
    """Capture intervals from the reference time."""
    valid_time: str
    """The same as a time, ISO 8601, in the dataset's calendar."""
    reason: str
    """Why not sooner or later."""
    at: str | None = None
    """When the source should have that state: wall-clock time, ISO 8601, UTC; None: not known."""

    def is_later_than(self, now: datetime) -> bool:
        """Tell whether there is time left; not if the time is not known."""
        return self.at is not None and datetime.fromisoformat(self.at) > now

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Due | None":
        """Read the JSON form; None if it is of an older program, or makes no sense."""
        try:
            due = cls(data["lead"], data["valid_time"], data["reason"], data.get("at"))
            due.is_later_than(datetime.now(UTC))
        except (KeyError, TypeError, ValueError):
            return None
        return due if isinstance(due.lead, int) and due.lead > 0 else None


@dataclass(frozen=True, slots=True)
class Limits:
    """Between which bounds an interval is adapted, in wall-clock time."""

    least: timedelta = timedelta()
    """No update is due sooner after the last."""
    most: timedelta | None = None
    """None is due later; None: the leads of the shadow are the only bound."""


@dataclass(frozen=True, slots=True)
class Look:
    """A look at the source that found a new newest state."""

    at: datetime
    """When it was read."""
    lag_s: float
    """Seconds from the valid time of that state until then."""


def dataset_confidence(variables: Sequence[PredictedEntry]) -> list[float]:
    """Return the confidence of a dataset at leads 1..H, the least of its variables.

    A variable that never changed does not count beside those that do: nothing about it says when
    to look next.  Nor does one of which nothing is predicted.
    """
    moving = [v for v in variables if v.usual_change != 0] or variables
    by_lead = zip(*(v.confidence for v in moving), strict=True)
    return [min((float(c) for c in each if c is not None), default=0.0) for each in by_lead]


def next_due(
    confidence: Sequence[float],
    valid_times: Sequence[str],
    *,
    target: float,
    trouble: str = "",
    before: int | None = None,
    held: str = "",
    most: int | None = None,
) -> Due:
    """Return the longest lead whose confidence, and that of all before, meets the target.

    Parameters
    ----------
    confidence
        Of the dataset at leads 1..H.
    valid_times
        Of the same leads.
    trouble
        What is wrong with the newest capture, or with the forecast; with any, the next capture is
        due at once.
    before
        The interval that was in force, in leads; None: none was.
    held
        Why the interval does not grow, as in "it stays ..."; nothing: it may.
    most
        The longest interval that is allowed, in leads; None: any.
    """
    if trouble:
        return Due(1, valid_times[0], trouble)
    lead = 0
    while lead < len(confidence) and confidence[lead] >= target:
        lead += 1
    if lead == 0:
        reason = f"confidence {confidence[0]:.2f} at lead 1 is below {target:.2f} already"
        return Due(1, valid_times[0], f"{reason}, so that the interval is the shortest")
    reason = f"confidence {confidence[lead - 1]:.2f} at lead {lead} still meets {target:.2f}"
    if lead == len(confidence):
        reason += ", and it is the last"
    else:
        reason += f", that of {confidence[lead]:.2f} at lead {lead + 1} does not"
    if before is not None and lead > (grown := before * (1 if held else RELAXES)):
        why = f"stays {held}" if held else f"may grow to {grown}"
        lead, reason = grown, f"{reason}, and the interval of {before} {why}"
    if most is not None and lead > most:
        lead, reason = most, f"{reason}, and {most} is the longest that is allowed"
    return Due(lead, valid_times[lead - 1], reason)


def usual_delay(looks: Sequence[Look]) -> float | None:
    """Return the seconds that a source takes to publish a state, from looks in order of time.

    A look is at most one interval later than the state that it finds, so that short lags tell the
    delay and long ones how seldom somebody looked: it is a low one, the quarter, of the last.
    None: there was no look.
    """
    lags = sorted(look.lag_s for look in looks[-RECENT:])
    return lags[(len(lags) - 1) // 4] if lags else None


def due_at(
    look: Look,
    lead_s: float,
    interval_s: float,
    limits: Limits,
    *,
    usual_s: float | None = None,
    delay: timedelta | None = None,
) -> datetime:
    """Return when the source should have a state.

    It publishes states as fast as they come, so that the state a lead after the one that was just
    found is there as much later; less what this look came too late for its state, by the usual
    delay, but not more than an interval.  So clocks that have nothing in common, as of a dataset of
    the past that is appended to today, do no harm.

    Parameters
    ----------
    look
        That found the state which leads are counted from.
    lead_s, interval_s
        Seconds from its valid time to that of the state, and between states.
    usual_s
        Seconds that the source usually takes to publish; None: not known.
    delay
        The time that it takes by what the user says, in place of that.  The look may have been
        earlier than that, too, by an interval at most.
    """
    if delay is not None:
        late_s = min(max(look.lag_s - delay.total_seconds(), -interval_s), interval_s)
    else:
        late_s = 0.0 if usual_s is None else min(max(look.lag_s - usual_s, 0.0), interval_s)
    wait_s = lead_s - late_s
    if limits.most is not None:
        wait_s = min(wait_s, limits.most.total_seconds())
    return _after(look.at, max(wait_s, limits.least.total_seconds()))


def longest_lead(interval_s: float, limits: Limits) -> int | None:
    """Return the longest interval that is allowed, in leads, 1 at least; None: any."""
    if limits.most is None:
        return None
    return max(1, floor(limits.most.total_seconds() / interval_s))


def _after(start: datetime, seconds: float) -> datetime:
    """Return a later time; the last there is where it would be beyond."""
    try:
        return start + timedelta(seconds=seconds)
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC)
