"""Differences: which chunks of a live dataset are not what a restore point holds."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from gnomon.storage.arrays.encoding import DIGEST
from gnomon.storage.arrays.residuals import digest
from gnomon.storage.changes.repacked import readings_at
from gnomon.storage.errors import Unreadable
from gnomon.storage.repository import Repository
from gnomon.storage.serve.planes import PROVENANCE, Plane, is_predicted, plane_chunk
from gnomon.storage.source.opening import chunk_sizes, native, read_state
from gnomon.storage.values.grid import Block, Index, cut
from gnomon.storage.values.meaning import read_alike
from gnomon.storage.values.model import Variable
from gnomon.storage.values.scaling import Packing
from gnomon.tasks.capturing.reading import reading_grid
from gnomon.tasks.work import Mapper

__all__ = ["ChunkChange", "Selection", "Wanted", "differences"]

ESTIMATED = [v for k, v in PROVENANCE.items() if k not in ("captured", "missing")]


class Selection(Protocol):
    """What of a state is written."""

    def has(self, name: str) -> bool:
        """Tell whether anything of a variable is."""

    def within(self, variable: Variable, index: Index) -> tuple[slice, ...] | None:
        """Return the cells of a chunk, within it, that are; None if none are."""


@dataclass(frozen=True, slots=True)
class ChunkChange:
    """A chunk of a live dataset that is not what it should become."""

    variable: str
    """Name of the variable."""
    index: Index
    """Index of the chunk on the repository's grid."""
    cells: int
    """Cells that differ; all of them where the chunk cannot be read."""
    estimated: int
    """Estimated cells among those that it should hold."""
    is_damaged: bool
    """Whether the live dataset holds bytes there that cannot be decoded."""
    digest: str
    """Digest, in hexadecimal, of the whole chunk as it should stand."""


class Wanted:
    """What a live dataset should hold: the chunks of one plane, in its own packing.

    Parameters
    ----------
    plane
        The state.
    readings
        By variable: how the live dataset's raw values stand for numbers.
    selection
        What of it is written; None: all.
    """

    def __init__(
        self,
        repository: Repository,
        plane: Plane,
        readings: Mapping[str, Packing],
        selection: Selection | None = None,
    ) -> None:
        self.plane, self.readings, self.selection = plane, readings, selection
        self._captures = {name: repository.captures(name) for name in readings}
        by_id = {shadow.id: shadow for shadow in repository.shadows}
        self._shadows = {
            name: repository.shadow(name, by_id[plane.shadow], captures)
            for name, captures in self._captures.items()
            if plane.shadow is not None
        }

    @classmethod
    def of(
        cls,
        repository: Repository,
        plane: Plane,
        dataset: xr.Dataset,
        position: int | None,
        selection: Selection | None,
    ) -> "Wanted":
        """Return what an open live dataset should hold at a position along time."""
        place = position or 0
        readings = {
            variable.name: readings_at(repository, dataset, variable, [place])[place]
            for variable in _written(repository, plane)
            if selection is None or selection.has(variable.name)
        }
        return cls(repository, plane, readings, selection)

    def captured_digest(self, name: str, index: Index) -> bytes | None:
        """Return the digest of a chunk that is exactly as it was captured; None of another."""
        plane, captures = self.plane, self._captures[name]
        if plane.step is None or (name, index) in plane.patches:
            return None
        if not read_alike(captures.reading(plane.step), self.readings[name]):
            return None
        return bytes(captures.rows(plane.step)[index][DIGEST].tobytes())

    def cells(self, variable: Variable, index: Index) -> tuple[slice, ...] | None:
        """Return the cells of a chunk, within it, that are written; None if none are."""
        extent = tuple(slice(0, s.stop - s.start) for s in variable.grid.cells(index))
        return extent if self.selection is None else self.selection.within(variable, index)

    def chunk(self, name: str, index: Index) -> tuple[NDArray[np.generic], NDArray[np.uint8]]:
        """Return raw values and provenance of a chunk, each in its shape."""
        raw, _, provenance = plane_chunk(
            self._captures[name], self._shadows.get(name), self.plane, index, self.readings[name]
        )
        return native(raw), provenance


