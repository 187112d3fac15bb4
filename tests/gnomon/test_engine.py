from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import gnomon
from gnomon.engine import GnomonBackendEntrypoint
from gnomon.storage.errors import InvalidInput, NotFound
from gnomon.storage.serve.planes import PROVENANCE
from tests import sources
from tests.cases import HISTORY, Case

NEXT = "2001-01-25"


def test_a_captured_state_opens_as_the_source_does(grown: Case) -> None:
    with xr.open_dataset(grown.source, engine="zarr") as source:
        expected = source.isel(time=slice(9, 10)).load()
    found = xr.open_dataset(grown.place, engine=GnomonBackendEntrypoint, at="2001-01-10")
    xr.testing.assert_identical(found.load(), expected)
    for name in ("sst", "time_bnds"):
        assert found[name].encoding["chunks"][1:] == source[name].encoding["chunks"][1:]


def test_without_a_time_all_captures_open(grown: Case) -> None:
    found = xr.open_dataset(
        grown.place, engine=GnomonBackendEntrypoint, decode_cf=False, marks=True
    )
    assert found.sizes["time"] == HISTORY
    assert sources.bits(found.sst.values) == sources.bits(grown.data.sst.values[:HISTORY])
    assert (found.sst_provenance.values == PROVENANCE["captured"]).all()


def test_a_prediction_must_be_accepted(grown: Case) -> None:
    with pytest.raises(InvalidInput, match="--accept-predicted"):
        xr.open_dataset(grown.place, engine=GnomonBackendEntrypoint, at=NEXT)
    found = xr.open_dataset(
        grown.place, engine=GnomonBackendEntrypoint, at=NEXT, accept_predicted=True
    )
    known = found.sst_provenance.values == PROVENANCE["forecast"]
    assert np.isfinite(found.sst.values[known]).all()
    assert np.isnan(found.sst.values[~known]).all()
    assert str(found.time.values[0])[:10] == NEXT


def test_the_newest_shadow_opens_with_all_its_leads(damaged: Case) -> None:
    options: dict[str, Any] = {"engine": GnomonBackendEntrypoint, "kind": "forecast"}
    with pytest.raises(InvalidInput, match=r"made at 2001-01-25.*--accept-predicted"):
        xr.open_dataset(damaged.place, **options)
    found = xr.open_dataset(damaged.place, accept_predicted=True, **options)
    assert found.sizes["time"] == 6
    assert str(found.forecast_reference_time.values)[:10] == "2001-01-25"
    assert found.forecast_period.values.tolist() == [24.0 * k for k in range(1, 7)]
    assert found.forecast_period.dims == ("time",)
    assert {"forecast_period", "forecast_reference_time"} <= set(found.sst.coords)
    assert not (found.sst_provenance.values == PROVENANCE["captured"]).any()
    for k, time in enumerate(found.time.values):
        one = damaged.open().dataset(str(time)[:10], kind="forecast", accept_predicted=True)
        assert sources.bits(one.sst.values[0]) == sources.bits(found.sst.values[k])
        assert one.forecast_period.values == found.forecast_period.values[k]


def test_the_shadow_of_a_field_without_time_gets_one(tmp_path: Path) -> None:
    repository = None
    for k in range(5):
        cells = np.random.default_rng(k).normal(0, 1, (4, 4)).astype("f4")
        xr.Dataset({"t": (("y", "x"), cells, {"units": "K"})}).to_netcdf(tmp_path / "s.nc")
        if repository is None:
            repository = gnomon.create(str(tmp_path / "r"), str(tmp_path / "s.nc"), kind="state")
        repository.update(f"2001-01-0{k + 1}")
    options: dict[str, Any] = {"engine": GnomonBackendEntrypoint, "kind": "forecast"}
    found = xr.open_dataset(tmp_path / "r", accept_predicted=True, **options)
    assert found.t.dims == ("time", "y", "x")
    assert [str(t)[:10] for t in found.time.values[:2]] == ["2001-01-06", "2001-01-07"]
    assert str(found.forecast_reference_time.values)[:10] == "2001-01-05"
    assert np.isfinite(found.t.values).all()
    with pytest.raises(InvalidInput, match="state source"):
        xr.open_dataset(tmp_path / "r", engine=GnomonBackendEntrypoint)


