"""When a source changes its ways, what was learnt of it is learnt anew, and the report says so."""

from pathlib import Path

import numpy as np
import xarray as xr

import gnomon

HISTORY, LATER = 50, 22


def test_a_lasting_change_brings_a_refit(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    noise = rng.standard_normal((HISTORY + LATER, 8, 8))
    noise[HISTORY:] *= 2.5
    values = np.zeros_like(noise)
    for t in range(1, len(values)):
        values[t] = 0.6 * values[t - 1] + noise[t]
    time = ("time", np.arange(len(values)), {"units": "days since 2001-01-01"})
    whole = xr.Dataset({"v": (("time", "y", "x"), 20.0 + values)}, coords={"time": time})
    source = tmp_path / "s.zarr"
    part = whole.isel(time=slice(0, HISTORY))
    part.to_zarr(source, encoding={"v": {"chunks": (1, 4, 4)}}, consolidated=False)
    repository = gnomon.create(str(tmp_path / "r"), str(source))
    assert repository.backfill().refit == {"v": "first forecast"}
    reasons: dict[int, str] = {}
    for t in range(HISTORY, HISTORY + LATER):
        whole.isel(time=slice(t, t + 1)).to_zarr(source, append_dim="time", consolidated=False)
        for reason in gnomon.open(str(tmp_path / "r")).update().refit.values():
            reasons[t] = reason
    assert reasons
    first = min(reasons)
    assert "have drifted" in reasons[first]
    assert first >= HISTORY + 7, "a few bad days are no drift"
    assert len(reasons) <= 3, "and not with each update"
