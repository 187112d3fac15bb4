"""Capture: take every new state of the source, exactly, and measure how it changed.

Workers read one block of the source, write its residuals and return the index rows and the chunk
statistics; nothing is captured before :func:`commit_capture` has put the log record.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from gnomon.storage.captures import COLUMNS, STATUS, CaptureStack, Held, encode_chunk
from gnomon.storage.delta import residual_dtype
from gnomon.storage.errors import Conflict, InvalidInput
from gnomon.storage.grid import Block, Index
from gnomon.storage.model import SUSPECT, TRUSTED, Variable
from gnomon.storage.repository import Repository, fresh_id
from gnomon.storage.slab import create_index, create_residual
from gnomon.storage.source import (
    check_unchanged,
    instants,
    native,
    open_source,
    read_state,
    refuse_predicted,
)
from gnomon.storage.times import format_instant
from gnomon.tasks.expectation import Expectation
from gnomon.tasks.features import MIN_CAPTURES
from gnomon.tasks.statistics import STATISTICS, chunk_statistics, repeats
from gnomon.tasks.trusted import last_trusted
from gnomon.tasks.work import Mapper

__all__ = ["Capture", "CapturePlan", "capture", "commit_capture", "plan_capture"]

MAX_STEPS = 512
"""Steps of one commit at most; a longer history takes several."""


@dataclass(frozen=True, slots=True)
class CapturePlan:
    """What one commit will capture."""

    url: str
    """The repository."""
    sequence: int
    """The commit that it is pinned to."""
    id: str
    """Folder of the new slab."""
    instants: tuple[int, ...]
    """Valid times of the new states."""
    positions: tuple[int, ...] | None
    """Their indices along time in the source; None for a state source."""
    raw_times: bytes
    """Their raw values; empty for a state source."""
    late: int
    """New times in the source that are older than the last capture, and so are left out."""
    remaining: int
    """New times that are left for the next commit."""
    metadata_changed: tuple[str, ...]
    """Variables whose attributes differ from those at init."""


@dataclass(frozen=True, slots=True)
class Capture:
    """What the workers found, before it is judged and committed."""

    plan: CapturePlan
    """What was to be captured."""
    rows: dict[str, NDArray[np.int64]]
    """Index rows (step, *chunk grid, 5) by variable."""
    statistics: dict[str, dict[str, NDArray[Any]]]
    """By variable: columns (step, *chunk grid) of the actual table."""


def plan_capture(
    repository: Repository, *, now: int | None = None, until: int | None = None
) -> CapturePlan | None:
    """Find the states of the source that were never captured; None if there are none.

    A plan without instants has nothing to capture and only says that there are late times.

    Parameters
    ----------
    now
        Valid time of a state source, an instant; not used for append sources.
    until
        Take no later valid time than this.

    Raises
    ------
    InvalidInput
        The source is not what it was at init, or its times are not increasing.
    """
    settings = repository.settings
    with open_source(settings.source) as dataset:
        check_unchanged(dataset, settings)
        _check_frame(repository, dataset)
        changed = tuple(
            v.name
            for v in settings.variables
            if _text(dataset[v.name].attrs) != _text(v.attributes)
        )
        if settings.source.kind == "state":
            times, late = _time_of_state(repository, now), 0
            positions, raw = None, b""
        else:
            found = instants(dataset, settings)
            order, late = _fresh(repository, found, until)
            times = [int(found[k]) for k in order]
            positions = tuple(map(int, order[:MAX_STEPS]))
            raw_times = np.asarray(dataset.variables[settings.source.time].values)
            raw = native(raw_times[order[:MAX_STEPS]].astype(settings.time_dtype)).tobytes()
    if not times and not late:
        return None
    return CapturePlan(
        repository.location.url,
        repository.records[-1].sequence,
        fresh_id(len(repository.records)),
        tuple(times[:MAX_STEPS]),
        positions,
        raw,
        late,
        max(0, len(times) - MAX_STEPS),
        changed,
    )


def _time_of_state(repository: Repository, now: int | None) -> list[int]:
    """Return the time of a state source's capture; none to finish a run that stopped after it."""
    if now is None:
        raise InvalidInput("a state source needs the time of the capture; give --time")
    last = repository.steps[-1].instant if repository.steps else None
    if last is None or now > last:
        return [now]
    if now == last and _is_unfinished(repository):
        return []
    calendar = repository.settings.calendar
    raise InvalidInput(
        f"the time {format_instant(now, calendar)} is not after the last "
        f"capture {format_instant(last, calendar)}"
    )


