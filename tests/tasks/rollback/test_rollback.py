"""A state is written into the live dataset: only what differs, and so that it can be taken back."""

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr

import gnomon
from gnomon.repository import GnomonRepository
from gnomon.storage.care.check import check
from gnomon.storage.care.prune import prune
from gnomon.storage.errors import (
    Conflict,
    GnomonError,
    InvalidInput,
    NotFound,
    Unavailable,
    Unreadable,
)
from gnomon.storage.live import stores
from gnomon.storage.live.staged import Staged
from gnomon.storage.log.bodies.rollback import Writer
from gnomon.storage.log.location import Location
from gnomon.storage.log.steps import Rollback
from gnomon.storage.repository import Repository
from gnomon.storage.values.model import SourceSpec
from gnomon.tasks.rollback.writer import refuse_living, this_writer
from tests import sources
from tests.cases import DAMAGED, HISTORY, Case
from tests.gnomon.test_cli import run
from tests.storage.building import WHEN, capture_new, captured, make_repository, weather, write_zarr

DAY = "2001-01-25"
AT = "2000-01-01T02"
CHUNKS = {"y": 3, "x": 5}


def files_of(folder: Path) -> dict[str, bytes]:
    """Return the bytes of every file below a folder."""
    paths = [folder] if folder.is_file() else sorted(folder.rglob("*"))
    return {str(path): path.read_bytes() for path in paths if path.is_file()}


def changed(before: dict[str, bytes], after: dict[str, bytes]) -> set[str]:
    return {p for p in before.keys() | after.keys() if before.get(p) != after.get(p)}


def zarr_source(path: Path, dataset: xr.Dataset, **encoding: Any) -> Path:
    encodings = dict.fromkeys(("t", "p", "wet"), encoding)
    options = {"zarr_format": encoding.pop("zarr_format", 3)}
    return write_zarr(dataset, path, encoding=encodings, **options)


ENCODINGS: dict[str, dict[str, Any]] = {
    "a chunk a step": {"chunks": (1, 3, 5)},
    "several steps in a chunk": {"chunks": (3, 3, 5)},
    "one chunk for all": {"chunks": (4, 6, 10)},
    "chunks that do not fit": {"chunks": (1, 4, 4)},
    "shards": {"chunks": (1, 3, 5), "shards": (2, 6, 10)},
    "format 2": {"chunks": (1, 3, 5), "zarr_format": 2},
    "format 2, several steps": {"chunks": (2, 2, 10), "zarr_format": 2},
}


@pytest.mark.parametrize("encoding", ENCODINGS.values(), ids=ENCODINGS.keys())
def test_only_objects_that_differ_are_written_and_taken_back(
    tmp_path: Path, encoding: dict[str, Any]
) -> None:
    source = zarr_source(tmp_path / "source.zarr", weather(4), **dict(encoding))
    opened = GnomonRepository(captured(tmp_path / "r", source, chunks=CHUNKS))
    good = files_of(source)
    array = zarr.open_array(source / "t", mode="r+")
    array[2, 4, 7] = 1e9
    bad = files_of(source)
    planned = opened.plan_rollback(AT)
    assert (planned.cells, len(planned.chunks), len(planned.objects)) == (1, 1, 1)
    assert files_of(source) == bad
    rolled = opened.rollback(AT, plan=planned.token)
    assert sources.bits(sources.raw(source).t.values) == sources.bits(weather(4).t.values)
    assert changed(bad, files_of(source)) == changed(bad, good)
    assert len(changed(bad, good)) == 1
    undone = opened.undo()
    assert (undone.rollback, undone.objects, undone.left) == (rolled.sequence, 1, ())
    assert files_of(source) == bad
    assert not check(opened.stored, read_data=True).problems


