"""Writing captures: the states of one variable go into a slab block by block."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gnomon.storage.batch import Batch
from gnomon.storage.captures import EncodedChunk
from gnomon.storage.delta import residual_dtype
from gnomon.storage.grid import Block, Index
from gnomon.storage.model import Variable
from gnomon.storage.shards import pack_chunk, pack_shard
from gnomon.storage.slab import create_residual
from gnomon.storage.text import pack_text, text_name

__all__ = ["BlockWriter", "create_captures", "units_of"]


def create_captures(batch: Batch, variable: Variable, steps: int) -> None:
    """Make room for the captured states of a variable in a commit; text needs none."""
    if not variable.is_text:
        create_residual(
            batch,
            f"captures/{batch.id}/{variable.folder}/residual",
            lead=steps,
            grid=variable.stored_grid,
            dtype=residual_dtype(variable.numpy_dtype),
        )


def units_of(
    variable: Variable, block: Block
) -> list[list[tuple[Index, Index, tuple[slice, ...]]]]:
    """Return the chunks of a block, as ``Grid.inner`` gives them, by the unit they are in."""
    units: dict[Index, list[tuple[Index, Index, tuple[slice, ...]]]] = {}
    for chunk in variable.grid.inner(block):
        units.setdefault(variable.unit_of(chunk[0]), []).append(chunk)
    return list(units.values())


class BlockWriter:
    """Writes one block of a variable, state after state.

    A shard is one object: the units of a state are packed as they come, then stored together.
    """

    def __init__(self, batch: Batch, variable: Variable) -> None:
        self._batch = batch
        self._path = f"captures/{batch.id}/{variable.folder}"
        self._variable = variable
        self._grid = variable.stored_grid
        self._dtype = residual_dtype(variable.numpy_dtype)
        self._shards: dict[Index, dict[Index, bytes]] = {}

    def put(self, local: int, unit: Sequence[tuple[Index, EncodedChunk]]) -> None:
        """Take in the chunks of a unit of the state at a position of the slab."""
        changed = [(index, made) for index, made in unit if not made.is_unchanged]
        if self._variable.is_text:
            for index, made in changed:
                text = pack_text(made.held.values())
                self._batch.create(text_name(self._path, local, index), text)
        elif changed:
            self._put(changed)

    def _put(self, changed: Sequence[tuple[Index, EncodedChunk]]) -> None:
        grid = self._grid
        whole: NDArray[Any] | None = None
        for index, made in changed:
            cells = self._variable.stored_cells(index)
            if made.residual is not None and made.residual.shape == grid.chunks:
                whole = made.residual
                continue
            if whole is None:
                whole = np.zeros(grid.chunks, self._dtype)
            starts = (c.start % n for c, n in zip(cells, grid.chunks, strict=True))
            lengths = (c.stop - c.start for c in cells)
            where = tuple(slice(a, a + n) for a, n in zip(starts, lengths, strict=True))
            whole[where] = made.residual
        packed = None if whole is None else pack_chunk(whole)
        if packed is not None:
            corner = [c.start for c in self._variable.stored_cells(changed[0][0])]
            shard = tuple(a // n for a, n in zip(corner, grid.shards, strict=True))
            sizes = zip(corner, grid.shards, grid.chunks, strict=True)
            place = tuple(a % n // c for a, n, c in sizes)
            self._shards.setdefault(shard, {})[place] = packed

    def finish(self, local: int) -> None:
        """Store what was put of a state."""
        for shard, chunks in self._shards.items():
            name = "/".join([f"{self._path}/residual/c", *map(str, (local, *shard))])
            self._batch.create(name, pack_shard(self._grid, chunks))
        self._shards = {}
