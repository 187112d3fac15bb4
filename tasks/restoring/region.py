"""Surroundings of damaged chunks as plain arrays: captured, predicted, and their past."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import label

from gnomon.storage.repository import Repository
from gnomon.storage.stacks.captures import CaptureStack
from gnomon.storage.stacks.shadows import ShadowStack
from gnomon.storage.values.grid import Index
from gnomon.storage.values.model import Variable
from gnomon.storage.values.times import SECOND
from gnomon.tasks.healing.inpainting import MOST_CELLS
from gnomon.tasks.healing.past import PastCaptures
from gnomon.tasks.healing.regions import Grid, surround
from gnomon.tasks.learning.cadence import distinct_slots
from gnomon.tasks.learning.recorded import cadence_of
from gnomon.tasks.learning.trusted import readable_values, trusted_values

__all__ = ["Past", "Region", "regions"]

ROOM = 30_000
"""Cells that are looked at around a hole, or four times as many as it has: what lies farther off
says little of it, and each costs a hindcast. With 250,000 healing took five times as long."""
HISTORY_BYTES = 2**26
"""Memory of the past captures of a region; of their departures there are a few copies."""
HISTORY_STEPS = 72
"""Past captures that departures are found from, at most."""

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Where = tuple[NDArray[Any], ...]
"""Indices along each axis, as `numpy.ix_` makes them."""


@dataclass(frozen=True, slots=True)
class Past:
    """The captures of a region before the one that is healed, one per slot."""

    record: PastCaptures
    """Of the cells in the order of the region's chunks."""
    instants: NDArray[np.int64]
    """(T,) of its captures."""
    order: NDArray[np.intp]
    """(N,) number in the region of each of the record's cells."""

    def unseen(self, reference: int) -> NDArray[np.int64]:
        """Return how long chunks were unknown up to a forecast's reference time: slots, int64 (G,).

        A chunk that is damaged in one capture after another is forecast from the last good one.
        For one that was never known it is the length of the record.
        """
        record = self.record
        before = self.instants <= reference
        has_value = np.logical_or.reduceat(np.isfinite(record.values), record.starts[:-1], axis=1)
        none = record.slots[0] - len(record.slots)
        last = np.where(has_value & before[:, None], record.slots[:, None], none).max(axis=0)
        newest = record.slots[before].max(initial=record.slots[0])
        return np.asarray(np.minimum(newest - last, len(record.slots)), np.int64)

    def field(self, values: Floats) -> Floats:
        """Return values (D, N) of the record's cells in the order of the region's cells."""
        result = np.empty_like(values)
        result[:, self.order] = values
        return result


def regions(variable: Variable, indices: list[Index], mask: Mask | None = None) -> list["Region"]:
    """Return the regions to heal chunks in: one of a small field, in a large one of neighbours.

    Parameters
    ----------
    mask
        (*dims) cells that are damaged; None: all cells of the chunks.
    """
    size = prod(variable.shape)
    if size <= ROOM:
        return [Region(variable, indices, mask)]
    damaged = np.zeros(variable.grid.counts, bool)
    damaged[tuple(np.array(indices).T)] = True
    number, count = label(damaged, structure=np.ones((3,) * damaged.ndim))
    if count * ROOM > size and size <= MOST_CELLS:
        return [Region(variable, indices, mask)]  # one look at all of it is less than many at parts
    result = []
    for group in ([i for i in indices if number[i] == n + 1] for n in range(count)):
        near = prod(s.stop - s.start for s in _box(variable, group)) <= MOST_CELLS
        parts = [group] if near else [[i] for i in group]
        result += [Region(variable, part, mask) for part in parts]
    return result


def _box(variable: Variable, indices: list[Index]) -> tuple[slice, ...]:
    """Return the box of cells that holds some chunks."""
    axes = zip(*(variable.grid.cells(index) for index in indices), strict=True)
    return tuple(slice(min(s.start for s in ax), max(s.stop for s in ax)) for ax in axes)


def _axes(variable: Variable, damaged: list[Index]) -> tuple[NDArray[np.intp], ...]:
    """Return the cells along each axis of a box around chunks; it may cross a seam."""
    box = _box(variable, damaged)
    room = min(MOST_CELLS, max(ROOM, 4 * prod(s.stop - s.start for s in box)))
    whole = tuple(np.arange(size) for size in variable.shape)
    if prod(variable.shape) <= room:
        return whole
    # Along the diagonal is every index of each axis: the shortest run on a circle is told by all.
    longest = np.arange(max(s.stop - s.start for s in box))
    diagonal = tuple(np.minimum(s.start + longest, s.stop - 1) for s in box)
    grid = Grid(variable.shape, variable.cyclic)
    axes, _ = surround(np.ravel_multi_index(diagonal, grid.shape), grid, room)
    # A whole circle is not turned.
    return tuple(w if len(a) == len(w) else a for a, w in zip(axes, whole, strict=True))


