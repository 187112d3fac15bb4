"""The commit log: one small JSON record per commit, put if absent, chained by hash.

A record names its predecessor by the SHA-256 of its bytes; the first names ``gnomon.json``.  Its
last field is the hash of the bytes before it, so that the newest record is protected as well.
The put of a record is the commit point: before it, readers see the old state; after it, the new.

Before a commit is acknowledged a second copy of its record is put under ``copies/``: it bears
witness that the record was there, and mends it.  Every `SPAN` records are rolled up into one
checkpoint, so that opening a long log reads few objects.  The log knows nothing of what its
records mean.
"""

import hashlib
import json
import logging
import secrets
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from gnomon.storage.errors import Conflict, Format, GnomonError, Integrity, InvalidInput, NotFound
from gnomon.storage.log import gz
from gnomon.storage.log.location import Location
from gnomon.storage.values.documents import NONSENSE, anything, members, parse, text, whole

__all__ = [
    "COPIES",
    "SPAN",
    "Log",
    "Record",
    "checkpoint_name",
    "content_hash",
    "read_checkpoint",
    "record_name",
    "write_checkpoint",
]

logger = logging.getLogger(__name__)

VERSION = 1
SPAN = 256
"""Records in a checkpoint."""
COPIES = "copies/"
"""Prefix of the second copies of small objects that nothing can be read without."""
RECORD_BYTES = 2**28
"""A record that is longer is not ours."""
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
    """What was committed: ``init``, ``capture``, ``shadow``, ``verdict`` and so on."""
    committed_at: str
    """Wall-clock time of the writer, ISO 8601, UTC."""
    body: dict[str, Any]
    """What the kind needs."""
    nonce: str = field(default_factory=lambda: secrets.token_hex(8))
    """Drawn by the writer, so that it knows its own record again."""
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
            "nonce": self.nonce,
            "body": self.body,
        }
        text = json.dumps(fields, sort_keys=True, separators=(",", ":"), allow_nan=False)
        head = text.removesuffix("}").encode()
        return head + _seal(head)

    @classmethod
    def from_json(cls, data: bytes, name: str) -> "Record":
        """Read a record back.

        Parameters
        ----------
        name
            Of the object, for messages.

        Raises
        ------
        Integrity
            It is not a log record, or was changed after it was written.
        Format
            It is of a version that this program does not read.
        """
        try:
            if len(data) > RECORD_BYTES:
                raise ValueError(f"it has more than {RECORD_BYTES} bytes")
            fields = parse(data)
            version = fields["version"]
        except NONSENSE as error:
            raise Integrity(
                f"{name} is not a log record ({str(error)[:200]}); restore it from a copy of the "
                "repository"
            ) from error
        if version != VERSION:
            raise Format(
                f"{name} has record version {version!r:.40}, this program reads {VERSION}; "
                "upgrade gnomon"
            )
        if data[-SEAL_BYTES:] != _seal(data[:-SEAL_BYTES]):
            raise Integrity(
                f"{name} was changed after it was written (its own hash differs); "
                "restore it from a copy of the repository"
            )
        try:
            return cls(
                whole(fields["sequence"], "sequence", least=0),
                text(fields["parent"], "parent"),
                text(fields["kind"], "kind"),
                text(fields["committed_at"], "committed_at"),
                members(fields["body"], "body", anything),
                text(fields["nonce"], "nonce"),
                content_hash(data),
            )
        except NONSENSE as error:
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

    def read(
        self, earlier: tuple[Record, ...] = (), *, recent: Sequence[Record] = ()
    ) -> tuple[Record, ...]:
        """Return all records in order, reading only those that follow `earlier`.

        A record that is damaged or gone is taken from its copy, with a warning.

        Parameters
        ----------
        recent
            Records since a checkpoint, as somebody has put them together: they need not be read one
            by one.  Those are taken that are stored, up to one that is compared with what is.

        Raises
        ------
        Integrity
            A record is missing or damaged and has no copy, or does not follow from the one
            before it.
        """
        records = list(earlier)
        first = recent[0].sequence if _are_of_a_span(recent) else None
        if not earlier:
            self._read_checkpoints(records, first)
        length = self._length(len(records))
        if first is not None and length <= first + SPAN:
            self._take(records, recent, length)
        elif first is not None and not earlier:  # there is a checkpoint since
            self._read_checkpoints(records, None)
        start = len(records)
        if start == length:
            return tuple(records)
        with ThreadPoolExecutor(8) as pool:
            for record in pool.map(self._read_one, range(start, length)):
                self._add(records, record)
        return tuple(records)

    def extend(self, earlier: tuple[Record, ...]) -> tuple[Record, ...]:
        """Return all records, `earlier` of which were read and verified before.

        Looks at the last known and the next names only, so that its cost does not grow.

        Raises
        ------
        Integrity
            A record that was read before is gone.
        """
        records = list(earlier)
        self._refuse_another(earlier[-1])
        while True:
            sequence = len(records)
            if not self._is_there(sequence):
                return tuple(records)
            self._add(records, self._read_one(sequence))

    def _refuse_another(self, newest: Record) -> None:
        """Raise :class:`Integrity` if a record that was read before is not there any more."""
        if self._read_one(newest.sequence).digest != newest.digest:
            raise Integrity(
                f"{record_name(newest.sequence)} is not what it was when it was read; "
                "the log was changed, open the repository again"
            )

    def still_has(self, records: tuple[Record, ...], sequence: int) -> bool:
        """Tell whether a record is among some that were read before, and is what it was."""
        if sequence >= len(records):
            return False
        return self._read_one(sequence).digest == records[sequence].digest

    def _is_there(self, sequence: int) -> bool:
        """Tell whether a record, or the copy that bears witness of it, is there."""
        for prefix in ("", COPIES):
            try:
                self._location.read(prefix + record_name(sequence))
            except NotFound:
                continue
            except Integrity:
                return True
            return True
        return False

    def _read_checkpoints(self, records: list[Record], until: int | None) -> None:
        """Read as many records as checkpoints hold without a gap.

        Parameters
        ----------
        until
            The record before which to stop: then they need not be listed.
        """
        there = set() if until is not None else set(self._location.list("checkpoints/"))
        while True:
            name = checkpoint_name(len(records))
            if name not in there if until is None else len(records) >= until:
                return
            try:
                checkpoint = list(read_checkpoint(self._location.read(name), name))
                for record in checkpoint:
                    self._follow(records, record, name)
            except (NotFound, Integrity) as error:
                if until is not None and isinstance(error, NotFound):
                    return  # it may never have been there
                del records[len(records) // SPAN * SPAN :]
                logger.warning("%s; the records themselves were read, run 'gnomon repair'", error)
                return

    def _take(self, records: list[Record], recent: Sequence[Record], length: int) -> None:
        """Take recent records, if the last of them is the one that is stored: it vouches for all.

        They may be of another log, or of a later one than was copied here.
        """
        taken = list(records)
        with suppress(Integrity):
            for record in recent[: length - len(records)]:
                self._follow(taken, record, record_name(len(taken)))
            if len(taken) > len(records):
                self._refuse_another(taken[-1])
                records[:] = taken

    def _read_one(self, sequence: int) -> Record:
        name = record_name(sequence)
        try:
            return self._record_at(name, sequence)
        except (NotFound, Integrity, Format) as error:
            try:
                record = self._record_at(COPIES + name, sequence)
            except GnomonError:
                if not isinstance(error, NotFound):
                    raise error from None
                raise Integrity(
                    f"{name} is missing; restore it from a copy of the repository"
                ) from error
            logger.warning("%s is damaged or gone; its copy was read, run 'gnomon repair'", name)
            return record

    def _record_at(self, name: str, sequence: int) -> Record:
        record = Record.from_json(self._location.read(name), name)
        if record.sequence != sequence:
            raise Integrity(
                f"{name} holds record {record.sequence}, expected {sequence}: log files were "
                "swapped; restore it from a copy of the repository"
            )
        return record

    def _add(self, records: list[Record], record: Record) -> None:
        """Add a record to those before it; where it does not follow from them, its copy may."""
        name = record_name(len(records))
        try:
            self._follow(records, record, name)
        except Integrity as error:
            try:
                copy = self._record_at(COPIES + name, len(records))
                self._follow(records, copy, COPIES + name)
            except GnomonError:
                raise error from None
            logger.warning("%s is damaged or gone; its copy was read, run 'gnomon repair'", name)

    def _follow(self, records: list[Record], record: Record, name: str) -> None:
        parent = records[-1].digest if records else self._genesis
        before = record_name(len(records) - 1) if records else "gnomon.json"
        if record.sequence != len(records) or record.parent != parent:
            raise Integrity(
                f"{name} does not follow from {before} (parent {record.parent[:12]}, expected "
                f"{parent[:12]}): one of the two was changed after it was written; "
                "restore it from a copy of the repository"
            )
        records.append(record)

    def _length(self, start: int) -> int:
        """Return one more than the newest record's number, as records and copies bear witness."""
        length = start
        for prefix in ("log/", f"{COPIES}log/"):
            after = prefix + record_name(start - 1).removeprefix("log/") if start else None
            for name in self._location.list(prefix, after=after):
                stem = name.removeprefix(prefix).removesuffix(".json")
                sequence = int(stem) if stem.isascii() and stem.isdigit() else -1
                if sequence < 0 or name != prefix + record_name(sequence).removeprefix("log/"):
                    raise Integrity(f"found {name}, which is not a log record; move it elsewhere")
                length = max(length, sequence + 1)
        return length

    def append(
        self, records: tuple[Record, ...], kind: str, body: dict[str, Any], committed_at: str
    ) -> Record:
        """Commit: put the record that follows `records`, if nobody else has.

        Raises
        ------
        Conflict
            Another writer was first; nothing was changed.
        Integrity
            The newest of `records` is gone, or another.
        InvalidInput
            The record would be larger than any that is read back; nothing was changed.
        """
        parent = records[-1].digest if records else self._genesis
        if records:
            self._make_up(records)
        record = Record(len(records), parent, kind, committed_at, body)
        data = record.to_json()
        name = record_name(record.sequence)
        try:  # no record is ever put that could not be read
            stored = Record.from_json(data, name)
        except Integrity as error:
            raise InvalidInput(f"nothing was committed: {error}") from error
        try:
            self._location.create(name, data, durable=True)
        except Conflict as error:
            raise Conflict(
                f"another writer committed {name} first; nothing of this run was kept, run it again"
            ) from error
        try:
            self._location.create(COPIES + name, data, durable=True)
            if (stored.sequence + 1) % SPAN == 0:
                self.roll_up((*records, stored))
        except GnomonError as error:  # the commit stands; the next one makes up for them
            logger.warning("%s has no copy or no checkpoint yet: %s", name, error)
        return stored

    def _make_up(self, records: tuple[Record, ...]) -> None:
        """Put the copy and checkpoint of the newest record, if its writer was stopped before."""
        newest = records[-1]
        name = COPIES + record_name(newest.sequence)
        copy: bytes | None = b""
        with suppress(Integrity):  # a repair's business
            try:
                copy = self._location.read(name)
            except NotFound:
                copy = None
        if copy is None or content_hash(copy) != newest.digest:
            # It was read a while ago: another repository may have been made here since.
            self._refuse_another(newest)
        if copy is None:
            self._location.create(name, newest.to_json(), durable=True)
        if len(records) % SPAN == 0:
            self.roll_up(records)

    def roll_up(self, records: tuple[Record, ...]) -> None:
        """Write the checkpoints that are missing, also those that a crash left out."""
        there = set(self._location.list("checkpoints/"))
        for start in range(0, len(records) - SPAN + 1, SPAN):
            if (name := checkpoint_name(start)) not in there:
                data = write_checkpoint(records[start : start + SPAN])
                with suppress(Conflict):  # another writer's, packed by another release of zlib
                    self._location.create(name, data, durable=True)


def _are_of_a_span(records: Sequence[Record]) -> bool:
    """Tell whether records follow one another from where a checkpoint would begin."""
    first = records[0].sequence if records else -1
    numbers = [record.sequence for record in records]
    return (
        first % SPAN == 0
        and len(records) <= SPAN
        and numbers == [*range(first, first + len(numbers))]
    )


def record_name(sequence: int) -> str:
    """Return the name of a record's object."""
    return f"log/{sequence:020d}.json"


def checkpoint_name(start: int) -> str:
    """Return the name of the checkpoint whose first record is `start`."""
    return f"checkpoints/{start:020d}.jsonl.gz"


def write_checkpoint(records: Iterable[Record]) -> bytes:
    """Return a checkpoint's bytes: the records' own bytes, one to a line, in gzip."""
    return gz.pack(b"\n".join(r.to_json() for r in records))


def read_checkpoint(data: bytes, name: str) -> Iterator[Record]:
    """Yield the records of a checkpoint, each verified.

    Raises
    ------
    Integrity
        The bytes are not what was written.
    """
    try:
        for line in gz.lines(data, RECORD_BYTES):
            yield Record.from_json(line, name)
    except ValueError as error:
        raise Integrity(f"{name} was changed after it was written ({error})") from error
