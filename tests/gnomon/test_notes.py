"""What a restored dataset says of itself, and that it is never taken for data."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import gnomon
from gnomon.storage.errors import InvalidInput
from tests import sources
from tests.cases import Case

NEXT = "2001-01-25"


@pytest.mark.parametrize("ending", [".zarr", ".nc"])
def test_a_restored_estimate_says_what_it_is(damaged: Case, ending: str) -> None:
    repository = damaged.open()
    target = damaged.folder / f"healed{ending}"
    point = repository.restore(NEXT, str(target), accept_predicted=True).point
    written = sources.raw(target)
    assert written.attrs["title"] == "generated"
    assert written.attrs["gnomon_method"] == "healed"
    assert written.attrs["gnomon_valid_time"] == "2001-01-25T00:00:00"
    assert written.attrs["gnomon_reference_time"] == "2001-01-24T00:00:00"
    assert written.attrs["gnomon_confidence"] == point.confidence
    assert written.attrs["gnomon_estimated_share"] == pytest.approx(1 / 6)
    told = written.sst.attrs
    assert told["gnomon_expected_error"] == point.expected_error["sst"]
    assert told["gnomon_expected_error_units"] == "K"
    assert told["gnomon_confidence"] == point.confidences["sst"]
    # They survive one more copy, as attributes do.
    copy = damaged.folder / "copy.nc"
    with xr.open_dataset(target) as opened:
        opened.to_netcdf(copy)
    assert sources.raw(copy).attrs["gnomon_summary"] == str(point)


def test_a_forecast_has_its_times_as_cf_has_them(grown: Case) -> None:
    repository = grown.open()
    target = grown.folder / "forecast.nc"
    repository.restore("2001-01-26", str(target), accept_predicted=True)
    with xr.open_dataset(target) as opened:
        assert str(opened.forecast_reference_time.values)[:10] == "2001-01-24"
        assert opened.forecast_period.values.tolist() == [48.0]
        assert {"forecast_period", "forecast_reference_time"} <= set(opened.sst.coords)


@pytest.mark.parametrize("ending", [".zarr", ".nc"])
def test_what_a_restore_says_is_not_captured(grown: Case, tmp_path: Path, ending: str) -> None:
    """An exact restore is a dataset like any other: captured anew, it is what the source was."""
    exact = tmp_path / f"exact{ending}"
    grown.open().restore("2001-01-10", str(exact), marks=True)
    assert sources.raw(exact).attrs["gnomon_method"] == "captured"
    again = gnomon.create(str(tmp_path / "again"), str(exact), variables=["sst"])
    again.update()
    shown = again.dataset("2001-01-10", plain=True, decode=False)
    assert shown.attrs == grown.data.attrs
    assert not [n for v in shown.variables.values() for n in v.attrs if n.startswith("gnomon_")]
    assert sources.bits(shown.sst.values) == sources.bits(grown.data.sst.values[9:10])


@pytest.mark.parametrize("ending", [".zarr", ".nc"])
def test_a_restore_that_is_captured_with_its_marks_can_be_given_back_with_new_ones(
    grown: Case, tmp_path: Path, ending: str
) -> None:
    """What is captured keeps its name; what is said of it has another one."""
    exact = tmp_path / f"exact{ending}"
    grown.open().restore("2001-01-10", str(exact), marks=True)
    again = gnomon.create(str(tmp_path / "again"), str(exact))
    again.update()
    again.restore("2001-01-10", tmp_path / f"twice{ending}", marks=True)
    before, after = sources.raw(exact), sources.raw(tmp_path / f"twice{ending}")
    for name in ("sst", "sst_provenance", "sst_standard_error"):
        assert sources.bits(after[name].values) == sources.bits(before[name].values)
    assert after.sst.attrs["ancillary_variables"].split() == [
        "sst_standard_error",
        "sst_provenance",
        "sst_standard_error_2",
        "sst_provenance_2",
    ]
    assert (after.sst_provenance_2 == 0).all()


@pytest.mark.parametrize("ending", [".zarr", ".nc"])
def test_an_estimate_is_never_captured(grown: Case, tmp_path: Path, ending: str) -> None:
    target = tmp_path / f"forecast{ending}"
    grown.open().restore(NEXT, str(target), accept_predicted=True)
    with pytest.raises(InvalidInput, match="predict"):
        gnomon.create(str(tmp_path / "again"), str(target)).update()


def test_plain_insists_on_what_was_captured(grown: Case) -> None:
    """Plain changes nothing of a captured state, and is refused where marks are needed."""
    shown = grown.open().dataset("2001-01-10", decode=False)
    xr.testing.assert_identical(
        grown.open().dataset("2001-01-10", plain=True, decode=False).load(), shown.load()
    )
    assert shown.attrs == grown.data.attrs
    with pytest.raises(InvalidInput, match="take one"):
        grown.open().dataset("2001-01-10", plain=True, marks=True)
    with pytest.raises(InvalidInput, match="plain"):
        grown.open().dataset(NEXT, plain=True, accept_predicted=True)


def test_each_variable_has_its_own_figures(tmp_path: Path) -> None:
    data = sources.temperature(30, land=False)[["sst"]]
    flag = (data.sst > 293).astype("i1")
    flag.attrs = {"flag_values": np.array([0, 1], "i1"), "flag_meanings": "cold warm"}
    sources.write(tmp_path / "s.zarr", data.assign(warm=flag))
    repository = gnomon.create(str(tmp_path / "r"), str(tmp_path / "s.zarr"))
    repository.update()
    (point,) = (p for p in repository.points("2001-01-31") if p.kind == "forecast")
    assert point.confidence == min(c for c in point.confidences.values() if c is not None)
    shown = repository.dataset("2001-01-31", accept_predicted=True)
    for name, units in (("sst", "K"), ("warm", "1")):
        told = shown[name].attrs
        assert told["gnomon_expected_error"] == point.expected_error[name]
        assert told["gnomon_expected_error_units"] == units
        assert told["gnomon_confidence"] == point.confidences[name]
        assert f"{name} " in shown.attrs["gnomon_summary"]
    assert shown.warm_standard_error.attrs["units"] == "1"
