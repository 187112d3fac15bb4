"""Time axes in whatever form, and dimensions of which nothing tells the times."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr

from gnomon.storage.changes.era import begin_era
from gnomon.storage.errors import InvalidInput, NotFound
from gnomon.storage.repository import Repository
from gnomon.storage.source.axes import Counting
from gnomon.storage.source.describing import Contents, describe
from gnomon.storage.values.model import RepositorySettings, SourceSpec
from gnomon.storage.values.times import format_instant
from gnomon.tasks.restoring.points import points
from gnomon.tasks.restoring.restore import restore
from gnomon.tasks.restoring.states import States
from tests.storage.building import (
    WHEN,
    assert_identical,
    capture_new,
    history,
    make_repository,
    undecoded,
    weather,
    write_zarr,
)

SPEC = SourceSpec("s", "append")
HOURLY = {"interval_s": 3600.0, "start": "2024-03-01T00"}


def timed(raw: Any, attributes: dict[str, Any] | None = None, name: str = "time") -> xr.Dataset:
    """Return the small dataset with another time coordinate."""
    base = weather(len(raw)).drop_vars("time")
    time = xr.Variable(("time",), np.asarray(raw), attributes or {})
    return base.assign_coords({name: time})


def write_plain(dataset: xr.Dataset, path: Path, zarr_format: Any) -> Path:
    """Write a dataset with Zarr alone, so that types stay as they are."""
    group = zarr.create_group(path, zarr_format=zarr_format)
    for name, variable in dataset.variables.items():
        dims = list(map(str, variable.dims))
        named: dict[str, Any] = {"dimension_names": dims} if zarr_format == 3 else {}
        attributes = {k: v for k, v in variable.attrs.items() if k != "_FillValue"}
        values = np.asarray(variable.values)
        array = group.create_array(str(name), shape=values.shape, dtype=values.dtype, **named)
        array[...] = values
        array.attrs.update(attributes | ({"_ARRAY_DIMENSIONS": dims} if zarr_format == 2 else {}))
    return path


def isoformats(repository: Repository) -> list[str]:
    calendar = repository.settings.calendar
    return [format_instant(s.instant, calendar) for s in repository.timeline]


def grown(path: Path, place: Path, pieces: list[xr.Dataset], **options: Any) -> Repository:
    """Return a repository after an update for each state of a source that grows."""
    repository = None
    for dataset in pieces:
        write_plain(dataset, place, 3) if not place.exists() else _replace(dataset, place)
        repository = repository or make_repository(path, place, **options)
        repository = capture_new(repository)
    assert repository is not None
    return Repository.open(str(path))


def _replace(dataset: xr.Dataset, place: Path) -> None:
    import shutil

    shutil.rmtree(place)
    write_plain(dataset, place, 3)


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("order", ["<", ">"])
def test_datetimes_come_back_as_they_are(
    unit: str, zarr_format: int, order: str, tmp_path: Path
) -> None:
    raw = np.array(["2024-03-01T00", "2024-03-01T06", "2024-02-29T01"], f"M8[{unit}]")
    dataset = timed(raw.astype(f"{order}M8[{unit}]"))
    source = write_plain(dataset, tmp_path / "s.zarr", zarr_format)
    repository = capture_new(make_repository(tmp_path / "r", source))
    assert repository.settings.source.kind == "append"
    assert repository.settings.time_dtype == f"<M8[{unit}]"
    assert isoformats(repository) == [
        "2024-02-29T01:00:00",
        "2024-03-01T00:00:00",
        "2024-03-01T06:00:00",
    ]
    found = history(repository)
    np.testing.assert_array_equal(found["time"].values, np.sort(raw))
    assert found["time"].dtype == raw.dtype
    assert str(found["time"].attrs) == str(undecoded(source)["time"].attrs)
    latest = repository.timeline[-1].instant
    for ending in (".zarr", ".nc"):
        states = States(repository, points(repository, latest)[:1])
        done = restore(states, str(tmp_path / f"x{ending}"), plain=True)
        with xr.open_dataset(done.target) as written:
            np.testing.assert_array_equal(written["time"].values, raw[1:2])


def test_datetimes_between_microseconds_are_kept_exactly() -> None:
    raw = np.array([-1, 1_001, 2_000_000], "M8[ns]")
    description = describe(timed(raw), SPEC)
    assert any("not whole microseconds" in note for note in description.notes)


def test_datetimes_of_later_become_what_they_were(tmp_path: Path) -> None:
    """A store that is written anew with CF units tells the same times."""
    days = np.array(["2024-03-01", "2024-03-02", "2024-03-03"], "M8[ns]")
    told = {"units": "days since 2024-03-01", "calendar": "standard"}
    states = [timed(days[:2]), timed([0, 1, 2], told)]
    repository = grown(tmp_path / "r", tmp_path / "s.zarr", states)
    assert isoformats(repository)[-1] == "2024-03-03T00:00:00"
    assert len(repository.timeline) == 3
    np.testing.assert_array_equal(history(repository)["time"].values, days)


DATES: dict[str, tuple[Any, dict[str, Any], list[str]]] = {
    "days": ([20240228, 20240229, 20240301], {}, ["2024-02-28", "2024-03-01"]),
    "days as CDO tells them": (
        [20240228.25, 20240228.5, 20240301.75],
        {"units": "day as %Y%m%d.%f"},
        ["2024-02-28T06", "2024-03-01T18"],
    ),
    "hours": ([2024022823, 2024022900], {}, ["2024-02-28T23", "2024-02-29T00"]),
    "minutes": ([202402282359, 202402290000], {}, ["2024-02-28T23:59", "2024-02-29T00"]),
    "months": ([202401, 202402], {}, ["2024-01-01", "2024-02-01"]),
    "of 360 days": (
        [20240229, 20240230],
        {"units": "day as %Y%m%d.%f", "calendar": "360_day"},
        ["2024-02-29", "2024-02-30"],
    ),
}


@pytest.mark.parametrize("what", DATES)
def test_numbers_that_are_dates_are_told(what: str, tmp_path: Path) -> None:
    raw, attributes, expected = DATES[what]
    dataset = timed(raw, attributes)
    note = " ".join(describe(dataset, SPEC).notes)
    assert "read as dates" in note
    repository = grown(tmp_path / "r", tmp_path / "s.zarr", [dataset])
    ends = isoformats(repository)[:: len(raw) - 1]
    assert [t[: len(e)] for t, e in zip(ends, expected, strict=True)] == expected
    found = history(repository)
    np.testing.assert_array_equal(found["time"].values, raw)
    assert found["time"].attrs == attributes


@pytest.mark.parametrize(
    "raw",
    [
        np.arange(4),
        np.array([20240230, 20240301]),
        np.array([20240301, 2024030112]),
        np.array([99990101, 99990102]),
        np.array([20240301.5, np.inf]),
        np.array([20240301, 20240302], np.float32),
    ],
    ids=str,
)
def test_a_time_that_nothing_tells_is_never_a_state(raw: Any) -> None:
    dataset = timed(raw)
    with pytest.raises(InvalidInput, match=r"'time'.*--interval 1h --start.*--kind state"):
        describe(dataset, SPEC)
    assert describe(dataset, SPEC, kind="state").spec.kind == "state"


@pytest.mark.parametrize("name", ["time", "Time", "ocean_time", "step", "t"])
def test_a_dimension_without_coordinate_is_never_a_state(name: str) -> None:
    dataset = weather().drop_vars(["time", "t"])
    dataset = dataset.rename_dims(time=name) if name != "time" else dataset
    with pytest.raises(InvalidInput, match=rf"'{name}'.*--start"):
        describe(dataset, SPEC)


@pytest.mark.parametrize("marks", [{"axis": "T"}, {"standard_name": "time"}])
def test_a_coordinate_that_is_marked_as_time_is_never_a_state(marks: dict[str, str]) -> None:
    dataset = weather().drop_vars("time").rename_dims(time="n")
    dataset = dataset.assign_coords(n=("n", np.arange(4), marks | {"units": "K"}))
    with pytest.raises(InvalidInput, match=r"'n'.*--start"):
        describe(dataset, SPEC)


@pytest.mark.parametrize("name", ["month", "hour", "lead_time", "bnds", "level", "dayofyear"])
def test_other_dimensions_are_states(name: str) -> None:
    dataset = weather().drop_vars("time").rename_dims(time=name)
    dataset = dataset.assign_coords({name: (name, np.arange(4))})
    assert describe(dataset, SPEC).spec.kind == "state"
    leads = dataset.rename({name: "step"})
    leads["step"].attrs["units"] = "hours"
    assert describe(leads, SPEC).spec.kind == "state"


COUNTS: dict[str, tuple[Any, dict[str, Any]]] = {
    "one by one": ([0, 1, 2, 3], {}),
    "by the model's steps": ([120, 240, 360, 480], {}),
    "as floats": ([0.5, 1.0, 1.5, 2.0], {"units": "1"}),
    "hours that are told": ([0, 1, 2, 3], {"units": "hours"}),
    "since something": ([0, 1, 2, 3], {"units": "hours since simulation start"}),
}


@pytest.mark.parametrize("what", COUNTS)
def test_counts_are_times_once_the_user_says_so(what: str, tmp_path: Path) -> None:
    raw, attributes = COUNTS[what]
    states = [timed(raw[:3], attributes), timed(raw, attributes)]
    repository = grown(tmp_path / "r", tmp_path / "s.zarr", states, **HOURLY)
    assert isoformats(repository) == [f"2024-03-01T0{k}:00:00" for k in range(4)]
    found = history(repository)
    np.testing.assert_array_equal(found["time"].values, raw)
    assert found["time"].attrs == attributes


def test_steps_without_coordinate_are_counted(tmp_path: Path) -> None:
    states = [timed(np.arange(n)).drop_vars("time") for n in (3, 4)]
    repository = grown(tmp_path / "r", tmp_path / "s.zarr", states, **HOURLY)
    assert isoformats(repository) == [f"2024-03-01T0{k}:00:00" for k in range(4)]
    found = xr.decode_cf(history(repository))
    assert found["time"].values[-1] == np.datetime64("2024-03-01T03")
    assert_identical(history(repository).drop_vars("time"), undecoded(tmp_path / "s.zarr"))


def test_counts_keep_their_meaning_in_a_new_era(tmp_path: Path) -> None:
    repository = grown(tmp_path / "r", tmp_path / "s.zarr", [timed([5, 6, 7])], **HOURLY)
    wider = timed([5, 6, 7, 8]).isel(x=slice(1, None))
    _replace(wider, tmp_path / "s.zarr")
    repository = capture_new(begin_era(repository, WHEN))
    assert isoformats(repository)[-1] == "2024-03-01T03:00:00"


@pytest.mark.parametrize(
    ("raw", "options", "text"),
    [
        ([3], HOURLY, "one step"),
        ([0, 1], {"start": "2024-03-01"}, "--interval"),
        ([0, 1], {"start": "soon", "interval_s": 60.0}, "'soon'"),
        (["a", "b"], HOURLY, "no numbers"),
    ],
)
def test_counts_that_cannot_be_times(raw: Any, options: Any, text: str) -> None:
    interval = options.get("interval_s")
    counting = Counting(options["start"], None if interval is None else round(interval * 1e6))
    with pytest.raises(InvalidInput, match=text):
        describe(timed(raw), SPEC, counting=counting)


def test_a_start_is_refused_where_times_are_told() -> None:
    counting = Counting("2024-03-01", 3_600_000_000)
    with pytest.raises(InvalidInput, match=r"already has the times.*--start"):
        describe(weather(), SPEC, counting=counting)
    with pytest.raises(InvalidInput, match="--start"):
        describe(weather(), SPEC, kind="state", counting=counting)


CF = {"units": "minutes since 2024-03-01", "calendar": "standard"}
WRF = np.array([f"2024-03-01_0{k}:00:00" for k in range(4)], "S19")


@pytest.mark.parametrize("dim", ["Time", "record", "obs"])
@pytest.mark.parametrize("form", ["", "datetime64"])
def test_times_in_a_coordinate_of_another_name(dim: str, form: str, tmp_path: Path) -> None:
    name = "XTIME" if dim == "Time" else "valid_time"
    base = weather().drop_vars("time").rename_dims(time=dim)
    minutes = np.arange(4) * 60.0
    raw = (
        np.datetime64("2024-03-01", "ns") + np.arange(4) * np.timedelta64(3600, "s")
        if form
        else minutes
    )
    dataset = base.assign_coords({name: (dim, raw, {} if form else CF)})
    repository = grown(
        tmp_path / "r", tmp_path / "s.zarr", [dataset.isel({dim: slice(3)}), dataset]
    )
    source = repository.settings.source
    assert (source.kind, source.time, source.coordinate) == ("append", dim, name)
    assert isoformats(repository) == [f"2024-03-01T0{k}:00:00" for k in range(4)]
    assert_identical(history(repository), undecoded(tmp_path / "s.zarr"))


@pytest.mark.parametrize("what", ["letters", "text", "fixed", "netcdf"])
def test_times_as_text(what: str, tmp_path: Path) -> None:
    base = weather().drop_vars(["time", "wet"]).rename_dims(time="Time")
    if what == "letters":
        base["Times"] = (("Time", "DateStrLen"), WRF.view("S1").reshape(4, 19))
    elif what == "text":
        base["Times"] = ("Time", WRF.astype(str).astype(object))
    else:
        base["Times"] = ("Time", WRF)
    source = tmp_path / ("s.nc" if what == "netcdf" else "s.zarr")

    def write(dataset: xr.Dataset) -> None:
        if what == "netcdf":
            dataset.to_netcdf(source, format="NETCDF3_64BIT", unlimited_dims=["Time"])
        else:
            write_zarr(dataset, source, zarr_format=2, mode="w")

    write(base.isel(Time=slice(3)))
    repository = capture_new(make_repository(tmp_path / "r", source))
    write(base)
    repository = capture_new(repository)
    assert repository.settings.source.coordinate == "Times"
    assert isoformats(repository) == [f"2024-03-01T0{k}:00:00" for k in range(4)]
    found = history(repository)
    assert xr.decode_cf(found)["Time"].values[1] == np.datetime64("2024-03-01T01")
    assert_identical(found.drop_vars("Time"), undecoded(source))


def test_text_that_is_named_as_the_dimension(tmp_path: Path) -> None:
    dataset = timed(np.array(["2024-03-01", "2024-03-02"], object))
    source = write_zarr(dataset, tmp_path / "s.zarr")
    repository = capture_new(make_repository(tmp_path / "r", source))
    assert isoformats(repository) == ["2024-03-01T00:00:00", "2024-03-02T00:00:00"]
    found = history(repository)
    assert found["time"].values.tolist() == ["2024-03-01", "2024-03-02"]
    assert "units" in found["valid_time"].attrs


def test_dates_in_a_table_are_no_axis() -> None:
    """Stations have dates of installation; a source does not grow along them."""
    dataset = weather().isel(time=0, drop=True)
    dataset["installed"] = ("y", np.arange(6.0), {"units": "days since 1990-01-01"})
    assert describe(dataset, SPEC).spec.kind == "state"
    table = dataset.drop_vars("y")
    assert describe(table, SPEC).spec.kind == "state"
    last = table.assign(time=("y", [5.0, 3, 4, 1, 2, 0], {"units": "days since 1990-01-01"}))
    assert describe(last, SPEC).spec.kind == "state"
    twice = table.assign(date=("y", np.zeros(6), {"units": "days since 1990-01-01"}))
    assert describe(twice, SPEC).spec.kind == "state"


def two_axes() -> xr.Dataset:
    """Return hourly fields, and a daily one of the same source."""
    dataset = weather()
    days = xr.Variable("time_daily", np.arange(2), {"units": "days since 2000-01-01"})
    return dataset.assign_coords(time_daily=days).assign(
        daily=(("time_daily", "y", "x"), np.ones((2, 6, 10))),
        daily_bnds=(("time_daily", "n"), np.ones((2, 2))),
    )


def names(description: Contents) -> set[str]:
    return {v.name for v in description.variables}


def test_the_axis_with_the_most_variables_is_taken_and_the_others_are_told() -> None:
    description = describe(two_axes(), SPEC)
    assert description.spec.time == "time"
    assert names(description) == {"t", "p", "wet"}
    assert set(description.skipped) == {"daily", "daily_bnds", "time_daily"}
    assert "--time time_daily" in description.skipped["daily"]
    assert "time_daily" not in description.frame
    assert "time_daily" in " ".join(description.notes)
    other = describe(two_axes(), SourceSpec("s", "append", "time_daily"))
    assert names(other) == {"daily", "daily_bnds"}
    assert "--time time" in other.skipped["t"]
    fewer = describe(two_axes().drop_vars(["t", "p", "wet"]), SPEC)
    assert fewer.spec.time == "time_daily"
    with pytest.raises(InvalidInput, match="--time time_daily"):
        describe(two_axes(), SPEC, names=("daily",))


def test_a_dimension_of_the_grid_may_tell_times(tmp_path: Path) -> None:
    """Forecasts lie along reference time and lead, or valid time: these are cells of a state."""
    for name, attributes in (("step", {}), ("valid", {"units": "days since 2000-01-01"})):
        dataset = weather().rename(y=name, time="init_time")
        dataset[name] = (name, np.arange(6), attributes)
        description = describe(dataset, SPEC)
        assert description.spec.time == "init_time"
        assert name in description.frame
        assert description.skipped == {}


def test_of_several_coordinates_the_others_are_told() -> None:
    base = weather().drop_vars("time").rename_dims(time="record")
    dataset = base.assign(
        analysis_time=("record", np.arange(4), CF), valid_time=("record", np.arange(4) + 6, CF)
    )
    description = describe(dataset, SPEC)
    assert description.spec.coordinate == "valid_time"
    assert "--time analysis_time" in " ".join(description.notes)
    dataset["analysis_time"].attrs["standard_name"] = "time"
    assert describe(dataset, SPEC).spec.coordinate == "analysis_time"


def test_model_steps_beside_a_coordinate_of_times() -> None:
    dataset = weather().assign_coords(time=("time", np.arange(4) * 120))
    dataset["valid_time"] = ("time", np.arange(4), CF)
    assert describe(dataset, SPEC).spec.coordinate == "valid_time"


def test_an_axis_without_times_is_left_out_beside_one_with_times() -> None:
    dataset = weather()
    dataset["fast"] = (("step", "y"), np.ones((3, 6)))
    description = describe(dataset, SPEC)
    assert "--time step --interval" in description.skipped["fast"]
    other = describe(
        dataset, SourceSpec("s", "append", "step"), counting=Counting("2000-01-01", 1_000_000)
    )
    assert names(other) == {"fast"}


def test_an_axis_is_named_by_dimension_or_coordinate() -> None:
    base = weather().drop_vars("time").rename_dims(time="n")
    dataset = base.assign(a=("n", np.arange(4), CF), b=("n", np.arange(4) + 1, CF))
    assert describe(dataset, SPEC).spec.kind == "state"
    for name in ("a", "b"):
        spec = describe(dataset, SourceSpec("s", "append", name)).spec
        assert (spec.kind, spec.time, spec.coordinate) == ("append", "n", name)
    with pytest.raises(InvalidInput, match=r"a, b.*--time"):
        describe(dataset, SourceSpec("s", "append", "n"))
    one = describe(dataset.drop_vars("b"), SourceSpec("s", "append", "n")).spec
    assert one.coordinate == "a"
    with pytest.raises(NotFound, match=r"'none'.*n, y, x"):
        describe(dataset, SourceSpec("s", "append", "none"))


def test_why_is_told() -> None:
    assert "'time'" in describe(weather(), SPEC).reason
    assert describe(weather(), SPEC).reason.startswith("append")
    assert describe(weather().isel(time=0), SPEC).reason.startswith("state")
    assert "must not grow" in describe(weather(), SPEC, kind="state").reason
    dataset = weather().drop_vars("time").rename_dims(time="n")
    dataset.encoding["unlimited_dims"] = {"n"}
    assert "unlimited" in describe(dataset, SPEC).notes[0]


def test_settings_of_before_have_no_form() -> None:
    settings = RepositorySettings(SourceSpec("s", "append", "time"), (), "", "", {})
    data = settings.to_json()
    del data["time_form"]
    for name in ("coordinate", "branch", "tag", "snapshot"):
        del data["source"][name]
    assert RepositorySettings.from_json(data) == settings
