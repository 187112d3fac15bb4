"""Slabs: the Zarr arrays of one variable in one commit, written once and verified on every read.

``residual`` (step, *dims) holds a signed integer per cell, ``index`` (step, *chunk grid, column)
says per chunk how to read it.  The hash of the index is the slab's *root* and stands in the log
record, so that from the record every stored byte can be verified.
"""

import hashlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import Crc32cCodec, ZstdCodec

from gnomon.storage.delta import codecs
from gnomon.storage.errors import GnomonError, Integrity
from gnomon.storage.grid import Grid, Index
from gnomon.storage.location import Location

__all__ = ["Slab", "create_index", "create_residual", "root"]


def create_residual(
    location: Location, path: str, *, lead: int, grid: Grid, dtype: np.dtype[Any]
) -> zarr.Array[Any]:
    """Make an empty array (lead, *dims) for integers, chunked like the variable."""
    return zarr.create_array(
        location.zarr_store(read_only=False),
        name=path,
        shape=(lead, *grid.shape),
        chunks=(1, *grid.chunks),
        shards=(1, *grid.shards) if grid.shards != grid.chunks else None,
        dtype=dtype,
        fill_value=0,
        filters=None,
        **codecs(dtype),
    )


def create_index(location: Location, path: str, values: NDArray[Any], columns: list[str]) -> str:
    """Store a small array whole, as one object, and return its root."""
    array = zarr.create_array(
        location.zarr_store(read_only=False),
        name=path,
        shape=values.shape,
        chunks=tuple(max(1, n) for n in values.shape),
        dtype=values.dtype,
        fill_value=0,
        compressors=[ZstdCodec(level=3), Crc32cCodec()],
        attributes={"columns": columns},
        config={"write_empty_chunks": True},
    )
    array[...] = values
    return root(values)


def root(values: NDArray[Any]) -> str:
    """Return the hash of an index that stands for everything below it."""
    data = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
    head = f"{data.dtype.str}{data.shape}".encode()
    return hashlib.blake2b(head + data.tobytes(), digest_size=20).hexdigest()


@dataclass(slots=True)
class Slab:
    """One slab, open for reading; its index is verified against the root when first used."""

    location: Location
    """Where the repository lives."""
    path: str
    """Folder of the slab, such as ``captures/<id>/<variable>``."""
    roots: dict[str, str]
    """Per index array, the root that the log record gives."""
    _arrays: dict[str, Any] = field(default_factory=dict)

    def index(self, name: str = "index") -> NDArray[Any]:
        """Return a small array, verified.

        Raises
        ------
        Integrity
            It is missing, unreadable, or not what was committed.
        """
        key = f"#{name}"
        if key not in self._arrays:
            values = np.asarray(self._read(name, (Ellipsis,)))
            found = root(values)
            if found != self.roots[name]:
                raise Integrity(
                    f"{self.path}/{name}: root {found[:12]} found, {self.roots[name][:12]} "
                    "expected; the file was changed after it was written"
                )
            self._arrays[key] = values
        return self._arrays[key]  # type: ignore[no-any-return]

    def read_any(self, name: str, where: tuple[Any, ...]) -> NDArray[Any]:
        """Return a region of an array of any shape and type, *not yet verified*."""
        return np.asarray(self._read(name, where))

    def read(
        self, name: str, where: tuple[Any, ...], *, shape: Index, dtype: np.dtype[Any]
    ) -> NDArray[Any]:
        """Return a region of a large array, *not yet verified*: the caller has the digest.

        Raises
        ------
        Integrity
            It cannot be read, or is not of the expected shape and type.
        """
        values = self.read_any(name, where)
        if values.shape != shape or values.dtype != dtype:
            raise Integrity(
                f"{self.path}/{name} holds {values.dtype} {values.shape} where {dtype} {shape} "
                "was written; its zarr.json is damaged, restore it from a copy of the repository"
            )
        return values

    def file(self, name: str, grid: Grid, lead: Index, index: Index) -> str:
        """Return the stored object that holds a chunk."""
        per_shard = [s // c for s, c in zip(grid.shards, grid.chunks, strict=True)]
        parts = [*lead, *(i // n for i, n in zip(index, per_shard, strict=True))]
        return f"{self.path}/{name}/c/{'/'.join(map(str, parts))}"

    def _read(self, name: str, where: tuple[Any, ...]) -> Any:
        path = f"{self.path}/{name}"
        try:
            if name not in self._arrays:
                store = self.location.zarr_store()
                self._arrays[name] = zarr.open_array(store, path=path, mode="r", zarr_format=3)
            return self._arrays[name][where]
        except GnomonError:
            raise
        except Exception as error:  # codecs raise whatever damaged bytes make them raise
            if self.location.is_outage(error):
                raise self.location.unavailable(path, error) from error
            reason = " ".join(str(error).split())[:160] or type(error).__name__
            raise Integrity(
                f"{path} cannot be read: {reason}; restore it from a copy of the repository"
            ) from error
