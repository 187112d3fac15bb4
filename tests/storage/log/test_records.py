import gzip
import json
import logging
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import obstore
import pytest
from obstore.exceptions import GenericError

from gnomon.storage.care.check import check
from gnomon.storage.errors import Conflict, Format, Integrity, NotFound, Unavailable
from gnomon.storage.log.location import Location
from gnomon.storage.log.records import (
    COPIES,
    Log,
    Record,
    checkpoint_name,
    content_hash,
    read_checkpoint,
    record_name,
    write_checkpoint,
)
from gnomon.storage.repository import Repository
from tests.storage.building import (
    WHEN,
    OtherBody,
    copy_of,
    make_repository,
    reopened,
    shorten_spans,
    weather,
    write_zarr,
)

Records = tuple[Record, ...]


def grow(log: Log, records: Records, count: int) -> Records:
    for _ in range(count):
        records = (*records, log.append(records, "verdict", {"number": len(records)}, WHEN))
    return records


@pytest.fixture
def log(tmp_path: Path) -> tuple[Path, Log]:
    made = Log(Location(str(tmp_path)), "genesis")
    grow(made, (), 4)
    return tmp_path / "log", made


def both(folder: Path, sequence: int) -> tuple[Path, Path]:
    """Return where a record and its copy are."""
    top = folder.parent
    return top / record_name(sequence), top / f"{COPIES}{record_name(sequence)}"


def warned(caplog: pytest.LogCaptureFixture) -> str:
    """Return the warnings so far, and forget them."""
    found = "\n".join(r.getMessage() for r in caplog.records if r.levelno == logging.WARNING)
    caplog.clear()
    return found


def test_records_come_back_in_order(log: Any) -> None:
    records = log[1].read()
    assert [r.body["number"] for r in records] == [0, 1, 2, 3]
    assert [r.parent for r in records] == ["genesis", *(r.digest for r in records[:-1])]
    assert log[1].read(records[:2]) == records
    assert log[1].extend(records[:2]) == records


def test_a_stored_record_is_plain_json_and_stored_twice(log: Any) -> None:
    path, copy = both(log[0], 1)
    fields = json.loads(path.read_bytes())
    assert fields["sequence"] == 1
    head = path.read_bytes().rpartition(b',"sha256"')[0]
    assert fields["sha256"] == content_hash(head)
    assert copy.read_bytes() == path.read_bytes()


def delete(path: Path) -> None:
    path.unlink()


