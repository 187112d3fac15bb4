"""Which state a time names: exactly one, or the refusal that names its neighbours.

A state is a capture, or a time that was predicted and never captured.  A time between two states
names neither, however close it is: the nearest one, or the one before, is taken only when that is
asked for.
"""

import re
from bisect import bisect_left
from dataclasses import dataclass
from typing import Literal, get_args

from gnomon.storage.errors import InvalidInput, NotFound
from gnomon.storage.repository import Repository
from gnomon.storage.values.times import SECOND, format_instant, period
from gnomon.tasks.learning import recorded
from gnomon.tasks.learning.cadence import Cadence

__all__ = [
    "Match",
    "cadence_of",
    "capture_named",
    "find_instant",
    "find_period",
    "find_range",
    "locate",
    "match_of",
]

Match = Literal["exact", "nearest", "before"]
"""What a time that names no state stands for: nothing, the nearest state, or the one before."""


_LATEST = re.compile(r"latest(?:~(?P<before>\d{1,9}))?")
"""The newest capture, or one so many before it."""


def match_of(*, nearest: bool, before: bool) -> Match:
    """Return the match that two options stand for.

    Raises
    ------
    InvalidInput
        Both were given.
    """
    if nearest and before:
        raise InvalidInput("--nearest and --before were both given; take one of them")
    return "nearest" if nearest else "before" if before else "exact"


def cadence_of(repository: Repository) -> Cadence | None:
    """Return the grid of capture times as the newest forecaster has it; None before the first.

    It is part of the log: neither age nor damage of the forecaster's state takes it away.
    """
    record = repository.forecaster
    names = [] if record is None else record.learnt
    grids = (recorded.cadence_of(repository, name) for name in names)
    return next((grid for grid in grids if grid is not None), None)


def find_instant(repository: Repository, text: str, *, match: Match = "exact") -> int:
    """Return the state's time, in the present era, that a (possibly partial) ISO 8601 time names.

    Raises
    ------
    InvalidInput
        The text names several states.
    NotFound
        It names none; the message says which are before and after it.
    """
    return _resolve([repository], text, match)[1]


def find_period(repository: Repository, text: str) -> tuple[int, int]:
    """Return the first instant of a period, and the one after its last.

    Parameters
    ----------
    text
        A (possibly partial) time; ``2024-03-01/2024-03-10``, both ends included; ``all``; or the
        newest capture, ``latest``, and those before it.

    Raises
    ------
    InvalidInput
        It is none, or ends before it begins.
    """
    calendar = repository.settings.calendar
    if text.strip() == "all":
        return -(2**63), 2**63
    if (counted := _LATEST.fullmatch(text.strip())) is not None:
        instant = _latest(repository, int(counted["before"] or 0))
        return instant, instant + 1
    first, slash, last = text.partition("/")
    start, stop = period(first, calendar)
    if slash:
        stop = period(last, calendar)[1]
    if stop <= start:
        raise InvalidInput(f"{text!r} ends before it begins; write the earlier time first")
    return start, stop


def locate(repository: Repository, text: str, *, match: Match = "exact") -> tuple[Repository, int]:
    """Return the newest era that has the state which a time names, and the state's time.

    Parameters
    ----------
    text
        Time, ISO 8601, as partial as is unique; or ``latest``, the newest capture, or ``latest~2``,
        the second before it.
    match
        ``exact``; or, where the time names no state, ``nearest``: the nearest one, the earlier of
        two as near; ``before``: the last one before.

    Raises
    ------
    InvalidInput
        The text names several states.
    NotFound
        It names none; the message says which are before and after it.
    """
    eras = [repository, *(repository.in_era(k) for k in reversed(range(repository.era)))]
    return _resolve(eras, text, match)


