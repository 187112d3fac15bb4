"""Many files are one source: what fits is taken, what does not is told, and little is opened."""

import errno
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from gnomon.storage.changes.era import begin_era
from gnomon.storage.errors import (
    GnomonError,
    InvalidInput,
    Moved,
    NotFound,
    Unavailable,
    Unreadable,
)
from gnomon.storage.log import gz
from gnomon.storage.log.location import Location
from gnomon.storage.repository import Repository
from gnomon.storage.source.cutoff import missing_bytes
from gnomon.storage.source.describing import describe
from gnomon.storage.source.files import reading as filereading
from gnomon.storage.source.files.index import INDEX, SourceMemory
from gnomon.storage.source.files.opening import (
    keep_index,
    read_numbers,
    source_notes,
    source_told,
    told_at,
)
from gnomon.storage.source.opening import open_source, pinned
from gnomon.storage.source.states import chunk_sizes, read_states
from gnomon.storage.source.timeaxis import read_axis
from gnomon.storage.source.unchanged import check_unchanged
from gnomon.storage.values.model import SourceSpec
from gnomon.storage.values.times import parse
from gnomon.tasks.capturing.capture import capture
from gnomon.tasks.capturing.moved import refuse_moved
from gnomon.tasks.capturing.plan import plan_capture
from gnomon.tasks.capturing.revisions import find_revisions
from gnomon.tasks.work import serial
from tests.storage.building import capture_new, history, make_repository

STEPS = 4
"""In each file."""


def day(k: int, *, seed: int | None = None) -> xr.Dataset:
    """Return the undecoded file of one day, four steps."""
    rng = np.random.default_rng(k if seed is None else seed)
    hours = np.arange(STEPS * k, STEPS * (k + 1), dtype="i4") * 6
    return xr.Dataset(
        {
            "t": (
                ("time", "y", "x"),
                rng.normal(280, 5, (STEPS, 5, 6)).astype("f4"),
                {"units": "K", "_FillValue": np.float32(-9)},
            ),
            "rain": (("time", "y", "x"), rng.integers(0, 9, (STEPS, 5, 6)).astype("i2")),
            "time_bnds": (("time", "nv"), np.stack([hours, hours + 6], 1).astype("f8")),
            "mask": (("y", "x"), np.eye(5, 6, dtype="i1")),
        },
        coords={
            "time": ("time", hours, {"units": "hours since 2024-01-01", "bounds": "time_bnds"}),
            "y": ("y", np.linspace(50, 54, 5), {"units": "degrees_north"}),
            "x": ("x", np.linspace(0, 5, 6), {"units": "degrees_east"}),
        },
        attrs={"title": "an archive"},
    )


