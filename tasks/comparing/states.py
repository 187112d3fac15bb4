"""States that can be compared, chunk by chunk: of the repository, and of the live dataset."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from gnomon.storage.arrays.encoding import DIGEST
from gnomon.storage.arrays.residuals import digest
from gnomon.storage.changes.repacked import readings_at
from gnomon.storage.repository import Repository
from gnomon.storage.serve.planes import Plane, plane_chunk
from gnomon.storage.source.states import chunk_sizes
from gnomon.storage.values.grid import Block, Index
from gnomon.storage.values.model import Variable
from gnomon.storage.values.scaling import Packing
from gnomon.tasks.capturing.reading import reading_grid
from gnomon.tasks.rollback.differences import ESTIMATED, Intended, read_chunks
from gnomon.tasks.rollback.fitting import refuse_unheld

__all__ = ["Chunk", "ChunkFilter", "Kept", "Live", "Planned", "State"]

Floats = NDArray[np.float64]
ChunkFilter = Callable[[Index], bool]
"""Tells whether a chunk is wanted."""

NUMBERS = Packing(np.dtype("<f8"), {})
"""Values that stand for themselves, in the units of init."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A chunk of a state."""

    values: Floats
    """Numbers in the units of init, NaN where there is none."""
    raw: NDArray[np.generic] | None = None
    """As it is stored; None where it is estimated, or cannot be decoded."""
    packing: Packing = NUMBERS
    """What the raw values stand for."""
    error: Floats | None = None
    """Standard errors in the units of init, 0 where captured; None if no cell is estimated."""
    provenance: NDArray[np.uint8] | None = None
    """Of each cell; None if no cell is estimated."""
    is_unreadable: bool = False
    """Whether it cannot be decoded: no cell has a value then."""


class State(Protocol):
    """A state, readable chunk by chunk."""

    @property
    def repository(self) -> Repository:
        """The repository, with the era in view whose grid it has."""
        ...

    @property
    def told(self) -> str:
        """What it is, for people."""
        ...

    def has(self, variable: Variable) -> bool:
        """Tell whether a variable is in it."""
        ...

    def signature(self, variable: Variable, index: Index) -> tuple[bytes, Packing] | None:
        """Return digest and packing of a chunk of stored values; None of an estimated one."""
        ...

    def chunk(self, variable: Variable, index: Index) -> Chunk:
        """Return a chunk; Integrity if what the repository holds of it is damaged."""
        ...


class Kept:
    """A state of the repository: captured, healed, or estimated.

    Parameters
    ----------
    plane
        What it is made of.
    told
        What it is, for people.
    instant
        Time that it answers for, which a forecast may miss by a little; None: its own.
    """

    def __init__(
        self, repository: Repository, plane: Plane, told: str, instant: int | None = None
    ) -> None:
        self.repository, self.plane, self.told = repository, plane, told
        self.instant = plane.instant if instant is None else instant
        names = [variable.name for variable in repository.settings.variables]
        self._captures = {name: repository.captures(name) for name in names}
        shadow = repository.shadow_named(plane.shadow)
        self._shadows = {
            name: repository.shadow(name, shadow, self._captures[name])
            for name in names
            if shadow is not None and name in shadow.variables
        }

    @property
    def captured(self) -> int | None:
        """The step that it is, if it is as it was captured; None of a state with estimates."""
        return None if self.plane.patches else self.plane.step

    def has(self, variable: Variable) -> bool:
        """Tell whether a variable was there, or is estimated."""
        if self.plane.step is not None:
            return self.plane.step >= variable.since
        return variable.name in (self._shadows or self.plane.estimators)

    def _is_exact(self, variable: Variable, index: Index) -> bool:
        return self.plane.step is not None and (variable.name, index) not in self.plane.patches

    def signature(self, variable: Variable, index: Index) -> tuple[bytes, Packing] | None:
        """Return digest and packing of a captured chunk, from the index alone."""
        if self.plane.step is None or not self._is_exact(variable, index):
            return None
        captures = self._captures[variable.name]
        row = captures.rows(self.plane.step)[index]
        return row[DIGEST].tobytes(), captures.reading(self.plane.step)

    def chunk(self, variable: Variable, index: Index) -> Chunk:
        """Return a chunk, verified."""
        captures = self._captures[variable.name]
        if self.plane.step is not None and self._is_exact(variable, index):
            raw, packing = captures.chunk(self.plane.step, index), captures.reading(self.plane.step)
            return Chunk(packing.to_physical(raw), raw, packing)
        values, errors, provenance = plane_chunk(
            captures, self._shadows.get(variable.name), self.plane, index, NUMBERS
        )[:3]
        errors = np.where(np.isin(provenance, ESTIMATED), errors, 0.0)
        return Chunk(values, error=errors, provenance=provenance)


