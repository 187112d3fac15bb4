"""The hindcast is the product: it predicts what a repository puts into its shadows."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray

import gnomon
from gnomon.flows.settings import Settings
from gnomon.hindcasting import forecasts, open_replay
from gnomon.repository import GnomonRepository
from gnomon.storage.log.steps import Shadow
from gnomon.tasks.forecasting import orders
from gnomon.tasks.hindcasting.hindcast import first_origin
from gnomon.tasks.hindcasting.replay import Replay
from gnomon.tasks.learning import refit
from tests import sources

COUNT = 30
LEADS = 3
CHUNKS = {"lat": 4, "lon": 4}
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


def constant_until_a_gap() -> xr.Dataset:
    """It moves while nobody looks."""
    data = sources.temperature(COUNT)
    data.sst.values[:] = data.sst.values[0]
    data.sst.values[24:, :, 1::2] += 1
    data.sst.values[23:25] = np.nan
    return data


TOGETHER: dict[str, Callable[[], xr.Dataset]] = {
    "plain": plain,
    "a mask moves": moving_mask,
    "new cells": new_cells,
    "damage in the past": damaged_past,
    "damage arrives": damaged_arrival,
    "drift": drifting,
    "bounded": bounded,
    "a constant moves": constant_until_a_gap,
}
"""Captured at the same times, so that one repository protects them all."""
ALONE: dict[str, Callable[[], xr.Dataset]] = {
    "missing captures": without_a_day,
    "two in a slot": twice_a_day,
}


@pytest.fixture(autouse=True, scope="module")
def _whole_shadows() -> Iterator[None]:
    """Leads that newer shadows supersede are compared as well."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Shadow, "superseded_by", lambda shadow, _: shadow)
        yield


def replay_of(source: Path, variable: str, share: float = 0.0) -> Replay:
    settings = Settings(refit_share=share)
    return open_replay(str(source), variable, leads=LEADS, chunks=CHUNKS, settings=settings)


def live_through(
    data: xr.Dataset, folder: Path, share: float = 0.0
) -> tuple[GnomonRepository, int]:
    """A repository that a record arrives in, capture by capture, and the number of refits."""
    sources.write(folder / "whole.zarr", data)
    count, source = data.sizes["time"], folder / "source.zarr"
    first = first_origin(count)
    sources.write(source, data, 0, first + 1)
    repository = gnomon.create(str(folder / "r"), str(source), leads=LEADS, chunks=CHUNKS)
    refits = 0
    for origin in range(first, count - 1):
        if origin > first:
            sources.write(source, data, origin, origin + 1)
        report = repository.update(settings=Settings(refit_share=share), compare=0)
        refits += bool(report.refit)
    return repository, refits


def compare(replay: Replay, repository: GnomonRepository, variable: str = "sst") -> None:
    """Hindcast the record, and compare with the shadows of a repository that lived through it."""
    count = len(replay.series.instants)
    made = {one.issued.origin: one.issued for one in forecasts(replay, origins=count)[0]}
    first = first_origin(count)
    assert sorted(made) == list(range(first, count - 1))
    stored = repository.stored
    assert len(stored.shadows) == len(made)
    for (origin, issued), shadow in zip(sorted(made.items()), stored.shadows, strict=True):
        assert shadow.instants == tuple(issued.instants)
        opened = stored.shadow(variable, shadow)
        scores = opened.scores()
        for g, index in enumerate(opened.variable.grid.indices()):
            cells = slice(replay.series.starts[g], replay.series.starts[g + 1])
            for lead in range(LEADS):
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


def check(data: xr.Dataset, folder: Path, share: float = 0.0) -> int:
    """Compare for a record of its own; the number of refits."""
    repository, refits = live_through(data, folder, share)
    compare(replay_of(folder / "whole.zarr", "sst", share), repository)
    return refits


@pytest.fixture(scope="module", autouse=True)
def _searched_once() -> Iterator[None]:
    """A search takes a second, and one of them is as good as several: both sides must make it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(orders, "SEARCHED", 1)
        yield


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> tuple[GnomonRepository, Path]:
    """What all kinds have in common is done once: one repository, and a variable of each."""
    folder = tmp_path_factory.mktemp("lived")
    fields = {kind.replace(" ", "_"): make().sst for kind, make in TOGETHER.items()}
    return live_through(xr.Dataset(fields), folder)[0], folder / "whole.zarr"


@pytest.mark.parametrize("kind", TOGETHER)
def test_the_hindcast_is_what_a_repository_predicts(
    kind: str, lived: tuple[GnomonRepository, Path]
) -> None:
    repository, source = lived
    name = kind.replace(" ", "_")
    compare(replay_of(source, name), repository, name)


@pytest.fixture
def unsearched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Orders are chosen among three: what is looked at is when a refit is made, and from what."""
    monkeypatch.setattr(orders, "SEARCHED", 0)


@pytest.mark.usefixtures("unsearched")
@pytest.mark.parametrize("kind", ALONE)
def test_it_is_at_times_of_all_kinds(kind: str, tmp_path: Path) -> None:
    check(ALONE[kind](), tmp_path)


FEW = 16
"""Captures where that is enough."""


@pytest.mark.usefixtures("unsearched")
def test_it_is_where_a_refit_is_cheap(tmp_path: Path) -> None:
    refits = check(sources.temperature(FEW), tmp_path, share=0.005)
    assert refits == FEW - 1 - first_origin(FEW)


@pytest.mark.usefixtures("unsearched")
def test_it_is_where_growth_makes_a_refit_due(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refit, "GROWTH", 1.1)
    monkeypatch.setattr(refit, "LEAST_GROWTH", 2)
    assert 1 < check(sources.temperature(FEW), tmp_path) < 4


@pytest.mark.usefixtures("unsearched")
def test_it_is_where_the_window_is_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refit, "MAX_WINDOW", 12)
    check(sources.temperature(FEW), tmp_path, share=0.005)


@pytest.mark.usefixtures("unsearched")
def test_it_is_where_only_some_chunks_and_cells_are_sampled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refit, "SAMPLE_CHUNKS", 2)
    monkeypatch.setattr(refit, "SAMPLE_CELLS", 5)
    check(sources.temperature(FEW), tmp_path)
