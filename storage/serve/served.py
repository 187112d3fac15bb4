"""Served variables: the arrays that a view gives of one variable, computed when they are read."""

from functools import lru_cache
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from gnomon.storage.log.bodies.shadow import PredictedEntry
from gnomon.storage.log.description import Description
from gnomon.storage.log.steps import Shadow
from gnomon.storage.repository import Repository
from gnomon.storage.serve.cf import (
    about_confidence,
    about_error,
    about_expected_error,
    about_provenance,
    with_ancillary,
)
from gnomon.storage.serve.names import extra_name
from gnomon.storage.serve.planes import (
    EXPECTED_ERROR,
    EXTRAS,
    FORECAST_EXTRAS,
    Plane,
    plane_chunk,
)
from gnomon.storage.serve.reader import ComputedArray
from gnomon.storage.serve.readings import served_reading
from gnomon.storage.serve.template import ServedArray
from gnomon.storage.values.grid import ChunkGrid, Index
from gnomon.storage.values.meaning import RANGE, read_alike
from gnomon.storage.values.model import Variable
from gnomon.storage.values.scaling import PACKING
from gnomon.storage.values.selection import Selection, assembled

__all__ = ["ServedVariable"]

_ESTIMATES = 4
"""Estimated chunks of a variable that are kept for their other parts."""


class ServedVariable:
    """The arrays that a view serves for one variable."""

    def __init__(
        self,
        repository: Repository,
        variable: Variable,
        planes: tuple[Plane, ...],
        dim: str | None,
        selection: Selection,
        *,
        by_lead: bool,
    ) -> None:
        self.repository = repository
        self.variable = variable
        self.selection = selection
        self.into = served_reading(repository, variable, planes)
        self.planes = planes
        self.captures = repository.captures(variable.name)
        self.dim = dim
        self.by_lead = by_lead
        by_id: dict[str, Shadow] = {s.id: s for s in repository.shadows}
        self.shadows = {
            p.shadow: repository.shadow(variable.name, by_id[p.shadow], self.captures)
            for p in planes
            if p.shadow is not None
        }
        # Values, errors and provenance are read one by one, and are one estimate.
        self._estimated = lru_cache(_ESTIMATES)(lambda k, index: self._chunk(planes[k], index))

    def attributes(self, description: Description) -> dict[str, Any]:
        """Return the attributes of the values, without packing where these are numbers."""
        attributes = dict(description.variables[self.variable.name])
        if read_alike(self.into, description.reading(self.variable)):
            return attributes
        return {n: v for n, v in attributes.items() if n not in (*PACKING, *RANGE)}

    def arrays(self, attributes: dict[str, Any], *, extras: bool) -> list[ServedArray]:
        """Return the values, with their errors and provenance (of a forecast, confidence too)."""
        variable = self.variable
        if not extras:
            return [self._array(variable.name, 0, self.into.dtype, attributes)]
        types = FORECAST_EXTRAS if self.by_lead else EXTRAS
        names = [self._extra(ending) for ending in types]
        abouts = [about_error(variable, attributes), about_provenance(variable, attributes)]
        if self.by_lead:
            tolerance = self._entry.tolerance / abs(self.into.factor)
            abouts.append(about_confidence(variable, attributes, tolerance))
        beside = zip(names, types.values(), abouts, strict=True)
        every = [*names, self._extra(EXPECTED_ERROR)] if self.by_lead else names
        return [
            self._array(variable.name, 0, self.into.dtype, with_ancillary(attributes, every)),
            *(
                self._array(name, part, np.dtype(dtype), about)
                for part, (name, dtype, about) in enumerate(beside, start=1)
            ),
        ]

    def expected_error(self, attributes: dict[str, Any]) -> tuple[str, xr.Variable]:
        """Return the expected error of each lead of the one shadow that is served, and its name."""
        by_lead = self._entry.expected_rmse
        errors = np.array([np.nan if e is None else e for e in by_lead], np.float64)
        about = about_expected_error(self.variable, attributes)
        leads = [plane.lead - 1 for plane in self.planes]
        values = errors[leads] / abs(self.into.factor)
        return self._extra(EXPECTED_ERROR), xr.Variable((self.dim,), values, about)

    def _extra(self, ending: str) -> str:
        return extra_name(self.repository, self.variable.name, ending)

    @property
    def _entry(self) -> PredictedEntry:
        (stack,) = self.shadows.values()
        return stack.shadow.variables[self.variable.name]

    def source_chunks(self) -> Index:
        """Return the chunks of the source in the served arrays."""
        shape = self.selection.shape(self.variable)
        chunks = [*_at_most(self.variable.source_chunks, shape)]
        if self.dim is not None:
            chunks.insert(self.variable.time_axis, 1)
        return tuple(chunks)

    def _array(
        self, name: str, part: int, dtype: np.dtype[Any], attributes: dict[str, Any]
    ) -> ServedArray:
        variable = self.variable
        size = self.selection.shape(variable)
        grid = ChunkGrid(size, _at_most(variable.chunks, size), size)
        shape, chunks, counts = list(grid.shape), list(grid.chunks), list(grid.counts)
        dims = list(variable.dims)
        axis = variable.time_axis if self.dim is not None else None
        if axis is not None and self.dim is not None:
            shape.insert(axis, len(self.planes))
            chunks.insert(axis, 1)
            counts.insert(axis, len(self.planes))
            dims.insert(axis, self.dim)

        def compute(index: Index) -> NDArray[Any]:
            if axis is None:
                return self._block(self.planes[0], grid.cells(index), part).astype(
                    dtype, copy=False
                )
            inner = grid.cells(index[:axis] + index[axis + 1 :])
            cells = self._block(self.planes[index[axis]], inner, part)
            return np.expand_dims(cells.astype(dtype, copy=False), axis)

        computed = ComputedArray(tuple(chunks), tuple(counts), dtype, compute)
        return ServedArray(name, tuple(dims), tuple(shape), attributes, computed)

    def _block(self, plane: Plane, cells: tuple[slice, ...], part: int) -> NDArray[Any]:
        """Return a block of the selected cells of a plane: values, errors or provenance."""

        def read(index: Index) -> tuple[NDArray[Any]]:
            if self.variable.name in plane.estimators:
                number = next(k for k, other in enumerate(self.planes) if other is plane)
                return (self._estimated(number, index)[part],)
            return (self._chunk(plane, index, marks=part > 0)[part],)

        start, stop = tuple(c.start for c in cells), tuple(c.stop for c in cells)
        parts = self.selection.parts(self.variable, start, stop)
        shape = tuple(c.stop - c.start for c in cells)
        return assembled(parts, shape, read)[0]

    def _chunk(self, plane: Plane, index: Index, *, marks: bool = True) -> tuple[NDArray[Any], ...]:
        shadow = self.shadows[plane.shadow] if plane.shadow is not None else None
        return plane_chunk(self.captures, shadow, plane, index, self.into, marks=marks)


def _at_most(chunks: Index, shape: Index) -> Index:
    return tuple(max(1, min(c, n)) for c, n in zip(chunks, shape, strict=True))