class Live:
    """A state of the live dataset, open.

    Parameters
    ----------
    position
        Along time; None for a state source.
    """

    told = "the live dataset"

    def __init__(self, repository: Repository, dataset: xr.Dataset, position: int | None) -> None:
        self.repository, self.dataset, self.position = repository, dataset, position
        place = position or 0
        self.readings = {
            v.name: readings_at(repository, dataset, v, [place])[place]
            for v in repository.settings.variables
        }
        self._hands = threading.local()

    def has(self, variable: Variable) -> bool:
        """Tell whether it has a variable: all of them."""
        return variable.name in self.readings

    def blocks(self, variable: Variable) -> Iterator[Block]:
        """Yield blocks by which each chunk of the dataset is read once."""
        _, along = chunk_sizes(self.dataset, variable)
        return reading_grid(variable.grid, along).blocks()

    def indices(self, variable: Variable, block: Block, wanted: ChunkFilter) -> Iterator[Index]:
        """Yield the wanted chunks of a block; the last one is at hand of the thread that asks."""
        for index, raw in read_chunks(self.dataset, variable, self.position, block, wanted):
            self._hands.read = variable.name, index, raw
            yield index

    def raw(self, variable: Variable, index: Index) -> NDArray[np.generic] | None:
        """Return the raw values of the chunk that is at hand; None if it cannot be decoded."""
        name, read, raw = self._hands.read
        assert (name, read) == (variable.name, index)
        at_hand: NDArray[np.generic] | None = raw
        return at_hand

    def signature(self, variable: Variable, index: Index) -> tuple[bytes, Packing] | None:
        """Return digest and packing of a chunk; None if it cannot be decoded."""
        raw = self.raw(variable, index)
        if raw is None:
            return None
        return digest(variable.name, index, raw), self.readings[variable.name]

    def chunk(self, variable: Variable, index: Index) -> Chunk:
        """Return a chunk as it is there."""
        raw, packing = self.raw(variable, index), self.readings[variable.name]
        if raw is None:
            shape = tuple(s.stop - s.start for s in variable.grid.cells(index))
            return Chunk(np.full(shape, np.nan), is_unreadable=True)
        return Chunk(packing.to_physical(raw), raw, packing)


class Planned:
    """The live dataset as it would be once a state was written into it.

    Parameters
    ----------
    intended
        What would be written.
    kept
        The same state, for its standard errors.
    """

    def __init__(self, live: Live, intended: Intended, kept: Kept) -> None:
        self.live, self.intended, self.kept = live, intended, kept
        self.repository, self.told = kept.repository, kept.told

    def has(self, variable: Variable) -> bool:
        """Tell whether anything of a variable would be written."""
        return variable.name in self.intended.readings

    def signature(self, variable: Variable, index: Index) -> tuple[bytes, Packing] | None:
        """Return what is there of a chunk that is not touched; None of others."""
        is_left = not self.intended.takes(variable.name, index)
        return self.live.signature(variable, index) if is_left else None

    def chunk(self, variable: Variable, index: Index) -> Chunk:
        """Return a chunk as it would stand, errors and provenance of the cells that are written."""
        if not self.intended.takes(variable.name, index):
            return self.live.chunk(variable, index)
        there = self.live.raw(variable, index)
        after = self.intended.after(variable, index, there)
        refuse_unheld(() if after.unheld is None else (after.unheld,))
        raw, is_estimated = after.raw, after.is_estimated
        packing = self.intended.readings[variable.name]
        values = packing.to_physical(raw)
        estimate = self.kept.chunk(variable, index)
        if estimate.error is None or estimate.provenance is None:
            return Chunk(values, raw, packing)
        errors = np.where(is_estimated, estimate.error, 0.0)
        provenance = np.where(is_estimated, estimate.provenance, 0).astype(np.uint8)
        return Chunk(values, raw, packing, errors, provenance)
