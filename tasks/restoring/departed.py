"""How a region departed from its forecasts before, and how other variables depart from theirs."""

from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gnomon.storage.log.steps import Shadow
from gnomon.storage.repository import Repository
from gnomon.tasks.forecasting import Specification
from gnomon.tasks.healing.companions import LEAST_KINSHIP, MOST_COMPANIONS, kinship
from gnomon.tasks.healing.past import MOST_DEPARTURES, changes, past_departures
from gnomon.tasks.learning.expectation import specification_of
from gnomon.tasks.restoring.region import Past, Region

__all__ = ["changed_since", "companions", "fields_at", "past_of", "unseen_slots"]

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


def changed_since(
    region: Region, past: Past | None, shadow: Shadow, leads: NDArray[np.int64]
) -> tuple[Floats, Floats, Floats]:
    """Return what was known last of each cell, how much that changes, and past changes.

    Returns
    -------
    tuple
        Values (*dims) of each chunk when it was known last before the forecast was made, the root
        mean square (*dims) of its changes over so many captures, and these (D, *dims), the latest;
        NaN where unknown.
    """
    last, size = np.full(region.shape, np.nan), np.full(region.shape, np.nan)
    if past is None:
        return last, size, np.zeros((0, *region.shape))
    fields = past.field(changes(past.record, leads)).reshape(-1, *region.shape)
    fields = fields[np.isfinite(fields).reshape(len(fields), -1).any(axis=1)][-MOST_DEPARTURES:]
    known = past.field(past.record.values[past.instants <= shadow.reference])
    known = known.reshape(-1, *region.shape)
    for index in region.indices:
        cells = region.cells(index)
        everywhen: tuple[Any, ...] = (slice(None), *cells)
        there = np.isfinite(known[everywhen]).reshape(len(known), -1).any(axis=1)
        if there.any():
            last[cells] = known[np.flatnonzero(there)[-1]][cells]
    seen = np.isfinite(fields)
    count = seen.sum(axis=0)
    power = np.where(seen, fields**2, 0.0).sum(axis=0)
    np.divide(power, count, out=size, where=count > 0)
    return last, np.sqrt(size), fields
