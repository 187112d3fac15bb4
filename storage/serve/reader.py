"""The reading store: any restore point as an ordinary read-only Zarr hierarchy.

Metadata and unchanging variables are written by Zarr itself into memory; chunks of the rest are
computed on ``get`` (residual chain, digest check, prediction) and served in plain bytes.  xarray,
Dask and Zarr read it without knowing what is behind.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
from numcodecs.vlen import VLenUTF8
from numpy.typing import NDArray
from zarr.abc.store import ByteRequest, Store
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import MemoryStore

from gnomon.storage.arrays.byteranges import part_of
from gnomon.storage.values.dtypes import is_text
from gnomon.storage.values.grid import Index

__all__ = ["ChunkFunction", "ComputedArray", "ReadingStore"]

ChunkFunction = Callable[[Index], NDArray[Any]]
"""From a chunk index of a served array to the cells of that chunk, cut off at the edges."""


# A pool of our own: computing a chunk calls Zarr's synchronous API, which would deadlock on the
# pool that Zarr's event loop uses for itself.
@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(4, thread_name_prefix="gnomon-read")


# A forked process has the pool, but none of its threads.
os.register_at_fork(after_in_child=_pool.cache_clear)


class ComputedArray:
    """One served array: its full chunk shape, its chunk counts, and how a chunk is computed."""

    __slots__ = ("chunks", "compute", "counts", "dtype")

    def __init__(
        self,
        chunks: Index,
        counts: Index,
        dtype: np.dtype[Any],
        compute: ChunkFunction,
    ) -> None:
        self.chunks = chunks
        self.counts = counts
        self.dtype = dtype
        self.compute = compute

    def encoded(self, index: Index) -> bytes:
        """Return the bytes of a whole chunk, edge chunks padded to full size."""
        cells = self.compute(index)
        if cells.shape != self.chunks:
            padded = np.zeros(self.chunks, self.dtype)
            if is_text(self.dtype):
                padded[...] = ""
            padded[tuple(slice(n) for n in cells.shape)] = cells
            cells = padded
        if is_text(self.dtype):
            return bytes(VLenUTF8().encode(cells.ravel()))
        return np.ascontiguousarray(cells, self.dtype).tobytes()


class ReadingStore(Store):
    """A read-only Zarr store whose large arrays are computed.

    Parameters
    ----------
    template
        Metadata of all arrays, and the data of those that are not computed.
    arrays
        The computed arrays by name.
    recipe
        A function and its arguments that rebuild this store in another process.
    attributes
        Exact attributes by array, those of the dataset under "", which the JSON of Zarr metadata
        cannot all hold.
    source_chunks
        Cells of the source's chunks by array, where they are known and it has any.
    """

    supports_writes = False
    supports_deletes = False
    supports_listing = True

    def __init__(
        self,
        template: MemoryStore,
        arrays: dict[str, ComputedArray],
        recipe: tuple[Callable[..., "ReadingStore"], tuple[Any, ...]],
        attributes: Mapping[str, dict[str, Any]] | None = None,
        source_chunks: Mapping[str, Index] | None = None,
    ) -> None:
        super().__init__(read_only=True)
        self._template = template
        self._arrays = arrays
        self._recipe = recipe
        self.attributes = dict(attributes or {})
        self.source_chunks = dict(source_chunks or {})

    def __reduce__(self) -> tuple[Callable[..., "ReadingStore"], tuple[Any, ...]]:
        return self._recipe

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)

    def __repr__(self) -> str:
        return f"ReadingStore({', '.join(self._arrays)})"

    def _chunk(self, key: str) -> tuple[ComputedArray, Index] | None:
        name, separator, rest = key.rpartition("/c/")
        if not separator and key.endswith("/c"):
            name, rest = key.removesuffix("/c"), ""
        array = self._arrays.get(name)
        if array is None:
            return None
        parts = rest.split("/") if rest else []
        if not all(p.isascii() and p.isdigit() for p in parts) or len(parts) != len(array.counts):
            return None
        index = tuple(int(part) for part in parts)
        inside = all(i < n for i, n in zip(index, array.counts, strict=True))
        return (array, index) if inside else None

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Return an object's bytes, computing those of a chunk."""
        chunk = self._chunk(key)
        if chunk is None:
            return await self._template.get(key, prototype, byte_range)
        array, index = chunk
        loop = asyncio.get_running_loop()
        data = await loop.run_in_executor(_pool(), array.encoded, index)
        return prototype.buffer.from_bytes(part_of(data, byte_range))

    async def get_partial_values(
        self,
        prototype: BufferPrototype,
        key_ranges: Iterable[tuple[str, ByteRequest | None]],
    ) -> list[Buffer | None]:
        """Return several byte ranges."""
        return [await self.get(key, prototype, byte_range) for key, byte_range in key_ranges]

    async def exists(self, key: str) -> bool:
        """Tell whether an object is served."""
        return self._chunk(key) is not None or await self._template.exists(key)

    async def set(self, key: str, value: Buffer) -> None:
        """Refuse: a restore point is read-only."""
        raise PermissionError("a restore point is read-only; write to a store of your own")

    async def delete(self, key: str) -> None:
        """Refuse: a restore point is read-only."""
        raise PermissionError("a restore point is read-only; nothing was deleted")

    async def list(self) -> AsyncIterator[str]:
        """Yield the names of all objects."""
        async for key in self._template.list():
            yield key
        for name, array in self._arrays.items():
            for index in np.ndindex(*array.counts):
                yield "/".join([name, "c", *map(str, index)])

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """Yield the names of all objects under a prefix."""
        async for key in self.list():
            if key.startswith(prefix):
                yield key

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Yield the names directly under a prefix; chunks elsewhere are not enumerated."""
        top = prefix.rstrip("/")
        seen = {name async for name in self._template.list_dir(top)}
        name, _, rest = f"{top}/".partition("/c/")
        if top in self._arrays:
            seen.add("c")
        elif name in self._arrays:
            seen |= _chunk_names(self._arrays[name].counts, rest.rstrip("/"))
        for entry in sorted(seen):
            yield entry


def _chunk_names(counts: Index, above: str) -> set[str]:
    """Return the names one level below a part of a chunk's key."""
    parts = above.split("/") if above else []
    inside = all(
        p.isascii() and p.isdigit() and int(p) < n for p, n in zip(parts, counts, strict=False)
    )
    if not inside or len(parts) >= len(counts):
        return set()
    return set(map(str, range(counts[len(parts)])))
