"""Restores into object stores: what is half there is no dataset to anybody, and nothing is left."""

import os
import secrets
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import icechunk
import obstore
import pytest
import xarray as xr
from zarr.storage import ObjectStore

from gnomon.storage.errors import Conflict, GnomonError, InvalidInput, TargetFailed, Unavailable
from gnomon.storage.log.location import Location
from gnomon.storage.repository import Repository
from gnomon.tasks.restoring.points import points
from gnomon.tasks.restoring.restore import Restored, restore
from gnomon.tasks.restoring.states import States
from gnomon.tasks.restoring.targets import bucket
from gnomon.tasks.restoring.targets.bucket import MARKS, location_of
from gnomon.tasks.restoring.targets.registry import target_of
from tests import sources
from tests.gnomon.test_cli import run
from tests.servers import BUCKET, KEY, SECRET, Fault, Server, moto, proxied
from tests.storage.building import captured, write_zarr
from tests.tasks.restoring.test_resuming import (
    assert_gone_on_with,
    assert_right,
    keeping_locks,
    kill,
    many_fields,
    read_icechunk,
)
from tests.tasks.restoring.test_targets import by_copies

FORMATS = {"3.zarr": None, "2.zarr": 2, "x.nc": None, "x.icechunk": None}
NAMES = pytest.mark.parametrize("name", FORMATS)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with moto() as running:
        yield running


