"""Capture: take every new state of the source, exactly, and measure how it changed.

Workers read one block of the source, write its residuals and return the index rows and the chunk
statistics; nothing is captured before :func:`commit_capture` has put the log record.
"""

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from gnomon.storage.arrays.encoding import BASE, COLUMNS, STATUS
from gnomon.storage.checks.check import Check
from gnomon.storage.errors import InvalidInput, Unreadable
from gnomon.storage.log.bodies.capture import CaptureBody, CapturedEntry
from gnomon.storage.log.bodies.report import Report
from gnomon.storage.log.conflicts import Work
from gnomon.storage.log.description import Change
from gnomon.storage.log.folders import frame_of
from gnomon.storage.log.staging import Batch, Entry
from gnomon.storage.pin import Pin
from gnomon.storage.repository import Repository
from gnomon.storage.source.files.opening import rest
from gnomon.storage.source.opening import release_source, shared_source
from gnomon.storage.source.predicted import predicted_steps
from gnomon.storage.source.states import chunk_sizes, read_states
from gnomon.storage.stacks.fixed import encode_variable
from gnomon.storage.stacks.ledger import create_captured_statistics
from gnomon.storage.stacks.writing import (
    BlockWriter,
    create_captures,
    create_captures_index,
    units_of,
)
from gnomon.storage.values.grid import Block, Index, cut
from gnomon.storage.values.model import SUSPECT, TRUSTED
from gnomon.tasks.capturing import replacements
from gnomon.tasks.capturing.encoder import ChunkEncoder
from gnomon.tasks.capturing.estimates import Found, estimated_chunks
from gnomon.tasks.capturing.measuring import Checks
from gnomon.tasks.capturing.moved import refuse_redescribed, refuse_shifted
from gnomon.tasks.capturing.plan import CapturePlan
from gnomon.tasks.capturing.reading import capturing_grid, spans
from gnomon.tasks.capturing.statistics import STATISTICS, WINDOW, repeats
from gnomon.tasks.capturing.versions import copied_chunks, revised_chunks, versions_of
from gnomon.tasks.learning.trusted import SEARCH
from gnomon.tasks.work import Mapper

__all__ = ["Capture", "capture", "commit_capture"]

MEASURED = (*STATISTICS, *replacements.COLUMNS)
"""What a worker tells of each chunk by itself."""
_POSITIONS_OF = "positions_of"
"""Beside an open source, in its encoding: the plan whose positions were compared with its times."""


@dataclass(frozen=True, slots=True)
class Capture:
    """What the workers found, before it is judged and committed."""

    plan: CapturePlan
    """What was to be captured."""
    rows: dict[str, NDArray[np.int64]]
    """Index rows (step, *chunk grid, 6) by variable."""
    statistics: dict[str, dict[str, NDArray[Any]]]
    """By variable: columns (step, *chunk grid) of the actual table."""
    entries: dict[str, Entry]
    """The objects that were written."""
    reads: frozenset[int]
    """Earlier captures that were read, or that what was written is coded against."""
    unread: dict[int, str] = field(default_factory=dict)
    """Positions of planned states that the source cannot give, and why: nothing else is valid then,
    and the others are to be planned anew."""
    predicted: frozenset[int] = frozenset()
    """Those of them that it does give, but marked as predicted."""
    empty: frozenset[int] = frozenset()
    """Positions of planned states that have no value yet: the same holds then."""
    checks: tuple[Check, ...] = ()
    """Checks beside the built-in ones; `statistics` has a column for each."""
    failures: dict[str, str] = field(default_factory=dict)
    """By name of a statistic of theirs: why it could not be measured of some chunk."""

    def incomplete(self) -> list[int]:
        """Return the positions of states of which a chunk has lost all values, or awaits them."""
        gone = np.zeros(len(self.plan.instants), bool)
        for columns in self.statistics.values():
            lost = columns["missing_change"].reshape(gone.size, -1) >= 1.0
            empty = columns["valid_count"].reshape(gone.size, -1) == 0
            for k in range(1, gone.size):  # a state without values is the measure of the next one
                lost[k] |= lost[k - 1] & empty[k]
            gone |= lost.any(axis=1)
        return [int(k) for k in np.flatnonzero(gone)]


