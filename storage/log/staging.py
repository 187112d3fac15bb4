"""A batch: everything that one commit writes, with the size and the hash of every object.

Workers write Zarr arrays through :meth:`Batch.store`; what they wrote comes back as entries, plain
values that are merged into the batch of the commit.  The entries go into one *manifest* per
commit, so that a check can hold every stored byte against what was written, without decoding it.
"""

import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import xxhash

from gnomon.storage.errors import Integrity, InvalidInput
from gnomon.storage.log import gz
from gnomon.storage.log.location import Location
from gnomon.storage.values.documents import NONSENSE, anything, items, members, parse, text, whole

if TYPE_CHECKING:
    from zarr.storage import ObjectStore

__all__ = [
    "Batch",
    "Entry",
    "fresh_id",
    "load_manifest",
    "manifest_name",
    "object_hash",
    "read_entries",
    "sequence_of",
    "write_manifest",
]

MANIFEST_BYTES = 2**30
"""A manifest of more is neither written nor read."""

Entry = tuple[int, str]
"""Size of an object in bytes, and its XXH3-128 hash in hexadecimal."""


def fresh_id(sequence: int) -> str:
    """Return a name for the folder of a commit that no other writer will choose.

    It begins with the number of the first log record that may name it: when a prune has put its
    record there or later, a folder that none names is dead for certain.
    """
    return f"{sequence:08d}-{secrets.token_hex(6)}"


def sequence_of(folder: str) -> int | None:
    """Return the number of the record that a folder was made for; None for a foreign name."""
    number, separator, rest = folder.partition("-")
    fits = separator and rest and number.isascii() and number.isdigit()
    return int(number) if fits else None


def object_hash(data: bytes | bytearray | memoryview) -> str:
    """Return the hash of an object's bytes that a manifest keeps."""
    return xxhash.xxh3_128_hexdigest(data)


@dataclass(slots=True)
class Batch:
    """What one commit writes."""

    location: Location
    """Where the repository lives."""
    id: str
    """Name of the commit's folders."""
    entries: dict[str, Entry] = field(default_factory=dict)
    """Every object written so far."""

    def store(self) -> "ObjectStore[Any]":
        """Return a Zarr store that writes objects once and keeps their entries here."""
        # Zarr takes longer to load than a long log to read, which needs manifests only.
        from gnomon.storage.log.writeonce import WriteOnce

        return WriteOnce(self.location, self.entries)

    def create(self, name: str, data: bytes) -> None:
        """Store an object."""
        self.location.create(name, data)
        self.entries[name] = (len(data), object_hash(data))

    def merge(self, entries: Mapping[str, Entry]) -> None:
        """Take in what a worker wrote."""
        self.entries.update(entries)

    @property
    def manifest(self) -> str:
        """Name of the manifest."""
        return manifest_name(self.id)

    def seal(self) -> str:
        """Write the manifest and its copy, force everything to the disk, return its SHA-256."""
        data = write_manifest(self.entries)
        for name in (self.manifest, f"copies/{self.manifest}"):
            self.location.create(name, data)
        self.location.flush([*self.entries, self.manifest, f"copies/{self.manifest}"])
        return hashlib.sha256(data).hexdigest()


def manifest_name(folder: str) -> str:
    """Return the name of a commit's manifest."""
    return f"manifests/{folder}.json.gz"


def write_manifest(entries: Mapping[str, Entry]) -> bytes:
    """Return the bytes of a manifest: JSON, in gzip; the same for the same entries.

    Raises
    ------
    InvalidInput
        There are too many objects for one commit.
    """
    lines = json.dumps(entries, sort_keys=True, separators=(",", ":"), indent=0)
    if len(lines) > MANIFEST_BYTES:
        raise InvalidInput(
            f"found {len(entries)} objects in one commit, their list may take {MANIFEST_BYTES} "
            "bytes: capture fewer states at a time, with --until"
        )
    return gz.pack(lines.encode())


def load_manifest(data: bytes, expected: str, name: str) -> dict[str, Entry]:
    """Read a manifest back, verified against the hash in its log record.

    Raises
    ------
    Integrity
        It is not what was written.
    """
    digest = hashlib.sha256(data).hexdigest()
    if digest != expected:
        raise Integrity(
            f"{name}: hash {digest[:12]} found, {expected[:12]} expected; the file was changed "
            "after it was written, run 'gnomon repair'"
        )
    try:
        return read_entries(parse(gz.unpack(data, MANIFEST_BYTES)))
    except NONSENSE as error:
        raise Integrity(
            f"{name} is not a manifest; the repository was tampered with, restore it from a copy"
        ) from error


def read_entries(value: object) -> dict[str, Entry]:
    """Return objects with size and hash from JSON; ValueError or the like if it is no such list."""
    return members(value, "objects", _entry)


def _entry(value: object, what: str) -> Entry:
    size, content = items(value, what, anything, most=2)
    return whole(size, what, least=0), text(content, what)
