import json
import multiprocessing
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from gnomon.storage.errors import Conflict, Format, Integrity, NotFound
from gnomon.storage.location import Location
from gnomon.storage.log import Log, Record, content_hash
from gnomon.storage.repository import Repository
from tests.storage.building import WHEN, copy_of, make_repository, weather, write_zarr


@pytest.fixture
def log(tmp_path: Path) -> tuple[Path, Log]:
    made = Log(Location(str(tmp_path)), "genesis")
    records: tuple[Record, ...] = ()
    for k in range(4):
        records = (*records, made.append(records, "verdict", {"number": k}, WHEN))
    return tmp_path / "log", made


def test_records_come_back_in_order(log: Any) -> None:
    records = log[1].read()
    assert [r.body["number"] for r in records] == [0, 1, 2, 3]
    assert [r.parent for r in records] == ["genesis", *(r.digest for r in records[:-1])]
    assert log[1].read(records[:2]) == records


def test_a_stored_record_is_plain_json(log: Any) -> None:
    path = sorted(log[0].iterdir())[1]
    fields = json.loads(path.read_bytes())
    assert fields["sequence"] == 1
    head = path.read_bytes().rpartition(b',"sha256"')[0]
    assert fields["sha256"] == content_hash(head)


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_a_missing_record_is_named(log: Any, missing: Any) -> None:
    (log[0] / f"{missing:020d}.json").unlink()
    with pytest.raises(Integrity, match=f"{missing:020d}"):
        log[1].read()


def test_a_log_that_became_shorter_is_noticed_by_who_has_read_it(log: Any) -> None:
    records = log[1].read()
    (log[0] / f"{3:020d}.json").unlink()
    with pytest.raises(Integrity, match="now missing"):
        log[1].read(records)


@pytest.mark.parametrize("edited", [0, 1, 3])
def test_an_edited_record_is_refused(log: Any, edited: Any) -> None:
    path = log[0] / f"{edited:020d}.json"
    path.write_bytes(path.read_bytes().replace(b'"number":', b'"nunber":'))
    with pytest.raises(Integrity, match=f"{edited:020d}"):
        log[1].read()


def test_an_edited_record_with_a_hash_of_its_own_breaks_the_chain(log: Any) -> None:
    path = log[0] / f"{1:020d}.json"
    record = Record.from_json(path.read_bytes(), "x")
    path.write_bytes(Record(1, record.parent, "verdict", WHEN, {"number": 9}).to_json())
    with pytest.raises(Integrity, match=f"{2:020d}.json does not follow"):
        log[1].read()


def test_a_record_in_the_place_of_another_is_refused(log: Any) -> None:
    a, b = (log[0] / f"{k:020d}.json" for k in (2, 3))
    b.write_bytes(a.read_bytes())
    with pytest.raises(Integrity):
        log[1].read()


@pytest.mark.parametrize("name", [".DS_Store", "x.json", "4.json", f"{4:020d}.json.bak"])
def test_a_foreign_file_is_named(log: Any, name: Any) -> None:
    (log[0] / name).write_text("{}")
    with pytest.raises(Integrity, match=name.replace(".", r"\.")):
        log[1].read()


def test_what_a_killed_put_leaves_is_not_a_record(log: Any) -> None:
    (log[0] / f"{4:020d}.json#1").write_text('{"half')
    assert len(log[1].read()) == 4


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b'"x"', b"{}", b"\xff"])
def test_garbage_is_no_record(data: Any) -> None:
    with pytest.raises(Integrity):
        Record.from_json(data, "log/0.json")


def test_a_newer_record_is_refused_as_a_format() -> None:
    data = Record(0, "p", "init", WHEN, {}).to_json().replace(b'"version":1', b'"version":2')
    with pytest.raises(Format, match="upgrade"):
        Record.from_json(data, "log/0.json")


def test_a_newer_repository_is_refused_as_a_format(repository_path: Path, tmp_path: Path) -> None:
    folder = copy_of(repository_path, tmp_path / "r")
    settings = json.loads((folder / "gnomon.json").read_text())
    (folder / "gnomon.json").write_text(json.dumps(settings | {"format": 2}))
    with pytest.raises(Format, match="upgrade"):
        Repository.open(str(folder))


def test_changed_settings_are_named(repository_path: Path, tmp_path: Path) -> None:
    folder = copy_of(repository_path, tmp_path / "r")
    settings = json.loads((folder / "gnomon.json").read_text())
    (folder / "gnomon.json").write_text(json.dumps(settings | {"leads": 7}))
    with pytest.raises(Integrity, match=r"gnomon\.json"):
        Repository.open(str(folder))


def _race(url: str, writer: int, commits: int) -> list[tuple[int, int]]:
    """Commit until `commits` succeeded; return (writer, sequence) of those acknowledged."""
    repository = Repository.open(url)
    kept: list[tuple[int, int]] = []
    while len(kept) < commits:
        try:
            repository = repository.commit("verdict", {"chunks": [], "writer": writer}, WHEN)
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
    one.commit("verdict", {"chunks": []}, WHEN)
    with pytest.raises(Conflict, match="run it again"):
        other.commit("verdict", {"chunks": []}, WHEN)
    assert len(other.refresh().records) == 2


def test_a_pinned_repository_stays_where_it_is(repository_path: Path) -> None:
    repository = Repository.open(str(repository_path))
    assert len(repository.at(1).captured) == 2
    assert len(repository.captured) == 4
    with pytest.raises(NotFound, match="no variable"):
        repository.captures("nonsense")