@pytest.fixture
def place(server: Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the URL of an empty place; clients find the server by the environment."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    location_of.cache_clear()
    return f"s3://{BUCKET}/{secrets.token_hex(4)}"


@pytest.fixture(scope="module")
def _stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stored")
    captured(folder / "r", write_zarr(many_fields(), folder / "source.zarr"))
    return folder


@pytest.fixture
def stored(_stored: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Repository:
    """Return a repository in the working directory; temporary folders are the test's own."""
    monkeypatch.chdir(_stored)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return Repository.open(str(_stored / "r"))


def write(stored: Repository, to: str, step: int = 1, **options: Any) -> Restored:
    point = points(stored, stored.captured[step].instant)[0]
    form = FORMATS.get(to.rpartition("/")[2])
    return restore(States(stored, (point,)), to, plain=True, zarr_format=form, **options)


def names_in(server: Server, place: str) -> list[str]:
    """Return the names of all objects at a place."""
    prefix = place.split("/", 3)[3]
    pages = obstore.list(server.store(), prefix)
    return sorted(str(item["path"])[len(prefix) + 1 :] for page in pages for item in page)


def read(url: str, folder: Path) -> xr.Dataset:
    """Return a restored dataset as anybody would read it."""
    if url.endswith(".icechunk"):
        storage = target_of(url).storage  # type: ignore[attr-defined]
        return read_icechunk(icechunk.Repository.open(storage))
    if url.endswith(".nc"):
        top, _, name = url.rpartition("/")
        (folder / name).write_bytes(Location(top).read(name))
        return sources.raw(folder / name)
    store = ObjectStore(obstore.store.from_url(url), read_only=True)
    dataset = xr.open_zarr(store, decode_cf=False, chunks=None, consolidated=True)
    loaded: xr.Dataset = dataset.load()
    return loaded


@NAMES
def test_a_state_comes_back_bit_for_bit_from_a_bucket(
    stored: Repository, server: Server, place: str, name: str, tmp_path: Path
) -> None:
    to = f"{place}/{name}"
    done = write(stored, to, mapper=by_copies)
    assert (done.target, done.chunks, done.kept) == (to, 8, 0)
    assert_right(read(to, tmp_path))
    names = names_in(server, place)
    assert not [n for n in names if MARKS in n]
    with pytest.raises(Conflict, match="exists already; choose a new target"):
        write(stored, to, step=2)
    assert names_in(server, place) == names
    assert [p for p in tmp_path.rglob("*") if p.is_file() and p.name != name] == []


@pytest.mark.parametrize("name", ["3.zarr", "2.zarr", "x.icechunk", "x.nc"])
def test_nobody_sees_a_dataset_before_it_is_whole(
    stored: Repository,
    server: Server,
    place: str,
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At each put that the server takes, it either cannot be opened or is right."""
    to = f"{place}/{name}"
    whole: list[bool] = []

    def look() -> None:
        try:
            dataset = read(to, tmp_path)
        except (FileNotFoundError, ValueError, GnomonError, icechunk.IcechunkError):
            whole.append(False)
            return
        if dataset.variables or whole[-1]:  # a branch without a commit is empty
            assert_right(dataset)
            whole.append(True)

    create = Location.create

    def create_and_look(place: Location, name: str, data: bytes, **options: Any) -> None:
        look()
        create(place, name, data, **options)
        look()

    monkeypatch.setattr(Location, "create", create_and_look)
    monkeypatch.setattr(
        icechunk.Repository, "reset_branch", _around(icechunk.Repository.reset_branch, look)
    )
    write(stored, to)
    assert whole[0] is False
    assert whole[-1] is True


def _around(true: Any, look: Any) -> Any:
    def watched(*arguments: Any, **options: Any) -> Any:
        look()
        value = true(*arguments, **options)
        look()
        return value

    return watched


@pytest.mark.parametrize("name", ["3.zarr", "x.icechunk"])
@pytest.mark.parametrize("step", ["create", "write", "finish"])
def test_a_failure_leaves_nothing_in_the_bucket(
    stored: Repository,
    server: Server,
    place: str,
    name: str,
    step: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kind = type(target_of(f"{place}/{name}"))
    true, count = getattr(kind, step), 0

    def fail(*arguments: Any) -> Any:
        nonlocal count
        count += 1
        if step != "finish":
            true(*arguments)
        if step != "write" or count == 3:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(kind, step, fail)
    with pytest.raises(InvalidInput, match="No space left on device"):
        write(stored, f"{place}/{name}")
    assert names_in(server, place) == []


@NAMES
def test_a_place_that_is_taken_is_left_alone(
    stored: Repository, server: Server, place: str, name: str
) -> None:
    key = f"{place}/{name}".split("/", 3)[3]
    obstore.put(server.store(), key if name == "x.nc" else f"{key}/notes.txt", b"mine")
    with pytest.raises(Conflict, match="choose a new target"):
        write(stored, f"{place}/{name}")
    assert len(names_in(server, place)) == 1


@pytest.mark.parametrize("name", ["3.zarr", "x.icechunk"])
def test_of_two_restores_to_one_place_one_wins(
    stored: Repository,
    place: str,
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The second begins when the first has written all, and before it gives it its name."""
    to = f"{place}/{name}"
    kind: Any = type(target_of(to))
    finish, refusals = kind.finish, []

    def finish_late(target: Any, written: Any) -> None:
        for step in (2, 1):
            with pytest.raises(Conflict) as refusal:
                write(stored, to, step=step)
            refusals.append(str(refusal.value))
        finish(target, written)

    monkeypatch.setattr(kind, "finish", finish_late)
    write(stored, to)
    other, same = refusals
    assert "has an unfinished restore of something else" in other
    assert "another restore wrote there at this moment" in same
    assert_right(read(to, tmp_path))


def test_of_two_files_for_one_name_one_wins(
    stored: Repository, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    to = f"{place}/x.nc"
    kind: Any = type(target_of(to))
    finish = kind.finish

    def be_overtaken(target: Any, written: Any) -> None:
        monkeypatch.setattr(kind, "finish", finish)
        write(stored, to, step=2)
        finish(target, written)

    monkeypatch.setattr(kind, "finish", be_overtaken)
    with pytest.raises(Conflict, match=r"x\.nc was made by another meanwhile"):
        write(stored, to)
    assert_right(read(to, tmp_path), 2)


def test_other_bytes_than_were_put_are_noticed(
    stored: Repository, server: Server, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    true = Location.read

    def flip(location: Location, name: str, part: Any = None) -> bytes:
        data = true(location, name, part)
        return data[:-1] + bytes([data[-1] ^ 1]) if name == "x.nc" and len(data) > 1 else data

    monkeypatch.setattr(Location, "read", flip)
    with pytest.raises(TargetFailed, match="gives back other bytes than were put"):
        write(stored, f"{place}/x.nc")
    assert names_in(server, place) == []


# Killed ---------------------------------------------------------------------------------------


@NAMES
def test_a_killed_restore_into_a_bucket_is_gone_on_with(
    stored: Repository,
    server: Server,
    place: str,
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    shares = (0.3, 0.75, 0.95)
    ends = kill(f"{place}/{{}}/{name}", FORMATS[name] or 0, *shares)
    assert_gone_on_with(ends, by_blocks=name != "x.nc")
    for number in range(len(shares) + 1):
        assert_right(read(f"{place}/{number}/{name}", tmp_path))
    left = [*tmp_path.rglob("*.partial*"), *tmp_path.rglob("*.lock")]
    assert left == []
    assert not [n for n in names_in(server, place) if MARKS in n]


@pytest.mark.parametrize("publishes_last", [True, False])
@NAMES
def test_a_rerun_that_finds_the_dataset_removes_what_stands_beside_it(
    stored: Repository,
    server: Server,
    place: str,
    name: str,
    publishes_last: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first was killed when its dataset was there for all to see."""
    to = f"{place}/{name}"
    with keeping_locks(monkeypatch) as patch:
        if publishes_last:
            patch.setattr(bucket.BucketTarget, "release", lambda _: None)
        write(stored, to)
    assert len(list(tmp_path.rglob("*.lock"))) == 1
    with pytest.raises(Conflict, match="exists already"):
        write(stored, to)
    assert list(tmp_path.rglob("*.lock")) == []
    assert not [n for n in names_in(server, place) if MARKS in n]
    assert_right(read(to, tmp_path))


def leave(stored: Repository, to: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Leave what a restore leaves that is killed in its fifth block; return its target."""
    kind: Any = type(target_of(to))
    true, drafts = kind.write, []

    class Killed(BaseException):
        """Stands for SIGKILL."""

    def four(target: Any, *block: Any) -> None:
        drafts.append(target)
        if len(drafts) == 5:
            raise Killed
        true(target, *block)

    with monkeypatch.context() as patch:
        patch.setattr(kind, "write", four)
        patch.setattr(kind, "clear", lambda _: None)
        with pytest.raises(Killed):
            write(stored, to)
    return drafts[0]


@pytest.mark.parametrize("name", ["3.zarr", "x.icechunk"])
def test_another_machine_waits_until_nothing_was_written_for_long(
    stored: Repository, place: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lock is not here, so nobody knows whether its process lives."""
    to = f"{place}/{name}"
    leave(stored, to, monkeypatch)
    with pytest.raises(Conflict, match=r"another restore wrote there \d+ s ago; if its process is"):
        write(stored, to)
    monkeypatch.setattr(bucket, "SILENCE", timedelta(0))
    with pytest.raises(Conflict, match="has an unfinished restore of something else"):
        write(stored, to, step=2)
    assert write(stored, to).kept == 4
    assert_right(read(to, tmp_path))


@pytest.mark.parametrize("name", ["3.zarr", "x.icechunk"])
def test_who_was_taken_over_neither_finishes_nor_clears_away(
    stored: Repository, place: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    to = f"{place}/{name}"
    survivor = leave(stored, to, monkeypatch)
    monkeypatch.setattr(bucket, "SILENCE", timedelta(0))
    kind: Any = type(survivor)
    finish = kind.finish

    def finish_beside(target: Any, written: Any) -> None:
        with pytest.raises(Conflict, match="was made by another meanwhile"):
            finish(survivor, [])
        survivor.clear()
        finish(target, written)
        survivor.clear()

    monkeypatch.setattr(kind, "finish", finish_beside)
    assert write(stored, to).kept == 4
    assert_right(read(to, tmp_path))


# What cannot be -------------------------------------------------------------------------------


@NAMES
def test_a_missing_bucket_is_told_before_the_work(
    stored: Repository, place: str, name: str
) -> None:
    with pytest.raises(Unavailable, match="there is no such bucket, make it first"):
        write(stored, f"s3://nobody-has-this/x/{name}")


@NAMES
def test_who_may_not_write_leaves_nothing(
    stored: Repository, server: Server, place: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with proxied(server) as proxy, proxy.failing(Fault("PUT", count=1000, status=409)):
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.front.endpoint)
        monkeypatch.setattr("gnomon.storage.log.location.PAUSES_S", (0.0,))
        with pytest.raises(GnomonError) as refusal:
            write(stored, f"{place}/{name}")
    assert str(refusal.value).count("\n") == 0
    assert place in str(refusal.value)
    assert names_in(server, place) == []


@NAMES
def test_a_store_that_ignores_conditions_is_refused_or_harmless(
    stored: Repository, server: Server, place: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "x.nc":
        pytest.skip("one object, put and read back")
    with proxied(server) as proxy:
        proxy.ignores_conditions = True
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.front.endpoint)
        with pytest.raises(InvalidInput, match="does not honour put-if-absent"):
            write(stored, f"{place}/{name}")
    assert names_in(server, place) == []


@pytest.mark.parametrize("form", ["x", "folder/x"])
@NAMES
def test_neither_source_nor_repository_takes_a_target(place: str, name: str, form: str) -> None:
    source = f"{place}/source.zarr"
    many_fields().to_zarr(ObjectStore(obstore.store.from_url(source)), consolidated=False)
    url = f"{place}/r"
    repository = captured(url, source)
    for inside, what in ((source, "part of the source"), (url, "inside the repository")):
        for scheme in ("s3", "s3a", "S3"):
            to = f"{scheme}{inside.removeprefix('s3')}//{form}{name}"
            with pytest.raises(InvalidInput, match=what):
                write(repository, to)


def test_a_bucket_is_no_dataset(stored: Repository, place: str) -> None:
    with pytest.raises(InvalidInput, match="names no place in a bucket"):
        write(stored, "s3://bucket.zarr")


@NAMES
def test_no_secret_is_told_or_written(
    stored: Repository,
    server: Server,
    place: str,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Neither that of the environment, nor one in a URL."""
    caplog.set_level(0)
    to = f"{place}/{name}"
    if name != "x.nc":
        leave(stored, to, monkeypatch)
        told = {
            n: obstore.get(server.store(), f"{to.split('/', 3)[3]}/{n}").bytes().to_bytes()
            for n in names_in(server, to)
        }
        assert any(n.startswith(MARKS) for n in told)
        for data in told.values():
            assert SECRET.encode() not in data
            assert KEY.encode() not in data
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "SECRET-AND-WRONG")
    for url in (f"s3://nobody-has-this/x/{name}", f"s3://me:PASSWORD@{BUCKET}/{name}"):
        _, out, err = run(capsys, "restore", "r", "--at", "2000-01-01T01", "--to", url, "--plain")
        for secret in ("SECRET-AND-WRONG", "PASSWORD", KEY):
            assert secret not in out + err + caplog.text
        assert err.count("\n") == 1
