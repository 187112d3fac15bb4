"""What live files are beside their bytes: links, owners and modes stay as they are."""

import os
import stat
from pathlib import Path

import pytest
import zarr

from gnomon.repository import GnomonRepository
from gnomon.storage.live import owned
from gnomon.storage.live.owned import differences_of
from tests.storage.building import captured, weather
from tests.tasks.rollback.test_rollback import AT, CHUNKS, files_of, zarr_source

OTHER = 54321
"""Number of a user and a group that nobody has."""
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")


def about(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)


def give_away(path: Path) -> None:
    os.chown(path, OTHER, OTHER)
    path.chmod(0o640)


def linked_file(tmp_path: Path) -> tuple[Path, Path]:
    """Return a source that is a link to a NetCDF file, and that file."""
    file = tmp_path / "store" / "v1.nc"
    file.parent.mkdir()
    weather(4).to_netcdf(file)
    link = tmp_path / "latest.nc"
    link.symlink_to("store/v1.nc")
    return link, file


def damage(file: Path) -> None:
    import netCDF4

    with netCDF4.Dataset(file, "r+") as opened:
        opened["t"][2, 4, 7] = 1e9


@needs_root
def test_a_file_behind_a_link_is_written_and_keeps_owner_and_mode(tmp_path: Path) -> None:
    link, file = linked_file(tmp_path)
    opened = GnomonRepository(captured(tmp_path / "r", link, chunks=CHUNKS))
    damage(file)
    give_away(file)
    before, bad = about(file), file.read_bytes()
    opened.rollback(AT)
    assert (link.is_symlink(), about(file)) == (True, before)
    assert file.read_bytes() != bad
    opened.undo()
    assert (link.is_symlink(), about(file), file.read_bytes()) == (True, before, bad)
    assert os.listdir(file.parent) == ["v1.nc"]


@needs_root
@pytest.mark.parametrize("what", ["store", "folder", "object"])
def test_links_in_a_zarr_store_stay(tmp_path: Path, what: str) -> None:
    real = zarr_source(tmp_path / "real.zarr", weather(4), chunks=(1, 3, 5))
    zarr.open_array(real / "t", mode="r+")
    source = tmp_path / "source.zarr"
    link = source / {"store": "", "folder": "t/c/2", "object": "t/c/2/1/1"}[what]
    if what == "store":
        source.symlink_to(real)
    else:
        real.rename(source)
        link.rename(tmp_path / "elsewhere")
        link.symlink_to(tmp_path / "elsewhere")
    opened = GnomonRepository(captured(tmp_path / "r", source, chunks=CHUNKS))
    path = source / "t/c/2/1/1"
    path.write_bytes(b"no chunk")
    give_away(path)
    before = about(path)
    opened.rollback(AT)
    assert (link.is_symlink(), about(path)) == (True, before)
    opened.undo()
    assert (link.is_symlink(), about(path), path.read_bytes()) == (True, before, b"no chunk")


@needs_root
def test_an_object_that_is_made_belongs_to_the_owner_of_its_folder(tmp_path: Path) -> None:
    source = zarr_source(tmp_path / "source.zarr", weather(4), chunks=(1, 3, 5))
    opened = GnomonRepository(captured(tmp_path / "r", source, chunks=CHUNKS))
    path = source / "t/c/2/1/1"
    path.unlink()
    os.chown(path.parent, OTHER, OTHER)
    opened.rollback(AT)
    assert about(path)[:2] == (OTHER, OTHER)


def test_extended_attributes_stay(tmp_path: Path) -> None:
    link, file = linked_file(tmp_path)
    opened = GnomonRepository(captured(tmp_path / "r", link, chunks=CHUNKS))
    damage(file)
    try:
        os.setxattr(file, "user.origin", b"station 7")
    except OSError:
        pytest.skip("the file system has no attributes of users")
    opened.rollback(AT)
    assert os.getxattr(file, "user.origin") == b"station 7"


def test_a_plan_tells_which_other_names_keep_what_they_hold(tmp_path: Path) -> None:
    link, file = linked_file(tmp_path)
    other = tmp_path / "backup.nc"
    os.link(file, other)
    opened = GnomonRepository(captured(tmp_path / "r", link, chunks=CHUNKS))
    damage(file)
    bad = other.read_bytes()
    planned = opened.plan_rollback(AT)
    assert planned.remarks == ("latest.nc: other names of it (hard links) keep what they hold now",)
    assert planned.to_json()["remarks"] == list(planned.remarks)
    opened.rollback(AT)
    assert other.read_bytes() == bad
    opened.undo()
    assert not opened.plan_rollback(AT).remarks  # it is a file of its own from then on


def test_what_cannot_be_kept_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"")
    mine = about(file)
    assert differences_of(file) == ()
    monkeypatch.setattr("gnomon.storage.live.owned.os.geteuid", lambda: mine[0] + 1)
    assert differences_of(file) == ("its owner cannot be kept: it will belong to you",)
    monkeypatch.setattr("gnomon.storage.live.owned.os.geteuid", lambda: mine[0] or 1)
    monkeypatch.setattr("gnomon.storage.live.owned.os.getegid", lambda: mine[1] + 1)
    monkeypatch.setattr("gnomon.storage.live.owned.os.getgroups", list)
    if mine[0]:
        assert differences_of(file) == ("its group cannot be kept: it will be one of yours",)


def test_a_file_that_few_may_read_is_never_open_to_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = zarr_source(tmp_path / "source.zarr", weather(4), chunks=(1, 3, 5))
    opened = GnomonRepository(captured(tmp_path / "r", source, chunks=CHUNKS))
    path = source / "t/c/2/1/1"
    path.write_bytes(b"no chunk")
    path.chmod(0o600)
    modes: list[int] = []
    give = owned.give

    def looked(new: Path, old: Path) -> None:
        modes.append(about(new)[2])
        give(new, old)

    monkeypatch.setattr("gnomon.storage.live.stores.give", looked)
    opened.rollback(AT)
    assert (modes, about(path)[2]) == ([0o600], 0o600)
    assert files_of(source)
