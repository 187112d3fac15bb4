"""Carried: estimates of a dataset that is packed otherwise now, of another type or on another grid.

A rollback keeps raw values of the cells that it wrote.  The owner may encode the dataset anew
since, with another scale or in double precision, turn it round or cut it otherwise.  The estimates
are still there, as the same numbers at the same coordinates, and are no data.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from gnomon.storage.live.replaced import EstimatedChunk, load_cells, load_list
from gnomon.storage.log.history import History
from gnomon.storage.log.location import Location
from gnomon.storage.log.steps import Rollback
from gnomon.storage.repository import Repository
from gnomon.storage.values.grid import Index
from gnomon.storage.values.meaning import IDENTITY, read_alike, reading
from gnomon.storage.values.model import Variable
from gnomon.storage.values.scaling import Packing

__all__ = ["Carried", "carried"]

Places = Mapping[str, NDArray[np.intp]]
"""By dimension: where each cell of now was before; -1: nowhere."""

_OFF = 0.01
"""Share of the spacing of a coordinate by which the same cell may be off, as in other precision."""
_CIRCLE = 360.0
_DIGITS = 4 * float(np.finfo(np.float32).eps)
"""Of a number, what may be of its rounding to single precision."""
_REMEMBERED: dict[tuple[object, ...], Places | None] = {}
"""An update asks for them once per block of a variable."""
_MOST = 64


@dataclass(frozen=True, slots=True)
class Carried:
    """What a rollback wrote as estimates of a variable, and where these cells are now."""

    rollback: Rollback
    location: Location
    before: Variable
    """The variable as it was then."""
    variable: Variable
    """As it is now."""
    packing: Packing
    """How it was packed then."""
    written: Mapping[Index, EstimatedChunk]
    """By chunk of the grid of then."""
    places: Places

    def cells(
        self, index: Index, there: NDArray[np.generic], packing: Packing
    ) -> tuple[NDArray[np.bool_], NDArray[np.generic]]:
        """Return which cells of a chunk were estimated, in its shape, and their values in order.

        They are raw values by the packing of now: what is there where that is the same number.
        """
        mask, numbers = np.zeros(there.shape, bool), np.zeros(there.shape)
        box = dict(zip(self.variable.dims, self.variable.grid.cells(index), strict=True))
        dims, chunks = self.before.dims, self.before.grid.chunks
        origins = [self.places[dim][box[dim]] for dim in dims]
        touched = [np.unique(o[o >= 0] // c).tolist() for o, c in zip(origins, chunks, strict=True)]
        # Of now, in the order of then.
        order = [self.variable.dims.index(dim) for dim in dims]
        into, values = mask.transpose(order), numbers.transpose(order)
        for corner in product(*touched):
            chunk = self.written.get(corner)
            if chunk is None or chunk.cells is None:  # nobody said which cells
                continue
            cells = self.before.grid.cells(corner)
            here = [
                np.flatnonzero((o >= s.start) & (o < s.stop))
                for o, s in zip(origins, cells, strict=True)
            ]
            local = np.ix_(*(o[h] - s.start for o, h, s in zip(origins, here, cells, strict=True)))
            empty = np.zeros(tuple(s.stop - s.start for s in cells), self.before.numpy_dtype)
            was, raw = load_cells(self.location, self.rollback.id, chunk, empty)
            known = np.zeros(empty.shape)
            known[was] = self.packing.to_physical(raw)
            into[np.ix_(*here)], values[np.ix_(*here)] = was[local], known[local]
        now, then = there[mask], numbers[mask]
        # What the packing of now makes of the number, whichever way it was rounded.
        far = max(abs(self.packing.offset), abs(packing.offset))
        off = packing.resolution / 2 + _DIGITS * far
        is_same = np.isclose(packing.to_physical(now), then, rtol=_DIGITS, atol=off)
        return mask, np.where(is_same, now, packing.from_physical(then)).astype(there.dtype)

    def width(self, packing: Packing) -> int:
        """Return how many raw values of now may stand for one of then: two, of what is halfway."""
        return 2 if packing.resolution > self.packing.resolution > 0 else 1


def carried(
    repository: Repository, variable: Variable, packing: Packing, instant: int | None
) -> Iterator[Carried]:
    """Yield what rollbacks wrote of a variable before it was as it is now.

    Where a cell has no place on the grid of now, nothing is known of it.

    Parameters
    ----------
    packing
        How it is packed now.
    instant
        Valid time of the state; None: of any.

    Raises
    ------
    Integrity
        The list of what a rollback wrote is damaged.
    """
    for era in range(repository.era + 1):
        then = repository.in_era(era)
        before = next((v for v in then.settings.variables if v.name == variable.name), None)
        if before is None or {before.numpy_dtype.kind, packing.dtype.kind} - set("biuf"):
            continue
        for rollback in then.state.rollbacks:
            if not rollback.marks or instant not in (None, rollback.instant):
                continue
            was = _packing_of(then.state, before, rollback)
            if era == repository.era and read_alike(was, packing):
                continue  # known by its bits
            written = load_list(repository.location, rollback).estimates.get(variable.name, {})
            places = _remembered(then, before, repository, variable) if written else None
            if places is not None:
                yield Carried(rollback, repository.location, before, variable, was, written, places)


def _packing_of(state: History, variable: Variable, rollback: Rollback) -> Packing:
    """Return how a variable was packed when a rollback wrote it."""
    made = [s.description for s in state.captured if s.sequence < rollback.sequence]
    told = state.description(max(made, default=0))
    line = told.conversions.get(variable.name, IDENTITY)
    return reading(variable.numpy_dtype, told.variables[variable.name], line)


def _remembered(
    then: Repository, before: Variable, repository: Repository, variable: Variable
) -> Places | None:
    key = (repository.location.url, repository.genesis, then.era, repository.era, variable.name)
    if key not in _REMEMBERED:
        while len(_REMEMBERED) >= _MOST:
            del _REMEMBERED[next(iter(_REMEMBERED))]
        _REMEMBERED[key] = _places(then.frame, before, repository.frame, variable)
    return _REMEMBERED[key]


def _places(
    before: xr.Dataset, was: Variable, now: xr.Dataset, variable: Variable
) -> Places | None:
    """Return where each cell of now was before; None: nobody knows."""
    if set(was.dims) != set(variable.dims):
        return None
    places = {}
    for dim, size in zip(variable.dims, variable.shape, strict=True):
        if all(dim in frame and frame[dim].dims == (dim,) for frame in (before, now)):
            places[dim] = _along(now[dim], before[dim])
        elif size == was.shape[was.dims.index(dim)]:
            places[dim] = np.arange(size)
        else:
            return None
    return places


def _along(now: xr.DataArray, before: xr.DataArray) -> NDArray[np.intp]:
    """Return at which cells of an earlier coordinate those of now were, -1: at none."""
    given, there = now.values, before.values
    if {given.dtype.kind, there.dtype.kind} - set("iuf"):
        by_value = {value: k for k, value in enumerate(there.tolist())}
        return np.array([by_value.get(value, -1) for value in given.tolist()], np.intp)
    given, there = given.astype(np.float64), there.astype(np.float64)
    gaps = np.abs(np.diff(there))
    off = _OFF * float(gaps.min()) if gaps.size else _OFF
    by_name = str(before.attrs.get("units", "")).startswith("degree") and "lon" in str(before.name)
    turns = [0.0]
    if by_name or before.attrs.get("standard_name") == "longitude":
        given, there, turns = given % _CIRCLE, there % _CIRCLE, [0.0, -_CIRCLE, _CIRCLE]
    order = np.argsort(there)
    places = np.full(given.shape, -1, np.intp)
    for turn in turns:
        right = np.searchsorted(there[order], given + turn)
        for side in (right - 1, right):
            nearest = order[np.clip(side, 0, order.size - 1)]
            places = np.where(np.abs(there[nearest] - given - turn) <= off, nearest, places)
    return places
