"""What a commit writes is in its manifest, with size and hash, and nothing else is there."""

import asyncio
import gzip
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from zarr.core.buffer.cpu import Buffer

from gnomon.storage.arrays.tables import create_index, create_table
from gnomon.storage.care.forget import forget
from gnomon.storage.care.inventory import take_inventory
from gnomon.storage.care.rewrite import dependent, rewrite
from gnomon.storage.errors import Conflict, Integrity
from gnomon.storage.log.location import Location
from gnomon.storage.log.staging import (
    Batch,
    fresh_id,
    load_manifest,
    manifest_name,
    object_hash,
    sequence_of,
    write_manifest,
)
from gnomon.storage.repository import Repository
from tests.storage.building import (
    WHEN,
    OtherBody,
    captured,
    copy_of,
    files_of,
    reopened,
    weather,
    write_zarr,
)


def test_a_folder_names_the_record_that_it_was_made_for() -> None:
    names = {fresh_id(17) for _ in range(50)}
    assert len(names) == 50
    assert {sequence_of(name) for name in names} == {17}
    assert sequence_of(fresh_id(123_456_789)) == 123_456_789
    assert sorted([fresh_id(10), fresh_id(9)])[0].startswith("00000009")


@pytest.mark.parametrize("name", ["", "x", "17", "17-", "-x", "1x-y", "\u0661-x", "-1-x", " 1-x"])
def test_a_foreign_folder_names_no_record(name: str) -> None:
    assert sequence_of(name) is None


def written(folder: Path, commit: str) -> dict[str, bytes]:
    """Return what is stored in a commit's folders, but its manifests."""
    found = {p.relative_to(folder).as_posix(): p.read_bytes() for p in files_of(folder)}
    return {n: d for n, d in found.items() if f"/{commit}/" in n}


def assert_listed(folder: Path, commit: str, sha256: str) -> None:
    name = manifest_name(commit)
    data = (folder / name).read_bytes()
    assert (folder / "copies" / name).read_bytes() == data
    assert hashlib.sha256(data).hexdigest() == sha256
    there = written(folder, commit)
    assert there
    entries = load_manifest(data, sha256, name)
    assert entries == {n: (len(d), object_hash(d)) for n, d in there.items()}


def test_every_object_of_a_commit_is_in_its_manifest(repository_path: Path) -> None:
    records = Repository.open(str(repository_path)).records
    sealed = [r for r in records if "id" in r.body]
    assert [r.kind for r in sealed] == ["capture", "capture", "shadow"]
    for record in sealed:
        assert sequence_of(record.body["id"]) == record.sequence
        assert_listed(repository_path, record.body["id"], record.body["manifest"])
    names = {f"manifests/{p.name}" for p in (repository_path / "manifests").iterdir()}
    assert names == {manifest_name(r.body["id"]) for r in sealed}


def test_every_object_of_a_rewrite_is_in_its_manifest(tmp_path: Path) -> None:
    source = write_zarr(weather(4), tmp_path / "source.zarr")
    made = captured(tmp_path / "r", source, chunks={"y": 3, "x": 5})
    made, _ = forget(made, captures=[0, 1], committed_at=WHEN)
    steps = dependent(made)
    assert steps
    made = rewrite(made, steps, WHEN, lambda _what, _done, _total: None)
    record = made.records[-1]
    assert record.kind == "rewrite"
    assert_listed(tmp_path / "r", record.body["id"], record.body["manifest"])


def test_the_inventory_is_all_that_is_stored(repository_path: Path) -> None:
    repository = Repository.open(str(repository_path))
    found = take_inventory(repository)
    assert found.damaged == {}
    names = {p.relative_to(repository_path).as_posix() for p in files_of(repository_path)}
    others = ("log/", "copies/log/", "frame/", "gnomon.json", "copies/gnomon.json")
    assert set(found.objects) | set(found.manifests) == {
        n for n in names if not n.startswith(others)
    }


def test_a_damaged_manifest_is_read_from_its_copy(repository_path: Path, tmp_path: Path) -> None:
    folder = copy_of(repository_path, tmp_path / "r")
    whole = take_inventory(reopened(folder))
    commit = reopened(folder).records[1].body["id"]
    name = manifest_name(commit)
    (folder / name).write_bytes((folder / name).read_bytes()[:-1])
    found = take_inventory(reopened(folder))
    assert found.objects == whole.objects
    assert list(found.damaged) == [name]
    (folder / "copies" / name).unlink()
    found = take_inventory(reopened(folder))
    assert set(found.damaged) == {name, f"copies/{name}"}
    assert {n for n in whole.objects if n not in found.objects} == set(written(folder, commit))


@pytest.mark.parametrize("url", ["folder", "memory"])
def test_what_is_written_is_noted(tmp_path: Path, url: str) -> None:
    location = Location(f"memory://{tmp_path}" if url == "memory" else str(tmp_path))
    batch = Batch(location, fresh_id(1))
    values = np.arange(12.0).reshape(3, 4)
    create_table(batch, f"ledger/{batch.id}/a", values, ["x"])
    create_index(batch, f"captures/{batch.id}/v-t/index", values, ["x"])
    batch.create(f"captures/{batch.id}/v-t/text", b"text")
    path = f"captures/{batch.id}/v-t/index"
    assert {n for n in batch.entries if "/index/" in n} == {
        f"{place}/{part}" for place in (path, f"copies/{path}") for part in ("zarr.json", "c/0/0")
    }
    for name, entry in batch.entries.items():
        data = location.read(name)
        assert entry == (len(data), object_hash(data))
    sha256 = batch.seal()
    there = set(location.list(""))
    assert there == {*batch.entries, batch.manifest, f"copies/{batch.manifest}"}
    assert load_manifest(location.read(batch.manifest), sha256, "x") == batch.entries


