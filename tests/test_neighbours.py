"""The benchmark of neighbourhoods: it finds those that tell something, around land too."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from benchmarks import neighbours


def ratios(
    path: Path,
    field: np.ndarray,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> dict[str, list[float]]:
    xr.Dataset({"v": (("time", "y", "x"), field)}).to_netcdf(path)
    given = ["neighbours", str(path), "--variable", "v", "--leads", "1", "--chunk", "4", "--json"]
    monkeypatch.setattr(sys, "argv", given)
    neighbours.main()
    found: dict[str, list[float]] = json.loads(capsys.readouterr().out)
    return found


def drifting(rows: int, columns: int, slots: int = 60) -> np.ndarray:
    """A field that moves by one cell in every slot."""
    noise = np.random.default_rng(0).standard_normal((rows, columns + slots))
    return np.stack([noise[:, slots - t : slots - t + columns] for t in range(slots)])


@pytest.mark.parametrize("land", [False, True])
def test_what_comes_from_next_door_is_seen_next_door(
    land: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    field = drifting(12, 16)
    if land:
        field[:, 3:6, 5:9] = np.nan
    table = ratios(tmp_path / "v.nc", field, capsys, monkeypatch)
    assert table["the four that are next to it"][0] < 0.6
    # Three cells away it was three slots ago.
    assert table["the four at three cells"][0] > 0.9


def test_means_leave_out_what_is_missing() -> None:
    field = np.arange(32.0).reshape(1, 4, 8)
    field[0, 0, 0] = np.nan
    mean = neighbours.chunk_mean(field, 4)
    np.testing.assert_allclose(mean[0, :, :4], np.nanmean(field[0, :, :4]))
    np.testing.assert_allclose(mean[0, :, 4:], field[0, :, 4:].mean())
    np.testing.assert_allclose(neighbours.box_mean(field, 1)[0, 0, 0], np.mean([1.0, 8.0, 9.0]))
