"""Restore points as datasets: which captured, predicted or healed states are served together.

A view is a list of planes, one per valid time.  Where the cells of each come from stands in two
ancillary variables: ``<var>_standard_error`` and ``<var>_provenance``.

The planes of one shadow can be served along their leads instead, as a forecast: with
``<var>_confidence`` and ``<var>_expected_error`` as well, and the valid times beside the leads.
"""

import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray
from zarr.storage import MemoryStore

from gnomon.storage.errors import GnomonError, Integrity, InvalidInput
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
from gnomon.storage.values.grid import Index
from gnomon.storage.values.meaning import RANGE, read_alike
from gnomon.storage.values.model import Variable
from gnomon.storage.values.scaling import PACKING

__all__ = [
    "Notes",
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
    by_lead: bool = False,
    notes: Notes | None = None,
) -> xr.Dataset:
    """Return planes as an undecoded, lazy dataset laid out like the source.

    Parameters
    ----------
    plain
        Leave out standard errors, provenance and notes; only for planes that were captured.
    by_lead
        Stack the planes, which are of one shadow, along their leads and not along time.
    notes
        What the view says of itself, beside the source's attributes.

    Raises
    ------
    InvalidInput
        Something predicted was to be plain.
    """
    store = reading_store(repository, planes, plain=plain, by_lead=by_lead, notes=notes)
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
    by_lead: bool = False,
    notes: Notes | None = None,
) -> ReadingStore:
    """Return planes as a read-only Zarr store; see :func:`raw_dataset`."""
    if plain and is_predicted(planes):
        raise InvalidInput("a predicted state cannot be plain: its cells must stay marked")
    return _build(repository, planes, plain, {} if plain else dict(notes or {}), by_lead)


def open_view(
    url: str,
    sequence: int,
    era: int,
    planes: tuple[Plane, ...],
    plain: bool,
    notes: Notes,
    by_lead: bool = False,
) -> ReadingStore:
    """Rebuild a reading store in another process, pinned to the same commit and era."""
    return _build(Repository.open(url).at(sequence).in_era(era), planes, plain, notes, by_lead)


def _build(
    repository: Repository, planes: tuple[Plane, ...], plain: bool, notes: Notes, by_lead: bool
) -> ReadingStore:
    try:
        return _laid_out(repository, planes, plain, notes, by_lead)
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
    repository: Repository, planes: tuple[Plane, ...], plain: bool, notes: Notes, by_lead: bool
) -> ReadingStore:
    memory = MemoryStore()
    description = served_description(repository, planes)
    described = {**description.attributes, **notes.get("", {})}
    if not plain:
        described = with_conventions(described)
    zarr.create_group(memory, attributes=plain_attributes(described))
    constant = repository.fixed(description)
    along = along_leads if by_lead else along_time
    dim, coordinates, auxiliary = along(repository, planes, constant, description)
    for coordinate in coordinates.values() if not plain else ():
        coordinate.attrs.pop(WHOLE, None)
    fixed: dict[Any, xr.Variable] = {**constant, **coordinates}
    served_variables = list(_served_variables(repository, planes))
    exact: dict[str, dict[str, Any]] = {"": described}
    arrays: dict[str, ComputedArray] = {}
    there = {*map(str, fixed), *(v.name for v in served_variables)}
    there |= set(str(description.attributes.get("external_variables", "")).split())
    is_whole = not is_predicted(planes)
    for captured in served_variables:
        served_values = _Served(repository, captured, planes, dim, by_lead=by_lead)
        attributes = served_values.attributes(description)
        if not is_whole:
            attributes = referring_to(attributes, there)
        if auxiliary:
            named = str(attributes.get("coordinates", "")).split()
            attributes["coordinates"] = " ".join(dict.fromkeys([*named, *auxiliary]))
        attributes |= notes.get(captured.name, {})
        if not plain:
            attributes.pop(WHOLE, None)
        extras = captured.forecast and not plain
        for served in served_values.arrays(attributes, extras=extras):
            arrays[served.name] = served.computed
            exact[served.name] = served.attributes
            create_computed(memory, served)
        if extras and by_lead:
            name, errors = served_values.expected_error(attributes)
            fixed[name] = errors
    for name, variable in fixed.items():
        told = dict(variable.attrs) if is_whole else referring_to(variable.attrs, there)
        exact[str(name)] = told
        create_fixed(memory, str(name), xr.Variable(variable.dims, variable.values, told))
    pinned = repository.location.url, repository.records[-1].sequence, repository.era
    recipe = (*pinned, planes, plain, notes, by_lead)
    return ReadingStore(memory, arrays, (open_view, recipe), exact)


def _served_variables(repository: Repository, planes: tuple[Plane, ...]) -> Iterator[Variable]:
    """Yield the variables that all planes have."""
    ids = {plane.shadow for plane in planes}
    shadows = [shadow for shadow in repository.shadows if shadow.id in ids]
    for variable in repository.settings.variables:
        if is_predicted(planes) and not variable.forecast:
            continue
        if any(variable.name not in shadow.variables for shadow in shadows):
            continue  # it came after the forecast was made
        # A state has the variables that it was captured with.
        if not any(p.step is not None and p.step < variable.since for p in planes):
            yield variable


class _Served:
    """The arrays that a view serves for one variable."""

    def __init__(
        self,
        repository: Repository,
        variable: Variable,
        planes: tuple[Plane, ...],
        dim: str | None,
        *,
        by_lead: bool,
    ) -> None:
        self.repository = repository
        self.variable = variable
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

    def _array(
        self, name: str, part: int, dtype: np.dtype[Any], attributes: dict[str, Any]
    ) -> ServedArray:
        grid = self.variable.grid
        shape, chunks, counts = list(grid.shape), list(grid.chunks), list(grid.counts)
        dims = list(self.variable.dims)
        axis = self.variable.time_axis if self.dim is not None else None
        if axis is not None and self.dim is not None:
            shape.insert(axis, len(self.planes))
            chunks.insert(axis, 1)
            counts.insert(axis, len(self.planes))
            dims.insert(axis, self.dim)

        def compute(index: Index) -> NDArray[Any]:
            if axis is None:
                return self._chunk(self.planes[0], index, part).astype(dtype, copy=False)
            inner = index[:axis] + index[axis + 1 :]
            cells = self._chunk(self.planes[index[axis]], inner, part)
            return np.expand_dims(cells.astype(dtype, copy=False), axis)

        computed = ComputedArray(tuple(chunks), tuple(counts), dtype, compute)
        return ServedArray(name, tuple(dims), tuple(shape), attributes, computed)

    def _chunk(self, plane: Plane, index: Index, part: int) -> NDArray[Any]:
        shadow = self.shadows[plane.shadow] if plane.shadow is not None else None
        result: NDArray[Any] = plane_chunk(self.captures, shadow, plane, index, self.into)[part]
        return result
