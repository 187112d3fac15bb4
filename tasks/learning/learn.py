"""Forecast: bring the forecaster's state up to the newest capture, chunk by chunk.

A roll-forward reads the state and the captures since; a refit, or a chunk whose state is damaged,
reads the window.  Suspect and damaged chunks are passed over, never learnt.  The state is written
as it will be committed, with its digests.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gnomon.storage.arrays.tables import create_table
from gnomon.storage.log.bodies.shadow import LearntEntry
from gnomon.storage.log.conflicts import Work
from gnomon.storage.log.folders import state_of
from gnomon.storage.log.staging import Batch, Entry, fresh_id
from gnomon.storage.repository import Repository
from gnomon.storage.stacks.captures import CaptureStack
from gnomon.storage.stacks.forecaster import (
    create_outlook,
    create_state,
    pack_state,
    state_digest,
    state_grid,
    write_state,
)
from gnomon.storage.values.grid import Block, ChunkGrid, Index
from gnomon.storage.values.times import SECOND
from gnomon.tasks.forecasting import (
    GATE,
    Outlook,
    State,
    Telling,
    drifted,
    join,
    learn,
    pack,
    roll,
    rows,
    usable,
)
from gnomon.tasks.learning.expectation import Forecaster, forecaster_of
from gnomon.tasks.learning.features import Features, gated, window
from gnomon.tasks.learning.trusted import trusted_values
from gnomon.tasks.work import Mapper

__all__ = ["PendingState", "forecast", "groups"]

WINDOW_BYTES = 2**25
"""Captures of the chunks that are learnt together, as float64; more only for a single chunk."""


Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PendingState:
    """The forecaster's new state, written but not yet committed."""

    id: str
    """Folder of the commit to be."""
    sequence: int
    """The commit that it was learnt from."""
    step: int
    """The newest captured step, in time, that the state knows."""
    features: dict[str, Features]
    """How each variable is forecast."""
    states: dict[str, LearntEntry]
    """What the record will say of it, by variable."""
    gated: dict[str, tuple[tuple[int, Index, float], ...]]
    """At a refit: captured chunks that history itself did not believe: step, chunk, p-value."""
    entries: dict[str, Entry]
    """The objects that were written."""
    reads: frozenset[int]
    """Captures that may have been read."""
    failed_candidates: dict[str, str]
    """Candidates of the user's choice that failed meanwhile or before, and why."""

    def work(self, era: int, bases: Sequence[int] = ()) -> Work:
        """Return what commits of others may make stale.

        Parameters
        ----------
        era
            The present one.
        bases
            Captures that the shadow is counted from.
        """
        steps = frozenset([self.step, *bases])
        return Work("shadow", self.sequence, era, self.id, self.reads | steps, steps)


def forecast(repository: Repository, by_name: dict[str, Features], mapper: Mapper) -> PendingState:
    """Learn what was captured since the last forecast, and write the new state."""
    batch = Batch(repository.location, fresh_id(len(repository.records)))
    states: dict[str, LearntEntry] = {}
    gated: dict[str, tuple[tuple[int, Index, float], ...]] = {}
    pinned = (repository.location.url, repository.records[-1].sequence)
    failed: dict[str, str] = {}
    for name, features in by_name.items():
        failed = features.failed_candidates | failed
        variable = repository.settings.variable(name)
        path = state_of(batch.id, variable)
        cells, columns = rows(features.specification)
        grid = state_grid(variable.grid, cells)
        create_state(batch, path, grid, cells, columns)
        blocks = list(grid.blocks())
        job = partial(_forecast_block, pinned, batch.id, name, features, grid)
        results = mapper(Telling(job), blocks)
        digests = np.zeros((*grid.counts, 2), np.int64)
        refused: list[tuple[int, Index, float]] = []
        moved = 0
        for block, (result, failures) in zip(blocks, results, strict=True):
            digests[block.chunks] = result.digests
            refused += result.doubts
            moved += result.drifted
            failed = failures | failed
            batch.merge(result.entries)
        root = create_table(batch, f"{path}/index", digests, ["digest_high", "digest_low"])
        states[name] = LearntEntry(
            root=root,
            rows=cells,
            columns=columns,
            outlook=create_outlook(batch, path, features.outlook.pack()),
            specification=features.specification.to_json(),
            cadence=features.cadence.to_json(),
            sample=features.sample,
            refit=features.refit,
            refit_captures=features.refit_captures,
            drifted=moved / max(1, grid.size),
        )
        gated[name] = tuple(refused)
    reads = set(_since_forecast(repository))
    for name in by_name:
        reads.update(window(repository, repository.settings.variable(name)))
    return PendingState(
        batch.id,
        pinned[1],
        repository.timeline[-1].step,
        dict(by_name),
        states,
        gated,
        batch.entries,
        frozenset(reads),
        failed,
    )


@dataclass(frozen=True, slots=True)
class _Block:
    """What a worker returns of its block."""

    digests: NDArray[np.int64]
    doubts: list[tuple[int, Index, float]]
    drifted: int
    entries: dict[str, Entry]


