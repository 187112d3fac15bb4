from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import gnomon
from gnomon.repository import GnomonRepository
from gnomon.storage.grid import Index
from gnomon.storage.view import PROVENANCE
from gnomon.tasks.heal import Healed, Odds, heal
from gnomon.tasks.points import suspects
from tests import sources
from tests.cases import DAMAGED, HISTORY, Case

NEXT = "2001-01-25"
LAND: Index = (1, 2)
PARTLY_LAND: Index = (1, 1)


def healed(repository: GnomonRepository, chunks: dict[str, list[Index]]) -> Healed:
    return heal(repository.stored, HISTORY, repository.stored.shadows[0], 1, chunks)


def truth(case: Case, index: Index) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    lat, lon = (slice(4 * i, 4 * i + 4) for i in index)
    return np.asarray(case.data.sst.values[HISTORY, lat, lon], np.float64)


def test_only_what_was_asked_for_is_estimated(damaged: Case) -> None:
    found = healed(damaged.open(), {"sst": [DAMAGED]})
    assert list(found.patches) == [("sst", DAMAGED)]
    patch = found.patches["sst", DAMAGED]
    assert np.isfinite(patch.values).all()
    assert (patch.standard_error > 0).all()
    assert (patch.provenance != PROVENANCE["captured"]).all()
    departure = patch.values - truth(damaged, DAMAGED)
    assert np.abs(departure / patch.standard_error).max() < 6


def test_intact_neighbours_help(damaged: Case) -> None:
    """The common part of the noise is seen by the neighbours, and not by the forecast."""
    repository = damaged.open()
    shadow = repository.stored.shadows[0]
    forecast, _ = repository.stored.shadow("sst", shadow).chunk(1, DAMAGED)
    patch = healed(repository, {"sst": [DAMAGED]}).patches["sst", DAMAGED]
    error = np.sqrt(np.mean((patch.values - truth(damaged, DAMAGED)) ** 2))
    unaided = np.sqrt(np.mean((forecast - truth(damaged, DAMAGED)) ** 2))
    assert error < 1.1 * unaided


def test_land_stays_missing(damaged: Case) -> None:
    found = healed(damaged.open(), {"sst": [LAND, PARTLY_LAND]})
    land = found.patches["sst", LAND]
    assert np.isnan(land.values).all()
    assert (land.provenance == PROVENANCE["missing"]).all()
    partly = found.patches["sst", PARTLY_LAND]
    expected = np.isnan(truth(damaged, PARTLY_LAND))
    assert expected.any()
    assert (np.isnan(partly.values) == expected).all()
    assert ((partly.provenance == PROVENANCE["missing"]) == expected).all()


def test_what_is_not_forecast_becomes_missing(damaged: Case) -> None:
    found = healed(damaged.open(), {"time_bnds": [(0,)], "sst": [DAMAGED]})
    bounds = found.patches["time_bnds", (0,)]
    assert np.isnan(bounds.values).all()
    assert (bounds.provenance == PROVENANCE["missing"]).all()
    assert set(found.expected_error) == {"sst"}


def test_a_state_rejected_as_a_whole_is_forecast(damaged: Case) -> None:
    repository = damaged.open()
    assert repository.judge(NEXT, accept=False) == 6
    assert len(suspects(repository.stored, HISTORY)["sst"]) == 6
    found = repository.dataset(NEXT, accept_predicted=True, decode=False).load()
    provenance = found.sst_provenance.values
    ocean = ~np.isnan(damaged.data.sst.values[HISTORY])
    assert (provenance[0][ocean] == PROVENANCE["forecast"]).all()
    assert (provenance[0][~ocean] == PROVENANCE["missing"]).all()
    shadow = repository.stored.shadows[0]
    expected, _ = repository.stored.shadow("sst", shadow).chunk(1, (0, 0))
    assert found.sst.values[0, :4, :4] == pytest.approx(expected, abs=1e-3)


def test_confidence_is_that_of_the_estimated_part(damaged: Case) -> None:
    """Chunks that are intact say nothing of one that is not."""
    few = healed(damaged.open(), {"sst": [DAMAGED]})
    many = healed(damaged.open(), {"sst": [DAMAGED, (0, 0), (1, 0), (0, 2)]})
    assert few.estimated_share == pytest.approx(1 / 6)
    assert many.estimated_share == pytest.approx(4 / 6)
    for found in (few, many):
        assert 0 <= found.confidence <= 1
        assert found.expected_error["sst"] > 0


def test_a_hopeless_estimate_has_no_confidence() -> None:
    errors = np.full((4, 4), 3.0)
    for odds in (Odds(), Odds(0.0, 0.3), Odds(0.0, 0.0)):
        assert odds.within(errors, 0.5) < 0.02
        assert odds.within(errors, 30.0) > 0.98
        assert odds.within(np.full((4, 4), np.nan), 0.5) == 1.0  # land: nothing is estimated
    assert Odds(0.0, 0.6).within(errors, 4.0) < Odds(0.0, 0.2).within(errors, 4.0)


