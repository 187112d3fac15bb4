"""The forecaster's recursive state, as numbers per variable whose meaning storage ignores.

``cells`` (row, *dims) holds rows of numbers per cell, as multiples of powers of two, and ``index``
(*chunk grid, 2 + rows) the digest of each chunk's, and its exponents.  ``shared`` (*chunk grid,
column) are numbers per chunk.  They stay where they were written while the state goes on: a later
commit names the captures to be learnt on top of them, and has in ``carried`` (*chunk grid, number)
what captures do not give back.  ``outlook`` (number, 1) is what is known of the whole variable;
what it goes on with is in ``onward`` (slot, number).
"""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gnomon.storage.arrays.layout import residual_metadata
from gnomon.storage.arrays.multiples import from_multiples, to_multiples
from gnomon.storage.arrays.residuals import digest
from gnomon.storage.arrays.shards import pack_chunk, pack_shard, read_shard
from gnomon.storage.arrays.tables import Slab, create_table
from gnomon.storage.errors import GnomonError, Integrity
from gnomon.storage.log.bodies.shadow import LearntEntry
from gnomon.storage.log.folders import state_of
from gnomon.storage.log.location import Location
from gnomon.storage.log.staging import Batch
from gnomon.storage.recent import drop_oldest
from gnomon.storage.values.grid import Block, ChunkGrid, Index
from gnomon.storage.values.model import Variable

__all__ = [
    "ForecasterState",
    "create_carried",
    "create_onward",
    "create_outlook",
    "create_state",
    "create_state_tables",
    "remove_states",
    "state_grid",
    "write_state",
]

STATE_BYTES = 2**26
"""Memory of a stored object of the state, about; more only where a single chunk needs it."""
KEPT_BLOCKS = 2
"""Objects that an open state keeps, as chunks are asked for one after the other."""

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

_CURE = "run 'gnomon update --refit' to learn it anew"
_INTEGER = np.dtype("<i8")


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


def _row_grid(grid: ChunkGrid, rows: int) -> ChunkGrid:
    """Return the grid of ``cells``: an object holds all rows of a block, each by itself."""
    return ChunkGrid((rows, *grid.shape), (1, *grid.shards), (rows, *grid.shards))


def create_state(batch: Batch, path: str, grid: ChunkGrid, rows: int) -> None:
    """Describe the array ``cells`` (row, *dims); its blocks follow.

    Parameters
    ----------
    grid
        As `state_grid` returns it.
    """
    whole = _row_grid(grid, rows)
    inner = ChunkGrid(whole.shape[1:], whole.chunks[1:], whole.shards[1:])
    batch.create(f"{path}/cells/zarr.json", residual_metadata(rows, inner, _INTEGER, together=True))


