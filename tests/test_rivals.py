"""The comparison with other forecasters: gaps, failures, and what is counted."""

import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import skill

STUB = """
import numpy as np

class Model:
    def __init__(self, season_length):
        pass

    def forecast(self, history, leads):
        assert np.isfinite(history).all()
        return {"mean": np.full(leads, history.mean())}

class Failing(Model):
    def forecast(self, history, leads):
        if len(history) > 30 or history[0] > 100:
            raise ValueError("no fit")
        return super().forecast(history, leads)

class Wild(Model):
    def forecast(self, history, leads):
        return {"mean": np.full(leads, np.nan)}

AutoARIMA, AutoETS, DynamicOptimizedTheta = Model, Failing, Wild
"""


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An interpreter with models of known behaviour in place of statsforecast's."""
    package = tmp_path / "statsforecast"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "models.py").write_text(STUB)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return Path(sys.executable)


def gappy() -> np.ndarray:
    """Every cell has a gap; one begins late, one has nothing at the end, one nothing at all."""
    values = np.arange(30.0)[:, None] + 10.0 * np.arange(6)
    for cell in range(6):
        values[5 + cell, cell] = np.nan
    values[:20, 3] = np.nan
    values[25:, 4] = np.nan
    values[:, 5] = np.nan
    return values


def test_gaps_of_every_cell_are_no_failure(environment: Path) -> None:
    found = skill.run_rivals(environment, ["AutoARIMA"], gappy(), [24, 29], 3, 1)
    made, about = found["AutoARIMA"]
    assert made.shape == (2, 3, 6)
    # A gap in a straight line is filled as if it had not been.
    np.testing.assert_allclose(made[0, :, 0], np.arange(25.0).mean())
    # What was not there yet is no history.
    np.testing.assert_allclose(made[0, :, 3], 30 + np.arange(20.0, 25.0).mean())
    assert np.isnan(made[:, :, 5]).all()
    assert (about["fits"], about["failed"]) == (12, 2)


def test_failures_are_counted_and_the_last_value_stands(environment: Path) -> None:
    values = np.concatenate([gappy()[:, :4], 200 + gappy()[:, :1]], axis=1)
    found = skill.run_rivals(environment, ["AutoETS", "Theta"], values, [24], 2, 1)
    assert found["AutoETS"][1]["failed"] == 1
    np.testing.assert_allclose(found["AutoETS"][0][0, :, 4], 224.0)
    assert found["Theta"][1]["failed"] == 5
    np.testing.assert_allclose(found["Theta"][0][0, 0, :4], [24, 34, 44, 54])


def test_the_table_says_what_failed(capsys: pytest.CaptureFixture[str]) -> None:
    skill.print_rivals(
        {
            "cells": 5,
            "origins": 2,
            "ratio_to_persistence": {"shadow": 0.5, "AutoETS": 1.0},
            "series_per_second": {"AutoETS": 3.0},
            "failed": {"AutoETS": [4, 10]},
        }
    )
    out = capsys.readouterr().out
    assert "4 of 10 fits failed" in out


def test_cells_are_those_with_the_fewest_gaps() -> None:
    assert set(skill.pick_cells(gappy(), 3)) <= {0, 1, 2}
    assert len(skill.pick_cells(gappy(), 40)) == 3
    assert len(skill.pick_cells(np.ones((10, 7)), 4)) == 4


def test_ratios_are_of_what_all_predicted() -> None:
    truth = np.array([[1.0, 2.0, np.nan]])
    made = {
        "persistence": [np.array([[0.0, 0.0, 0.0]])],
        "shadow": [np.array([[0.5, np.nan, 0.0]])],
    }
    assert skill.ratios(made, [truth]) == {"persistence": 1.0, "shadow": 0.5}
    nothing = {"persistence": [np.full((1, 3), np.nan)]}
    assert np.isnan(skill.ratios(nothing, [truth])["persistence"])
