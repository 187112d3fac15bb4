"""Cells that a user names are estimated; all others are served as captured, bit for bit."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray

from gnomon.storage.errors import InvalidInput, NotFound
from gnomon.storage.serve.planes import PROVENANCE
from tests import sources
from tests.cases import HISTORY, Case

NEXT = "2001-01-25"


@pytest.fixture
def followed(grown: Case) -> Case:
    """Return a case with one more day, all of it sound and forecast beforehand."""
    grown.arrive(HISTORY, HISTORY + 1)
    grown.open().update()
    return grown


def block(case: Case) -> NDArray[np.bool_]:
    """Return a mask across the border of two chunks."""
    mask = np.zeros(case.data.sst.shape[1:], bool)
    mask[1:4, 2:6] = True
    return mask


def test_only_the_named_cells_are_estimated(followed: Case) -> None:
    mask = block(followed)
    state = followed.open().heal(NEXT, mask, decode=False).load()
    captured = followed.open().dataset(NEXT, plain=True, decode=False).load()
    values, truth = state.sst.values[0], captured.sst.values[0]
    assert sources.bits(values[~mask]) == sources.bits(truth[~mask])
    flags = state.sst_provenance.values[0]
    assert (flags[~mask] == PROVENANCE["captured"]).all()
    assert (flags[mask] != PROVENANCE["captured"]).all()
    errors = state.sst_standard_error.values[0]
    valid = np.isfinite(truth)
    assert (errors[~mask & valid] == 0).all()
    assert (errors[mask & valid] > 0).all()
    wrong = np.abs(values - truth)[mask & valid] / errors[mask & valid]
    assert 0 < wrong.max() < 6
    assert state.attrs["gnomon_method"] == "healed"


def test_what_the_damaged_cells_hold_is_not_looked_at(damaged: Case) -> None:
    """A block of a capture is 20 K too warm: named, it is estimated as if it were not there."""
    mask = np.zeros(damaged.data.sst.shape[1:], bool)
    mask[:4, 4:8] = True
    before = damaged.open().heal(NEXT, mask, decode=False).load()
    damaged.open().judge(NEXT, accept=True)
    after = damaged.open().heal(NEXT, mask, decode=False).load()
    truth = damaged.data.sst.values[HISTORY]
    for state in (before, after):
        wrong = (state.sst.values[0] - truth)[mask]
        assert np.nanmax(np.abs(wrong)) < 6
    assert sources.bits(before.sst.values) == sources.bits(after.sst.values)


def test_damage_that_reaches_farther_than_was_named_tells_nothing(damaged: Case) -> None:
    """The other cells of the chunk are 20 K too warm as well: they stay, and are not believed."""
    mask = np.zeros(damaged.data.sst.shape[1:], bool)
    mask[1:3, 5:7] = True
    state = damaged.open().heal(NEXT, mask, decode=False).load()
    assert np.nanmax(np.abs((state.sst.values[0] - damaged.data.sst.values[HISTORY])[mask])) < 6


def test_suspect_chunks_elsewhere_stay_as_captured(damaged: Case) -> None:
    mask = np.zeros(damaged.data.sst.shape[1:], bool)
    mask[6, 9:11] = True
    state = damaged.open().heal(NEXT, mask, decode=False).load()
    captured = damaged.open().dataset(NEXT, kind="suspect", plain=True, decode=False).load()
    left = sources.bits(state.sst.values[0][~mask]), sources.bits(captured.sst.values[0][~mask])
    assert left[0] == left[1]
    assert "stays as captured" in state.attrs["gnomon_notes"]


@pytest.mark.parametrize("name", ["mask.npy", "mask.nc", "mask.zarr"])
def test_a_mask_may_be_a_file(followed: Case, name: str) -> None:
    mask = block(followed)
    if name.endswith(".npy"):
        np.save(name, mask)
    else:
        array = xr.DataArray(mask.T, dims=("lon", "lat"), name="bad")  # by name, in any order
        (array.to_netcdf if name.endswith(".nc") else array.to_dataset().to_zarr)(name)
    expected = followed.open().heal(NEXT, mask, decode=False).load()
    state = followed.open().heal(NEXT, Path(name), decode=False).load()
    assert sources.bits(state.sst.values) == sources.bits(expected.sst.values)


@pytest.mark.parametrize(
    ("mask", "told"),
    [
        (np.zeros((8, 12), bool), "marks no cell"),
        (np.ones((8, 12), bool), "marks all 96 cells"),
        (np.ones((3, 4), bool), "has the shape 3 x 4; it must be that of one state: sst 8 x 12"),
        (np.full((8, 12), 7), "other values than 0 and 1"),
        ("nowhere.npy", "cannot be read as a mask"),
    ],
)
def test_a_mask_that_cannot_be_is_refused(grown: Case, mask: Any, told: str) -> None:
    grown.arrive(HISTORY, HISTORY + 1)
    with pytest.raises((InvalidInput, NotFound), match=told):
        grown.open().heal("2001-01-24", mask)


def test_a_capture_that_was_not_forecast_is_refused(grown: Case) -> None:
    with pytest.raises(NotFound, match="no forecast of 2001-01-10"):
        grown.open().heal("2001-01-10", block(grown))
    with pytest.raises(NotFound, match="was not captured"):
        grown.open().heal("2001-01-26", block(grown))


def test_a_restore_needs_consent_and_keeps_the_marks(followed: Case) -> None:
    mask = block(followed)
    np.save("mask.npy", mask)
    repository = followed.open()
    with pytest.raises(InvalidInput, match=r"with 12 cells .*--accept-predicted"):
        repository.restore(NEXT, "x.zarr", cells="mask.npy")
    with pytest.raises(InvalidInput, match="leave that out"):
        repository.restore(NEXT, "x.zarr", cells=mask, kind="forecast", accept_predicted=True)
    with pytest.raises(InvalidInput, match="leave out --region"):
        repository.restore(NEXT, "x.zarr", cells=mask, region="lat=0:9", accept_predicted=True)
    assert not Path("x.zarr").exists()
    repository.restore(NEXT, "x.zarr", cells="mask.npy", accept_predicted=True)
    with xr.open_zarr("x.zarr", consolidated=False, decode_cf=False) as written:
        marked = written.sst_provenance.values[0] != PROVENANCE["captured"]
        assert (marked == mask).all()
        truth = followed.data.sst.values[HISTORY]
        assert sources.bits(written.sst.values[0][~mask]) == sources.bits(truth[~mask])
