from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray

import gnomon
from gnomon.repository import GnomonRepository
from gnomon.storage.serve.planes import PROVENANCE
from gnomon.storage.stacks.shadows import ShadowStack
from gnomon.storage.values.grid import Index
from gnomon.tasks.restoring.heal import Healed, Odds, heal
from gnomon.tasks.restoring.region import regions
from gnomon.tasks.restoring.suspected import suspects
from tests import sources
from tests.cases import DAMAGED, HISTORY, Case

NEXT = "2001-01-25"
LAND: Index = (1, 2)
PARTLY_LAND: Index = (1, 1)


Floats = NDArray[np.float64]


def healed(repository: GnomonRepository, *chunks: Index, name: str = "sst") -> Healed:
    stored = repository.stored
    return heal(stored, HISTORY, stored.shadows[0], 1, name, list(chunks))


def truth(case: Case, index: Index) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    lat, lon = (slice(4 * i, 4 * i + 4) for i in index)
    return np.asarray(case.data.sst.values[HISTORY, lat, lon], np.float64)


def test_only_what_was_asked_for_is_estimated(damaged: Case) -> None:
    found = healed(damaged.open(), DAMAGED)
    assert list(found.patches) == [DAMAGED]
    patch = found.patches[DAMAGED]
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
    patch = healed(repository, DAMAGED).patches[DAMAGED]
    error = np.sqrt(np.mean((patch.values - truth(damaged, DAMAGED)) ** 2))
    unaided = np.sqrt(np.mean((forecast - truth(damaged, DAMAGED)) ** 2))
    assert error < 1.1 * unaided


def test_land_stays_missing(damaged: Case) -> None:
    found = healed(damaged.open(), LAND, PARTLY_LAND)
    land = found.patches[LAND]
    assert np.isnan(land.values).all()
    assert (land.provenance == PROVENANCE["missing"]).all()
    partly = found.patches[PARTLY_LAND]
    expected = np.isnan(truth(damaged, PARTLY_LAND))
    assert expected.any()
    assert (np.isnan(partly.values) == expected).all()
    assert ((partly.provenance == PROVENANCE["missing"]) == expected).all()


def test_what_is_not_forecast_becomes_missing(damaged: Case) -> None:
    found = healed(damaged.open(), (0,), name="time_bnds")
    bounds = found.patches[0,]
    assert np.isnan(bounds.values).all()
    assert (bounds.provenance == PROVENANCE["missing"]).all()
    assert found.expected_error is None
    assert found.confidence is None


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
    few = healed(damaged.open(), DAMAGED)
    many = healed(damaged.open(), DAMAGED, (0, 0), (1, 0), (0, 2))
    for found in (few, many):
        assert found.confidence is not None
        assert 0 <= found.confidence <= 1
        assert found.expected_error


def test_a_hopeless_estimate_has_no_confidence() -> None:
    errors = np.full((4, 4), 3.0)
    for odds in (Odds(), Odds(0.0, 0.3), Odds(0.0, 0.0)):
        assert odds.within(errors, 0.5) < 0.02
        assert odds.within(errors, 30.0) > 0.98
    assert Odds(0.0, 0.6).within(errors, 4.0) < Odds(0.0, 0.2).within(errors, 4.0)


