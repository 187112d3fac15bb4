"""A disk that is full, locked or broken: nothing is lost, and one line says what is wrong."""

import errno
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from stat import S_ISREG
from threading import Lock, current_thread, main_thread
from typing import Any

import obstore
import pytest
import zarr.storage
from obstore.exceptions import GenericError

from gnomon import cli
from gnomon.storage.care.check import check
from gnomon.storage.care.forget import forget
from gnomon.storage.care.prune import prune
from gnomon.storage.care.retention import Policy
from gnomon.storage.errors import GnomonError, Integrity, InvalidInput, Unavailable
from gnomon.storage.log.records import COPIES
from gnomon.storage.repository import Repository
from gnomon.tasks.capturing.plan import plan_capture
from gnomon.tasks.restoring.locate import locate
from gnomon.tasks.restoring.points import points
from gnomon.tasks.restoring.restore import restore
from gnomon.tasks.restoring.states import States
from tests import sources
from tests.cases import HISTORY, Case
from tests.storage.building import (
    HOUR,
    WHEN,
    add_shadow,
    capture_new,
    copy_of,
    files_of,
    history,
    make_repository,
    problems_of_a_stopped_writer,
    reopened,
    weather,
    write_zarr,
)

START = 946_684_800_000_000
STEPS = 4
NOBODY = 65534

# What is done --------------------------------------------------------------------------------


def do_update(folder: Path) -> None:
    repository = reopened(folder / "r")
    if plan_capture(repository) is not None:
        repository = capture_new(repository)
    if not repository.shadows:
        add_shadow(repository, leads=1)


def do_forget(folder: Path) -> None:
    forget(reopened(folder / "r"), policy=Policy(last=2), committed_at=WHEN)


def do_prune(folder: Path) -> None:
    prune(reopened(folder / "r"), committed_at=WHEN)


def do_restore(folder: Path) -> None:
    repository, instant = locate(reopened(folder / "r"), "2000-01-01T02")
    states = States(repository, points(repository, instant)[:1])
    restore(states, str(folder / "restored.zarr"), plain=True)


