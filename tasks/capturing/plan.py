"""Plan: which states of the source one commit will capture, and against what they are coded."""

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from gnomon.storage.changes.observed import Observed, check_source, observe
from gnomon.storage.errors import InvalidInput
from gnomon.storage.log.description import Change
from gnomon.storage.log.staging import fresh_id
from gnomon.storage.log.steps import CapturedStep
from gnomon.storage.repository import Repository
from gnomon.storage.source.files.opening import source_notes
from gnomon.storage.source.opening import open_source, pinned
from gnomon.storage.values.believable import DAY, among
from gnomon.storage.values.model import RepositorySettings, SourceSpec
from gnomon.storage.values.scaling import Packing
from gnomon.storage.values.times import calendar_of, decode, format_instant
from gnomon.tasks.capturing.presence import choose
from gnomon.tasks.capturing.sighting import LeftOut, Sighting, sight
from gnomon.tasks.learning.cadence import MIN_CAPTURES

__all__ = ["CapturePlan", "plan_capture"]

MAX_STEPS = 512
"""Steps of one commit at most; a longer history takes several."""
MAX_ROWS = 2**19
"""Index rows of one commit, steps times chunks, at most, unless one step has more."""


_UNSEEN = Observed({}, (), {})
"""Of a source of which nothing is captured."""


@dataclass(frozen=True, slots=True)
class CapturePlan:
    """What one commit will capture."""

    url: str
    """The repository."""
    sequence: int
    """The commit that it is pinned to."""
    id: str
    """Folder of the new slab."""
    instants: tuple[int, ...]
    """Valid times of the new states."""
    positions: tuple[int, ...] | None
    """Their indices along time in the source; None for a state source."""
    raw_times: bytes
    """Their raw values; empty for a state source."""
    bases: tuple[int | None, ...]
    """The capture, by number, that each is coded against; None for the first of all."""
    revises: tuple[int | None, ...]
    """The capture of the same time that each replaces; None for a new time."""
    late: int
    """How many are older than the newest capture."""
    remaining: int
    """New times that are left for the next commit."""
    metadata_changed: Mapping[str, tuple[int, ...]]
    """Per variable, the new states in which its values mean something else than at init, or than a
    person has accepted."""
    notes: tuple[str, ...]
    """What the source has changed of its attributes and fixed variables since the last capture."""
    descriptions: Mapping[int, Change]
    """Those changes, to be kept with the captures, by the first new state with each."""
    readings: Mapping[str, tuple[Packing, ...]]
    """Per variable, how the raw values of each new state stand for numbers."""
    source: SourceSpec
    """The source, pinned to the version that it has now, where it keeps versions."""
    read_at: str = ""
    """Wall-clock time before anything was read, ISO 8601; empty if nobody said."""
    left_out: tuple[LeftOut, ...] = ()
    """Steps that are not captured, as their time is missing or not believed."""
    duplicates: frozenset[int] = frozenset()
    """Instants of the new states that the source has more than once: this is the first of each."""
    has_repeats: bool = False
    """Whether the source has any time more than once."""
    empty: frozenset[int] = frozenset()
    """Instants of new steps that were looked at and have no value yet."""
    never: tuple[int, ...] = ()
    """How many more of them were never written, the first instant and the last; or nothing."""


