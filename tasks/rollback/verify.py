"""Verify: read back all that a rollback has written, before it counts as done."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import xarray as xr

from gnomon.storage.arrays.residuals import digest
from gnomon.storage.errors import Conflict, TargetFailed
from gnomon.storage.live.replaced import entry_of
from gnomon.storage.live.stores import LiveStore
from gnomon.storage.repository import Repository
from gnomon.storage.source.files.opening import told_at
from gnomon.storage.source.opening import open_source, release_source
from gnomon.storage.source.states import read_state
from gnomon.storage.values.grid import Index
from gnomon.storage.values.meaning import read_alike, reading
from gnomon.storage.values.model import SourceSpec
from gnomon.storage.values.scaling import Packing
from gnomon.tasks.rollback.differences import ChunkChange
from gnomon.tasks.rollback.staging import StagedObject

__all__ = ["Written"]


@dataclass(frozen=True, slots=True)
class Written:
    """What a rollback has written into a live dataset."""

    chunks: tuple[ChunkChange, ...]
    """Chunks of the state."""
    objects: tuple[StagedObject, ...]
    """Objects, with what else is in them."""
    position: int | None
    """Place of the state along time; None for a state source."""
    readings: Mapping[str, Packing]
    """By variable: how raw values stood for numbers when they were made."""

    def verify(self, repository: Repository, live: LiveStore, spec: SourceSpec) -> None:
        """Read back every object, and every chunk: of other steps too.

        Raises
        ------
        TargetFailed
            Something is not what was written.
        Conflict
            The live dataset was packed anew meanwhile: it reads as other numbers.
        """
        for staged in self.objects:
            if entry_of(live.pieces(staged.change.key)) != staged.change.after:
                raise _not_given_back(staged.change.key)
        memory = repository.memory if spec == repository.settings.source else None
        release_source()
        with open_source(spec, memory) as dataset:
            self._refuse_repacked(dataset)
            for name, index, position, cells, content in self._cells(repository):
                variable = repository.settings.variable(name)
                there = read_state(dataset, variable, position, cells)
                if digest(name, index, there).hex() != content:
                    raise _not_given_back(f"{name} chunk {index}")

    def _cells(
        self, repository: Repository
    ) -> Iterator[tuple[str, Index, int | None, tuple[slice, ...], str]]:
        """Yield variable, chunk, position along time, cells and digest of all that was written."""
        for chunk in self.chunks:
            cells = repository.settings.variable(chunk.variable).grid.cells(chunk.index)
            yield chunk.variable, chunk.index, self.position, cells, chunk.digest
        for staged in self.objects:
            for along in staged.along:
                yield along.variable, along.index, along.position, along.cells, along.digest

    def _refuse_repacked(self, dataset: xr.Dataset) -> None:
        for name in dict.fromkeys(chunk.variable for chunk in self.chunks):
            before = self.readings[name]
            told = told_at(dataset, name, self.position)
            now = reading(before.dtype, told, (before.factor, before.shift))
            if not read_alike(before, now):
                raise Conflict(
                    f"the scale, offset or fill value of {name} in the live dataset was changed "
                    "while it was written; nothing of the rollback stays, run it again when its "
                    "writer is done"
                )


def _not_given_back(what: str) -> TargetFailed:
    return TargetFailed(
        f"the live dataset gives back other bytes of {what} than were written; the rollback was "
        "taken back, check the disk there"
    )
