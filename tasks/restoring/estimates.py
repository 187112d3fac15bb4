"""Restore points of states that were neither captured nor predicted at their own time."""

from __future__ import annotations

from dataclasses import replace
from threading import Lock

from gnomon.storage.errors import NotFound
from gnomon.storage.pin import Pin
from gnomon.storage.repository import Repository
from gnomon.storage.serve.planes import PROVENANCE
from gnomon.storage.values.times import SECOND, format_instant, period
from gnomon.tasks.learning.expectation import specification_of
from gnomon.tasks.learning.trusted import gather
from gnomon.tasks.restoring.between import Between, between, is_far
from gnomon.tasks.restoring.known import units_of
from gnomon.tasks.restoring.locate import cadence_of
from gnomon.tasks.restoring.restore_point import PointKind, RestorePoint

__all__ = ["estimate_point", "locate_estimate"]

MOMENT = 3600 * SECOND
"""A period no longer than this is meant as the moment at which it begins."""
RECENT = 4
"""Estimates that are kept, with what was learnt for them: a point that is listed is often taken."""
_lock = Lock()
_recent: dict[tuple[Pin, int], tuple[RestorePoint, dict[str, Between]] | None] = {}


def locate_estimate(repository: Repository, text: str, refusal: NotFound) -> tuple[Repository, int]:
    """Return the era and the time to estimate, where a time names no state.

    A period with exactly one slot of the cadence means that slot, a time of day that moment.

    Raises
    ------
    NotFound
        The refusal, where the time means neither, or nothing was learnt to estimate from.
    """
    eras = [repository, *(repository.in_era(k) for k in reversed(range(repository.era)))]
    start, stop = period(text, repository.settings.calendar)
    alike = [
        seen
        for seen in eras
        if seen.settings.calendar == repository.settings.calendar and seen.timeline
    ]
    around = [s for s in alike if s.timeline[0].instant < stop and start <= s.timeline[-1].instant]
    outside = alike[-1:] if alike and start < alike[-1].timeline[0].instant else alike[:1]
    for seen in around or outside:
        cadence = cadence_of(seen)
        names = [v.name for v in seen.settings.variables if v.forecast]
        if cadence is None or not any(specification_of(seen, name) for name in names):
            continue
        # A far period would be gone through slot by slot.
        if (stop - start) // cadence.interval > 2:
            continue
        near = range(cadence.slot(start) - 1, cadence.slot(stop) + 2)
        slots = [t for t in map(cadence.instant, near) if start <= t < stop]
        if len(slots) == 1 or stop - start <= MOMENT:
            instant = slots[0] if len(slots) == 1 else start
            if is_far(seen, instant):
                raise NotFound(f"{refusal}; it is too far from all captures to be estimated")
            return seen, instant
    raise refusal


def _estimators_of(repository: Repository, instant: int) -> dict[str, Between]:
    """Return what estimates each variable at a time; empty where nothing was learnt."""
    found = {}
    for variable in repository.settings.variables:
        if variable.forecast:
            estimator = between(repository, variable.name, instant)
            if estimator is not None:
                found[variable.name] = estimator
    return found


def estimate_point(
    repository: Repository, instant: int
) -> tuple[RestorePoint, dict[str, Between]] | None:
    """Return the restore point of an estimate with its figures, and its estimators; None if none.

    There is none where nothing was learnt, or where all captures are too far.
    """
    key = Pin.of(repository), instant
    with _lock:
        if key in _recent:
            return _recent[key]
    estimate = _estimated(repository, instant)
    with _lock:
        while len(_recent) >= RECENT:
            _recent.pop(next(iter(_recent)))
        _recent[key] = estimate
    return estimate


def _estimated(
    repository: Repository, instant: int
) -> tuple[RestorePoint, dict[str, Between]] | None:
    if len(repository.timeline) < 2 or is_far(repository, instant):
        return None
    estimators = _estimators_of(repository, instant)
    if not estimators:
        return None
    calendar = repository.settings.calendar
    errors: dict[str, float | None] = {}
    sure: dict[str, float | None] = {}
    tolerances = {n: float(e.spec.tolerance) for n, e in estimators.items()}
    with gather() as passed:
        for name, estimator in estimators.items():
            figures = estimator.figures(repository.captures(name), tolerances[name])
            errors[name], sure[name] = figures.expected_error, figures.confidence
    timeline = [s.instant for s in repository.timeline if s.instant != instant]
    sides = [*[t for t in timeline if t < instant][-1:], *[t for t in timeline if t > instant][:1]]
    kind: PointKind = "interpolated"
    if instant > timeline[-1]:
        kind = "forecast" if any(e.skilled for e in estimators.values()) else "climatology"
    elif instant < timeline[0]:
        kind = "climatology"
    if kind != "interpolated":
        for name, estimator in estimators.items():
            source = PROVENANCE[
                "forecast" if kind == "forecast" and estimator.skilled else "climatology"
            ]
            estimators[name] = replace(estimator, source=source)
    stated = [c for c in sure.values() if c is not None]
    cadence = cadence_of(repository)
    lead = 0
    if cadence is not None and kind != "interpolated":
        lead = abs(cadence.slot(instant) - cadence.slot(sides[0]))
    point = RestorePoint(
        kind,
        format_instant(instant, calendar),
        instant,
        None,
        None,
        lead,
        errors,
        min(stated) if stated and len(stated) == len(sure) else None,
        0,
        True,
        repository.era,
        estimated_share=1.0,
        confidences=sure,
        tolerances=tolerances,
        units={n: u for n, u in units_of(repository).items() if n in estimators},
        notes=tuple(f"estimated without what is damaged: {text}" for text in passed),
        sides=tuple(format_instant(t, calendar) for t in sides),
    )
    return point, estimators
