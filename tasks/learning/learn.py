"""Forecast: bring the forecaster's state up to the newest capture, chunk by chunk.

A roll-forward reads the state and the captures since; a refit, or a chunk whose state is damaged,
reads the window.  Suspect and damaged chunks are passed over, never learnt.  The state is written
as it will be committed, with its digests: all of it at a refit, and when a few captures have been
learnt since; in between, only what these captures do not give back.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import batched
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gnomon.storage.log.bodies.shadow import LearntEntry
from gnomon.storage.log.conflicts import Work
from gnomon.storage.log.folders import state_of
from gnomon.storage.log.staging import Batch, Entry, fresh_id
from gnomon.storage.pin import Pin
from gnomon.storage.repository import Repository
from gnomon.storage.stacks.captures import CaptureStack
from gnomon.storage.stacks.forecaster import (
    create_carried,
    create_onward,
    create_outlook,
    create_state,
    create_state_tables,
    state_grid,
    write_state,
)
from gnomon.storage.values.grid import Block, ChunkGrid, Index
from gnomon.storage.values.times import SECOND
from gnomon.tasks.forecasting import (
    CARRIED,
    GATE,
    Outlook,
    State,
    Telling,
    drifted,
    exponents,
    learn,
    pack,
    roll,
    rows,
    usable,
)
from gnomon.tasks.learning.corrections import corrections, since_forecast
from gnomon.tasks.learning.expectation import Forecaster, forecaster_of
from gnomon.tasks.learning.features import Features, gated, window
from gnomon.tasks.learning.refit import MOST_ROLLED
from gnomon.tasks.learning.trusted import trusted_field
from gnomon.tasks.work import Mapper

__all__ = ["PendingState", "forecast", "groups"]

MOST_ITEMS = 256
"""Pieces of work that a variable is cut into, at most: each opens what was learnt before."""
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

    @property
    def went_on(self) -> bool:
        """Whether some of it stays where it was written before."""
        return any(entry.anchor for entry in self.states.values())

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


def forecast(
    repository: Repository,
    by_name: dict[str, Features],
    mapper: Mapper,
    *,
    trusts_ledger: bool = True,
) -> PendingState:
    """Learn what was captured since the last forecast, and write the new state.

    Parameters
    ----------
    trusts_ledger
        Whether a state that was sound when the newest capture was compared with it is taken to be
        so still: then it need not be read.
    """
    batch = Batch(repository.location, fresh_id(len(repository.records)))
    states: dict[str, LearntEntry] = {}
    gated: dict[str, tuple[tuple[int, Index, float], ...]] = {}
    sequence = repository.records[-1].sequence
    failed: dict[str, str] = {}
    for name, features in by_name.items():
        failed = features.failed_candidates | failed
        learning = _Learning(repository, batch, name, features, mapper, trusts_ledger)
        entry, doubts = learning.went_on() or learning.written()
        states[name], gated[name] = entry, doubts
        failed = learning.failed | failed
    reads = set(since_forecast(repository))
    for name, entry in states.items():
        reads.update(window(repository, repository.settings.variable(name)), entry.rolled)
    return PendingState(
        batch.id,
        sequence,
        repository.timeline[-1].step,
        dict(by_name),
        states,
        gated,
        batch.entries,
        frozenset(reads),
        failed,
    )


Doubts = tuple[tuple[int, Index, float], ...]


@dataclass(slots=True)
class _Learning:
    """One variable is brought up to date, on workers."""

    repository: Repository
    batch: Batch
    name: str
    features: Features
    mapper: Mapper
    trusts_ledger: bool
    """Whether what was measured at a capture need not be measured again."""
    failed: dict[str, str] = field(default_factory=dict)
    """Candidates that failed meanwhile, and why."""

    @property
    def _rolled(self) -> tuple[int, ...]:
        """The captures that would be learnt on top of what is written."""
        record = self.repository.forecaster
        assert record is not None
        return (*record.learnt[self.name].rolled, *since_forecast(self.repository))

    def went_on(self) -> tuple[LearntEntry, Doubts] | None:
        """Return what the record says of a state that stays where it is; None: it may not."""
        record = self.repository.forecaster
        if self.features.refit is not None or record is None or len(self._rolled) > MOST_ROLLED:
            return None
        if record.variables[self.name].withheld:
            return None
        entry = record.learnt[self.name]
        grid = self.repository.settings.variable(self.name).grid
        carried = corrections(self.repository, self.name) if self.trusts_ledger else None
        if carried is None:
            carried = np.full((*grid.counts, CARRIED), np.nan)
        unknown = np.isnan(carried).any(axis=-1)
        for block, result in self._blocks(_roll_block, entry.rows, where=unknown):
            if result is None:  # some of it must be learnt anew
                return None
            carried[block.chunks] = result
        root = create_carried(self.batch, self._path, carried)
        outlook, onward = self._went_on_outlook(entry)
        moved = drifted(np.moveaxis(carried, -1, 0)).sum()
        learnt = replace(
            self._entry(entry.root, entry.shared, int(moved), outlook),
            anchor=entry.anchor or record.id,
            rolled=self._rolled,
            carried=root,
            onward=onward,
        )
        return learnt, ()

    def _went_on_outlook(self, entry: LearntEntry) -> tuple[str, str]:
        """Store what the outlook goes on with; return its root, and that of what is added.

        It is written anew where something else has changed.
        """
        outlook = self.features.outlook
        if entry.onward or not entry.anchor:  # the anchor wrote it
            stored = self.repository.forecaster_state(self.name).outlook()
            written = Outlook.unpack(self.features.specification, stored)
            amplitudes = outlook.onward(written.slot)
            if amplitudes is not None:
                return entry.outlook, create_onward(self.batch, self._path, amplitudes)
        return create_outlook(self.batch, self._path, outlook.pack()), ""

    def written(self) -> tuple[LearntEntry, Doubts]:
        """Write the state; return what the record says of it, and what was not believed."""
        variable = self.repository.settings.variable(self.name)
        cells, columns = rows(self.features.specification)
        grid = state_grid(variable.grid, cells)
        create_state(self.batch, self._path, grid, cells)
        index = np.zeros((*grid.counts, 2 + cells), np.int64)
        shared = np.zeros((*grid.counts, columns))
        doubts: list[tuple[int, Index, float]] = []
        moved = 0
        for block, result in self._blocks(partial(_forecast_block, commit=self.batch.id), cells):
            index[block.chunks], shared[block.chunks] = result.index, result.shared
            doubts += result.doubts
            moved += result.drifted
            self.batch.merge(result.entries)
        roots = create_state_tables(self.batch, self._path, index, shared)
        outlook = create_outlook(self.batch, self._path, self.features.outlook.pack())
        return self._entry(*roots, moved, outlook), tuple(doubts)

    @property
    def _path(self) -> str:
        return state_of(self.batch.id, self.repository.settings.variable(self.name))

    def _blocks[R](
        self, work: Callable[..., R], cells: int, *, where: NDArray[np.bool_] | None = None
    ) -> Iterator[tuple[Block, R]]:
        """Yield what workers return of the blocks; of those only that have a chunk somewhere."""
        grid = state_grid(self.repository.settings.variable(self.name).grid, cells)
        pin = Pin.of(self.repository)
        blocks = [b for b in grid.blocks() if where is None or where[b.chunks].any()]
        if not blocks:
            return
        # A worker opens the state once for several, where there are many.
        together = list(batched(blocks, -(-len(blocks) // MOST_ITEMS)))
        job = partial(_forecast_blocks, work, pin, self.name, self.features, grid)
        for items, (results, failures) in zip(
            together, self.mapper(Telling(job), together), strict=True
        ):
            self.failed |= failures
            yield from zip(items, results, strict=True)

    def _entry(self, root: str, shared: str, moved: int, outlook: str) -> LearntEntry:
        features = self.features
        cells, columns = rows(features.specification)
        return LearntEntry(
            root=root,
            shared=shared,
            rows=cells,
            columns=columns,
            outlook=outlook,
            specification=features.specification.to_json(),
            cadence=features.cadence.to_json(),
            sample=features.sample,
            refit=features.refit,
            refit_captures=features.refit_captures,
            drifted=moved / max(1, self.repository.settings.variable(self.name).grid.size),
        )


@dataclass(frozen=True, slots=True)
class _Block:
    """What a worker returns of a block whose state it wrote."""

    index: NDArray[np.int64]
    shared: Floats
    doubts: list[tuple[int, Index, float]]
    drifted: int
    entries: dict[str, Entry]


def _forecast_blocks[R](
    work: "Callable[[_Work, ChunkGrid, Block], R]",
    pin: Pin,
    name: str,
    features: Features,
    grid: ChunkGrid,
    blocks: Sequence[Block],
) -> list[R]:
    """Work on some blocks, one after the other; runs on a worker."""
    repository = pin.recall()
    before = forecaster_of(repository, name) if features.refit is None else None
    opened = _Work(repository, repository.captures(name), features, before)
    return [work(opened, grid, block) for block in blocks]


def _forecast_block(work: "_Work", grid: ChunkGrid, block: Block, *, commit: str) -> _Block:
    """Bring the state of one block up to date and write it; runs on a worker."""
    features, variable = work.features, work.captures.variable
    spec = features.specification
    batch = Batch(work.repository.location, commit)
    numbers, columns = rows(spec)
    cells = np.zeros((numbers, *(c.stop - c.start for c in block.cells)))
    fineness = np.zeros((numbers, *block.grid), np.int64)
    shared = np.zeros((*block.grid, columns))
    doubts: list[tuple[int, Index, float]] = []
    moved = 0
    places = {index: (local, inside) for index, local, inside in variable.grid.inner(block)}
    for indices, state in work.states(list(places), doubts):
        moved += int(drifted(state.correction).sum())
        flat, per_chunk = pack(spec, state)
        steps = exponents(spec, state, features.outlook.amplitudes)
        for k, index in enumerate(indices):
            local, inside = places[index]
            shape = tuple(s.stop - s.start for s in inside)
            part = flat[:, state.starts[k] : state.starts[k + 1]]
            where: tuple[Any, ...] = (slice(None), *inside)
            cells[where] = part.reshape(len(part), *shape)
            place: tuple[Any, ...] = (slice(None), *local)
            fineness[place] = steps[:, k]
            shared[local] = per_chunk[:, k]
    path = state_of(commit, variable)
    stored = write_state(batch, path, variable.name, grid, block, cells, fineness)
    return _Block(stored, shared, doubts, moved, batch.entries)


def _roll_block(work: "_Work", grid: ChunkGrid, block: Block) -> Floats | None:
    """Learn the new captures of one block; return what they do not give back, (*chunks, number).

    None where a chunk must be learnt anew; runs on a worker.
    """
    carried = np.zeros((*block.grid, CARRIED))
    places = {index: local for index, local, _ in grid.inner(block)}
    for indices, state in work.rolled(list(places)):
        if state is None:
            return None
        for k, index in enumerate(indices):
            carried[places[index]] = state.correction[:, k]
    return carried


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
    before: Forecaster | None
    """What was learnt before, to go on from; None: all is learnt anew."""
    passed: dict[int, Outlook] = field(default_factory=dict)
    """Outlooks at slots since the last forecast: candidates of the modes may be slow."""

    def states(
        self, indices: list[Index], doubts: list[tuple[int, Index, float]]
    ) -> Iterator[tuple[list[Index], State]]:
        """Yield the states of some chunks at a time; what is not believed joins `doubts`."""
        anew: list[Index] = []
        for group, state in self.rolled(indices):
            if state is None:
                anew += group
            else:
                yield group, state
        count = len(window(self.repository, self.captures.variable))
        for group in groups(self.captures.variable.grid, anew, 8 * count):
            yield group, self._learnt(group, doubts)

    def rolled(self, indices: list[Index]) -> Iterator[tuple[list[Index], State | None]]:
        """Yield the states of some chunks at a time; None: of these, all must be learnt anew."""
        if self.before is None:
            yield indices, None
            return
        learnt, state = self.before.together(indices)
        known = frozenset(learnt)
        anew = [index for index in indices if index not in known]
        if anew:
            yield anew, None
        if state is not None:
            yield learnt, self._rolled(self.before, learnt, state)

    def _values(self, step: int, indices: list[Index]) -> tuple[Floats, NDArray[np.bool_]]:
        """Values (cell,) of some chunks, and which may be learnt from (chunk,)."""
        values, trusted = trusted_field(self.captures, step, indices)
        return usable(values), trusted

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
        for step in since_forecast(self.repository):
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
