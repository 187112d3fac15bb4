"""Writing captures: the states of one variable go into a slab block by block."""

from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from gnomon.storage.batch import Batch
from gnomon.storage.captures import EncodedChunk
from gnomon.storage.delta import atom, residual_dtype
from gnomon.storage.grid import Block, Index
from gnomon.storage.model import Variable
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

    A shard is written whole: the chunks of a state are collected, then stored together.
    """

    def __init__(self, batch: Batch, variable: Variable, block: Block) -> None:
        self._batch = batch
        self._path = f"captures/{batch.id}/{variable.folder}"
        self._block = block
        self._target: zarr.Array[Any] | None = None
        if not variable.is_text:
            path = f"{self._path}/residual"
            self._target = zarr.open_array(batch.store(), path=path, mode="r+")
        shape = tuple(s.stop - s.start for s in block.cells)
        width = 1 if variable.is_text else atom(variable.numpy_dtype)[1]
        self._shape = (*shape, width) if width > 1 else shape
        self._residual: NDArray[np.signedinteger] | None = None

    def put(self, local: int, index: Index, cells: tuple[slice, ...], made: EncodedChunk) -> None:
        """Take in a chunk of the state at a position of the slab."""
        if made.is_unchanged:
            return
        if self._target is None:
            text = pack_text(made.held.values())
            self._batch.create(text_name(self._path, local, index), text)
            return
        if self._residual is None:
            self._residual = np.zeros(self._shape, self._target.dtype)
        assert made.residual is not None
        self._residual[cells] = made.residual

    def finish(self, local: int) -> None:
        """Store what was put of a state."""
        if self._residual is not None and self._target is not None:
            where: tuple[Any, ...] = (local, *self._block.cells)
            self._target[where] = self._residual
        self._residual = None
