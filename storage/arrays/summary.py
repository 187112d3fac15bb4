"""The summary: the newest records and the small tables that were used last, in one object.

In an object store every object costs a request, however small it is, and a run wants a hundred
small ones.  So a run leaves what it has read of them to the next, in one object, which is replaced
by the next run and may be lost.  Nothing is believed because it stands there: a record has its seal
and its place in the chain of records, and the numbers of a table their root in a record.  A hash of
all of it shows accidents, as the names of columns have no other.
"""

import json
from base64 import b64decode, b64encode
from collections.abc import Container, Iterator, Sequence
from contextlib import suppress
from functools import partial
from math import prod

import numpy as np

from gnomon.storage.arrays.shards import pack_whole, read_whole, unpack_whole
from gnomon.storage.arrays.tables import Table, forget_tables, keep_table, kept_tables, root
from gnomon.storage.errors import Format, GnomonError, Integrity, NotFound
from gnomon.storage.log import gz
from gnomon.storage.log.location import Location
from gnomon.storage.log.records import RECORD_BYTES, SPAN, Record, content_hash
from gnomon.storage.values.documents import NONSENSE, items, parse, text, whole
from gnomon.storage.values.plausible import LARGEST_NDIM

__all__ = ["SUMMARY", "misnamed", "read_summary", "write_summary"]

SUMMARY = "checkpoints/summary.jsonl.gz"
"""Its name; programs that do not know it pass it over."""
VERSION = 1
TABLE_BYTES = 2**20
"""Of the tables in it, before they are compressed: those that were used last."""
OBJECT_BYTES, TEXT_BYTES = 2**23, 2**25
"""Of the summary, packed and as text: a larger one is neither left nor read."""
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
    tables: list[bytes] = []
    room = TABLE_BYTES
    for (path, table_root), table in reversed(kept_tables(location).items()):
        if _folder_of(path) in folders and table[0].nbytes <= room:
            tables.append(_line(path, table_root, table))
            room -= table[0].nbytes
    text_bytes = b"\n".join([*recent, *reversed(tables)])
    head = {"version": VERSION, "records": len(recent), "hash": content_hash(text_bytes)}
    data = gz.pack(json.dumps(head).encode() + b"\n" + text_bytes)
    if len(data) <= OBJECT_BYTES and len(text_bytes) < TEXT_BYTES:
        location.replace(SUMMARY, data)


def _folder_of(path: str) -> str:
    """Return the folder of the commit that a table is of; empty if it has no such path."""
    _, _, rest = path.partition("/")
    folder, _, inner = rest.partition("/")
    return folder if inner else ""


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
    with suppress(NotFound, Integrity, Format, *NONSENSE):
        data = gz.unpack(location.read(SUMMARY, (0, OBJECT_BYTES + 1)), TEXT_BYTES)
        first, _, rest = data.partition(b"\n")
        head = parse(first)
        # Of the names of columns nothing else vouches for what stands here.
        if head["version"] != VERSION or head["hash"] != content_hash(rest):
            return ()
        count = whole(head["records"], "records", least=1, most=SPAN)
        lines = rest.split(b"\n")
        records = [Record.from_json(line, SUMMARY) for line in lines[:count]]
        for path, table_root, table in _tables(lines[count:]):
            keep_table(location, path, table_root, table)
    return tuple(records)


def misnamed(location: Location) -> str | None:
    """Return the path of a table of which the summary has other names of columns than are stored.

    Nothing but the manifest vouches for those, and the summary is in none.
    """
    forget_tables(location)
    read_summary(location)
    tables = kept_tables(location)
    forget_tables(location)
    for (path, _), (_, columns) in tables.items():
        with suppress(GnomonError):  # it is gone, or damaged: another check tells of that
            if read_whole(location, path)[1] != columns:
                return path
    return None


def _tables(lines: Sequence[bytes]) -> Iterator[tuple[str, str, Table]]:
    """Yield the tables that have the root that they say, `TABLE_BYTES` in all."""
    room = TABLE_BYTES
    for line in lines:
        fields = parse(line)
        shape = items(fields["shape"], "shape", partial(whole, least=0), most=LARGEST_NDIM)
        columns = items(fields["columns"], "columns", text)
        packed = b64decode(text(fields["data"], "data", most=RECORD_BYTES), validate=True)
        dtype = _TYPES[fields["data_type"]]
        room -= prod(shape) * dtype.itemsize
        if room < 0:
            return
        values = unpack_whole(packed, shape, dtype, SUMMARY)
        path = text(fields["path"], "path")
        if root(values) == fields["root"] and _folder_of(path):
            yield path, text(fields["root"], "root"), (values, columns)