def test_what_a_worker_wrote_is_merged() -> None:
    location = Location("memory://merged")
    batch, worker = (Batch(location, "00000001-x") for _ in range(2))
    worker.create("captures/00000001-x/b", b"b")
    batch.create("captures/00000001-x/a", b"a")
    batch.merge(dict(worker.entries))
    sha256 = batch.seal()
    entries = load_manifest(location.read(batch.manifest), sha256, "x")
    assert list(entries) == ["captures/00000001-x/a", "captures/00000001-x/b"]


def test_a_manifest_does_not_depend_on_the_order_of_writing() -> None:
    entries = {f"n{k}": (k, object_hash(bytes(k))) for k in range(5)}
    data = write_manifest(entries)
    assert write_manifest(dict(reversed(entries.items()))) == data
    assert load_manifest(data, hashlib.sha256(data).hexdigest(), "m") == entries
    lines = gzip.decompress(data).splitlines()
    assert len(lines) > len(entries)  # a person can read it, and find a line


@pytest.mark.parametrize(
    "harm",
    [
        lambda data: b"",
        lambda data: data[:-1],
        lambda data: data + b"\0",
        lambda data: data[:20] + bytes([data[20] ^ 1]) + data[21:],
        lambda data: gzip.compress(gzip.decompress(data), 1, mtime=1),
        gzip.decompress,
    ],
)
def test_a_manifest_that_was_changed_is_refused(harm: Callable[[bytes], bytes]) -> None:
    data = write_manifest({"a": (1, object_hash(b"a"))})
    with pytest.raises(Integrity, match=r"manifests/x: hash .* found, .* expected"):
        load_manifest(harm(data), hashlib.sha256(data).hexdigest(), "manifests/x")


def put(batch: Batch, key: str, data: bytes) -> None:
    asyncio.run(batch.store().set(key, Buffer.from_bytes(data)))


@pytest.mark.parametrize("url", ["folder", "memory"])
def test_an_object_is_written_once(tmp_path: Path, url: str) -> None:
    location = Location(f"memory://{tmp_path}" if url == "memory" else str(tmp_path))
    batch = Batch(location, "00000001-x")
    for _ in range(2):  # again with the same bytes: only the reply was lost
        put(batch, "captures/x/c/0", b"one")
    with pytest.raises(Conflict, match="captures/x/c/0 exists already"):
        put(batch, "captures/x/c/0", b"other")
    with pytest.raises(Conflict, match="captures/x/c/0 exists already"):
        batch.create("captures/x/c/0", b"other")
    assert batch.entries == {"captures/x/c/0": (3, object_hash(b"one"))}
    assert location.read("captures/x/c/0") == b"one"


def test_zarr_cannot_remove_what_was_written(tmp_path: Path) -> None:
    batch = Batch(Location(str(tmp_path)), "00000001-x")
    put(batch, "a/c/0", b"one")
    asyncio.run(batch.store().delete("a/c/0"))
    asyncio.run(batch.store().set_if_not_exists("a/zarr.json", Buffer.from_bytes(b"{}")))
    assert [p.name for p in files_of(tmp_path)] == ["0"]


def test_a_batch_is_on_the_disk_before_its_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a power failure could leave a record without its data."""
    forced: list[str] = []
    flush, create = Location.flush, Location.create

    def flushed(self: Location, names: Any) -> None:
        names = list(names)
        forced.extend(names)
        flush(self, names)

    def created(self: Location, name: str, data: bytes, *, durable: bool = False) -> None:
        if name.startswith("log/") and forced:
            there = self.list("")
            new = [n for n in there if not n.startswith(("log/", "copies/log/"))]
            assert set(new) <= set(forced)
            forced.append(name)
        create(self, name, data, durable=durable)

    monkeypatch.setattr(Location, "flush", flushed)
    monkeypatch.setattr(Location, "create", created)
    source = write_zarr(weather(2), tmp_path / "source.zarr")
    captured(tmp_path / "r", source)
    assert [n for n in forced if n.startswith("log/")] == [f"log/{k:020d}.json" for k in range(2)]


def test_a_manifest_of_a_run_that_a_prune_overtook_is_not_committed(tmp_path: Path) -> None:
    source = write_zarr(weather(2), tmp_path / "source.zarr")
    made = captured(tmp_path / "r", source)
    batch = Batch(made.location, fresh_id(len(made.records)))
    later = made.commit(OtherBody("verdict", {"chunks": []}), WHEN).commit(
        OtherBody("prune", {}), WHEN
    )
    with pytest.raises(Conflict, match="pruned meanwhile"):
        later.commit(OtherBody("shadow", {}), WHEN, batch)
    foreign = Batch(made.location, "no-number")
    with pytest.raises(Conflict):
        later.commit(OtherBody("shadow", {}), WHEN, foreign)
    assert later.refresh().records == later.records