@pytest.mark.parametrize("count", [9, 20])
def test_the_hole_has_a_history(count: int, tmp_path: Path) -> None:
    """Stated errors are of the size of the actual ones, however few captures there are.

    The cycle of 24 steps is not known yet, so that the forecast is far off and the past of the
    hole is what tells how its cells depart together.
    """
    rng = np.random.default_rng(7)
    lat, lon = np.linspace(-1, 1, 24)[:, None], np.linspace(0, 2 * np.pi, 32)[None, :]
    steps = np.arange(count + 1)[:, None, None]
    values = 15 + 8 * np.cos(2 * np.pi * steps / 24) * (1 - lat**2) + 2 * np.sin(lon + steps / 30)
    values = (values + 0.1 * rng.standard_normal(values.shape)).astype(np.float32)
    times = np.datetime64("2024-05-01", "ns") + np.arange(count + 1) * np.timedelta64(1, "h")
    data = xr.Dataset({"sst": (("time", "lat", "lon"), values)}, coords={"time": times})
    data.isel(time=slice(count)).to_zarr(tmp_path / "source.zarr")
    repository = gnomon.create(
        str(tmp_path / "repository"), str(tmp_path / "source.zarr"), chunks={"lat": 8, "lon": 8}
    )
    repository.update()
    data.isel(time=[count]).to_zarr(tmp_path / "source.zarr", append_dim="time")
    repository.update()
    stored = repository.stored
    shadow = stored.shadows[0]
    assert shadow.reference < stored.timeline[-1].instant
    departure, error = [], []
    for index in stored.settings.variable("sst").grid.indices():
        patch = heal(stored, count, shadow, 1, {"sst": [index]}).patches["sst", index]
        cells = stored.settings.variable("sst").grid.cells(index)
        departure.append((patch.values - values[-1][cells]).ravel())
        error.append(patch.standard_error.ravel())
    departed, stated = np.concatenate(departure), np.concatenate(error)
    assert 0.75 < np.sqrt(np.mean(stated**2) / np.mean(departed**2)) < 2.5
    assert np.mean(np.abs(departed) <= 1.645 * stated) > 0.8
    # Much better than the last capture, and near the noise, which nobody can know.
    assert np.sqrt(np.mean(departed**2)) < 0.3


@pytest.mark.parametrize("outage", [2, 3])
def test_a_chunk_that_stays_damaged_is_known_less(outage: int, tmp_path: Path) -> None:
    """The forecast of a chunk that the last captures lack misses by more, and the error says so.

    Its neighbours tell what is new in the last interval, and nothing of those before.
    """
    rng = np.random.default_rng(11)
    count = 24
    shocks = rng.standard_normal((count + outage, 32, 32))
    for axis in (1, 2):  # smooth: 11 cells along each axis change together
        shocks = sum(np.roll(shocks, k, axis) for k in range(-5, 6)) / np.sqrt(11.0)
    values = np.zeros(shocks.shape)
    for k in range(1, len(values)):
        values[k] = 0.9 * values[k - 1] + shocks[k]
    damaged = values.astype(np.float32)
    for y, x in ((0, 0), (0, 16), (16, 0), (16, 16)):
        damaged[count:, y : y + 8, x : x + 8] = np.nan
    times = np.datetime64("2024-05-01", "ns") + np.arange(len(values)) * np.timedelta64(1, "D")
    data = xr.Dataset({"v": (("time", "y", "x"), damaged)}, coords={"time": times})
    data.isel(time=slice(count)).to_zarr(tmp_path / "source.zarr")
    chunks = {"y": 8, "x": 8}
    place = str(tmp_path / "repository")
    repository = gnomon.create(place, str(tmp_path / "source.zarr"), chunks=chunks)
    repository.update()
    for k in range(count, count + outage):
        data.isel(time=[k]).to_zarr(tmp_path / "source.zarr", append_dim="time")
        repository.update()
    state = repository.dataset(str(times[-1])[:19], accept_predicted=True).isel(time=0).load()
    estimated = state.v_provenance.values == PROVENANCE["estimated_from_intact_neighbours"]
    estimated |= state.v_provenance.values == PROVENANCE["forecast"]
    assert estimated.sum() == 4 * 64
    departed = (state.v.values - values[-1])[estimated]
    stated = state.v_standard_error.values[estimated]
    assert 0.7 < np.sqrt(np.mean(stated**2) / np.mean(departed**2)) < 2.5
    assert np.mean(np.abs(departed) <= 1.645 * stated) > 0.75


def test_healing_twice_gives_the_same_bits(damaged: Case) -> None:
    first, second = (healed(damaged.open(), {"sst": [DAMAGED]}) for _ in range(2))
    for name in ("values", "standard_error", "provenance"):
        one, other = (getattr(h.patches["sst", DAMAGED], name) for h in (first, second))
        assert sources.bits(one) == sources.bits(other)
