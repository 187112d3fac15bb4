"""The commit log: one small JSON record per commit, put if absent, chained by hash.

A record names its predecessor by the SHA-256 of its bytes; the first names ``gnomon.json``.  Its
last field is the hash of the bytes before it, so that the newest record is protected as well.
The put of a record is the commit point: before it, readers see the old state; after it, the new.
The log knows nothing of what its records mean.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from gnomon.storage.errors import Conflict, Format, Integrity, NotFound
from gnomon.storage.location import Location

__all__ = ["Log", "Record", "content_hash"]

VERSION = 1
SEAL_BYTES = len(',"sha256":""}') + 64


def _seal(head: bytes) -> bytes:
    return f',"sha256":"{content_hash(head)}"}}'.encode()


def content_hash(data: bytes) -> str:
    """Return the SHA-256 of the bytes in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


@dataclass(frozen=True, slots=True)
class Record:
    """One commit."""

    sequence: int
    """Position in the log, from 0."""
    parent: str
    """Hash of the record before, or of ``gnomon.json`` for the first."""
    kind: str
    """What was committed: ``init``, ``capture``, ``shadow`` or ``verdict``."""
    committed_at: str
    """Wall-clock time of the writer, ISO 8601, UTC."""
    body: dict[str, Any]
    """What the kind needs."""
    digest: str = ""
    """Hash of this record's own bytes."""

    def to_json(self) -> bytes:
        """Return the bytes that are stored."""
        fields = {
            "version": VERSION,
            "sequence": self.sequence,
            "parent": self.parent,
            "kind": self.kind,
            "committed_at": self.committed_at,
            "body": self.body,
        }
        text = json.dumps(fields, sort_keys=True, separators=(",", ":"), allow_nan=False)
        head = text.removesuffix("}").encode()
        return head + _seal(head)

    @classmethod
    def from_json(cls, data: bytes, name: str) -> "Record":
        """Read a record back; `name` is for the error message."""
        try:
            fields = json.loads(data)
            version = fields["version"]
        except (ValueError, KeyError, TypeError) as error:
            raise Integrity(
                f"{name} is not a log record; restore it from a copy of the repository"
            ) from error
        if version != VERSION:
            raise Format(
                f"{name} has record version {version}, this program reads {VERSION}; upgrade gnomon"
            )
        if data[-SEAL_BYTES:] != _seal(data[:-SEAL_BYTES]):
            raise Integrity(
                f"{name} was changed after it was written (its own hash differs); "
                "restore it from a copy of the repository"
            )
        try:
            return cls(
                int(fields["sequence"]),
                str(fields["parent"]),
                str(fields["kind"]),
                str(fields["committed_at"]),
                dict(fields["body"]),
                content_hash(data),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise Integrity(
                f"{name} lacks fields of a log record; restore it from a copy of the repository"
            ) from error


class Log:
    """The records of one repository.

    Parameters
    ----------
    location
        Where the repository lives.
    genesis
        Hash of ``gnomon.json``, the parent of the first record.
    """

    def __init__(self, location: Location, genesis: str) -> None:
        self._location = location
        self._genesis = genesis

    def read(self, known: tuple[Record, ...] = ()) -> tuple[Record, ...]:
        """Return all records in order, reading only those that follow `known`.

        Raises
        ------
        Integrity
            A record is missing, damaged, or does not follow from the one before it.
        """
        length = self._length()
        if length < len(known):
            raise Integrity(f"{_name(length)} was read before and is now missing")
        records = list(known)
        for sequence in range(len(known), length):
            name = _name(sequence)
            try:
                record = Record.from_json(self._location.read(name), name)
            except NotFound as error:
                raise Integrity(
                    f"{name} is missing; restore it from a copy of the repository"
                ) from error
            parent = records[-1].digest if records else self._genesis
            before = _name(sequence - 1) if records else "gnomon.json"
            if record.sequence != sequence or record.parent != parent:
                raise Integrity(
                    f"{name} does not follow from {before} (parent {record.parent[:12]}, expected "
                    f"{parent[:12]}); one of the two was changed after it was written"
                )
            records.append(record)
        return tuple(records)

    def _length(self) -> int:
        """Return one more than the newest record's number; a listing may miss older ones."""
        length = 0
        for name in self._location.list("log/"):
            stem = name.removeprefix("log/").removesuffix(".json")
            if not (stem.isascii() and stem.isdigit()) or name != _name(int(stem)):
                raise Integrity(f"found {name}, which is not a log record; move it elsewhere")
            length = max(length, int(stem) + 1)
        return length

    def append(
        self, records: tuple[Record, ...], kind: str, body: dict[str, Any], committed_at: str
    ) -> Record:
        """Commit: put the record that follows `records`, if nobody else has.

        Raises
        ------
        Conflict
            Another writer was first; nothing was changed.
        """
        parent = records[-1].digest if records else self._genesis
        record = Record(len(records), parent, kind, committed_at, body)
        data = record.to_json()
        name = _name(record.sequence)
        try:
            self._location.create(name, data)
        except Conflict as error:
            raise Conflict(
                f"another writer committed {name} first; nothing of this run was kept, run it again"
            ) from error
        self._location.flush(name)
        return Record.from_json(data, name)


def _name(sequence: int) -> str:
    return f"log/{sequence:020d}.json"
