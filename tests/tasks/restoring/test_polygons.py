"""Polygons name the cells whose centres lie in them, on whatever grid the variable has."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import gnomon
from gnomon.storage.errors import InvalidInput
from gnomon.storage.repository import Repository
from gnomon.tasks.restoring.polygons import Polygons
from tests import sources
from tests.cases import HISTORY, Case

NEXT = "2001-01-25"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a new working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def box(west: float, east: float, south: float, north: float) -> dict[str, Any]:
    """Return a rectangle, with a corner half way so that no edge is longer than half a turn."""
    middle = (west + east) / 2
    corners = [(west, south), (middle, south), (east, south), (east, north), (middle, north)]
    return {"type": "Polygon", "coordinates": [[*corners, (west, north), (west, south)]]}


def made(data: xr.Dataset) -> Repository:
    """Return a repository of the dataset, captured once."""
    data.to_zarr("grid.zarr")
    gnomon.create("grid.gnomon", "grid.zarr").update()
    return Repository.open("grid.gnomon")


def field(dims: tuple[str, ...], shape: tuple[int, ...], **coordinates: Any) -> xr.Dataset:
    """Return a dataset of one state, ``t``, on a grid."""
    values = np.random.default_rng(1).normal(size=(1, *shape))
    times = xr.Variable("time", [0.0], {"units": "days since 2001-01-01"})
    return xr.Dataset({"t": (("time", *dims), values)}, {"time": times, **coordinates})


def degrees(dims: Any, values: Any, kind: str) -> xr.Variable:
    units = "degrees_east" if kind == "longitude" else "degrees_north"
    return xr.Variable(dims, values, {"standard_name": kind, "units": units})


def inside(repository: Repository, document: Any) -> Any:
    variable = repository.settings.variable("t")
    return Polygons.of(document).mask(repository, variable)


def test_a_file_of_polygons_heals_the_cells_whose_centres_it_holds(grown: Case) -> None:
    grown.arrive(HISTORY, HISTORY + 1)
    grown.open().update()
    lat, lon = grown.data.lat.values, grown.data.lon.values
    drawn = box(lon[2] - 1, lon[5] + 1, lat.min() - 1, np.sort(lat)[3] + 0.1)
    feature = {"type": "Feature", "properties": {"why": "a ship's log"}, "geometry": drawn}
    Path("hole.geojson").write_text(
        json.dumps({"type": "FeatureCollection", "features": [feature]})
    )
    rows = (lat <= np.sort(lat)[3] + 0.1)[:, None]
    mask = rows & ((lon >= lon[2]) & (lon <= lon[5]))
    expected = grown.open().heal(NEXT, mask, decode=False).load()
    for cells in ("hole.geojson", Path("hole.geojson"), drawn):
        state = grown.open().heal(NEXT, cells, decode=False).load()
        assert sources.bits(state.sst.values) == sources.bits(expected.sst.values)
        assert (state.sst_provenance.values == expected.sst_provenance.values).all()
    grown.open().restore(NEXT, "x.zarr", cells="hole.geojson", accept_predicted=True)
    with xr.open_zarr("x.zarr", consolidated=False, decode_cf=False) as written:
        assert sources.bits(written.sst.values) == sources.bits(expected.sst.values)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("first", [0.0, -180.0])
@pytest.mark.parametrize(("west", "east"), [(-25, 25), (335, 385), (-385, -335)])
def test_longitudes_go_round(first: float, west: float, east: float) -> None:
    longitude = first + np.arange(0, 360, 10.0)
    latitude = np.array([30.0, 10.0, -10.0])
    repository = made(
        field(
            ("y", "x"),
            (3, 36),
            y=degrees("y", latitude, "latitude"),
            x=degrees("x", longitude, "longitude"),
        )
    )
    near = np.abs((longitude + 180) % 360 - 180) <= 25
    found = inside(repository, box(west, east, 0, 90))
    assert (found == np.array([[True], [True], [False]]) & near).all()


@pytest.mark.usefixtures("folder")
def test_a_grid_of_two_dimensions_and_levels() -> None:
    """A rotated grid: its own coordinates have the units of degrees too."""
    y, x = np.meshgrid(np.arange(4.0), np.arange(5.0), indexing="ij")
    longitude, latitude = 10 + x + 0.3 * y, 50 + y - 0.2 * x
    repository = made(
        field(
            ("level", "rlat", "rlon"),
            (2, 4, 5),
            rlat=xr.Variable("rlat", np.arange(4.0), {"standard_name": "grid_latitude"}),
            rlon=xr.Variable("rlon", np.arange(5.0), {"units": "degrees"}),
            lon=degrees(("rlat", "rlon"), longitude, "longitude"),
            lat=degrees(("rlat", "rlon"), latitude, "latitude"),
        )
    )
    hole = {
        "type": "Polygon",
        "coordinates": [
            [(9, 48), (20, 48), (20, 60), (9, 60), (9, 48)],
            [(11.5, 50.5), (13.5, 50.5), (13.5, 53.5), (11.5, 53.5), (11.5, 50.5)],
        ],
    }
    spared = (longitude > 11.5) & (longitude < 13.5) & (latitude > 50.5) & (latitude < 53.5)
    assert 0 < spared.sum() < spared.size
    found = inside(repository, hole)
    assert (found == ~spared[np.newaxis]).all()


@pytest.mark.usefixtures("folder")
def test_stations_lie_in_polygons_too() -> None:
    repository = made(
        field(
            ("station",),
            (4,),
            where=degrees("station", [0.0, 5.0, 10.0, 350.0], "longitude"),
            height=degrees("station", [0.0, 5.0, 80.0, 0.0], "latitude"),
        )
    )
    assert inside(repository, box(-11, 6, -1, 6)).tolist() == [True, True, False, True]


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ({"type": "Point", "coordinates": [1, 1]}, "is a Point; only polygons"),
        ({"type": "FeatureCollection", "features": []}, "holds no polygon"),
        ({"type": "Feature", "geometry": None}, "holds no polygon"),
        ({"type": "Polygon", "coordinates": []}, "holds no polygon"),
        ({"type": "MultiPolygon", "coordinates": []}, "holds no polygon"),
        ({"type": "FeatureCollection"}, "is no GeoJSON"),
        ({"features": []}, "is no GeoJSON"),
        ([1, 2], "is no GeoJSON"),
        ({"type": "Polygon", "coordinates": "x"}, "cannot be read"),
        (
            {"type": "Polygon", "coordinates": [[(0, 0), (9, 9), (9, 0), (0, 9), (0, 0)]]},
            "no valid polygon",
        ),
        (box(500_000, 600_000, 0, 10), "give degrees, the longitude first"),
        (box(0, 10, 100, 120), "give degrees, the longitude first"),
        (
            {
                "type": "Polygon",
                "coordinates": [[(170, 0), (-170, 0), (-170, 9), (170, 9), (170, 0)]],
            },
            "may go either way round",
        ),
        (box(0, 10, 0, 10) | {"crs": {"properties": {"name": "EPSG:3857"}}}, "other coordinates"),
        (box(100.1, 100.2, 0, 1), "hold the centre of no cell of sst, which has 0 to 55"),
        (box(-90, 90, -90, 90), "all 96 cells"),
    ],
)
def test_polygons_that_cannot_be_are_refused(grown: Case, document: Any, told: str) -> None:
    grown.arrive(HISTORY, HISTORY + 1)
    Path("hole.json").write_text(json.dumps(document))
    with pytest.raises(InvalidInput, match=told):
        grown.open().heal("2001-01-24", "hole.json")


def test_collections_within_collections_are_refused_in_one_line() -> None:
    document: dict[str, Any] = box(0, 10, 0, 10)
    for _ in range(5000):
        document = {"type": "GeometryCollection", "geometries": [document]}
    with pytest.raises(InvalidInput, match="too deep"):
        Polygons.of(document)


def test_an_empty_polygon_and_a_mark_of_the_encoding_do_no_harm(tmp_path: Path) -> None:
    empty = {"type": "Polygon", "coordinates": []}
    file = tmp_path / "hole.geojson"
    collection = {"type": "GeometryCollection", "geometries": [empty, box(0, 10, 0, 10)]}
    file.write_text(json.dumps(collection), encoding="utf-8-sig")
    assert Polygons.read(file).area.bounds == (0, 0, 10, 10)


def test_a_file_that_is_no_json_and_a_variable_without_positions(grown: Case) -> None:
    grown.arrive(HISTORY, HISTORY + 1)
    Path("hole.geojson").write_text("{")
    with pytest.raises(InvalidInput, match="cannot be read as GeoJSON"):
        grown.open().heal("2001-01-24", "hole.geojson")
    with pytest.raises(InvalidInput, match="cannot be read as GeoJSON"):
        grown.open().heal("2001-01-24", "nowhere.geojson")


@pytest.mark.usefixtures("folder")
def test_a_variable_without_longitudes_needs_a_mask() -> None:
    repository = made(field(("y", "x"), (3, 4)))
    assert not Polygons.of(box(0, 1, 0, 1)).covers(repository, repository.settings.variable("t"))
