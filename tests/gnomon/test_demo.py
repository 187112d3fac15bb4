"""What the demo claims on real data, without its flows."""

from pathlib import Path

import pytest
import xarray as xr

import gnomon
from gnomon import demo
from gnomon.repository import GnomonRepository
from gnomon.storage.errors import Conflict
from gnomon.storage.serve.planes import PROVENANCE

HISTORY = 50


@pytest.fixture(scope="module")
def data() -> xr.Dataset:
    return demo.load_ostia()


@pytest.fixture(scope="module")
def repository(data: xr.Dataset, tmp_path_factory: pytest.TempPathFactory) -> GnomonRepository:
    """Return a repository that ends as the demo does; only the last three months come singly."""
    folder = tmp_path_factory.mktemp("demo")
    demo._write(folder / "sst.zarr", data.isel(time=slice(HISTORY)))
    made = gnomon.create(str(folder / "sst.gnomon"), str(folder / "sst.zarr"))
    made.backfill()
    for month in range(HISTORY, data.sizes["time"] - 1):
        demo._write(folder / "sst.zarr", data.isel(time=slice(month, month + 1)))
        assert made.update().suspect_chunks == 0, "a false alarm"
    demo._write(folder / "sst.zarr", demo._damage(data))
    made.update()
    return made


def test_the_damaged_block_and_nothing_else_is_found(repository: GnomonRepository) -> None:
    (incident,) = repository.anomalies()
    rows, columns = demo.DAMAGED
    place = f"{rows.start // demo.BLOCK[0]}/{columns.start // demo.BLOCK[1]}"
    assert incident["chunks"] == [place]
    assert "Celsius" in incident["suspected_cause"]
    assert incident["open"]


def test_healed_beats_forecast_beats_last_capture(
    repository: GnomonRepository, data: xr.Dataset
) -> None:
    points = repository.points("2010-09")
    assert [p.kind for p in points] == ["healed", "forecast", "last_capture", "suspect"]
    restored = repository.dataset("2010-09", accept_predicted=True).isel(time=0).load()
    rows, _, intact = demo.score(repository, points, restored, data[demo.VARIABLE].values[-1])
    last, forecast, healed = rows
    assert healed.error < forecast.error < last.error
    assert intact
    # Stated before the truth is known, and of the right size.
    for row in rows:
        assert 0.5 < row.stated / row.error < 2
    estimated = restored[f"{demo.VARIABLE}_provenance"].values == 1
    hole = estimated | (restored[f"{demo.VARIABLE}_provenance"].values == PROVENANCE["missing"])
    assert hole.sum() == demo.BLOCK[0] * demo.BLOCK[1]


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious").touch()
    with pytest.raises(Conflict, match="not from the demo"):
        demo.run_demo(tmp_path, quiet=True)
    assert [p.name for p in tmp_path.iterdir()] == ["precious"]
