"""Forecast: bring the forecaster's state up to the newest capture, chunk by chunk.

A roll-forward reads the state and the captures since; a refit reads the window.  Suspect chunks
are passed over, never learnt.  The state is written as it will be committed, with its digests.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
import zarr
from numpy.typing import NDArray

from gnomon.storage.captures import CaptureStack
from gnomon.storage.forecaster import ForecasterState, create_state, state_digest
from gnomon.storage.grid import Block, Index
from gnomon.storage.model import TRUSTED
from gnomon.storage.repository import Repository, fresh_id
from gnomon.storage.slab import create_index
from gnomon.storage.times import SECOND
from gnomon.tasks.expectation import Expectation, forecaster_of
from gnomon.tasks.features import Features, window
from gnomon.tasks.forecasting import State, layout, learn, pack, roll, unpack
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
    """The last captured step that the state knows."""
    features: dict[str, Features]
    """How each variable is forecast."""
    roots: dict[str, str]
    """Root of the state's index by variable."""
    gated: dict[str, tuple[tuple[int, Index, float], ...]]
    """At a refit: captured chunks that history itself did not believe: step, chunk, p-value."""


def forecast(repository: Repository, found: dict[str, Features], mapper: Mapper) -> Learnt:
    """Learn what was captured since the last forecast, and write the new state."""
    commit = fresh_id(len(repository.records))
    roots: dict[str, str] = {}
    gated: dict[str, tuple[tuple[int, Index, float], ...]] = {}
    for name, features in found.items():
        variable = repository.settings.variable(name)
        path = f"forecaster/{commit}/{variable.folder}"
        shape = layout(features.specification)
        create_state(repository.location, path, variable.grid, shape.rows, shape.length)
        blocks = list(variable.grid.blocks())
        pinned = (repository.location.url, repository.records[-1].sequence)
        results = mapper(partial(_forecast_block, pinned, commit, name, features), blocks)
        digests = np.zeros((*variable.grid.counts, 2), np.int64)
        refused: list[tuple[int, Index, float]] = []
        for block, (part, doubts) in zip(blocks, results, strict=True):
            digests[block.chunks] = part
            refused += doubts
        columns = ["digest_high", "digest_low"]
        roots[name] = create_index(repository.location, f"{path}/index", digests, columns)
        gated[name] = tuple(refused)
    sequence = repository.records[-1].sequence
    return Learnt(commit, sequence, len(repository.steps) - 1, dict(found), roots, gated)


def _forecast_block(
    pinned: tuple[str, int], commit: str, name: str, features: Features, block: Block
) -> tuple[NDArray[np.int64], list[tuple[int, Index, float]]]:
    """Bring the state of one block up to date; runs on a worker."""
    repository = Repository.open(pinned[0]).at(pinned[1])
    variable = repository.settings.variable(name)
    captures = repository.captures(name)
    store = repository.location.zarr_store(read_only=False)
    path = f"forecaster/{commit}/{variable.folder}"
    stored_cells = zarr.open_array(store, path=f"{path}/cells", mode="r+")
    stored_shared = zarr.open_array(store, path=f"{path}/shared", mode="r+")
    digests = np.zeros((*block.grid, 2), np.int64)
    all_shared = np.zeros((*block.grid, layout(features.specification).length))
    doubts: list[tuple[int, Index, float]] = []
    before = None if features.refit else forecaster_of(repository, name)
    known = int(repository.forecaster.body["step"]) if repository.forecaster else -1
    accepted = _accepted(repository, name)
    for index, local, _ in variable.grid.inner(block):
        if before is None:
            state, refused = _learn_chunk(repository, captures, features, index, accepted)
            doubts += [(step, index, p) for step, p in refused]
        else:
            state = _roll_chunk(repository, captures, features, index, before[2], known)
        cells, shared = pack(features.specification, state)
        digests[local] = state_digest(name, index, cells, shared)
        shape = [s.stop - s.start for s in variable.grid.cells(index)]
        stored_cells[:, *variable.grid.cells(index)] = cells.reshape(cells.shape[0], *shape)
        all_shared[local] = shared
    stored_shared[block.chunks] = all_shared
    return digests, doubts


def _values(captures: CaptureStack, step: int, index: Index) -> NDArray[np.float64]:
    values = captures.variable.to_physical(captures.chunk(step, index)).ravel()
    return np.where(np.isfinite(values), values, np.nan)


def _accepted(repository: Repository, name: str) -> set[tuple[int, Index]]:
    """Return the chunks, as (step, index), that a person holds for true, believable or not."""
    found: set[tuple[int, Index]] = set()
    for record in repository.records:
        if record.kind == "verdict" and "judged_by" in record.body:
            for entry in record.body["chunks"]:
                if entry["variable"] == name:
                    key = (int(entry["step"]), tuple(entry["chunk"]))
                    (found.add if entry["status"] == TRUSTED else found.discard)(key)
    return found


def _learn_chunk(
    repository: Repository,
    captures: CaptureStack,
    features: Features,
    index: Index,
    accepted: set[tuple[int, Index]],
) -> tuple[State, list[tuple[int, float]]]:
    numbers = window(repository, captures.variable)
    steps: list[int] = []
    slots: list[int] = []
    for step in numbers:
        slot = features.cadence.slot(repository.steps[step].instant)
        if not slots or slot > slots[-1]:
            steps.append(step)
            slots.append(slot)
    times_s = np.array([repository.steps[s].instant for s in steps]) / SECOND
    values = np.stack([_values(captures, s, index) for s in steps])
    trusted = np.array([captures.status(s)[index] == TRUSTED for s in steps])
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
    stored: ForecasterState,
    known: int,
) -> State:
    spec = features.specification
    state = unpack(spec, *stored.chunk(index))
    for step in range(known + 1, len(repository.steps)):
        instant = repository.steps[step].instant
        slot = features.cadence.slot(instant)
        if slot <= state.slot:
            continue
        values = _values(captures, step, index)
        if captures.status(step)[index] != TRUSTED:
            values = np.full_like(values, np.nan)
        state = roll(spec, state, slot, instant / SECOND, values)
    return state
