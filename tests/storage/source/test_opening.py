"""Captured planes equal their source bit for bit, whatever kind of source it is."""

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from gnomon.storage.care.check import check
from gnomon.storage.errors import GnomonError, InvalidInput, NotFound
from gnomon.storage.repository import Repository
from gnomon.storage.serve.planes import Plane
from gnomon.storage.serve.view import raw_dataset
from gnomon.storage.source.opening import open_source
from gnomon.storage.source.timeaxis import read_axis
from gnomon.storage.source.unchanged import check_frame, check_unchanged
from gnomon.storage.values.model import SourceSpec
from gnomon.storage.values.times import decode, encode, format_instant, parse
from tests.storage.building import (
    assert_identical,
    capture_new,
    captured,
    history,
    make_repository,
    undecoded,
    weather,
    write_zarr,
)


def rich(steps: int = 3) -> xr.Dataset:
    """Return a dataset with the oddities of real ones; netCDF-3 types only."""
    base = weather(steps)
    y, x = np.mgrid[0:6, 0:10].astype(np.float64)
    shape = (6, steps, 10)
    odd = np.arange(np.prod(shape), dtype=np.float64).reshape(shape)
    odd[0, 0, :4] = [-0.0, np.inf, -np.inf, np.nan]
    time = np.arange(steps)
    kept = base.drop_vars("wet")
    return kept.assign(
        {
            "middle": (("y", "time", "x"), odd, {"units": "1"}),
            "counts": (("time", "y"), np.arange(steps * 6, dtype=np.int32).reshape(steps, 6)),
            "series": ("time", np.arange(steps, dtype=np.float32) + 0.5),
            "lat2d": (("y", "x"), y * 2, {"units": "degrees_north"}),
            "lon2d": (("y", "x"), x * 2, {"units": "degrees_east"}),
            "crs": ((), np.int32(7), {"grid_mapping_name": "latitude_longitude"}),
            "time_bnds": (("time", "bnds"), np.stack([time, time + 1], -1).astype(np.float64)),
        }
    ).assign_attrs(history="made, twice", number=np.float64(0.1))


def with_types(steps: int = 3) -> xr.Dataset:
    """Add what only Zarr and netCDF-4 hold: more types, strings."""
    base = rich(steps)
    wet = weather(steps)["wet"]
    big = np.array([2**64 - 1, 0, 2**63] * steps, np.uint64).reshape(steps, 3)
    names = np.array(["Oslo", "", "S\u00e3o Paulo"], dtype=object)
    return base.assign(
        {
            "wet": wet,
            "big": (("time", "station"), big),
            "name": ("station", names, {"long_name": "station"}),
        }
    )


def for_zarr(steps: int = 3) -> xr.Dataset:
    base = with_types(steps)
    cells = np.arange(steps * 6).reshape(steps, 6)
    return base.assign(
        {
            "half": (("time", "y"), cells.astype(np.float16)),
            "label": ("y", np.array(["a", "bb", "ccc", "d", "e", "f"])),
        }
    )


def assert_exact(repository: Any, wanted: xr.Dataset) -> None:
    assert_identical(history(repository), wanted)
    assert check(repository, read_data=True).problems == ()


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("fill", [None, -5.0, np.nan])
def test_zarr(zarr_format: int, fill: float | None, tmp_path: Path) -> None:
    dataset = for_zarr()
    if fill is not None:
        dataset["middle"].attrs["_FillValue"] = fill
    dataset["series"].attrs["missing_value"] = 0.5
    source = write_zarr(dataset, tmp_path / "s.zarr", zarr_format=zarr_format)
    repository = captured(tmp_path / "r", source)
    assert_exact(repository, undecoded(source))
    decoded = xr.decode_cf(history(repository)).load()
    xr.testing.assert_identical(decoded, xr.decode_cf(undecoded(source)))


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_zarr_written_without_xarray(zarr_format: Any, tmp_path: Path) -> None:
    """Booleans as they are, big-endian numbers, chunks that were never written."""
    import zarr

    path = tmp_path / "s.zarr"
    group = zarr.create_group(path, zarr_format=zarr_format)
    rng = np.random.default_rng(0)

    def add(name: str, values: Any, dims: list[str], dtype: Any = None, **options: Any) -> Any:
        values = np.asarray(values)
        named: dict[str, Any] = {"dimension_names": dims} if zarr_format == 3 else {}
        array = group.create_array(
            name, shape=values.shape, dtype=dtype or values.dtype, **named, **options
        )
        array[...] = values
        if zarr_format == 2:
            array.attrs["_ARRAY_DIMENSIONS"] = dims
        return array

    add("time", np.arange(3), ["time"]).attrs["units"] = "days since 2001-01-01"
    add("flag", rng.random((3, 4, 5)) > 0.5, ["time", "y", "x"])
    add("be", rng.normal(size=(3, 4, 5)), ["time", "y", "x"], dtype=">f4", chunks=(1, 2, 2))
    add("be_int", rng.integers(-9, 9, (3, 4)), ["time", "y"], dtype=">i2", fill_value=3)
    holes = add("holes", np.full((3, 4), 9.0), ["time", "y"], chunks=(1, 2), fill_value=9.0)
    holes[1] = 1.0
    repository = captured(tmp_path / "r", path)
    found, wanted = history(repository), undecoded(path)
    assert found["be"].dtype == np.dtype("<f4")
    assert found["flag"].dtype == wanted["flag"].dtype
    assert_exact(repository, wanted)