@dataclass(frozen=True, slots=True)
class _BlockCapture:
    """What a worker returns of one block of one variable."""

    rows: NDArray[np.int64]
    """Index rows (step, *block grid, 6)."""
    statistics: dict[str, NDArray[np.float64]]
    """Columns (step, *block grid)."""
    entries: dict[str, Entry]
    """The objects that were written."""
    unread: dict[int, str]
    """Positions of the states of which the source holds this block damaged, and why."""
    predicted: frozenset[int]
    """Those of them of which it is not damaged, but marked as predicted."""
    failures: dict[str, str]
    """Why statistics of checks were not measured."""
    estimates: dict[tuple[int, Index], Found]
    """What became of the estimates of rollbacks, by position of the state, and chunk."""


def capture(
    repository: Repository, plan: CapturePlan, mapper: Mapper, checks: tuple[Check, ...] = ()
) -> Capture:
    """Read the planned states, write their residuals and return statistics to be judged.

    Parameters
    ----------
    mapper
        Calls a function for each block of a variable, on workers.
    checks
        Checks beside the built-in ones, of which the statistics are measured as well.

    Returns
    -------
    Capture
        Index rows int64 (step, *chunk grid, 6) and statistics (step, *chunk grid) by variable,
        float64 or bool, NaN where not measured; without both where states could not be read or are
        still empty.

    Raises
    ------
    Moved
        The source was changed since the plan: plan again.
    """
    measured = Checks.beside(checks)
    names = _columns(measured)
    failures: dict[str, str] = {}
    rows: dict[str, NDArray[np.int64]] = {}
    statistics: dict[str, dict[str, NDArray[Any]]] = {}
    unread: dict[int, str] = {}
    predicted: set[int] = set()
    estimates: dict[str, dict[tuple[int, Index], Found]] = {}
    batch = Batch(repository.location, plan.id)
    pin = Pin.of(repository)
    _keep_fixed(repository, plan, batch)
    jobs: list[tuple[str, Block]] = []
    for variable in repository.settings.variables:
        name, counts = variable.name, (len(plan.instants), *variable.grid.counts)
        create_captures(batch, variable, plan.instants, repository.settings.calendar)
        source_steps, along = chunk_sizes(_source(repository, plan), variable)
        cell_nbytes = source_steps * variable.numpy_dtype.itemsize
        blocks = capturing_grid(variable.grid, along, cell_nbytes).blocks()
        jobs += [(name, block) for block in blocks]
        rows[name] = np.zeros((*counts, len(COLUMNS)), np.int64)
        statistics[name] = {n: np.zeros(counts) for n in names}
        estimates[name] = {}
    # What is said of the source may be long, and is no matter to a worker.
    bare_plan = replace(plan, descriptions={}, notes=())
    # All variables at once: each may be a single block, and the other workers would wait for it.
    results = mapper(partial(_capture_block, pin, bare_plan, measured), jobs)
    for (name, block), result in zip(jobs, results, strict=True):
        unread, failures = result.unread | unread, result.failures | failures
        predicted |= result.predicted
        batch.merge(result.entries)
        estimates[name] |= result.estimates
        rows[name][:, *block.chunks] = result.rows
        for column, values in result.statistics.items():
            statistics[name][column][:, *block.chunks] = values
    release_source()
    if not unread:
        for name, columns in statistics.items():
            columns.update(_compared(repository, plan, name, rows))
        replacements.settle(repository, plan, statistics)
        versions = versions_of(repository, plan)
        found = estimated_chunks(repository, versions, rows, estimates)
        for name, estimated in found.items():
            statistics[name]["estimated"] = estimated
    empty = frozenset() if unread else _empty(repository, plan, statistics)
    if unread or empty:
        return Capture(
            plan=plan,
            rows={},
            statistics={},
            entries={},
            reads=frozenset(),
            unread=unread,
            predicted=frozenset(predicted),
            empty=empty,
        )
    reads = _reads(repository, plan, rows)
    return Capture(
        plan=plan,
        rows=rows,
        statistics=statistics,
        entries=batch.entries,
        reads=reads,
        checks=checks,
        failures=failures,
    )


def _compared(
    repository: Repository, plan: CapturePlan, name: str, rows: dict[str, NDArray[np.int64]]
) -> dict[str, NDArray[np.bool_]]:
    """Return the columns (step, *chunk grid) that say what chunks are beside other captures.

    Parameters
    ----------
    rows
        Index rows by variable.
    """
    columns = _repeated(repository, plan, name, rows[name])
    columns["metadata_changed"] = np.zeros(rows[name].shape[:-1], bool)
    columns["metadata_changed"][list(plan.metadata_changed.get(name, ()))] = True
    columns["revised"] = revised_chunks(repository, plan, name, rows[name])
    columns["replayed"] |= copied_chunks(repository, plan, name, rows, columns["revised"])
    return columns