ACTIONS: dict[str, Callable[[Path], None]] = {
    "update": do_update,
    "forget": do_forget,
    "prune": do_prune,
    "restore": do_restore,
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """By action, the folder of a repository that it has something to do in; not to be changed."""
    top = tmp_path_factory.mktemp("prepared")
    source = write_zarr(weather(STEPS)[["p"]], top / "source.zarr")
    folders = {name: top / name for name in ("update", "forget", "prune")}
    made = make_repository(folders["update"] / "r", source, chunks={"x": 5})
    capture_new(made, until=START + (STEPS - 2) * HOUR)
    for before, after in (("update", "forget"), ("forget", "prune")):
        copy_of(folders[before], folders[after])
        ACTIONS[before](folders[after])
    return {**folders, "restore": folders["update"]}


def finished(action: str, prepared: dict[str, Path], folder: Path) -> Path:
    """Return a copy in which an action was done."""
    whole = copy_of(prepared[action], folder / "whole")
    ACTIONS[action](whole)
    return whole


Seen = tuple[list[tuple[int, bool]], dict[str, bytes], bytes]


def seen(folder: Path) -> Seen:
    """All captures, values of those that are kept, and what was restored; nothing is damaged."""
    repository = reopened(folder / "r")
    assert problems_of_a_stopped_writer(repository) == []
    values = {str(n): v.values.tobytes() for n, v in history(repository).variables.items()}
    restored = b""
    if (folder / "restored.zarr").exists():
        restored = sources.raw(folder / "restored.zarr").p.values.tobytes()
    return [(s.instant, s.forgotten) for s in repository.captured], values, restored


# A full disk ---------------------------------------------------------------------------------


class Disk:
    """A disk that is full after some writes, until it is emptied.

    Objects and links count as writes, and what is forced to the disk, but for whole commits.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.room = -1
        self.refused = 0
        self._lock = Lock()
        put, link, fsync = obstore.put, os.link, os.fsync
        store = zarr.storage.LocalStore
        keep, keep_new = store.set, store.set_if_not_exists
        full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        def put_object(*arguments: Any, **options: Any) -> Any:
            self._write(
                GenericError(
                    "Generic LocalFileSystem error: Unable to copy data to file: No space left on "
                    "device (os error 28)\n\nDebug source:\nGeneric {\n    store: ...,\n}"
                )
            )
            return put(*arguments, **options)

        def link_file(*arguments: Any, **options: Any) -> None:
            self._write(full)
            link(*arguments, **options)

        def force(descriptor: int) -> None:
            if current_thread() is main_thread() and S_ISREG(os.fstat(descriptor).st_mode):
                self._write(full)
            fsync(descriptor)

        async def set_object(place: Any, key: str, value: Any) -> None:
            self._write(full)
            await keep(place, key, value)

        async def set_new_object(place: Any, key: str, value: Any) -> None:
            self._write(full)
            await keep_new(place, key, value)

        monkeypatch.setattr(obstore, "put", put_object)
        monkeypatch.setattr(os, "link", link_file)
        monkeypatch.setattr(os, "fsync", force)
        monkeypatch.setattr(store, "set", set_object)
        monkeypatch.setattr(store, "set_if_not_exists", set_new_object)

    def _write(self, error: Exception) -> None:
        with self._lock:
            if self.room == 0:
                self.refused += 1
                raise error
            self.room -= 1

    @contextmanager
    def full_after(self, writes: int) -> Iterator[None]:
        self.room, self.refused = writes, 0
        try:
            yield
        finally:
            self.room = -1


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


def assert_clear(error: GnomonError, action: str) -> None:
    text = str(error)
    if action == "restore":  # it writes where the user said, not into a store
        assert isinstance(error, InvalidInput)
        assert "--to " in text
    else:
        assert isinstance(error, Unavailable)
    assert "No space left on device" in text
    assert "Debug" not in text
    assert text.count("\n") == 0


@pytest.mark.parametrize("action", ACTIONS)
def test_a_disk_that_is_full_at_any_write_loses_nothing(
    tmp_path: Path, disk: Disk, prepared: dict[str, Path], action: str
) -> None:
    run = ACTIONS[action]
    before, after = seen(prepared[action]), seen(finished(action, prepared, tmp_path))
    failed = 0
    for room in count():
        folder = copy_of(prepared[action], tmp_path / str(room))
        try:
            with disk.full_after(room):
                run(folder)
        except GnomonError as error:
            failed += 1
            assert_clear(error, action)
            assert seen(folder) in (before, after)
            assert {p.name for p in folder.iterdir()} <= {"r", "restored.zarr"}
            run(folder)
        assert seen(folder) == after
        shutil.rmtree(folder)
        if not disk.refused:
            break
    assert failed >= {"update": 25, "forget": 2, "prune": 8, "restore": 8}[action]


def test_what_cannot_be_forced_to_the_disk_is_not_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prepared: dict[str, Path]
) -> None:
    folder = copy_of(prepared["update"], tmp_path / "folder")
    before, fsync = seen(folder), os.fsync

    def refuse(descriptor: int) -> None:
        if current_thread() is not main_thread():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        with pytest.raises(Unavailable) as caught:
            do_update(folder)
    assert_clear(caught.value, "update")
    assert seen(folder) == before


@pytest.mark.parametrize("room", [0, 7, 20, 30])
def test_an_update_on_a_full_disk_is_taken_up_where_it_stopped(
    disk: Disk, grown: Case, room: int
) -> None:
    grown.arrive(HISTORY, HISTORY + 1)
    with pytest.raises(Unavailable) as caught, disk.full_after(room):
        grown.open().update()
    assert_clear(caught.value, "update")
    report = grown.open().update()
    assert report.due is not None
    assert len(grown.open().captures()) == HISTORY + 1
    assert grown.open().check(read_data=True).problems == ()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return an empty disk of 4 MB; skip where none may be mounted."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)]
    with suppress(OSError):
        if subprocess.run(command, capture_output=True, check=False).returncode == 0:
            yield place
            subprocess.run(["umount", "--lazy", str(place)], check=True)
            return
    pytest.skip("only a user who may mount a disk can fill a small one")


def fill(place: Path, left: int) -> Path:
    """Fill a disk but for some bytes, and return what fills it."""
    ballast = place / "ballast"
    about = os.statvfs(place)
    ballast.write_bytes(bytes(max(0, about.f_bavail * about.f_frsize - left)))
    return ballast


@pytest.mark.parametrize("left", [0, 12_288, 65_536])
@pytest.mark.parametrize("action", ACTIONS)
def test_a_disk_that_is_really_full_loses_nothing(
    tmp_path: Path, small_disk: Path, prepared: dict[str, Path], action: str, left: int
) -> None:
    folder = copy_of(prepared[action], small_disk / "folder")
    before = seen(folder)
    after = seen(finished(action, prepared, tmp_path))
    ballast = fill(small_disk, left)
    try:
        ACTIONS[action](folder)
    except GnomonError as error:
        assert_clear(error, action)
        assert seen(folder) in (before, after)
        ballast.unlink()
        ACTIONS[action](folder)
    else:
        assert left
    assert seen(folder) == after
    assert {p.name for p in folder.iterdir()} <= {"r", "restored.zarr"}


# A repository that may be read only ------------------------------------------------------------

READING = [
    ["status", "repository"],
    ["points", "repository", "--at", "2001-01-10"],
    ["captures", "repository"],
    ["check", "repository", "--read-data"],
    ["check", "repository", "--read-data-subset", "10%"],
    ["diff", "repository", "2001-01-10", "2001-01-11"],
    ["stats", "repository"],
    ["anomalies", "repository"],
    ["repair", "repository"],
    ["prune", "repository", "--dry-run"],
    ["restore", "repository", "--at", "2001-01-10", "--to", "out/restored.zarr"],
]
WRITING = [
    ["update", "repository"],
    ["tag", "repository", "--capture", "2001-01-10", "--add", "keep"],
    ["anomalies", "repository", "--reject", "2001-01-10"],
    ["forget", "repository", "--keep-last", "5"],
    ["prune", "repository"],
]


def run(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> tuple[int, str]:
    """Run the command line in this process; returns exit code and errors."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["gnomon", *arguments])
        with pytest.raises(SystemExit) as stop:
            cli.main()
    return int(stop.value.code or 0), capsys.readouterr().err


@contextmanager
def locked(case: Case) -> Iterator[Path]:
    """Go to a copy of a case whose repository this process may read only."""
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        folder = Path(name)
        folder.chmod(0o755)  # unlike pytest's folders, which are for one user alone
        case.copy(folder)
        (folder / "out").mkdir()
        (folder / "out").chmod(0o777)
        paths = [folder / "repository", *(folder / "repository").rglob("*")]
        for path in paths:
            path.chmod(0o555 if path.is_dir() else 0o444)
        patch.chdir(folder)
        privileged = os.geteuid() == 0
        try:
            if privileged:  # root may write anything
                os.seteuid(NOBODY)
            yield folder
        finally:
            if privileged:
                os.seteuid(0)
            for path in paths:
                path.chmod(0o755)


def test_a_repository_that_is_read_only_can_be_read(
    capsys: pytest.CaptureFixture[str], grown: Case
) -> None:
    (grown.folder / "out").mkdir()
    for arguments in READING:  # everything is imported now: others may not read this Python
        assert run(capsys, arguments) == (0, ""), arguments
    with locked(grown) as folder:
        before = sources.listing(folder / "repository")
        for arguments in READING:
            assert run(capsys, arguments) == (0, ""), arguments
        assert sources.listing(folder / "repository") == before


def test_a_repository_that_is_read_only_cannot_be_written(
    capsys: pytest.CaptureFixture[str], grown: Case
) -> None:
    grown.arrive(HISTORY, HISTORY + 1)
    with locked(grown) as folder:
        before = sources.listing(folder / "repository")
        failures = {}
        for arguments in WRITING:
            failures[" ".join(arguments)] = run(capsys, arguments)
        assert sources.listing(folder / "repository") == before
    for command, (code, said) in failures.items():
        assert code == 6, (command, said)
        assert "permission denied" in said, command
        assert said.count("\n") == 1, said
    for arguments in WRITING:
        assert run(capsys, arguments)[0] == 0, arguments


# A broken disk ---------------------------------------------------------------------------------


def test_a_file_that_the_disk_cannot_read_is_named(
    tmp_path: Path, prepared: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copy_of(prepared["restore"], tmp_path / "folder")
    capture_new(reopened(folder / "r"))
    before = seen(folder)
    broken = ""

    def read(file: Any, *arguments: Any, **options: Any) -> Any:
        if broken and str(file).endswith(broken):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return open(file, *arguments, **options)

    monkeypatch.setattr("gnomon.storage.log.location.open", read, raising=False)
    chunks = [p for p in files_of(folder) if "captures" in p.parts and "c" in p.parts]
    assert len(chunks) > 5
    for path in chunks:
        broken = path.relative_to(folder / "r").as_posix()
        repository: Repository = reopened(folder / "r")
        files = [p.file for p in check(repository, read_data=True).problems]
        assert broken in files
        if "residual" in path.parts and not broken.startswith(COPIES):
            with pytest.raises(Integrity, match="Input/output error") as caught:
                history(repository).load()
            assert broken in str(caught.value)
            assert str(caught.value).count("\n") == 0
    broken = "c/0/0/0"
    with pytest.raises(Integrity, match="Input/output error"):
        do_restore(folder)
    assert [p.name for p in folder.iterdir()] == ["r"]
    broken = ""
    assert seen(folder) == before
