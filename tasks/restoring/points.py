"""Restore points: every way to answer "give me the dataset at time T", best first.

Captured exactly, healed, captured but suspect, forecast, another version, the last capture before.
Each comes with the error to expect and the confidence to be within tolerance.
"""

import logging
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from gnomon.storage.errors import Integrity
from gnomon.storage.log.bodies.shadow import PredictedEntry
from gnomon.storage.log.steps import Shadow
from gnomon.storage.repository import Repository
from gnomon.storage.serve.planes import EstimatedChunk
from gnomon.storage.values.grid import Index
from gnomon.storage.values.model import SUSPECT
from gnomon.storage.values.times import format_instant
from gnomon.tasks.learning.cadence import Cadence
from gnomon.tasks.learning.expectation import unreadable
from gnomon.tasks.learning.trusted import gather
from gnomon.tasks.restoring.composite import better, has_both_sides
from gnomon.tasks.restoring.estimates import estimate_point
from gnomon.tasks.restoring.heal import heal
from gnomon.tasks.restoring.known import at_lead, captured_point, forecast_point, units_of
from gnomon.tasks.restoring.locate import Match, cadence_of, find_instant, locate
from gnomon.tasks.restoring.restore_point import PointKind, RestorePoint, best_first
from gnomon.tasks.restoring.standing import stand, suggest

__all__ = [
    "Match",
    "PointKind",
    "RestorePoint",
    "candidates",
    "complete",
    "find_instant",
    "heal_point",
    "locate",
    "points",
    "suspects",
]

logger = logging.getLogger(__name__)

_AS_CAPTURED = ("captured", "suspect", "revision")
"""Kinds that rest on nothing that was learnt."""

DOUBTED = "the time of this capture is not believed; 'gnomon anomalies' says why"
"""Note of a point of a time that is far from all others."""

Patches = dict[tuple[str, Index], EstimatedChunk]


def suspects(repository: Repository, step: int) -> dict[str, list[Index]]:
    """Return the suspect chunks of a captured step by variable; empty if it is trusted."""
    doubted: dict[str, list[Index]] = {}
    for variable in repository.settings.variables:
        status = repository.captures(variable.name).status(step)
        chunks = [tuple(map(int, index)) for index in np.argwhere(status == SUSPECT)]
        if chunks:
            doubted[variable.name] = chunks
    return doubted


def points(
    repository: Repository, instant: int, *, verify: bool = False
) -> tuple[RestorePoint, ...]:
    """Return every restore point for a valid time, best first, with all figures.

    Parameters
    ----------
    verify
        Read all that they rest on, to tell whether it is sound.
    """
    told = best_first([_told(repository, point) for point in candidates(repository, instant)])
    return suggest([stand(repository, point, verify=verify) for point in told])


def candidates(repository: Repository, instant: int) -> tuple[RestorePoint, ...]:
    """Return the same without healing, and so without error and confidence of a healed state."""
    versions = repository.state.versions(instant)
    cadence = cadence_of(repository)
    there: list[RestorePoint] = []
    forecast = _forecast(repository, instant, cadence)
    if forecast is not None and not versions and forecast.instant != instant:
        forecast = None  # it is of the slot beside the time
    if versions:
        step, count = versions[0].step, versions[0].suspects
        if count and (forecast is not None or _is_between(repository, instant)):
            there.append(captured_point(repository, "healed", instant, step=step, like=forecast))
        there.append(
            captured_point(repository, "suspect" if count else "captured", instant, step=step)
        )
    if forecast is not None:
        there.append(forecast)
    is_ahead = bool(repository.timeline) and instant > repository.timeline[-1].instant
    if not versions and not (is_ahead and forecast is not None):
        estimate = estimate_point(repository, instant)
        there += [estimate[0]] if estimate is not None else []
    there += [captured_point(repository, "revision", instant, step=v.step) for v in versions[1:]]
    before = repository.state.before(instant, 1)
    if before:
        there.append(_last_capture(repository, instant, before[0], cadence))
    if instant in repository.state.doubted:
        there = [replace(p, notes=(*p.notes, DOUBTED)) for p in there]
    notes = unreadable(repository)
    rested = (p if p.kind in _AS_CAPTURED else replace(p, notes=(*p.notes, *notes)) for p in there)
    return best_first(list(rested))


def _is_between(repository: Repository, instant: int) -> bool:
    """Tell whether a time has captures on both sides, and something was learnt of them."""
    return has_both_sides(repository, instant) and bool(cadence_of(repository))


def complete(repository: Repository, point: RestorePoint) -> RestorePoint:
    """Return a restore point with the error and the confidence that healing finds."""
    return heal_point(repository, point)[1] if point.kind == "healed" else point


