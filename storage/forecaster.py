"""The forecaster's recursive state, as two arrays per variable whose meaning storage ignores.

``cells`` (row, *dims) holds rows of numbers per cell, ``shared`` (*chunk grid, column) numbers per
chunk, ``index`` (*chunk grid, 2) the digest of both.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import Crc32cCodec, ZstdCodec

from gnomon.storage.delta import digest
from gnomon.storage.errors import Integrity
from gnomon.storage.grid import Grid, Index
from gnomon.storage.location import Location
from gnomon.storage.model import Variable
from gnomon.storage.slab import Slab

__all__ = ["ForecasterState", "create_state", "state_digest"]

Floats = NDArray[np.float64]


def create_state(
    location: Location, path: str, grid: Grid, rows: int, columns: int
) -> tuple[zarr.Array[Any], zarr.Array[Any]]:
    """Make the empty arrays ``cells`` and ``shared``."""
    compressors = (ZstdCodec(level=1), Crc32cCodec())
    store = location.zarr_store(read_only=False)
    per_shard = tuple(s // c for s, c in zip(grid.shards, grid.chunks, strict=True))
    cells = zarr.create_array(
        store,
        name=f"{path}/cells",
        shape=(rows, *grid.shape),
        chunks=(rows, *grid.chunks),
        dtype=np.float64,
        fill_value=0.0,
        config={"write_empty_chunks": True},
        compressors=compressors,
    )
    shared = zarr.create_array(
        store,
        name=f"{path}/shared",
        shape=(*grid.counts, columns),
        chunks=(*per_shard, columns),
        dtype=np.float64,
        fill_value=0.0,
        config={"write_empty_chunks": True},
        compressors=compressors,
    )
    return cells, shared


def state_digest(variable: str, index: Index, cells: Floats, shared: Floats) -> NDArray[np.int64]:
    """Return the two digest columns of one chunk's state."""
    # The number of cells stands in front: another split of the same numbers is another state.
    both = np.concatenate([[float(cells.size)], cells.ravel(), shared.ravel()])
    return np.frombuffer(digest(variable, index, both), "<i8")


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
    _slab: Slab | None = field(default=None)

    @property
    def slab(self) -> Slab:
        """The stored arrays."""
        if self._slab is None:
            path = f"forecaster/{self.id}/{self.variable.folder}"
            self._slab = Slab(self.location, path, {"index": self.root})
        return self._slab

    def chunk(self, index: Index) -> tuple[Floats, Floats]:
        """Return ``cells`` (row, cell) and ``shared`` (column) of a chunk, verified.

        Raises
        ------
        Integrity
            Stored bytes are not what was written.
        """
        expected = self.slab.index()[index]
        where = (slice(None), *self.variable.grid.cells(index))
        try:
            cells = np.asarray(self.slab.read_any("cells", where), np.float64)
            cells = cells.reshape(cells.shape[0], -1)
            shared = np.asarray(self.slab.read_any("shared", index), np.float64)
        except Integrity as error:
            raise Integrity(
                f"forecaster state of {self.variable.name} chunk {index}: {error}; "
                "run 'gnomon update --refit' to learn it anew"
            ) from error
        if not np.array_equal(state_digest(self.variable.name, index, cells, shared), expected):
            raise Integrity(
                f"forecaster state of {self.variable.name} chunk {index} is damaged "
                f"({self.slab.path}); run 'gnomon update --refit' to learn it anew"
            )
        return cells, shared