def _written(repository: Repository, plane: Plane) -> Iterator[Variable]:
    """Yield the variables of which a plane has a state."""
    for variable in repository.settings.variables:
        is_known = plane.step is None or plane.step >= variable.since
        if is_known and (variable.forecast or not is_predicted((plane,))):
            yield variable


def differences(
    repository: Repository,
    wanted: Wanted,
    dataset: xr.Dataset,
    position: int | None,
    mapper: Mapper,
) -> list[ChunkChange]:
    """Return the chunks of an open live dataset that are not what they should become.

    Each is read whole, and compared bit for bit; those outside the selection are not read.

    Parameters
    ----------
    position
        Along time; None for a state source.
    mapper
        Works on threads of this process: the open dataset is shared.
    """
    changes: list[ChunkChange] = []
    for name in wanted.readings:
        variable = repository.settings.variable(name)
        _, along = chunk_sizes(dataset, variable)
        blocks = [
            block
            for block in reading_grid(variable.grid, along).blocks()
            if any(wanted.cells(variable, i) for i, _, _ in variable.grid.inner(block))
        ]
        compare = partial(_compared, wanted, dataset, variable, position)
        changes += [change for found in mapper(compare, blocks) for change in found]
    return changes


def _compared(
    wanted: Wanted, dataset: xr.Dataset, variable: Variable, position: int | None, block: Block
) -> list[ChunkChange]:
    """Return the chunks of a block that differ."""
    selected = [
        (index, cells)
        for index, _, cells in variable.grid.inner(block)
        if wanted.cells(variable, index) is not None
    ]
    try:
        live = read_state(dataset, variable, position, block.cells) if len(selected) > 1 else None
    except Unreadable:  # some chunk of it: which, is seen one by one
        live = None
    changes = []
    for index, cells in selected:
        there: NDArray[np.generic] | None
        if live is not None:
            there = cut(live, cells)
        else:
            try:
                there = read_state(dataset, variable, position, variable.grid.cells(index))
            except Unreadable:
                there = None
        change = _change(wanted, variable, index, there)
        if change is not None:
            changes.append(change)
    return changes


def _change(
    wanted: Wanted, variable: Variable, index: Index, there: NDArray[np.generic] | None
) -> ChunkChange | None:
    """Return how a chunk differs from what it should become; None if it does not."""
    name = variable.name
    if there is not None:
        expected = wanted.captured_digest(name, index)
        if expected is not None and expected == digest(name, index, there):
            return None
    raw, provenance = wanted.chunk(name, index)
    cells = wanted.cells(variable, index)
    assert cells is not None
    is_whole = raw[cells].shape == raw.shape
    if there is None and not is_whole:
        raise Unreadable(
            f"{name} chunk {index} of the live dataset cannot be decoded, so no part of it can be "
            "kept; select the whole chunk"
        )
    after = raw
    if there is not None and not is_whole:
        after = there.copy()
        after[cells] = raw[cells]
    differing = raw.size if there is None else int(_differing(after, there).sum())
    if not differing:
        return None
    estimated = int(np.isin(provenance[cells], ESTIMATED).sum())
    return ChunkChange(
        name, index, differing, estimated, there is None, digest(name, index, after).hex()
    )


def _differing(first: NDArray[np.generic], second: NDArray[np.generic]) -> NDArray[np.bool_]:
    """Return which cells differ in their bits."""
    if first.dtype == object:
        return np.asarray(first != second)
    bits = [
        np.ascontiguousarray(a).reshape(a.shape or (1,)).view(np.uint8).reshape(-1, a.itemsize)
        for a in (first, second)
    ]
    return np.asarray((bits[0] != bits[1]).any(axis=1))
