"""Plan: which states of the source one commit will capture, and against what they are coded."""

from bisect import bisect_left
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gnomon.storage.batch import fresh_id
from gnomon.storage.errors import InvalidInput
from gnomon.storage.model import CapturedStep, Settings
from gnomon.storage.observed import Observed, check_source, observe
from gnomon.storage.repository import Repository
from gnomon.storage.source import open_source
from gnomon.storage.timeaxis import instants, raw_times
from gnomon.storage.times import format_instant
from gnomon.tasks.features import MIN_CAPTURES

__all__ = ["CapturePlan", "plan_capture"]

MAX_STEPS = 512
"""Steps of one commit at most; a longer history takes several."""
MAX_ROWS = 2**19
"""Index rows of one commit, steps times chunks, at most, unless one step has more."""


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
    metadata_changed: tuple[str, ...]
    """Variables whose values mean something else than at init, or than a person has accepted."""
    notes: tuple[str, ...]
    """What the source has changed of its attributes and fixed variables since the last capture."""
    description: dict[str, Any]
    """That change as JSON, to be kept with the captures; empty where nothing has changed."""


def plan_capture(
    repository: Repository,
    *,
    now: int | None = None,
    until: int | None = None,
    revised: tuple[int, ...] = (),
    left_out: frozenset[int] = frozenset(),
) -> CapturePlan | None:
    """Find the states of the source that were never captured; None if there are none.

    A plan without states is one for a run that stopped after its capture, before its shadow.

    Parameters
    ----------
    now
        Valid time of a state source, an instant; not used for append sources.
    until
        Take no later valid time than this.
    revised
        Captures, by number, that the source has changed since: they are captured again.
    left_out
        Valid times, as instants, that the source cannot give now.

    Raises
    ------
    InvalidInput
        The source is not what it was at init, or it holds a time twice.
    """
    settings = repository.settings
    with open_source(settings.source) as dataset:
        check_source(dataset, repository.frame, settings)
        folder = fresh_id(len(repository.records))
        if settings.source.kind == "state":
            times = _time_of_state(repository, now)
            if not times and not _is_unfinished(repository):
                return None
            nothing: list[int | None] = [None] * len(times)
            observed = observe(dataset, repository.state, folder)
            return _plan(repository, times, nothing, None, b"", 0, folder, observed)
        found = instants(dataset, settings)
        newest = {s.instant: s.step for s in repository.state.kept}
        # Others may have captured them again, or given them up, since they were looked at.
        again = {i: s for s in revised if newest.get(i := repository.captured[s].instant) == s}
        order = _fresh(repository, found, until, again, left_out)
        if not order.size:
            return None
        taken = order[: _limit(settings)]
        raw = raw_times(dataset, settings, found, taken).tobytes()
        observed = observe(dataset, repository.state, folder)
    times = [int(found[k]) for k in taken]
    revises = [again.get(t) for t in times]
    left = order.size - taken.size
    positions = tuple(map(int, taken))
    return _plan(repository, times, revises, positions, raw, left, folder, observed)


def _plan(
    repository: Repository,
    times: list[int],
    revises: list[int | None],
    positions: tuple[int, ...] | None,
    raw: bytes,
    remaining: int,
    folder: str,
    observed: Observed,
) -> CapturePlan:
    newest = repository.timeline[-1].instant if repository.timeline else None
    late = sum(
        newest is not None and t < newest and r is None for t, r in zip(times, revises, strict=True)
    )
    return CapturePlan(
        repository.location.url,
        repository.records[-1].sequence,
        folder,
        tuple(times),
        positions,
        raw,
        _bases(repository.timeline, len(repository.captured), times, revises),
        tuple(revises),
        late,
        remaining,
        observed.doubted,
        observed.notes,
        observed.change.to_json(),
    )


def _bases(
    timeline: tuple[CapturedStep, ...],
    first: int,
    times: list[int],
    revises: list[int | None],
) -> tuple[int | None, ...]:
    """Return the state nearest before each new one, old or new; else the nearest after."""
    known = [s.instant for s in timeline]
    bases: list[int | None] = []
    for k, (time, revised) in enumerate(zip(times, revises, strict=True)):
        place = bisect_left(known, time)
        if revised is not None:
            bases.append(revised)
        elif k and (not place or times[k - 1] >= known[place - 1]):
            bases.append(first + k - 1)
        else:
            bases.append(timeline[max(0, place - 1)].step if timeline else None)
    return tuple(bases)


def _limit(settings: Settings) -> int:
    chunks = sum(v.grid.size for v in settings.variables)
    return max(1, min(MAX_STEPS, MAX_ROWS // max(1, chunks)))


def _time_of_state(repository: Repository, now: int | None) -> list[int]:
    """Return the time of a state source's capture; none to finish a run that stopped after it."""
    if now is None:
        raise InvalidInput("a state source needs the time of the capture; give --time")
    last = repository.timeline[-1].instant if repository.timeline else None
    if last is None or now > last:
        return [now]
    if now == last and _is_unfinished(repository):
        return []
    calendar = repository.settings.calendar
    raise InvalidInput(
        f"the time {format_instant(now, calendar)} is not after the last "
        f"capture {format_instant(last, calendar)}"
    )


def _fresh(
    repository: Repository,
    found: NDArray[np.int64],
    until: int | None,
    again: dict[int, int],
    left_out: frozenset[int],
) -> NDArray[np.intp]:
    """Return positions of the times to capture, in order of time."""
    if np.unique(found).size != found.size:
        raise InvalidInput("the source holds a time twice; remove the duplicate")
    order = np.argsort(found, kind="stable")
    if until is not None:
        order = order[found[order] <= until]
    known = np.array([s.instant for s in repository.captured], np.int64)
    fresh = ~np.isin(found[order], known) | np.isin(found[order], list(again))
    return order[fresh & ~np.isin(found[order], list(left_out))]


def _is_unfinished(repository: Repository) -> bool:
    """Tell whether a run stopped after the newest capture, before its shadow."""
    record = repository.forecaster
    known = -1 if record is None else int(record.body["step"])
    newest = repository.timeline[-1].step
    return known < newest and len(repository.timeline) >= MIN_CAPTURES
