"""Restore points as datasets: which captured, predicted or healed states are served together.

A view is a list of planes, one per valid time.  Where the cells of each come from stands in two
ancillary variables: ``<var>_standard_error`` and ``<var>_provenance``.
"""

import warnings
from collections.abc import Collection, Iterator, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray
from zarr.storage import MemoryStore

from gnomon.storage.errors import GnomonError, Integrity, InvalidInput
from gnomon.storage.log.description import Description
from gnomon.storage.log.steps import Shadow
from gnomon.storage.repository import Repository
from gnomon.storage.serve.planes import PROVENANCE, Plane, is_predicted, plane_chunk
from gnomon.storage.serve.reader import ComputedArray, ReadingStore
from gnomon.storage.serve.readings import served_description, served_reading
from gnomon.storage.serve.template import ServedArray, create_computed, create_fixed
from gnomon.storage.values.attributes import plain_attributes
from gnomon.storage.values.documents import NONSENSE
from gnomon.storage.values.grid import Index
from gnomon.storage.values.meaning import RANGE, read_alike
from gnomon.storage.values.model import Variable
from gnomon.storage.values.scaling import PACKING
from gnomon.storage.values.timeforms import is_form
from gnomon.storage.values.times import EPOCH, SECOND, encode

__all__ = [
    "Notes",
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
    notes: Notes | None = None,
) -> xr.Dataset:
    """Return planes as an undecoded, lazy dataset laid out like the source.

    Parameters
    ----------
    plain
        Leave out standard errors, provenance and notes; only for planes that were captured.
    notes
        What the view says of itself, beside the source's attributes.

    Raises
    ------
    InvalidInput
        Something predicted was to be plain.
    """
    store = reading_store(repository, planes, plain=plain, notes=notes)
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
    return dataset


def reading_store(
    repository: Repository,
    planes: tuple[Plane, ...],
    *,
    plain: bool = False,
    notes: Notes | None = None,
) -> ReadingStore:
    """Return planes as a read-only Zarr store; see :func:`raw_dataset`."""
    if plain and is_predicted(planes):
        raise InvalidInput("a predicted state cannot be plain: its cells must stay marked")
    return _build(repository, planes, plain, {} if plain else dict(notes or {}))


def open_view(
    url: str, sequence: int, era: int, planes: tuple[Plane, ...], plain: bool, notes: Notes
) -> ReadingStore:
    """Rebuild a reading store in another process, pinned to the same commit and era."""
    return _build(Repository.open(url).at(sequence).in_era(era), planes, plain, notes)


def _build(
    repository: Repository, planes: tuple[Plane, ...], plain: bool, notes: Notes
) -> ReadingStore:
    try:
        return _laid_out(repository, planes, plain, notes)
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
    repository: Repository, planes: tuple[Plane, ...], plain: bool, notes: Notes
) -> ReadingStore:
    memory = MemoryStore()
    description = served_description(repository, planes)
    described = {**description.attributes, **notes.get("", {})}
    zarr.create_group(memory, attributes=plain_attributes(described))
    constant = repository.fixed(description)
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
    for captured in _served_variables(repository, planes):
        noted = dict(notes.get(captured.name, {}))
        if coordinates:
            named = str(description.variables[captured.name].get("coordinates", "")).split()
            noted["coordinates"] = " ".join(dict.fromkeys([*named, *coordinates]))
        served_values = _Served(repository, captured, planes, time)
        attributes = {**served_values.attributes(description), **noted}
        for served in served_values.arrays(attributes, extras=captured.forecast and not plain):
            arrays[served.name] = served.computed
            exact[served.name] = served.attributes
            create_computed(memory, served)
    pinned = repository.location.url, repository.records[-1].sequence, repository.era
    recipe = (*pinned, planes, plain, notes)
    return ReadingStore(memory, arrays, (open_view, recipe), exact)


def _served_variables(repository: Repository, planes: tuple[Plane, ...]) -> Iterator[Variable]:
    """Yield the variables that all planes have."""
    for variable in repository.settings.variables:
        if is_predicted(planes) and not variable.forecast:
            continue
        # A state has the variables that it was captured with.
        if not any(p.step is not None and p.step < variable.since for p in planes):
            yield variable


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
        if plane.step is not None:
            raw.append(np.frombuffer(repository.captured[plane.step].raw_time, dtype)[0])
        else:
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
    ) -> None:
        self.variable = variable
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
        # Values, errors and provenance are read one by one, and are one estimate.
        self._estimated = lru_cache(_ESTIMATES)(lambda k, index: self._parts(planes[k], index))

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

    def _array(
        self, name: str, part: int, dtype: np.dtype[Any], attributes: dict[str, Any]
    ) -> ServedArray:
        grid = self.variable.grid
        shape, chunks, counts = list(grid.shape), list(grid.chunks), list(grid.counts)
        dims = list(self.variable.dims)
        axis = self.variable.time_axis if self.time is not None else None
        if axis is not None and self.time is not None:
            shape.insert(axis, len(self.planes))
            chunks.insert(axis, 1)
            counts.insert(axis, len(self.planes))
            dims.insert(axis, self.time)

        def compute(index: Index) -> NDArray[Any]:
            if axis is None:
                return self._chunk(self.planes[0], index, part).astype(dtype, copy=False)
            inner = index[:axis] + index[axis + 1 :]
            cells = self._chunk(self.planes[index[axis]], inner, part)
            return np.expand_dims(cells.astype(dtype, copy=False), axis)

        computed = ComputedArray(tuple(chunks), tuple(counts), dtype, compute)
        return ServedArray(name, tuple(dims), tuple(shape), attributes, computed)

    def _chunk(self, plane: Plane, index: Index, part: int) -> NDArray[Any]:
        if self.variable.name in plane.estimators:
            return self._estimated(next(k for k, p in enumerate(self.planes) if p is plane), index)[
                part
            ]
        return self._parts(plane, index)[part]

    def _parts(self, plane: Plane, index: Index) -> tuple[NDArray[Any], ...]:
        shadow = self.shadows[plane.shadow] if plane.shadow is not None else None
        return plane_chunk(self.captures, shadow, plane, index, self.into)
