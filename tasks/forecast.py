"""Forecast: bring the forecaster's state up to the newest capture, chunk by chunk.

A roll-forward reads the state and the captures since; a refit, or a chunk whose state is damaged,
reads the window.  Suspect and damaged chunks are passed over, never learnt.  The state is written
as it will be committed, with its digests.
"""

from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from gnomon.storage.batch import Batch, Entry, fresh_id
from gnomon.storage.captures import CaptureStack
from gnomon.storage.forecaster import create_state, state_digest, state_grid
from gnomon.storage.grid import Block, Index
from gnomon.storage.repository import Repository
from gnomon.storage.slab import create_table
from gnomon.storage.times import SECOND
from gnomon.tasks.expectation import Expectation, forecaster_of, known_state
from gnomon.tasks.features import Features, window
from gnomon.tasks.forecasting import State, layout, learn, pack, roll
from gnomon.tasks.trusted import trusted_values
from gnomon.tasks.work import Mapper

__all__ = ["Learnt", "forecast"]


@dataclass(frozen=True, slots=True)
class Learnt:
    """The forecaster's new state, written but not yet committed."""

    id: str
    """Folder of the commit to be."""
    sequence: int
    """The commit that it was learnt from."""
    step: int
    """The newest captured step, in time, that the state knows."""
    features: dict[str, Features]
    """How each variable is forecast."""
    states: dict[str, dict[str, Any]]
    """Root of the state's index, rows and columns, by variable."""
    gated: dict[str, tuple[tuple[int, Index, float], ...]]
    """At a refit: captured chunks that history itself did not believe: step, chunk, p-value."""
    entries: dict[str, Entry]
    """The objects that were written."""


def forecast(repository: Repository, found: dict[str, Features], mapper: Mapper) -> Learnt:
    """Learn what was captured since the last forecast, and write the new state."""
    batch = Batch(repository.location, fresh_id(len(repository.records)))
    states: dict[str, dict[str, Any]] = {}
    gated: dict[str, tuple[tuple[int, Index, float], ...]] = {}
    pinned = (repository.location.url, repository.records[-1].sequence)
    for name, features in found.items():
        variable = repository.settings.variable(name)
        path = f"forecaster/{batch.id}/{variable.folder}"
        shape = layout(features.specification)
        grid = state_grid(variable.grid, shape.rows)
        create_state(batch, path, grid, shape.rows, shape.length)
        blocks = list(grid.blocks())
        results = mapper(partial(_forecast_block, pinned, batch.id, name, features), blocks)
        digests = np.zeros((*grid.counts, 2), np.int64)
        refused: list[tuple[int, Index, float]] = []
        for block, (part, doubts, entries) in zip(blocks, results, strict=True):
            digests[block.chunks] = part
            refused += doubts
            batch.merge(entries)
        columns = ["digest_high", "digest_low"]
        root = create_table(batch, f"{path}/index", digests, columns)
        states[name] = {"root": root, "rows": shape.rows, "columns": shape.length}
        gated[name] = tuple(refused)
    newest = repository.timeline[-1].step
    return Learnt(batch.id, pinned[1], newest, dict(found), states, gated, batch.entries)


def _forecast_block(
    pinned: tuple[str, int], commit: str, name: str, features: Features, block: Block
) -> tuple[NDArray[np.int64], list[tuple[int, Index, float]], dict[str, Entry]]:
    """Bring the state of one block up to date; runs on a worker."""
    repository = Repository.open(pinned[0]).at(pinned[1])
    variable = repository.settings.variable(name)
    captures = repository.captures(name)
    batch = Batch(repository.location, commit)
    path = f"forecaster/{commit}/{variable.folder}"
    stored_cells = zarr.open_array(batch.store(), path=f"{path}/cells", mode="r+")
    stored_shared = zarr.open_array(batch.store(), path=f"{path}/shared", mode="r+")
    digests = np.zeros((*block.grid, 2), np.int64)
    shape = tuple(s.stop - s.start for s in block.cells)
    all_cells = np.zeros((stored_cells.shape[0], *shape))
    all_shared = np.zeros((stored_shared.shape[0], *block.grid))
    doubts: list[tuple[int, Index, float]] = []
    before = None if features.refit else forecaster_of(repository, name)
    numbers = _since_forecast(repository)
    accepted = repository.state.accepted.get(name, frozenset())
    for index, local, cells in variable.grid.inner(block):
        known = None if before is None else known_state(before[2], features.specification, index)
        if known is None:
            state, refused = _learn_chunk(repository, captures, features, index, accepted)
            doubts += [(step, index, p) for step, p in refused]
        else:
            state = _roll_chunk(repository, captures, features, index, known, numbers)
        flat, shared = pack(features.specification, state)
        digests[local] = state_digest(name, index, flat, shared)
        where: tuple[Any, ...] = (slice(None), *cells)
        all_cells[where] = flat.reshape(all_cells[where].shape)
        place: tuple[Any, ...] = (slice(None), *local)
        all_shared[place] = shared
    stored_cells[(slice(None), *block.cells)] = all_cells
    stored_shared[(slice(None), *block.chunks)] = all_shared
    return digests, doubts, batch.entries


def _since_forecast(repository: Repository) -> list[int]:
    """Return the captures later in time than what the newest state knows, in order."""
    record = repository.forecaster
    known = None if record is None else repository.captured[int(record.body["step"])].instant
    return [s.step for s in repository.timeline if known is None or s.instant > known]


def _values(captures: CaptureStack, step: int, index: Index) -> NDArray[np.float64] | None:
    """Return the values (cell,) of a chunk; None if it is not to be learnt from."""
    values = trusted_values(captures, step, index)
    return None if values is None else np.where(np.isfinite(values), values, np.nan).ravel()


def _learn_chunk(
    repository: Repository,
    captures: CaptureStack,
    features: Features,
    index: Index,
    accepted: frozenset[tuple[int, Index]],
) -> tuple[State, list[tuple[int, float]]]:
    numbers = window(repository, captures.variable)
    steps: list[int] = []
    slots: list[int] = []
    for step in numbers:
        slot = features.cadence.slot(repository.captured[step].instant)
        if not slots or slot > slots[-1]:
            steps.append(step)
            slots.append(slot)
    times_s = np.array([repository.captured[s].instant for s in steps]) / SECOND
    found = [_values(captures, s, index) for s in steps]
    trusted = np.array([values is not None for values in found])
    nothing = np.full(prod(s.stop - s.start for s in captures.variable.grid.cells(index)), np.nan)
    values = np.stack([nothing if v is None else v for v in found])
    gates = np.array([0.0 if (s, index) in accepted else Expectation.GATE for s in steps])
    spec, numbered = features.specification, np.array(slots)
    state, p_values = learn(spec, numbered, times_s, values, trusted, gate=gates)
    refused = [
        (step, float(p))
        for step, p, gate, ok in zip(steps, p_values, gates, trusted, strict=True)
        if ok and p < gate
    ]
    return state, refused


def _roll_chunk(
    repository: Repository,
    captures: CaptureStack,
    features: Features,
    index: Index,
    state: State,
    numbers: list[int],
) -> State:
    spec = features.specification
    for step in numbers:
        instant = repository.captured[step].instant
        slot = features.cadence.slot(instant)
        if slot <= state.slot:
            continue
        values = _values(captures, step, index)
        if values is None:
            values = np.full(state.shift.shape[-1], np.nan)
        state = roll(spec, state, slot, instant / SECOND, values)
    return state