class Region:
    """A box of cells around damaged chunks.

    Parameters
    ----------
    variable
        The variable.
    damaged
        Chunks in it of which something is to be estimated.
    mask
        (*dims) cells of the whole field that are damaged, all of them in these chunks or in others
        that are estimated by themselves; None: all cells of the chunks.
    """

    def __init__(self, variable: Variable, damaged: list[Index], mask: Mask | None = None) -> None:
        self.variable, self.damaged = variable, damaged
        self._axes = _axes(variable, damaged)
        self._mask = None if mask is None else np.asarray(mask[np.ix_(*self._axes)])
        self.shape = tuple(map(len, self._axes))
        self.cyclic = tuple(
            wraps and size == whole
            for wraps, size, whole in zip(variable.cyclic, self.shape, variable.shape, strict=True)
        )
        sizes = variable.grid.chunks
        # Found once: it is asked for each chunk of each capture.
        near = [
            {int(i): np.flatnonzero(a // n == i) for i in dict.fromkeys((a // n).tolist())}
            for a, n in zip(self._axes, sizes, strict=True)
        ]
        self._along = near
        self.indices: list[Index] = list(product(*near))
        """The G chunks that have a part in it."""
        number = {index: place for place, index in enumerate(self.indices)}
        self.places = [number[index] for index in damaged]
        """Those of the damaged ones among them."""

    def cells(self, index: Index) -> Where:
        """Return the cells of the region that a chunk covers."""
        return np.ix_(*self._places_of(index))

    def _part(self, index: Index) -> Where:
        """Return the cells of a chunk that lie in the region."""
        shared = zip(
            self._axes, self._places_of(index), self.variable.grid.cells(index), strict=True
        )
        return np.ix_(*(axis[places] - chunk.start for axis, places, chunk in shared))

    def _places_of(self, index: Index) -> list[NDArray[np.intp]]:
        return [along[i] for along, i in zip(self._along, index, strict=True)]

    @property
    def hole(self) -> Mask:
        """The damaged cells (*dims)."""
        if self._mask is not None:
            return self._mask
        return self.chunkwise(np.isin(np.arange(len(self.indices)), self.places))

    def chunkwise[A: np.generic](self, values: NDArray[A]) -> NDArray[A]:
        """Return a field (*dims) that holds in each cell the value (G,) of its chunk."""
        field = np.empty(self.shape, values.dtype)
        for index, value in zip(self.indices, values, strict=True):
            field[self.cells(index)] = value
        return field

    def captured(self, captures: CaptureStack, step: int) -> Floats:
        """Return a captured field, float64 (*dims); NaN where missing or not trusted."""
        return self._gathered({i: trusted_values(captures, step, i) for i in self.indices})

    def intact(self, captures: CaptureStack, step: int) -> Floats:
        """Return what is intact of the field that is healed, float64 (*dims); else NaN.

        Where cells are named that are damaged, the others of their chunks are not, whatever a check
        says of the chunk.
        """
        values = {i: trusted_values(captures, step, i) for i in self.indices}
        named = self.damaged if self._mask is not None else []
        values |= {i: readable_values(captures, step, i) for i in named}
        return np.where(self.hole, np.nan, self._gathered(values))

    def _gathered(self, chunks: Mapping[Index, Floats | None]) -> Floats:
        field = np.full(self.shape, np.nan)
        for index, values in chunks.items():
            if values is not None:
                field[self.cells(index)] = values[self._part(index)]
        return np.where(np.isfinite(field), field, np.nan)

    def predicted(self, shadow: ShadowStack, lead: int) -> tuple[Floats, Floats]:
        """Return a predicted field and its standard error, float64 (*dims); NaN where none is."""
        mean, error = np.full(self.shape, np.nan), np.full(self.shape, np.nan)
        for index in self.indices:
            values, errors = shadow.chunk(lead, index)
            mean[self.cells(index)] = values[self._part(index)]
            error[self.cells(index)] = errors[self._part(index)]
        return mean, error

    def past(self, repository: Repository, captures: CaptureStack, step: int) -> Past | None:
        """Return the captures before a step; None if there are none."""
        # The cadence stands in the log: damage to what was learnt changes nothing here.
        cadence = cadence_of(repository, self.variable.name)
        count = min(HISTORY_STEPS, HISTORY_BYTES // (8 * prod(self.shape)))
        steps = repository.state.before(repository.captured[step].instant, count)
        if not steps:
            return None
        instants = np.array([repository.captured[s].instant for s in steps], np.int64)
        slots = np.arange(len(steps))
        if cadence is not None:
            chosen = distinct_slots(cadence, instants)
            steps, instants = [steps[k] for k in chosen], instants[chosen]
            slots = np.array([cadence.slot(int(i)) for i in instants])
        numbers = np.arange(prod(self.shape)).reshape(self.shape)
        # Chunk by chunk, as the forecaster has them.
        parts = [numbers[self.cells(index)].ravel() for index in self.indices]
        order = np.concatenate(parts)
        values = np.stack([self.captured(captures, s).ravel()[order] for s in steps])
        starts = np.cumsum([0, *(part.size for part in parts)])
        return Past(PastCaptures(slots, instants / SECOND, values, starts), instants, order)