def edit(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"number":', b'"nunber":'))


def renumber(path: Path) -> None:
    """Turn the version into another with one flipped bit."""
    path.write_bytes(path.read_bytes().replace(b'"version":1', b'"version":3'))


def empty(path: Path) -> None:
    path.write_bytes(b"")


def nest(path: Path) -> None:
    """Put JSON there that is deeper than a parser goes."""
    path.write_bytes(b"[" * 100_000)


def occupy(path: Path) -> None:
    path.unlink()
    path.mkdir()


HARM = [delete, edit, renumber, empty, nest, occupy]


@pytest.mark.parametrize("harm", HARM)
@pytest.mark.parametrize("sequence", [0, 2, 3])
def test_a_record_is_read_from_its_copy(
    log: Any, sequence: int, harm: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    records = log[1].read()
    assert warned(caplog) == ""
    harm(both(log[0], sequence)[0])
    assert log[1].read() == records
    assert f"{sequence:020d}.json is damaged or gone" in warned(caplog)
    if sequence:
        assert log[1].extend(records[:sequence]) == records
        assert "gnomon repair" in warned(caplog)


@pytest.mark.parametrize("harm", HARM)
def test_a_damaged_copy_is_nothing_to_a_reader(
    log: Any, harm: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    records = log[1].read()
    for sequence in range(4):
        harm(both(log[0], sequence)[1])
    assert log[1].read() == records
    assert log[1].extend(records) == records
    assert warned(caplog) == ""


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_a_record_that_is_missing_twice_is_named(log: Any, missing: int) -> None:
    for path in both(log[0], missing):
        path.unlink()
    with pytest.raises(Integrity, match=f"{missing:020d}.json is missing"):
        log[1].read()


@pytest.mark.parametrize("edited", [0, 1, 3])
def test_a_record_that_was_edited_twice_is_refused(log: Any, edited: int) -> None:
    for path in both(log[0], edited):
        edit(path)
    with pytest.raises(Integrity, match=f"{edited:020d}.json was changed"):
        log[1].read()


def test_a_record_that_is_edited_here_and_gone_there_is_refused(log: Any) -> None:
    path, copy = both(log[0], 1)
    edit(path)
    copy.unlink()
    with pytest.raises(Integrity, match=f"^log/{1:020d}.json was changed"):
        log[1].read()
    path.unlink()
    copy.write_bytes(b"{}")
    with pytest.raises(Integrity, match=f"^log/{1:020d}.json is missing"):
        log[1].read()


def forge(path: Path) -> None:
    """Put another record there, with a hash of its own."""
    record = Record.from_json(path.read_bytes(), "x")
    body = {"number": 9}
    path.write_bytes(Record(record.sequence, record.parent, "verdict", WHEN, body).to_json())


def uproot(path: Path) -> None:
    """Put a record of another history there."""
    sequence = int(path.stem)
    path.write_bytes(Record(sequence, "elsewhere", "verdict", WHEN, {"number": 9}).to_json())


def rewind(path: Path) -> None:
    """Put the record there that comes before."""
    path.write_bytes(path.with_name(f"{int(path.stem) - 1:020d}.json").read_bytes())


@pytest.mark.parametrize("harm", [uproot, rewind])
@pytest.mark.parametrize("sequence", [2, 3])
def test_a_record_in_the_place_of_another_is_read_from_its_copy(
    log: Any, sequence: int, harm: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    records = log[1].read()
    harm(both(log[0], sequence)[0])
    assert log[1].read() == records
    assert f"{sequence:020d}.json is damaged or gone" in warned(caplog)
    assert log[1].extend(records[:sequence]) == records


@pytest.mark.parametrize(
    ("harm", "sequence", "culprit"),
    [(forge, 1, 2), (forge, 2, 3), (uproot, 2, 2), (uproot, 3, 3), (rewind, 3, 3)],
)
def test_a_record_in_the_place_of_another_is_refused_where_its_copy_is_too(
    log: Any, harm: Callable[[Path], None], sequence: int, culprit: int
) -> None:
    path, copy = both(log[0], sequence)
    harm(path)
    copy.write_bytes(path.read_bytes())
    with pytest.raises(Integrity, match=rf"{culprit:020d}\.json (does not follow|holds record)"):
        log[1].read()


@pytest.mark.parametrize("prefix", ["log", "copies/log"])
@pytest.mark.parametrize("name", [".DS_Store", "x.json", "4.json", f"{4:020d}.json.bak"])
def test_a_foreign_file_is_named(log: Any, name: str, prefix: str) -> None:
    (log[0].parent / prefix / name).write_text("{}")
    with pytest.raises(Integrity, match=f"{prefix}/{name}".replace(".", r"\.")):
        log[1].read()


def test_what_a_killed_put_leaves_is_not_a_record(log: Any) -> None:
    for path in both(log[0], 4):
        path.with_name(f"{path.name}#1").write_text('{"half')
    assert len(log[1].read()) == 4


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"null", b'"x"', b"{}", b"\xff", b"[" * 100_000]
)
def test_garbage_is_no_record(data: bytes) -> None:
    with pytest.raises(Integrity, match=r"log/0\.json"):
        Record.from_json(data, "log/0.json")


FIELDS = {"sequence": 0, "parent": "p", "kind": "k", "committed_at": "", "nonce": "", "body": {}}


@pytest.mark.parametrize(
    "fields",
    [
        {n: v for n, v in FIELDS.items() if n != "body"},
        FIELDS | {"body": 3},
        FIELDS | {"body": ["ab", 3]},
        FIELDS | {"sequence": None},
        FIELDS | {"sequence": "x"},
        FIELDS | {"sequence": float("inf")},
    ],
)
def test_a_sealed_record_of_nonsense_is_refused(fields: dict[str, Any]) -> None:
    from gnomon.storage.log.records import _seal

    head = json.dumps({**fields, "version": 1}).encode().removesuffix(b"}")
    with pytest.raises(Integrity, match=r"lacks fields|is not a log record"):
        Record.from_json(head + _seal(head), "log/0.json")


# A log that ends earlier than it did ---------------------------------------------------------


def test_a_newest_record_that_is_gone_is_shown_from_its_copy(
    log: Any, caplog: pytest.LogCaptureFixture
) -> None:
    records = log[1].read()
    both(log[0], 3)[0].unlink()
    assert log[1].read() == records
    assert log[1].extend(records[:3]) == records
    assert log[1].extend(records) == records
    assert f"log/{3:020d}.json is damaged or gone" in warned(caplog)
    assert grow(log[1], records, 1)[-1].sequence == 4


def test_a_log_that_became_shorter_is_noticed_by_who_has_read_it(log: Any) -> None:
    records = log[1].read()
    for path in both(log[0], 3):
        path.unlink()
    with pytest.raises(Integrity, match=f"{3:020d}.json is missing"):
        log[1].extend(records)


def test_a_log_that_was_written_anew_is_noticed_by_who_has_read_it(log: Any) -> None:
    records = log[1].read()
    for path in both(log[0], 3):
        path.unlink()
    log[1].append(records[:3], "verdict", {"number": 33}, WHEN)
    with pytest.raises(Integrity, match=f"{3:020d}.json is not what it was"):
        log[1].extend(records)


def test_a_repository_whose_log_became_shorter_is_refused_by_who_has_read_it(
    repository_path: Path, tmp_path: Path
) -> None:
    folder = copy_of(repository_path, tmp_path / "r")
    repository = reopened(folder)
    newest = repository.records[-1].sequence
    for path in both(folder / "log", newest):
        path.unlink()
    for read in (repository.refresh, lambda: Repository.open(str(folder))):
        with pytest.raises(Integrity, match=f"{newest:020d}.json is missing"):
            read()
    with pytest.raises(Integrity, match=f"{newest:020d}.json is missing"):
        check(repository)


# Settings ------------------------------------------------------------------------------------


def change_settings(folder: Path, changes: dict[str, Any], *places: str) -> None:
    for place in places:
        path = folder / place
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))