@pytest.mark.parametrize(
    "options",
    [
        {"capture": 3},
        {"accept_predicted": True},
        {"match": "nearest"},
        {"match": "before"},
        {"kind": "captured"},
        {"kind": "healed", "accept_predicted": True},
        {"kind": "last_capture"},
        {"kind": "forecast", "accept_predicted": True, "capture": 3},
        {"kind": "forecast", "accept_predicted": True, "match": "nearest"},
        {"kind": "forecast", "accept_predicted": True, "plain": True},
        {"at": "2001-01-10", "from_": "2001-01-05"},
        {"until": "2001-01-10", "capture": 3},
        {"until": "2001-01-10", "match": "before"},
        {"until": "2001-01-10", "kind": "captured"},
        {"until": "2001-01-10", "plain": True, "marks": True},
        {"at": "2001-01-10", "region": "lat=0:10", "chunk": "0,1"},
    ],
)
def test_no_option_is_passed_over_in_silence(grown: Case, options: dict[str, Any]) -> None:
    repository = grown.open()
    with pytest.raises(InvalidInput):
        xr.open_dataset(grown.place, engine=GnomonBackendEntrypoint, **options)
    with pytest.raises(InvalidInput):
        repository.reading_store(**options)
    with pytest.raises(InvalidInput):
        repository.dataset(**options)


def test_a_shadow_that_is_not_there_yet(tmp_path: Path) -> None:
    sources.write(tmp_path / "s.zarr", sources.temperature(2))
    gnomon.create(str(tmp_path / "r"), str(tmp_path / "s.zarr")).update()
    with pytest.raises(NotFound, match="no shadow yet"):
        xr.open_dataset(
            tmp_path / "r",
            engine=GnomonBackendEntrypoint,
            kind="forecast",
            accept_predicted=True,
        )


def test_a_healed_state_and_a_kind_by_name(damaged: Case) -> None:
    options: dict[str, Any] = {"engine": GnomonBackendEntrypoint, "at": NEXT}
    healed = xr.open_dataset(damaged.place, accept_predicted=True, **options)
    suspect = xr.open_dataset(damaged.place, kind="suspect", **options)
    assert suspect.sst.values[0, 0, 5] - healed.sst.values[0, 0, 5] > 10
    assert suspect.sst.values[0, 0, 0] == healed.sst.values[0, 0, 0]


def test_lazy_with_dask_and_by_region(grown: Case) -> None:
    found = xr.open_dataset(grown.place, engine=GnomonBackendEntrypoint, chunks={})
    region = found.sst.isel(time=slice(3, 5), lat=slice(2, 6), lon=5)
    expected = grown.data.sst.values[3:5, 2:6, 5]
    assert sources.bits(region.compute(scheduler="threads").values) == sources.bits(expected)


def test_variables_can_be_dropped(grown: Case) -> None:
    found = xr.open_dataset(
        grown.place, engine=GnomonBackendEntrypoint, at="2001-01-10", drop_variables=["sst"]
    )
    assert "sst" not in found
    assert "time_bnds" in found


def test_only_repositories_are_opened(grown: Case) -> None:
    engine = GnomonBackendEntrypoint()
    assert engine.guess_can_open(str(grown.place))
    assert not engine.guess_can_open(str(grown.source))
    assert not engine.guess_can_open(3)
    with pytest.raises(NotFound, match="gnomon init"):
        xr.open_dataset(grown.source, engine=GnomonBackendEntrypoint)
    with pytest.raises(NotFound, match="no state"):
        xr.open_dataset(grown.place, engine=GnomonBackendEntrypoint, at="1999")
