"""What a rollback replaces: the objects as they were, kept in the repository, and their list."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

import xxhash

from gnomon.storage.errors import Integrity
from gnomon.storage.live.stores import PIECE, LiveStore
from gnomon.storage.log import gz
from gnomon.storage.log.folders import replaced_of
from gnomon.storage.log.location import Location
from gnomon.storage.log.staging import Batch, Entry
from gnomon.storage.log.steps import Rollback
from gnomon.storage.values.documents import NONSENSE, anything, items, members, parse, text, whole
from gnomon.storage.values.grid import Index
from gnomon.storage.values.plausible import size

__all__ = ["ObjectChange", "Replaced", "entry_of", "keep", "keep_list", "kept_pieces", "load_list"]

LIST_BYTES = 2**30
"""A list of more is neither written nor read."""


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
class Replaced:
    """The list of what a rollback replaces."""

    objects: tuple[ObjectChange, ...]
    """In the order in which they are replaced."""
    estimates: Mapping[str, Mapping[Index, str]]
    """By variable: digests, in hexadecimal, of the chunks with estimated cells, as they stand in
    the live dataset then."""


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


def keep_list(batch: Batch, replaced: Replaced) -> str:
    """Store the list, and return its SHA-256."""
    document = {
        "objects": [[o.key, o.before, o.after] for o in replaced.objects],
        "estimates": {
            name: [[list(index), content] for index, content in digests.items()]
            for name, digests in replaced.estimates.items()
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


@lru_cache(maxsize=16)
def _loaded(url: str, folder: str, listed: str) -> Replaced:
    name = _list_of(folder)
    data = Location(url).read(name)
    try:
        if hashlib.sha256(data).hexdigest() != listed:
            raise ValueError("its hash differs")
        document = parse(gz.unpack(data, LIST_BYTES))
        return Replaced(
            items(document["objects"], "objects", _change),
            members(document["estimates"], "estimates", _digests),
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