def heal_point(repository: Repository, point: RestorePoint) -> tuple[Patches, RestorePoint]:
    """Estimate the suspect chunks of a healed point; return them, and the point with its figures.

    Raises
    ------
    Integrity
        A chunk that is needed is damaged in the repository.
    """
    assert point.step is not None
    shadow = next((s for s in repository.shadows if s.id == point.shadow), None)
    patches: Patches = {}
    errors: dict[str, float | None] = dict.fromkeys(point.expected_error, 0.0)
    sure: dict[str, float | None] = dict.fromkeys(point.expected_error, 1.0)
    shares: dict[str, float] = dict.fromkeys(point.expected_error, 0.0)
    estimated = there = 0
    with gather() as passed:
        for name, chunks in suspects(repository, point.step).items():
            at_hand = shadow and heal(repository, point.step, shadow, point.lead, name, chunks)
            healed = better(repository, point.instant, name, chunks, at_hand or None)
            patches |= {(name, index): patch for index, patch in healed.patches.items()}
            if name in errors:
                errors[name], sure[name] = healed.expected_error, healed.confidence
                size = repository.settings.variable(name).grid.size
                shares[name] = len(chunks) / max(1, size)
                estimated, there = estimated + len(chunks), there + size
    lacking = (f"estimated without what is damaged: {text}" for text in passed)
    healed_point = replace(
        point,
        expected_error=errors,
        confidence=_least(sure),
        confidences=sure,
        estimated_share=estimated / max(1, there),
        estimated_shares=shares,
        notes=(*point.notes, *lacking),
    )
    return patches, healed_point


def _told(repository: Repository, point: RestorePoint) -> RestorePoint:
    """Return a point with its figures, or without them if the repository is too damaged to heal."""
    try:
        return complete(repository, point)
    except Integrity as error:
        logger.warning("%s; what healing would give is not known", error)
        return replace(
            point, notes=(*point.notes, f"what healing would give is not known: {error}")
        )


def _least(sure: dict[str, float | None]) -> float | None:
    """Return the least confidence of the variables; None if that of one is not known."""
    confidences = [c for c in sure.values() if c is not None]
    return min(confidences) if confidences and len(confidences) == len(sure) else None


def _forecast(repository: Repository, instant: int, cadence: Cadence | None) -> RestorePoint | None:
    """Return the forecast with the shortest lead that knew nothing of the time itself.

    Captures come a little off the grid on which they are predicted: the forecast of a captured
    time is that of its slot, and says of which time it is.
    """
    shadow, lead = _shadow_for(repository, instant, cadence)
    return None if shadow is None else forecast_point(repository, shadow, lead)


def _shadow_for(
    repository: Repository, instant: int, cadence: Cadence | None
) -> tuple[Shadow | None, int]:
    low, high, slot = instant - 1, instant + 1, None
    if cadence is not None:
        slot = cadence.slot(instant)
        # Whatever is in a slot is between its neighbours, which is quicker told than the slot.
        low = min(low, cadence.instant(slot - 1))
        high = max(high, cadence.instant(slot + 1))
    for shadow in reversed(repository.shadows):
        if shadow.reference >= instant:
            continue
        for lead, predicted in enumerate(shadow.instants, start=1):
            if not low < predicted < high:
                continue
            if predicted == instant or (cadence and cadence.slot(predicted) == slot):
                return shadow, lead
    return None, 0


def _last_capture(
    repository: Repository, instant: int, step: int, cadence: Cadence | None
) -> RestorePoint:
    """Return the last capture before a time: what a system without forecasts would restore."""
    captured = repository.captured[step]
    lead = 0 if cadence is None else cadence.slot(instant) - cadence.slot(captured.instant)
    there = [v for v in repository.settings.variables if step >= v.since]
    names = [v.name for v in there if v.forecast]
    entries = _measured(repository, step)
    return RestorePoint(
        "last_capture",
        format_instant(captured.instant, repository.settings.calendar),
        captured.instant,
        step,
        None,
        lead,
        # What a suspect chunk is off by, no past change tells.
        {
            n: None
            if captured.suspects
            else at_lead(entries[n].last_capture_rmse if n in entries else (), max(1, lead))
            for n in names
        },
        None,
        captured.suspects,
        False,
        repository.era,
        captured.tags,
        confidences=dict.fromkeys(names),
        tolerances={n: float(e.tolerance) for n, e in entries.items()},
        units=units_of(repository),
    )


def _measured(repository: Repository, step: int) -> Mapping[str, PredictedEntry]:
    """Return what a shadow says of the variables: the one made from a capture, or the newest."""
    shadows = reversed(repository.shadows)
    shadow = next((s for s in shadows if s.step == step), None)
    newest = shadow or (repository.shadows[-1] if repository.shadows else None)
    return {} if newest is None else newest.variables
