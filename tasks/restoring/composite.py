"""Composite: each suspect chunk estimated in two ways, healed and interpolated, and combined.

Healing knows the intact neighbours, interpolation the captures before and after.  Both state errors
that trials have calibrated, and each cell is weighed by them.  Of labels the surer one is taken.
"""

from collections.abc import Mapping
from functools import partial

import numpy as np
from numpy.typing import NDArray

from gnomon.storage.errors import Integrity
from gnomon.storage.log.steps import Shadow
from gnomon.storage.repository import Repository
from gnomon.storage.serve.planes import PROVENANCE, EstimatedChunk
from gnomon.storage.values.grid import Index
from gnomon.tasks.healing.combination import combine
from gnomon.tasks.interpolating.plan import Plan
from gnomon.tasks.learning.trusted import pass_over
from gnomon.tasks.restoring.between import Between, between
from gnomon.tasks.restoring.heal import (
    Estimate,
    Figures,
    Healed,
    Odds,
    heal_region,
    missing,
    rms,
    summed_up,
)
from gnomon.tasks.restoring.region import Region, regions
from gnomon.tasks.work import serial

__all__ = ["compose", "composite", "has_both_sides"]

Floats = NDArray[np.float64]


def has_both_sides(repository: Repository, instant: int) -> bool:
    """Tell whether there are captures before and after a time."""
    timeline = repository.timeline
    return bool(timeline) and timeline[0].instant < instant < timeline[-1].instant


def composite(
    repository: Repository,
    step: int,
    shadow: Shadow | None,
    lead: int,
    name: str,
    indices: list[Index],
) -> Healed:
    """Return the estimates of suspect chunks of a variable in a captured step.

    Parameters
    ----------
    shadow, lead
        The forecast of the same time, made before it; None: there is none, and nothing is healed.
    indices
        What to estimate.

    Raises
    ------
    Integrity
        A chunk that is needed is damaged in the repository.
    """
    variable = repository.settings.variable(name)
    estimates = compose(repository, step, shadow, lead, regions(variable, indices))
    return Healed(
        {index: estimate.patch for index, estimate in estimates.items()},
        *summed_up(repository, step, name, {i: e.figures for i, e in estimates.items()}),
    )


def compose(
    repository: Repository,
    step: int,
    shadow: Shadow | None,
    lead: int,
    parts: list[Region],
) -> dict[Index, Estimate]:
    """Return the estimated chunks of regions of one variable; see `composite`.

    They are interpolated, too, where there is no forecast, or an intact capture on both sides.
    """
    healed: dict[Index, Estimate] = {}
    if shadow is None:
        healed = {index: missing(part.variable, index) for part in parts for index in part.damaged}
    else:
        # As the workers of an update do: in which order numbers are added is the same.
        job = partial(heal_region, repository, step=step, shadow=shadow, lead=lead)
        for estimates in serial(job, parts):
            healed |= estimates
    instant = repository.captured[step].instant
    if shadow is not None and None in repository.state.beside(instant):
        return healed
    if not has_both_sides(repository, instant):
        return healed
    name = parts[0].variable.name
    estimator = between(repository, name, instant)
    return healed if estimator is None else _improved(repository, name, healed, estimator)


def _improved(
    repository: Repository, name: str, healed: Mapping[Index, Estimate], estimator: Between
) -> dict[Index, Estimate]:
    """Return the estimates with what the interpolation knows."""
    captures = repository.captures(name)
    improved = dict(healed)
    for index, estimate in healed.items():
        try:
            patch, plan = estimator.planned(captures, index)
        except Integrity as error:
            pass_over(error, repository.location.url, name, index)
            continue
        improved[index] = _joined(estimate, _interpolated(estimator, patch, plan), estimator)
    return improved


def _interpolated(estimator: Between, patch: EstimatedChunk, plan: Plan | None) -> Estimate:
    """Return an interpolated chunk with what the plan of its own gap says of it."""
    if plan is not None:
        odds = Odds(plan.location, plan.spread)
        return Estimate(patch, _figures(patch, odds, estimator.spec.tolerance), odds)
    known = patch.standard_error[np.isfinite(patch.standard_error)]
    if not known.size:
        return Estimate(patch, Figures(np.nan, np.nan, 0))
    chance = float(known.mean() <= estimator.spec.tolerance)
    return Estimate(patch, Figures(rms(known), chance, known.size))


def _figures(patch: EstimatedChunk, odds: Odds, tolerance: float) -> Figures:
    cells = int(np.isfinite(patch.standard_error).sum())
    if not cells:
        return Figures(np.nan, np.nan, 0)
    return Figures(rms(patch.standard_error), odds.within(patch.standard_error, tolerance), cells)


def _joined(healed: Estimate, interpolated: Estimate, estimator: Between) -> Estimate:
    """Return one estimate of a chunk; where one of them counts alone, it is that, unchanged."""
    first, second = healed.patch, interpolated.patch
    if estimator.spec.categorical:
        known = interpolated.figures.cells and (
            not healed.figures.cells or rms(second.standard_error) < rms(first.standard_error)
        )
        return interpolated if known else healed
    values, errors, weight = combine(
        (first.values, first.standard_error), (second.values, second.standard_error)
    )
    there = np.isfinite(values)
    share = float(weight[there].mean()) if there.any() else 0.0
    if share in (0.0, 1.0):
        return interpolated if share else healed
    flags = np.where(weight > 0.5, PROVENANCE["interpolated"], first.provenance)
    flags = np.where(there, flags, PROVENANCE["missing"]).astype(np.uint8)
    patch = EstimatedChunk(values, errors, flags)
    odds = Odds(
        (1.0 - share) * healed.odds.location + share * interpolated.odds.location,
        (1.0 - share) * healed.odds.spread + share * interpolated.odds.spread,
    )
    return Estimate(patch, _figures(patch, odds, estimator.spec.tolerance), odds)
