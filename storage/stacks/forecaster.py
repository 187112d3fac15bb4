"""The forecaster's recursive state, as two arrays per variable whose meaning storage ignores.

``cells`` (row, *dims) holds rows of numbers per cell, ``shared`` (column, *chunk grid) numbers per
chunk, ``index`` (*chunk grid, 2) the digest of both.  ``outlook`` (number, 1) is what is known of
the variable as a whole.
"""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gnomon.storage.arrays.residuals import digest
from gnomon.storage.arrays.shards import Shards, pack_shard, pack_whole
from gnomon.storage.arrays.tables import Slab, StoredColumn, create_table
from gnomon.storage.errors import GnomonError, Integrity
from gnomon.storage.log.folders import state_of
from gnomon.storage.log.location import Location
from gnomon.storage.log.staging import Batch
from gnomon.storage.values.grid import Block, ChunkGrid, Index
from gnomon.storage.values.model import Variable

if TYPE_CHECKING:
    import zarr

__all__ = [
    "ForecasterState",
    "create_outlook",
    "create_state",
    "pack_state",
    "remove_states",
    "state_digest",
    "state_grid",
    "write_state",
]

STATE_BYTES = 2**26
"""Size of a stored object of the state, about; more only where a single chunk needs it."""

Floats = NDArray[np.float64]

_CURE = "run 'gnomon update --refit' to learn it anew"

_INDEX = [StoredColumn("digest_high", also="high"), StoredColumn("digest_low", also="low")]


def state_grid(grid: ChunkGrid, rows: int) -> ChunkGrid:
    """Return the grid on which the state is written: shards small enough for its many rows.

    They divide the variable's own shards, and are what one worker takes in one go.
    """
    shards = list(grid.chunks)
    for axis in reversed(range(len(shards))):
        whole = grid.shards[axis] // grid.chunks[axis]
        room = STATE_BYTES // max(1, 8 * rows * prod(shards))
        count = max(n for n in range(1, whole + 1) if whole % n == 0 and n <= max(1, room))
        shards[axis] *= count
        if count < whole:
            break
    return ChunkGrid(grid.shape, grid.chunks, tuple(shards))