CHANGES: list[dict[str, Any]] = [{"format": 3}, {"format": 1}, {"leads": 7}, {"variables": None}]


@pytest.mark.parametrize("changes", CHANGES, ids=str)
@pytest.mark.parametrize("place", ["gnomon.json", "copies/gnomon.json"])
def test_one_copy_of_the_settings_is_enough(
    repository_path: Path,
    tmp_path: Path,
    changes: dict[str, Any],
    place: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    records = reopened(repository_path).records
    folder = copy_of(repository_path, tmp_path / "r")
    change_settings(folder, changes, place)
    assert reopened(folder).records == records
    assert ("gnomon.json is damaged or gone" in warned(caplog)) == (place == "gnomon.json")
    assert [p.file for p in check(reopened(folder)).problems] == [place]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (CHANGES[0], Format, "format 3.* reads 2; upgrade"),
        (CHANGES[1], Format, "format 1, of a program before its first release; make a new one"),
        (CHANGES[2], Integrity, r"does not follow from gnomon\.json"),
        (CHANGES[3], Integrity, r"gnomon\.json is damaged"),
        ({"format": None}, Format, "format None"),
    ],
)
def test_settings_that_were_changed_twice_are_refused(
    repository_path: Path,
    tmp_path: Path,
    changes: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    folder = copy_of(repository_path, tmp_path / "r")
    change_settings(folder, changes, "gnomon.json", "copies/gnomon.json")
    with pytest.raises(error, match=message):
        reopened(folder)


def test_a_newer_record_is_refused_as_a_format(log: Any) -> None:
    for path in both(log[0], 2):
        renumber(path)
    with pytest.raises(Format, match=r"version 3.* reads 1; upgrade"):
        log[1].read()


# Commits -------------------------------------------------------------------------------------


def test_the_next_append_puts_the_copy_that_was_lost(log: Any) -> None:
    records = log[1].read()
    path, copy = both(log[0], 3)
    copy.unlink()  # its writer was stopped between the two
    grow(log[1], records, 1)
    assert copy.read_bytes() == path.read_bytes()


def test_the_next_append_leaves_a_damaged_copy_to_repair(log: Any) -> None:
    _, copy = both(log[0], 3)
    copy.write_bytes(b"x")
    grow(log[1], log[1].read(), 1)
    assert copy.read_bytes() == b"x"


def test_the_same_commit_of_another_writer_is_a_conflict(log: Any) -> None:
    """Equal bytes would count as its own record: both would be told that they were first."""
    records = log[1].read()
    other = Log(Location(str(log[0].parent)), "genesis")
    mine = log[1].append(records, "verdict", {"number": 4}, WHEN)
    with pytest.raises(Conflict, match="another writer committed"):
        other.append(records, "verdict", {"number": 4}, WHEN)
    assert log[1].read() == (*records, mine)


def answer(outcome: Exception | None, *, stored: bool) -> Callable[..., Any]:
    """Return a put that does its work or not, and then says what it is told to say."""
    put = obstore.put

    def fake(*arguments: Any, **options: Any) -> Any:
        if stored:
            put(*arguments, **options)
        if outcome is not None:
            raise outcome

    return fake


@pytest.mark.parametrize(
    "outcome", [GenericError("timeout"), obstore.exceptions.AlreadyExistsError("x")]
)
def test_a_commit_whose_reply_was_lost_is_recognised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outcome: Exception
) -> None:
    """A client that asks again meets its own object; one that gives up finds it there."""
    made = Log(Location(f"memory://{tmp_path.name}"), "genesis")
    records = grow(made, (), 2)
    with monkeypatch.context() as patch:
        patch.setattr(obstore, "put", answer(outcome, stored=True))
        records = grow(made, records, 1)
    assert made.read() == records