def write_state(
    batch: Batch,
    path: str,
    variable: str,
    grid: ChunkGrid,
    block: Block,
    cells: Floats,
    exponents: Integers,
) -> Integers:
    """Store the numbers per cell of one block; returns its part of the index.

    Parameters
    ----------
    grid, block
        As `state_grid` returns it, and one of its blocks.
    cells
        float64 (row, *cells of the block).
    exponents
        int64 (row, *chunks of the block): of the powers of two that they are rounded to.

    Returns
    -------
    int64 (*chunks of the block, 2 + rows)
    """
    rows = len(cells)
    whole = np.zeros((rows, *grid.shards), np.int64)
    index = np.zeros((*block.grid, 2 + rows), np.int64)
    for address, local, inside in grid.inner(block):
        where: tuple[Any, ...] = (slice(None), *inside)
        chunk: tuple[Any, ...] = (slice(None), *local)
        spread = exponents[chunk].reshape(rows, *(1,) * len(inside))
        multiples = to_multiples(cells[where], spread)
        whole[where] = multiples
        index[local] = *_digest(variable, address, multiples), *exponents[chunk]
    row_grid = _row_grid(grid, rows)
    corner = (0,) * len(grid.shape)
    packed = {(row, *corner): pack_chunk(whole[row : row + 1]) for row in range(rows)}
    there = {place: data for place, data in packed.items() if data is not None}
    number = "/".join(str(a // n) for a, n in zip(block.start, grid.shards, strict=True))
    batch.create(_object(path, number), pack_shard(row_grid, there))
    return index


def _object(path: str, number: str) -> str:
    return "/".join(part for part in (path, "cells/c/0", number) if part)


def create_state_tables(
    batch: Batch, path: str, index: Integers, shared: Floats
) -> tuple[str, str]:
    """Store digests and exponents, and the numbers per chunk; return their roots."""
    rows, columns = index.shape[-1] - 2, shared.shape[-1]
    names = ["digest_high", "digest_low", *(f"exponent_{row}" for row in range(rows))]
    return (
        create_table(batch, f"{path}/index", index, names),
        create_table(batch, f"{path}/shared", shared, [str(k) for k in range(columns)]),
    )


def create_carried(batch: Batch, path: str, carried: Floats) -> str:
    """Store the numbers per chunk, float64 (*chunk grid, number), that a state goes on with."""
    names = [str(k) for k in range(carried.shape[-1])]
    return create_table(batch, f"{path}/carried", carried, names)


def create_outlook(batch: Batch, path: str, numbers: Floats) -> str:
    """Store the numbers of the whole variable, float64 (n,), and return their root."""
    return create_table(batch, f"{path}/outlook", numbers[:, None], ["number"])


def create_onward(batch: Batch, path: str, numbers: Floats) -> str:
    """Store what an outlook goes on with, float64 (slot, number), and return its root."""
    return create_table(batch, f"{path}/onward", numbers, [str(k) for k in range(numbers.shape[1])])


def _digest(variable: str, index: Index, multiples: Integers) -> Integers:
    """Return the two digest columns of one chunk's numbers per cell."""
    # The number of cells stands in front: another split of the same numbers is another state.
    both = np.concatenate([[multiples.size], multiples.ravel()])
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
    entry: LearntEntry
    """What the log record says of it."""
    _slabs: dict[str, Slab] = field(default_factory=dict)
    _blocks: dict[str, Integers] = field(default_factory=dict)

    @property
    def is_current(self) -> bool:
        """Whether it has the present form; of another one only the tables can be read."""
        return bool(self.entry.shared)

    def index(self) -> Integers:
        """Return digests and exponents, int64 (*chunk grid, 2 + rows), verified.

        Raises
        ------
        Integrity
            They are damaged.
        """
        return self._table("index", self.entry.root, self.entry.anchor)

    def shared(self) -> Floats:
        """Return the numbers per chunk, float64 (*chunk grid, column); raises as `index`."""
        return self._table("shared", self.entry.shared, self.entry.anchor)

    def carried(self) -> Floats | None:
        """Return what it goes on with, float64 (*chunk grid, number); raises as `index`.

        None where nothing was learnt on top of it.
        """
        return self._table("carried", self.entry.carried) if self.entry.carried else None

    def outlook(self) -> Floats:
        """Return the numbers of the whole variable, float64 (n,), verified; raises as `index`."""
        anchor = self.entry.anchor if self.entry.onward else ""
        return np.asarray(self._table("outlook", self.entry.outlook, anchor)[:, 0])

    def onward(self) -> Floats | None:
        """Return what they go on with, float64 (slot, number); raises as `index`.

        None where they do not.
        """
        return self._table("onward", self.entry.onward) if self.entry.onward else None

    def tables(self) -> dict[str, str]:
        """Return the paths of its tables, by name."""
        own, anchor = self._path(""), self._path(self.entry.anchor)
        paths = {"index": f"{anchor}/index", "shared": f"{anchor}/shared"}
        outlook = anchor if self.entry.onward else own
        paths |= {"outlook": f"{outlook}/outlook"}
        paths |= {"carried": f"{own}/carried", "onward": f"{own}/onward"}
        roots = {"index": self.entry.root, "shared": self.entry.shared}
        roots |= {"outlook": self.entry.outlook}
        roots |= {"carried": self.entry.carried, "onward": self.entry.onward}
        return {name: path for name, path in paths.items() if roots[name]}

    def _path(self, anchor: str) -> str:
        return state_of(anchor or self.id, self.variable)

    def _table(self, name: str, root: str, anchor: str = "") -> NDArray[Any]:
        if name not in self._slabs:
            is_whole = name in ("outlook", "onward")  # of the variable, not of its chunks
            sizes = {} if is_whole else {name: self.variable.grid.counts}
            path = self._path(anchor)
            self._slabs[name] = Slab(self.location, path, {name: root}, sizes=sizes, cure=_CURE)
        return self._slabs[name].index(name)

    @property
    def _grid(self) -> ChunkGrid:
        return state_grid(self.variable.grid, self.entry.rows)

    def file(self, index: Index) -> str:
        """Return the stored object that holds the cells of a chunk."""
        starts = zip(self.variable.grid.cells(index), self._grid.shards, strict=True)
        number = "/".join(str(c.start // n) for c, n in starts)
        return _object(self._path(self.entry.anchor), number)

    def chunk(self, index: Index) -> tuple[Floats, Floats]:
        """Return ``cells`` (row, cell) and ``shared`` (column,) of a chunk, float64, verified.

        Raises
        ------
        Integrity
            Stored bytes are not what was written.
        """
        about, shared = self.index()[index], self.shared()[index]
        if (len(about) - 2, len(shared)) != (self.entry.rows, self.entry.columns):
            raise Integrity(
                f"forecaster state of {self.variable.name} has {len(about) - 2} rows and "
                f"{len(shared)} columns, expected {self.entry.rows} and {self.entry.columns}; "
                f"{_CURE}"
            )
        name = self.file(index)
        try:
            block = self._block(name)
        except Integrity as error:
            raise Integrity(
                f"forecaster state of {self.variable.name} chunk {index}: {error}; {_CURE}"
            ) from error
        inside = (
            slice(c.start % n, c.start % n + c.stop - c.start)
            for c, n in zip(self.variable.grid.cells(index), self._grid.shards, strict=True)
        )
        multiples = block[(slice(None), *inside)].reshape(len(block), -1)
        if not np.array_equal(_digest(self.variable.name, index, multiples), about[:2]):
            raise Integrity(
                f"forecaster state of {self.variable.name} chunk {index} is damaged ({name}); "
                f"{_CURE}"
            )
        return from_multiples(multiples, about[2:, None]), np.asarray(shared)

    def _block(self, name: str) -> Integers:
        """Return all numbers per cell (row, *cells) of an object; the last ones are kept."""
        block = self._blocks.get(name)
        if block is None:
            grid = _row_grid(self._grid, self.entry.rows)
            block = read_shard(self.location, name, grid, _INTEGER)
            self._blocks[name] = block
            drop_oldest(self._blocks, KEPT_BLOCKS)
        return block
