"""What a rollback replaces: the objects as they were, kept in the repository, and their list."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import xxhash
from numpy.typing import NDArray

from gnomon.storage.errors import Integrity
from gnomon.storage.live.stores import PIECE, LiveStore
from gnomon.storage.log import gz
from gnomon.storage.log.folders import replaced_of
from gnomon.storage.log.location import Location
from gnomon.storage.log.staging import Batch, Entry, object_hash
from gnomon.storage.log.steps import Rollback
from gnomon.storage.values.documents import NONSENSE, anything, items, members, parse, text, whole
from gnomon.storage.values.dtypes import native
from gnomon.storage.values.grid import Index
from gnomon.storage.values.plausible import size

__all__ = [
    "EstimatedChunk",
    "ObjectChange",
    "Replaced",
    "entry_of",
    "keep",
    "keep_cells",
    "keep_list",
    "kept_pieces",
    "load_cells",
    "load_list",
    "pack_cells",
]

LIST_BYTES = 2**30
"""A list of more is neither written nor read."""
LISTS = 256
"""Lists that a process remembers: an update asks for each once per block of a variable."""


@dataclass(frozen=True, slots=True)
class ObjectChange:
    """An object of a live dataset that is replaced."""

    key: str
    """Its key in the store."""
    before: Entry | None
    """Size and XXH3-128 of what it was; None: there was none."""
    after: Entry | None
    """The same of what it becomes; None: it is removed."""


@dataclass(frozen=True, slots=True)
class EstimatedChunk:
    """A chunk of a live dataset that holds estimated cells."""

    digest: str
    """Digest, in hexadecimal, of the whole chunk as it stands in the live dataset then."""
    number: int
    """Names the object that tells which cells they are, and what they hold."""
    cells: Entry | None
    """Size and XXH3-128 of that object; None: an older program wrote the list, and did not say."""


@dataclass(frozen=True, slots=True)
class Replaced:
    """The list of what a rollback replaces."""

    objects: tuple[ObjectChange, ...]
    """In the order in which they are replaced."""
    estimates: Mapping[str, Mapping[Index, EstimatedChunk]]
    """By variable: the chunks with estimated cells."""


def entry_of(pieces: Iterable[bytes] | None) -> Entry | None:
    """Return size and hash of an object; None if there is none."""
    if pieces is None:
        return None
    length, content = 0, xxhash.xxh3_128()
    for piece in pieces:
        length += len(piece)
        content.update(piece)
    return length, content.hexdigest()


def keep(batch: Batch, number: int, key: str, live: LiveStore) -> Entry | None:
    """Store what an object is now, and return its size and hash; None if there is none."""
    pieces = live.pieces(key)
    if pieces is None:
        return None
    length, content = 0, xxhash.xxh3_128()
    for part, piece in enumerate(_even(pieces)):
        batch.create(_name(batch.id, number, part), piece)
        length += len(piece)
        content.update(piece)
    return length, content.hexdigest()


def _even(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield pieces of at most `PIECE` bytes; one of none for an empty object."""
    is_empty = True
    for piece in pieces:
        for start in range(0, len(piece), PIECE):
            is_empty = False
            yield piece[start : start + PIECE]
    if is_empty:
        yield b""


def _name(folder: str, number: int, part: int) -> str:
    return f"{replaced_of(folder)}/{number:08d}/{part:06d}"


def kept_pieces(location: Location, folder: str, number: int, entry: Entry) -> Iterator[bytes]:
    """Yield what an object was.

    Raises
    ------
    Integrity
        It is not what was kept; said before the last piece is yielded.
    """
    left, content, part = entry[0], xxhash.xxh3_128(), 0
    while True:
        name = _name(folder, number, part)
        piece = location.read(name)
        left -= len(piece)
        content.update(piece)
        is_last = left <= 0
        if is_last and (left or content.hexdigest() != entry[1]):
            raise Integrity(
                f"{name} is not what was kept of the live dataset; it cannot be taken back, "
                "restore the repository from a copy"
            )
        yield piece
        if is_last:
            return
        part += 1


def pack_cells(raw: NDArray[np.generic], is_estimated: NDArray[np.bool_]) -> bytes:
    """Return the estimated cells of a chunk as they are kept: a bit for each cell, then values.

    Parameters
    ----------
    raw, is_estimated
        The chunk as it stands in the live dataset, and which of its cells are estimates.
    """
    values = raw[is_estimated]
    values = values.astype(values.dtype.newbyteorder("<"), copy=False)
    # A plan makes them as well: the fast level, as floats hardly become smaller by others.
    return gz.pack(np.packbits(is_estimated.reshape(-1)).tobytes() + values.tobytes(), level=1)


def keep_cells(batch: Batch, number: int, packed: bytes) -> Entry:
    """Store the estimated cells of a chunk, and return size and hash of that object."""
    name = _cells_of(batch.id, number)
    batch.create(name, packed)
    return batch.entries[name]


