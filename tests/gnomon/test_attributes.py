"""Attributes of the source through the door: noted once, doubted until accepted, given back."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr

import gnomon
from gnomon.repository import GnomonRepository
from gnomon.storage.serve.planes import PROVENANCE
from tests import sources
from tests.gnomon.test_cli import run
from tests.storage.building import assert_identical, undecoded


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def grow(days: int, dataset: dict[str, Any] | None = None, **sst: Any) -> xr.Dataset:
    data = sources.temperature(days)
    data.attrs |= dataset or {}
    data["sst"].attrs |= sst
    sources.overwrite("s.zarr", data)
    return undecoded("s.zarr")


def begun() -> GnomonRepository:
    grow(20)
    made = gnomon.create("r", "s.zarr")
    made.update()
    return made


def test_a_comment_is_a_note_and_no_doubt(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = begun()
    whole = grow(21, {"history": "made anew"}, comment="version 2", actual_range=[1.0, 2.0])
    code, out, _ = run(capsys, "update", "r")
    assert code == 0
    assert "note: comment of sst is new: 'version 2'" in out
    assert "suspect chunks: 0" in out
    made = gnomon.open("r")
    assert made.anomalies() == []
    found = made.dataset("2001-01-21", plain=True, decode=False).load()
    assert_identical(found, whole.isel(time=slice(20, 21)))
    assert "comment" not in made.dataset("2001-01-20", decode=False)["sst"].attrs
    made.restore("2001-01-21", "out.zarr", plain=True)
    assert_identical(undecoded("out.zarr"), whole.isel(time=slice(20, 21)))
    made.restore("2001-01-21", "out.nc", plain=True)
    assert sources.raw("out.nc").attrs["history"] == "made anew"
    opened = xr.open_dataset("r", engine="gnomon", at="2001-01-21", plain=True)
    assert opened["sst"].attrs["comment"] == "version 2"
    grow(22, {"history": "made anew"}, comment="version 2", actual_range=[1.0, 2.0])
    report = made.update()
    assert (report.notes, report.suspect_chunks) == ([], 0)
    shadow = made.dataset(kind="forecast", accept_predicted=True)
    assert shadow["sst"].attrs["comment"] == "version 2"


def test_units_are_doubted_until_they_are_accepted_once(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = begun()
    for days in (21, 22):
        grow(days, units="degC")
        report = made.update()
        assert report.suspect_chunks > 0
        assert [i["expectations"] for i in report.incidents] == [["same_metadata"]]
        assert len(report.notes) == (1 if days == 21 else 0)
    assert run(capsys, "anomalies", "r", "--accept", "2001-01-22")[0] == 0
    for days in (23, 24):
        grow(days, units="celsius" if days == 24 else "degC")
        report = gnomon.open("r").update()
        assert (report.suspect_chunks, report.incidents) == (0, [])
    made = gnomon.open("r")
    assert made.status()["variables"]["sst"]["units"] == "degC"
    assert made.points("2001-01-24")[0].kind == "captured"
    grow(25, units="K")
    assert made.update().suspect_chunks > 0


def test_several_commits_of_one_update_tell_it_all(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = begun()
    monkeypatch.setattr("gnomon.tasks.capturing.plan.MAX_STEPS", 2)
    grow(26, comment="x")
    report = made.update()
    assert len(report.captured) == 6
    assert report.notes == ["comment of sst is new: 'x'"]


def test_new_variables_are_told_by_update_and_status(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begun()
    data = sources.temperature(21)
    data["u"] = data["sst"] * 2
    sources.overwrite("s.zarr", data)
    assert "'u' of the source is not protected" in run(capsys, "update", "r")[1]
    assert "not protected: u" in run(capsys, "status", "r")[1]
    found = json.loads(run(capsys, "status", "r", "--json")[1])
    assert found["unprotected"].keys() == {"u"}
    assert "gnomon add" in found["unprotected"]["u"]
    made = gnomon.open("r")
    made.update(new_era=True)
    assert made.status()["unprotected"] == {}
    assert "u" in made.dataset("2001-01-21", plain=True)


def test_what_differs_is_printed(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = begun()
    grow(21, {"title": None, "token": "https://x/?sig=secret"}, comment="x" * 500)
    made.update()
    code, out, _ = run(capsys, "diff", "r", "0", "20")
    assert code == 0
    assert "attribute title of the dataset: 'generated' -> 'None'" in out
    assert "secret" not in out
    assert len(max(out.splitlines(), key=len)) < 300
    found = {d["variable"]: d for d in json.loads(run(capsys, "diff", "r", "0", "20", "--json")[1])}
    assert found["sst"]["attributes"]["comment"][0] is None
    assert found[""]["chunks"] == 0


def test_a_state_source_is_versioned_too(place: Path) -> None:
    def put(k: int, **attributes: Any) -> xr.Dataset:
        data = sources.temperature(10).isel(time=k, drop=True)
        data = data.drop_vars("time_bnds").assign_attrs(attributes)
        sources.overwrite("f.zarr", data)
        return undecoded("f.zarr")

    states = [put(0, version=1)]
    made = gnomon.create("r", "f.zarr", kind="state")
    made.update("2001-01-01")
    states.append(put(1, version=np.float64(2.0)))
    assert made.update("2001-01-02").notes == ["version of the dataset was 1, is 2.0"]
    for day, state in enumerate(states, start=1):
        found = made.dataset(f"2001-01-0{day}", plain=True, decode=False).load()
        assert_identical(found, state)


@pytest.mark.parametrize("fill", [False, True])
def test_no_cell_of_a_boolean_is_missing_by_its_fill_value(fill: bool, tmp_path: Path) -> None:
    """Zarr of format 2 has one for what was never written."""
    flags = np.random.default_rng(0).random((6, 8, 8)) < 0.5
    group = zarr.open_group(tmp_path / "source.zarr", mode="w", zarr_format=2)
    array = group.create_array(
        "flag", shape=flags.shape, chunks=(1, 4, 4), dtype="bool", fill_value=fill
    )
    array[:] = flags
    array.attrs["_ARRAY_DIMENSIONS"] = ["time", "y", "x"]
    time = group.create_array("time", shape=(6,), dtype="i8")
    time[:] = np.arange(6)
    time.attrs.update({"_ARRAY_DIMENSIONS": ["time"], "units": "days since 2001-01-01"})
    repository = gnomon.create(tmp_path / "repository", tmp_path / "source.zarr")
    repository.update()
    captured = repository.dataset("2001-01-03").flag
    assert captured.dtype == bool
    np.testing.assert_array_equal(captured.values[0], flags[2])
    predicted = repository.dataset("2001-01-07", accept_predicted=True)
    assert predicted.flag.dtype == bool
    assert (predicted.flag_provenance != PROVENANCE["missing"]).all()