def test_a_region_leaves_alone_what_does_not_lie_along_it(tmp_path: Path) -> None:
    """Unless it is named: a value that each step has, say."""
    data = weather(4)
    data["depth"] = ("time", np.arange(4.0))
    source = zarr_source(tmp_path / "source.zarr", data, chunks=(1, 3, 5))
    opened = GnomonRepository(captured(tmp_path / "r", source, chunks=CHUNKS))
    good = files_of(source)
    zarr.open_array(source / "t", mode="r+")[2, 4, 7] = 1e9
    zarr.open_array(source / "depth", mode="r+")[2] = 1e9
    opened.rollback(AT, region="y=3:5,x=5:9")
    assert {Path(name).parts[-3] for name in changed(files_of(source), good)} == {"depth"}
    opened.rollback(AT, variable=["depth"])
    assert files_of(source) == good


def test_what_is_so_already_is_not_written(tmp_path: Path) -> None:
    source = zarr_source(tmp_path / "source.zarr", weather(4), chunks=(1, 3, 5))
    opened = GnomonRepository(captured(tmp_path / "r", source, chunks=CHUNKS))
    before, records = files_of(tmp_path), len(opened.stored.records)
    assert opened.rollback(AT).sequence is None
    assert files_of(tmp_path) == before
    assert len(opened.stored.refresh().records) == records


def test_a_chunk_without_an_object_is_made_and_removed_again(tmp_path: Path) -> None:
    source = zarr_source(tmp_path / "source.zarr", weather(4), chunks=(1, 3, 5))
    opened = GnomonRepository(captured(tmp_path / "r", source, chunks=CHUNKS))
    lost = source / "t" / "c" / "2" / "1" / "1"
    content = lost.read_bytes()
    shutil.rmtree(lost.parent)
    bad = files_of(source)
    opened.rollback(AT)
    assert lost.read_bytes() == content
    opened.undo()
    assert files_of(source) == bad


def test_an_object_that_cannot_be_decoded_is_replaced(tmp_path: Path) -> None:
    source = zarr_source(tmp_path / "source.zarr", weather(4), chunks=(1, 3, 5))
    opened = GnomonRepository(captured(tmp_path / "r", source, chunks=CHUNKS))
    path = source / "t" / "c" / "2" / "1" / "1"
    content = path.read_bytes()
    path.write_bytes(b"no chunk")
    planned = opened.plan_rollback(AT)
    assert [c.is_damaged for c in planned.chunks] == [True]
    opened.rollback(AT)
    assert path.read_bytes() == content
    opened.undo()
    assert path.read_bytes() == b"no chunk"


def test_other_steps_of_a_broken_object_are_put_back_as_they_were_captured(tmp_path: Path) -> None:
    source = zarr_source(tmp_path / "source.zarr", weather(4), chunks=(2, 3, 5))
    opened = GnomonRepository(captured(tmp_path / "r", source, chunks=CHUNKS))
    path = source / "t" / "c" / "1" / "1" / "1"
    path.write_bytes(b"no chunk")
    planned = opened.plan_rollback(AT)
    assert [staged.also for staged in planned.objects] == [(3,)]
    opened.rollback(AT)
    assert sources.bits(sources.raw(source).t.values) == sources.bits(weather(4).t.values)


def test_a_broken_object_with_steps_that_were_never_captured_is_left_alone(tmp_path: Path) -> None:
    source = zarr_source(tmp_path / "source.zarr", weather(4), chunks=(2, 3, 5))
    made = make_repository(tmp_path / "r", source, chunks=CHUNKS)
    opened = GnomonRepository(capture_new(made, until=made_instant(2)))
    (source / "t" / "c" / "1" / "1" / "1").write_bytes(b"no chunk")
    before = files_of(source)
    with pytest.raises(Unreadable, match="never captured"):
        opened.rollback(AT)
    assert files_of(source) == before


def test_an_object_that_cannot_be_read_now_is_not_taken_for_a_broken_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = zarr_source(tmp_path / "source.zarr", weather(4), chunks=(2, 3, 5))
    opened = GnomonRepository(captured(tmp_path / "r", source, chunks=CHUNKS))
    # The other step in the object was changed by its owner: it must not become what was captured.
    zarr.open_array(source / "t", mode="r+")[2:4, 4, 7] = 1e9
    get = Staged.get

    async def lost(store: Staged, key: str, *arguments: Any, **options: Any) -> Any:
        if "/c/" in key:
            raise ConnectionError("reset by peer")
        return await get(store, key, *arguments, **options)

    monkeypatch.setattr(Staged, "get", lost)
    before = files_of(source)
    with pytest.raises(Unavailable, match="reset by peer"):
        opened.rollback(AT)
    assert files_of(source) == before


