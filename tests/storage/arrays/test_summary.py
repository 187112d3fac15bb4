"""The summary saves requests, and nothing rests on it: records and tables are verified."""

import json
from pathlib import Path

import numpy as np
import pytest

from gnomon.storage.arrays.summary import (
    SUMMARY,
    TABLE_BYTES,
    misnamed,
    read_summary,
    write_summary,
)
from gnomon.storage.arrays.tables import create_table, keep_table, kept_tables, root
from gnomon.storage.log import gz
from gnomon.storage.log.location import Location
from gnomon.storage.log.records import COPIES, SPAN, Log, Record, content_hash, record_name
from gnomon.storage.log.staging import Batch, fresh_id
from tests.requests import counted, forget_all

WHEN = "2026-01-01T00:00:00+00:00"
GENESIS = "genesis"
FOLDER = fresh_id(0)
PATH = f"ledger/{FOLDER}/v"


@pytest.fixture
def location(tmp_path: Path) -> Location:
    """Return a log of five records in memory, with a table, and their summary."""
    made = Location(f"memory://{tmp_path}")
    forget_all()
    create_table(Batch(made, FOLDER), PATH, np.arange(12.0).reshape(3, 4), list("abcd"))
    create_table(Batch(made, FOLDER), f"{PATH}/none", np.zeros((0, 1), np.int64), ["a"])
    grow(made, 5)
    write_summary(made, Log(made, GENESIS).read(), {FOLDER})
    forget_all()
    return made


def grow(location: Location, count: int) -> None:
    log = Log(location, GENESIS)
    records = log.read() if location.list("log/") else ()
    for _ in range(count):
        records = (*records, log.append(records, "verdict", {"number": len(records)}, WHEN))


def test_records_and_tables_come_back(location: Location) -> None:
    records = Log(location, GENESIS).read()
    assert read_summary(location) == records
    tables = kept_tables(location)
    assert [path for path, _ in tables] == [PATH, f"{PATH}/none"]
    (_, expected), (values, columns) = next(iter(tables.items()))
    assert expected == root(values)
    assert columns == tuple("abcd")
    assert values.tolist() == np.arange(12.0).reshape(3, 4).tolist()
    with pytest.raises(ValueError, match="read-only"):
        values[0, 0] = 1.0


def test_a_log_is_read_in_few_requests(location: Location) -> None:
    with counted() as counts:
        records = Log(location, GENESIS).read(recent=read_summary(location))
    assert len(records) == 5
    assert counts == {"get": 1, "get_range": 1, "list": 2}


def test_what_came_later_is_read_from_the_log(location: Location) -> None:
    grow(location, 3)
    records = Log(location, GENESIS).read()
    assert Log(location, GENESIS).read(recent=read_summary(location)) == records
    assert len(records) == 8


@pytest.mark.parametrize("count", [SPAN - 5, SPAN - 4, SPAN])
def test_a_summary_goes_on_from_a_checkpoint(location: Location, count: int) -> None:
    grow(location, count)
    records = Log(location, GENESIS).read()
    write_summary(location, records, ())
    recent = read_summary(location)
    assert recent == records[len(records) - len(recent) :]
    assert recent[0].sequence == (0 if count == SPAN - 5 else SPAN)
    with counted() as counts:
        assert Log(location, GENESIS).read(recent=recent) == records
    assert counts["get"] <= 2