def _forecast_block(
    pinned: tuple[str, int],
    commit: str,
    name: str,
    features: Features,
    grid: ChunkGrid,
    block: Block,
) -> _Block:
    """Bring the state of one block up to date; runs on a worker."""
    repository = Repository.open(pinned[0]).at(pinned[1])
    variable = repository.settings.variable(name)
    spec = features.specification
    batch = Batch(repository.location, commit)
    path = state_of(commit, variable)
    packed: dict[Index, bytes] = {}
    digests = np.zeros((*block.grid, 2), np.int64)
    all_shared = np.zeros((rows(spec)[1], *block.grid))
    work = _Work(repository, repository.captures(name), features)
    doubts: list[tuple[int, Index, float]] = []
    moved = 0
    places = {index: (local, cells) for index, local, cells in variable.grid.inner(block)}
    for indices, state in work.states(list(places), doubts):
        moved += int(drifted(state).sum())
        flat, shared = pack(spec, state)
        for k, index in enumerate(indices):
            local, cells = places[index]
            part = flat[:, state.starts[k] : state.starts[k + 1]]
            digests[local] = state_digest(name, index, part, shared[:, k])
            shape = tuple(s.stop - s.start for s in cells)
            packed[local] = pack_state(grid, part.reshape(len(part), *shape))
            place: tuple[Any, ...] = (slice(None), *local)
            all_shared[place] = shared[:, k]
    write_state(batch, path, grid, block, packed, all_shared)
    return _Block(digests, doubts, moved, batch.entries)


def groups(grid: ChunkGrid, indices: list[Index], nbytes: int) -> Iterator[list[Index]]:
    """Yield chunks that are worked on together, some `WINDOW_BYTES` of them.

    Parameters
    ----------
    nbytes
        Memory that one cell takes.
    """
    group: list[Index] = []
    size = 0
    for index in indices:
        chunk_nbytes = nbytes * prod(s.stop - s.start for s in grid.cells(index))
        if group and size + chunk_nbytes > WINDOW_BYTES:
            yield group
            group, size = [], 0
        group.append(index)
        size += chunk_nbytes
    if group:
        yield group


@dataclass(frozen=True, slots=True)
class _Work:
    """What a worker needs to bring chunks up to date."""

    repository: Repository
    captures: CaptureStack
    features: Features
    passed: dict[int, Outlook] = field(default_factory=dict)
    """Outlooks at slots since the last forecast: candidates of the modes may be slow."""

    def states(
        self, indices: list[Index], doubts: list[tuple[int, Index, float]]
    ) -> Iterator[tuple[list[Index], State]]:
        """Yield the states of some chunks at a time; what is not believed joins `doubts`."""
        grid = self.captures.variable.grid
        before: Forecaster | None = None
        if self.features.refit is None:
            before = forecaster_of(self.repository, self.captures.variable.name)
        anew: list[Index] = []
        if before is None:
            anew = indices
        else:
            per_cell = 8 * (rows(self.features.specification)[0] + 1)
            for group in groups(grid, indices, per_cell):
                learnt = {i: s for i in group if (s := before.state(i)) is not None}
                anew += [index for index in group if index not in learnt]
                if learnt:
                    yield list(learnt), self._rolled(before, list(learnt), join([*learnt.values()]))
        count = len(window(self.repository, self.captures.variable))
        for group in groups(grid, anew, 8 * count):
            yield group, self._learnt(group, doubts)

    def _values(self, step: int, indices: list[Index]) -> tuple[Floats, NDArray[np.bool_]]:
        """Values (cell,) of some chunks, and which may be learnt from (chunk,)."""
        grid = self.captures.variable.grid
        parts, trusted = [], []
        for index in indices:
            values = trusted_values(self.captures, step, index)
            trusted.append(values is not None)
            if values is None:
                size = prod(s.stop - s.start for s in grid.cells(index))
                parts.append(np.full(size, np.nan))
            else:
                parts.append(values.ravel())
        return usable(np.concatenate(parts)), np.array(trusted)

    def _learnt(self, indices: list[Index], doubts: list[tuple[int, Index, float]]) -> State:
        repository, features, variable = self.repository, self.features, self.captures.variable
        steps: list[int] = []
        slots: list[int] = []
        for step in window(repository, variable):
            slot = features.cadence.slot(repository.captured[step].instant)
            if not slots or slot > slots[-1]:
                steps.append(step)
                slots.append(slot)
        sizes = [prod(s.stop - s.start for s in variable.grid.cells(i)) for i in indices]
        values = np.empty((len(steps), sum(sizes)))
        trusted = np.empty((len(steps), len(indices)), bool)
        for k, step in enumerate(steps):
            values[k], trusted[k] = self._values(step, indices)
        accepted = repository.state.accepted.get(variable.name, frozenset())
        doubtful = gated(steps, indices, accepted)
        learnt = learn(
            features.specification,
            np.array(slots),
            np.array([repository.captured[s].instant for s in steps]) / SECOND,
            values,
            np.concatenate([[0], np.cumsum(sizes)]),
            trusted=trusted,
            gated=doubtful,
            amplitudes=features.outlook.amplitudes,
        )
        for k, place in zip(
            *np.nonzero(trusted & doubtful & (learnt.p_values < GATE)), strict=True
        ):
            doubts.append((steps[k], indices[place], float(learnt.p_values[k, place])))
        return learnt.state

    def _rolled(self, before: Forecaster, indices: list[Index], state: State) -> State:
        outlook = self.features.outlook
        for step in _since_forecast(self.repository):
            instant = self.repository.captured[step].instant
            slot = self.features.cadence.slot(instant)
            if slot <= state.slot:
                continue
            values, trusted = self._values(step, indices)
            spec, time_s = self.features.specification, instant / SECOND
            past = before.outlook
            if state.slot != past.slot:
                if state.slot not in self.passed:
                    self.passed[state.slot] = outlook.at(spec, state.slot)
                past = self.passed[state.slot]
            state = roll(spec, state, past, slot, time_s, values, trusted=trusted)
        return state


def _since_forecast(repository: Repository) -> list[int]:
    """Return the captures later in time than what the newest state knows, in order."""
    record = repository.forecaster
    instant = None if record is None else repository.captured[record.step].instant
    return [s.step for s in repository.timeline if instant is None or s.instant > instant]
