"""Restore points: every way to answer "give me the dataset at time T", best first.

The order is: captured exactly and trusted; healed; captured but suspect; forecast; the last
capture before.  Each comes with the error to expect and the confidence to be within tolerance.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from gnomon.storage.errors import InvalidInput, NotFound
from gnomon.storage.grid import Index
from gnomon.storage.model import SUSPECT, Shadow
from gnomon.storage.repository import Repository
from gnomon.storage.times import format_instant, period
from gnomon.tasks.cadence import Cadence
from gnomon.tasks.expectation import cadence_of, specification_of, unreadable

__all__ = ["PointKind", "RestorePoint", "find_instant", "locate", "points", "suspects"]

_AS_CAPTURED = ("captured", "suspect", "revision")
"""Kinds that rest on nothing that was learnt."""

PointKind = Literal["captured", "healed", "suspect", "forecast", "revision", "last_capture"]


@dataclass(frozen=True, slots=True)
class RestorePoint:
    """One candidate state for a time."""

    kind: PointKind
    """Where it comes from; ``suspect`` is a capture with suspect chunks, as it was captured;
    ``revision`` another version of it, before or after the source changed it."""
    valid_time: str
    """Time that the state is of, ISO 8601."""
    instant: int
    """The same as an instant."""
    step: int | None
    """Captured step it is based on; None for a forecast."""
    shadow: str | None
    """Shadow it takes predictions from; None for a capture."""
    lead: int
    """Capture intervals between the newest knowledge and the valid time; 0 if captured."""
    expected_error: dict[str, float | None]
    """Per variable: expected RMSE in its units; 0 if captured; None if unknown until computed."""
    confidence: float | None
    """Expected share of chunks within tolerance; None if unknown until computed."""
    suspect_chunks: int
    """Suspect chunks in the captured step."""
    predicted: bool
    """Whether any cell is an estimate."""
    era: int = 0
    """The era of the repository that it belongs to."""
    tags: tuple[str, ...] = ()
    """Names that a person gave the capture."""
    notes: tuple[str, ...] = ()
    """What could not be read of what the answer rests on, and what follows from that."""

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def suspects(repository: Repository, step: int) -> dict[str, list[Index]]:
    """Return the suspect chunks of a captured step by variable; empty if it is trusted."""
    found: dict[str, list[Index]] = {}
    for variable in repository.settings.variables:
        status = repository.captures(variable.name).status(step)
        chunks = [tuple(map(int, index)) for index in np.argwhere(status == SUSPECT)]
        if chunks:
            found[variable.name] = chunks
    return found


def find_instant(repository: Repository, text: str) -> int:
    """Return the captured or predicted time that a (possibly partial) ISO 8601 time names.

    Raises
    ------
    InvalidInput
        The text names several of them.
    NotFound
        It names none; the message says which times there are.
    """
    calendar = repository.settings.calendar
    start, stop = period(text, calendar)
    captured = [s.instant for s in repository.timeline if start <= s.instant < stop]
    predicted = _predicted(repository, start, stop)
    found = [*captured, *(i for i in predicted if start <= i < stop)]
    cadence = _cadence(repository)
    if not found and cadence is not None:
        near = [
            s.instant for s in repository.timeline if abs(s.instant - start) <= cadence.interval
        ]
        same = [i for i in (*near, *predicted) if cadence.slot(i) == cadence.slot(start)]
        found = sorted(same, key=lambda i: abs(i - start))[:1]
    if len(found) > 1:
        raise InvalidInput(
            f"{text!r} names {len(found)} states, from {format_instant(min(found), calendar)} to "
            f"{format_instant(max(found), calendar)}; name one of them"
        )
    if not found:
        raise NotFound(f"there is no state at {text!r}; {_range(repository)}")
    return found[0]


def locate(repository: Repository, text: str) -> tuple[Repository, int]:
    """Return the newest era that knows the time which a text names, and that time.

    Raises
    ------
    InvalidInput
        The text names several times.
    NotFound
        No era knows it.
    """
    try:
        return repository, find_instant(repository, text)
    except NotFound:
        for era in reversed(range(repository.era)):
            older = repository.in_era(era)
            try:
                return older, find_instant(older, text)
            except NotFound:
                continue
        raise


def _predicted(repository: Repository, start: int, stop: int) -> list[int]:
    """Return the times near a period that were predicted and never captured, one per slot."""
    cadence = _cadence(repository)
    if cadence is None:
        return []
    low, high = start - cadence.interval, stop + cadence.interval
    known = {cadence.slot(s.instant) for s in repository.timeline if low <= s.instant <= high}
    found: dict[int, int] = {}
    for shadow in repository.shadows:
        for instant in shadow.instants:
            if low <= instant <= high and cadence.slot(instant) not in known:
                found[cadence.slot(instant)] = instant
    return [found[slot] for slot in sorted(found)]


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


def _cadence(repository: Repository) -> Cadence | None:
    for variable in repository.settings.variables:
        cadence = cadence_of(repository, variable.name)
        if cadence is not None:
            return cadence
    return None


def points(repository: Repository, instant: int) -> tuple[RestorePoint, ...]:
    """Return every restore point for a valid time, best first."""
    versions = repository.state.versions(instant)
    step = versions[0].step if versions else None
    cadence = _cadence(repository)
    found: list[RestorePoint] = []
    forecast = _forecast(repository, instant, cadence)
    if step is not None:
        count = versions[0].suspects
        if count and forecast is not None:
            found.append(_point(repository, "healed", instant, step=step, like=forecast))
        found.append(_point(repository, "suspect" if count else "captured", instant, step=step))
    if forecast is not None:
        found.append(forecast)
    found += [_point(repository, "revision", instant, step=v.step) for v in versions[1:]]
    before = repository.state.before(instant, 1)
    if before:
        found.append(_last_capture(repository, instant, before[0], cadence))
    notes = unreadable(repository)
    return tuple(p if p.kind in _AS_CAPTURED else replace(p, notes=notes) for p in found)


def _point(
    repository: Repository,
    kind: PointKind,
    instant: int,
    *,
    step: int,
    like: RestorePoint | None = None,
) -> RestorePoint:
    names = [v.name for v in repository.settings.variables if v.forecast]
    captured = repository.captured[step]
    exact = kind == "captured"
    return RestorePoint(
        kind,
        format_instant(instant, repository.settings.calendar),
        instant,
        step,
        None if like is None else like.shadow,
        0 if like is None else like.lead,
        dict.fromkeys(names, 0.0 if exact else None),
        1.0 if exact else None,
        captured.suspects,
        kind == "healed",
        repository.era,
        captured.tags,
    )


def _forecast(repository: Repository, instant: int, cadence: Cadence | None) -> RestorePoint | None:
    """Return the forecast with the shortest lead that knew nothing of the time itself."""
    shadow, lead = _shadow_for(repository, instant, cadence)
    if shadow is None:
        return None
    calendar = repository.settings.calendar
    summary = shadow.variables
    return RestorePoint(
        "forecast",
        format_instant(shadow.instants[lead - 1], calendar),
        shadow.instants[lead - 1],
        None,
        shadow.id,
        lead,
        {n: float(e["expected_rmse"][lead - 1]) for n, e in summary.items()},
        min(float(e["confidence"][lead - 1]) for e in summary.values()),
        0,
        True,
        repository.era,
    )


def _shadow_for(
    repository: Repository, instant: int, cadence: Cadence | None
) -> tuple[Shadow | None, int]:
    for shadow in reversed(repository.shadows):
        if shadow.reference >= instant:
            continue
        for lead, predicted in enumerate(shadow.instants, start=1):
            same_slot = cadence is not None and cadence.slot(predicted) == cadence.slot(instant)
            if predicted == instant or same_slot:
                return shadow, lead
    return None, 0


def _last_capture(
    repository: Repository, instant: int, step: int, cadence: Cadence | None
) -> RestorePoint:
    """Return the state before: what a system without forecasts would restore."""
    captured = repository.captured[step]
    lead = 0 if cadence is None else cadence.slot(instant) - cadence.slot(captured.instant)
    errors: dict[str, float | None] = {}
    for variable in repository.settings.variables:
        specification = specification_of(repository, variable.name)
        if variable.forecast:
            # A random walk's error grows with the root of the lead.
            errors[variable.name] = (
                None if specification is None else specification.tolerance * max(1, lead) ** 0.5
            )
    return RestorePoint(
        "last_capture",
        format_instant(captured.instant, repository.settings.calendar),
        captured.instant,
        step,
        None,
        lead,
        errors,
        None,
        captured.suspects,
        False,
        repository.era,
        captured.tags,
    )