def _columns(checks: Checks) -> tuple[str, ...]:
    """Return the names of the statistics that a worker returns of each chunk."""
    return (*MEASURED, *(statistic.name for statistic in checks.statistics))


def _keep_fixed(repository: Repository, plan: CapturePlan, batch: Batch) -> None:
    """Store the fixed variables that have changed since the capture before.

    Raises
    ------
    Moved
        The source has changed its attributes since the plan: plan again.
    """
    dataset = _source(repository, plan)
    refuse_redescribed(repository, plan, dataset)
    for name, entry in plan.descriptions.get(0, Change()).fixed.items():
        if entry is None or not entry["file"].startswith(f"{frame_of(plan.id)}/"):
            continue
        batch.create(entry["file"], encode_variable(name, dataset.variables[name])[0])


def _source(repository: Repository, plan: CapturePlan) -> xr.Dataset:
    """Return the source that this process shares, the positions having been checked.

    Each process opens it for itself: where a file was left out for a moment, those after it stand
    in other places, and a look afterwards would find nothing amiss.

    Raises
    ------
    Moved
        A position is of another time.
    """
    dataset = shared_source(plan.source, plan.id, repository.memory)
    if dataset.encoding.get(_POSITIONS_OF) != plan.id:
        refuse_shifted(repository, plan, dataset)
        dataset.encoding[_POSITIONS_OF] = plan.id
    return dataset


def _empty(
    repository: Repository, plan: CapturePlan, statistics: dict[str, dict[str, NDArray[Any]]]
) -> frozenset[int]:
    """Return which new states of an append source have no value in any variable: yet to come."""
    forecast = [v.name for v in repository.settings.variables if v.forecast]
    if plan.positions is None or not forecast:
        return frozenset()
    counts = [
        statistics[name][column].reshape(len(plan.instants), -1).sum(axis=1)
        for name in forecast
        for column in ("valid_count", "infinite_count")
    ]
    new = np.array([step is None for step in plan.revises])
    return frozenset(np.flatnonzero(new & (np.sum(counts, axis=0) == 0)).tolist())


def _reads(
    repository: Repository, plan: CapturePlan, rows: dict[str, NDArray[np.int64]]
) -> frozenset[int]:
    """Return the earlier captures, by number, that a capture rests on."""
    steps = {step for step in (*plan.bases, *plan.revises) if step is not None}
    steps.update(step for versions in versions_of(repository, plan).values() for step in versions)
    for instant in plan.instants:
        steps.update(repository.state.before(instant, max(SEARCH, WINDOW)))
    for index_rows in rows.values():
        steps.update(np.unique(index_rows[..., BASE]).tolist())
    return frozenset(s for s in steps if 0 <= s < len(repository.captured))


def _repeated(
    repository: Repository, plan: CapturePlan, name: str, rows: NDArray[np.int64]
) -> dict[str, NDArray[np.bool_]]:
    """Tell which chunks repeat an earlier state; most chunks of a revision are unchanged."""
    newest = repository.timeline[-1].instant if repository.timeline else None
    places: dict[bool, list[int]] = {False: [], True: []}
    for k, (instant, revised) in enumerate(zip(plan.instants, plan.revises, strict=True)):
        if revised is None:
            places[newest is not None and instant < newest].append(k)
    looked_at = [(places[False], [s.step for s in repository.timeline])]
    looked_at += [([k], repository.state.before(plan.instants[k], WINDOW)) for k in places[True]]
    captures = repository.captures(name)
    repeated = {column: np.zeros(rows.shape[:-1], bool) for column in ("unchanged", "replayed")}
    for chosen, numbers in looked_at:
        if chosen:
            for column, values in repeats(captures, numbers, rows[chosen]).items():
                repeated[column][chosen] = values
    return repeated


