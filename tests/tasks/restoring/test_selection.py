"""A part of a state: the region itself, and nothing read, verified or healed beyond it."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import gnomon
from gnomon.engine import GnomonBackendEntrypoint
from gnomon.repository import GnomonRepository
from gnomon.storage.arrays.shards import Shards
from gnomon.storage.errors import GnomonError, Integrity, InvalidInput, NotFound
from gnomon.storage.serve.planes import PROVENANCE
from gnomon.tasks.restoring.selection import Wanted
from tests import sources
from tests.cases import DAMAGED, HISTORY, Case
from tests.storage.building import capture_new, make_repository

DAY = "2001-01-10"
NEXT = "2001-01-25"
STATE = slice(9, 10)


def same(found: xr.Dataset, expected: xr.Dataset) -> None:
    xr.testing.assert_identical(found.load(), expected.load())


# Which cells ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("region", "cells"),
    [
        ("lat=-20:20", {"lat": slice(2, 6)}),
        ("lat=20:-20", {"lat": slice(2, 6)}),
        ("lat=-25:-5,lon=10:20", {"lat": slice(1, 4), "lon": slice(2, 5)}),
        ({"lat": (None, -5), "lon": 55}, {"lat": slice(0, 4), "lon": slice(11, 12)}),
        (["lat=5:", "lon=10"], {"lat": slice(4, 8), "lon": slice(2, 3)}),
        ({"lon": slice(350, 10)}, {"lon": slice(0, 3)}),
        ("lon=-5:5", {"lon": slice(0, 2)}),
    ],
)
def test_a_region_is_that_part_of_the_source(grown: Case, region: Any, cells: Any) -> None:
    """An end left out, an order that matters, a coordinate or bounds cut in another way."""
    found = grown.open().dataset(DAY, region=region, decode=False)
    same(found, sources.raw(grown.source).isel(time=STATE, **cells))


@pytest.mark.parametrize("ending", [".zarr", ".nc"])
def test_a_region_is_restored_as_it_is_opened(grown: Case, ending: str) -> None:
    options: dict[str, Any] = {"region": "lat=-25:15,lon=20:50"}
    target = grown.folder / f"region{ending}"
    done = grown.open().restore(DAY, str(target), **options)
    expected = sources.raw(grown.source).isel(time=STATE, lat=slice(1, 6), lon=slice(4, 11))
    found = sources.raw(target)
    for name, variable in expected.variables.items():
        assert sources.bits(found[name].values) == sources.bits(variable.values), name
        sources.assert_same_attributes(found[name].attrs, variable.attrs)
    assert set(found.variables) == set(expected.variables)
    assert done.point.kind == "captured"
    same(xr.open_dataset(grown.place, engine=GnomonBackendEntrypoint, at=DAY, **options),
         xr.decode_cf(expected))  # fmt: skip


def test_a_chunk_is_the_region_that_it_covers(grown: Case) -> None:
    raw = sources.raw(grown.source).isel(time=STATE)
    opened = grown.open()
    for chunk in ((1, 2), "1,2", "sst:1,2", ["1,2"]):
        found = opened.dataset(DAY, chunk=chunk, decode=False)
        same(found, raw.isel(lat=slice(4, 8), lon=slice(8, 12)))
    found = opened.dataset(DAY, chunk=["0,0", (1, 1)], decode=False)
    same(found, raw.isel(lat=slice(0, 8), lon=slice(0, 8)))


def test_a_variable_comes_with_what_it_refers_to(grown: Case) -> None:
    found = grown.open().dataset(DAY, variable="time_bnds", decode=False)
    same(found, sources.raw(grown.source)[["time_bnds"]].isel(time=STATE))
    # The time names its bounds, so that they come along.
    found = grown.open().dataset(DAY, variable=["sst"], decode=False)
    same(found, sources.raw(grown.source).isel(time=STATE))


def globe(folder: Path, longitude: np.ndarray[Any, Any], **extra: Any) -> GnomonRepository:
    """Return a repository with one state of a field around the globe."""
    rows = np.array([30.0, 20.0, 10.0, 0.0])
    values = rows[:, None] * 1000 + longitude
    data = xr.Dataset(
        {"t": (("time", "lat", "lon", "member"), np.stack([values, -values], -1)[None])},
        coords={
            "time": ("time", [0], {"units": "days since 2001-01-01"}),
            "lat": ("lat", rows, {"units": "degrees_north"}),
            "lon": ("lon", longitude, {"units": "degrees_east"}),
            **extra,
        },
    )
    sources.write(folder / "s.zarr", data)
    repository = make_repository(folder / "r", folder / "s.zarr", chunks={"lat": 2, "lon": 8})
    capture_new(repository)
    return gnomon.open(str(folder / "r"))


@pytest.mark.parametrize(
    ("longitude", "region", "expected"),
    [
        (np.arange(0.0, 360.0, 15.0), "lon=-30:20", [330, 345, 0, 15]),
        (np.arange(0.0, 360.0, 15.0), "lon=330:20", [330, 345, 0, 15]),
        (np.arange(0.0, 360.0, 15.0), "lon=30:15", [15, 30]),
        (np.arange(-180.0, 180.0, 15.0), "lon=165:200", [165, -180, -165]),
        (np.arange(-180.0, 180.0, 15.0), "lon=315:330", [-45, -30]),
        (np.arange(345.0, -15.0, -15.0), "lon=-15:15", [15, 0, 345]),
        (np.arange(0.0, 360.0, 15.0), "lon=-180:180", [*range(0, 360, 15)]),
        (np.arange(24) * np.float32(0.1), "lon=0.3:0.7", [0.3, 0.4, 0.5, 0.6, 0.7]),
        (np.full(30, 0.1, np.float32).cumsum(dtype=np.float32), "lon=2.9:3", [2.9, 3.0]),
        (np.arange(0.0, 360.0, 15.0), "lon=-45:", [315, 330, 345]),
        (np.arange(0.0, 360.0, 15.0), "lon=:-315", [0, 15, 30, 45]),
        (np.arange(-180.0, 180.0, 15.0), "lon=330:", [*range(-30, 180, 15)]),
        (np.arange(-180.0, 180.0, 15.0), "lon=180:180", [-180]),
        (np.arange(10.0, 40.0, 15.0), "lon=-5:", [10, 25]),
    ],
)
def test_longitudes_go_around(
    longitude: Any, region: str, expected: list[float], tmp_path: Path
) -> None:
    """A seam that cuts a region in two, another convention, an end lost to rounding."""
    repository = globe(tmp_path, longitude)
    asked = f"{region},lat=10:25,member=1:1"
    found = repository.dataset("2001-01-01", region=asked)
    assert np.allclose(found.lon.values, expected)
    rows = np.array([20.0, 10.0])[:, None] * 1000
    assert np.allclose(found.t.values[0, ..., 0], -(rows + np.array(found.lon.values)))
    repository.restore("2001-01-01", str(tmp_path / "x.zarr"), region=asked)
    assert np.array_equal(sources.raw(tmp_path / "x.zarr").t.values, found.t.values)


def test_an_open_end_of_longitudes_is_not_guessed(tmp_path: Path) -> None:
    """No cell lies between the last meridian and -5 degrees, and all lie east of it."""
    with pytest.raises(InvalidInput, match=r"open at one end of lon.*from 0 to 345; give both"):
        globe(tmp_path, np.arange(0.0, 360.0, 15.0)).dataset("2001-01-01", region="lon=-5:")


def test_whole_numbers_are_told_apart_however_large_they_are(tmp_path: Path) -> None:
    station = 2**53 + np.arange(24)
    repository = globe(tmp_path, np.arange(24.0), station=("lon", station, {"units": "1"}))
    for region, count in ((f"{station[1]}", 1), (f"{station[2]}:{station[1]}", 2)):
        found = repository.dataset("2001-01-01", region=f"station={region}")
        assert found.station.values.tolist() == station[1 : 1 + count].tolist()


def test_labels_and_times_name_ends_of_a_region(tmp_path: Path) -> None:
    due = np.array(["2001-02-01", "2001-02-11", "2001-03-01"], "M8[ns]")
    data = xr.Dataset(
        {"t": (("time", "station", "due"), np.arange(12.0).reshape(1, 4, 3))},
        coords={
            "time": ("time", [0], {"units": "days since 2001-01-01"}),
            "station": ("station", ["north", "east", "south", "west"]),
            "due": ("due", due),
        },
    )
    sources.write(tmp_path / "s.zarr", data)
    capture_new(make_repository(tmp_path / "r", tmp_path / "s.zarr"))
    repository = gnomon.open(str(tmp_path / "r"))
    found = repository.dataset("2001-01-01", region="station=south:east,due=2001-02:2001-02")
    assert found.t.values.tolist() == [[[3, 4], [6, 7]]]
    found = repository.dataset("2001-01-01", region="due=2001-02-10T12:00/2001-04")
    assert found.t.values[0, 0].tolist() == [1, 2]
    with pytest.raises(InvalidInput, match=r"no cell of station is called 'up'.*north to west"):
        repository.dataset("2001-01-01", region="station=up:east")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"variable": "sss"}, NotFound, "no variable 'sss'; it has sst, time_bnds"),
        ({"region": "level=1:2"}, NotFound, "no dimension or coordinate 'level'; it has .*lat"),
        ({"region": "lat=40:50"}, InvalidInput, "no cell of lat from 40 to 50.*8 cells from -35"),
        ({"region": "lat=1:2"}, InvalidInput, "no cell of lat from 1 to 2"),
        ({"region": "nv=2:5"}, InvalidInput, "no cell of nv from 2 to 5.*2 cells from 0 to 1"),
        ({"region": "nv=0:0"}, InvalidInput, "sst have no dimension 'nv'.* they have lat, lon"),
        (
            {"region": "lat=0:9", "variable": "time_bnds"},
            InvalidInput,
            "time_bnds have no dimension 'lat'.* they have nv",
        ),
        ({"region": "lat"}, InvalidInput, "write it as lat=10:20,lon=-5:5"),
        ({"region": "lat=a:b"}, InvalidInput, "give a number"),
        ({"region": "lat=1:2:3"}, InvalidInput, "3 ends"),
        ({"region": "time=1:2"}, InvalidInput, "--from and --until"),
        ({"region": "lat=1:20,lat=2:30"}, InvalidInput, "two ranges of 'lat'"),
        ({"chunk": "2,0"}, NotFound, r"sst has no chunk 2,0; its grid has 2 x 3 chunks"),
        ({"chunk": "sst:0"}, NotFound, r"sst has no chunk 0; its grid has 2 x 3 chunks"),
        ({"chunk": "0,0,0"}, NotFound, "no chunk 0,0,0"),
        ({"chunk": "first"}, InvalidInput, "write its index on the chunk grid"),
        ({"chunk": "salt:0,0"}, NotFound, "no variable 'salt'"),
        ({"chunk": "sst:0,0", "variable": "time_bnds"}, InvalidInput, "a chunk of 'sst'"),
        ({"chunk": "0,0", "region": "lat=0:9"}, InvalidInput, "take one of them"),
    ],
)
def test_what_cannot_be_selected_is_told_in_one_line(
    grown: Case, options: dict[str, Any], error: type[GnomonError], message: str
) -> None:
    before = sources.listing(grown.folder)
    with pytest.raises(error, match=message) as caught:
        grown.open().restore(DAY, "x.zarr", **options)
    assert "\n" not in str(caught.value)
    assert sources.listing(grown.folder) == before


def test_a_curvilinear_region_is_refused_and_told_by_position(tmp_path: Path) -> None:
    rows, columns = np.meshgrid(np.arange(4.0), np.arange(6.0), indexing="ij")
    data = xr.Dataset(
        {"t": (("time", "y", "x"), rows[None], {"coordinates": "lat lon"})},
        coords={"time": ("time", [0], {"units": "days since 2001-01-01"})},
    ).assign(lat=(("y", "x"), rows + columns / 9), lon=(("y", "x"), columns))
    sources.write(tmp_path / "s.zarr", data)
    capture_new(make_repository(tmp_path / "r", tmp_path / "s.zarr"))
    repository = gnomon.open(str(tmp_path / "r"))
    with pytest.raises(InvalidInput, match=r"2 dimensions.*y \(0 to 3\), x \(0 to 5\)"):
        repository.dataset("2001-01-01", region="lat=1:2")
    found = repository.dataset("2001-01-01", region="y=1:2,x=3:4", variable="t")
    assert found.lat.values.tolist() == data.lat.values[1:3, 3:5].tolist()
    assert found.t.values.tolist() == data.t.values[:, 1:3, 3:5].tolist()


# What is read, verified and healed ------------------------------------------------------------


def chunk_reads(monkeypatch: pytest.MonkeyPatch) -> list[tuple[slice, ...]]:
    """Return the list that every read of a stored chunk joins."""
    reads: list[tuple[slice, ...]] = []
    true = Shards.read

    def read(shards: Shards, lead: int, cells: tuple[slice, ...]) -> Any:
        if len(cells) == 2:
            reads.append(cells)
        return true(shards, lead, cells)

    monkeypatch.setattr(Shards, "read", read)
    return reads


def test_only_the_chunks_of_the_region_are_read(
    grown: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = grown.open()
    reads = chunk_reads(monkeypatch)
    repository.restore(DAY, "x.zarr", region="lat=-35:-5,lon=25:35")
    assert {tuple(s.start for s in cells) for cells in reads} == {(0, 4)}


def test_damage_elsewhere_does_not_stop_a_selected_restore(tmp_path: Path) -> None:
    """Of a repository whose chunks are stored one by one, one file is damaged."""
    field = np.random.default_rng(0).normal(size=(1, 1024, 1024)).astype("f4")
    time = ("time", [0], {"units": "days since 2001-01-01"})
    data = xr.Dataset({"t": (("time", "y", "x"), field)}, coords={"time": time})
    data.to_zarr(tmp_path / "s.zarr", encoding={"t": {"chunks": (1, 512, 1024)}})
    chunks = {"y": 512, "x": 1024}
    capture_new(make_repository(tmp_path / "r", tmp_path / "s.zarr", chunks=chunks))
    repository = gnomon.open(str(tmp_path / "r"))
    (hurt,) = (tmp_path / "r" / "captures").rglob("residual/c/0/1/0")
    hurt.write_bytes(hurt.read_bytes()[:-1])
    with pytest.raises(Integrity, match=r"chunk \(1, 0\)"):
        repository.restore("2001-01-01", str(tmp_path / "whole.zarr"))
    repository.restore("2001-01-01", str(tmp_path / "part.zarr"), chunk=(0, 0))
    found = sources.raw(tmp_path / "part.zarr").t.values
    assert sources.bits(found) == sources.bits(field[:, :512])


def test_a_state_is_exact_where_nothing_is_suspect(damaged: Case) -> None:
    """No estimate needs to be accepted, and nothing is marked, where all cells were captured."""
    repository = damaged.open()
    with pytest.raises(InvalidInput, match="--accept-predicted"):
        repository.dataset(NEXT)
    found = repository.dataset(NEXT, chunk="1,0", decode=False)
    expected = sources.raw(damaged.source).isel(time=slice(HISTORY, HISTORY + 1))
    same(found, expected.isel(lat=slice(4, 8), lon=slice(0, 4)))
    done = repository.restore(NEXT, "x.zarr", region="lat=0:40")
    assert (done.point.kind, done.point.suspect_chunks) == ("captured", 0)
    assert "sst_provenance" not in sources.raw("x.zarr")
    same(repository.dataset(NEXT, variable="time_bnds", decode=False), expected[["time_bnds"]])


def test_only_suspect_chunks_of_the_region_are_healed(
    damaged: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = damaged.open()
    with pytest.raises(InvalidInput, match="--accept-predicted"):
        repository.dataset(NEXT, region="lat=-15:15")
    whole = repository.dataset(NEXT, accept_predicted=True)
    found = repository.dataset(NEXT, region="lat=-15:15", accept_predicted=True)
    same(found.drop_attrs(), whole.isel(lat=slice(2, 6)).drop_attrs())
    estimated = found.sst_provenance.values != PROVENANCE["captured"]
    assert estimated.sum() == 2 * 4
    (other,) = {(0, 0), DAMAGED} - {DAMAGED}
    exact = repository.dataset(NEXT, chunk=other, accept_predicted=True)
    assert "sst_provenance" not in exact


# Periods --------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [".zarr", ".nc"])
def test_a_period_is_all_its_captured_states(grown: Case, ending: str) -> None:
    raw = sources.raw(grown.source)
    target = grown.folder / f"period{ending}"
    options: dict[str, Any] = {"from_": "2001-01-05", "until": "2001-01-09", "region": "lat=0:40"}
    done = grown.open().restore(None, str(target), **options)
    expected = raw.isel(time=slice(4, 9), lat=slice(4, 8))
    found = sources.raw(target)
    for name, variable in expected.variables.items():
        assert sources.bits(found[name].values) == sources.bits(variable.values), name
    assert set(found.variables) == set(expected.variables)
    assert found.attrs == raw.attrs
    assert len(done.points) == 5
    assert "5 states from 2001-01-05" in str(done)
    found = grown.open().dataset(until="2001-01-03", decode=False)
    same(found, raw.isel(time=slice(0, 3)))
    found = grown.open().dataset(from_="2001-01-20", decode=False)
    same(found, raw.isel(time=slice(19, None)))


def test_what_is_predicted_in_a_period_is_accepted_and_marked(damaged: Case) -> None:
    repository = damaged.open()
    period: dict[str, Any] = {"from_": "2001-01-24", "until": "2001-01-26"}
    with pytest.raises(InvalidInput, match=r"2001-01-25T00:00:00 has suspect.*--accept-predicted"):
        repository.dataset(**period)
    assert repository.dataset(**period, chunk="1,0").sizes["time"] == 2
    done = repository.restore(None, "x.zarr", accept_predicted=True, **period)
    assert [point.kind for point in done.points] == ["captured", "healed", "forecast"]
    found = sources.raw("x.zarr")
    assert found.attrs["gnomon_method"] == "captured, healed, forecast"
    for position, (time, point) in enumerate(zip(found.time.values, done.points, strict=True)):
        alone = repository.dataset(
            point.valid_time, accept_predicted=True, marks=True, decode=False
        )
        assert alone.time.values[0] == time
        for name in ("sst", "sst_standard_error", "sst_provenance"):
            assert sources.bits(found[name].values[position]) == sources.bits(
                alone[name].values[0]
            ), name
    with pytest.raises(InvalidInput, match="plain"):
        repository.restore(None, "y.zarr", accept_predicted=True, plain=True, **period)


@pytest.mark.parametrize(
    ("period", "error", "message"),
    [
        (("2001-01-09", "2001-01-05"), InvalidInput, "--from 2001-01-09 is after --until"),
        (("2001-02", None), NotFound, "no captured state from 2001-02; 24 captures from 2001"),
        ((None, "2000"), NotFound, "no captured state until 2000"),
        (("soon", None), InvalidInput, "cannot read the time"),
    ],
)
def test_a_period_that_cannot_be(grown: Case, period: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        grown.open().dataset(from_=period[0], until=period[1])


def test_states_of_a_field_without_time_are_stacked(tmp_path: Path) -> None:
    repository = None
    for k in range(3):
        field = xr.Dataset({"t": (("y", "x"), np.full((4, 6), k, "f4"))})
        sources.overwrite(tmp_path / "s.zarr", field)
        if repository is None:
            repository = make_repository(tmp_path / "r", tmp_path / "s.zarr", kind="state")
        repository = capture_new(repository, now=k * 86_400_000_000)
    opened = gnomon.open(str(tmp_path / "r"))
    found = opened.dataset(from_="1970-01-02", region="x=1:2")
    assert found.t.values[:, 0].tolist() == [[1, 1], [2, 2]]
    opened.restore(None, str(tmp_path / "x.zarr"), from_="1970-01-02", chunk=(0, 0))
    assert sources.raw(tmp_path / "x.zarr").t.values[:, 0, 0].tolist() == [1, 2]


# The chunks of the source ---------------------------------------------------------------------


def test_a_restore_has_the_chunks_of_the_source(tmp_path: Path) -> None:
    """A restored store that is read in other pieces than the source was."""
    field = np.random.default_rng(0).normal(size=(1, 96, 160)).astype("f4")
    time = ("time", [0], {"units": "days since 2001-01-01"})
    data = xr.Dataset({"t": (("time", "y", "x"), field)}, coords={"time": time})
    data.to_zarr(tmp_path / "s.zarr", encoding={"t": {"chunks": (1, 32, 80)}})
    capture_new(make_repository(tmp_path / "r", tmp_path / "s.zarr", chunks={"y": 16, "x": 80}))
    repository = gnomon.open(str(tmp_path / "r"))
    repository.restore("2001-01-01", str(tmp_path / "x.zarr"))
    for found in (
        repository.dataset("2001-01-01"),
        xr.open_zarr(tmp_path / "x.zarr"),
        xr.open_dataset(tmp_path / "r", engine=GnomonBackendEntrypoint, chunks={}),
    ):
        assert found.t.encoding["chunks"] == (1, 32, 80)
        assert np.array_equal(found.t.values, field)
    found = repository.dataset("2001-01-01", region="y=40:60")
    assert found.t.encoding["chunks"] == (1, 21, 80)
    shutil.rmtree(tmp_path / "x.zarr")
    repository.restore("2001-01-01", str(tmp_path / "x.zarr"), region="y=40:60")
    assert np.array_equal(sources.raw(tmp_path / "x.zarr").t.values, field[:, 40:61])


def test_texts_and_values_ask_for_the_same() -> None:
    assert Wanted.of("a", "lat=1:2", ()) == Wanted.of(["a"], {"lat": ("1", "2")}, [])
    assert Wanted.of((), None, "sst:3, 4") == Wanted.of(chunk=["sst:3,4"])
    assert Wanted.of(chunk=(3, 4)) == Wanted.of(chunk=["3,4"])
