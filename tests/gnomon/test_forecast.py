"""The shadow itself, lead by lead: opened, chosen by its reference time, and exported."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from typer.testing import CliRunner

import gnomon
from gnomon.cli import app
from gnomon.engine import GnomonBackendEntrypoint
from gnomon.repository import GnomonRepository
from gnomon.storage.arrays.shards import Shards
from gnomon.storage.errors import Conflict, Integrity, InvalidInput, NotFound
from gnomon.storage.serve.planes import PROVENANCE
from tests import sources
from tests.cases import Case

LEADS = 6


def opened(place: Path, **options: Any) -> xr.Dataset:
    return xr.open_dataset(place, engine=GnomonBackendEntrypoint, shadow=True, **options)


def test_a_shadow_lies_along_its_leads_and_agrees_with_each_forecast(grown: Case) -> None:
    repository = grown.open()
    shadow = opened(grown.place)
    assert shadow.sst.dims == shadow.sst_standard_error.dims == ("lead", "lat", "lon")
    assert shadow.lead.attrs == {"standard_name": "forecast_period", "units": "hours"}
    assert shadow.lead.values.tolist() == [24.0 * k for k in range(1, LEADS + 1)]
    assert shadow.forecast_reference_time.dims == ()
    assert set(shadow.sst.coords) == {"lead", "lat", "lon", "time", "forecast_reference_time"}
    periods = shadow.time.values - shadow.forecast_reference_time.values
    assert (periods == shadow.lead.values * np.timedelta64(1, "h")).all()
    for k, time in enumerate(shadow.time.values):
        state = repository.dataset(str(time)[:10], accept_predicted=True)
        for name in ("sst", "sst_standard_error", "sst_provenance"):
            assert sources.bits(state[name].values[0]) == sources.bits(shadow[name].values[k])
    assert set(np.unique(shadow.sst_provenance)) == {PROVENANCE["forecast"], PROVENANCE["missing"]}


def test_confidence_is_that_of_each_chunk_and_errors_are_those_of_each_lead(grown: Case) -> None:
    stored = grown.open().stored
    shadow = opened(grown.place)
    entry = stored.shadows[-1].variables["sst"]
    scores = stored.shadow("sst", stored.shadows[-1]).scores()
    chunks = shadow.sst_confidence.values[:, ::4, ::4]
    np.testing.assert_allclose(chunks, scores[..., 2], rtol=1e-6)
    whole = np.repeat(np.repeat(chunks, 4, axis=1), 4, axis=2)
    np.testing.assert_array_equal(whole, shadow.sst_confidence.values)
    assert shadow.sst_expected_error.values.tolist() == list(entry.expected_rmse)
    assert shadow.sst.attrs["gnomon_tolerance"] == entry.tolerance


def test_nothing_is_read_before_it_is_asked_for(
    grown: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[Any] = []
    true = Shards.read

    def counted(shards: Shards, lead: int, cells: Any) -> Any:
        reads.append(cells)
        return true(shards, lead, cells)

    monkeypatch.setattr(Shards, "read", counted)
    shadow = opened(grown.place, chunks={})
    assert reads == []
    region = shadow.sst.isel(lead=2, lat=slice(0, 4), lon=slice(0, 4))
    assert np.isfinite(pickle.loads(pickle.dumps(region)).compute(scheduler="threads")).all()
    assert {tuple((c.start, c.stop) for c in cells) for cells in reads} == {((0, 4), (0, 4))}


def test_an_older_shadow_is_chosen_by_its_reference_time(damaged: Case) -> None:
    repository = damaged.open()
    newest, older = repository.shadow_dataset(), repository.shadow_dataset("2001-01-24")
    assert str(newest.forecast_reference_time.values)[:10] == "2001-01-25"
    assert str(older.forecast_reference_time.values)[:10] == "2001-01-24"
    assert str(older.time.values[0])[:10] == "2001-01-25"
    assert opened(damaged.place, reference="2001-01-24").identical(older)
    with pytest.raises(InvalidInput, match=r"names 2 shadows.*01-24.*01-25"):
        repository.shadow_dataset("2001-01")
    with pytest.raises(NotFound, match=r"'1999'.*made at 2001-01-24"):
        repository.shadow_dataset("1999")


@pytest.mark.parametrize(
    "options",
    [
        {"shadow": True, "at": "2001-01-25"},
        {"shadow": True, "kind": "forecast"},
        {"shadow": True, "plain": True},
        {"shadow": True, "capture": 1},
        {"shadow": True, "match": "nearest"},
        {"reference": "2001-01-24"},
    ],
)
def test_no_option_is_passed_over_in_silence(grown: Case, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match="shadow=True"):
        xr.open_dataset(grown.place, engine=GnomonBackendEntrypoint, **options)


def test_a_shadow_that_is_not_there_yet(tmp_path: Path) -> None:
    sources.write(tmp_path / "s.zarr", sources.temperature(2))
    repository = gnomon.create(str(tmp_path / "r"), str(tmp_path / "s.zarr"))
    repository.update()
    for reference in (None, "2001-01-02"):
        with pytest.raises(NotFound, match="at least 3 captures"):
            repository.shadow_dataset(reference)


@pytest.mark.parametrize("ending", [".zarr", ".nc"])
def test_an_export_is_what_is_opened_and_says_what_it_is(grown: Case, ending: str) -> None:
    target = grown.folder / f"shadow{ending}"
    exported = grown.open().export_shadow(target)
    assert (exported.reference_time, len(exported.valid_times)) == ("2001-01-24T00:00:00", LEADS)
    assert exported.chunks == 6 * LEADS
    shadow = opened(grown.place)
    with xr.open_dataset(target) as written:
        xr.testing.assert_equal(written, shadow)
        assert written.attrs["gnomon_method"] == written.sst.attrs["gnomon_method"] == "forecast"
        assert written.attrs["gnomon_reference_time"] == "2001-01-24T00:00:00"
    with pytest.raises(Conflict, match="exists"):
        grown.open().export_shadow(target)


def test_damage_of_the_shadow_is_never_exported(
    grown: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    true = Shards.read

    def flipped(shards: Shards, lead: int, cells: Any) -> Any:
        values = true(shards, lead, cells).copy()
        values.reshape(-1)[0] ^= 1
        return values

    before = sources.listing(grown.folder)
    monkeypatch.setattr(Shards, "read", flipped)
    with pytest.raises(Integrity, match="shadow of sst"):
        grown.open().export_shadow("shadow.nc")
    assert sources.listing(grown.folder) == before


def test_the_command_exports_and_asks_what_to_export(grown: Case) -> None:
    run = CliRunner().invoke
    call = ["export", str(grown.place), "--to", "x.nc"]
    refused = run(app, call)
    assert isinstance(refused.exception, InvalidInput)
    assert "--shadow" in str(refused.exception)
    result = run(app, [*call, "--shadow", "--reference", "2001-01-24", "--json"])
    assert json.loads(result.stdout)["valid_times"][0] == "2001-01-25T00:00:00"
    with xr.open_dataset("x.nc") as written:
        assert written.sst.dims == ("lead", "lat", "lon")


def packed(count: int, calendar: str) -> xr.Dataset:
    """Return monthly packed fields (count, 4, 4), with a dimension that is called lead."""
    values = np.rint(np.random.default_rng(0).normal(0, 100, (count, 4, 4))).astype("i2")
    values[:, 0, 0] = -999
    attributes = {
        "units": "degC",
        "scale_factor": np.float32(0.01),
        "add_offset": np.float32(10),
        "_FillValue": np.int16(-999),
    }
    days = np.arange(count, dtype="f8") * 30
    told = {"units": "days since 2001-01-01", "calendar": calendar, "axis": "T"}
    return xr.Dataset(
        {"t": (("time", "lead", "x"), values, attributes)},
        {"time": ("time", days, told), "lead": ("lead", np.arange(4.0)), "x": np.arange(4.0)},
    )


@pytest.mark.parametrize(("calendar", "ending"), [("360_day", ".zarr"), ("noleap", ".nc")])
def test_packed_integers_in_any_calendar(tmp_path: Path, calendar: str, ending: str) -> None:
    sources.write(tmp_path / "s.zarr", packed(12, calendar))
    repository = gnomon.create(str(tmp_path / "r"), str(tmp_path / "s.zarr"), leads=3)
    repository.update()
    repository.export_shadow(tmp_path / f"x{ending}")
    raw = sources.raw(tmp_path / f"x{ending}")
    # The name of the leads is one that the source does not use.
    assert raw.t.dims == ("forecast_period", "lead", "x")
    assert raw.t.dtype == np.int16
    assert (raw.t.values[:, 0, 0] == -999).all()
    assert raw.forecast_period.values.tolist() == [720.0, 1440.0, 2160.0]
    assert raw.time.values.tolist() == [360.0, 390.0, 420.0]
    assert raw.time.attrs["calendar"] == raw.forecast_reference_time.attrs["calendar"] == calendar
    assert "axis" not in raw.time.attrs
    assert raw.t_standard_error.attrs["units_metadata"] == "temperature: difference"
    with xr.open_dataset(tmp_path / f"x{ending}") as written:
        xr.testing.assert_equal(written, repository.shadow_dataset())


def state_repository(tmp_path: Path) -> GnomonRepository:
    repository = None
    for k in range(4):
        cells = np.random.default_rng(k).normal(0, 1, (4, 4)).astype("f4")
        xr.Dataset({"t": (("y", "x"), cells, {"units": "K"})}).to_netcdf(tmp_path / "s.nc")
        if repository is None:
            repository = gnomon.create(str(tmp_path / "r"), str(tmp_path / "s.nc"), kind="state")
        repository.update(f"2001-01-0{k + 1}")
    assert repository is not None
    return repository


def test_a_field_that_is_overwritten_in_place(tmp_path: Path) -> None:
    repository = state_repository(tmp_path)
    repository.export_shadow(tmp_path / "x.nc")
    with xr.open_dataset(tmp_path / "x.nc") as written:
        xr.testing.assert_equal(written, repository.shadow_dataset())
        assert written.t.dims == ("lead", "y", "x")
        assert [str(t)[:10] for t in written.time.values[:2]] == ["2001-01-05", "2001-01-06"]
        assert str(written.forecast_reference_time.values)[:10] == "2001-01-04"


def test_a_variable_that_came_after_an_older_forecast_is_not_in_it(tmp_path: Path) -> None:
    data = sources.temperature(10)[["sst"]]
    sources.write(tmp_path / "s.zarr", data, 0, 6)
    repository = gnomon.create(str(tmp_path / "r"), str(tmp_path / "s.zarr"), leads=3)
    repository.update()
    sources.write(tmp_path / "s.zarr", data.assign(more=data.sst + 1), 0, 10)
    repository.add(["more"])
    repository.update()
    assert "more" in repository.shadow_dataset()
    older = repository.shadow_dataset("2001-01-06")
    assert set(older.data_vars) == set(repository.shadow_dataset().data_vars) - {
        name for name in repository.shadow_dataset().data_vars if str(name).startswith("more")
    }


def test_a_shadow_is_found_by_its_id(grown: Case) -> None:
    stored = grown.open().stored
    assert [stored.shadow_named(shadow.id) for shadow in stored.shadows] == list(stored.shadows)
    assert stored.shadow_named(None) is None
    assert stored.shadow_named("gone") is None


@pytest.mark.parametrize("ending", ["zarr", "nc"])
def test_a_state_of_one_number_is_exported_and_restored(ending: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    data = xr.Dataset(
        {
            "field": (("time", "x"), rng.normal(size=(20, 5)).cumsum(0)),
            "index": ("time", rng.normal(size=20).cumsum()),
            "packed": ("time", rng.integers(-90, 90, 20).astype("i2"), {"scale_factor": 0.01}),
        },
        coords={"time": ("time", np.arange(20.0), {"units": "days since 2000-01-01"})},
    )
    data.to_zarr(tmp_path / "s.zarr", consolidated=False)
    repository = gnomon.create(tmp_path / "r", tmp_path / "s.zarr")
    repository.update()
    repository.export_shadow(tmp_path / f"shadow.{ending}")
    repository.restore("2000-01-21", tmp_path / f"state.{ending}", accept_predicted=True)
    shadow = xr.open_dataset(tmp_path / f"shadow.{ending}")
    state = xr.open_dataset(tmp_path / f"state.{ending}")
    for name in ("index", "packed"):
        assert np.isfinite(shadow[name].values).all()
        assert shadow[name].values[0] == state[name].values.item()