def _fresh(
    repository: Repository, found: NDArray[np.int64], until: int | None
) -> tuple[NDArray[np.intp], int]:
    """Return positions of the new times in order, and how many unknown older ones there are."""
    if np.unique(found).size != found.size:
        raise InvalidInput("the source holds a time twice; remove the duplicate")
    order = np.argsort(found, kind="stable")
    if until is not None:
        order = order[found[order] <= until]
    if not repository.steps:
        return order, 0
    last = repository.steps[-1].instant
    known = {step.instant for step in repository.steps}
    late = sum(int(found[k]) not in known for k in order[found[order] <= last])
    return order[found[order] > last], late


def _is_unfinished(repository: Repository) -> bool:
    """Tell whether a run stopped after the newest capture, before its shadow."""
    record = repository.forecaster
    known = -1 if record is None else int(record.body["step"])
    return known < len(repository.steps) - 1 and len(repository.steps) >= MIN_CAPTURES


def _text(attributes: dict[Any, Any]) -> dict[str, str]:
    return {str(name): str(value) for name, value in attributes.items()}


def _check_frame(repository: Repository, dataset: Any) -> None:
    for name, kept in repository.frame.variables.items():
        if name not in dataset.variables:
            raise InvalidInput(f"the source lost {name!r} since init; init a new repository for it")
        now = np.asarray(dataset.variables[name].values)
        before = np.asarray(kept.values)
        same = now.shape == before.shape and (
            now.tolist() == before.tolist()
            if before.dtype == object
            else native(now).tobytes() == before.tobytes()
        )
        if not same:
            raise InvalidInput(
                f"{name!r} of the source differs from what it was at init (the grid changed?); "
                "restore it, or init a new repository for the changed source"
            )


def capture(repository: Repository, plan: CapturePlan, mapper: Mapper) -> Capture:
    """Read the planned states, write their residuals and return statistics to be judged."""
    rows: dict[str, NDArray[np.int64]] = {}
    statistics: dict[str, dict[str, NDArray[Any]]] = {}
    for variable in repository.settings.variables:
        grid, steps = variable.grid, len(plan.instants)
        create_residual(
            repository.location,
            f"captures/{plan.id}/{variable.folder}/residual",
            lead=steps,
            grid=grid,
            dtype=residual_dtype(variable.numpy_dtype),
        )
        blocks = list(grid.blocks())
        results = mapper(partial(_capture_block, plan, variable.name), blocks)
        rows[variable.name] = np.zeros((steps, *grid.counts, len(COLUMNS)), np.int64)
        columns: dict[str, NDArray[Any]] = {n: np.zeros((steps, *grid.counts)) for n in STATISTICS}
        for block, (found, table) in zip(blocks, results, strict=True):
            rows[variable.name][:, *block.chunks] = found
            for name, values in table.items():
                columns[name][:, *block.chunks] = values
        columns |= repeats(repository.captures(variable.name), rows[variable.name])
        columns["metadata_changed"] = np.full(
            (steps, *grid.counts), variable.name in plan.metadata_changed
        )
        statistics[variable.name] = columns
    return Capture(plan, rows, statistics)