def made_instant(hours: int) -> int:
    return int(np.datetime64(f"2000-01-01T{hours:02}", "us").astype(int))


@pytest.mark.parametrize("ending", [".nc", ""])
def test_a_file_is_replaced_whole(tmp_path: Path, ending: str) -> None:
    source = tmp_path / f"source{ending}"
    if ending:
        weather(4).to_netcdf(source)
        place = source
    else:
        source.mkdir()
        for k in range(4):
            weather(4).isel(time=slice(k, k + 1)).to_netcdf(source / f"{k}.nc")
        place = source / "2.nc"
    opened = GnomonRepository(captured(tmp_path / "r", source, chunks=CHUNKS))
    import netCDF4

    with netCDF4.Dataset(place, "r+") as file:
        file["t"][2 if ending else 0, 4, 7] = 1e9
    bad = files_of(source)
    opened.rollback(AT)
    assert changed(bad, files_of(source)) == {str(place)}
    with xr.open_dataset(place, decode_cf=False) as found:
        expected = weather(4) if ending else weather(4).isel(time=slice(2, 3))
        for name in ("t", "p", "wet"):
            assert sources.bits(found[name].values) == sources.bits(expected[name].values)
    opened.undo()
    assert files_of(source) == bad


def test_an_icechunk_branch_gets_one_commit(tmp_path: Path) -> None:
    icechunk = pytest.importorskip("icechunk")
    source = tmp_path / "source"
    store = icechunk.Repository.create(icechunk.local_filesystem_storage(str(source)))
    session = store.writable_session("main")
    write = {n: {"chunks": (1, 3, 5)} for n in ("t", "p", "wet")}
    weather(4).to_zarr(session.store, encoding=write, consolidated=False)
    session.commit("made")
    opened = GnomonRepository(captured(tmp_path / "r", source, chunks=CHUNKS))
    session = store.writable_session("main")
    zarr.open_array(session.store, path="t", mode="r+")[2, 4, 7] = 1e9
    session.commit("damaged")

    def present() -> Any:
        found = xr.open_zarr(
            store.readonly_session("main").store, consolidated=False, decode_cf=False
        )
        return found.t.values

    def commits() -> int:
        return len(list(store.ancestry(branch="main")))

    before = commits()
    planned = opened.plan_rollback(AT)
    assert planned.is_atomic
    opened.rollback(AT)
    assert sources.bits(present()) == sources.bits(weather(4).t.values)
    assert commits() == before + 1
    opened.undo()
    assert present()[2, 4, 7] == np.float32(1e9)
    assert commits() == before + 2


def test_another_dataset_of_the_same_grid_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = zarr_source(tmp_path / "source.zarr", weather(4), chunks=(1, 3, 5))
    opened = GnomonRepository(captured(tmp_path / "r", source, chunks=CHUNKS))
    other = tmp_path / "other.zarr"
    shutil.copytree(source, other)
    zarr.open_array(other / "t", mode="r+")[2] = 0
    before, damaged = files_of(source), files_of(other)
    monkeypatch.chdir(tmp_path)
    opened.rollback(AT, into="other.zarr")
    assert sources.bits(sources.raw(other).t.values) == sources.bits(weather(4).t.values)
    assert files_of(source) == before
    monkeypatch.chdir("/")  # a path that was given there means the same here
    opened.undo()
    assert files_of(other) == damaged
    with pytest.raises(InvalidInput, match=r"secret|password|credentials"):
        opened.rollback(AT, into="s3://name:word@bucket/other.zarr")
    with pytest.raises(InvalidInput, match=r"secret|password|credentials"):
        opened.preview(AT, tmp_path / "x.png", into="s3://name:word@bucket/other.zarr")