def test_a_commit_that_was_not_stored_is_not_recognised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Log(Location(f"memory://{tmp_path.name}"), "genesis")
    records = grow(made, (), 2)
    with monkeypatch.context() as patch:
        patch.setattr("gnomon.storage.log.location.PAUSES_S", (0.0, 0.0))
        patch.setattr(obstore, "put", answer(GenericError("timeout"), stored=False))
        with pytest.raises(Unavailable, match="try again"):
            grow(made, records, 1)
    assert made.read() == records


# Checkpoints ---------------------------------------------------------------------------------


class Spied(Location):
    """A location that notes what is read."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.names: list[str] = []

    def read(self, name: str, part: tuple[int, int] | None = None) -> bytes:
        self.names.append(name)
        return super().read(name, part)


def checkpoints(log: Any) -> list[str]:
    return [p.name for p in sorted((log[0].parent / "checkpoints").glob("*"))]


def starts(*numbers: int) -> list[str]:
    return [checkpoint_name(n).removeprefix("checkpoints/") for n in numbers]


@pytest.fixture
def long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Log, Records]:
    """A log of ten records whose checkpoints hold four each."""
    shorten_spans(monkeypatch)
    made = Log(Location(str(tmp_path)), "genesis")
    return tmp_path / "log", made, grow(made, (), 10)


def test_a_checkpoint_is_written_with_the_last_of_its_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shorten_spans(monkeypatch)
    made = Log(Location(str(tmp_path)), "genesis")
    records: Records = ()
    for count in range(1, 11):
        records = grow(made, records, 1)
        assert checkpoints((tmp_path / "log", made)) == starts(0, 4)[: count // 4]
    lines = gzip.decompress((tmp_path / checkpoint_name(4)).read_bytes()).split(b"\n")
    assert lines == [both(tmp_path / "log", k)[0].read_bytes() for k in range(4, 8)]


def test_a_long_log_is_read_from_its_checkpoints(long: Any) -> None:
    seen = Spied(str(long[0].parent))
    assert Log(seen, "genesis").read() == long[2]
    tail = {record_name(8), record_name(9)}
    assert {n for n in seen.names if n.startswith(("log/", "copies/"))} == tail
    assert set(seen.names) - tail == {checkpoint_name(0), checkpoint_name(4)}


def test_a_log_opens_in_few_reads_when_it_is_known(long: Any) -> None:
    seen = Spied(str(long[0].parent))
    assert Log(seen, "genesis").extend(long[2]) == long[2]
    assert set(seen.names) == {n + record_name(10) for n in ("", COPIES)} | {record_name(9)}


def test_records_that_are_gone_are_still_in_their_checkpoint(long: Any) -> None:
    for sequence in (1, 5):
        for path in both(long[0], sequence):
            path.unlink()
    assert long[1].read() == long[2]


def bend(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def extend(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def shorten(path: Path) -> None:
    """Leave out the first record: good gzip, good records, and not what belongs there."""
    kept = list(read_checkpoint(path.read_bytes(), "x"))[1:]
    path.write_bytes(write_checkpoint(kept))


def garble(path: Path) -> None:
    path.write_bytes(gzip.compress(b"{}\n[]"))


@pytest.mark.parametrize("harm", [bend, truncate, extend, shorten, garble, empty])
@pytest.mark.parametrize("start", [0, 4])
def test_a_damaged_checkpoint_is_passed_over(
    long: Any, start: int, harm: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    harm(long[0].parent / checkpoint_name(start))
    assert long[1].read() == long[2]
    told = warned(caplog)
    assert checkpoint_name(start) in told
    assert "the records themselves were read, run 'gnomon repair'" in told


def test_a_checkpoint_of_another_history_is_passed_over(
    long: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Log(Location(f"memory://{tmp_path.name}-other"), "genesis")
    path = long[0].parent / checkpoint_name(4)
    path.write_bytes(write_checkpoint(grow(other, (), 8)[4:]))
    assert long[1].read() == long[2]


def test_a_checkpoint_unpacks_to_no_more_than_allowed(
    long: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gnomon.storage.log.records.RECORD_BYTES", 2**16)
    path = long[0].parent / checkpoint_name(4)
    path.write_bytes(gzip.compress(bytes(2**20)))
    with pytest.raises(Integrity, match="longer than 65536 bytes"):
        list(read_checkpoint(path.read_bytes(), "x"))
    assert long[1].read() == long[2]


def test_a_checkpoint_behind_a_gap_is_not_used(long: Any) -> None:
    (long[0].parent / checkpoint_name(0)).unlink()
    seen = Spied(str(long[0].parent))
    assert Log(seen, "genesis").read() == long[2]
    assert seen.names.count(record_name(0)) == 1
    assert checkpoint_name(4) not in seen.names


def test_a_missing_checkpoint_is_made_up_for_at_the_next_multiple(long: Any) -> None:
    path = long[0].parent / checkpoint_name(0)
    before = path.read_bytes()
    path.unlink()
    records = grow(long[1], long[2], 1)
    assert checkpoints(long) == starts(4)
    grow(long[1], records, 1)
    assert checkpoints(long) == starts(0, 4, 8)
    assert path.read_bytes() == before


def test_a_checkpoint_that_another_writer_packed_otherwise_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another release of zlib gives other bytes for the same records."""
    shorten_spans(monkeypatch)
    made = Log(Location(str(tmp_path)), "genesis")
    records = grow(made, (), 3)
    listed = Location.list

    def hidden(self: Location, prefix: str, *, after: str | None = None) -> list[str]:
        return [] if prefix == "checkpoints/" else listed(self, prefix, after=after)

    (tmp_path / "checkpoints").mkdir()
    path = tmp_path / checkpoint_name(0)
    path.write_bytes(b"packed otherwise")
    with monkeypatch.context() as patch:
        patch.setattr(Location, "list", hidden)
        grow(made, records, 1)
    assert path.read_bytes() == b"packed otherwise"


