"""Surroundings of damaged chunks as plain arrays: captured, predicted, and their past."""

from collections.abc import Collection
from dataclasses import dataclass
from itertools import product
from math import prod

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
from gnomon.tasks.learning.expectation import cadence_of
from gnomon.tasks.learning.trusted import trusted_values

__all__ = ["Past", "Region", "regions"]

HISTORY_BYTES = 2**28
"""Memory of the past captures of a region."""
HISTORY_STEPS = 72
"""Past captures that departures are found from, at most."""

Floats = NDArray[np.float64]


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


def regions(variable: Variable, indices: list[Index]) -> list["Region"]:
    """Return the regions to heal chunks in: one of a small field, in a large one of neighbours."""
    if prod(variable.shape) <= MOST_CELLS:
        return [Region(variable, indices)]
    damaged = np.zeros(variable.grid.counts, bool)
    damaged[tuple(np.array(indices).T)] = True
    number, count = label(damaged, structure=np.ones((3,) * damaged.ndim))
    result = []
    for group in ([i for i in indices if number[i] == n + 1] for n in range(count)):
        near = prod(s.stop - s.start for s in _box(variable, group)) <= MOST_CELLS
        result += [Region(variable, part) for part in ([group] if near else [[i] for i in group])]
    return result


def _box(variable: Variable, indices: list[Index]) -> tuple[slice, ...]:
    """Return the box of cells that holds some chunks."""
    axes = zip(*(variable.grid.cells(index) for index in indices), strict=True)
    return tuple(slice(min(s.start for s in ax), max(s.stop for s in ax)) for ax in axes)


class Region:
    """A box of cells around damaged chunks.

    Parameters
    ----------
    variable
        The variable.
    damaged
        Chunks in it that are to be estimated.
    """

    def __init__(self, variable: Variable, damaged: list[Index]) -> None:
        self.variable, self.damaged = variable, damaged
        self.box = tuple(slice(0, size) for size in variable.shape)
        if prod(variable.shape) > MOST_CELLS:
            ends = np.array([(s.start, s.stop - 1) for s in _box(variable, damaged)])
            plain = Grid(variable.shape, (False,) * len(variable.shape))
            axes, _ = surround(np.ravel_multi_index(tuple(ends), plain.shape), plain, MOST_CELLS)
            self.box = tuple(slice(int(axis[0]), int(axis[-1]) + 1) for axis in axes)
        self.shape = tuple(s.stop - s.start for s in self.box)
        self.cyclic = tuple(
            wraps and size == whole
            for wraps, size, whole in zip(variable.cyclic, self.shape, variable.shape, strict=True)
        )
        near = [
            range(s.start // size, -(-s.stop // size))
            for s, size in zip(self.box, variable.grid.chunks, strict=True)
        ]
        self.indices: list[Index] = list(product(*near))
        """The G chunks that have a part in it."""
        number = {index: place for place, index in enumerate(self.indices)}
        self.places = [number[index] for index in damaged]
        """Those of the damaged ones among them."""

    def cells(self, index: Index) -> tuple[slice, ...]:
        """Return the slices of the region that a chunk covers."""
        return tuple(slice(a - s.start, b - s.start) for a, b, s, _ in self._shared(index))

    def _part(self, index: Index) -> tuple[slice, ...]:
        """Return the slices of a chunk that lie in the region."""
        return tuple(slice(a - c.start, b - c.start) for a, b, _, c in self._shared(index))

    def _shared(self, index: Index) -> list[tuple[int, int, slice, slice]]:
        """Return the bounds of the cells that a chunk and the region share, by axis, with both."""
        axes = zip(self.box, self.variable.grid.cells(index), strict=True)
        return [(max(s.start, c.start), min(s.stop, c.stop), s, c) for s, c in axes]

    def chunkwise[A: np.generic](self, values: NDArray[A]) -> NDArray[A]:
        """Return a field (*dims) that holds in each cell the value (G,) of its chunk."""
        field = np.empty(self.shape, values.dtype)
        for index, value in zip(self.indices, values, strict=True):
            field[self.cells(index)] = value
        return field

    def captured(
        self, captures: CaptureStack, step: int, *, without: Collection[Index] = ()
    ) -> Floats:
        """Return a captured field, float64 (*dims); NaN where missing, not trusted, or left out."""
        field = np.full(self.shape, np.nan)
        left_out = set(without)
        for index in self.indices:
            values = None if index in left_out else trusted_values(captures, step, index)
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