def _cells_of(folder: str, number: int) -> str:
    return f"{replaced_of(folder)}/estimates/{number:08d}"


def load_cells(
    location: Location, folder: str, chunk: EstimatedChunk, there: NDArray[np.generic]
) -> tuple[NDArray[np.bool_], NDArray[np.generic]]:
    """Return which cells of a chunk were estimated, in its shape, and their values in that order.

    Parameters
    ----------
    there
        A chunk of that shape and type; where nobody said which cells were estimates, all may be,
        and it is what was written.

    Raises
    ------
    Integrity
        They are not what was written.
    """
    if chunk.cells is None:
        return np.ones(there.shape, bool), there.reshape(-1)
    name = _cells_of(folder, chunk.number)
    data = location.read(name)
    try:
        if (len(data), object_hash(data)) != tuple(chunk.cells):
            raise ValueError("its hash differs")
        width = -(-there.size // 8)
        unpacked = gz.unpack(data, width + there.nbytes)
        bits = np.frombuffer(unpacked[:width], np.uint8)
        mask = np.unpackbits(bits, count=there.size).astype(bool).reshape(there.shape)
        values = np.frombuffer(unpacked[width:], there.dtype.newbyteorder("<"))
        if values.size != np.count_nonzero(mask):
            raise ValueError("its length differs")
    except NONSENSE as error:
        raise Integrity(
            f"{name} is not what was written ({str(error)[:200]}): estimates in the live dataset "
            "would be taken for data; restore the repository from a copy"
        ) from error
    return mask, native(values)


def keep_list(batch: Batch, replaced: Replaced) -> str:
    """Store the list, and return its SHA-256."""
    document = {
        "objects": [[o.key, o.before, o.after] for o in replaced.objects],
        "estimates": {
            name: [[list(index), chunk.digest] for index, chunk in chunks.items()]
            for name, chunks in replaced.estimates.items()
        },
        # Beside them, as programs that do not know of cells read the others.
        "cells": {
            name: [[chunk.number, chunk.cells] for chunk in chunks.values()]
            for name, chunks in replaced.estimates.items()
        },
    }
    data = gz.pack(json.dumps(document, sort_keys=True, separators=(",", ":")).encode())
    batch.create(_list_of(batch.id), data)
    return hashlib.sha256(data).hexdigest()


def _list_of(folder: str) -> str:
    return f"{replaced_of(folder)}/objects.json.gz"


def load_list(location: Location, rollback: Rollback) -> Replaced:
    """Return the list of what a rollback has replaced, verified.

    Raises
    ------
    Integrity
        It is not what was written.
    NotFound
        It is gone.
    """
    return _loaded(location.url, rollback.id, rollback.listed)


@lru_cache(LISTS)
def _loaded(url: str, folder: str, listed: str) -> Replaced:
    name = _list_of(folder)
    data = Location(url).read(name)
    try:
        if hashlib.sha256(data).hexdigest() != listed:
            raise ValueError("its hash differs")
        document = parse(gz.unpack(data, LIST_BYTES))
        digests = members(document["estimates"], "estimates", _digests)
        cells = members(document.get("cells", {}), "cells", _cells)
        return Replaced(
            items(document["objects"], "objects", _change),
            {name: _estimated(pairs, cells.get(name)) for name, pairs in digests.items()},
        )
    except NONSENSE as error:
        raise Integrity(
            f"{name} is not what was written ({str(error)[:200]}); restore the repository from a "
            "copy"
        ) from error


def _change(value: object, what: str) -> ObjectChange:
    key, before, after = items(value, what, anything, most=3)
    return ObjectChange(text(key, what, most=4096), _entry(before, what), _entry(after, what))


def _entry(value: object, what: str) -> Entry | None:
    if value is None:
        return None
    length, content = items(value, what, anything, most=2)
    return whole(length, what, least=0), text(content, what)


def _digests(value: object, what: str) -> dict[Index, str]:
    pairs = items(value, what, lambda v, _: items(v, what, anything, most=2))
    return {items(index, what, size): text(content, what) for index, content in pairs}


def _cells(value: object, what: str) -> list[tuple[int, Entry | None]]:
    pairs = items(value, what, lambda v, _: items(v, what, anything, most=2))
    return [(whole(number, what, least=0), _entry(entry, what)) for number, entry in pairs]


def _estimated(
    digests: Mapping[Index, str], cells: list[tuple[int, Entry | None]] | None
) -> dict[Index, EstimatedChunk]:
    unsaid: list[tuple[int, Entry | None]] = [(0, None)] * len(digests)
    return {
        index: EstimatedChunk(content, *said)
        for (index, content), said in zip(digests.items(), cells or unsaid, strict=True)
    }
