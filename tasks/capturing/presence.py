"""Presence: which steps of a source have any value yet.

Stores are laid out ahead, with all times of a season, and filled step by step.  A step without any
value is not there yet: it is waited for, and taken when it comes.  To find it, only a part of the
source is read each time: the objects of a Zarr store tell what was never written, and of the other
steps the next ones are looked at, and some drawn by lot.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from gnomon.storage.errors import Unreadable
from gnomon.storage.source.files.opening import read_numbers
from gnomon.storage.source.objects import objects_of
from gnomon.storage.source.states import chunk_sizes, read_states
from gnomon.storage.values.grid import ChunkGrid
from gnomon.storage.values.meaning import reading
from gnomon.storage.values.model import RepositorySettings, Variable
from gnomon.tasks.capturing.reading import reading_grid, spans

__all__ = ["choose", "has_values"]

DRAWN = 64
"""Steps that are looked at by lot, where none of those that come next is there."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """Positions of new steps, in order of time."""

    taken: NDArray[np.intp]
    """To be captured; one that was not looked at may have no value either."""
    empty: NDArray[np.intp]
    """Looked at, and without any value."""
    never: NDArray[np.intp]
    """Of which no object of the source was ever written."""
    left: int
    """How many more may have values."""


def choose(
    dataset: xr.Dataset,
    settings: RepositorySettings,
    positions: NDArray[np.intp],
    most: int,
    rng: np.random.Generator,
) -> Chosen:
    """Choose which new steps to capture.

    Parameters
    ----------
    positions
        Of the steps that were never captured, in order of time.
    most
        How many are captured at once.
    """
    unwritten = _is_beyond(dataset, settings, positions)
    ahead, positions = positions[unwritten], positions[~unwritten]
    first, rest = positions[:most], positions[most:]
    if not first.size or has_values(dataset, settings, first[-1:]).all():
        return Chosen(first, first[:0], ahead, int(rest.size))
    written = _may_be_written(settings, positions)
    never = np.append(positions[~written], ahead)
    first, rest = np.split(positions[written], [most])
    there = has_values(dataset, settings, first)
    taken, empty = first[there], first[~there]
    if not taken.size and rest.size:
        drawn = np.sort(rng.choice(rest.size, min(DRAWN, rest.size), replace=False))
        there = has_values(dataset, settings, rest[drawn])
        present, without = drawn[there][:most], drawn[~there]
        taken, empty = rest[present], np.append(empty, rest[without])
        rest = np.delete(rest, np.append(present, without)) if taken.size else rest[:0]
    return Chosen(taken, empty, never, int(rest.size))


def has_values(
    dataset: xr.Dataset, settings: RepositorySettings, positions: NDArray[np.intp]
) -> NDArray[np.bool_]:
    """Tell which steps have a value in any cell of a variable that is forecast, shape (T,).

    The source is read chunk by chunk, and only for the steps without a value so far.
    """

    def is_value(
        variable: Variable, taken: list[int], states: NDArray[np.generic]
    ) -> NDArray[np.bool_]:
        return ~np.isnan(read_numbers(dataset, variable, taken, states))

    return _have(dataset, settings, positions, is_value)


def _have(
    dataset: xr.Dataset,
    settings: RepositorySettings,
    positions: NDArray[np.intp],
    is_it: Callable[[Variable, list[int], NDArray[np.generic]], NDArray[np.bool_]],
) -> NDArray[np.bool_]:
    """Tell which steps have a cell that is looked for, in a variable that is forecast."""
    there = np.zeros(positions.shape, bool)
    order = np.argsort(positions)
    for variable in (v for v in settings.variables if v.forecast):
        steps, along = chunk_sizes(dataset, variable)
        pieces = ChunkGrid(variable.shape, variable.chunks, variable.chunks)
        for block in reading_grid(pieces, along).blocks():
            left = order[~there[order]]
            if not left.size:
                return there
            remaining = [int(k) for k in positions[left]]
            for span in spans(remaining, steps, block, variable.numpy_dtype.itemsize):
                taken = [remaining[k] for k in span]
                try:
                    states = read_states(dataset, variable, taken, block.cells)
                except Unreadable:  # damage is no absence; the capture will tell of it
                    there[left[span]] = True
                    continue
                there[left[span]] = (
                    is_it(variable, taken, states).reshape(len(span), -1).any(axis=1)
                )
    return there


def _is_beyond(
    dataset: xr.Dataset, settings: RepositorySettings, positions: NDArray[np.intp]
) -> NDArray[np.bool_]:
    """Return which new steps lie beyond all that was written, though they read as values.

    The fill value of a Zarr array of version 3 does not mean missing unless the attributes say so:
    what was never written reads as 0, say.  At the end that is no data; between written steps it
    may be, as Zarr does not store chunks that hold nothing but the fill value.
    """
    beyond = np.zeros(positions.shape, bool)
    variables = [v for v in settings.variables if v.forecast]
    listings = [objects_of(settings.source, v) for v in variables]
    there = [objects for objects in listings if objects is not None]
    if not positions.size or len(there) < len(variables):
        return beyond
    fills = {v.name: o.fill.astype(v.numpy_dtype) for v, o in zip(variables, there, strict=True)}
    packings = {v.name: reading(v.numpy_dtype, dataset.variables[v.name].attrs) for v in variables}
    if all(np.isnan(packings[name].to_physical(fill)).all() for name, fill in fills.items()):
        return beyond
    last = int(positions.max())
    if any(o.steps == 1 and o.written({last}) for o in there):
        return beyond
    begin = stop = 0
    for objects in there:
        rows = objects.rows()
        if rows is None:
            return beyond
        newest = max(rows, default=-1)
        begin = max(begin, newest * objects.steps)
        stop = max(stop, (newest + 1) * objects.steps)
    beyond |= positions >= stop
    looked_at = np.flatnonzero((positions >= begin) & ~beyond)
    if looked_at.size:  # an object of several steps may have been written for the first of them

        def is_written(
            variable: Variable, _taken: list[int], states: NDArray[np.generic]
        ) -> NDArray[np.bool_]:
            return np.asarray(states != fills[variable.name])

        written = _have(dataset, settings, positions[looked_at], is_written)
        beyond[looked_at] = positions[looked_at] > positions[looked_at][written].max(initial=-1)
    return beyond


def _may_be_written(settings: RepositorySettings, positions: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Return for which steps something may have been written, as far as the objects tell."""
    written = np.zeros(positions.shape, bool)
    for variable in (v for v in settings.variables if v.forecast):
        objects = objects_of(settings.source, variable)
        rows = None if objects is None else objects.rows()
        if objects is None or rows is None:
            return np.ones(positions.shape, bool)
        written |= np.isin(positions // objects.steps, np.fromiter(rows, np.intp, len(rows)))
    return written