def _capture_block(
    pin: Pin, plan: CapturePlan, checks: Checks, job: tuple[str, Block]
) -> _BlockCapture:
    """Capture one block of one variable; runs on a worker."""
    name, block = job
    repository = pin.recall()
    variable = repository.settings.variable(name)
    batch = Batch(repository.location, plan.id)
    writer = BlockWriter(batch, variable)
    encoder = ChunkEncoder.on(repository, plan, variable, checks)
    units = units_of(variable, block)
    rows = np.zeros((len(plan.instants), *block.grid, len(COLUMNS)), np.int64)
    names = _columns(checks)
    table = np.full((len(plan.instants), *block.grid, len(names)), np.nan)
    dataset = _source(repository, plan)
    steps, _ = chunk_sizes(dataset, variable)
    unread: dict[int, str] = {}
    refused: set[int] = set()
    for span in spans(plan.positions, steps, block, variable.numpy_dtype.itemsize):
        positions = None if plan.positions is None else [plan.positions[k] for k in span]
        try:
            for j, text in predicted_steps(dataset, variable, positions, block.cells).items():
                if positions is None:  # there is no other state to capture
                    raise InvalidInput(text)
                refused.add(span[j])
                unread[span[j]] = text
            states = read_states(dataset, variable, positions, block.cells)
        except Unreadable as error:
            unread |= dict.fromkeys(span, str(error))
        if unread:
            continue
        for j, k in enumerate(span):
            raw = states[j, ...]
            for unit in units:
                chunks = [(index, cut(raw, cells)) for index, _, cells in unit]
                results = encoder.take(k, chunks)
                places = (k, *np.array([local for _, local, _ in unit]).T)
                rows[places] = np.stack([encoded.row for encoded, _ in results])
                measured = [[told.get(n, np.nan) for n in names] for _, told in results]
                table[places] = np.array(measured)
                taken = zip(chunks, results, strict=True)
                writer.put(k, [(index, encoded) for (index, _), (encoded, _) in taken])
            writer.finish(k)
    rest(dataset)
    failures = encoder.measuring.failures
    statistics = {name: table[..., column] for column, name in enumerate(names)}
    return _BlockCapture(
        rows, statistics, batch.entries, unread, frozenset(refused), failures, encoder.estimates
    )


def commit_capture(
    repository: Repository,
    captured: Capture,
    suspect: set[tuple[str, int, Index]],
    *,
    report: dict[str, Any],
    committed_at: str,
) -> Repository:
    """Put the log record that makes a capture real.

    Parameters
    ----------
    suspect
        Chunks that the check refused, as (variable, position in the plan, chunk index).
    report
        What the check said; kept in the record.

    Raises
    ------
    Conflict
        Another writer has changed what it rests on: capture again, from a new plan.
    Unreadable
        The source could not give all of the states: capture the others, from a new plan.
    """
    if captured.unread:
        raise Unreadable(next(iter(captured.unread.values())))
    plan = captured.plan
    revised = frozenset(step for step in plan.revises if step is not None)
    work = Work(
        kind="capture",
        sequence=plan.sequence,
        era=repository.era,
        folder=plan.id,
        steps=captured.reads,
        kept=revised,
    )
    repository.refuse_stale(work)
    batch = Batch(repository.location, plan.id, dict(captured.entries))
    variables: dict[str, CapturedEntry] = {}
    suspects = np.zeros(len(plan.instants), np.int64)
    for name, rows in captured.rows.items():
        stored_variable = repository.settings.variable(name)
        _mark(rows, {(position, index) for v, position, index in suspect if v == name})
        doubted = (rows[..., STATUS] == SUSPECT).reshape(len(rows), -1).sum(axis=1)
        suspects += doubted
        variables[name] = CapturedEntry(
            root=create_captures_index(batch, stored_variable, rows),
            ledger=create_captured_statistics(batch, stored_variable, captured.statistics[name]),
            suspect=int(doubted.sum()),
            changed=int((rows[..., 1] >= 0).sum()),
            chunks=int(np.prod(rows.shape[:-1])),
        )
    body = CaptureBody(
        instants=plan.instants,
        raw_times=plan.raw_times,
        suspects=tuple(suspects.tolist()),
        variables=variables,
        revises={k: step for k, step in enumerate(plan.revises) if step is not None},
        report=Report(report),
        read_at=plan.read_at,
        descriptions=plan.descriptions,
    )
    return repository.commit(body, committed_at, batch, work)


def _mark(rows: NDArray[np.int64], suspect: set[tuple[int, Index]]) -> None:
    """Set the status of chunks by index rows: those at some positions are suspect."""
    rows[..., STATUS] = TRUSTED
    for position, index in suspect:
        rows[(position, *index, STATUS)] = SUSPECT
