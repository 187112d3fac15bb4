"""Restore points as datasets: which captured, predicted or healed states are served together.

A view is a list of planes, one per valid time.  Captured planes are the source's states and nothing
else.  Where any cell was not captured, two ancillary variables say where the cells come from:
``<var>_standard_error`` and ``<var>_provenance``.

The planes of one shadow can be served along their leads instead, as a forecast: with
``<var>_confidence`` and ``<var>_expected_error`` as well, and the valid times beside the leads.
"""

import warnings
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray
from zarr.storage import MemoryStore

from gnomon.storage.errors import GnomonError, Integrity, InvalidInput, NotFound
from gnomon.storage.log.bodies.shadow import PredictedEntry
from gnomon.storage.log.description import Description
from gnomon.storage.log.steps import Shadow
from gnomon.storage.repository import Repository
from gnomon.storage.serve.cf import (
    WHOLE,
    about_confidence,
    about_error,
    about_expected_error,
    about_provenance,
    referring_to,
    with_ancillary,
    with_conventions,
)
from gnomon.storage.serve.coordinates import along_leads, along_time
from gnomon.storage.serve.names import extra_name
from gnomon.storage.serve.planes import (
    EXPECTED_ERROR,
    EXTRAS,
    FORECAST_EXTRAS,
    Plane,
    is_predicted,
    plane_chunk,
)
from gnomon.storage.serve.reader import ComputedArray, ReadingStore
from gnomon.storage.serve.readings import served_description, served_reading
from gnomon.storage.serve.template import ServedArray, create_computed, create_fixed
from gnomon.storage.values.attributes import plain_attributes
from gnomon.storage.values.documents import NONSENSE
from gnomon.storage.values.grid import ChunkGrid, Index
from gnomon.storage.values.meaning import RANGE, read_alike
from gnomon.storage.values.model import Variable
from gnomon.storage.values.scaling import PACKING
from gnomon.storage.values.selection import EVERYTHING, Selection, assembled

__all__ = [
    "Notes",
    "are_marked",
    "chunked_as_source",
    "open_view",
    "raw_dataset",
    "reading_store",
]

_ESTIMATES = 4
"""Estimated chunks of a variable that are kept for their other parts."""
Notes = Mapping[str, Mapping[str, Any]]
"""Attributes that say what a view is, by variable; those of the dataset under the empty name."""


