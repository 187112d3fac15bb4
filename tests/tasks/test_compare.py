from pathlib import Path

import numpy as np
import xarray as xr

from gnomon.tasks.compare import compare
from tests.storage.building import captured, weather, write_zarr


def test_a_variable_without_dimensions_of_its_own(tmp_path: Path) -> None:
    series = xr.Dataset(
        {"level": ("time", np.array([1.0, 4.0, 4.0], np.float32), {"units": "m"})},
        coords={"time": weather(3)["time"]},
    )
    repository = captured(tmp_path / "r", write_zarr(series, tmp_path / "s.zarr"))
    (found,) = compare(repository, 0, 1)
    assert (found.changed_cells, found.mean, found.maximum, found.where) == (1, 3.0, 3.0, {})
    assert compare(repository, 1, 2)[0].changed_chunks == ()


def test_missing_times_that_stay_missing_are_no_change(tmp_path: Path) -> None:
    import zarr

    source = write_zarr(weather(2)[["t"]], tmp_path / "s.zarr")
    seen = np.array([["NaT", 1], ["NaT", 2]], "<M8[ns]")
    array = zarr.open_group(source, mode="r+").create_array(
        "seen", shape=seen.shape, dtype=seen.dtype, dimension_names=("time", "station")
    )
    array[...] = seen
    found = {d.variable: d for d in compare(captured(tmp_path / "r", source), 0, 1)}["seen"]
    assert (found.changed_cells, found.where) == (1, {"station": (1, 1)})
