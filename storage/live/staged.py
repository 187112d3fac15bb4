"""Staged: what writing a region would make of the objects of a Zarr store, without writing it.

Zarr itself encodes, in the codecs that the array has, and reads the parts of an object that stay.
"""

from collections.abc import Iterable
from typing import Any

from zarr.abc.store import ByteRequest, Store
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import WrapperStore

from gnomon.storage.arrays.byteranges import part_of

__all__ = ["Staged"]


class Staged(WrapperStore[Store]):
    """A store in which writes stay in memory, over one that is only read."""

    supports_writes = True
    supports_deletes = True
    _supports_sync_io = False

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.changes: dict[str, bytes | None] = {}
        """By key, what an object would be; None: it would be removed."""

    @property
    def read_only(self) -> bool:
        """Whether writes are refused: they are not."""
        return False

    def with_read_only(self, read_only: bool = False) -> "Staged":
        """Return the same: what was written must not be lost."""
        return self

    def _check_writable(self) -> None:
        pass

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Return an object as it would be."""
        if key not in self.changes:
            return await self._store.get(key, prototype, byte_range)
        data = self.changes[key]
        return None if data is None else prototype.buffer.from_bytes(part_of(data, byte_range))

    async def get_partial_values(
        self,
        prototype: BufferPrototype,
        key_ranges: Iterable[tuple[str, ByteRequest | None]],
    ) -> list[Buffer | None]:
        """Return several byte ranges."""
        return [await self.get(key, prototype, byte_range) for key, byte_range in key_ranges]

    async def get_ranges(self, *arguments: Any, **options: Any) -> Any:
        """Return byte ranges of one object, by the generic way of stores."""
        async for group in Store.get_ranges(self, *arguments, **options):
            yield group

    async def exists(self, key: str) -> bool:
        """Tell whether there would be an object."""
        if key in self.changes:
            return self.changes[key] is not None
        return await self._store.exists(key)

    async def set(self, key: str, value: Buffer) -> None:
        """Keep what an object would be."""
        self.changes[key] = value.to_bytes()

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        """Keep what an object would be, where there is none."""
        if not await self.exists(key):
            self.changes[key] = value.to_bytes()

    async def delete(self, key: str) -> None:
        """Keep that an object would be removed."""
        self.changes[key] = None
