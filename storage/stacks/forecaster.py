"""The forecaster's recursive state, as numbers per variable whose meaning storage ignores.

``cells`` (row, *dims) holds rows of numbers per cell, as multiples of powers of two, and ``index``
(*chunk grid, 2 + rows) the digest of each chunk's, and its exponents.  ``shared`` (*chunk grid,
column) are numbers per chunk.  They stay where they were written while the state goes on: a later
commit names the captures to be learnt on top of them, and has in ``carried`` (*chunk grid, number)
what captures do not give back.  ``outlook`` (number, 1) is what is known of the whole variable;
what it goes on with is in ``onward`` (slot, number).
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import product
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_128

from gnomon.storage.arrays.layout import residual_metadata
from gnomon.storage.arrays.multiples import to_multiples, turned_to_numbers
from gnomon.storage.arrays.residuals import hasher
from gnomon.storage.arrays.shards import keep_packed, pack_chunk, pack_shard, unpack_shard
from gnomon.storage.arrays.tables import Slab, create_table
from gnomon.storage.errors import GnomonError, Integrity
from gnomon.storage.log.bodies.shadow import LearntEntry
from gnomon.storage.log.folders import state_of
from gnomon.storage.log.location import Location
from gnomon.storage.log.staging import Batch
from gnomon.storage.values.grid import Block, ChunkGrid, Index
from gnomon.storage.values.model import Variable
from gnomon.storage.values.tiling import chunks_of, joined, parted

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

CELLS = 2**18
"""Numbers of several chunks that are worked on at once, about."""

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

_CURE = "run 'gnomon update --refit' to learn it anew"
_INTEGER = np.dtype("<i8")


@lru_cache(maxsize=16)
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
    index = np.zeros((*block.grid, 2 + rows), np.int64)
    index[..., 2:] = np.moveaxis(exponents, 0, -1)
    addresses, local, _ = (list(column) for column in zip(*grid.inner(block), strict=True))
    places = grid.places(local)
    runs, hashed = [], []
    for shape, run in grid.runs(addresses, most=CELLS // rows):
        numbers = chunks_of(cells, grid.chunks, places[run], shape)
        spread = index[*places[run].T, 2:].reshape(len(numbers), rows, *(1,) * len(shape))
        multiples = to_multiples(numbers, spread)
        runs.append(multiples)
        for address, chunk in zip(addresses[run], multiples.reshape(len(numbers), -1), strict=True):
            state = _hasher(variable, address, chunk.size)
            state.update(chunk.view(np.uint8))
            hashed.append(state.digest())
    digests = np.frombuffer(b"".join(hashed), _INTEGER)
    index[..., :2] = digests.reshape(*block.grid, 2)
    row_grid = _row_grid(grid, rows)
    corner = (0,) * len(grid.shape)
    packed = {}
    for row in range(rows):
        of_row = [multiples[:, row : row + 1] for multiples in runs]
        whole = joined(of_row, grid.chunks, places, grid.shards)
        packed[row, *corner] = pack_chunk(whole)
    there = {place: data for place, data in packed.items() if data is not None}
    number = "/".join(str(a // n) for a, n in zip(block.start, grid.shards, strict=True))
    name, data = _object(path, number), pack_shard(row_grid, there)
    batch.create(name, data)
    keep_packed(batch.location, name, data)
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


def _hasher(variable: str, index: Index, size: int) -> xxh3_128:
    """Return what makes the digest of one chunk, of so many numbers, row after row."""
    result = hasher(variable, index, _INTEGER.str, (size + 1,))
    # Their number stands in front: another split of the same numbers is another state.
    result.update(np.array([size], _INTEGER).view(np.uint8))
    return result


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

    def by_file(self, indices: Iterable[Index]) -> dict[str, list[Index]]:
        """Return chunks by the stored object that holds their cells."""
        every = list(indices)
        grid = self._grid
        together = parted(grid.places(every) * grid.chunks // grid.shards)
        return {self.file(every[part[0]]): [every[k] for k in part] for part in together}

    def beside(self, index: Index) -> list[Index]:
        """Return the chunks that are stored in one object with a chunk, in row-major order."""
        grid = self._grid
        shards = zip(index, grid.chunks, grid.shards, grid.counts, strict=True)
        ranges = []
        for i, chunk, shard, count in shards:
            whole = shard // chunk
            first = i // whole * whole
            ranges.append(range(first, min(first + whole, count)))
        return [*product(*ranges)]

    def read(
        self, indices: Sequence[Index], damaged: list[Integrity] | None = None
    ) -> tuple[list[Index], Floats, Floats]:
        """Return the numbers of chunks that one object holds, verified.

        Beside them a row of the object is all that takes memory.

        Parameters
        ----------
        damaged
            What is wrong with a chunk is added here, and it is left out; None: it is raised.

        Returns
        -------
        list
            The chunks that the others are of, in order.
        float64 (row, cell), the cells of one chunk after the other
        float64 (column, chunk)

        Raises
        ------
        Integrity
            Stored bytes are not what was written.
        """
        about, shared = self._about(indices)
        counts = self._grid.sizes(indices)
        ends = np.cumsum(counts)
        numbers = np.zeros((self.entry.rows, int(ends[-1])))
        multiples = numbers.view(np.int64)
        hashers = [
            _hasher(self.variable.name, index, self.entry.rows * int(count))
            for index, count in zip(indices, counts, strict=True)
        ]
        name = self.file(indices[0])
        try:
            for (row, *_), values in unpack_shard(
                self.location, name, _row_grid(self._grid, self.entry.rows), _INTEGER
            ):
                if values is not None:
                    self._gather(values, indices, multiples[row])
                data = multiples[row].view(np.uint8)
                for hasher, end, count in zip(hashers, 8 * ends, 8 * counts, strict=True):
                    hasher.update(data[end - count : end])
        except Integrity as error:
            whole = Integrity(
                f"forecaster state of {self.variable.name} chunk {indices[0]}: {error}; {_CURE}"
            )
            if damaged is None:
                raise whole from error
            damaged.append(whole)
            return [], numbers[:, :0], shared[:, :0]
        digests = np.frombuffer(b"".join(h.digest() for h in hashers), _INTEGER).reshape(-1, 2)
        sound = (digests == about[:, :2]).all(axis=1)
        for index in (indices[int(k)] for k in np.flatnonzero(~sound)):
            broken = Integrity(
                f"forecaster state of {self.variable.name} chunk {index} is damaged ({name}); "
                f"{_CURE}"
            )
            if damaged is None:
                raise broken
            damaged.append(broken)
        for row in range(len(multiples)):
            turned_to_numbers(multiples[row], about[:, 2 + row], counts)
        if sound.all():
            return list(indices), numbers, shared
        kept = [index for index, is_sound in zip(indices, sound, strict=True) if is_sound]
        return kept, numbers[:, np.repeat(sound, counts)], shared[:, sound]

    def chunk(self, index: Index) -> tuple[Floats, Floats]:
        """Return ``cells`` (row, cell) and ``shared`` (column,) of a chunk; raises as `read`."""
        _, cells, shared = self.read([index])
        return cells, shared[:, 0]

    def _about(self, indices: Sequence[Index]) -> tuple[Integers, Floats]:
        """Return digests and exponents (chunk, 2 + rows), and numbers (column, chunk)."""
        index, shared = self.index(), self.shared()
        rows, columns = index.shape[-1] - 2, shared.shape[-1]
        if (rows, columns) != (self.entry.rows, self.entry.columns):
            raise Integrity(
                f"forecaster state of {self.variable.name} has {rows} rows and {columns} columns, "
                f"expected {self.entry.rows} and {self.entry.columns}; {_CURE}"
            )
        where = tuple(self._grid.places(indices).T)
        picked = np.ascontiguousarray(shared[where].reshape(len(indices), columns).T)
        return index[where].reshape(len(indices), -1), picked

    def _gather(self, values: Integers, indices: Sequence[Index], into: Integers) -> None:
        """Copy the cells of chunks, one after the other, out of a row (1, *cells) of an object."""
        grid, end = self._grid, 0
        per_shard = [n // c for n, c in zip(grid.shards, grid.chunks, strict=True)]
        places = grid.places(indices) % per_shard
        for shape, run in grid.runs(indices):
            cells = chunks_of(values, grid.chunks, places[run], shape)
            begin, end = end, end + cells.size
            into[begin:end] = cells.reshape(-1)
