"""The cycle on every kind of data: exact captures, sensible forecasts, nothing out of bounds."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray

import gnomon
from gnomon.storage.serve.planes import PROVENANCE
from tests import sources

COUNT = 14
FIRST = 12
GRID = ("time", "lat", "lon")


def series(
    values: NDArray[np.generic], dims: tuple[str, ...] = GRID, **attributes: Any
) -> xr.Dataset:
    days = ("time", np.arange(COUNT, dtype="i4"), {"units": "days since 2001-01-01"})
    return xr.Dataset({"x": (dims, values, attributes)}, coords={"time": days})


def moving_mask() -> xr.Dataset:
    values = 5 + sources.noise(COUNT, sources.SHAPE)
    values[np.random.default_rng(1).random(values.shape) < 0.2] = np.nan
    values[:, 0, 0] = np.nan
    return series(values.astype("f4"))


def nan_payloads() -> xr.Dataset:
    values = sources.noise(COUNT, sources.SHAPE).astype("f4")
    values.view("u4")[:, 0, :3] = [0x7FC00001, 0xFFC12345, 0x80000000]
    return series(values)


def packed() -> xr.Dataset:
    values = np.rint(sources.noise(COUNT, sources.SHAPE) * 100).astype("i2")
    values[:, :2, :2] = -32767
    attributes: dict[str, Any] = {
        "scale_factor": 0.01,
        "add_offset": 280.0,
        "_FillValue": np.int16(-32767),
    }
    return series(values, **attributes)


def bounded() -> xr.Dataset:
    values = np.clip(0.5 + 0.5 * sources.noise(COUNT, sources.SHAPE), 0, 1)
    return series(values.astype("f4"), valid_min=0.0, valid_max=1.0)


def packed_bounds() -> xr.Dataset:
    values = np.rint(np.clip(50 + 60 * sources.noise(COUNT, sources.SHAPE), 0, 100)).astype("u1")
    values[:, 0, 0] = 255
    fill = np.uint8(255)
    return series(values, scale_factor=0.01, valid_range=np.array([0, 100], "u1"), _FillValue=fill)


def labels() -> xr.Dataset:
    values = (sources.noise(COUNT, sources.SHAPE) > 0).astype("i1") * 2 + 1
    flags: dict[str, Any] = {"flag_values": np.array([1, 3], "i1"), "flag_meanings": "dry wet"}
    return series(values.astype("i1"), **flags)


def with_land() -> xr.Dataset:
    values = sources.noise(COUNT, sources.SHAPE).astype("f4")
    values[:, :4] = np.nan
    return series(values)


def three_dimensions() -> xr.Dataset:
    values = sources.noise(COUNT, (3, 4, 6)).astype("f4")
    return series(values, ("time", "level", "lat", "lon"), units="m s-1")


def time_in_the_middle() -> xr.Dataset:
    values = np.moveaxis(sources.noise(COUNT, (4, 6)), 0, 1)
    return series(values.astype("f4"), ("lat", "time", "lon"))


def different_grids() -> xr.Dataset:
    made = series(sources.noise(COUNT, sources.SHAPE).astype("f4"))
    made["fine"] = (("time", "y", "x_fine"), sources.noise(COUNT, (10, 5), 1))
    made["station"] = (("time",), sources.noise(COUNT, (), 2))
    made["profile"] = (("level", "time"), sources.noise(COUNT, (7,), 3).T.astype("f4"))
    return made


def extremes() -> xr.Dataset:
    values = sources.noise(COUNT, sources.SHAPE)
    values[:, 0] *= 1e-300
    values[:, 1] *= 1e30
    return series(values)


def plain(dtype: str, scale: float = 50) -> Callable[[], xr.Dataset]:
    def make() -> xr.Dataset:
        values = 100 + scale * sources.noise(COUNT, sources.SHAPE)
        limits = (0, 255) if dtype == "u1" else (-1e9, 1e9)
        return series(np.clip(values, *limits).astype(dtype))

    return make


KINDS: dict[str, Callable[[], xr.Dataset]] = {
    "moving mask": moving_mask,
    "NaN payloads and signed zeros": nan_payloads,
    "packed int16": packed,
    "bounded": bounded,
    "packed with a valid range": packed_bounds,
    "categories": labels,
    "chunks of land": with_land,
    "three dimensions": three_dimensions,
    "time in the middle": time_in_the_middle,
    "different grids": different_grids,
    "series": lambda: series(sources.noise(COUNT, ()), ("time",)),
    "extremes": extremes,
    "float64": plain("f8"),
    "float16": plain("f2", 1),
    "uint8": plain("u1"),
    "int64": plain("i8"),
    "bool": lambda: series(sources.noise(COUNT, sources.SHAPE) > 0),
    "constant": lambda: series(np.full((COUNT, *sources.SHAPE), 7, "f4")),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_cycle_on(kind: str, tmp_path: Path) -> None:
    data = KINDS[kind]()
    source = tmp_path / "source.zarr"
    sources.write(source, data, 0, FIRST)
    chunks = {"lat": 4, "lon": 4} if data.x.shape == (COUNT, *sources.SHAPE) else {}
    repository = gnomon.create(str(tmp_path / "r"), str(source), chunks=chunks, leads=2)
    assert repository.backfill().suspect_chunks == 0
    check_forecast(repository, data, FIRST)
    sources.write(source, data, FIRST, COUNT)
    repository.update()
    found, written = repository.history(decode=False).load(), sources.raw(source)
    for name, variable in written.variables.items():
        assert sources.bits(found[name].values) == sources.bits(variable.values), name
    assert repository.check(read_data=True).problems == ()
    check_restore(repository, tmp_path, written)


def check_forecast(repository: gnomon.GnomonRepository, data: xr.Dataset, day: int) -> None:
    """Predicted where one of the last four captures has values, in bounds, of the right type."""
    at = f"2001-01-{day + 1:02d}"
    predicted = repository.dataset(at, accept_predicted=True, decode=False).load()
    for variable in repository.stored.settings.variables:
        name = variable.name
        assert predicted[name].dtype == data[name].dtype
        assert predicted[name].dims == data[name].dims
        error = predicted[f"{name}_standard_error"].values
        provenance = predicted[f"{name}_provenance"].values
        known = provenance == PROVENANCE["forecast"]
        past = variable.to_physical(data[name].isel(time=slice(0, day)).values)
        axis = data[name].dims.index("time")
        seen = (np.isfinite(past).sum(axis) >= 3) & (
            np.isfinite(past.take(range(-4, 0), axis)).any(axis)
        )
        assert (known.reshape(seen.shape) == seen).all(), name
        assert (error[known] >= 0).all()
        values = variable.to_physical(predicted[name].values)
        assert np.isfinite(values[known]).all()
        assert np.isnan(error[~known]).all()
        low, high = variable.bounds()
        if low is not None and high is not None:
            assert values[known].min() >= low - 1e-6
            assert values[known].max() <= high + 1e-6
        if variable.categorical:
            assert np.isin(predicted[name].values, data[name].values).all()


def check_restore(repository: gnomon.GnomonRepository, folder: Path, written: xr.Dataset) -> None:
    exact = written.isel(time=slice(4, 5))
    endings = (".zarr",) if written.x.dtype == np.float16 else (".zarr", ".nc")
    for ending in endings:
        target = folder / f"restored{ending}"
        repository.restore("2001-01-05", str(target), plain=True)
        found = sources.raw(target)
        for name, variable in exact.variables.items():
            values = found[name].values
            if variable.dtype == bool:
                values = values.astype(bool)
            assert sources.bits(values) == sources.bits(variable.values), name


@pytest.mark.parametrize("calendar", ["360_day", "noleap", "julian"])
def test_monthly_captures_in_other_calendars(calendar: str, tmp_path: Path) -> None:
    months = xr.date_range(
        "2001-01-16", periods=COUNT, freq="MS", calendar=calendar, use_cftime=True
    )
    units = "days since 1850-01-01"
    made = xr.Dataset(
        {"x": (("time", "lat"), sources.noise(COUNT, (6,)).astype("f4"))}, coords={"time": months}
    )
    made.time.encoding = {"units": units, "calendar": calendar, "dtype": "f8"}
    made.isel(time=slice(0, FIRST)).to_zarr(tmp_path / "s.zarr", zarr_format=3)
    repository = gnomon.create(str(tmp_path / "r"), str(tmp_path / "s.zarr"))
    repository.backfill()
    assert repository.status()["shadow"][0] == months[FIRST].isoformat()
    assert repository.explain("2002-02").kind == "forecast"
    predicted = repository.dataset("2002-02", accept_predicted=True)
    assert predicted.time.values[0] == months[FIRST]
    assert repository.dataset("2001-06").time.values[0] == made.time.values[4]


def test_a_real_dataset(tmp_path: Path) -> None:
    path = pytest.importorskip("iris_sample_data").path
    repository = gnomon.create(
        str(tmp_path / "r"),
        f"{path}/ostia_monthly.nc",
        variables=["surface_temperature"],
        chunks={"latitude": 18, "longitude": 108},
    )
    assert repository.backfill("2009-12").suspect_chunks == 0
    report = repository.update(until="2010-02")
    assert report.captured == ["2010-01-16T12:00:00", "2010-02-15T00:00:00"]
    source = sources.raw(f"{path}/ostia_monthly.nc").surface_temperature
    history = repository.history(decode=False).surface_temperature
    assert sources.bits(history.values) == sources.bits(source.values[: history.sizes["time"]])
    predicted = repository.dataset("2010-03", accept_predicted=True).surface_temperature
    truth = repository.stored.settings.variable("surface_temperature").to_physical(
        source.values[history.sizes["time"]]
    )
    departure = predicted.values[0] - truth
    before = history.values[-1] - truth
    assert np.nanmean(departure**2) < np.nanmean(before**2)
