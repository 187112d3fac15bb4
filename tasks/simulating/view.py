"""A simulation as a dataset: lazy, with a dimension of members, and marked cell by cell."""

from collections.abc import Collection, Hashable
from functools import lru_cache, partial
from typing import Any

import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray
from zarr.storage import MemoryStore

from gnomon.storage.pin import Pin
from gnomon.storage.serve.reader import ComputedArray, ReadingStore
from gnomon.storage.serve.readings import served_description
from gnomon.storage.serve.template import ServedArray, create_computed, create_fixed
from gnomon.storage.serve.view import opened_dataset, raw_dataset
from gnomon.storage.values.attributes import NOTE, plain_attributes
from gnomon.storage.values.grid import Index
from gnomon.storage.values.meaning import RANGE
from gnomon.storage.values.scaling import PACKING
from gnomon.tasks.simulating.simulation import Request, Simulation, simulate

__all__ = ["member_dimension", "open_simulation", "simulated_dataset", "simulation_store"]


def simulated_dataset(simulation: Simulation) -> xr.Dataset:
    """Return a simulation as an undecoded, lazy dataset (member, time, ...)."""
    return opened_dataset(simulation_store(simulation))


def member_dimension(simulation: Simulation) -> str:
    """Return the name of the dimension of members: one that the dataset does not have."""
    settings = simulation.repository.settings
    taken = {*settings.dims, *settings.frame_entries, *(v.name for v in settings.variables)}
    taken |= {str(settings.source.time), str(settings.time_name)}
    return next(n for n in ("member", "realization", "simulated_member") if n not in taken)


def simulation_store(simulation: Simulation) -> ReadingStore:
    """Return a simulation as a read-only Zarr store, whose chunks are drawn when they are read."""
    repository, request = simulation.repository, simulation.request
    notes = simulation.attributes()
    base = raw_dataset(repository, simulation.shown, notes=_prefixed(notes))
    memory = MemoryStore()
    zarr.create_group(memory, attributes=plain_attributes(dict(base.attrs)))
    exact: dict[str, dict[str, Any]] = {"": dict(base.attrs)}
    member = member_dimension(simulation)
    fixed: dict[Hashable, xr.Variable] = {n: base.variables[n] for n in _fixed(simulation, base)}
    fixed[member] = xr.Variable(
        (member,),
        np.arange(request.members, dtype="<i4"),
        {"standard_name": "realization", "long_name": "simulated member", "units": "1"},
    )
    for name, variable in fixed.items():
        exact[str(name)] = dict(variable.attrs)
        create_fixed(memory, str(name), variable)
    arrays: dict[str, ComputedArray] = {}
    for name in simulation.drawn:
        for served in _served(simulation, base, name, fixed):
            arrays[served.name] = served.computed
            exact[served.name] = served.attributes
            create_computed(memory, served)
    recipe = (open_simulation, (Pin.of(repository), request))
    return ReadingStore(memory, arrays, recipe, exact)


def open_simulation(pin: Pin, request: Request) -> ReadingStore:
    """Rebuild a store in another process, pinned to the same commit and era."""
    pin.open()  # what was learnt before is of no use where another repository is by now
    return _rebuilt(pin, request)


@lru_cache(maxsize=2)
def _rebuilt(pin: Pin, request: Request) -> ReadingStore:
    """Return it, learnt once in each process."""
    return simulation_store(simulate(pin.open(), request))


def _prefixed(notes: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {
        name: {f"{NOTE}{key}": value for key, value in facts.items()}
        for name, facts in notes.items()
    }


def _fixed(simulation: Simulation, base: xr.Dataset) -> list[Hashable]:
    """Return the variables that are the same in all members, and small."""
    repository = simulation.repository
    constant = repository.fixed(served_description(repository, simulation.shown))
    captured = {v.name for v in repository.settings.variables}
    beside = {
        ancillary
        for name in captured & {*base.variables}
        for ancillary in str(base[name].attrs.get("ancillary_variables", "")).split()
    }
    return [n for n in base.variables if n not in captured and (n in constant or n not in beside)]


def _served(
    simulation: Simulation, base: xr.Dataset, name: str, fixed: Collection[Hashable]
) -> list[ServedArray]:
    """Return the values of a variable, and what marks them."""
    variable, reading = simulation.variables[name], simulation.readings[name]
    attributes = dict(base.variables[name].attrs)
    if reading.dtype != base.variables[name].dtype:  # numbers, whatever they were packed in
        attributes = {n: v for n, v in attributes.items() if n not in (*PACKING, *RANGE)}
    marks = f"{name}_provenance"
    named = str(attributes.get("ancillary_variables", "")).split()
    attributes["ancillary_variables"] = " ".join([*(n for n in named if n in fixed), marks])
    flags = dict(base.variables[marks].attrs)
    time = simulation.repository.settings.source.time
    axis = variable.time_axis if time is not None or len(simulation.shown) > 1 else None
    values = partial(_values, simulation, name, axis)
    provenance = partial(_provenance, simulation, name, axis)
    dims = [member_dimension(simulation), *map(str, base.variables[name].dims)]
    members, states = simulation.request.members, len(simulation.shown)
    shape, chunks, counts = list(variable.shape), list(variable.chunks), list(variable.grid.counts)
    if axis is not None:
        shape.insert(axis, states)
        chunks.insert(axis, 1)
        counts.insert(axis, states)
    shape, chunks, counts = [members, *shape], [1, *chunks], [members, *counts]
    cut = tuple(chunks), tuple(counts)
    return [
        ServedArray(
            name, tuple(dims), tuple(shape), attributes, ComputedArray(*cut, reading.dtype, values)
        ),
        ServedArray(
            marks, tuple(dims), tuple(shape), flags, ComputedArray(*cut, np.dtype("u1"), provenance)
        ),
    ]


def _place(axis: int | None, index: Index) -> tuple[int, int, Index]:
    """Return member, state and chunk of a chunk of the served array."""
    member, *inner = index
    plane = 0 if axis is None else inner.pop(axis)
    return member, plane, tuple(inner)


def _values(
    simulation: Simulation, name: str, axis: int | None, index: Index
) -> NDArray[np.generic]:
    member, plane, chunk = _place(axis, index)
    values = simulation.chunk(name, member, plane, chunk)
    return np.expand_dims(values, (0,) if axis is None else (0, axis + 1))


def _provenance(
    simulation: Simulation, name: str, axis: int | None, index: Index
) -> NDArray[np.uint8]:
    _, plane, chunk = _place(axis, index)
    flags = simulation.provenance(name, plane, chunk)
    return np.expand_dims(flags, (0,) if axis is None else (0, axis + 1))