def raw_dataset(
    repository: Repository,
    planes: tuple[Plane, ...],
    *,
    plain: bool = False,
    marks: bool = False,
    by_lead: bool = False,
    notes: Notes | None = None,
    selection: Selection = EVERYTHING,
) -> xr.Dataset:
    """Return planes as an undecoded, lazy dataset laid out like the source.

    Planes that were captured are the source's states and nothing else.  Where any cell was not, its
    marks stand beside the values: standard errors, provenance and notes.

    Parameters
    ----------
    plain
        Refuse what needs marks.
    marks
        Give the marks of captured planes too.
    by_lead
        Stack the planes, which are of one shadow, along their leads and not along time.
    notes
        What the view says of itself, beside the source's attributes; a part of the marks.
    selection
        What of the planes is wanted.

    Raises
    ------
    InvalidInput
        Something predicted was to be plain.
    NotFound
        A variable that is wanted is not in the planes.
    """
    store = reading_store(
        repository,
        planes,
        plain=plain,
        marks=marks,
        by_lead=by_lead,
        notes=notes,
        selection=selection,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            dataset = xr.open_dataset(
                store,  # type: ignore[arg-type]
                engine="zarr",
                consolidated=False,
                decode_cf=False,
                chunks=None,
                cache=False,
            )
        except GnomonError:
            raise
        except NONSENSE as error:
            raise _none(error) from error
    # Zarr keeps attributes as JSON, which has no float32: put back the exact ones.
    for name, attributes in store.attributes.items():
        described = dataset.variables[name] if name else dataset
        described.attrs = dict(attributes)
    return chunked_as_source(dataset, store)


def chunked_as_source(dataset: xr.Dataset, store: ReadingStore) -> xr.Dataset:
    """Return a dataset that was opened from a store, with the source's chunks in its encoding."""
    for name, chunks in store.source_chunks.items():
        if name in dataset.variables:
            variable = dataset.variables[name]
            preferred = dict(zip(variable.dims, chunks, strict=True))
            variable.encoding |= {"chunks": chunks, "preferred_chunks": preferred}
    return dataset


def reading_store(
    repository: Repository,
    planes: tuple[Plane, ...],
    *,
    plain: bool = False,
    marks: bool = False,
    by_lead: bool = False,
    notes: Notes | None = None,
    selection: Selection = EVERYTHING,
) -> ReadingStore:
    """Return planes as a read-only Zarr store; see :func:`raw_dataset`."""
    marked = are_marked(planes, plain=plain, marks=marks)
    return _build(repository, planes, dict(notes or {}) if marked else None, selection, by_lead)


def are_marked(planes: tuple[Plane, ...], *, plain: bool, marks: bool) -> bool:
    """Tell whether planes are given with marks; raises as :func:`raw_dataset`."""
    if plain and marks:
        raise InvalidInput("plain and marks were both asked for; take one of them")
    if plain and is_predicted(planes):
        raise InvalidInput("a predicted state cannot be plain: its cells must stay marked")
    return marks or is_predicted(planes)


def open_view(
    pinned: tuple[str, int, int],
    planes: tuple[Plane, ...],
    notes: Notes | None,
    selection: Selection,
    by_lead: bool = False,
) -> ReadingStore:
    """Rebuild a reading store in another process, pinned to the same commit and era."""
    url, sequence, era = pinned
    repository = Repository.open(url).at(sequence).in_era(era)
    return _build(repository, planes, notes, selection, by_lead)


def _build(
    repository: Repository,
    planes: tuple[Plane, ...],
    notes: Notes | None,
    selection: Selection,
    by_lead: bool,
) -> ReadingStore:
    """Return a store of planes; without notes also without the other marks."""
    try:
        return _laid_out(repository, planes, notes, selection, by_lead)
    except GnomonError:
        raise
    except NONSENSE as error:
        raise _none(error) from error


def _none(error: BaseException) -> Integrity:
    """Return the error that says that the settings describe no dataset that can be opened."""
    reason = " ".join(str(error).split())[:200]
    return Integrity(
        f"what the settings describe is no dataset ({type(error).__name__}: {reason}); the "
        "repository was tampered with, restore it from a copy"
    )


def _laid_out(
    repository: Repository,
    planes: tuple[Plane, ...],
    notes: Notes | None,
    selection: Selection,
    by_lead: bool,
) -> ReadingStore:
    memory = MemoryStore()
    description = served_description(repository, planes)
    is_marked, noted_by = notes is not None, notes or {}
    described = {**description.attributes, **noted_by.get("", {})}
    if is_marked:
        described = with_conventions(described)
    zarr.create_group(memory, attributes=plain_attributes(described))
    constant = {
        name: selection.cut(variable)
        for name, variable in repository.fixed(description).items()
        if selection.gives(name)
    }
    along = along_leads if by_lead else along_time
    dim, coordinates, auxiliary = along(repository, planes, constant, description)
    for coordinate in coordinates.values() if is_marked else ():
        coordinate.attrs.pop(WHOLE, None)
    fixed: dict[Any, xr.Variable] = {**constant, **coordinates}
    served_variables = _served_variables(repository, planes, selection)
    exact: dict[str, dict[str, Any]] = {"": described}
    arrays: dict[str, ComputedArray] = {}
    source_chunks: dict[str, Index] = {}
    there = {*map(str, fixed), *(v.name for v in served_variables)}
    there |= set(str(description.attributes.get("external_variables", "")).split())
    is_whole = not is_predicted(planes)
    for captured in served_variables:
        served_values = _Served(repository, captured, planes, dim, selection, by_lead=by_lead)
        attributes = served_values.attributes(description)
        if not is_whole:
            attributes = referring_to(attributes, there)
        attributes = _beside(attributes, auxiliary) | dict(noted_by.get(captured.name, {}))
        if is_marked:
            attributes.pop(WHOLE, None)
        extras = captured.forecast and is_marked
        for served in served_values.arrays(attributes, extras=extras):
            arrays[served.name] = served.computed
            exact[served.name] = served.attributes
            create_computed(memory, served)
            if captured.source_chunks:
                source_chunks[served.name] = served_values.source_chunks()
        if extras and by_lead:
            name, errors = served_values.expected_error(attributes)
            fixed[name] = errors
    for name, variable in fixed.items():
        told = dict(variable.attrs) if is_whole else referring_to(variable.attrs, there)
        exact[str(name)] = told
        create_fixed(memory, str(name), xr.Variable(variable.dims, variable.values, told))
    pinned = repository.location.url, repository.records[-1].sequence, repository.era
    recipe = (pinned, planes, notes, selection, by_lead)
    return ReadingStore(memory, arrays, (open_view, recipe), exact, source_chunks)


def _beside(attributes: Mapping[str, Any], coordinates: list[str]) -> dict[str, Any]:
    """Return attributes of a variable that has coordinates without a dimension of their own."""
    if not coordinates:
        return dict(attributes)
    named = str(attributes.get("coordinates", "")).split()
    return {**attributes, "coordinates": " ".join(dict.fromkeys([*named, *coordinates]))}


def _served_variables(
    repository: Repository, planes: tuple[Plane, ...], selection: Selection
) -> list[Variable]:
    """Return the variables that all planes have, of those that are wanted."""
    predicted = is_predicted(planes)
    ids = {plane.shadow for plane in planes}
    shadows = [shadow for shadow in repository.shadows if shadow.id in ids]
    variables = [
        variable
        for variable in repository.settings.variables
        if variable.forecast or not predicted
        # It may have come after the forecast was made.
        if all(variable.name in shadow.variables for shadow in shadows)
        if not any(p.estimators and variable.name not in p.estimators for p in planes)
        # A state has the variables that it was captured with.
        if not any(p.step is not None and p.step < variable.since for p in planes)
    ]
    names = [variable.name for variable in variables]
    missing = [name for name in selection.variables if name not in names]
    if missing:
        raise NotFound(
            f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not in this "
            f"{'predicted ' if predicted else ''}state; it has {', '.join(names) or 'none'}"
        )
    return [variable for variable in variables if selection.gives(variable.name)]


class _Served:
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
