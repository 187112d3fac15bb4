"""Taking back where others were at the live dataset meanwhile: nothing that is kept is lost."""

from pathlib import Path
from typing import Any

import pytest
import zarr

import gnomon
from gnomon.flows import steps
from gnomon.repository import GnomonRepository
from gnomon.storage.care.prune import prune
from gnomon.storage.errors import Conflict
from gnomon.storage.live import stores
from gnomon.storage.repository import Repository
from gnomon.tasks.rollback import undo as undoing
from tests.storage.building import WHEN, captured, weather
from tests.tasks.rollback.test_rollback import (
    AT,
    CHUNKS,
    Killed,
    changed,
    die_after,
    files_of,
    zarr_source,
)


def daily(folder: Path) -> Path:
    """Write a folder of files, one a step."""
    folder.mkdir()
    for k in range(4):
        weather(4).isel(time=slice(k, k + 1)).to_netcdf(folder / f"{k}.nc")
    return folder


def rolled(tmp_path: Path) -> tuple[GnomonRepository, Path, dict[str, bytes]]:
    """Return a repository with a rollback of a file, the file, and all as it was before that."""
    source = daily(tmp_path / "source")
    opened = GnomonRepository(captured(tmp_path / "r", source, chunks=CHUNKS))
    import netCDF4

    with netCDF4.Dataset(source / "2.nc", "r+") as file:
        file["t"][0, 4, 7] = 1e9
    before = files_of(source)
    opened.rollback(AT)
    return opened, source / "2.nc", before


def test_a_file_that_is_gone_is_made_again_by_force(tmp_path: Path) -> None:
    opened, file, before = rolled(tmp_path)
    file.unlink()
    with pytest.raises(Conflict, match=r"gone since the rollback, 2\.nc among them.*--force"):
        opened.undo()
    opened.undo(force=True)
    assert files_of(file.parent) == before


@pytest.mark.parametrize("again", [False, True], ids=["plain", "forced"])
def test_a_forced_undo_that_was_killed_loses_nothing(
    tmp_path: Path, again: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, file, before = rolled(tmp_path)
    file.unlink()
    with monkeypatch.context() as patch:
        patch.setattr(stores._Files, "replace", lambda *_: die())
        with pytest.raises(Killed):
            opened.undo(force=True)
    after = gnomon.open(str(tmp_path / "r"))
    undone = after.undo(force=again)  # the next command settles it
    if not again:
        assert undone.left == ("2.nc",)
        prune(Repository.open(str(tmp_path / "r")), committed_at=WHEN)
        with pytest.raises(Conflict, match="gone"):
            after.undo()
        after.undo(force=True)
    assert files_of(file.parent) == before
    assert not after.rollbacks()


def die() -> None:
    raise Killed


def test_what_others_write_while_it_is_taken_back_can_be_taken_back_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = zarr_source(tmp_path / "source.zarr", weather(4), chunks=(1, 3, 5))
    opened = GnomonRepository(captured(tmp_path / "r", source, chunks=CHUNKS))
    zarr.open_array(source / "t", mode="r+")[2] = 7
    bad = files_of(source)
    opened.rollback(AT)
    theirs, take_back = source / "t" / "c" / "2" / "1" / "1", undoing.take_back

    def beaten(*arguments: Any, **options: Any) -> Any:
        theirs.write_bytes(b"theirs")
        return take_back(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(undoing, "take_back", beaten)
        assert opened.undo().left == ("t/c/2/1/1",)
    assert changed(files_of(source), bad) == {str(theirs)}
    opened.undo(force=True)
    assert files_of(source) == bad


@pytest.mark.parametrize("stopped", [False, True], ids=["undo", "settling"])
def test_of_two_that_take_back_at_once_one_does(
    tmp_path: Path, stopped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second has looked before the first begins, and would write the same objects."""
    source = zarr_source(tmp_path / "source.zarr", weather(4), chunks=(1, 3, 5))
    opened = GnomonRepository(captured(tmp_path / "r", source, chunks=CHUNKS))
    zarr.open_array(source / "t", mode="r+")[2] = 7
    bad = files_of(source)
    opened.rollback(AT)
    with monkeypatch.context() as patch:
        if stopped:
            die_after(patch, 2)
            with pytest.raises(Killed):
                opened.undo()
    second = Repository.open(str(tmp_path / "r"))
    assert (second.state.open_rollback is not None) is stopped
    first, refused = gnomon.open(str(tmp_path / "r")), []
    take_back = undoing.take_back

    def at_work(*arguments: Any, **options: Any) -> Any:
        patch.setattr(undoing, "take_back", take_back)
        with monkeypatch.context() as other:
            other.setattr("gnomon.tasks.rollback.writer.os.getpid", lambda: 1)
            take = undoing.settle if stopped else undoing.undo
            with pytest.raises(Conflict, match="is being taken back from"):
                take(second, at=WHEN)
        refused.append(1)
        return take_back(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(undoing, "take_back", at_work)
        first.undo()
    assert refused
    assert files_of(source) == bad


def test_an_update_that_a_rollback_overtakes_captures_no_mixture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its capture is made again, and would be read and committed while objects are replaced."""
    source = zarr_source(tmp_path / "source.zarr", weather(4), chunks=(1, 3, 5))
    opened = GnomonRepository(captured(tmp_path / "r", source, chunks=CHUNKS))
    zarr.open_array(source / "t", mode="r+")[2] = 7
    replace = stores._Files.replace
    refused: list[int] = []

    def half_done(self: Any, *arguments: Any) -> None:
        with monkeypatch.context() as patch:
            patch.setattr("gnomon.tasks.rollback.writer.os.getpid", lambda: 1)
            with pytest.raises(Conflict, match="is being written into"):
                steps.plan(str(tmp_path / "r"), again=True)
        refused.append(1)
        replace(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(stores._Files, "replace", half_done)
        opened.rollback(AT)
    assert len(refused) == 4
    assert steps.plan(str(tmp_path / "r"), again=True) is None


def test_a_single_file_that_is_gone_is_made_again_by_force(tmp_path: Path) -> None:
    netCDF4 = pytest.importorskip("netCDF4")
    source = tmp_path / "source.nc"
    weather(4).to_netcdf(source)
    opened = GnomonRepository(captured(tmp_path / "r", source, chunks=CHUNKS))
    with netCDF4.Dataset(source, "r+") as file:
        file["t"][2, 4, 7] = 1e9
    before = source.read_bytes()
    opened.rollback(AT)
    source.unlink()
    with pytest.raises(Conflict, match=r"gone since the rollback, source\.nc among them"):
        opened.undo()
    opened.undo(force=True)
    assert source.read_bytes() == before