def _capture_block(
    plan: CapturePlan, name: str, block: Block
) -> tuple[NDArray[np.int64], dict[str, NDArray[np.float64]]]:
    """Capture one block of one variable; runs on a worker."""
    repository = Repository.open(plan.url).at(plan.sequence)
    variable = repository.settings.variable(name)
    captures = repository.captures(name)
    expectation = Expectation.of(repository, variable)
    path = f"captures/{plan.id}/{variable.folder}/residual"
    target = zarr.open_array(repository.location.zarr_store(read_only=False), path=path, mode="r+")
    first = len(repository.steps)
    chunks = list(variable.grid.inner(block))
    watched = {i: _Watched.start(captures, i, first) for i, _, _ in chunks}
    rows = np.zeros((len(plan.instants), *block.grid, len(COLUMNS)), np.int64)
    table = {n: np.zeros((len(plan.instants), *block.grid)) for n in STATISTICS}
    with open_source(repository.settings.source) as dataset:
        for k, instant in enumerate(plan.instants):
            position = None if plan.positions is None else plan.positions[k]
            refuse_predicted(dataset, variable, position, block.cells)
            raw = read_state(dataset, variable, position, block.cells)
            residual = np.zeros(raw.shape, target.dtype)
            for index, local, cells in chunks:
                chunk = np.asarray(raw[cells], order="C")
                encoded = encode_chunk(name, index, first + k, chunk, watched[index].held)
                rows[(k, *local)] = encoded.row
                if encoded.residual is not None:
                    residual[cells] = encoded.residual
                found = watched[index].measure(variable, expectation, index, instant, chunk)
                watched[index].held = encoded.held
                for column, value in found.items():
                    table[column][(k, *local)] = value
            where: tuple[Any, ...] = (k, *block.cells)
            target[where] = residual
    return rows, table


class _Watched:
    """One chunk as the steps of a commit go by."""

    def __init__(self, held: Held | None, trusted: NDArray[np.float64] | None) -> None:
        self.held = held
        self.trusted = trusted

    @classmethod
    def start(cls, captures: CaptureStack, index: Index, first: int) -> "_Watched":
        if first == 0:
            return cls(None, None)
        trusted = last_trusted(captures, index, first)
        return cls(captures.held(first - 1, index), None if trusted is None else trusted[1])

    def measure(
        self,
        variable: Variable,
        expectation: Expectation | None,
        index: Index,
        instant: int,
        raw: NDArray[np.generic],
    ) -> dict[str, float]:
        values = variable.to_physical(raw)
        departures = {} if expectation is None else expectation.meet(index, instant, values)
        found = chunk_statistics(
            values, self.trusted, variable.bounds(), categorical=variable.categorical
        )
        found |= departures
        if not found.get("p_value", 1.0) < Expectation.GATE:
            self.trusted = values
        return found


def commit_capture(
    repository: Repository,
    found: Capture,
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
        Another writer was first; the source's states will be captured by a new run.
    """
    plan = found.plan
    if repository.records[-1].sequence != plan.sequence:
        raise Conflict(
            "another writer committed meanwhile; nothing of this run was kept, run again"
        )
    variables, ledger = {}, {}
    for name, rows in found.rows.items():
        folder = repository.settings.variable(name).folder
        rows[..., STATUS] = TRUSTED
        for variable, position, index in suspect:
            if variable == name:
                rows[(position, *index, STATUS)] = SUSPECT
        path = f"captures/{plan.id}/{folder}/index"
        variables[name] = {
            "root": create_index(repository.location, path, rows, COLUMNS),
            "suspect": int((rows[..., STATUS] == SUSPECT).sum()),
            "changed": int((rows[..., 1] >= 0).sum()),
            "chunks": int(np.prod(rows.shape[:-1])),
        }
        key = f"actual-{folder}"
        ledger[key] = {"root": _write_ledger(repository, plan, key, found.statistics[name])}
    body = {
        "id": plan.id,
        "instants": list(plan.instants),
        "raw_times": plan.raw_times.hex(),
        "variables": variables,
        "ledger": ledger,
        "report": report,
    }
    return repository.commit("capture", body, committed_at)


def _write_ledger(
    repository: Repository, plan: CapturePlan, key: str, columns: dict[str, NDArray[Any]]
) -> str:
    table = np.stack([np.asarray(c, np.float64) for c in columns.values()], -1)
    return create_index(repository.location, f"ledger/{plan.id}/{key}", table, list(columns))
