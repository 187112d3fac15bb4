"""What Zarr writes arrays of a commit to; apart from the batch, which is read without Zarr."""

import asyncio
from typing import Any

from obstore.exceptions import BaseError
from zarr.abc.store import ByteRequest
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import ObjectStore

from gnomon.storage.log.location import Location
from gnomon.storage.log.staging import Entry, object_hash

__all__ = ["WriteOnce"]


class WriteOnce(ObjectStore[Any]):
    """A Zarr store for a fresh folder: objects are created, never changed, and noted."""

    def __init__(self, location: Location, entries: dict[str, Entry]) -> None:
        super().__init__(location.objects, read_only=False)
        self._location = location
        self._entries = entries

    async def set(self, key: str, value: Buffer) -> None:
        """Create an object."""
        data = value.to_bytes()
        await asyncio.to_thread(self._location.create, key, data)
        self._entries[key] = (len(value), object_hash(data))

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Return an object's bytes, or None."""
        try:
            return await super().get(key, prototype, byte_range)
        except (BaseError, OSError) as error:
            raise self._location.unavailable(key, error) from error

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        """Do nothing: Zarr asks for it only to mark the folders above an array as groups."""

    async def delete(self, key: str) -> None:
        """Do nothing: Zarr asks for it where a chunk is all zero, and nothing is there."""
