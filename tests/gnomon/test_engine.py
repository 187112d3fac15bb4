from typing import Any

import numpy as np
import pytest
import xarray as xr

from gnomon.engine import GnomonBackendEntrypoint
from gnomon.storage.errors import InvalidInput, NotFound
from gnomon.storage.view import PROVENANCE
from tests import sources
from tests.cases import HISTORY, Case

NEXT = "2001-01-25"


def test_a_captured_state_opens_as_the_source_does(grown: Case) -> None:
    with xr.open_dataset(grown.source, engine="zarr") as source:
        expected = source.isel(time=slice(9, 10)).load()
    found = xr.open_dataset(
        grown.place, engine=GnomonBackendEntrypoint, at="2001-01-10", plain=True
    )
    xr.testing.assert_identical(found.load(), expected)


def test_without_a_time_all_captures_open(grown: Case) -> None:
    found = xr.open_dataset(grown.place, engine=GnomonBackendEntrypoint, decode_cf=False)
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
    assert "sst_provenance" in found


def test_only_repositories_are_opened(grown: Case) -> None:
    engine = GnomonBackendEntrypoint()
    assert engine.guess_can_open(str(grown.place))
    assert not engine.guess_can_open(str(grown.source))
    assert not engine.guess_can_open(3)
    with pytest.raises(NotFound, match="gnomon init"):
        xr.open_dataset(grown.source, engine=GnomonBackendEntrypoint)
    with pytest.raises(NotFound, match="no state"):
        xr.open_dataset(grown.place, engine=GnomonBackendEntrypoint, at="1999")
