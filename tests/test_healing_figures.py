"""The benchmark of healing: what is counted, and what is said where nothing was found."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from benchmarks import heal
from tests import sources


def test_damage_that_is_never_found_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sources.write(tmp_path / "s.zarr", sources.temperature(12))
    monkeypatch.setattr(heal, "run_trial", lambda *_: None)
    command = ["heal", str(tmp_path / "s.zarr"), "--variable", "sst", "--captures", "9"]
    command += ["--chunk", "4", "4"]
    for options in (["--json"], []):
        monkeypatch.setattr(sys, "argv", [*command, "--trials", "2", *options])
        heal.main()
        told = capsys.readouterr().out
        if options:
            assert json.loads(told) == {"9": {"trials": 0, "damage not found": 2}}
        else:
            assert "damage not found" in told


def test_the_confidence_of_chunks_is_compared_with_chunks() -> None:
    """One chunk of two is far beyond the tolerance: so are both together."""
    error = np.zeros((4, 8))
    error[:, 4:] = 10.0
    scored = np.ones(error.shape, bool)
    scored[0] = False
    assert heal.share_within(error, scored, [4, 4], 1.0) == 0.5
    assert heal.share_within(error, scored, [4, 8], 1.0) == 0.0
    assert heal.share_within(error, scored, [2, 3], 1.0) == pytest.approx(2 / 6)
    scored[:, 4:] = False
    assert heal.share_within(error, scored, [4, 4], 1.0) == 1.0


def test_a_trial_counts_its_chunks(tmp_path: Path) -> None:
    data = xr.decode_cf(sources.temperature(25, land=False))[["sst"]]
    for variable in data.variables.values():
        variable.encoding = {}
    hole = (slice(2, 6), slice(2, 6))
    trial = heal.run_trial(data, "sst", [4, 4], hole, tmp_path / "r", 24)
    assert trial is not None
    assert len(trial.truth) == 64
    assert trial.within in (0, 0.25, 0.5, 0.75, 1)
    assert heal.summarise([trial], 0)["share within tolerance"] == trial.within