@pytest.mark.parametrize(
    ("engine", "options"),
    [
        ("scipy", {"format": "NETCDF3_64BIT"}),
        ("netcdf4", {"format": "NETCDF3_CLASSIC"}),
        ("netcdf4", {"format": "NETCDF4"}),
        ("h5netcdf", {}),
    ],
)
def test_netcdf(engine: Any, options: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip({"netcdf4": "netCDF4", "h5netcdf": "h5py"}.get(engine, engine))
    plain = options.get("format", "").startswith("NETCDF3")
    dataset = rich() if plain else with_types()
    scale = {"scale_factor": np.float32(0.02), "add_offset": np.float32(1.0)}
    dataset["p"].attrs = {"_FillValue": np.int16(-32768), **scale}
    dataset["t"].attrs["valid_range"] = np.array([-90, 90], np.float32)
    path = tmp_path / "s.nc"
    dataset.to_netcdf(path, engine=engine, **options)
    repository = captured(tmp_path / "r", path, engine=engine)
    assert_exact(repository, undecoded(path))
    decoded = xr.decode_cf(history(repository)).load()
    xr.testing.assert_identical(decoded, xr.decode_cf(undecoded(path)))
    assert decoded["p"].dtype == xr.decode_cf(undecoded(path))["p"].dtype


def test_character_arrays_of_netcdf(tmp_path: Path) -> None:
    dataset = weather(2).drop_vars("wet")
    dataset["who"] = ("y", np.array([b"ab", b"c", b"", b"d", b"e", b"f"]))
    dataset.to_netcdf(tmp_path / "s.nc", engine="netcdf4")
    repository = captured(tmp_path / "r", tmp_path / "s.nc")
    assert_exact(repository, undecoded(tmp_path / "s.nc"))


def test_icechunk(tmp_path: Path) -> None:
    icechunk = pytest.importorskip("icechunk")
    made = icechunk.Repository.create(icechunk.local_filesystem_storage(str(tmp_path / "ice")))
    session = made.writable_session("main")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for_zarr().to_zarr(session.store, consolidated=False, zarr_format=3)
    session.commit("three states")
    repository = captured(tmp_path / "r", tmp_path / "ice")
    assert_exact(repository, undecoded(tmp_path / "ice"))


@pytest.mark.parametrize("calendar", ["360_day", "noleap", "proleptic_gregorian", None])
def test_calendars(calendar: str | None, tmp_path: Path) -> None:
    dataset = weather(3)
    attributes = {"units": "days since 2000-02-28"}
    dataset["time"].attrs = attributes | ({"calendar": calendar} if calendar else {})
    source = write_zarr(dataset, tmp_path / "s.zarr")
    repository = captured(tmp_path / "r", source)
    assert_exact(repository, undecoded(source))
    second = format_instant(repository.captured[1].instant, repository.settings.calendar)
    assert second[:10] == {"noleap": "2000-03-01"}.get(str(calendar), "2000-02-29")
    xr.testing.assert_identical(
        xr.decode_cf(history(repository)).load(), xr.decode_cf(undecoded(source))
    )


def test_a_state_source_with_a_time_that_moves(tmp_path: Path) -> None:
    source = tmp_path / "s.zarr"
    repository = None
    for k in range(2):
        state = weather(1, first=k).isel(time=0)
        write_zarr(state, source, mode="w")
        if repository is None:
            repository = make_repository(tmp_path / "r", source)
            assert repository.settings.source.kind == "state"
        repository = capture_new(repository, now=k * 1000)
    assert repository is not None
    for k in range(2):
        found = raw_dataset(repository, (Plane(0, step=k),), plain=True)
        assert int(found["time"]) == k
    assert_identical(found, undecoded(source))


def test_a_predicted_time_is_encoded_like_the_source(repository_path: Path) -> None:
    repository = Repository.open(str(repository_path))
    shadow = repository.shadows[0]
    plane = Plane(shadow.instants[1], shadow=shadow.id, lead=2)
    found = raw_dataset(repository, (plane,))
    assert found["time"].values.tolist() == [5]
    assert found["time"].dtype == np.int64


CHANGES: dict[str, Callable[[xr.Dataset], xr.Dataset]] = {
    "variable": lambda d: d.drop_vars("t"),
    "dims": lambda d: d.assign(t=d["t"].rename(y="x", x="y").isel(x=slice(6))),
    "type": lambda d: d.assign(t=d["t"].astype("f8")),
    "scale of 0": lambda d: d.assign(p=d["p"].assign_attrs(scale_factor=0.0)),
    "no scale": lambda d: d.assign(p=d["p"].assign_attrs(scale_factor="small")),
    "no offset": lambda d: d.assign(p=d["p"].assign_attrs(add_offset=np.nan)),
    "axis": lambda d: d.assign(t=d["t"].transpose("y", "time", "x")),
    "no time": lambda d: d.assign(t=d["t"].isel(time=0, drop=True)),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_source_that_changed_is_refused(
    what: str, repository_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Repository.open(str(repository_path)).settings
    dataset = undecoded(settings.source.url)
    check_unchanged(dataset, settings)
    with pytest.raises(InvalidInput, match="--new-era"):
        check_unchanged(CHANGES[what](dataset), settings)


@pytest.mark.parametrize(
    "attributes",
    [
        {"units": "hours since 2000-01-01", "calendar": "noleap"},
        {"units": "metres", "calendar": "standard"},
        {"calendar": "standard"},
    ],
)
def test_a_time_coordinate_that_changed_is_refused(attributes: Any, repository_path: Path) -> None:
    settings = Repository.open(str(repository_path)).settings
    dataset = undecoded(settings.source.url)
    assert read_axis(dataset, settings).instants.size == 4
    time = dataset["time"].copy()
    time.attrs = attributes
    with pytest.raises(InvalidInput, match="time coordinate"):
        read_axis(dataset.assign_coords(time=time), settings)


@pytest.mark.parametrize("dtype", ["<f8", ">i4", "<i8"])
@pytest.mark.parametrize(
    ("calendar", "units"),
    [
        ("standard", "minutes since 2001-02-03 04:00"),
        ("Gregorian", "days since 1999-12-31"),
        ("proleptic_gregorian", "hours since 2000-01-01"),
        ("standard", "h since 2000-01-01T00:00:00Z"),
    ],
)
def test_times_are_the_same_in_whatever_form(
    calendar: str, units: str, dtype: str, repository_path: Path
) -> None:
    settings = Repository.open(str(repository_path)).settings
    dataset = undecoded(settings.source.url)
    times = read_axis(dataset, settings).instants
    raw = encode(times.tolist(), units, calendar.lower(), np.dtype(dtype)).astype(dtype)
    time = xr.Variable("time", raw, {"units": units, "calendar": calendar})
    if not np.array_equal(decode(raw, units, calendar.lower()), times):
        pytest.skip("an integer cannot tell these")
    other = dataset.assign_coords(time=time)
    np.testing.assert_array_equal(read_axis(other, settings).instants, times)
    chosen = np.array([3, 1])
    told = read_axis(other, settings).told(settings, chosen)
    assert told.dtype.str == settings.time_dtype
    np.testing.assert_array_equal(told, dataset["time"].values[chosen])


def test_counts_of_another_calendar_are_told_in_that_of_init(repository_path: Path) -> None:
    """From a day before 1582 the calendars count to the same date by two days more or less."""
    settings = Repository.open(str(repository_path)).settings
    old = {"units": "hours since 0001-01-01", "calendar": "standard"}
    settings = replace(settings, time_attributes=old)
    dataset = undecoded(settings.source.url)
    times = np.array([parse(f"2000-01-01T0{hour}", "standard") for hour in range(4)])
    here = encode(times.tolist(), old["units"], "standard", np.dtype("<i8"))
    there = encode(times.tolist(), old["units"], "proleptic_gregorian", np.dtype("<i8"))
    assert {a - b for a, b in zip(here.tolist(), there.tolist(), strict=True)} == {48}
    time = xr.Variable("time", there, old | {"calendar": "proleptic_gregorian"})
    other = dataset.assign_coords(time=time)
    np.testing.assert_array_equal(read_axis(other, settings).instants, times)
    told = read_axis(other, settings).told(replace(settings, time_dtype="<i8"), np.arange(4))
    np.testing.assert_array_equal(told, here)


def test_times_that_the_units_of_init_cannot_tell_are_refused(repository_path: Path) -> None:
    settings = Repository.open(str(repository_path)).settings
    dataset = undecoded(settings.source.url)
    half = xr.Variable("time", np.arange(4) * 30, {"units": "minutes since 2000-01-01"})
    half.attrs["calendar"] = settings.calendar
    other = dataset.assign_coords(time=half)
    axis = read_axis(other, settings)
    assert axis.told(settings, np.array([2])).tolist() == [1]
    with pytest.raises(
        InvalidInput, match=r"minutes since.*not all of them can be written.*--new-era"
    ):
        axis.told(settings, np.array([1]))


ROUNDED: dict[str, Callable[[Any], Any]] = {
    "the last digit": lambda v: np.nextafter(v, 1e9),
    "single precision": lambda v: v.astype("f4"),
}
MOVED: dict[str, Callable[[Any], Any]] = {
    "another grid": lambda v: v + 1e-3,
    "one cell": lambda v: np.where(np.arange(v.size) == 1, v + 0.5, v),
    "upside down": lambda v: v[::-1],
    "less": lambda v: v[:-1],
    "text": lambda v: v.astype(str),
    "a gap": lambda v: np.where(np.arange(v.size) == 1, np.nan, v),
}


@pytest.mark.parametrize("how", ROUNDED)
def test_a_coordinate_that_is_rounded_differently_is_the_same(how: str) -> None:
    before = np.linspace(50.0, 60.0, 24)
    frame = xr.Dataset(coords={"lat": before})
    assert check_frame(frame, frame) == ()
    (note,) = check_frame(frame, xr.Dataset(coords={"lat": ROUNDED[how](before)}))
    assert "'lat'" in note
    assert "rounding" in note


@pytest.mark.parametrize("how", MOVED)
def test_a_coordinate_that_moved_is_refused(how: str) -> None:
    before = np.linspace(50.0, 60.0, 24)
    frame = xr.Dataset(coords={"lat": before})
    with pytest.raises(InvalidInput, match=r"'lat'.*--new-era"):
        check_frame(frame, xr.Dataset(coords={"lat": MOVED[how](before)}))


def test_fixed_integers_must_be_equal() -> None:
    frame = xr.Dataset(coords={"band": ("band", np.arange(4, dtype="<i4"))})
    wider = xr.Dataset(coords={"band": ("band", np.arange(4, dtype="<i8"))})
    assert len(check_frame(frame, wider)) == 1
    with pytest.raises(InvalidInput, match="'band'"):
        check_frame(frame, xr.Dataset(coords={"band": ("band", np.arange(1, 5))}))


def test_what_cannot_be_opened(tmp_path: Path, repository_path: Path) -> None:
    with pytest.raises(NotFound, match="does not exist"):
        open_source(SourceSpec(str(tmp_path / "none"), "append"))
    (tmp_path / "x.nc").write_bytes(b"not netCDF at all")
    with pytest.raises(GnomonError):
        open_source(SourceSpec(str(tmp_path / "x.nc"), "append"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(GnomonError):
        open_source(SourceSpec(str(tmp_path / "empty"), "append"))
    with pytest.raises(InvalidInput, match="Gnomon repository"):
        open_source(SourceSpec(str(repository_path), "append"))
    with pytest.raises(NotFound, match="engine"):
        open_source(SourceSpec(str(tmp_path / "x.nc"), "append", engine="nonsense"))


def test_file_urls_open(tmp_path: Path) -> None:
    source = write_zarr(weather(2), tmp_path / "s.zarr")
    weather(2).to_netcdf(tmp_path / "s.nc")
    for path in (source, tmp_path / "s.nc"):
        with open_source(SourceSpec(f"file://{path}", "append")) as dataset:
            assert dataset.sizes["time"] == 2
