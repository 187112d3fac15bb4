"""Restore points as datasets: which captured, predicted or healed states are served together.

A view is a list of planes, one per valid time.  Captured planes are the source's states and nothing
else.  Where any cell was not captured, two ancillary variables say where the cells come from:
``<var>_standard_error`` and ``<var>_provenance``.
"""

import warnings
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray
from zarr.storage import MemoryStore

from gnomon.storage.errors import GnomonError, Integrity, InvalidInput, NotFound
from gnomon.storage.log.description import Description
from gnomon.storage.log.steps import Shadow
from gnomon.storage.repository import Repository
from gnomon.storage.serve.planes import PROVENANCE, Plane, is_predicted, plane_chunk
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
from gnomon.storage.values.timeforms import is_form
from gnomon.storage.values.times import EPOCH, SECOND, encode

__all__ = [
    "Notes",
    "are_marked",
    "chunked_as_source",
    "open_view",
    "raw_dataset",
    "reading_store",
]

Notes = Mapping[str, Mapping[str, Any]]
"""Attributes that say what a view is, by variable; those of the dataset under the empty name."""


def raw_dataset(
    repository: Repository,
    planes: tuple[Plane, ...],
    *,
    plain: bool = False,
    marks: bool = False,
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
        repository, planes, plain=plain, marks=marks, notes=notes, selection=selection
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
    notes: Notes | None = None,
    selection: Selection = EVERYTHING,
) -> ReadingStore:
    """Return planes as a read-only Zarr store; see :func:`raw_dataset`."""
    marked = are_marked(planes, plain=plain, marks=marks)
    return _build(repository, planes, dict(notes or {}) if marked else None, selection)


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
) -> ReadingStore:
    """Rebuild a reading store in another process, pinned to the same commit and era."""
    url, sequence, era = pinned
    return _build(Repository.open(url).at(sequence).in_era(era), planes, notes, selection)


def _build(
    repository: Repository,
    planes: tuple[Plane, ...],
    notes: Notes | None,
    selection: Selection,
) -> ReadingStore:
    """Return a store of planes; without notes also without the other marks."""
    try:
        return _laid_out(repository, planes, notes, selection)
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
) -> ReadingStore:
    memory = MemoryStore()
    description = served_description(repository, planes)
    noted_by = notes or {}
    described = {**description.attributes, **noted_by.get("", {})}
    zarr.create_group(memory, attributes=plain_attributes(described))
    constant = {
        name: selection.cut(variable)
        for name, variable in repository.fixed(description).items()
        if selection.gives(name)
    }
    time = _stacking(repository, planes, constant)
    coordinates = _forecast_coordinates(repository, planes, time)
    fixed: dict[Any, xr.Variable] = {**constant, **coordinates}
    if time is not None:
        fixed[repository.settings.time_name or time] = _time_coordinate(
            repository, planes, time, description
        )
    exact: dict[str, dict[str, Any]] = {"": described}
    for name, variable in fixed.items():
        exact[str(name)] = dict(variable.attrs)
        create_fixed(memory, str(name), variable)
    arrays: dict[str, ComputedArray] = {}
    source_chunks: dict[str, Index] = {}
    for captured in _served_variables(repository, planes, selection):
        noted = dict(noted_by.get(captured.name, {}))
        if coordinates:
            named = str(description.variables[captured.name].get("coordinates", "")).split()
            noted["coordinates"] = " ".join(dict.fromkeys([*named, *coordinates]))
        served_values = _Served(repository, captured, planes, time, selection)
        attributes = {**served_values.attributes(description), **noted}
        marked = captured.forecast and notes is not None
        for served in served_values.arrays(attributes, extras=marked):
            arrays[served.name] = served.computed
            exact[served.name] = served.attributes
            create_computed(memory, served)
            if captured.source_chunks:
                source_chunks[served.name] = served_values.source_chunks()
    pinned = repository.location.url, repository.records[-1].sequence, repository.era
    recipe = (pinned, planes, notes, selection)
    return ReadingStore(memory, arrays, (open_view, recipe), exact, source_chunks)


