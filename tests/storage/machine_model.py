"""The model of a repository: a plain list of captures per era, each a dict of arrays."""

from dataclasses import dataclass, field

from gnomon.storage.repository import Repository
from gnomon.storage.values.grid import ChunkGrid, Index
from tests.storage.machine_source import Source, State

__all__ = ["Captured", "Chunk", "Era", "Model", "Summary"]

Chunk = tuple[str, Index]
"""Variable and chunk index."""
Summary = tuple[tuple[tuple[int, bool, int, tuple[str, ...]], ...], ...]
"""Per era and capture: time, whether it was forgotten, suspect chunks, tags."""


@dataclass
class Captured:
    """What was captured once."""

    instant: int
    raw_time: bytes
    values: State
    version: int
    """Of what the source said of itself."""
    suspects: set[Chunk]
    revises: int | None = None
    tags: list[str] = field(default_factory=list)
    forgotten: bool = False


@dataclass
class Era:
    """The captures of one grid, by number."""

    grids: dict[str, ChunkGrid]
    captures: list[Captured] = field(default_factory=list)
    bases: tuple[int, ...] = ()
    """What the newest shadow is counted from."""

    def kept(self) -> list[int]:
        """Return the captures that were not forgotten, by time, then by number."""
        numbers = [n for n, c in enumerate(self.captures) if not c.forgotten]
        return sorted(numbers, key=lambda n: (self.captures[n].instant, n))

    def versions(self, instant: int) -> list[int]:
        """Return the kept captures of a time: fewest suspects first, of equals the newest."""
        there = [n for n in self.kept() if self.captures[n].instant == instant]
        return sorted(there, key=lambda n: (len(self.captures[n].suspects), -n))

    def timeline(self) -> list[int]:
        """Return the capture that stands for each time, in order of time."""
        instants = sorted({self.captures[n].instant for n in self.kept()})
        return [self.versions(instant)[0] for instant in instants]

    def guarded(self) -> set[int]:
        """Return what must not be given up: bases, and the last trusted capture of each chunk."""
        found = set(self.bases)
        for name, grid in self.grids.items():
            for index in grid.indices():
                trusted = [
                    n for n in self.timeline() if (name, index) not in self.captures[n].suspects
                ]
                found.update(trusted[-1:])
        return found

    def chunks(self) -> list[Chunk]:
        return [(name, index) for name, grid in self.grids.items() for index in grid.indices()]


class Model:
    """What a repository should hold, and what it held after each commit."""

    def __init__(self, repository: Repository) -> None:
        self.eras = [Era(grids_of(repository))]
        self.past: list[Summary] = []

    @property
    def era(self) -> Era:
        """The present era."""
        return self.eras[-1]

    def summary(self) -> Summary:
        return tuple(
            tuple((c.instant, c.forgotten, len(c.suspects), tuple(c.tags)) for c in era.captures)
            for era in self.eras
        )

    def commit(self, records: int) -> None:
        """Note that the log is as long as that, and that the model is now as it should be."""
        self.past += [self.summary()] * (records - len(self.past))

    def revised(self, source: Source) -> list[int]:
        """Return the captures whose time stands in the source with other values than theirs."""
        newest = {self.era.captures[n].instant: n for n in self.era.kept()}
        there = source.instants() if source.kind == "append" else {}
        return sorted(
            n
            for instant, n in newest.items()
            if instant in there
            and not same(self.era.captures[n].values, self.held(source, instant))
        )

    def held(self, source: Source, instant: int) -> State:
        """Return what a capture would take: not what the source has had since the era began."""
        return {name: source.at(instant)[name].copy() for name in self.era.grids}

    def wanted(self, source: Source, revised: list[int]) -> list[int]:
        """Return the times to capture: those never captured, and the revised, in order."""
        known = {c.instant for c in self.era.captures}
        again = {self.era.captures[n].instant for n in revised}
        return [i for i in source.instants() if i not in known or i in again]

    def capture(
        self,
        source: Source,
        instants: list[int],
        revised: list[int],
        doubts: set[tuple[str, int, Index]],
    ) -> None:
        """Take the states of the source; `doubts` are by variable, position and chunk index."""
        again = {self.era.captures[n].instant: n for n in revised}
        hours = source.instants() if source.kind == "append" else {}
        for position, instant in enumerate(instants):
            raw = source.raw_time(hours[instant]) if hours else b""
            values = self.held(source, instant)
            suspects = {(name, index) for name, where, index in doubts if where == position}
            self.era.captures.append(
                Captured(instant, raw, values, source.version, suspects, again.get(instant))
            )

    def begin(self, repository: Repository) -> None:
        self.eras.append(Era(grids_of(repository)))


def grids_of(repository: Repository) -> dict[str, ChunkGrid]:
    return {v.name: v.grid for v in repository.settings.variables}


def same(one: State, other: State) -> bool:
    return {n: a.tobytes() for n, a in one.items()} == {n: a.tobytes() for n, a in other.items()}