def put(path: Path, dataset: xr.Dataset, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset.to_netcdf(path, **options)
    return path


def put_day(folder: Path, k: int, **options: Any) -> Path:
    return put(folder / f"day{k:03d}.nc", day(k), **options)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for k in range(4):
        put_day(tmp_path / "archive", k)
    return tmp_path / "archive"


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are opened from now on."""
    names: list[str] = []
    real = filereading.open_file

    def counted(path: Path, spec: SourceSpec) -> xr.Dataset:
        names.append(path.name)
        return real(path, spec)

    monkeypatch.setattr(filereading, "open_file", counted)
    monkeypatch.setattr("gnomon.storage.source.files.agreement.open_file", counted)
    return names


def spec(place: Path | str, **options: Any) -> SourceSpec:
    return SourceSpec(str(place), "append", **options)


def notes(place: Path | str, memory: SourceMemory | None = None) -> str:
    with open_source(spec(place), memory) as dataset:
        return "\n".join(source_notes(dataset))


def mfdataset(paths: list[Path], **options: Any) -> xr.Dataset:
    return xr.open_mfdataset(
        sorted(paths),
        combine="nested",
        concat_dim="time",
        data_vars="minimal",
        coords="minimal",
        compat="override",
        decode_cf=False,
        mask_and_scale=False,
        **options,
    ).load()


def assert_same(found: xr.Dataset, expected: xr.Dataset) -> None:
    xr.testing.assert_identical(found.load().reset_coords(), expected.reset_coords())
    for name, variable in expected.variables.items():
        assert found.variables[name].dtype == variable.dtype


@pytest.mark.parametrize("engine", ["netcdf4", "h5netcdf", "scipy"])
@pytest.mark.parametrize("many", ["", "/*.nc"])
def test_a_folder_is_what_xarray_makes_of_its_files(many: str, engine: Any, tmp_path: Path) -> None:
    paths = [put_day(tmp_path / "a", k, engine=engine) for k in range(5)]
    (tmp_path / "a" / "README.txt").write_text("about")
    with open_source(spec(f"{tmp_path / 'a'}{many}")) as dataset:
        assert source_notes(dataset) == ()
        assert source_told(dataset) == (
            f"5 files of {tmp_path / 'a'}{many}, 20 steps from 2024-01-01T00:00:00 to "
            "2024-01-05T18:00:00",
        )
        assert_same(dataset, mfdataset(paths))


def test_any_steps_and_cells_of_it(folder: Path) -> None:
    expected = mfdataset(list(folder.iterdir()))
    with open_source(spec(folder)) as dataset:
        for where in (
            {"time": [1, 7, 8, 15], "y": slice(1, 4), "x": [0, 5]},
            {"time": 9, "x": 2},
            {"time": slice(3, 13, 4)},
            {"time": slice(0, 0)},
            {"time": [15, 0, 0], "y": -1},
        ):
            found = dataset.isel(where)
            np.testing.assert_array_equal(found.t.values, expected.isel(where).t.values)
            assert found.t.shape == expected.isel(where).t.shape


def test_files_in_folders_are_named_by_a_pattern(tmp_path: Path) -> None:
    paths = [
        put(tmp_path / "a" / f"{2020 + k}" / "x.nc4", day(k), format="NETCDF4") for k in (0, 1)
    ]
    with open_source(spec(tmp_path / "a" / "**" / "*.nc4")) as dataset:
        assert_same(dataset, mfdataset(paths))
    with pytest.raises(NotFound, match=r"in folders only; give them as .*/\*\*/\*\.nc4'"):
        open_source(spec(tmp_path / "a"))


def test_what_is_no_archive(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(NotFound, match="is an empty folder"):
        open_source(spec(tmp_path / "a"))
    (tmp_path / "a" / "x.txt").write_text("x")
    with pytest.raises(NotFound, match=r"no NetCDF, HDF5 or GRIB file in it \(x\.txt\); check"):
        open_source(spec(tmp_path / "a"))
    with pytest.raises(NotFound, match="no file is named like"):
        open_source(spec(tmp_path / "a" / "*.nc"))
    with pytest.raises(InvalidInput, match="a pattern of remote files"):
        open_source(spec("s3://bucket/archive/*.nc"))
    put_day(tmp_path / "a", 0)
    with pytest.raises(InvalidInput, match="an append source; leave out --kind state"):
        open_source(SourceSpec(str(tmp_path / "a"), "state"))


def test_without_any_time(tmp_path: Path) -> None:
    put(tmp_path / "a" / "x.nc", day(0).isel(time=0, drop=True))
    with pytest.raises(InvalidInput, match=r"none of the files.*x\.nc: has no time.*--time"):
        open_source(spec(tmp_path / "a"))


def test_grib_without_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filereading, "find_spec", lambda name: None)
    (tmp_path / "x.grib2").write_bytes(b"GRIB")
    with pytest.raises(InvalidInput, match=r"x\.grib2: is a GRIB file; install the package cfgrib"):
        open_source(spec(tmp_path))


# Time ----------------------------------------------------------------------------------------


def in_own_units(k: int, unit: str = "hours") -> xr.Dataset:
    """Return a day that counts its times, and their bounds, from its own begin."""
    data = day(k)
    size = {"hours": 1, "minutes": 60, "days": 1 / 24}[unit]
    begin = 24 * k
    for name in ("time", "time_bnds"):
        data[name] = (data[name].dims, (data[name].values - begin) * size, data[name].attrs)
    data["time"].attrs["units"] = f"{unit} since 2024-01-{1 + k:02d}"
    return data


@pytest.mark.parametrize("first", ["hours", "minutes", "days"])
def test_times_are_in_one_unit_whatever_each_file_counts_in(first: str, tmp_path: Path) -> None:
    plain = [put_day(tmp_path / "plain", k) for k in range(4)]
    for k in range(4):
        put(tmp_path / "own" / f"{k}.nc", in_own_units(k, first if k in (0, 3) else "hours"))
    expected = xr.decode_cf(mfdataset(plain))
    with open_source(spec(tmp_path / "own")) as dataset:
        assert source_notes(dataset) == ()
        found = xr.decode_cf(dataset.load())
    np.testing.assert_array_equal(found.time.values, expected.time.values)
    np.testing.assert_array_equal(found.time_bnds.values, expected.time_bnds.values)


def test_units_that_cannot_tell_all_times_give_way(tmp_path: Path) -> None:
    first = day(0).isel(time=[0]).drop_vars("time_bnds")
    first["time"] = ("time", np.zeros(1, "i4"), {"units": "days since 2024-01-01"})
    put(tmp_path / "a" / "0.nc", first)
    put(tmp_path / "a" / "1.nc", in_own_units(1).drop_vars("time_bnds"))
    with open_source(spec(tmp_path / "a")) as dataset:
        assert dataset.time.attrs["units"] == "microseconds since 1970-01-01"
        times = xr.decode_cf(dataset.load()).time.values
    expected = ["2024-01-01T00", *(f"2024-01-02T{hour:02d}" for hour in (0, 6, 12, 18))]
    np.testing.assert_array_equal(times, np.array(expected, "M8[ns]"))


def test_a_single_time_is_one_step(tmp_path: Path) -> None:
    for k in range(3):
        data = day(k).isel(time=0).drop_vars("time_bnds")
        del data["time"].attrs["bounds"]
        data["reference"] = ((), np.int32(k), {"units": "days since 2024-01-01"})
        data["orbit"] = ((), np.int32(70 + k))
        data["level"] = ((), np.float32(2))
        data["rain"].attrs["coordinates"] = "mask"
        put(tmp_path / "a" / f"{k}.nc", data)
    with open_source(spec(tmp_path / "a")) as dataset:
        assert dataset.t.dims == ("time", "y", "x")
        assert dataset.mask.dims == ("y", "x")
        assert dataset.level.dims == ()
        np.testing.assert_array_equal(dataset.time.values, [0, 24, 48])
        np.testing.assert_array_equal(dataset.orbit.values, [70, 71, 72])
        np.testing.assert_array_equal(dataset.reference.values, [0, 1, 2])
        for k in range(3):
            np.testing.assert_array_equal(dataset.t[k].values, day(k).t[0].values)


def test_single_values_of_each_file_stand_for_all_its_steps(tmp_path: Path) -> None:
    for k in range(3):
        data = day(k)
        data["reference"] = ((), np.int32(0), {"units": f"days since 2024-01-{1 + k:02d}"})
        put(tmp_path / "a" / f"{k}.nc", data)
    with open_source(spec(tmp_path / "a")) as dataset:
        assert dataset.reference.values.tolist() == [0] * 4 + [1] * 4 + [2] * 4


def test_a_missing_time_is_missing_whatever_its_file_counts_in(tmp_path: Path) -> None:
    for k in range(2):
        data = in_own_units(k, "days").drop_vars("time_bnds")
        times = data.time.values.copy()
        times[2] = np.nan
        data["time"] = ("time", times, data.time.attrs)
        put(tmp_path / "a" / f"{k}.nc", data)
    with open_source(spec(tmp_path / "a")) as dataset:
        found = dataset.time.values
    np.testing.assert_array_equal(found, [0, 0.25, np.nan, 0.75, 1, 1.25, np.nan, 1.75])


def test_what_is_another_series_in_the_same_files_does_not_matter(tmp_path: Path) -> None:
    for k in range(3):
        data = day(k).assign(high=(("date", "y"), np.full((1, 5), k, "f4")))
        data = data.assign_coords(date=("date", [k], {"units": "days since 2024-01-01"}))
        put(tmp_path / "a" / f"{k}.nc", data)
    with open_source(spec(tmp_path / "a", time="time")) as dataset:
        assert dataset.t.shape == (12, 5, 6)
        assert "high" not in dataset
        assert source_notes(dataset) == ("not taken: along another time dimension: date, high",)
    with open_source(spec(tmp_path / "a", time="date")) as dataset:
        np.testing.assert_array_equal(dataset.high.values[:, 0], [0, 1, 2])
        assert "t" not in dataset


def test_an_array_that_each_file_has_of_its_own_changes_with_time(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    for k in range(3):
        put(folder / f"{k}.nc", day(k).assign(seen=(("y", "x"), np.full((5, 6), k, "i2"))))
    repository = capture_new(make_repository(tmp_path / "r", folder))
    assert "seen" in [v.name for v in repository.settings.variables]
    put(folder / "3.nc", day(3).assign(seen=(("y", "x"), np.full((5, 6), 3, "i2"))))
    assert notes(folder, repository.memory) == ""
    found = history(capture_new(repository)).seen
    np.testing.assert_array_equal(found[:, 2, 2], np.repeat(np.arange(4), 4))


def test_a_time_twice_is_in_both_files(folder: Path) -> None:
    put(folder / "day001b.nc", day(1, seed=99))
    with open_source(spec(folder)) as dataset:
        times = dataset.time.values.tolist()
        assert times[4:8] == times[8:12]
        np.testing.assert_array_equal(dataset.t[8:12].values, day(1, seed=99).t.values)


# What does not fit -----------------------------------------------------------------------------


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def without_a_variable(path: Path) -> None:
    put(path, day(2).drop_vars("rain"))


def on_another_grid(path: Path) -> None:
    put(path, day(2).assign_coords(y=np.linspace(51, 55, 5)))


def with_another_mask(path: Path) -> None:
    put(path, day(2).assign(mask=day(2).mask + 1))


def of_another_size(path: Path) -> None:
    put(path, day(2).isel(x=slice(5)))


def packed_by_nothing(path: Path) -> None:
    data = day(2)
    data["rain"].attrs["scale_factor"] = np.float32(0.0)
    put(path, data)


def in_other_units(path: Path) -> None:
    data = day(2)
    data["t"].attrs["units"] = "m"
    put(path, data)


def of_another_type(path: Path) -> None:
    put(path, day(2).assign(rain=day(2).rain.astype("i4")))


def in_another_calendar(path: Path) -> None:
    data = day(2)
    data["time"].attrs["calendar"] = "360_day"
    put(path, data)


def of_nonsense(path: Path) -> None:
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + b"nonsense" * 99)


def of_no_time(path: Path) -> None:
    put(path, day(2).isel(time=0, drop=True))


UNFIT: dict[Callable[[Path], None], str] = {
    truncated: "cannot be opened",
    without_a_variable: "it has no variable 'rain' (it has mask, t, time_bnds)",
    on_another_grid: "it has another grid ('y' differs)",
    with_another_mask: "'mask' differs",
    of_another_size: "has shape (5, 5), expected (5, 6)",
    packed_by_nothing: "rain is packed in a way by which no numbers can be read (scale_factor 0.0",
    in_other_units: "units of t is m, expected K",
    of_another_type: "rain has type <i4, expected <i2",
    in_another_calendar: "its calendar is '360_day', expected 'standard'",
    of_nonsense: "cannot be opened",
    of_no_time: "has no time",
}


CASES = [(f, "NETCDF4") for f in UNFIT] + [
    (f, "NETCDF3_64BIT") for f in (truncated, packed_by_nothing)
]


@pytest.mark.parametrize(("fault", "file_format"), CASES)
def test_a_file_that_does_not_fit_is_left_out_and_told(
    fault: Callable[[Path], None], file_format: Any, tmp_path: Path
) -> None:
    """At init and at an update: the others are taken as if it were not there."""
    paths = [put_day(tmp_path / "a", k, format=file_format) for k in range(5)]
    repository = make_repository(tmp_path / "r", tmp_path / "a")
    fault(paths[2])
    os.utime(paths[2], (1, 1))
    for memory in (None, repository.memory, repository.memory):
        text = notes(tmp_path / "a", memory)
        assert text.startswith("left out: day002.nc: ")
        assert UNFIT[fault] in text
        with open_source(spec(tmp_path / "a"), memory) as dataset:
            kept = [path for k, path in enumerate(paths) if k != 2]
            assert_same(dataset, mfdataset(kept))
    capture_new(repository)
    put_day(tmp_path / "a", 2)
    assert notes(tmp_path / "a", repository.memory) == ""
    repository = capture_new(Repository.open(str(tmp_path / "r")))
    found = history(repository)
    for k in range(5):
        np.testing.assert_array_equal(found.t[4 * k : 4 * k + 4].values, day(k).t.values)


@pytest.mark.parametrize("unlimited", [None, ["time"]])
@pytest.mark.parametrize("left", [0.05, 0.5, 0.95])
@pytest.mark.parametrize("file_format", ["NETCDF4", "NETCDF3_CLASSIC"])
def test_a_file_that_is_still_written_is_for_the_next_run(
    file_format: Any, left: float, unlimited: Any, folder: Path
) -> None:
    """A classic file that is cut off opens, and would be read as zeros."""
    whole = put_day(folder.parent, 4, format=file_format, unlimited_dims=unlimited).read_bytes()
    (folder / "day004.nc").write_bytes(whole[: int(left * len(whole))])
    text = notes(folder)
    assert text.startswith("not yet taken: day004.nc: cannot be opened")
    assert text.endswith("it may still be written, the next run looks again")
    with open_source(spec(folder)) as dataset:
        assert dataset.sizes["time"] == 16
    (folder / "day004.nc").write_bytes(whole)
    assert notes(folder) == ""
    with open_source(spec(folder)) as dataset:
        assert dataset.sizes["time"] == 20


def test_a_classic_file_that_is_cut_off_is_no_source_either(tmp_path: Path) -> None:
    path = put_day(tmp_path, 0, format="NETCDF3_CLASSIC")
    truncated(path)
    with pytest.raises(GnomonError, match=r"is cut off, \d+ bytes are missing"):
        open_source(spec(path))


def test_a_grib_file_that_is_cut_off_is_known_by_its_messages(tmp_path: Path) -> None:
    first = b"GRIB" + (20).to_bytes(3, "big") + b"\1" + b"x" * 12
    second = b"GRIB\0\0\0\2" + (30).to_bytes(8, "big") + b"x" * 14
    path = tmp_path / "x.grib"
    path.write_bytes(first + second)
    assert missing_bytes(path) == 0
    for left in range(5, 50):
        path.write_bytes((first + second)[:left])
        assert (missing_bytes(path) > 0) == (left not in range(20, 24))


def test_what_stands_beside_the_files_is_none_of_them(folder: Path) -> None:
    (folder / ".day004.nc.Xy12").write_bytes(b"rsync writes such")
    (folder / ".hidden.nc").write_bytes(b"x")
    (folder / "day004.nc.part").write_bytes(b"x")
    (folder / "folder.nc").mkdir()
    (folder / "gone.nc").symlink_to(folder / "nowhere")
    assert notes(folder) == ""
    assert notes(folder / "day*") == ""


def test_of_many_files_with_one_fault_a_few_are_named(folder: Path) -> None:
    for k in range(4, 16):
        put_day(folder, k)
    for k in range(5, 10):
        in_other_units(folder / f"day{k:03d}.nc")
    assert notes(folder) == (
        "left out: 5 files (day005.nc, day006.nc, day007.nc, ...): units of t is m, expected K"
    )


def test_files_that_are_packed_each_in_its_own_way_are_each_read_by_it(tmp_path: Path) -> None:
    def own(k: int) -> dict[str, Any]:
        return {"scale_factor": np.float64(1 + k), "_FillValue": np.int16(-k)}

    for k in range(4):
        data = day(k)
        data["rain"].attrs = own(k)
        put(tmp_path / "a" / f"{k}.nc", data)
    with open_source(spec(tmp_path / "a")) as dataset:
        steps = day(0).sizes["time"]
        variable = describe(dataset, spec(tmp_path / "a")).variables
        rain = next(v for v in variable if v.name == "rain")
        for k in range(4):
            told = told_at(dataset, "rain", k * steps)
            assert told == own(k)
            assert type(told["scale_factor"]) is np.float64
            raw = day(k)["rain"].values.astype("f8")
            expected = np.where(raw == -k, np.nan, raw * (1 + k))
            positions = range(k * steps, (k + 1) * steps)
            states = dataset["rain"].values[k * steps : (k + 1) * steps]
            np.testing.assert_array_equal(
                read_numbers(dataset, rain, list(positions), states), expected
            )


def test_files_of_different_variables_are_refused(tmp_path: Path) -> None:
    for name in ("t", "rain", "time_bnds"):
        for k in range(3):
            put(tmp_path / "a" / f"{name}{k}.nc", day(k)[[name]])
    with pytest.raises(InvalidInput, match=r"only 3 of 9 files.*belong together"):
        open_source(spec(tmp_path / "a"))
    with open_source(spec(tmp_path / "a" / "rain*.nc")) as dataset:
        assert dataset.rain.shape == (12, 5, 6)


def test_a_variable_that_only_new_files_have_is_told(folder: Path) -> None:
    repository = make_repository(folder.parent / "r", folder)
    put(folder / "day004.nc", day(4).assign(q=day(4).t + 1))
    for memory in (None, repository.memory):
        assert "variable 'q', which 1 of 5 files have" in notes(folder, memory)
        with open_source(spec(folder), memory) as dataset:
            assert dataset.sizes["time"] == 20
            assert "q" not in dataset.variables


def test_a_coordinate_that_is_off_by_rounding_is_the_same_grid(folder: Path) -> None:
    repository = make_repository(folder.parent / "r", folder)
    moved = day(4)
    put(folder / "day004.nc", moved.assign_coords(y=np.nextafter(moved.y.values, 99)))
    put(folder / "day005.nc", day(5).assign_coords(x=day(5).x.values.astype("f4")))
    for memory in (None, repository.memory):
        with open_source(spec(folder), memory) as dataset:
            assert source_notes(dataset) == ()
            assert dataset.sizes["time"] == 24


# From run to run -------------------------------------------------------------------------------


@pytest.fixture
def repository(folder: Path) -> Repository:
    return capture_new(make_repository(folder.parent / "r", folder))


def captured_times(repository: Repository) -> list[int]:
    return [step.instant // 3_600_000_000 - 473352 for step in repository.timeline]


def test_new_files_are_new_steps_and_removed_ones_stay_captured(
    repository: Repository, folder: Path
) -> None:
    put_day(folder, 5)
    repository = capture_new(repository)
    (folder / "day000.nc").unlink()
    put_day(folder, 4)
    repository = capture_new(repository)
    assert captured_times(repository) == list(range(0, 144, 6))
    found = history(repository)
    for k in range(6):
        for name in ("t", "rain", "time_bnds"):
            np.testing.assert_array_equal(
                found[name][4 * k : 4 * k + 4].values, day(k)[name].values
            )


def test_the_first_file_may_go_though_each_counts_from_its_own_begin(tmp_path: Path) -> None:
    """What counts times, time bounds too, goes on in the units of init."""
    folder = tmp_path / "a"
    for k in range(2):
        put(folder / f"{k}.nc", in_own_units(k))
    repository = capture_new(make_repository(tmp_path / "r", folder))
    (folder / "0.nc").unlink()
    put(folder / "2.nc", in_own_units(2))
    repository = capture_new(repository)
    found = xr.decode_cf(history(repository))
    expected = xr.decode_cf(xr.concat([day(k)[["time_bnds"]] for k in range(3)], "time"))
    np.testing.assert_array_equal(found.time_bnds.values, expected.time_bnds.values)
    np.testing.assert_array_equal(found.time.values, expected.time.values)


def dated_beside(k: int) -> xr.Dataset:
    """Return a file whose dimension counts nothing, and whose times are told beside it."""
    when = {"units": "hours since 2024-01-01", "calendar": "360_day", "standard_name": "time"}
    hours = day(k).time.values.astype("f8")
    return xr.Dataset(
        {
            "t": (("time_counter", "x"), np.random.default_rng(k).normal(280, 5, (STEPS, 6))),
            "read_at": ("time_counter", hours + 1e5, {"units": "hours since 2024-01-01"}),
        },
        coords={
            "time_counter": ("time_counter", np.zeros(STEPS), {"axis": "T"}),
            "centre": ("time_counter", hours + 9e4, when),
        },
    )


def test_times_told_beside_the_dimension_keep_their_own_calendar(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    for k in range(3):
        put(folder / f"{k}.nc", dated_beside(k))
    repository = capture_new(make_repository(tmp_path / "r", folder))
    put(folder / "3.nc", dated_beside(3))
    found = history(capture_new(repository))
    assert (found.centre.units, found.centre.calendar) == ("hours since 2024-01-01", "360_day")
    expected = xr.concat([dated_beside(k) for k in range(4)], "time_counter")
    for name in ("t", "read_at", "time_counter", "centre"):
        np.testing.assert_array_equal(found[name].values, expected[name].values)


def test_a_further_time_keeps_its_own_calendar(folder: Path) -> None:
    for path in folder.iterdir():
        with xr.open_dataset(path, decode_cf=False) as dataset:
            loaded = dataset.load()
        when = {"units": "hours since 2024-01-01", "calendar": "noleap"}
        loaded["model_time"] = ("time", loaded.time.values + 1e5, when)
        put(path, loaded)
    with open_source(spec(folder)) as dataset:
        np.testing.assert_array_equal(dataset.model_time.values, dataset.time.values + 1e5)


def test_times_that_the_units_of_init_cannot_tell_leave_their_file_out(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    for k in range(3):
        data = day(k).isel(time=[0]).drop_vars("time_bnds")
        data["time"] = ("time", np.array([k]), {"units": "days since 2024-01-01"})
        put(folder / f"{k}.nc", data)
    repository = make_repository(tmp_path / "r", folder)
    put(folder / "3.nc", day(3).drop_vars("time_bnds"))
    put(folder / "4.nc", day(4).isel(time=[0]).drop_vars("time_bnds"))
    assert notes(folder, repository.memory) == (
        "left out: 3.nc: its times cannot be told as <i8 in 'days since 2024-01-01'"
    )
    repository = capture_new(repository)
    assert captured_times(repository) == [0, 24, 48, 96]


def test_a_file_that_was_replaced_is_read_anew(repository: Repository, folder: Path) -> None:
    put(folder / "day002.nc", day(2, seed=50))
    with open_source(spec(folder), repository.memory) as dataset:
        np.testing.assert_array_equal(dataset.t[8:12].values, day(2, seed=50).t.values)


def test_a_file_that_was_replaced_is_compared_with_what_was_captured_of_it(
    repository: Repository, folder: Path, opened: list[str]
) -> None:
    """Where the other files were written before the captures, it needs no lot to be found."""
    for path in folder.iterdir():
        os.utime(path, (0, 0))
    rng = np.random.default_rng(0)
    assert find_revisions(repository, serial, count=1, rng=rng) == ()
    opened.clear()
    put(folder / "day001.nc", day(1, seed=77))
    assert find_revisions(repository, serial, count=1, rng=rng) == (4, 5, 6, 7)
    assert set(opened) <= {"day000.nc", "day001.nc", "day003.nc"}


def test_what_files_are_like_is_decided_at_init(repository: Repository, folder: Path) -> None:
    """However many newer files are otherwise; a new era goes on with them."""
    for k in range(4, 24):
        data = day(k)
        data["t"].attrs["units"] = "m"
        put(folder / f"day{k:03d}.nc", data)
    text = notes(folder, repository.memory)
    assert text.startswith("left out: 20 files")
    with open_source(spec(folder), repository.memory) as dataset:
        check_unchanged(dataset, repository.settings)
        assert dataset.sizes["time"] == 16
    after = begin_era(repository, "2024-03-01T00:00:00+00:00")
    assert after.settings.variable("t").attributes["units"] == "m"
    with open_source(after.settings.source, after.memory) as dataset:
        assert dataset.sizes["time"] == 80


# What is opened ----------------------------------------------------------------------------------


def test_an_update_opens_the_new_file_and_few_others(tmp_path: Path, opened: list[str]) -> None:
    folder = tmp_path / "a"
    for k in range(40):
        put_day(folder, k)
    with open_source(spec(folder)) as dataset:
        assert set(opened) == {f"day{k:03d}.nc" for k in range(40)}
        assert len(opened) == 41  # the first, to describe the others
        repository = make_repository(tmp_path / "r", folder)
        keep_index(dataset, repository.location, repository.settings.source)
    opened.clear()
    repository = capture_new(repository)
    opened.clear()
    put_day(folder, 40)
    repository = capture_new(repository)
    assert set(opened) == {"day000.nc", "day040.nc"}
    assert len(opened) <= 8
    opened.clear()
    with open_source(spec(folder), repository.memory) as dataset:
        assert read_axis(dataset, repository.settings).instants.size == 164
    assert opened == ["day000.nc"]


LOSSES: dict[str, Callable[[bytes], bytes]] = {
    "damaged": lambda data: data[:50] + bytes([data[50] ^ 255]) + data[51:],
    "cut off": lambda data: data[:-9],
    "empty": lambda data: b"",
    "of nonsense": lambda data: b"nonsense",
}


@pytest.mark.parametrize("loss", [*LOSSES, "removed"])
def test_without_its_index_a_source_is_as_with_it(
    loss: str, repository: Repository, folder: Path, opened: list[str]
) -> None:
    path = Path(repository.location.url) / INDEX
    if loss == "removed":
        path.unlink()
    else:
        path.write_bytes(LOSSES[loss](path.read_bytes()))
    for seen in (4, 0):
        opened.clear()
        with open_source(spec(folder), repository.memory) as dataset:
            assert_same(dataset, mfdataset(list(folder.iterdir())))
        assert len(set(opened)) >= seen


def forge(repository: Repository, change: Callable[[dict[str, Any]], None]) -> None:
    """Change what the index says."""
    data = json.loads(gz.unpack(repository.location.read(INDEX), 2**24))
    change(data)
    repository.location.replace(INDEX, gz.pack(json.dumps(data).encode()))


def swapped(data: dict[str, Any]) -> None:
    first, second = data["files"]["day000.nc"], data["files"]["day001.nc"]
    first[5:7], second[5:7] = second[5:7], first[5:7]


def longer(data: dict[str, Any]) -> None:
    for entry in data["files"].values():
        entry[3] = 10**9


def of_another_form(data: dict[str, Any]) -> None:
    data["forms"][0][1]["t"][3] = [["units", "m"]]


def of_another_packing(data: dict[str, Any]) -> None:
    data["packings"][0]["rain"]["scale_factor"] = 9.0


def negative(data: dict[str, Any]) -> None:
    data["files"]["day000.nc"][2] = -1


def of_objects(data: dict[str, Any]) -> None:
    data["files"]["day000.nc"][4] = "|O"


@pytest.mark.parametrize(
    "change", [swapped, longer, of_another_form, of_another_packing, negative, of_objects]
)
def test_an_index_that_was_tampered_with_is_found_out(
    change: Callable[[dict[str, Any]], None], repository: Repository, folder: Path
) -> None:
    """Nothing wrong is read: it is not believed, or the file that is read tells otherwise."""
    forge(repository, change)
    for attempt in range(2):
        try:
            with open_source(spec(folder), repository.memory) as dataset:
                positions = list(range(dataset.sizes["time"]))
                variable = repository.settings.variable("t")
                read_states(dataset, variable, positions, (slice(None), slice(None)))
                assert_same(dataset, mfdataset(list(folder.iterdir())))
            break
        except GnomonError:
            assert attempt == 0


def test_an_index_that_cannot_be_written_stops_nothing(
    repository: Repository, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Location, name: str, data: bytes) -> None:
        raise Unavailable("read only")

    monkeypatch.setattr(Location, "replace", refuse)
    put_day(folder, 4)
    assert len(captured_times(capture_new(repository))) == 20


def test_no_more_files_are_open_than_allowed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filereading, "MOST_OPEN", 2)
    with open_source(spec(folder)) as dataset:
        expected = mfdataset(list(folder.iterdir()))
        np.testing.assert_array_equal(dataset.t.values, expected.t.values)
        np.testing.assert_array_equal(dataset.mask.values, expected.mask.values)
        files = dataset.t.variable._data.array.files
        assert len(files._open) == 2
    assert len(files._open) == 0


# Damage ----------------------------------------------------------------------------------------


def test_the_first_file_may_be_damaged_like_any_other(repository: Repository, folder: Path) -> None:
    """Though size and time are as they were, and others have been described by it."""
    path = folder / "day000.nc"
    before = path.stat()
    path.write_bytes(b"\0" * before.st_size)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with open_source(spec(folder), repository.memory) as dataset:
        (note,) = source_notes(dataset)
        assert note.startswith("left out: day000.nc: cannot be")
        assert_same(dataset, mfdataset([p for p in folder.iterdir() if p != path]))


def test_a_file_that_another_process_writes_is_for_the_next_run(folder: Path) -> None:
    code = (
        "import netCDF4, sys; file = netCDF4.Dataset(sys.argv[1], 'a'); print('open', flush=True);"
        "sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(put_day(folder, 4))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        assert notes(folder).startswith("not yet taken: day004.nc: cannot be opened")
        writer.communicate(b"")
    assert notes(folder) == ""


def damage_last_step(path: Path) -> None:
    """Overwrite the compressed bytes of the last step, and nothing else of the file."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(path) as file:
        chunk = file["t"].id.get_chunk_info(STEPS - 1)
    with open(path, "r+b") as handle:
        handle.seek(chunk.byte_offset)
        handle.write(b"\xff" * chunk.size)


def compressed() -> dict[str, Any]:
    options = {"zlib": True, "shuffle": False, "chunksizes": (1, 5, 6)}
    return {"encoding": {"t": options}, "engine": "netcdf4"}


def test_damage_within_a_file_is_of_its_step_alone(tmp_path: Path) -> None:
    paths = [put_day(tmp_path / "a", k, **compressed()) for k in range(3)]
    damage_last_step(paths[1])
    repository = make_repository(tmp_path / "r", tmp_path / "a")
    variable = repository.settings.variable("t")
    with open_source(spec(tmp_path / "a"), repository.memory) as dataset:
        steps, _ = chunk_sizes(dataset, variable)
        assert steps == 1
        for k in range(12):
            cells = (slice(None), slice(None))
            if k == 7:
                with pytest.raises(Unreadable, match=r"t at time indices \[7\]"):
                    read_states(dataset, variable, [k], cells)
            else:
                found = read_states(dataset, variable, [k], cells)[0]
                np.testing.assert_array_equal(found, day(k // 4).t.values[k % 4])


@pytest.mark.parametrize("how", ["removed", "replaced", "grown"])
def test_a_file_that_changes_while_it_is_read_is_left_out(
    how: str, repository: Repository, folder: Path
) -> None:
    variable = repository.settings.variable("t")
    cells = (slice(None), slice(None))
    with open_source(spec(folder), repository.memory) as dataset:
        read_states(dataset, variable, [8], cells)
        path = folder / "day002.nc"
        if how == "removed":
            path.unlink()
        elif how == "replaced":
            os.replace(put(folder / "new", day(2, seed=3)), path)
        else:
            with open(path, "ab") as file:
                file.write(b"more")
        with pytest.raises(Unreadable, match=r"day002\.nc"):
            read_states(dataset, variable, [9], cells)
        read_states(dataset, variable, [3, 12], cells)


@pytest.mark.parametrize(("sizes", "within"), [((4, 4, 4), 4), ((4, 3, 4), 1), ((8, 4, 2), 4)])
def test_steps_that_are_read_together_are_of_one_file(
    sizes: tuple[int, ...], within: int, tmp_path: Path
) -> None:
    whole = xr.concat([day(k) for k in range(5)], "time", data_vars="minimal")
    start = 0
    for k, size in enumerate(sizes):
        part = whole.isel(time=slice(start, start + size))
        chunks = {"encoding": {"t": {"zlib": True, "chunksizes": (min(4, size), 5, 6)}}}
        put(tmp_path / "a" / f"{k}.nc", part, engine="netcdf4", **chunks)
        start += size
    repository = make_repository(tmp_path / "r", tmp_path / "a")
    with open_source(spec(tmp_path / "a")) as dataset:
        assert chunk_sizes(dataset, repository.settings.variable("t"))[0] == within


def test_the_source_is_only_read(folder: Path, repository: Repository) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    with open_source(spec(folder), repository.memory) as dataset:
        dataset.load()
    assert before == {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_a_file_that_is_left_out_for_a_moment_shifts_no_other(
    folder: Path,
) -> None:
    repository = make_repository(folder.parent / "r", folder)
    plan = plan_capture(repository, until=parse("2024-01-03", repository.settings.calendar))
    assert plan is not None
    path = folder / "day001.nc"
    status, content = path.stat(), path.read_bytes()
    path.write_bytes(content[:100])
    with pytest.raises(Moved, match="while it was read"):
        capture(repository, plan, serial)
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    refuse_moved(repository, plan)  # afterwards nothing is amiss
    repository = capture_new(repository)
    assert_same(history(repository), mfdataset([*folder.iterdir()]))


def test_a_source_that_ended_meanwhile_has_moved(folder: Path, repository: Repository) -> None:
    variable, cells = repository.settings.variable("t"), (slice(None), slice(None))
    with open_source(spec(folder), repository.memory) as dataset:
        for positions in ([14, 15, 16], [15, 16]):
            with pytest.raises(Moved, match="time index 16"):
                read_states(dataset, variable, positions, cells)


def test_files_that_differ_alike_are_not_opened_one_by_one(
    folder: Path, repository: Repository, opened: list[str]
) -> None:
    for k in range(4, 9):
        put(folder / f"day{k:03d}.nc", day(k).assign(mask=day(k).mask + 1))
    with open_source(spec(folder), repository.memory) as dataset:
        assert "5 files" in "\n".join(source_notes(dataset))
    opened.clear()
    with open_source(spec(folder), repository.memory):
        assert sum(name >= "day004" for name in opened) == 1


@pytest.mark.parametrize("call", ["scandir", "stat"])
def test_a_folder_that_cannot_be_read_is_no_crash(
    call: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(folder))

    monkeypatch.setattr(os, call, fails)
    with pytest.raises(Unavailable, match="ermission denied"):
        open_source(pinned(spec(folder)))


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"flag_meanings": "bad good"}, "flag_meanings of"),
        ({"standard_name": "sea_surface_temperature"}, "standard_name of"),
        ({"standard_name": None}, ""),
        ({"units": "kelvin"}, ""),
        ({"comment": "another"}, ""),
    ],
)
def test_a_file_whose_values_mean_something_else_is_left_out(
    tmp_path: Path, attributes: dict[str, str | None], reason: str
) -> None:
    told = {"units": "K", "standard_name": "air_temperature", "flag_meanings": "good bad"}
    for k in range(4):
        dataset = day(k)
        name = next(n for n in dataset.data_vars if dataset[n].ndim == 3)
        now = {**told, **(attributes if k == 3 else {})}
        dataset[name].attrs = {n: v for n, v in now.items() if v is not None}
        put(tmp_path / "a" / f"{k}.nc", dataset)
    said = notes(tmp_path / "a")
    with open_source(spec(tmp_path / "a")) as dataset:
        steps = day(0).sizes["time"]
        assert dataset.sizes["time"] == (3 if reason else 4) * steps
    assert ("3.nc" in said and reason in said) if reason else "left out" not in said
