"""First guesses of a region, how it departed from them before, and how other variables do."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gnomon.storage.log.steps import Shadow
from gnomon.storage.repository import Repository
from gnomon.storage.values.times import SECOND
from gnomon.tasks.forecasting import Specification
from gnomon.tasks.healing.companions import LEAST_KINSHIP, MOST_COMPANIONS, kinship
from gnomon.tasks.healing.past import (
    MOST_DEPARTURES,
    changes,
    past_anomalies,
    past_departures,
)
from gnomon.tasks.interpolating.process import mean_square
from gnomon.tasks.learning.expectation import specification_of
from gnomon.tasks.restoring.region import Past, Region

__all__ = [
    "Guess",
    "companions",
    "fields_at",
    "last_capture",
    "past_of",
    "unseen_slots",
    "usual",
]

Floats = NDArray[np.float64]


def unseen_slots(region: Region, past: Past | None, shadow: Shadow) -> NDArray[np.int64]:
    """Return (G,) for how many slots damaged chunks were unknown when the forecast was made."""
    unseen = np.zeros(len(region.indices), np.int64)
    if past is not None:
        unseen[region.places] = past.unseen(shadow.reference)[region.places]
    return unseen


def companions(
    repository: Repository,
    region: Region,
    past: Past | None,
    step: int,
    forecast: tuple[Shadow, int],
    apart: Collection[str],
) -> list[tuple[Floats, Floats, NDArray[np.int64]]]:
    """Return departures (*dims) of other variables that go with it, past ones and their times.

    They are those on the same grid whose changes go together with its own.
    """
    shadow, lead = forecast
    if past is None:
        return []
    one = np.ones(len(region.indices), np.int64)
    own = past.field(changes(past.record, one))
    akin = []
    for other in repository.settings.variables:
        if other.name not in {*shadow.variables} - {region.variable.name, *apart}:
            continue
        alike = (other.dims, other.shape, other.chunks, other.cyclic)
        mine = region.variable
        if other.categorical or alike != (mine.dims, mine.shape, mine.chunks, mine.cyclic):
            continue
        there = Region(other, region.damaged)
        stack = repository.shadow(other.name, shadow)
        before = there.past(repository, stack.captures, step)
        if before is None or not np.array_equal(before.instants, past.instants):
            continue
        kin = kinship(own, before.field(changes(before.record, one)))
        if kin >= LEAST_KINSHIP:
            akin.append((kin, there, stack, before))
    told = []
    for _, there, stack, before in sorted(akin, key=lambda a: -a[0])[:MOST_COMPANIONS]:
        specification = specification_of(repository, there.variable.name)
        leads = lead + unseen_slots(there, before, shadow)
        now = there.captured(stack.captures, step) - there.predicted(stack, lead)[0]
        told.append((now, *past_of(there, before, specification, leads)))
    return told


def fields_at(fields: Floats, of: NDArray[np.int64], instants: NDArray[np.int64]) -> Floats:
    """Return fields (D, *dims) of some times at other times; NaN where there is none."""
    rows = np.full((len(instants), *fields.shape[1:]), np.nan)
    _, here, there = np.intersect1d(instants, of, return_indices=True)
    rows[here] = fields[there]
    return rows


def past_of(
    region: Region,
    past: Past | None,
    specification: Specification | None,
    leads: NDArray[np.int64],
) -> tuple[Floats, NDArray[np.int64]]:
    """Return past departures (D, *dims), of each chunk as they would have been at its lead, and
    their times."""
    if past is None:
        return np.zeros((0, *region.shape)), np.zeros(0, np.int64)
    if specification is None:
        departures = changes(past.record, leads)
    else:
        departures = past_departures(specification, past.record, leads)
    has_departure = np.isfinite(departures).any(axis=1)
    fields = past.field(departures[has_departure]).reshape(-1, *region.shape)
    return fields, past.instants[has_departure]


@dataclass(frozen=True, slots=True)
class Guess:
    """A first guess of a region, from which what is captured departs."""

    values: Floats
    """(*dims) variable's units; NaN where unknown."""
    standard_error: Floats
    """(*dims) root mean square of its past departures, or that of the forecast."""
    past: Floats
    """(D, *dims) past departures from it, the latest last; NaN where unknown."""


def last_capture(
    region: Region, past: Past | None, shadow: Shadow, leads: NDArray[np.int64]
) -> Guess:
    """Return what was captured last of each chunk before the forecast was made, as a guess."""
    values = np.full(region.shape, np.nan)
    if past is None:
        return _unknown(region)
    known = past.field(past.record.values[past.instants <= shadow.reference])
    known = known.reshape(-1, *region.shape)
    for index in region.indices:
        cells = region.cells(index)
        everywhen: tuple[Any, ...] = (slice(None), *cells)
        there = _has_any(known[everywhen])
        if there.any():
            values[cells] = known[np.flatnonzero(there)[-1]][cells]
    return _guess(region, past, values, changes(past.record, leads))


def usual(
    region: Region,
    past: Past | None,
    specification: Specification | None,
    leads: NDArray[np.int64],
    valid: int,
) -> Guess:
    """Return the climatology at an instant as a guess, of chunks that were known just before.

    Anomalies fade slowly.  A past one lies between two that look like it, so that a hole in it is
    filled better than one of today would be whose chunk has not been seen for a while.
    """
    near = region.chunkwise(leads == 1)
    if past is None or specification is None or not near[region.hole].any():
        return _unknown(region)
    anomalies, now = past_anomalies(specification, past.record, valid / SECOND)
    values = past.field(now[np.newaxis]).reshape(region.shape)
    guess = _guess(region, past, values, anomalies)
    return replace(guess, standard_error=np.where(near, guess.standard_error, np.nan))


def _unknown(region: Region) -> Guess:
    nothing = np.full(region.shape, np.nan)
    return Guess(nothing, nothing, np.zeros((0, *region.shape)))


def _guess(region: Region, past: Past, values: Floats, departures: Floats) -> Guess:
    """Return a guess whose error is that of the latest of its past departures (T, N)."""
    fields = past.field(departures).reshape(-1, *region.shape)
    fields = fields[_has_any(fields)][-MOST_DEPARTURES:]
    return Guess(values, np.sqrt(mean_square(fields, axis=0)), fields)


def _has_any(fields: Floats) -> NDArray[np.bool_]:
    """Return whether each of some fields (D, *dims) has a value; D may be 0."""
    return np.asarray(np.isfinite(fields).any(axis=tuple(range(1, fields.ndim))))