def test_a_damaged_summary_is_passed_over(location: Location) -> None:
    data = location.read(SUMMARY)
    records = Log(location, GENESIS).read()
    plain = gz.unpack(data, 2**20)
    others = [data[:k] + bytes([data[k] ^ 1]) + data[k + 1 :] for k in range(0, len(data), 7)]
    others += [data[: len(data) // 2], b"", gz.pack(b""), gz.pack(b'{"version":2,"records":5}')]
    others += [gz.pack(plain[:k]) for k in range(0, len(plain), 101)]
    others += [gz.pack(plain.replace(b'"shape": [3', b'"shape": [%d' % n)) for n in (-3, 4, 2**62)]
    for other in others:
        location.replace(SUMMARY, other)
        assert Log(location, GENESIS).read(recent=read_summary(location)) == records
        for (_, expected), (values, _) in kept_tables(location).items():
            assert root(values) == expected
        forget_all()


def test_a_table_that_is_not_what_its_root_says_is_not_kept(location: Location) -> None:
    values = np.arange(12.0).reshape(3, 4)
    keep_table(location, PATH, root(values), (values + 1.0, tuple("abcd")))
    write_summary(location, Log(location, GENESIS).read(), {FOLDER})
    forget_all()
    assert len(read_summary(location)) == 5
    assert not kept_tables(location)


def rewritten(location: Location, head: dict[str, object], *lines: bytes) -> None:
    """Put a summary with a fitting hash, as somebody who knows the format can."""
    text = b"\n".join(lines)
    about = {"version": 1, "records": 1, "hash": content_hash(text)} | head
    location.replace(SUMMARY, gz.pack(json.dumps(about).encode() + b"\n" + text))


def lines_of(location: Location) -> list[bytes]:
    return gz.unpack(location.read(SUMMARY), 2**20).split(b"\n")[1:]


def test_no_record_makes_a_reader_look_far(location: Location) -> None:
    """Whatever number it has: a record vouches for itself alone."""
    records = Log(location, GENESIS).read()
    for sequence in (256, 256 * 10**15, 3):
        record = Record(sequence, "parent", "tag", WHEN, {})
        rewritten(location, {}, record.to_json())
        with counted() as counts:
            assert Log(location, GENESIS).read(recent=read_summary(location)) == records
        assert counts.total() <= 12


def test_a_summary_takes_no_more_memory_than_it_may(location: Location) -> None:
    first, *_, table, _ = lines_of(location)
    rewritten(location, {"records": 10**6}, first)
    assert read_summary(location) == ()
    huge = json.loads(table) | {"shape": [2**27, 1], "data": ""}
    rewritten(location, {}, first, json.dumps(huge).encode(), table)
    assert len(read_summary(location)) == 1
    assert not kept_tables(location)


def test_a_table_has_a_folder(location: Location) -> None:
    """One without would stop whoever leaves the next summary."""
    first, *_, table, _ = lines_of(location)
    for path in ("table", "ledger/table", "", "/"):
        rewritten(location, {}, first, json.dumps(json.loads(table) | {"path": path}).encode())
        assert len(read_summary(location)) == 1
        assert not kept_tables(location)


def test_a_check_compares_the_names_of_columns(location: Location) -> None:
    first, *_, table, _ = lines_of(location)
    assert misnamed(location) is None
    other = json.loads(table) | {"columns": list("dcba")}
    rewritten(location, {}, first, json.dumps(other).encode())
    assert misnamed(location) == PATH
    location.replace(SUMMARY, gz.pack(gz.unpack(location.read(SUMMARY), 2**20).replace(b"d", b"e")))
    assert read_summary(location) == ()  # by accident, the hash shows it


def test_checkpoints_are_read_where_the_summary_is_of_long_before(location: Location) -> None:
    recent = read_summary(location)
    grow(location, 2 * SPAN + 20)
    records = Log(location, GENESIS).read()
    with counted() as counts:
        assert Log(location, GENESIS).read(recent=recent) == records
    assert counts["get"] <= 30


def test_a_summary_of_another_log_is_not_believed(location: Location, tmp_path: Path) -> None:
    other = Location(f"memory://{tmp_path}-other")
    grow(other, 5)
    other.replace(SUMMARY, location.read(SUMMARY))
    records = Log(other, GENESIS).read(recent=read_summary(other))
    assert records == Log(other, GENESIS).read()


def test_a_summary_of_what_is_not_stored_is_not_believed(location: Location) -> None:
    """A copy of a repository that was stopped half way has the summary before the log."""
    records = Log(location, GENESIS).read()
    location.delete([p + record_name(k) for p in ("", COPIES) for k in (3, 4)])
    assert Log(location, GENESIS).read(recent=read_summary(location)) == records[:3]


def test_large_tables_leave_room_for_small_ones(location: Location) -> None:
    read_summary(location)
    large = np.random.default_rng(1).standard_normal((TABLE_BYTES // 16, 3))
    keep_table(location, f"{PATH}/large", root(large), (large, tuple("abc")))
    write_summary(location, Log(location, GENESIS).read(), {FOLDER})
    forget_all()
    read_summary(location)
    assert [path for path, _ in kept_tables(location)] == [PATH, f"{PATH}/none"]


def test_tables_of_what_was_never_committed_are_left_out(location: Location) -> None:
    read_summary(location)
    write_summary(location, Log(location, GENESIS).read(), ())
    forget_all()
    read_summary(location)
    assert not kept_tables(location)


def test_a_folder_keeps_no_tables_and_has_no_summary(tmp_path: Path) -> None:
    local = Location(str(tmp_path))
    create_table(Batch(local, FOLDER), PATH, np.zeros((3, 4)), list("abcd"))
    assert not kept_tables(local)
    assert read_summary(local) == ()
