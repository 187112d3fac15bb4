"""Writing captures: the states of one variable go into a slab block by block."""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gnomon.storage.arrays.encoding import COLUMNS, FILTER, EncodedChunk
from gnomon.storage.arrays.layout import group_metadata, residual_metadata
from gnomon.storage.arrays.residuals import residual_dtype
from gnomon.storage.arrays.shards import keep_packed, pack_chunk, pack_shard
from gnomon.storage.arrays.tables import create_index
from gnomon.storage.arrays.text import pack_text, text_name
from gnomon.storage.log.folders import captures_of
from gnomon.storage.log.staging import Batch
from gnomon.storage.values.grid import Block, Index
from gnomon.storage.values.model import Variable
from gnomon.storage.values.times import format_instant

__all__ = [
    "BlockWriter",
    "ShardPacker",
    "create_captures",
    "create_captures_index",
    "described_captures",
    "units_of",
]


def create_captures(
    batch: Batch, variable: Variable, instants: Sequence[int], calendar: str
) -> None:
    """Describe the captured states of a variable in a commit; their blocks follow."""
    path = captures_of(batch.id, variable)
    for name, data in described_captures(variable, instants, calendar).items():
        batch.create(f"{path}/{name}", data)


def described_captures(
    variable: Variable, instants: Sequence[int], calendar: str
) -> dict[str, bytes]:
    """Return the descriptions of a slab by name: a Zarr group, and its array; text has none.

    They are the same bytes whenever they are made again.
    """
    times = [format_instant(instant, calendar) for instant in instants]
    about = variable.described() | {"valid_time": times, "calendar": calendar}
    described = {"zarr.json": group_metadata(about)}
    if not variable.is_text:
        grid = variable.stored_grid
        names = ["state", *variable.dims, "part"][: 1 + len(grid.shape)]
        described["residual/zarr.json"] = residual_metadata(
            len(instants), grid, residual_dtype(variable.numpy_dtype), names=names
        )
    return described


def create_captures_index(batch: Batch, variable: Variable, rows: NDArray[np.int64]) -> str:
    """Store the index of a variable's captures, int64 (step, *chunk grid, 6); return its root."""
    names = ["state", *(f"chunk_{dim}" for dim in variable.dims), "column"]
    return create_index(batch, f"{captures_of(batch.id, variable)}/index", rows, COLUMNS, names)


def units_of(
    variable: Variable, block: Block
) -> list[list[tuple[Index, Index, tuple[slice, ...]]]]:
    """Return the chunks of a block, as ``Grid.inner`` gives them, by the unit they are in."""
    units: dict[Index, list[tuple[Index, Index, tuple[slice, ...]]]] = {}
    along = zip(block.first_chunk, block.grid, variable.chunks, variable.units, strict=True)
    numbers = [[i * c // u for i in range(first, first + n)] for first, n, c, u in along]
    for unit, chunk in zip(product(*numbers), variable.grid.inner(block), strict=True):
        units.setdefault(unit, []).append(chunk)
    return list(units.values())


class ShardPacker:
    """Packs the residuals of one state of a variable into shards, unit by unit."""

    def __init__(self, variable: Variable) -> None:
        self._variable = variable
        self._dtype = residual_dtype(variable.numpy_dtype)
        self._packed: dict[Index, dict[Index, bytes]] = {}

    def put(self, residuals: Mapping[Index, NDArray[np.signedinteger]], *, bent: bool) -> None:
        """Take in the signed integers of a unit by chunk index; chunks that are left out are zero.

        Parameters
        ----------
        bent
            Whether they are planar differences: the filter of the unit's chunks.
        """
        grid = self._variable.stored_grid
        places = {index: self._variable.stored_cells(index) for index in residuals}
        whole: NDArray[Any] = np.zeros(0 if not residuals else grid.chunks, self._dtype)
        for index, residual in residuals.items():
            if residual.shape == grid.chunks:
                whole = residual
                continue
            inside = zip(places[index], grid.chunks, strict=True)
            whole[tuple(slice(c.start % n, (c.stop - 1) % n + 1) for c, n in inside)] = residual
        packed = pack_chunk(whole, bent=bent)
        if packed is not None:
            corner = [c.start for c in next(iter(places.values()))]
            shard = tuple(a // n for a, n in zip(corner, grid.shards, strict=True))
            sizes = zip(corner, grid.shards, grid.chunks, strict=True)
            place = tuple(a % n // c for a, n, c in sizes)
            self._packed.setdefault(shard, {})[place] = packed

    def shards(self) -> dict[Index, bytes]:
        """Return the shards of the state by their index, and begin the next state."""
        grid, packed = self._variable.stored_grid, self._packed
        self._packed = {}
        return {shard: pack_shard(grid, chunks) for shard, chunks in packed.items()}


class BlockWriter:
    """Writes one block of a variable, state after state."""

    def __init__(self, batch: Batch, variable: Variable) -> None:
        self._batch = batch
        self._path = captures_of(batch.id, variable)
        self._is_text = variable.is_text
        self._packer = ShardPacker(variable)

    def put(self, local: int, unit: Sequence[tuple[Index, EncodedChunk]]) -> None:
        """Take in the chunks of a unit of the state at a position of the slab."""
        if self._is_text:
            for index, encoded in unit:
                if not encoded.is_unchanged:
                    text = pack_text(encoded.held.values())
                    self._batch.create(text_name(self._path, local, index), text)
            return
        residuals = {i: m.residual for i, m in unit if m.residual is not None}
        bent = any(m.row[FILTER] for _, m in unit if m.residual is not None)
        self._packer.put(residuals, bent=bent)

    def finish(self, local: int) -> None:
        """Store the chunks that were taken in of a state."""
        for shard, data in self._packer.shards().items():
            name = "/".join([f"{self._path}/residual/c", *map(str, (local, *shard))])
            self._batch.create(name, data)
            keep_packed(self._batch.location, name, data)