def capture_named(repository: Repository, text: str) -> tuple[Repository, int]:
    """Return the era and the number of a capture that is named by its number or its time.

    Raises
    ------
    InvalidInput
        The time names several states.
    NotFound
        It names none, or one that was predicted and never captured.
    """
    if text.isascii() and text.isdigit() and int(text) < len(repository.captured):
        return repository, int(text)
    seen, instant = locate(repository, text)
    versions = seen.state.versions(instant)
    if not versions:
        raise NotFound(f"{text!r} was not captured; 'gnomon captures' lists what was")
    return seen, versions[0].step


def find_range(
    repository: Repository, first: str | None, last: str | None, *, predicted: bool
) -> tuple[Repository, list[int]]:
    """Return the era that has the states of a period, and their times in order.

    A capture whose time is not believed is not among them.

    Parameters
    ----------
    first, last
        Times as in `locate`, both included; a partial one stands for all of its period.  None: from
        the first capture on, or to the last one (of what is predicted, to the end).
    predicted
        Whether times count that were predicted and never captured.

    Raises
    ------
    InvalidInput
        The period ends before it begins, or its states lie in several eras.
    NotFound
        It has no state.
    """
    start = -(2**63) if first is None else find_period(repository, first)[0]
    stop = 2**63 if last is None else find_period(repository, last)[1]
    if stop <= start:
        raise InvalidInput(f"--from {first} is after --until {last}; {_range(repository)}")
    eras = [repository, *(repository.in_era(k) for k in reversed(range(repository.era)))]
    states = [
        state
        for state in _inside(eras, start, stop)
        if state.instant not in state.seen.state.doubted and (predicted or not state.predicted)
    ]
    if not states:
        asked = " ".join(
            f"{word} {time}" for word, time in (("from", first), ("until", last)) if time
        )
        raise NotFound(f"there is no captured state {asked}; {_range(repository)}")
    counts = {state.seen.era: state for state in states}
    if len(counts) > 1:
        later = next(s for s in states if s.seen.era != states[0].seen.era)
        raise InvalidInput(
            f"the states from {states[0]} to {states[-1]} are of {len(counts)} eras, which differ "
            f"in their grids or variables; the second begins at {later}: take one era at a time"
        )
    return states[0].seen, [state.instant for state in states]


@dataclass(frozen=True, slots=True)
class _State:
    """A time that can be answered for."""

    instant: int
    seen: Repository
    predicted: bool = False

    def __str__(self) -> str:
        time = format_instant(self.instant, self.seen.settings.calendar)
        return f"{time} ({'predicted' if self.predicted else 'captured'})"


def _resolve(eras: list[Repository], text: str, match: Match) -> tuple[Repository, int]:
    if match not in get_args(Match):
        raise InvalidInput(f"match is {match!r}; it must be one of {', '.join(get_args(Match))}")
    newest = eras[0]
    counted = _LATEST.fullmatch(text.strip())
    if counted is not None:
        return newest, _latest(newest, int(counted["before"] or 0))
    start, stop = period(text, newest.settings.calendar)
    # Instants of another calendar cannot be compared.
    eras = [seen for seen in eras if seen.settings.calendar == newest.settings.calendar]
    states = _inside(eras, start, stop)
    if len(states) > 1 and stop - start <= SECOND and states[0].instant == start:
        states = states[:1]  # nothing could name it more exactly
    if len(states) > 1:
        raise InvalidInput(
            f"{text!r} names {len(states)} states, from {states[0]} to {states[-1]}; name one of "
            "them"
        )
    if states:
        return states[0].seen, states[0].instant
    before, after = _neighbours(eras, start, stop)
    chosen = before
    if match == "nearest" and after is not None:
        # A time of day is meant as that moment; a day, a month or a year as all of it.
        end = start if stop - start <= 3600 * SECOND else stop - 1
        near = before is not None and start - before.instant <= after.instant - end
        chosen = before if near else after
    if match == "exact" or chosen is None:
        raise NotFound(f"there is no state {_refusal(newest, text, match, before, after)}")
    return chosen.seen, chosen.instant


