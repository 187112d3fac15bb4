"""Restore points as the log has them: captures and predictions; nothing else is read or loaded.

So a list of thousands takes no longer than it takes to open the repository.
"""

from collections.abc import Sequence
from math import isfinite, sqrt

from gnomon.storage.log.steps import Shadow
from gnomon.storage.repository import Repository
from gnomon.storage.values.times import format_instant
from gnomon.tasks.restoring.restore_point import PointKind, RestorePoint

__all__ = ["at_lead", "captured_point", "every_point", "forecast_point", "units_of"]


def every_point(repository: Repository) -> tuple[RestorePoint, ...]:
    """Return one restore point per time, newest first: captures, and the newest shadow's leads.

    What a capture with suspect chunks is worth when it is healed is not known. Of earlier eras
    there are the captures.
    """
    there: list[RestorePoint] = []
    timeline = repository.timeline
    if repository.shadows and timeline:
        shadow = repository.shadows[-1]
        ahead = [k for k, t in enumerate(shadow.instants, 1) if t > timeline[-1].instant]
        there += [forecast_point(repository, shadow, lead) for lead in reversed(ahead)]
    for era in reversed(range(repository.era + 1)):
        seen = repository if era == repository.era else repository.in_era(era)
        units = units_of(seen)
        for step in reversed(seen.timeline):
            kind: PointKind = "suspect" if step.suspects else "captured"
            there.append(captured_point(seen, kind, step.instant, step=step.step, units=units))
    return tuple(there)


def captured_point(
    repository: Repository,
    kind: PointKind,
    instant: int,
    *,
    step: int,
    like: RestorePoint | None = None,
    units: dict[str, str] | None = None,
) -> RestorePoint:
    """Return the point of a captured state; healed, `like` the forecast that it is healed with."""
    there = [v for v in repository.settings.variables if step >= v.since]
    names = [v.name for v in there if v.forecast]
    captured = repository.captured[step]
    sure = 1.0 if kind == "captured" else None
    return RestorePoint(
        kind,
        format_instant(instant, repository.settings.calendar),
        instant,
        step,
        None if like is None else like.shadow,
        0 if like is None else like.lead,
        dict.fromkeys(names, 0.0 if kind == "captured" else None),
        sure,
        captured.suspects,
        kind == "healed",
        repository.era,
        captured.tags,
        reference_time=None if like is None else like.reference_time,
        confidences=dict.fromkeys(names, sure),
        tolerances={} if like is None else like.tolerances,
        units=units_of(repository) if units is None else units,
    )


def units_of(repository: Repository) -> dict[str, str]:
    """Return the units of each variable's expected error."""
    variables = [v for v in repository.settings.variables if v.forecast]
    return {v.name: "1" if v.categorical else str(v.attributes.get("units", "")) for v in variables}


def forecast_point(repository: Repository, shadow: Shadow, lead: int) -> RestorePoint:
    """Return the point of a predicted state."""
    calendar = repository.settings.calendar
    sure = {name: at_lead(entry.confidence, lead) for name, entry in shadow.variables.items()}
    # Of a variable without a prediction nothing can be within tolerance, or beyond.
    stated = {name: c for name, c in sure.items() if c is not None}
    return RestorePoint(
        "forecast",
        format_instant(shadow.instants[lead - 1], calendar),
        shadow.instants[lead - 1],
        None,
        shadow.id,
        lead,
        {n: at_lead(entry.expected_rmse, lead) for n, entry in shadow.variables.items()},
        min(stated.values(), default=None),
        0,
        True,
        repository.era,
        estimated_share=1.0,
        reference_time=format_instant(shadow.reference, calendar),
        confidences=sure,
        tolerances={n: float(e.tolerance) for n, e in shadow.variables.items()},
        units={n: u for n, u in units_of(repository).items() if n in shadow.variables},
    )


def at_lead(by_lead: Sequence[float | None], lead: int) -> float | None:
    """Return a figure of a shadow's variable at a lead; None where none is known.

    Beyond the last lead the error of a random walk goes on: it grows with the root of the lead.
    """
    values = by_lead or (None,)
    value = values[min(lead, len(values)) - 1]
    if value is None or not isfinite(value):
        return None
    return float(value) * sqrt(max(1.0, lead / len(values)))
