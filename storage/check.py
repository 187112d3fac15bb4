"""Check: reads and reports, never mends.

Opening a repository has verified the log's hash chain already.  Here the roots of every slab and,
on request, every stored chunk are verified as well; each problem names its file.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from gnomon.storage.captures import CaptureStack
from gnomon.storage.errors import GnomonError
from gnomon.storage.forecaster import ForecasterState
from gnomon.storage.model import Variable
from gnomon.storage.repository import Repository
from gnomon.storage.shadows import ShadowStack
from gnomon.storage.slab import Slab

__all__ = ["CheckReport", "Problem", "check"]

Progress = Callable[[str, int, int], None]
"""Called with what is being read, how much is done, and how much there is."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is not as it was written."""

    part: str
    """``frame``, ``captures``, ``shadows``, ``forecaster`` or ``ledger``."""
    where: str
    """Variable, and step or lead."""
    error: str
    """What was found and expected."""


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What a check read and found."""

    records: int
    """Log records verified."""
    slabs: int
    """Slabs verified: one per variable and commit, of captures, shadow, state and ledger."""
    chunks: int
    """Chunks read and verified."""
    data_read: bool
    """Whether chunk data was read; if not, only structure was verified."""
    problems: tuple[Problem, ...]
    """What is damaged."""

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)


def check(
    repository: Repository, *, read_data: bool = False, progress: Progress | None = None
) -> CheckReport:
    """Verify a repository, and with `read_data` every byte that it may ever return."""
    jobs = list(_jobs(repository, read_data))
    problems: list[Problem] = []
    chunks = 0
    for done, job in enumerate(jobs):
        if progress is not None:
            progress(f"{job.part} {job.where}", done, len(jobs))
        for error in job.run():
            if error is None:
                chunks += 1
            else:
                problems.append(Problem(job.part, job.where, error))
    if progress is not None:
        progress("done", len(jobs), len(jobs))
    slabs = len({job.slab for job in jobs} - {""})
    return CheckReport(len(repository.records), slabs, chunks, read_data, tuple(problems))


Run = Callable[[], Iterator[str | None]]
"""Yields None per verified chunk, and a text per problem."""


@dataclass(frozen=True, slots=True)
class _Job:
    """One thing to verify."""

    part: str
    where: str
    slab: str
    """Folder of the slab that is read; empty for the frame."""
    run: Run


def _attempt(action: Callable[[], object], *, counts: bool) -> Iterator[str | None]:
    try:
        action()
    except GnomonError as error:
        yield str(error)
    else:
        if counts:
            yield None


def _jobs(repository: Repository, read_data: bool) -> Iterator[_Job]:
    def frame() -> Iterator[str | None]:
        yield from _attempt(lambda: repository.frame, counts=False)

    yield _Job("frame", "coordinates", "", frame)
    for variable in repository.settings.variables:
        yield from _variable_jobs(repository, variable, read_data)
    for record in repository.records:
        for table, entry in record.body.get("ledger", {}).items():
            path = f"ledger/{record.body['id']}"
            slab = Slab(repository.location, path, {table: entry["root"]})
            where = f"{table} {record.body['id']}"
            yield _Job("ledger", where, f"{path}/{table}", _ledger(slab, table))


def _variable_jobs(repository: Repository, variable: Variable, read_data: bool) -> Iterator[_Job]:
    name, folder = variable.name, variable.folder
    stack = repository.captures(name)
    for captured in stack.steps:
        run = _captures(stack, captured.step, read_data)
        path = f"captures/{captured.slab}/{folder}"
        yield _Job("captures", f"{name} step {captured.step}", path, run)
    for shadow in repository.shadows:
        if name in shadow.variables:
            opened = repository.shadow(name, shadow, stack)
            path = f"shadows/{shadow.id}/{folder}"
            yield _Job("shadows", f"{name} {shadow.id}", path, _shadow(opened, read_data))
    newest = repository.forecaster
    if newest is not None and name in newest.body["forecaster"]:
        folder_id, root = str(newest.body["id"]), str(newest.body["forecaster"][name]["root"])
        state = ForecasterState(repository.location, variable, folder_id, root)
        yield _Job(
            "forecaster",
            f"{name} {folder_id}",
            f"forecaster/{folder_id}/{folder}",
            _state(state, read_data),
        )


def _captures(stack: CaptureStack, step: int, read_data: bool) -> Run:
    def run() -> Iterator[str | None]:
        failed = list(_attempt(lambda: stack.rows(step), counts=False))
        yield from failed
        if read_data and not failed:
            for index in stack.variable.grid.indices():
                yield from _attempt(partial(stack.chunk, step, index), counts=True)

    return run


def _shadow(stack: ShadowStack, read_data: bool) -> Run:
    def run() -> Iterator[str | None]:
        failed = list(_attempt(lambda: (stack.slab.index(), stack.scores()), counts=False))
        yield from failed
        if read_data and not failed:
            for lead in range(1, len(stack.shadow.instants) + 1):
                for index in stack.variable.grid.indices():
                    yield from _attempt(partial(stack.chunk, lead, index), counts=True)

    return run


def _state(state: ForecasterState, read_data: bool) -> Run:
    def run() -> Iterator[str | None]:
        failed = list(_attempt(state.slab.index, counts=False))
        yield from failed
        if read_data and not failed:
            for index in state.variable.grid.indices():
                yield from _attempt(partial(state.chunk, index), counts=True)

    return run


def _ledger(slab: Slab, table: str) -> Run:
    return lambda: _attempt(lambda: slab.index(table), counts=False)