def test_what_cannot_be_estimated_is_not_within_tolerance(
    damaged: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A chunk of sea that was not predicted is unknown; land is not, and does not count."""
    land = healed(damaged.open(), LAND)
    assert (land.expected_error, land.confidence) == (0.0, 1.0)
    read = ShadowStack.chunk

    def withhold(self: ShadowStack, lead: int, index: Index) -> tuple[Floats, Floats]:
        values, errors = read(self, lead, index)
        return (values * np.nan, errors * np.nan) if index == DAMAGED else (values, errors)

    monkeypatch.setattr(ShadowStack, "chunk", withhold)
    alone = healed(damaged.open(), DAMAGED)
    assert (alone.patches[DAMAGED].provenance == PROVENANCE["missing"]).all()
    assert (alone.expected_error, alone.confidence) == (None, None)
    other = healed(damaged.open(), (0, 0))
    both = healed(damaged.open(), DAMAGED, (0, 0))
    assert other.confidence is not None
    assert both.confidence == pytest.approx(other.confidence / 2, abs=0.05)
    assert both.expected_error is not None


def test_where_the_forecast_stands_its_figures_do(
    damaged: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gnomon.tasks.healing.validation._earned", lambda *_: False)
    repository = damaged.open()
    shadow = repository.stored.shadows[0]
    stack = repository.stored.shadow("sst", shadow)
    confidence, expected = stack.scores()[0][DAMAGED][2:]
    found = healed(repository, DAMAGED)
    assert found.expected_error == pytest.approx(expected)
    assert found.confidence == pytest.approx(confidence)
    patch = found.patches[DAMAGED]
    assert (patch.provenance == PROVENANCE["forecast"]).all()
    assert sources.bits(patch.values) == sources.bits(stack.chunk(1, DAMAGED)[0])


def write_days(path: Path, days: NDArray[np.int64], values: Floats, **attributes: str) -> None:
    """Append daily fields of a variable v to a source."""
    time = np.datetime64("2001-01-01", "ns") + days * np.timedelta64(1, "D")
    data = xr.Dataset(
        {"v": (("time", "y", "x"), values, attributes)},
        coords={"time": time, "y": np.arange(values.shape[1]), "x": np.arange(values.shape[2])},
    )
    if path.exists():
        data.drop_attrs(deep=True).to_zarr(path, append_dim="time")
    else:
        data.to_zarr(path)


def grow_days(
    folder: Path, days: NDArray[np.int64], values: Floats, **attributes: str
) -> GnomonRepository:
    """Return a repository of all fields but the last, which arrives with a chunk damaged."""
    path = folder / "source.zarr"
    write_days(path, days[:-1], values[:-1], **attributes)
    repository = gnomon.create(str(folder / "repository"), str(path), chunks={"y": 4, "x": 4})
    repository.update()
    last = values[-1:].copy()
    last[:, :4, :4] = 9999.0
    write_days(path, days[-1:], last)
    repository.update()
    return repository


@pytest.mark.parametrize(("count", "silence"), [(9, 5), (30, 1), (4, 2)])
def test_a_capture_after_a_silence_is_healed(count: int, silence: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    days = np.append(np.arange(count), count + silence)
    values = 10 + np.cumsum(0.3 * rng.standard_normal((days[-1] + 1, 8, 8)), axis=0)[days]
    repository = grow_days(tmp_path, days, values)
    at = str(repository.status()["last"])
    kinds = {point.kind: point for point in repository.points(at)}
    if "healed" in kinds or "forecast" in kinds:
        error = kinds["healed"].expected_error["v"]
        assert error is not None
        assert error > 0


def test_a_capture_is_healed_whose_forecast_is_older_than_all_that_is_kept(tmp_path: Path) -> None:
    """What was captured last before the forecast is then no first guess: nothing is known of it."""
    rng = np.random.default_rng(0)
    values = 10 + np.cumsum(0.3 * rng.standard_normal((9, 8, 8)), axis=0)
    write_days(tmp_path / "source.zarr", np.arange(5), values[:5])
    repository = gnomon.create(
        str(tmp_path / "repository"), str(tmp_path / "source.zarr"), chunks={"y": 4, "x": 4}
    )
    repository.update()
    write_days(tmp_path / "source.zarr", np.arange(5, 9), values[5:])
    repository.update()
    repository.forget(captures=[0, 1, 2, 3, 4])
    damaged = np.zeros((8, 8), bool)
    damaged[1:3, 1:3] = True
    found = repository.heal("2001-01-09", damaged)
    estimates = found.v.values.reshape(8, 8)
    assert np.isfinite(estimates).all()
    np.testing.assert_array_equal(estimates[~damaged], values[8][~damaged])


def test_estimates_stay_within_what_is_possible(tmp_path: Path) -> None:
    """Bounds that nothing declares are known of a standard name."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[0:12, 0:24]
    fields = []
    wave = np.zeros((12, 24))
    for _ in range(31):
        phase = rng.uniform(0, 2 * np.pi)
        wave = 0.6 * wave + rng.standard_normal() * np.cos(x / 6 + y / 5 + phase)
        fields.append(np.clip(0.5 + 0.9 * wave, 0, 1))
    repository = grow_days(
        tmp_path, np.arange(31), np.stack(fields), standard_name="sea_ice_area_fraction", units="1"
    )
    at = str(repository.status()["last"])
    found = repository.dataset(at, kind="healed", accept_predicted=True).load()
    assert float(found.v.min()) >= 0.0
    assert float(found.v.max()) <= 1.0


def test_a_chunk_damaged_again_and_again_is_not_trusted_too_far(tmp_path: Path) -> None:
    """Its forecast begins where it was known last, and so does that of its past."""
    rng = np.random.default_rng(11)
    steps = rng.standard_normal((45, 1, 1)) + 0.3 * rng.standard_normal((45, 12, 12))
    steps[:, :4, :4] += 2.0 * rng.standard_normal((45, 1, 1))  # a corner that walks by itself
    values = 100 + np.cumsum(steps, axis=0)
    path = tmp_path / "source.zarr"
    write_days(path, np.arange(40), values[:40])
    repository = gnomon.create(str(tmp_path / "repository"), str(path), chunks={"y": 4, "x": 4})
    repository.update()
    stated = []
    for day in range(40, 45):
        last = values[day : day + 1].copy()
        last[:, :4, :4] = 9999.0
        write_days(path, np.array([day]), last)
        repository.update()
        (healed_point,) = (
            p for p in repository.points(str(repository.status()["last"])) if p.kind == "healed"
        )
        stated.append(healed_point.expected_error["v"])
    # A walk of steps of 2: after five days the error has grown by the root of five.
    assert stated[0] is not None
    assert stated[-1] is not None
    assert stated[-1] > 1.6 * stated[0]


def test_a_large_field_is_healed_by_its_surroundings(
    damaged: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chunks that lie together are one hole; others are healed alone, and alike."""
    variable = damaged.open().stored.settings.variable("sst")

    def groups(*indices: Index) -> list[list[Index]]:
        return [region.damaged for region in regions(variable, list(indices))]

    assert groups((0, 0), (1, 2)) == [[(0, 0), (1, 2)]]
    monkeypatch.setattr("gnomon.tasks.restoring.region.MOST_CELLS", 40)
    monkeypatch.setattr("gnomon.tasks.restoring.region.ROOM", 40)
    assert groups((0, 0), (1, 0), (1, 2)) == [[(0, 0), (1, 0)], [(1, 2)]]
    assert groups((0, 0), (0, 1), (1, 2)) == [[(0, 0)], [(0, 1)], [(1, 2)]]
    for region in regions(variable, [DAMAGED, (1, 2)]):
        sizes = [np.empty(region.shape)[region.cells(index)].size for index in region.indices]
        assert min(sizes) > 0
        assert sum(sizes) == np.prod(region.shape)
        assert all(sizes[place] == 16 for place in region.places)
    patch = healed(damaged.open(), DAMAGED).patches[DAMAGED]
    assert np.isfinite(patch.values).all()


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
        patch = heal(stored, count, shadow, 1, "sst", [index]).patches[index]
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
    first, second = (healed(damaged.open(), DAMAGED) for _ in range(2))
    for name in ("values", "standard_error", "provenance"):
        one, other = (getattr(h.patches[DAMAGED], name) for h in (first, second))
        assert sources.bits(one) == sources.bits(other)


def test_another_variable_of_the_dataset_helps(tmp_path: Path) -> None:
    """What neighbours cannot know, as every cell goes its own way, the other variable does."""
    rng = np.random.default_rng(4)
    q = np.zeros((31, 8, 12))
    for k in range(1, 31):
        q[k] = 0.5 * q[k - 1] + rng.standard_normal((8, 12))
    t = 280 + 3 * q + 0.3 * rng.standard_normal(q.shape)
    times = np.datetime64("2001-01-01", "ns") + np.arange(31) * np.timedelta64(1, "D")
    dims = ("time", "y", "x")
    whole = xr.Dataset({"t": (dims, t), "q": (dims, q)}, coords={"time": times})
    damaged = whole.copy(deep=True)
    damaged.t.values[-1, :4, :4] = 9999.0
    path = tmp_path / "source.zarr"
    damaged.isel(time=slice(30)).to_zarr(path)
    repository = gnomon.create(
        str(tmp_path / "repository"), str(path), chunks={"y": 4, "x": 4}, variables=["t", "q"]
    )
    repository.update()
    damaged.isel(time=[30]).to_zarr(path, append_dim="time")
    assert list(repository.update().healed.values()) == [1]
    state = repository.dataset("2001-01-31", accept_predicted=True).isel(time=0).load()
    wrong = (state.t.values - t[-1])[:4, :4]
    stated = state.t_standard_error.values[:4, :4]
    assert np.sqrt(np.mean(wrong**2)) < 1.0  # without it 3, the size of what is new
    assert np.sqrt(np.mean(stated**2)) < 1.2
    flags = state.t_provenance.values[:4, :4]
    assert (flags == PROVENANCE["estimated_from_intact_neighbours"]).all()
    assert (state.q_provenance.values == PROVENANCE["captured"]).all()