def test_what_does_not_fit_is_refused_and_left_alone(tmp_path: Path) -> None:
    source = zarr_source(tmp_path / "source.zarr", weather(4), chunks=(1, 3, 5))
    opened = GnomonRepository(captured(tmp_path / "r", source, chunks=CHUNKS))
    smaller = zarr_source(tmp_path / "smaller.zarr", weather(4).isel(x=slice(5)))
    moved = write_zarr(weather(4).assign_coords(x=np.arange(10.0) + 1), tmp_path / "moved.zarr")
    later = write_zarr(weather(4, first=10), tmp_path / "later.zarr")
    twice = xr.concat([weather(4), weather(4).isel(time=[2])], "time", data_vars="minimal")
    double = write_zarr(twice, tmp_path / "double.zarr")
    before = files_of(tmp_path)
    refusals: list[tuple[Path, type[GnomonError], str]] = [
        (smaller, InvalidInput, "shape"),
        (moved, InvalidInput, "differs from what it was"),
        (later, NotFound, "no step of 2000-01-01T02"),
        (double, InvalidInput, "2 steps"),
        (tmp_path / "nowhere.zarr", NotFound, "does not exist"),
    ]
    for place, kind, text in refusals:
        with pytest.raises(kind, match=text):
            opened.rollback(AT, into=str(place))
    assert files_of(tmp_path) == before


