"""The hindcast is the product: it predicts what a repository puts into its shadows."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray

import gnomon
from gnomon.flows.settings import Settings
from gnomon.hindcasting import forecasts, open_replay
from gnomon.tasks import refit
from gnomon.tasks.hindcast import first_origin
from tests import sources

COUNT = 30
type Array = NDArray[np.float64]


def plain() -> xr.Dataset:
    return sources.temperature(COUNT)


def without_a_day() -> xr.Dataset:
    return sources.temperature(COUNT + 2).drop_isel(time=[10, 26])


def twice_a_day() -> xr.Dataset:
    """With a second capture in some slots."""
    data = sources.temperature(COUNT)
    days = data.time.values.astype("f8")
    days[[12, 25]] = days[[11, 24]] + 0.2
    return data.assign_coords(time=("time", days, data.time.attrs))


def moving_mask() -> xr.Dataset:
    data = sources.temperature(COUNT)
    data.sst.values[np.random.default_rng(0).random(data.sst.shape) < 0.1] = np.nan
    return data


def new_cells() -> xr.Dataset:
    data = sources.temperature(COUNT)
    data.sst.values[:24, 0, :2] = np.nan
    return data


def damaged_past() -> xr.Dataset:
    data = sources.temperature(COUNT)
    data.sst.values[12, :4, :4] += 1e4
    return data


def damaged_arrival() -> xr.Dataset:
    data = sources.temperature(COUNT)
    data.sst.values[24, :4, 4:8] += 50
    return data


def drifting() -> xr.Dataset:
    data = sources.temperature(COUNT)
    data.sst.values[20:] *= np.linspace(1.0, 1.02, COUNT - 20)[:, None, None]
    return data


def bounded() -> xr.Dataset:
    data = sources.temperature(COUNT)
    data.sst.values[:] = np.clip(data.sst.values - 290.0, 0.0, 3.0)
    data.sst.attrs |= {"valid_min": np.float32(0), "valid_max": np.float32(3)}
    return data


KINDS: dict[str, Callable[[], xr.Dataset]] = {
    "plain": plain,
    "missing captures": without_a_day,
    "two in a slot": twice_a_day,
    "a mask moves": moving_mask,
    "new cells": new_cells,
    "damage in the past": damaged_past,
    "damage arrives": damaged_arrival,
    "drift": drifting,
    "bounded": bounded,
}


def compare(data: xr.Dataset, folder: Path, share: float, leads: int = 3) -> int:
    """Hindcast a record, let a repository live through it, and compare; the number of refits."""
    settings = Settings(refit_share=share)
    sources.write(folder / "whole.zarr", data)
    chunks = {"lat": 4, "lon": 4}
    replay = open_replay(
        str(folder / "whole.zarr"), "sst", leads=leads, chunks=chunks, settings=settings
    )
    count = data.sizes["time"]
    made = {one.issued.origin: one.issued for one in forecasts(replay, origins=count)[0]}
    first = first_origin(count)
    assert sorted(made) == list(range(first, count - 1))
    source = folder / "source.zarr"
    repository = None
    refits = 0
    for origin in range(first, count - 1):
        sources.write(source, data, 0 if repository is None else origin, origin + 1)
        if repository is None:
            repository = gnomon.create(
                str(folder / "r"), str(source), variables=["sst"], leads=leads, chunks=chunks
            )
        report = repository.update(settings=settings, compare=0)
        refits += bool(report.refit)
        stored = repository.stored
        shadow = stored.shadows[-1]
        issued = made[origin]
        assert shadow.instants == tuple(issued.instants)
        opened = stored.shadow("sst", shadow)
        scores = opened.scores()
        for g, index in enumerate(opened.variable.grid.indices()):
            cells = slice(replay.series.starts[g], replay.series.starts[g + 1])
            for lead in range(leads):
                where = f"origin {origin} chunk {index} lead {lead + 1}"
                quantum, _, confidence, rmse = scores[(lead, *index)]
                forecast = issued.forecast
                for stored_score, own in (
                    (confidence, forecast.confidence[lead, g]),
                    (rmse, forecast.expected_rmse[lead, g]),
                ):
                    np.testing.assert_allclose(stored_score, own, rtol=1e-9, err_msg=where)
                mean, error = opened.chunk(lead + 1, index)
                np.testing.assert_allclose(
                    mean.ravel(), forecast.mean[lead, cells], rtol=0, atol=0.51 * quantum
                )
                # Standard errors are stored in eight steps to the octave.
                np.testing.assert_allclose(
                    error.ravel(), forecast.standard_error[lead, cells], rtol=0.046
                )
    return refits


@pytest.mark.parametrize("kind", KINDS)
def test_the_hindcast_is_what_a_repository_predicts(kind: str, tmp_path: Path) -> None:
    compare(KINDS[kind](), tmp_path, share=0.0)


def test_it_is_where_a_refit_is_cheap(tmp_path: Path) -> None:
    refits = compare(plain(), tmp_path, share=0.005)
    assert refits == COUNT - 1 - first_origin(COUNT)


def test_it_is_where_growth_makes_a_refit_due(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refit, "GROWTH", 1.1)
    monkeypatch.setattr(refit, "LEAST_GROWTH", 3)
    assert 2 < compare(plain(), tmp_path, share=0.0) < 6


def test_it_is_where_the_window_is_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refit, "MAX_WINDOW", 16)
    compare(plain(), tmp_path, share=0.005)


def test_it_is_where_only_some_chunks_and_cells_are_sampled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refit, "SAMPLE_CHUNKS", 2)
    monkeypatch.setattr(refit, "SAMPLE_CELLS", 5)
    compare(plain(), tmp_path, share=0.0)