def test_what_is_wrong_with_checkpoints_is_named_by_a_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shorten_spans(monkeypatch)
    source = write_zarr(weather(2), tmp_path / "source.zarr")
    repository = make_repository(tmp_path / "r", source)
    for number in range(9):
        repository = repository.commit(OtherBody("verdict", {"chunks": [], "number": number}), WHEN)
    assert check(repository).problems == ()
    one, other = (tmp_path / "r" / checkpoint_name(k) for k in (0, 4))
    one.unlink()
    shorten(other)
    again = reopened(tmp_path / "r")
    assert again.records == repository.records
    names = [p.file for p in check(again).problems]
    assert names == [checkpoint_name(0), checkpoint_name(4)]


# Writers that race ---------------------------------------------------------------------------


def _race(url: str, writer: int, commits: int) -> list[tuple[int, int]]:
    """Commit until `commits` succeeded; return (writer, sequence) of those acknowledged."""
    repository = Repository.open(url)
    kept: list[tuple[int, int]] = []
    while len(kept) < commits:
        try:
            repository = repository.commit(
                OtherBody("verdict", {"chunks": [], "writer": writer}), WHEN
            )
        except Conflict:
            repository = repository.refresh()
        else:
            kept.append((writer, repository.records[-1].sequence))
    return kept