def _latest(repository: Repository, before: int) -> int:
    """Return the time of the newest capture, or of one so many before it."""
    timeline = repository.timeline
    if before >= len(timeline):
        raise NotFound(f"there are {len(timeline)} captures, none is {before} before the newest")
    return timeline[-1 - before].instant


def _refusal(
    newest: Repository, text: str, match: Match, before: _State | None, after: _State | None
) -> str:
    what = f"{'before' if match == 'before' else 'at'} {text!r}"
    if before is None and after is None:
        return f"{what}; {_range(newest)}"
    sides = [f"before it is {before}" if before else "none is before it"]
    sides.append(f"after it {after}" if after else "none is after it")
    return (
        f"{what}: {', '.join(sides)}; name the one you want ('points' and 'restore' also take "
        f"--before and --nearest); {_range(newest)}"
    )


def _inside(eras: list[Repository], start: int, stop: int) -> list[_State]:
    """Return the states of a period, in order; a time of several eras is of the newest."""
    states: dict[int, _State] = {}
    for seen in eras:
        for step in seen.state.kept:  # what has a doubted time is there as well
            if start <= step.instant < stop:
                states.setdefault(step.instant, _State(step.instant, seen))
    # What an older era predicted counts only where nothing newer is known.
    for seen in eras:
        for instant in _predicted(seen, start, stop):
            states.setdefault(instant, _State(instant, seen, predicted=True))
        if states:
            break
    return [states[instant] for instant in sorted(states)]


def _predicted(repository: Repository, start: int, stop: int) -> list[int]:
    """Return the times of a period that were predicted and never captured, one per slot."""
    cadence = cadence_of(repository)
    if cadence is None:
        return []
    times = {i for s in repository.shadows for i in s.instants if start <= i < stop}
    if not times:
        return []
    low, high = min(times) - cadence.interval, max(times) + cadence.interval
    captured = {cadence.slot(s.instant) for s in repository.timeline if low <= s.instant <= high}
    # The grid moves a little between refits: of a slot, the time in the newest shadow.
    newest: dict[int, int] = {}
    for shadow in repository.shadows:
        for instant in times.intersection(shadow.instants):
            if (slot := cadence.slot(instant)) not in captured:
                newest[slot] = instant
    return sorted(newest.values())


def _neighbours(
    eras: list[Repository], start: int, stop: int
) -> tuple[_State | None, _State | None]:
    """Return the last state before a period without one, and the first after it."""
    before: _State | None = None
    after: _State | None = None
    for seen in eras:
        place = bisect_left(seen.timeline, start, key=lambda s: s.instant)
        for step in seen.timeline[max(0, place - 1) : place]:
            if before is None or step.instant > before.instant:
                before = _State(step.instant, seen)
        for step in seen.timeline[place : place + 1]:
            if after is None or step.instant < after.instant:
                after = _State(step.instant, seen)
    newest = eras[0]
    low = -(2**63) if before is None else before.instant
    high = 2**63 if after is None else after.instant
    earlier, later = _predicted(newest, low, start), _predicted(newest, stop, high)
    if earlier:
        before = _State(earlier[-1], newest, predicted=True)
    if later:
        after = _State(later[0], newest, predicted=True)
    return before, after


def _range(repository: Repository) -> str:
    calendar, timeline = repository.settings.calendar, repository.timeline
    if not timeline:
        return "nothing was captured yet, run 'gnomon update'"
    first, last = (format_instant(timeline[k].instant, calendar) for k in (0, -1))
    captured = f"{len(timeline)} captures from {first} to {last}"
    ahead = repository.shadows[-1].instants if repository.shadows else ()
    if not ahead or ahead[-1] <= timeline[-1].instant:
        reason = (
            "1 capture, a forecast needs at least 3"
            if len(timeline) == 1
            else "no shadow beyond them"
        )
        return f"{captured}, {reason}"
    return f"{captured}, shadows until {format_instant(ahead[-1], calendar)}"