def test_a_change_by_others_since_the_plan_is_not_written_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = zarr_source(tmp_path / "source.zarr", weather(4), chunks=(1, 3, 5))
    opened = GnomonRepository(captured(tmp_path / "r", source, chunks=CHUNKS))
    array = zarr.open_array(source / "t", mode="r+")
    array[2] = 7
    token = opened.plan_rollback(AT).token
    array[2, 4, 7] = 8
    before = files_of(source)
    with pytest.raises(Conflict, match="by now"):
        opened.rollback(AT, plan=token)
    replace, calls = stores._Files.replace, 0

    def overtaken(self: Any, *arguments: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:  # another writer is at the next object
            (source / "t" / "c" / "2" / "1" / "1").write_bytes(b"theirs")
        replace(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(stores._Files, "replace", overtaken)
        with pytest.raises(Conflict, match="changed by somebody else"):
            opened.rollback(AT)
    theirs = str(source / "t" / "c" / "2" / "1" / "1")
    assert files_of(source) == before | {theirs: b"theirs"}
    assert opened.stored.refresh().state.open_rollback is None


def test_what_others_write_afterwards_is_not_lost_by_taking_back(tmp_path: Path) -> None:
    source = zarr_source(tmp_path / "source.zarr", weather(4), chunks=(1, 3, 5))
    opened = GnomonRepository(captured(tmp_path / "r", source, chunks=CHUNKS))
    array = zarr.open_array(source / "t", mode="r+")
    array[2] = 7
    bad = files_of(source)
    opened.rollback(AT)
    array[2, 4, 7] = 8
    theirs = files_of(source)
    with pytest.raises(Conflict, match="written by others"):
        opened.undo()
    assert opened.undo(dry_run=True).left == ("t/c/2/1/1",)
    assert opened.undo(dry_run=True, force=True).left == ()
    assert files_of(source) == theirs
    opened.undo(force=True)
    assert files_of(source) == bad
    with pytest.raises(NotFound, match="no rollback"):
        opened.undo()


class Killed(BaseException):
    """Stands for SIGKILL: nothing of the program sees it."""


def die_after(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Let the process die at an operation on a store, and do nothing more after it."""
    done = 0

    def counted(operation: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **options: Any) -> Any:
            nonlocal done
            done += 1
            if done > count:
                raise Killed
            return operation(*arguments, **options)

        return run

    for owner, name in (
        (Location, "create"),
        (stores._Files, "replace"),
        (stores._Files, "_put"),
        (stores._Files, "tidy"),
    ):
        monkeypatch.setattr(owner, name, counted(getattr(owner, name)))


@pytest.mark.parametrize("undoing", [False, True], ids=["rollback", "undo"])
def test_a_death_at_any_operation_leaves_the_old_or_the_new(
    tmp_path: Path, undoing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = zarr_source(tmp_path / "source.zarr", weather(4), chunks=(1, 3, 5))
    GnomonRepository(captured(tmp_path / "r", source, chunks=CHUNKS))
    zarr.open_array(source / "t", mode="r+")[2] = 7
    old = files_of(source)
    if undoing:
        gnomon.open(str(tmp_path / "r")).rollback(AT)
    first = files_of(source)
    for count in range(200):
        folder = tmp_path / str(count)
        folder.mkdir()
        shutil.copytree(tmp_path / "r", folder / "r")
        with monkeypatch.context() as patch:
            die_after(patch, count)
            opened = gnomon.open(str(folder / "r"))
            try:
                opened.undo() if undoing else opened.rollback(AT)
            except Killed:
                survived = False
            else:
                survived = True
        after = gnomon.open(str(folder / "r"))
        if after.stored.state.open_rollback is not None:
            after.undo()
        state = files_of(source)
        assert not [path for path in state if path.endswith(".partial")]
        standing = [r for r in after.stored.refresh().state.rollbacks if r.state == "done"]
        assert (state == old) is not bool(standing)
        if standing:
            assert sources.bits(sources.raw(source).t.values) == sources.bits(weather(4).t.values)
        # Of the last record of all a stopped writer leaves out the copy; the next commit puts it.
        problems = check(after.stored.refresh(), read_data=True).problems
        assert all(p.file.startswith("copies/log/") for p in problems)
        if survived:
            break
        for path, content in first.items():
            Path(path).write_bytes(content)
    else:
        pytest.fail("it never came to its end")
    assert count > 8


def test_a_rollback_into_a_branch_that_fails_half_way_commits_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    icechunk = pytest.importorskip("icechunk")
    source = tmp_path / "source.icechunk"
    store = icechunk.Repository.create(icechunk.local_filesystem_storage(str(source)))

    def snapshots() -> list[str]:
        return [entry.id for entry in store.ancestry(branch="main")]

    encoding = {"t": {"chunks": (1, 3, 5)}}
    session = store.writable_session("main")
    weather(4).to_zarr(session.store, consolidated=False, encoding=encoding)
    session.commit("data")
    opened = GnomonRepository(captured(tmp_path / "r", source, chunks=CHUNKS))
    session = store.writable_session("main")
    zarr.open_array(session.store, path="t", mode="r+")[2] = 7
    session.commit("damage")
    before = snapshots()
    replace, calls = stores._Branch.replace, 0

    def fail(self: Any, *arguments: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise Unavailable("the disk is full")
        replace(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(stores._Branch, "replace", fail)
        with pytest.raises(Unavailable, match="the disk is full"):
            opened.rollback(AT)
    assert snapshots() == before
    assert opened.rollbacks() == []
    assert opened.rollback(AT).sequence is not None


def test_a_commit_that_others_make_meanwhile_is_never_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes after the branch was compared, and before the first object is replaced."""
    icechunk = pytest.importorskip("icechunk")
    source = tmp_path / "source.icechunk"
    store = icechunk.Repository.create(icechunk.local_filesystem_storage(str(source)))

    def write(value: float, message: str) -> None:
        session = store.writable_session("main")
        zarr.open_array(session.store, path="t", mode="r+")[2] = value
        session.commit(message)

    session = store.writable_session("main")
    weather(4).to_zarr(session.store, consolidated=False, encoding={"t": {"chunks": (1, 3, 5)}})
    session.commit("data")
    opened = GnomonRepository(captured(tmp_path / "r", source, chunks=CHUNKS))
    write(7, "damage")
    replace, written = stores._Branch.replace, False

    def late(self: Any, *arguments: Any) -> None:
        nonlocal written
        if not written:
            written = True
            write(8, "somebody else's")
        replace(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(stores._Branch, "replace", late)
        with pytest.raises(Conflict, match="another commit was made on branch main"):
            opened.rollback(AT)
    found = xr.open_zarr(store.readonly_session("main").store, consolidated=False, decode_cf=False)
    assert (found.t.values[2] == 8).all()
    assert opened.rollbacks() == []


def test_a_name_that_is_a_link_stays_one(tmp_path: Path) -> None:
    there, source = tmp_path / "there" / "data.nc", tmp_path / "source.nc"
    there.parent.mkdir()
    weather(4).to_netcdf(there)
    source.symlink_to(there)
    opened = GnomonRepository(captured(tmp_path / "r", source, chunks=CHUNKS))
    with xr.open_dataset(there, decode_cf=False) as stored:
        data = stored.load()
    data.t.values[2, 4, 7] = 1e9
    data.to_netcdf(there)
    bad = there.read_bytes()
    opened.rollback(AT)
    assert source.is_symlink()
    assert sources.bits(sources.raw(there).t.values) == sources.bits(weather(4).t.values)
    opened.undo()
    assert source.is_symlink()
    assert there.read_bytes() == bad


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_file_that_is_replaced_keeps_its_owner_and_mode(tmp_path: Path) -> None:
    source = zarr_source(tmp_path / "source.zarr", weather(4), chunks=(1, 3, 5))
    opened = GnomonRepository(captured(tmp_path / "r", source, chunks=CHUNKS))
    path = source / "t" / "c" / "2" / "1" / "1"
    path.write_bytes(b"no chunk")
    os.chown(path, 1234, 1235)
    path.chmod(0o640)
    opened.rollback(AT)
    about = path.stat()
    assert (about.st_uid, about.st_gid, about.st_mode & 0o777) == (1234, 1235, 0o640)


def test_a_bad_sector_of_the_live_dataset_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = zarr_source(tmp_path / "source.zarr", weather(4), chunks=(1, 3, 5))
    opened = GnomonRepository(captured(tmp_path / "r", source, chunks=CHUNKS))
    zarr.open_array(source / "t", mode="r+")[2] = 7
    before = files_of(source)

    class Bad:
        def __enter__(self) -> "Bad":
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def read(self, _: int) -> bytes:
            raise OSError(5, "Input/output error")

    read = stores._read
    monkeypatch.setattr(stores, "_read", lambda file, path: read(Bad(), path))
    with pytest.raises(Unavailable, match="Input/output error"):
        opened.rollback(AT)
    assert files_of(source) == before


def test_a_store_that_does_not_answer_is_not_taken_for_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest of an object is made up from captures only where its bytes cannot be decoded."""
    source = zarr_source(tmp_path / "source.zarr", weather(4), chunks=(2, 3, 5))
    opened = GnomonRepository(captured(tmp_path / "r", source, chunks=CHUNKS))
    array = zarr.open_array(source / "t", mode="r+")
    array[2] = 7
    array[3] = 8  # newer than what was captured
    before = files_of(source)

    def fail(*_: Any) -> None:
        raise ConnectionResetError(104, "Connection reset by peer")

    with monkeypatch.context() as patch:
        patch.setattr("gnomon.tasks.rollback.staging._Array._write", fail)
        with pytest.raises(Unavailable, match=r"cannot be read .*Connection reset"):
            opened.rollback(AT)
    assert files_of(source) == before


def test_undo_waits_for_another_rollback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = zarr_source(tmp_path / "source.zarr", weather(4), chunks=(1, 3, 5))
    opened = GnomonRepository(captured(tmp_path / "r", source, chunks=CHUNKS))
    zarr.open_array(source / "t", mode="r+")[2] = 7
    first = opened.rollback(AT).sequence
    zarr.open_array(source / "t", mode="r+")[1] = 7
    with monkeypatch.context() as patch:
        die_after(patch, 12)
        with pytest.raises(Killed):
            opened.rollback("2000-01-01T01")
    stopped = files_of(source)
    with pytest.raises(Conflict, match="stopped half way"):
        gnomon.open(str(tmp_path / "r")).undo(first)
    assert files_of(source) == stopped
    again = gnomon.open(str(tmp_path / "r"))
    again.undo()
    again.undo(first)
    assert again.rollbacks() == []


@pytest.mark.parametrize("by", ["another process", "another thread"])
def test_a_rollback_that_lives_is_not_disturbed(
    tmp_path: Path, by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = zarr_source(tmp_path / "source.zarr", weather(4), chunks=(1, 3, 5))
    opened = GnomonRepository(captured(tmp_path / "r", source, chunks=CHUNKS))
    zarr.open_array(source / "t", mode="r+")[2] = 7
    messages = []

    def another(self: Any, *arguments: Any) -> None:
        other = gnomon.open(str(tmp_path / "r"))
        with monkeypatch.context() as patch:
            if by == "another process":
                patch.setattr("gnomon.tasks.rollback.writer.os.getpid", lambda: 1)
            for run in (other.update, other.undo, lambda: other.rollback(AT)):
                with pytest.raises(Conflict, match="is being written into"):
                    run()
                messages.append(1)
        replace(self, *arguments)

    replace = stores._Files.replace
    with monkeypatch.context() as patch:
        patch.setattr(stores._Files, "replace", another)
        opened.rollback(AT)
    assert messages


@pytest.mark.parametrize("state", ["begun", "undoing"])
def test_a_rollback_that_was_begun_on_another_machine_is_told_and_taken_back(
    tmp_path: Path,
    state: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source = zarr_source(tmp_path / "source.zarr", weather(4), chunks=(1, 3, 5))
    place = str(tmp_path / "r")
    GnomonRepository(captured(place, source, chunks=CHUNKS))
    zarr.open_array(source / "t", mode="r+")[2] = 7
    old = files_of(source)
    with monkeypatch.context() as patch:
        writer = Writer("elsewhere", 4711, "2020-01-01T00:00:00+00:00")
        for module in ("rollback", "undo"):
            patch.setattr(f"gnomon.tasks.rollback.{module}.this_writer", lambda: writer)
        opened = gnomon.open(place)
        if state == "undoing":
            opened.rollback(AT)
        die_after(patch, 12)
        with pytest.raises(Killed):
            opened.undo() if state == "undoing" else opened.rollback(AT)
    (begun,) = gnomon.open(place).rollbacks()
    assert begun["state"] == state
    for command in (["update", place], ["undo", place]):
        code, _, err = run(capsys, *command)
        said = " ".join(err.split())
        assert code == 4
        assert f"by process 4711 on elsewhere, begun at {begun['begun_at']}" in said
        assert "no update, restore in place or undo" in said
        assert "if that process is dead, run 'gnomon undo --interrupted'" in said
        assert len(err.strip().splitlines()) == 1
    code, out, _ = run(capsys, "status", place)
    said = " ".join(out.split())
    assert code == 0
    assert "by process 4711 on elsewhere" in said
    assert "'gnomon undo --interrupted' takes it back, once that process is dead" in said
    assert run(capsys, "undo", place, "--interrupted")[0] == 0
    assert files_of(source) == old
    assert gnomon.open(place).rollbacks() == []


def test_a_process_is_known_again_when_the_clock_was_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When a process was started is told by the start of the system, which moves with the clock."""
    writer = this_writer()
    started = datetime.fromisoformat(writer.started)

    def refuse(shift: float) -> None:
        told = (started + timedelta(seconds=shift)).isoformat(timespec="seconds")
        refuse_living(rollback_of(replace(writer, started=told)))

    for shift in (-30, 30):
        with pytest.raises(Conflict, match="wait for it, or stop it"):
            refuse(shift)
    refuse(-3600)  # the number was used again
    refuse(0)  # it is this process itself


def rollback_of(writer: Writer) -> Rollback:
    spec = SourceSpec("source.zarr", "append", "time")
    return Rollback(
        1, "id", 0, spec, True, "a state", 1, 1, 0, "0" * 64, "2020-01-01", writer=writer
    )


def test_prune_keeps_what_can_be_taken_back(tmp_path: Path) -> None:
    source = zarr_source(tmp_path / "source.zarr", weather(4), chunks=(1, 3, 5))
    opened = GnomonRepository(captured(tmp_path / "r", source, chunks=CHUNKS))
    zarr.open_array(source / "t", mode="r+")[2] = 7
    bad = files_of(source)
    opened.rollback(AT)
    prune(Repository.open(str(tmp_path / "r")), committed_at=WHEN)
    assert list((tmp_path / "r" / "replaced").iterdir())
    opened.undo()
    assert files_of(source) == bad
    prune(Repository.open(str(tmp_path / "r")), committed_at=WHEN)
    assert not files_of(tmp_path / "r" / "replaced")
    assert not check(Repository.open(str(tmp_path / "r")), read_data=True).problems


def test_estimates_are_never_taken_for_data(damaged: Case) -> None:
    opened = damaged.open()
    with pytest.raises(InvalidInput, match="--accept-predicted"):
        opened.rollback(DAY)
    rolled = opened.rollback(DAY, accept_predicted=True)
    assert [c.index for c in rolled.plan.chunks] == [DAMAGED]
    captures = len(opened.stored.captured)
    assert opened.update(compare=-1).captured == []
    assert len(opened.stored.captured) == captures
    assert opened.status()["rollbacks"][0]["estimated"] == 1
    # The source's own values come: they are a revision, and trusted.
    lat, lon = (slice(4 * i, 4 * i + 4) for i in DAMAGED)
    array = zarr.open_array(damaged.source / "sst", mode="r+")
    array[HISTORY, lat, lon] = damaged.data.sst.values[HISTORY, lat, lon]
    report = opened.update(compare=-1)
    assert (report.revised, report.suspect_chunks) == (1, 0)
    assert opened.points(DAY)[0].kind == "captured"


def test_a_step_that_was_never_captured_holds_estimates_until_its_data_come(grown: Case) -> None:
    lost = grown.data.copy(deep=True)
    lost.sst.values[HISTORY] = np.nan
    sources.write(grown.source, lost, HISTORY, HISTORY + 1)
    opened = grown.open()
    assert opened.update().captured == []
    opened.rollback(DAY, accept_predicted=True)
    report = opened.update()
    assert report.suspect_chunks > 0
    assert {i["suspected_cause"] for i in report.incidents} == {
        "estimate: a rollback wrote it, and the source has no data there yet"
    }
    array = zarr.open_array(grown.source / "sst", mode="r+")
    array[HISTORY] = grown.data.sst.values[HISTORY]
    assert opened.update().revised == 1
    assert opened.points(DAY)[0].kind == "captured"


def test_cells_that_a_person_names_are_put_right_in_place(grown: Case) -> None:
    """No check has found them, and all other cells stay as they are, bit for bit."""
    grown.arrive(HISTORY, HISTORY + 1)
    opened = grown.open()
    assert opened.update().suspect_chunks == 0
    bad = files_of(grown.source)
    mask = np.zeros(grown.data.sst.shape[1:], bool)
    mask[1:3, 2:6] = True
    with pytest.raises(InvalidInput, match="--accept-predicted"):
        opened.rollback(DAY, cells=mask)
    expected = opened.heal(DAY, mask, decode=False).load().sst.values[0]
    planned = opened.plan_rollback(DAY, cells=mask)
    rolled = opened.rollback(DAY, cells=mask, accept_predicted=True, plan=planned.token)
    assert rolled.plan.cells == sum(c.estimated for c in rolled.plan.chunks) == mask.sum()
    with xr.open_zarr(grown.source, consolidated=False, decode_cf=False) as source:
        written = source.sst.values[HISTORY]
    assert sources.bits(written) == sources.bits(expected)
    assert opened.update(compare=-1).captured == []
    opened.undo()
    assert files_of(grown.source) == bad


def test_what_is_judged_meanwhile_is_chosen_again(damaged: Case) -> None:
    """Between the choice and the first write a person says that the chunk is sound after all."""
    opened, other = damaged.open(), damaged.open()
    bad = files_of(damaged.source)
    real, judged = Repository.commit, False

    def commit(self: Repository, *given: Any, **options: Any) -> Repository:
        nonlocal judged
        if not judged:
            judged = True
            other.judge(DAY, accept=True)
        return real(self, *given, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Repository, "commit", commit)
        with pytest.raises(Conflict, match="captured again, or judged"):
            opened.rollback(DAY, accept_predicted=True)
    assert judged
    assert files_of(damaged.source) == bad
    assert opened.status()["rollbacks"] == []