def _served_variables(
    repository: Repository, planes: tuple[Plane, ...], selection: Selection
) -> list[Variable]:
    """Return the variables that all planes have, of those that are wanted."""
    predicted = is_predicted(planes)
    variables = [
        variable
        for variable in repository.settings.variables
        if variable.forecast or not predicted
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


def _time_coordinate(
    repository: Repository, planes: tuple[Plane, ...], time: str, description: Description
) -> xr.Variable:
    """Return the times of planes along their dimension, told as the source tells them."""
    settings = repository.settings
    attributes = dict(description.time)
    if not attributes and not settings.time_form:
        attributes = {
            "standard_name": "time",
            "units": settings.time_units,
            "calendar": settings.calendar,
        }
    if is_predicted(planes):
        attributes.pop("bounds", None)
    return xr.Variable((time,), _raw_times(repository, planes), attributes)


def _stacking(
    repository: Repository, planes: tuple[Plane, ...], fixed: Collection[str]
) -> str | None:
    """Return the dimension that planes are stacked along; None for one state without time."""
    settings = repository.settings
    if settings.source.time is not None or len(planes) == 1:
        return settings.source.time
    taken = {*settings.dims, *fixed, *(v.name for v in settings.variables)}
    return next(n for n in ("time", "valid_time", "shadow_time") if n not in taken)


def _forecast_coordinates(
    repository: Repository, planes: tuple[Plane, ...], time: str | None
) -> dict[Any, xr.Variable]:
    """Return reference time and forecast periods, as CF has them, of planes of one shadow."""
    ids = {plane.shadow for plane in planes}
    shadow = next((s for s in repository.shadows if ids == {s.id}), None)
    if shadow is None:
        return {}
    settings = repository.settings
    calendar, in_cf = settings.calendar, not is_form(settings.time_units)
    units, dtype = (settings.time_units, settings.time_dtype) if in_cf else (EPOCH, "<i8")
    reference = encode([shadow.reference], units, calendar, np.dtype(dtype))[0]
    hours = np.array([(p.instant - shadow.reference) / (3600 * SECOND) for p in planes])
    dims, periods = ((), hours[0]) if time is None else ((time,), hours)
    attributes = {"standard_name": "forecast_reference_time", "units": units, "calendar": calendar}
    return {
        "forecast_reference_time": xr.Variable((), reference, attributes),
        "forecast_period": xr.Variable(
            dims, periods, {"standard_name": "forecast_period", "units": "hours"}
        ),
    }


def _raw_times(repository: Repository, planes: tuple[Plane, ...]) -> NDArray[Any]:
    settings = repository.settings
    dtype = np.dtype(settings.time_dtype)
    raw = []
    for plane in planes:
        told = b"" if plane.step is None else repository.captured[plane.step].raw_time
        if told:
            raw.append(np.frombuffer(told, dtype)[0])
        else:  # of a prediction, or a state of a source without time
            raw.append(encode([plane.instant], settings.time_units, settings.calendar, dtype)[0])
    return np.array(raw)


class _Served:
    """The arrays that a view serves for one variable."""

    def __init__(
        self,
        repository: Repository,
        variable: Variable,
        planes: tuple[Plane, ...],
        time: str | None,
        selection: Selection,
    ) -> None:
        self.variable = variable
        self.selection = selection
        self.into = served_reading(repository, variable, planes)
        self.planes = planes
        self.captures = repository.captures(variable.name)
        self.time = time
        by_id: dict[str, Shadow] = {s.id: s for s in repository.shadows}
        self.shadows = {
            p.shadow: repository.shadow(variable.name, by_id[p.shadow], self.captures)
            for p in planes
            if p.shadow is not None
        }

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
        names = [f"{variable.name}_standard_error", f"{variable.name}_provenance"]
        before = str(attributes.get("ancillary_variables", "")).split()
        attributes = {**attributes, "ancillary_variables": " ".join([*before, *names])}
        about = {"units": attributes["units"]} if "units" in attributes else {}
        standard_name = attributes.get("standard_name")
        if standard_name:
            about["standard_name"] = f"{standard_name} standard_error"
        flags = {
            "standard_name": "status_flag",
            "long_name": f"provenance of {variable.name}",
            "flag_values": np.array(list(PROVENANCE.values()), np.uint8),
            "flag_meanings": " ".join(PROVENANCE),
        }
        error = about | {"long_name": f"standard error of {variable.name}"}
        if variable.categorical:
            # Flags have no units, and what may be wrong with one is that another one is true.
            error = {"units": "1", "long_name": f"probability that {variable.name} is another"}
        return [
            self._array(variable.name, 0, self.into.dtype, attributes),
            self._array(names[0], 1, np.dtype("<f4"), error | {"_FillValue": np.float32(np.nan)}),
            self._array(names[1], 2, np.dtype("u1"), flags),
        ]

    def source_chunks(self) -> Index:
        """Return the chunks of the source in the served arrays."""
        shape = self.selection.shape(self.variable)
        chunks = [*_at_most(self.variable.source_chunks, shape)]
        if self.time is not None:
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
        axis = variable.time_axis if self.time is not None else None
        if axis is not None and self.time is not None:
            shape.insert(axis, len(self.planes))
            chunks.insert(axis, 1)
            counts.insert(axis, len(self.planes))
            dims.insert(axis, self.time)

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
        shadow = self.shadows[plane.shadow] if plane.shadow is not None else None

        def read(index: Index) -> tuple[NDArray[Any]]:
            arrays = plane_chunk(self.captures, shadow, plane, index, self.into, marks=part > 0)
            return (arrays[part],)

        start, stop = tuple(c.start for c in cells), tuple(c.stop for c in cells)
        parts = self.selection.parts(self.variable, start, stop)
        shape = tuple(c.stop - c.start for c in cells)
        return assembled(parts, shape, read)[0]


def _at_most(chunks: Index, shape: Index) -> Index:
    return tuple(max(1, min(c, n)) for c, n in zip(chunks, shape, strict=True))
