"""A folder of files as a user meets it: init tells what it takes, updates what they leave out."""

import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import gnomon
from gnomon.cli import main
from gnomon.storage.errors import InvalidInput
from tests import sources


def arrive(folder: Path, start: int, stop: int) -> None:
    """Let one file a day arrive."""
    folder.mkdir(exist_ok=True)
    data = sources.temperature(32)
    for k in range(start, stop):
        data.isel(time=[k]).to_netcdf(folder / f"day{k:03d}.nc")


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["gnomon", *arguments])
        with pytest.raises(SystemExit) as left:
            main()
    assert not left.value.code
    found = capsys.readouterr()
    return found.out + found.err


@pytest.mark.parametrize("source", ["archive", "archive/*.nc"])
def test_a_folder_from_init_to_restore(
    source: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    arrive(tmp_path / "archive", 0, 20)
    told = run(capsys, "init", "r", source)
    assert "20 files of" in told
    assert "20 steps from 2001-01-01T00:00:00 to 2001-01-20T00:00:00" in " ".join(told.split())
    assert "captured 20" in run(capsys, "update", "r")
    arrive(tmp_path / "archive", 20, 22)
    path = tmp_path / "archive" / "day020.nc"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    told = run(capsys, "update", "r")
    assert "captured 1: 2001-01-22" in told
    assert "not yet taken: day020.nc: cannot be opened" in " ".join(told.split())
    told = run(capsys, "update", "r")
    assert "nothing new" in told
    assert "day020.nc" in told
    path.write_bytes(whole)
    repository = gnomon.open("r")
    report = repository.update()
    assert report.captured == ["2001-01-21T00:00:00"]
    assert report.notes == []
    found = xr.open_dataset("r", engine="gnomon", decode_cf=False)
    expected = sources.temperature(22)
    for name in ("sst", "time_bnds", "time", "lat"):
        np.testing.assert_array_equal(found[name].values, expected[name].values)


def test_a_restored_file_among_others_is_not_taken_for_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only it has the marks, so the source as a whole has none."""
    monkeypatch.chdir(tmp_path)

    def arrive(folder: Path, start: int, stop: int) -> None:
        folder.mkdir(exist_ok=True)
        for k in range(start, stop):
            day = sources.temperature(32).isel(time=[k])
            del day["time"].attrs["bounds"]
            day[["sst"]].to_netcdf(folder / f"day{k:03d}.nc")

    arrive(tmp_path / "archive", 0, 20)
    repository = gnomon.create("r", "archive")
    repository.backfill()
    repository.restore("2001-01-21", "day020.nc", accept_predicted=True)
    (tmp_path / "day020.nc").rename(tmp_path / "archive" / "day020.nc")
    arrive(tmp_path / "archive", 21, 22)
    report = repository.update()
    assert report.captured == ["2001-01-22T00:00:00"]
    (left_out,) = report.unread
    assert left_out["valid_time"] == "2001-01-21T00:00:00"
    assert "day020.nc marks" in left_out["error"]
    assert "predictions are never captured as data" in left_out["error"]
    # What is restored of what was captured has no such cells, and is taken.
    arrive(tmp_path / "archive", 20, 21)
    repository.update()
    repository.restore("2001-01-05", "day004.nc")
    (tmp_path / "day004.nc").replace(tmp_path / "archive" / "day004.nc")
    report = repository.update()
    assert (report.unread, report.suspect_chunks) == ([], 0)


@pytest.mark.parametrize("source", ["archive", "archive/*.nc"])
def test_a_restore_does_not_write_into_the_source(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arrive(tmp_path / "archive", 0, 4)
    repository = gnomon.create("r", source)
    repository.backfill()
    with pytest.raises(InvalidInput, match="would be a part of the source"):
        repository.restore("2001-01-02", "archive/day100.nc")
    # Beside its files, what nobody takes for one is nobody's harm.
    repository.restore("2001-01-02", "archive/restored.zarr")
    assert repository.update().notes == []


def test_a_restore_does_not_write_into_a_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sources.write(tmp_path / "s.zarr", sources.temperature(6), 0, 4)
    repository = gnomon.create("r", "s.zarr")
    repository.backfill()
    with pytest.raises(InvalidInput, match="would be a part of the source"):
        repository.restore("2001-01-02", "s.zarr/restored.zarr")


def test_a_revised_file_is_a_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    arrive(tmp_path / "archive", 0, 20)
    repository = gnomon.create("r", "archive")
    assert repository.description is not None
    assert any(n.startswith("20 files of") for n in repository.description.notes)
    repository.update()
    data = sources.temperature(32).isel(time=[19])
    data["sst"] = data.sst + np.float32(0.25)
    data.to_netcdf(tmp_path / "archive" / "day019.nc")
    assert repository.update().revised == 1


def test_a_damaged_step_of_a_file_stops_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    h5py = pytest.importorskip("h5py")
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "archive"
    folder.mkdir()
    data = sources.temperature(24)
    for k in range(3):
        part = data.isel(time=slice(8 * k, 8 * k + 8))
        options = {"sst": {"zlib": True, "chunksizes": (1, 8, 12)}}
        part.to_netcdf(folder / f"{k}.nc", encoding=options, engine="netcdf4")
    with h5py.File(folder / "1.nc") as file:
        chunk = file["sst"].id.get_chunk_info(3)
    with open(folder / "1.nc", "r+b") as handle:
        handle.seek(chunk.byte_offset)
        handle.write(b"\xff" * chunk.size)
    report = gnomon.create("r", "archive").update()
    assert [step["valid_time"] for step in report.unread] == ["2001-01-12T00:00:00"]
    assert len(report.captured) == 23