def _assert_all_kept(url: str, kept: list[tuple[int, int]]) -> None:
    records = Repository.open(url).records
    assert len({sequence for _, sequence in kept}) == len(kept)
    for writer, sequence in kept:
        assert records[sequence].body["writer"] == writer
    assert len(records) == len(kept) + 1


@pytest.fixture
def empty_repository(tmp_path: Path) -> str:
    source = write_zarr(weather(2), tmp_path / "source.zarr")
    return make_repository(tmp_path / "r", source).location.url


def test_threads_that_race_lose_no_commit(empty_repository: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        kept = [
            k for some in pool.map(lambda w: _race(empty_repository, w, 12), range(4)) for k in some
        ]
    _assert_all_kept(empty_repository, kept)


def test_threads_that_race_in_memory_lose_no_commit(tmp_path: Path) -> None:
    source = write_zarr(weather(2), tmp_path / "source.zarr")
    url = make_repository(f"memory://{tmp_path.name}-race", source).location.url
    with ThreadPoolExecutor(4) as pool:
        kept = [k for some in pool.map(lambda w: _race(url, w, 12), range(4)) for k in some]
    _assert_all_kept(url, kept)


def test_processes_that_race_lose_no_commit(empty_repository: str) -> None:
    context = multiprocessing.get_context("spawn")
    with context.Pool(2) as pool:
        results = pool.starmap(_race, [(empty_repository, w, 15) for w in range(2)])
    _assert_all_kept(empty_repository, [k for some in results for k in some])


def test_the_second_writer_gets_a_conflict(empty_repository: str) -> None:
    one, other = (Repository.open(empty_repository) for _ in range(2))
    one.commit(OtherBody("verdict", {"chunks": []}), WHEN)
    with pytest.raises(Conflict, match="run it again"):
        other.commit(OtherBody("verdict", {"chunks": []}), WHEN)
    assert len(other.refresh().records) == 2


def test_a_pinned_repository_stays_where_it_is(repository_path: Path) -> None:
    repository = Repository.open(str(repository_path))
    assert len(repository.at(1).captured) == 2
    assert len(repository.captured) == 4
    with pytest.raises(NotFound, match="no variable"):
        repository.captures("nonsense")
