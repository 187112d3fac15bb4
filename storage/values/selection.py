"""Selections: some variables of a dataset and some of their cells, on the grids of their chunks."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gnomon.storage.values.grid import Index

if TYPE_CHECKING:
    import xarray as xr

    from gnomon.storage.values.model import Variable

__all__ = ["EVERYTHING", "Part", "Runs", "Selection", "assembled"]

Runs = tuple[slice, ...]
"""Cells along one dimension, in the order in which they are given: one slice of step 1, or two for
a region over the seam of longitudes."""


@dataclass(frozen=True, slots=True)
class Part:
    """The cells that a chunk shares with one run of cells along each dimension."""

    index: Index
    """The chunk."""
    cells: tuple[slice, ...]
    """The cells on the whole array."""
    inside: tuple[slice, ...]
    """The same cells in the chunk."""
    place: tuple[slice, ...]
    """The same cells in the block that is asked for."""

    def is_whole(self, variable: "Variable") -> bool:
        """Tell whether it is all of the chunk."""
        return self.cells == variable.grid.cells(self.index)


@dataclass(frozen=True, slots=True)
class Selection:
    """What of a dataset is wanted; without arguments all of it.

    Cells are selected by dimension, so that all variables that have it are cut alike.
    """

    variables: tuple[str, ...] = ()
    """Names of the captured variables that are wanted; empty: all."""
    cells: Mapping[str, Runs] = field(default_factory=dict)
    """By dimension, the cells that are wanted; of a dimension that is not here, all."""
    chunks: Mapping[str, tuple[Index, ...]] = field(default_factory=dict)
    """By variable, the chunks that were named; `cells` is then the region that bounds them."""
    companions: tuple[str, ...] = ()
    """Other variables that the wanted ones refer to, such as coordinates and bounds: they are given
    beside them."""

    def gives(self, name: str) -> bool:
        """Tell whether a variable is given, as it is wanted or goes with one that is."""
        return not self.variables or name in self.variables or name in self.companions

    def is_about(self, variable: "Variable") -> bool:
        """Tell whether a variable is named, or nothing else is and it has a dimension that is cut.

        What lies along none of them has no place in a region, and is given beside it.
        """
        if self.variables:
            return variable.name in self.variables
        return not self.cells or not self.cells.keys().isdisjoint(variable.dims)

    def is_all_of(self, variable: "Variable") -> bool:
        """Tell whether every cell of a variable is selected."""
        return self.gives(variable.name) and self.cells.keys().isdisjoint(variable.dims)

    def shape(self, variable: "Variable") -> Index:
        """Return the number of selected cells along each dimension of a state."""
        return tuple(sum(run.stop - run.start for run in runs) for runs in self._runs(variable))

    def parts(
        self, variable: "Variable", start: Index | None = None, stop: Index | None = None
    ) -> Iterator[Part]:
        """Yield what the selected cells of a variable are made of, part of a chunk by part.

        Parameters
        ----------
        start, stop
            Corners of a block of the selected array: its first cell along each dimension, and the
            one past its last; default: all of it.
        """
        shape = self.shape(variable)
        axes = zip(
            self._runs(variable),
            variable.chunks,
            start or (0,) * len(shape),
            stop or shape,
            strict=True,
        )
        for segments in product(*(list(_segments(*axis)) for axis in axes)):
            index, cells, inside, place = zip(*segments, strict=True) if segments else ((),) * 4
            yield Part(index, cells, inside, place)

    def blocks(self, variable: "Variable") -> Iterator[Part]:
        """Yield the chunks that the selection is about, and the cells of each that are selected.

        Those that were named; else those that have a selected cell.  A chunk that a region over the
        seam meets on both sides comes twice, with other cells.
        """
        named = self.chunks.get(variable.name)
        for part in self.parts(variable) if self.gives(variable.name) else ():
            if named is None or part.index in named:
                yield part

    def touched(self, variable: "Variable") -> set[Index]:
        """Return the chunks that have a selected cell: what is read, verified and healed."""
        if not self.gives(variable.name):
            return set()
        axes = zip(self._runs(variable), variable.chunks, strict=True)
        along = (
            {k for run in runs for k in range(run.start // size, -(-run.stop // size))}
            for runs, size in axes
        )
        return set(product(*along))

    def cut(self, variable: "xr.Variable") -> "xr.Variable":
        """Return the selected cells of a variable that does not change."""
        for dim in self.cells.keys() & set(map(str, variable.dims)):
            positions = np.concatenate([np.arange(run.start, run.stop) for run in self.cells[dim]])
            variable = variable.isel({dim: positions})
        return variable

    def _runs(self, variable: "Variable") -> tuple[Runs, ...]:
        sizes = zip(variable.dims, variable.shape, strict=True)
        return tuple(self.cells.get(dim, (slice(0, size),)) for dim, size in sizes)


EVERYTHING = Selection()


def _segments(
    runs: Runs, size: int, low: int, high: int
) -> Iterator[tuple[int, slice, slice, slice]]:
    """Yield chunk, cells, cells in the chunk and place of what lies from `low` to before `high`."""
    before = 0
    for run in runs:
        begin, end = run.start + max(0, low - before), min(run.stop, run.start + high - before)
        while begin < end:
            chunk = begin // size
            stop = min(end, (chunk + 1) * size)
            place = before + begin - run.start - low
            yield (
                chunk,
                slice(begin, stop),
                slice(begin - chunk * size, stop - chunk * size),
                slice(place, place + stop - begin),
            )
            begin = stop
        before += run.stop - run.start


def assembled(
    parts: Iterable[Part], shape: Index, read: Callable[[Index], tuple[NDArray[Any], ...]]
) -> list[NDArray[Any]]:
    """Return the arrays of a block, put together from those of its chunks.

    Parameters
    ----------
    parts
        What the block is made of; one at least.
    shape
        Cells of the block.
    read
        Returns the arrays of a chunk, the same number of each.
    """
    fields: list[NDArray[Any]] = []
    for part in parts:
        arrays = read(part.index)
        inside: tuple[Any, ...] = (..., *part.inside)
        place: tuple[Any, ...] = (..., *part.place)
        if not fields:
            if arrays[0][inside].shape == arrays[0].shape == shape:
                return list(arrays)
            fields = [np.empty(shape, array.dtype) for array in arrays]
        for block, array in zip(fields, arrays, strict=True):
            block[place] = array[inside]
    return fields
