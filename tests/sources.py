"""Live datasets for tests: small generated fields, written and grown like a scheduled ingest."""

import hashlib
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray

SHAPE = (8, 12)
LAND = (slice(4, 8), slice(8, 12))
"""One whole chunk of 4 x 4 cells; a few cells of the chunk beside it are land too."""


def noise(count: int, shape: tuple[int, ...], seed: int = 0) -> NDArray[np.float64]:
    """Return a field (count, *shape) with memory in time and likeness in space, unit variance."""
    draws = np.random.default_rng(seed)
    field = np.zeros((count, *shape))
    state = draws.normal(0, 1, shape)
    common = 0.0
    for step in range(count):
        common = 0.8 * common + draws.normal(0, 0.6)
        state = 0.7 * state + draws.normal(0, 0.71, shape)
        field[step] = 0.8 * common + 0.6 * state
    return field


def temperature(count: int, *, land: bool = True, seed: int = 0) -> xr.Dataset:
    """Return daily temperatures (count, 8, 12), float32 in kelvin, with time bounds."""
    latitude = np.linspace(-35.0, 35.0, SHAPE[0])
    values = 293.0 - 0.1 * np.abs(latitude)[None, :, None] + noise(count, SHAPE, seed)
    if land:
        values[:, *LAND] = np.nan
        values[:, 4:6, 6:8] = np.nan
    days = np.arange(count, dtype="i8")
    return xr.Dataset(
        {
            "sst": (
                ("time", "lat", "lon"),
                values.astype("f4"),
                {
                    "units": "K",
                    "standard_name": "sea_surface_temperature",
                    "_FillValue": np.float32(np.nan),
                },
            ),
            "time_bnds": (("time", "nv"), np.stack([days, days + 1], axis=1).astype("f8")),
        },
        coords={
            "time": (
                "time",
                days,
                {
                    "units": "days since 2001-01-01",
                    "calendar": "standard",
                    "bounds": "time_bnds",
                    "standard_name": "time",
                },
            ),
            "lat": ("lat", latitude, {"units": "degrees_north", "standard_name": "latitude"}),
            "lon": ("lon", np.linspace(0, 55, SHAPE[1]), {"units": "degrees_east"}),
        },
        attrs={"title": "generated", "Conventions": "CF-1.11"},
    )


def write(path: Path | str, dataset: xr.Dataset, start: int = 0, stop: int | None = None) -> None:
    """Write time steps to a Zarr store: a new one from step 0, or appended, bit for bit."""
    part = dataset.isel(time=slice(start, stop))
    if start == 0:
        overwrite(path, part)
        return
    group = zarr.open_group(path, mode="r+", zarr_format=3)
    for name, variable in part.variables.items():
        if "time" in variable.dims:
            array = group[str(name)]
            assert isinstance(array, zarr.Array)
            array.append(np.asarray(variable.values), axis=variable.dims.index("time"))


def overwrite(path: Path | str, dataset: xr.Dataset) -> None:
    """Write a whole dataset in place of what is there."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset.to_zarr(path, mode="w", zarr_format=3, consolidated=False)


def raw(path: Path | str) -> xr.Dataset:
    """Return a dataset undecoded, in memory."""
    engine = "netcdf4" if str(path).endswith(".nc") else "zarr"
    options: dict[str, Any] = {} if engine == "netcdf4" else {"consolidated": False}
    with xr.open_dataset(path, engine=engine, decode_cf=False, **options) as found:
        return found.load()


def bits(values: Any) -> bytes:
    """Return type, shape and bytes, so that equal means equal bit for bit."""
    array = np.asarray(values)
    array = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return f"{array.dtype.str}{array.shape}".encode() + array.tobytes()


def listing(*folders: Path) -> dict[str, str]:
    """Return every file and folder with the hash of what it holds."""
    found = {}
    for folder in folders:
        for path in sorted([folder, *folder.rglob("*")]):
            data = path.read_bytes() if path.is_file() else b""
            found[str(path)] = hashlib.sha256(data).hexdigest() if path.is_file() else "folder"
    return found


def assert_same_attributes(found: dict[Any, Any], expected: dict[Any, Any]) -> None:
    """Compare attributes by name and value; NaN equals NaN."""
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert _same(found[name], value), name


def _same(found: Any, expected: Any) -> bool:
    if isinstance(expected, str):
        return bool(found == expected)
    return bool(np.array_equal(np.ravel(found), np.ravel(expected), equal_nan=True))
