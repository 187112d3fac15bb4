"""Where the cells of a mask lie: by coordinates where there are any, else by position."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from gnomon.storage.errors import InvalidInput
from gnomon.storage.repository import Repository
from gnomon.tasks.restoring.masks import mask_of, on_grids
from tests.storage.building import make_repository, weather, write_zarr

LONGITUDE = {"units": "degrees_east", "standard_name": "longitude"}


def globe(folder: Path, **coordinates: Any) -> Repository:
    """Return a repository with three variables on one grid of 6 latitudes and 10 longitudes."""
    data = weather(2).assign_coords(x=("x", np.arange(10) * 36.0, LONGITUDE), **coordinates)
    return make_repository(folder / "r", write_zarr(data, folder / "s.zarr"))


def mask() -> xr.DataArray:
    """Return a mask of two cells, with the coordinates of the grid."""
    damaged = np.zeros((6, 10), bool)
    damaged[1, 0] = damaged[4, 7] = True
    coordinates = {"y": np.arange(6.0), "x": np.arange(10) * 36.0}
    return xr.DataArray(damaged, coordinates, ("y", "x"))


def west(given: xr.DataArray) -> xr.DataArray:
    """Return a mask with longitudes from -180."""
    return given.assign_coords(x=(given.x + 180) % 360 - 180).sortby("x")


ALIKE: dict[str, Any] = {
    "flipped": lambda m: m[::-1],
    "rolled": lambda m: m.roll(x=3, roll_coords=True),
    "from -180": west,
    "transposed and flipped": lambda m: m.T[:, ::-1],
    "rounded": lambda m: m.assign_coords(x=m.x.astype("f4") + 1e-4, y=m.y - 1e-6),
    "of integers": lambda m: m.assign_coords(x=m.x.astype("i2"))[::-1],
    "other names": lambda m: m.rename(y="latitude", x="longitude")[::-1, ::-1],
    "a part": lambda m: m[1:5, :8],
    "a part over the seam": lambda m: m.roll(x=3, roll_coords=True)[:, :6],
    "at a time": lambda m: m[::-1].expand_dims(time=1),
    "without coordinates": lambda m: m.drop_vars(["x", "y"]),
    "an array": lambda m: m.values,
}


@pytest.mark.parametrize("change", ALIKE)
def test_a_cell_is_found_by_its_coordinates(change: str, tmp_path: Path) -> None:
    repository = globe(tmp_path)
    given = ALIKE[change](mask())
    expected = mask().values
    if change == "a part over the seam":
        expected = np.where(np.isin(np.arange(10), [7, 8, 9, 0, 1, 2]), expected, False)
    found = on_grids(mask_of(given, None), repository, list(repository.settings.variables))
    assert list(found) == ["p", "t", "wet"]
    for damaged in found.values():
        assert damaged.dtype == bool
        assert np.array_equal(damaged, expected)


@pytest.mark.parametrize("ending", ["nc", "zarr"])
def test_a_file_of_a_mask_is_placed_by_its_coordinates(ending: str, tmp_path: Path) -> None:
    repository = globe(tmp_path)
    turned = west(mask()[::-1]).astype("i1").to_dataset(name="bad")
    path = tmp_path / f"mask.{ending}"
    (turned.to_netcdf if ending == "nc" else turned.to_zarr)(path)
    found = on_grids(mask_of(path, "t"), repository, [repository.settings.variable("t")])
    assert np.array_equal(found["t"], mask().values)


OTHER: dict[str, Any] = {
    "shifted by many cells": (lambda m: m.assign_coords(y=m.y + 50), "a cell at y 50, where the"),
    "shifted by half a cell": (lambda m: m.assign_coords(x=m.x + 18), "a cell at x 18, where the"),
    "coarser": (lambda m: m[::2], "not next to each other along y"),
    "a meridian twice": (
        lambda m: xr.concat([m, m[:, :1].assign_coords(x=[360.0])], "x"),
        "along x, or one is there twice",
    ),
    "times for latitudes": (
        lambda m: m.assign_coords(y=np.arange(6).astype("M8[D]")),
        "another 'y' than the grid",
    ),
    "unknown latitudes": (lambda m: m.assign_coords(y=np.full(6, np.nan)), "a cell at y nan"),
    "another size": (lambda m: m.drop_vars("x")[:, 1:], "has the shape 6 x 9; it must be"),
    "without a dimension": (lambda m: m[0], "has the shape 10; it must be"),
}


@pytest.mark.parametrize("change", OTHER)
def test_a_mask_of_another_grid_is_refused(change: str, tmp_path: Path) -> None:
    repository = globe(tmp_path)
    turn, told = OTHER[change]
    with pytest.raises(InvalidInput, match=told) as caught:
        on_grids(mask_of(turn(mask()), None), repository, list(repository.settings.variables))
    assert "\n" not in str(caught.value)


def test_coordinates_of_two_dimensions_must_be_those_of_the_grid(tmp_path: Path) -> None:
    """By them nothing is put in order, but a mask that was turned around is noticed."""
    rows, columns = np.meshgrid(np.arange(6.0), np.arange(10.0), indexing="ij")
    data = weather(2).drop_vars(["y", "x"])
    data = data.assign_coords(
        lat=(("y", "x"), rows + columns / 9, {"units": "degrees_north"}),
        lon=(("y", "x"), columns + rows / 9, LONGITUDE),
    )
    repository = make_repository(tmp_path / "r", write_zarr(data, tmp_path / "s.zarr"))
    given = mask().drop_vars(["y", "x"]).assign_coords(lat=data.lat, lon=data.lon)
    variable = [repository.settings.variable("t")]
    for alike in (given, given.T, given.assign_coords(lon=data.lon + 360), given.drop_vars("lat")):
        found = on_grids(alike, repository, variable)
        assert np.array_equal(found["t"], mask().values)
    for other in (given[::-1], given[:, ::-1], given.assign_coords(lat=data.lat + 1)):
        with pytest.raises(InvalidInput, match=r"has another 'l.*' than the grid"):
            on_grids(other, repository, variable)


def test_large_whole_numbers_and_labels_are_told_apart(tmp_path: Path) -> None:
    """As floating point numbers these would be the same, two by two."""
    data = weather(2).assign_coords(
        y=("y", np.array(list("abcdef"), dtype=object)), x=("x", 2**53 + np.arange(10))
    )
    repository = make_repository(tmp_path / "r", write_zarr(data, tmp_path / "s.zarr"))
    given = mask().assign_coords(y=list("abcdef"), x=2**53 + np.arange(10))[::-1, ::-1]
    found = on_grids(given, repository, [repository.settings.variable("t")])
    assert np.array_equal(found["t"], mask().values)
    with pytest.raises(InvalidInput, match="a cell at y z, where the grid has none"):
        on_grids(
            given.assign_coords(y=list("zbcdef")), repository, [repository.settings.variable("t")]
        )


@pytest.mark.parametrize("name", ["none.npy", "none.nc", "none.zarr"])
def test_a_file_that_is_not_there_is_told_as_such(name: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=f"{name} .*: there is no such file; give a file"):
        mask_of(tmp_path / name, None)


@pytest.mark.parametrize("ending", ["npy", "nc"])
def test_an_empty_file_is_refused_in_one_line(ending: str, tmp_path: Path) -> None:
    (tmp_path / f"mask.{ending}").touch()
    with pytest.raises(InvalidInput, match="cannot be read as a mask"):
        mask_of(tmp_path / f"mask.{ending}", None)


@pytest.mark.parametrize("is_told", [True, False])
def test_longitudes_of_another_name_are_never_taken_for_latitudes(
    is_told: bool, tmp_path: Path
) -> None:
    """Nor where both have the same numbers, and the mask has them in the other order."""
    data = weather(2).isel(x=slice(0, 6))
    degrees = np.arange(6.0) * 5
    latitude = {"units": "degrees_north", "standard_name": "latitude"}
    data = data.assign_coords(x=("x", degrees, LONGITUDE), y=("y", degrees, latitude))
    repository = make_repository(tmp_path / "r", write_zarr(data, tmp_path / "s.zarr"))
    damaged = np.zeros((6, 6), bool)
    damaged[1, 4] = True
    names = ("a", "b") if is_told else ("latitude", "longitude")
    told = (latitude, LONGITUDE) if is_told else ({}, {})
    coordinates = {n: (n, degrees, t) for n, t in zip(names, told, strict=True)}
    given = xr.DataArray(damaged, coordinates, names).T
    found = on_grids(given, repository, list(repository.settings.variables))
    assert all(np.array_equal(cells, damaged) for cells in found.values())