def plan_capture(
    repository: Repository,
    *,
    now: int | None = None,
    until: int | None = None,
    revised: tuple[int, ...] = (),
    repeats: Mapping[int, int] = {},
    left_out: frozenset[int] = frozenset(),
    clock: int | None = None,
) -> CapturePlan | None:
    """Return a plan of the states of the source that were never captured; None if there are none.

    A plan without states is one for a run that stopped after its capture, before its shadow, or
    one that has something to note.

    Parameters
    ----------
    now
        Valid time of a state source, an instant; not used for append sources.
    until
        Take no later valid time than this.
    revised
        Captures, by number, that the source has changed since: they are captured again.
    repeats
        By capture, which of the steps that have its time, counted from 0, is to be captured as
        its revision.
    left_out
        Valid times, as instants, that the source cannot give now.
    clock
        The time now, an instant: times ahead of it are doubted.

    Raises
    ------
    InvalidInput
        The source is not what it was at init.
    """
    source = pinned(repository.settings.source)
    with open_source(source, repository.memory) as dataset:
        check_source(dataset, repository.frame, repository.settings)
        if source.kind == "state":
            plan = _plan_state(repository, dataset, now)
        else:
            wanted = _Wanted(until, revised, repeats, left_out, clock)
            plan = _plan_steps(repository, dataset, wanted)
        notes = source_notes(dataset)
    if plan is None and notes:
        plan = _plan(repository, {}, {}, "", _UNSEEN)
    return None if plan is None else replace(plan, source=source, notes=(*plan.notes, *notes))


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What of an append source is to be captured; see :func:`plan_capture`."""

    until: int | None
    revised: tuple[int, ...]
    repeats: Mapping[int, int]
    left_out: frozenset[int]
    clock: int | None


def _plan_state(repository: Repository, dataset: xr.Dataset, now: int | None) -> CapturePlan | None:
    times = _time_of_state(repository, now)
    if not times and not _is_unfinished(repository):
        return None
    folder = fresh_id(len(repository.records))
    observed = observe(dataset, repository, folder)
    plan = _plan(repository, dict.fromkeys(times, -1), {}, folder, observed)
    notes = _times_told(dataset, repository.settings.calendar, times)
    return replace(plan, positions=None, notes=(*plan.notes, *notes))


def _times_told(dataset: xr.Dataset, calendar: str, times: list[int]) -> tuple[str, ...]:
    """Return a note if a state source tells another time than the one it is captured for."""
    notes = []
    for name, variable in dataset.variables.items():
        units = str(variable.attrs.get("units", ""))
        named = "time" in (name, variable.attrs.get("standard_name"))
        if variable.size != 1 or " since " not in units or not named:
            continue
        try:
            instant = int(
                decode(np.asarray(variable.values).ravel(), units, calendar_of(variable.attrs))[0]
            )
        except InvalidInput:
            continue
        if any(abs(instant - time) > DAY for time in times):
            notes.append(
                f"{name!r} of the source is {format_instant(instant, calendar)}, but its state is "
                f"taken as of {format_instant(times[0], calendar)}; --time says of when it is"
            )
    return tuple(notes)


def _plan_steps(repository: Repository, dataset: xr.Dataset, wanted: _Wanted) -> CapturePlan | None:
    settings = repository.settings
    seen = sight(repository, dataset, clock=wanted.clock)
    again = _again(repository, seen, wanted)
    fresh = _fresh(repository, seen, wanted.until, wanted.left_out)
    most = _limit(settings) - len(again)
    chosen = choose(dataset, settings, fresh, most, np.random.default_rng())
    places = {
        instant: _position(seen.positions(instant), wanted.repeats.get(step, -1))
        for instant, step in again.items()
    }
    places |= {int(seen.axis.instants[k]): int(k) for k in chosen.taken}
    left_out, ended = seen.left_out(), _ended(repository, seen)
    twice = frozenset(seen.twice)
    if not (places or left_out or ended or twice or chosen.empty.size or chosen.never.size):
        return None
    folder = fresh_id(len(repository.records))
    positions = [places[instant] for instant in sorted(places)]
    observed = observe(dataset, repository, folder, positions) if places else _UNSEEN
    plan = _plan(repository, places, again, folder, observed)
    raw = b""
    if places:
        raw = seen.axis.told(settings, np.array(plan.positions, np.intp)).tobytes()
    return replace(
        plan,
        raw_times=raw,
        notes=(*plan.notes, *ended),
        remaining=chosen.left,
        left_out=left_out,
        duplicates=frozenset(places.keys() - again.keys()) & twice,
        has_repeats=bool(twice),
        empty=frozenset(seen.axis.instants[chosen.empty].tolist()),
        never=tuple(_ends(seen.axis.instants[chosen.never])),
    )


def _ended(repository: Repository, seen: Sighting) -> tuple[str, ...]:
    """Return a note if the source no longer has the times of the newest captures.

    It is normal that it loses old ones: windows roll.
    """
    last = int(seen.times[-1]) if seen.times.size else None
    gone = [s.instant for s in repository.timeline if last is None or s.instant > last]
    if not gone:
        return ()
    calendar = repository.settings.calendar
    ends = "has no steps" if last is None else f"ends at {format_instant(last, calendar)}"
    return (
        f"the source {ends}: {len(gone)} captured times up to {format_instant(gone[-1], calendar)} "
        "are gone from it; the captures stay",
    )


def _again(repository: Repository, seen: Sighting, wanted: _Wanted) -> dict[int, int]:
    """Return the captures that are captured again, by instant, no more than one commit takes.

    Others may have captured them again, or given them up, since they were looked at.
    """
    newest = {s.instant: s.step for s in repository.state.kept}
    again: dict[int, int] = {}
    for step in (*wanted.revised, *wanted.repeats):
        instant = repository.captured[step].instant
        in_time = wanted.until is None or instant <= wanted.until
        in_time &= instant not in wanted.left_out
        if newest.get(instant) == step and in_time and seen.positions(instant):
            again[instant] = step
    return dict(sorted(again.items())[: _limit(repository.settings)])


def _ends(instants: NDArray[np.int64]) -> list[int]:
    """Return how many there are, the first and the last; nothing if there are none."""
    return [instants.size, int(instants.min()), int(instants.max())] if instants.size else []


def _position(places: list[int], nth: int) -> int:
    """Return the n-th of the positions of a time, the last one if there are fewer."""
    return places[nth if -1 <= nth < len(places) else -1]


def _plan(
    repository: Repository,
    places: Mapping[int, int],
    again: Mapping[int, int],
    folder: str,
    observed: Observed,
) -> CapturePlan:
    """Return a plan of some instants, by their positions, of which some are captured again."""
    times = sorted(places)
    revises = [again.get(instant) for instant in times]
    newest = repository.timeline[-1].instant if repository.timeline else None
    return CapturePlan(
        url=repository.location.url,
        sequence=repository.records[-1].sequence,
        id=folder,
        instants=tuple(times),
        positions=tuple(places[t] for t in times),
        raw_times=b"",
        bases=_bases(repository.timeline, len(repository.captured), times, revises),
        revises=tuple(revises),
        late=sum(newest is not None and t < newest and t not in again for t in times),
        remaining=0,
        metadata_changed=observed.doubted,
        notes=observed.notes,
        descriptions=observed.changes,
        readings=_readings(repository, len(times), observed.changes),
        source=repository.settings.source,
    )


def _readings(
    repository: Repository, count: int, changes: Mapping[int, Change]
) -> dict[str, tuple[Packing, ...]]:
    """Return how each new state is read, by variable."""
    described = np.cumsum([k in changes for k in range(count)], dtype=int)
    now = repository.state.description()
    descriptions = [now, *(now := change.after(now) for change in changes.values())]
    return {
        v.name: tuple(descriptions[d].reading(v) for d in described)
        for v in repository.settings.variables
    }


def _bases(
    timeline: tuple[CapturedStep, ...],
    first: int,
    times: list[int],
    revises: list[int | None],
) -> tuple[int | None, ...]:
    """Return the state nearest before each new one, old or new; else the nearest after."""
    instants = [s.instant for s in timeline]
    bases: list[int | None] = []
    for k, (time, revised) in enumerate(zip(times, revises, strict=True)):
        place = bisect_left(instants, time)
        if revised is not None:
            bases.append(revised)
        elif k and (not place or times[k - 1] >= instants[place - 1]):
            bases.append(first + k - 1)
        else:
            bases.append(timeline[max(0, place - 1)].step if timeline else None)
    return tuple(bases)


def _limit(settings: RepositorySettings) -> int:
    chunks = sum(v.grid.size for v in settings.variables)
    return max(1, min(MAX_STEPS, MAX_ROWS // max(1, chunks)))


def _time_of_state(repository: Repository, now: int | None) -> list[int]:
    """Return the time of a state source's capture; none to finish a run that stopped after it."""
    if now is None:
        raise InvalidInput("a state source needs the time of the capture; give --time")
    if now not in {step.instant for step in repository.state.kept}:
        return [now]
    if now == repository.timeline[-1].instant and _is_unfinished(repository):
        return []
    raise InvalidInput(
        f"the state of {format_instant(now, repository.settings.calendar)} was captured already; "
        "give another --time, or give that capture up by 'gnomon forget --capture'"
    )


def _fresh(
    repository: Repository, seen: Sighting, until: int | None, left_out: frozenset[int]
) -> NDArray[np.intp]:
    """Return the positions of the steps that were never captured, in order of time."""
    instants = {s.instant for s in repository.captured} | left_out
    fresh = ~among(seen.times, np.sort(np.fromiter(instants, np.int64, len(instants))))
    if until is not None:
        fresh &= seen.times <= until
    return seen.order[fresh]


def _is_unfinished(repository: Repository) -> bool:
    """Tell whether a run stopped after the newest capture, before its shadow."""
    record = repository.forecaster
    step = -1 if record is None else record.step
    newest = repository.timeline[-1].step
    return step < newest and len(repository.timeline) >= MIN_CAPTURES
