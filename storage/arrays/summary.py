"""The summary: the newest records and the small tables that were used last, in one object.

In an object store every object costs a request, however small it is, and a run wants a hundred
small ones.  So a run leaves what it has read of them to the next, in one object, which is replaced
by the next run and may be lost.  Nothing is believed because it stands there: a record has its seal
and its place in the chain of records, and a table its root in a record.
"""

import json
from base64 import b64decode, b64encode
from collections.abc import Container, Iterator, Sequence
from contextlib import suppress
from functools import partial

import numpy as np

from gnomon.storage.arrays.shards import pack_whole, unpack_whole
from gnomon.storage.arrays.tables import Table, keep_table, kept_tables, root
from gnomon.storage.errors import Format, Integrity, NotFound
from gnomon.storage.log import gz
from gnomon.storage.log.location import Location
from gnomon.storage.log.records import RECORD_BYTES, SPAN, Record
from gnomon.storage.values.documents import NONSENSE, items, parse, text, whole
from gnomon.storage.values.plausible import LARGEST_NDIM

__all__ = ["SUMMARY", "read_summary", "write_summary"]

SUMMARY = "checkpoints/summary.jsonl.gz"
"""Its name; programs that do not know it pass it over."""
VERSION = 1
TABLE_BYTES = 2**20
"""Of the tables in it, before they are compressed: those that were used last."""
_TYPES = {"int64": np.dtype("<i8"), "float64": np.dtype("<f8")}


def write_summary(location: Location, records: Sequence[Record], folders: Container[str]) -> None:
    """Replace the summary by the records since the last checkpoint, and the tables that are kept.

    Parameters
    ----------
    records
        All of the log.
    folders
        Of the commits whose tables are worth keeping.
    """
    start = (len(records) - 1) // SPAN * SPAN
    recent = [record.to_json() for record in records[start:]]
    head = json.dumps({"version": VERSION, "records": len(recent)}).encode()
    tables: list[bytes] = []
    room = TABLE_BYTES
    for (path, table_root), table in reversed(kept_tables(location).items()):
        if path.split("/")[1] in folders and table[0].nbytes <= room:
            tables.append(_line(path, table_root, table))
            room -= table[0].nbytes
    location.replace(SUMMARY, gz.pack(b"\n".join([head, *recent, *reversed(tables)])))


def _line(path: str, table_root: str, table: Table) -> bytes:
    values, columns = table
    fields = {
        "path": path,
        "root": table_root,
        "columns": columns,
        "data_type": values.dtype.name,
        "shape": values.shape,
        "data": b64encode(pack_whole(values) if values.size else b"").decode(),
    }
    return json.dumps(fields).encode()


def read_summary(location: Location) -> tuple[Record, ...]:
    """Return the records of the summary, and keep its tables; of none, or a damaged one, nothing.

    Each record is as it was sealed; whether they follow from what is before them is not known.
    """
    if location.path is not None:
        return ()
    records: list[Record] = []
    with suppress(NotFound, Integrity, Format, StopIteration, *NONSENSE):
        lines = gz.lines(location.read(SUMMARY), RECORD_BYTES)
        head = parse(next(lines))
        if head["version"] != VERSION:
            return ()
        count = whole(head["records"], "records", least=1)
        records = [Record.from_json(next(lines), SUMMARY) for _ in range(count)]
        for path, table_root, table in _tables(lines):
            keep_table(location, path, table_root, table)
    return tuple(records)


def _tables(lines: Iterator[bytes]) -> Iterator[tuple[str, str, Table]]:
    """Yield the tables that have the root that they say."""
    for line in lines:
        fields = parse(line)
        shape = items(fields["shape"], "shape", partial(whole, least=0), most=LARGEST_NDIM)
        columns = items(fields["columns"], "columns", text)
        packed = b64decode(text(fields["data"], "data", most=RECORD_BYTES), validate=True)
        values = unpack_whole(packed, shape, _TYPES[fields["data_type"]], SUMMARY)
        if root(values) == fields["root"]:
            yield text(fields["path"], "path"), text(fields["root"], "root"), (values, columns)
