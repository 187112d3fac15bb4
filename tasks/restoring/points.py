"""Restore points: every way to answer "give me the dataset at time T", best first.

Captured exactly, healed, captured but suspect, forecast, estimated from the captures around it,
another version, the last capture before.  Each comes with the error to expect and the confidence to
be within tolerance.
"""

import logging
from collections.abc import Mapping
from dataclasses import replace

from gnomon.storage.errors import Integrity
from gnomon.storage.log.bodies.shadow import PredictedEntry
from gnomon.storage.log.steps import CapturedStep, Shadow
from gnomon.storage.repository import Repository
from gnomon.storage.serve.planes import EstimatedChunk
from gnomon.storage.values.grid import Index
from gnomon.storage.values.selection import EVERYTHING, Selection
from gnomon.storage.values.times import format_instant
from gnomon.tasks.learning.cadence import Cadence
from gnomon.tasks.learning.recorded import unreadable
from gnomon.tasks.learning.trusted import gather
from gnomon.tasks.restoring.composite import composite, has_both_sides
from gnomon.tasks.restoring.estimates import estimate_point
from gnomon.tasks.restoring.kept import kept_estimates
from gnomon.tasks.restoring.known import at_lead, captured_point, forecast_point, units_of
from gnomon.tasks.restoring.locate import cadence_of
from gnomon.tasks.restoring.restore_point import RestorePoint, best_first
from gnomon.tasks.restoring.standing import stand, suggest
from gnomon.tasks.restoring.suspected import suspects

__all__ = [
    "Patches",
    "candidates",
    "complete",
    "heal_point",
    "intact_point",
    "points",
]

logger = logging.getLogger(__name__)

_AS_CAPTURED = ("captured", "suspect", "revision")
"""Kinds that rest on nothing that was learnt."""

DOUBTED = "the time of this capture is not believed; 'gnomon anomalies' says why"
"""Note of a point of a time that is far from all others."""

Patches = dict[tuple[str, Index], EstimatedChunk]


def points(
    repository: Repository, instant: int, *, verify: bool = False
) -> tuple[RestorePoint, ...]:
    """Return every restore point for a valid time, best first, with all figures.

    Parameters
    ----------
    verify
        Read all that they rest on, to tell whether it is sound.
    """
    if verify:
        repository.forget_read()
    told = best_first([_told(repository, point) for point in candidates(repository, instant)])
    return suggest([stand(repository, point, verify=verify) for point in told])


def candidates(
    repository: Repository, instant: int, selection: Selection = EVERYTHING
) -> tuple[RestorePoint, ...]:
    """Return the same without healing, and so without error and confidence of a healed state.

    Where only a part is wanted, the points are those of that part: a state whose suspect chunks all
    lie elsewhere is captured.
    """
    versions = repository.state.versions(instant)
    cadence = cadence_of(repository)
    there: list[RestorePoint] = []
    forecast = _forecast(repository, instant, cadence)
    if forecast is not None and not versions and forecast.instant != instant:
        forecast = None  # it is of the slot beside the time
    if versions:
        step = versions[0].step
        count = _count(repository, versions[0], selection)
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
    return best_first([_narrowed(repository, point, selection) for point in rested])


def intact_point(
    repository: Repository, captured: CapturedStep, selection: Selection = EVERYTHING
) -> RestorePoint | None:
    """Return a captured state as a restore point; None if it is suspect where it is wanted."""
    if _count(repository, captured, selection):
        return None
    point = captured_point(repository, "captured", captured.instant, step=captured.step)
    return _narrowed(repository, point, selection)


def _count(repository: Repository, captured: CapturedStep, selection: Selection) -> int:
    """Return how many of the suspect chunks of a capture are selected."""
    if not captured.suspects or selection is EVERYTHING:
        return captured.suspects
    return sum(map(len, suspects(repository, captured.step, selection).values()))


def _narrowed(repository: Repository, point: RestorePoint, selection: Selection) -> RestorePoint:
    """Return what is said of a point for what is selected of it."""
    if selection is EVERYTHING:
        return point
    narrowed = point.of_variables(selection.gives)
    if point.step is None:
        return narrowed
    count = _count(repository, repository.captured[point.step], selection)
    return replace(narrowed, suspect_chunks=count)


def _is_between(repository: Repository, instant: int) -> bool:
    """Tell whether a time has captures on both sides, and something was learnt of them."""
    return has_both_sides(repository, instant) and bool(cadence_of(repository))


def complete(
    repository: Repository, point: RestorePoint, selection: Selection = EVERYTHING
) -> RestorePoint:
    """Return a restore point with the error and the confidence that healing finds."""
    return heal_point(repository, point, selection)[1] if point.kind == "healed" else point


def heal_point(
    repository: Repository, point: RestorePoint, selection: Selection = EVERYTHING
) -> tuple[Patches, RestorePoint]:
    """Return the estimates of a healed point's suspect chunks, and the point with its figures.

    They are those that an update has kept; what is not kept, or damaged, is estimated now.

    Parameters
    ----------
    selection
        Only suspect chunks with a selected cell are estimated.

    Raises
    ------
    Integrity
        A chunk that is needed is damaged in the repository.
    """
    assert point.step is not None
    shadow = repository.shadow_named(point.shadow)
    patches: Patches = {}
    errors: dict[str, float | None] = dict.fromkeys(point.expected_error, 0.0)
    sure: dict[str, float | None] = dict.fromkeys(point.expected_error, 1.0)
    shares: dict[str, float] = dict.fromkeys(point.expected_error, 0.0)
    estimated = there = 0
    doubted = suspects(repository, point.step, selection)
    kept, notes = kept_estimates(repository, point.step, point.shadow, point.lead, doubted)
    with gather() as passed:
        for name, chunks in doubted.items():
            healed = kept.get(name)
            if healed is None:
                healed = composite(repository, point.step, shadow, point.lead, name, chunks)
            patches |= {(name, index): patch for index, patch in healed.patches.items()}
            if name in errors:
                errors[name], sure[name] = healed.expected_error, healed.confidence
                size = len(selection.touched(repository.settings.variable(name)))
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
        notes=(*point.notes, *notes, *lacking),
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