def shared_grid(grid: ChunkGrid) -> ChunkGrid:
    """Return the grid of the numbers per chunk: one stored chunk for each shard of the state."""
    per_shard = tuple(s // c for s, c in zip(grid.shards, grid.chunks, strict=True))
    return ChunkGrid(grid.counts, per_shard, per_shard)


def create_state(
    batch: Batch, path: str, grid: ChunkGrid, rows: int, columns: int
) -> "tuple[zarr.Array[Any], zarr.Array[Any]]":
    """Make the empty arrays ``cells`` (row, *dims) and ``shared`` (column, *chunk grid).

    Parameters
    ----------
    grid
        As `state_grid` returns it.
    """
    import zarr  # here, as what is read is read without it
    from zarr.codecs import Crc32cCodec, ZstdCodec

    few = shared_grid(grid)
    arrays = []
    for name, part, first in (("cells", grid, rows), ("shared", few, columns)):
        array = zarr.create_array(
            batch.store(),
            name=f"{path}/{name}",
            shape=(first, *part.shape),
            chunks=(first, *part.chunks),
            shards=(first, *part.shards) if part.shards != part.chunks else None,
            dtype=np.float64,
            fill_value=0.0,
            config={"write_empty_chunks": True},
            compressors=(ZstdCodec(level=1), Crc32cCodec()),
        )
        arrays.append(array)
    return arrays[0], arrays[1]


def write_state(
    batch: Batch,
    path: str,
    grid: ChunkGrid,
    block: Block,
    cells: Mapping[Index, bytes],
    shared: Floats,
) -> None:
    """Store the state of one block.

    Parameters
    ----------
    grid, block
        As `state_grid` returns it, and one of its blocks.
    cells
        By the chunk's place in the block: what `pack_state` made of it.
    shared
        float64 (column, *chunks of the block).
    """
    number = "/".join(str(a // n) for a, n in zip(block.start, grid.shards, strict=True))
    few = shared_grid(grid)
    whole = np.zeros((len(shared), *few.chunks))
    whole[(slice(None), *(slice(0, n) for n in block.grid))] = shared
    batch.create(_object(path, "cells", number), pack_shard(grid, cells))
    batch.create(_object(path, "shared", number), pack_whole(whole))


def _object(path: str, name: str, number: str) -> str:
    return "/".join(part for part in (path, name, "c/0", number) if part)


def pack_state(grid: ChunkGrid, cells: Floats) -> bytes:
    """Return the state of one chunk, float64 (row, *dims), as stored; Zarr would copy it twice."""
    if cells.shape[1:] != grid.chunks:
        whole = np.zeros((len(cells), *grid.chunks))
        whole[tuple(slice(0, n) for n in cells.shape)] = cells
        cells = whole
    return pack_whole(cells)


def create_outlook(batch: Batch, path: str, numbers: Floats) -> str:
    """Store the numbers of the whole variable, float64 (n,), and return their root."""
    return create_table(batch, f"{path}/outlook", numbers[:, None], ["number"])


def state_digest(variable: str, index: Index, cells: Floats, shared: Floats) -> NDArray[np.int64]:
    """Return the two digest columns of one chunk's state."""
    # The number of cells stands in front: another split of the same numbers is another state.
    both = np.concatenate([[float(cells.size)], cells.ravel(), shared.ravel()])
    return np.frombuffer(digest(variable, index, both), "<i8")


def remove_states(location: Location, commits: Iterable[str]) -> None:
    """Remove forecasters' states that no run reads any more.

    What a crash or a failing store leaves of them, a prune removes.
    """
    for commit in commits:
        with suppress(GnomonError):
            location.delete(location.list(f"{state_of(commit)}/"))


@dataclass(slots=True)
class ForecasterState:
    """The state of one variable in one commit, open for reading."""

    location: Location
    """Where the repository lives."""
    variable: Variable
    """The variable."""
    id: str
    """Folder under ``forecaster/``."""
    root: str
    """Root of the index, from the log record."""
    rows: int
    """Rows of ``cells``."""
    columns: int
    """Numbers per chunk."""
    outlook_root: str = ""
    """Root of the outlook, from the log record."""
    _opened: tuple[Slab, Shards, Shards] | None = field(default=None)

    def index(self) -> NDArray[Any]:
        """Return the digests, int64 (*chunk grid, 2), verified; Integrity if they are damaged."""
        return self._open()[0].index()

    def outlook(self) -> Floats:
        """Return the numbers of the whole variable, float64 (n,), verified; raises as `index`."""
        path = state_of(self.id, self.variable)
        slab = Slab(self.location, path, {"outlook": self.outlook_root}, cure=_CURE)
        return np.asarray(slab.index("outlook")[:, 0])

    def _open(self) -> tuple[Slab, Shards, Shards]:
        if self._opened is None:
            path = state_of(self.id, self.variable)
            slab = Slab(
                self.location,
                path,
                {"index": self.root},
                columns={"index": _INDEX},
                sizes={"index": self.variable.grid.counts},
                cure=_CURE,
            )
            double = np.dtype("<f8")
            grid = state_grid(self.variable.grid, self.rows)
            cells = Shards(self.location, f"{path}/cells", grid, double, self.rows)
            few = Shards(self.location, f"{path}/shared", shared_grid(grid), double, self.columns)
            self._opened = slab, cells, few
        return self._opened

    def file(self, index: Index) -> str:
        """Return the stored object that holds the cells of a chunk."""
        return self._open()[1].name(0, self.variable.grid.cells(index))

    def chunk(self, index: Index) -> tuple[Floats, Floats]:
        """Return ``cells`` (row, cell) and ``shared`` (column,) of a chunk, float64, verified.

        Raises
        ------
        Integrity
            Stored bytes are not what was written.
        """
        slab, all_cells, all_shared = self._open()
        expected = slab.index()[index]
        region = self.variable.grid.cells(index)
        place = tuple(slice(i, i + 1) for i in index)
        try:
            cells = all_cells.read(0, region).reshape(self.rows, -1)
            shared = all_shared.read(0, place).reshape(self.columns)
        except Integrity as error:
            raise Integrity(
                f"forecaster state of {self.variable.name} chunk {index}: {error}; {_CURE}"
            ) from error
        if not np.array_equal(state_digest(self.variable.name, index, cells, shared), expected):
            files = f"{all_cells.name(0, region)} or {all_shared.name(0, place)}"
            raise Integrity(
                f"forecaster state of {self.variable.name} chunk {index} is damaged "
                f"({files}); {_CURE}"
            )
        return cells, shared
