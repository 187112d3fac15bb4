"""Restore points as datasets: which captured, predicted or healed states are served together.

A view is a list of planes, one per valid time.  Captured planes are the source's states and nothing
else.  Where any cell was not captured, two ancillary variables say where the cells come from:
``<var>_standard_error`` and ``<var>_provenance``.

The planes of one shadow can be served along their leads instead, as a forecast: with
``<var>_confidence`` and ``<var>_expected_error`` as well, and the valid times beside the leads.
"""

import pickle
import warnings
from collections.abc import Mapping
from typing import Any

import xarray as xr
import zarr
from zarr.storage import MemoryStore

from gnomon.storage.errors import GnomonError, Integrity, InvalidInput, NotFound
from gnomon.storage.pin import Pin
from gnomon.storage.recent import drop_oldest
from gnomon.storage.repository import Repository
from gnomon.storage.serve.cf import (
    WHOLE,
    referring_to,
    with_conventions,
)
from gnomon.storage.serve.coordinates import along_leads, along_time
from gnomon.storage.serve.planes import (
    Plane,
    is_predicted,
)
from gnomon.storage.serve.reader import ComputedArray, ReadingStore
from gnomon.storage.serve.readings import served_description
from gnomon.storage.serve.served import ServedVariable
from gnomon.storage.serve.template import create_computed, create_fixed
from gnomon.storage.values.attributes import plain_attributes
from gnomon.storage.values.documents import NONSENSE
from gnomon.storage.values.grid import Index
from gnomon.storage.values.model import Variable
from gnomon.storage.values.selection import EVERYTHING, Selection

__all__ = [
    "Notes",
    "open_view",
    "opened_dataset",
    "raw_dataset",
    "reading_store",
]

Notes = Mapping[str, Mapping[str, Any]]
"""Attributes that say what a view is, by variable; those of the dataset under the empty name."""
MOST_REBUILT = 2
"""Stores that a process keeps of those that it has rebuilt."""

_rebuilt: dict[bytes, ReadingStore] = {}


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
    return opened_dataset(store)


def opened_dataset(store: ReadingStore) -> xr.Dataset:
    """Return a reading store as an undecoded, lazy dataset, its attributes of their exact types.

    Raises
    ------
    Integrity
        It cannot be opened.
    """
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
    marked = _are_marked(planes, plain=plain, marks=marks)
    return _build(repository, planes, dict(notes or {}) if marked else None, selection, by_lead)


def _are_marked(planes: tuple[Plane, ...], *, plain: bool, marks: bool) -> bool:
    """Tell whether planes are given with marks; raises as :func:`raw_dataset`."""
    if plain and marks:
        raise InvalidInput("plain and marks were both asked for; take one of them")
    if plain and is_predicted(planes):
        raise InvalidInput("a predicted state cannot be plain: its cells must stay marked")
    return marks or is_predicted(planes)


def open_view(
    pin: Pin,
    planes: tuple[Plane, ...],
    notes: Notes | None,
    selection: Selection,
    by_lead: bool = False,
) -> ReadingStore:
    """Rebuild a reading store in another process, pinned to the same commit and era.

    One that this process has rebuilt lately is given again: Dask opens it anew for every array
    whose name it makes, and for every task.
    """
    key = pickle.dumps((pin, planes, notes, selection, by_lead))
    store = _rebuilt.get(key)
    if store is None or not pin.is_there():
        store = _build(pin.open(), planes, notes, selection, by_lead)
        _rebuilt[key] = store
        drop_oldest(_rebuilt, MOST_REBUILT)
    return store


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
        served_values = ServedVariable(
            repository, captured, planes, dim, selection, by_lead=by_lead
        )
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
    recipe = (Pin.of(repository), planes, notes, selection, by_lead)
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
