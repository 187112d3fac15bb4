"""Members through the Python API and the command line: reproducible, marked, honest."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from typer.testing import CliRunner

import gnomon
from gnomon.cli import app
from gnomon.repository import GnomonRepository
from gnomon.storage.errors import Conflict, InvalidInput, NotFound
from gnomon.storage.serve.planes import PROVENANCE
from gnomon.tasks.simulating.history import History
from tests import sources
from tests.cases import DAMAGED, HISTORY, Case

LAST = "2001-01-30"
"""Six days after the history."""


def few(folder: Path, data: xr.Dataset, count: int) -> GnomonRepository:
    sources.write(folder / "few.zarr", data, 0, count)
    repository = gnomon.create(str(folder / "few"), str(folder / "few.zarr"))
    repository.update()
    return repository


def test_members_spread_about_the_forecast_as_it_states(grown: Case) -> None:
    repository = grown.open()
    members = repository.simulate(members=150)
    assert members.sst.dims == ("member", "time", "lat", "lon")
    assert members.member.attrs["standard_name"] == "realization"
    assert {"forecast_reference_time", "forecast_period"} <= set(members.coords)
    forecast = repository.dataset(kind="forecast", accept_predicted=True)
    drawn = members.sst.values.astype(np.float64)
    standard = (drawn - forecast.sst.values) / forecast.sst_standard_error.values
    land = np.isnan(forecast.sst.values)
    assert (np.isnan(drawn) == land).all()
    assert np.nanmean(standard) == pytest.approx(0.0, abs=0.15)
    assert np.nanstd(standard) == pytest.approx(1.0, abs=0.15)
    marks = members.sst_provenance.values
    assert (marks == np.where(land, PROVENANCE["missing"], PROVENANCE["simulated"])).all()


def test_the_same_seed_gives_the_same_bits_in_any_order_and_process(grown: Case) -> None:
    repository = grown.open()
    whole = repository.simulate(members=4, seed=7).sst.values
    again = grown.open().simulate(members=9, seed=7).sst
    assert again.isel(member=3, time=4).values.tobytes() == whole[3, 4].tobytes()
    assert (
        again.isel(member=2, time=0, lat=slice(3, 6)).values.tobytes() == whole[2, 0, 3:6].tobytes()
    )
    chunked = grown.open().simulate(members=4, seed=7).chunk({"lat": 3, "member": 2})
    assert chunked.sst.values.tobytes() == whole.tobytes()
    pickled = pickle.loads(pickle.dumps(again))
    assert pickled.isel(member=slice(4)).values.tobytes() == whole.tobytes()
    one = repository.simulate(LAST, members=4, seed=7).sst.values[:, 0]
    assert one.tobytes() == whole[:, -1].tobytes()
    assert (repository.simulate(members=4, seed=8).sst.values != whole)[:, :, 0].all()


def test_what_was_captured_exactly_is_refused(grown: Case) -> None:
    with pytest.raises(InvalidInput, match="captured exactly"):
        grown.open().simulate("2001-01-10")


@pytest.mark.parametrize("members", [0, -1, 10_001])
def test_an_impossible_number_of_members_is_refused(grown: Case, members: int) -> None:
    with pytest.raises(InvalidInput, match="members, expected"):
        grown.open().simulate(members=members)


def test_what_is_not_forecast_is_refused(grown: Case) -> None:
    with pytest.raises(NotFound, match="time_bnds"):
        grown.open().simulate(variables=["time_bnds"])
    with pytest.raises(NotFound, match="no variable"):
        grown.open().simulate(variables=["wind"])


def test_intact_cells_of_a_healed_state_are_the_same_in_all_members(damaged: Case) -> None:
    repository = damaged.open()
    members = repository.simulate("2001-01-25", members=12)
    healed = repository.dataset("2001-01-25", accept_predicted=True)
    drawn, estimate = members.sst.values[:, 0], healed.sst.values[0]
    lat, lon = (slice(4 * i, 4 * i + 4) for i in DAMAGED)
    hole = np.zeros(estimate.shape, bool)
    hole[lat, lon] = True
    intact = np.broadcast_to(estimate, drawn.shape)[:, ~hole]
    assert drawn[:, ~hole].tobytes() == intact.tobytes()
    assert (members.sst_provenance.values[:, 0][:, ~hole] == PROVENANCE["captured"]).all()
    assert (members.sst_provenance.values[:, 0][:, hole] == PROVENANCE["simulated"]).all()
    standard = (drawn - estimate)[:, hole] / healed.sst_standard_error.values[0][hole]
    assert 0.5 < np.std(standard) < 1.5


def test_nothing_later_than_the_forecast_reaches_its_covariance(grown: Case) -> None:
    repository = grown.open().stored
    shadow = repository.shadows[-1]
    before = History.of(repository, shadow, "sst")
    grown.arrive(HISTORY, HISTORY + 4)
    grown.open().update()
    later = grown.open().stored
    after = History.of(later, shadow, "sst")
    assert len(later.timeline) > len(repository.timeline)
    assert after.steps == before.steps
    assert max(later.captured[s].instant for s in after.steps) <= shadow.reference
    assert after.specification == before.specification


@pytest.mark.parametrize("ending", [".zarr", ".nc"])
def test_what_is_written_is_what_is_drawn_and_no_repository_captures_it(
    grown: Case, ending: str
) -> None:
    repository, to = grown.open(), grown.folder / f"members{ending}"
    told = repository.write_simulation(to, members=3, seed=2)
    with xr.open_dataset(to) as written:
        drawn = repository.simulate(members=3, seed=2)
        assert written.sst.values.tobytes() == drawn.sst.values.tobytes()
        assert written.attrs["gnomon_method"] == "simulated"
    assert [len(state.means) for state in told.states] == [3] * 6
    other = gnomon.create(str(grown.folder / "other"), str(to))
    with pytest.raises(InvalidInput, match="never captured as data"):
        other.update()
    with pytest.raises(Conflict):
        repository.write_simulation(to, members=3)


@pytest.mark.parametrize("at", ["2001-01-14", "2001-02-10"])
def test_what_was_never_forecast_is_drawn_as_its_estimate_states(tmp_path: Path, at: str) -> None:
    """In a gap of a backfill, and beyond the leads."""
    data = sources.temperature(30)
    kept = np.delete(np.arange(30), np.arange(12, 15))
    sources.write(tmp_path / "s.zarr", data.isel(time=kept))
    repository = gnomon.create(str(tmp_path / "r"), str(tmp_path / "s.zarr"))
    repository.update()
    members = repository.simulate(at, members=150)
    assert at in members.attrs["gnomon_summary"]
    estimate = repository.dataset(at, accept_predicted=True)
    drawn, known = members.sst.values, np.isfinite(estimate.sst.values[0])
    assert (np.isnan(drawn) == ~known).all()
    standard = ((drawn - estimate.sst.values) / estimate.sst_standard_error.values)[:, 0, known]
    assert np.mean(standard) == pytest.approx(0.0, abs=0.15)
    assert np.std(standard) == pytest.approx(1.0, abs=0.1)
    # Neighbours go together, as departures do.
    pairs = standard[:, 1:] - standard[:, :-1]
    assert np.mean(pairs**2) < 1.8


@pytest.mark.parametrize("count", [3, 4, 9])
def test_of_few_captures_members_say_what_they_rest_on(tmp_path: Path, count: int) -> None:
    members = few(tmp_path, sources.temperature(count), count).simulate(members=3)
    drawn = members.sst.values
    assert np.isfinite(drawn[:, :, 0, 0]).all()
    assert (drawn[0] != drawn[1])[:, 0].all()
    assert "stationary model" in members.sst.attrs["gnomon_covariance"]


def test_members_of_a_fraction_are_fractions_and_packed_ones_are_numbers(tmp_path: Path) -> None:
    data = sources.temperature(20, land=False)
    fraction = np.clip(0.5 + 0.4 * (data.sst.values - data.sst.values.mean()), 0, 1)
    packed = np.round(fraction * 1000).astype("i2")
    about = {"standard_name": "sea_ice_area_fraction", "units": "1"}
    data["ice"] = (data.sst.dims, fraction.astype("f4"), about)
    data["packed"] = (data.sst.dims, packed, {"scale_factor": 0.001, "add_offset": 0.0, **about})
    repository = few(tmp_path, data, 20)
    members = repository.simulate(members=6)
    alone = repository.simulate(members=6, variables=["packed"])
    assert alone["packed"].values.tobytes() == members["packed"].values.tobytes()
    for name in ("ice", "packed"):
        assert 0.0 <= members[name].values.min() < members[name].values.max() <= 1.0
    assert members["packed"].dtype == np.float64
    assert "scale_factor" not in members["packed"].attrs
    # What is the same but for its packing has members that go together.
    assert np.corrcoef(members.ice.values.ravel(), members["packed"].values.ravel())[0, 1] > 0.6


def test_labels_of_members_are_labels(tmp_path: Path) -> None:
    data = sources.temperature(20, land=False)
    flags = (data.sst.values > 293).astype("i1") + np.int8(1)
    data["state"] = (
        data.sst.dims,
        flags,
        {"flag_values": np.array([1, 2, 3], "i1"), "flag_meanings": "a b c"},
    )
    members = few(tmp_path, data, 20).simulate(members=30, variables=["state"])
    assert set(members.data_vars) == {"state", "state_provenance"}
    assert set(np.unique(members.state.values)) == {1, 2}


def test_a_state_source_is_simulated(tmp_path: Path) -> None:
    data = sources.temperature(6).drop_vars("time_bnds")
    place = tmp_path / "state.zarr"
    repository = None
    for day in range(6):
        sources.overwrite(place, data.isel(time=day, drop=True))
        if repository is None:
            repository = gnomon.create(str(tmp_path / "state"), str(place), interval_s=86400)
        repository.update(f"2001-01-{day + 1:02d}")
    assert repository is not None
    members = repository.simulate(members=2)
    assert dict(members.sst.sizes) == {"member": 2, "time": 6, "lat": 8, "lon": 12}
    one = repository.simulate("2001-01-08", members=2)
    assert one.sst.dims == ("member", "lat", "lon")
    assert one.sst.values.tobytes() == members.sst.values[:, 1].tobytes()


def test_the_command_prints_and_writes(grown: Case) -> None:
    arguments = ["simulate", str(grown.place), "--members", "3", "--seed", "5"]
    printed = CliRunner().invoke(app, [*arguments, "--to", "m.nc", "--json"])
    assert printed.exit_code == 0, printed.output
    told = json.loads(printed.stdout)
    assert (told["members"], told["seed"], told["target"]) == (3, 5, "m.nc")
    assert [state["lead"] for state in told["states"]] == [1, 2, 3, 4, 5, 6]
    table = CliRunner().invoke(app, [*arguments, "--at", LAST])
    assert table.exit_code == 0
    assert "covariance of sst" in table.output


def test_what_is_learnt_from_no_capture_is_not_simulated(damaged: Case) -> None:
    """All that the forecast knew was forgotten; before, NumPy said that it needs an array."""
    damaged.arrive(HISTORY + 1, HISTORY + 2)
    repository = damaged.open()
    repository.update()
    repository.forget(captures=list(range(HISTORY)))
    with pytest.raises(NotFound, match="no capture of 'sst' is kept"):
        repository.simulate("2001-01-25", members=2)
