"""Check: reads and reports, never mends.

Opening a repository has verified the log's hash chain already.  Here the roots of every slab and,
on request, every stored chunk are verified as well; each problem names its file.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from gnomon.storage.errors import GnomonError
from gnomon.storage.forecaster import ForecasterState
from gnomon.storage.repository import Repository
from gnomon.storage.slab import Slab

__all__ = ["CheckReport", "Problem", "check"]

Progress = Callable[[str, int, int], None]
"""Called with what is being read, how much is done, and how much there is."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is not as it was written."""

    part: str
    """``captures``, ``shadows``, ``forecaster`` or ``frame``."""
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
    """Slab indexes verified."""
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
    for done, (part, where, job) in enumerate(jobs):
        if progress is not None:
            progress(f"{part} {where}", done, len(jobs))
        for error in job():
            if error is None:
                chunks += 1
            else:
                problems.append(Problem(part, where, error))
    if progress is not None:
        progress("done", len(jobs), len(jobs))
    slabs = len({(part, where.split(" ")[0]) for part, where, _ in jobs})
    return CheckReport(len(repository.records), slabs, chunks, read_data, tuple(problems))


Job = Callable[[], Iterator[str | None]]
"""Yields None per verified chunk, and a text per problem."""


def _attempt(action: Callable[[], object], *, counts: bool) -> Iterator[str | None]:
    try:
        action()
    except GnomonError as error:
        yield str(error)
    else:
        if counts:
            yield None


def _jobs(repository: Repository, read_data: bool) -> Iterator[tuple[str, str, Job]]:
    yield "frame", "coordinates", lambda: _attempt(lambda: repository.frame, counts=False)
    newest = repository.forecaster
    for variable in repository.settings.variables:
        name = variable.name
        stack = repository.captures(name)
        for captured in stack.steps:
            yield "captures", f"{name} step {captured.step}", _captures(stack, captured.step, read_data)
        for shadow in repository.shadows:
            if name in shadow.variables:
                opened = repository.shadow(name, shadow, stack)
                yield "shadows", f"{name} {shadow.id}", _shadow(opened, read_data)
        if newest is not None and name in newest.body["forecaster"]:
            root = str(newest.body["forecaster"][name]["root"])
            state = ForecasterState(repository.location, variable, str(newest.body["id"]), root)
            yield "forecaster", f"{name} {newest.body['id']}", _state(state, read_data)
    for record in repository.records:
        for table, entry in record.body.get("ledger", {}).items():
            path = f"ledger/{record.body['id']}"
            slab = Slab(repository.location, path, {table: entry["root"]})
            yield "ledger", f"{table} {record.body['id']}", _ledger(slab, table)


def _captures(stack: Any, step: int, read_data: bool) -> Job:
    def job() -> Iterator[str | None]:
        failed = list(_attempt(lambda: stack.rows(step), counts=False))
        yield from failed
        if read_data and not failed:
            for index in stack.variable.grid.indices():
                yield from _attempt(lambda i=index: stack.chunk(step, i), counts=True)  # type: ignore[misc]

    return job


def _shadow(stack: Any, read_data: bool) -> Job:
    def job() -> Iterator[str | None]:
        failed = list(_attempt(lambda: (stack.slab.index(), stack.scores()), counts=False))
        yield from failed
        if read_data and not failed:
            for lead in range(1, len(stack.shadow.instants) + 1):
                for index in stack.variable.grid.indices():
                    yield from _attempt(lambda k=lead, i=index: stack.chunk(k, i), counts=True)  # type: ignore[misc]

    return job


def _state(state: ForecasterState, read_data: bool) -> Job:
    def job() -> Iterator[str | None]:
        for index in state.variable.grid.indices() if read_data else ():
            yield from _attempt(lambda i=index: state.chunk(i), counts=True)  # type: ignore[misc]

    return job


def _ledger(slab: Slab, table: str) -> Job:
    return lambda: _attempt(lambda: slab.index(table), counts=False)
