"""Write a simulation as a dataset of its own, or go through it for what it says in numbers."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from os import PathLike
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from gnomon.storage.serve.planes import PROVENANCE
from gnomon.storage.values.dtypes import native
from gnomon.storage.values.grid import Block
from gnomon.storage.values.times import format_instant
from gnomon.tasks.restoring.delivery import blaming, making, unfaithful, verify_rest
from gnomon.tasks.restoring.known import units_of
from gnomon.tasks.restoring.layout import in_blocks
from gnomon.tasks.restoring.restore import checked_target
from gnomon.tasks.restoring.targets.target import Layout, Target, Where
from gnomon.tasks.simulating.simulation import Simulation
from gnomon.tasks.simulating.view import simulated_dataset
from gnomon.tasks.work import Mapper, serial

__all__ = ["Simulated", "SimulatedState", "summarise", "write"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class SimulatedState:
    """What the members of one variable say of one time, in its units (labels: shares of cells)."""

    variable: str
    valid_time: str
    """ISO 8601."""
    lead: int
    cells: int
    """Cells that are simulated."""
    standard_error: float | None
    """Root mean square over these cells, as stated; of labels, the mean probability of another."""
    spread: float | None
    """Root mean square standard deviation of the members; of labels, the mean share of members
    that have another label than the predicted one. None of a single member, or without cells."""
    means: tuple[float, ...]
    """Of each member, the mean over these cells; of labels, the share with another label."""


@dataclass(frozen=True, slots=True)
class Simulated:
    """What a simulation gave."""

    summary: str
    """In one line."""
    members: int
    seed: int
    reference_time: str
    """When it was predicted, ISO 8601."""
    covariances: dict[str, str]
    """By variable, what the covariance rests on."""
    units: dict[str, str]
    states: tuple[SimulatedState, ...]
    target: str | None = None
    """What was written; None: nothing."""
    blocks: int = 0
    """Blocks that were written, read back and compared."""

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        document = {name: getattr(self, name) for name in self.__dataclass_fields__}
        states = [{n: getattr(s, n) for n in s.__dataclass_fields__} for s in self.states]
        return document | {"states": states}


@dataclass(slots=True)
class _Sums:
    """Of the cells of a block that are simulated."""

    cells: int = 0
    errors: float = 0.0
    variance: float = 0.0
    values: Floats = field(default_factory=lambda: np.zeros(0))
    written: list[object] = field(default_factory=list)
    blocks: int = 0


def summarise(simulation: Simulation, mapper: Mapper = serial) -> Simulated:
    """Return what the members say, without writing them."""
    jobs = _jobs(simulation)
    return _simulated(simulation, jobs, mapper(partial(_go_through, simulation, None), jobs))


def write(
    simulation: Simulation, to: str | PathLike[str] | Target, mapper: Mapper = serial
) -> Simulated:
    """Write a simulation to a target, and read back all that was written.

    The dataset appears under its name only when it is complete, verified and durable.

    Parameters
    ----------
    to
        As for `gnomon.tasks.restoring.restore.restore`, with the same errors.
    """
    target = checked_target(simulation.repository, to)
    dataset = simulated_dataset(simulation)
    layout = _layout(simulation, dataset)
    jobs = _jobs(simulation)
    with making(target) as draft:
        with blaming(target):
            draft.create(in_blocks(dataset, layout), layout)
        sums = mapper(partial(_go_through, simulation, draft), jobs)
        with blaming(target):
            verify_rest(dataset.drop_vars(layout), draft)
            draft.finish([part for each in sums for part in each.written])
    return _simulated(simulation, jobs, sums, target)


_Job = tuple[str, int, Block]
"""Variable, state, and block of cells."""


def _jobs(simulation: Simulation) -> list[_Job]:
    states = range(len(simulation.shown))
    return [
        (name, plane, block)
        for name, variable in simulation.variables.items()
        for plane in states
        for block in variable.grid.blocks()
    ]


def _layout(simulation: Simulation, dataset: xr.Dataset) -> dict[str, Layout]:
    """Return how the arrays are cut: each member and each time is by itself."""
    layout = {}
    for name, variable in simulation.variables.items():
        blocks = dict(zip(variable.dims, variable.shards, strict=True))
        chunks = dict(zip(variable.dims, variable.units, strict=True))
        for array in (name, f"{name}_provenance"):
            dims = list(map(str, dataset[array].dims))
            layout[array] = Layout(
                tuple(blocks.get(d, 1) for d in dims), tuple(chunks.get(d, 1) for d in dims)
            )
    return layout


def _go_through(simulation: Simulation, draft: Target | None, job: _Job) -> _Sums:
    """Draw a block of all members; write it and read it back if there is a target."""
    name, plane, block = job
    variable, members = simulation.variables[name], simulation.request.members
    shape = tuple(s.stop - s.start for s in block.cells)
    inner = list(variable.grid.inner(block))
    parts = [(simulation.expected(name, plane, index), cells) for index, _, cells in inner]
    values, errors, flags = (np.empty(shape, d) for d in (np.float64, np.float64, np.uint8))
    for (value, error, flag), cells in parts:
        where: tuple[Any, ...] = (..., *cells)
        values[where], errors[where], flags[where] = value, error, flag
    simulated = flags == PROVENANCE["simulated"]
    into = simulation.readings[name]
    raw = np.empty(shape, into.dtype)
    total, squares = np.zeros(int(simulated.sum())), np.zeros(int(simulated.sum()))
    sums = _Sums(int(simulated.sum()), values=np.zeros(members))
    for member in range(members):
        for index, _, cells in inner:
            place: tuple[Any, ...] = (..., *cells)
            raw[place] = simulation.chunk(name, member, plane, index)
        if draft is not None:
            for array, written in ((name, raw), (f"{name}_provenance", flags)):
                sums.written.append(
                    _write(draft, array, _where(simulation, name, member, plane, block), written)
                )
            sums.blocks += 1
        drawn = into.to_physical(raw)[simulated]
        if variable.categorical:
            drawn = (drawn != values[simulated]).astype(np.float64)
        sums.values[member] = drawn.sum()
        # About the prediction: a variance of numbers that hardly differ would be rounding.
        departure = drawn if variable.categorical else drawn - values[simulated]
        total += departure
        squares += departure**2
    if variable.categorical:
        sums.errors = float(errors[simulated].sum())
        sums.variance = float(total.sum()) / members
    else:
        sums.errors = float(np.nansum(errors[simulated] ** 2))
        variance = (squares - total**2 / members) / max(1, members - 1)
        sums.variance = float(np.nansum(variance))
    return sums


def _where(simulation: Simulation, name: str, member: int, plane: int, block: Block) -> Where:
    """Return the place of a block in the arrays."""
    variable = simulation.variables[name]
    cells: list[Any] = list(block.cells)
    time = simulation.repository.settings.source.time
    if time is not None or len(simulation.shown) > 1:
        cells.insert(variable.time_axis, plane)
    return (member, *cells)


def _write(draft: Target, name: str, where: Where, values: NDArray[Any]) -> object:
    """Write a block and compare what is read back; return what `finish` must know."""
    expected = native(values).tobytes()
    handed = values.copy()
    handed.flags.writeable = False
    with blaming(draft):
        written = draft.write(name, where, handed)
        stored = native(np.asarray(draft.read(name, where, values.dtype)))
    if stored.dtype != native(values).dtype or stored.tobytes() != expected:
        raise unfaithful(draft, f"{name} at {where}")
    return written


def _simulated(
    simulation: Simulation,
    jobs: Sequence[_Job],
    sums: Sequence[_Sums],
    target: Target | None = None,
) -> Simulated:
    """Return what the sums of blocks say together."""
    calendar = simulation.repository.settings.calendar
    states = []
    for name, variable in simulation.variables.items():
        for plane, shown in enumerate(simulation.shown):
            those = [s for s, job in zip(sums, jobs, strict=True) if job[:2] == (name, plane)]
            cells = sum(s.cells for s in those)
            error, variance = sum(s.errors for s in those), sum(s.variance for s in those)
            root = (lambda x: x) if variable.categorical else np.sqrt
            is_spread = cells and (simulation.request.members > 1 or variable.categorical)
            states.append(
                SimulatedState(
                    name,
                    format_instant(shown.instant, calendar),
                    simulation.lead(plane),
                    cells,
                    float(root(error / cells)) if cells else None,
                    float(root(variance / cells)) if is_spread else None,
                    tuple(map(float, np.sum([s.values for s in those], axis=0) / cells))
                    if cells
                    else (),
                )
            )
    return Simulated(
        simulation.summary(),
        simulation.request.members,
        simulation.request.seed,
        simulation.reference_time,
        {name: simulation.basis(name) for name in simulation.drawn},
        {n: u for n, u in units_of(simulation.repository).items() if n in simulation.variables},
        tuple(states),
        None if target is None else str(target),
        sum(s.blocks for s in sums),
    )
