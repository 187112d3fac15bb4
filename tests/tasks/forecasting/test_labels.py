import numpy as np
import pytest

from gnomon.tasks.forecasting import last_capture_rmse
from gnomon.tasks.forecasting.calibration import Calibration
from gnomon.tasks.forecasting.labels import confidence, shares
from tests.tasks.forecasting.series import specification

LEADS = 4


def flags(captures: int, cells: int, share: float) -> np.ndarray:
    """Labels of which a share is drawn anew at each capture."""
    draws = np.random.default_rng(3)
    field = np.zeros((captures, cells))
    for k in range(1, captures):
        moved = draws.random(cells) < share
        field[k] = np.where(moved, draws.integers(0, 50, cells), field[k - 1])
    return field


def test_the_expected_share_is_what_changes() -> None:
    spec = specification(leads=LEADS, categorical=True, tolerance=0.1)
    values = flags(300, 400, 0.04)
    counts = shares(spec, values, np.array([0, 100, 250, 400]))
    for lead in range(1, LEADS + 1):
        truth = (values[lead:] != values[:-lead]).mean()
        assert counts[2, lead - 1] == pytest.approx(truth, rel=0.1)
    assert (np.diff(counts[2]) > 0).all()


def test_the_confidence_is_the_share_of_captures_within_the_tolerance() -> None:
    spec = specification(leads=LEADS, categorical=True, tolerance=0.1)
    values = np.zeros((201, 100))
    values[1:, :50] = (np.arange(200) // 4 % 2)[:, None]  # half of it every fourth capture
    counts = shares(spec, values, np.array([0, 50, 100]))
    # One chunk of two never changes.
    assert confidence(counts)[0] == pytest.approx(1 - 0.25 / 2, abs=0.01)


def test_few_captures_are_not_certain() -> None:
    spec = specification(leads=LEADS, categorical=True, tolerance=0.1)
    before = np.zeros(LEADS)
    for captures in (1, 3, 10, 100):
        counts = shares(spec, np.zeros((captures, 9)), np.array([0, 4, 9]))
        sure = confidence(counts)
        assert ((sure >= before) & (sure < 1)).all()
        assert (counts[2] > 0).all()
        before = sure
    assert before[0] > 0.99


def test_what_is_missing_does_not_count() -> None:
    spec = specification(leads=LEADS, categorical=True, tolerance=0.1)
    values = flags(100, 60, 0.1)
    starts = np.array([0, 20, 60])
    holes = values.copy()
    holes[:, 20:] = np.nan
    one = shares(spec, values[:, :20], starts[:2])
    np.testing.assert_allclose(shares(spec, holes, starts), one)
    assert np.isfinite(shares(spec, np.full((5, 9), np.nan), np.array([0, 4, 9]))).all()


def calibration(squares: list[list[float]], persistence: float = 0.5) -> Calibration:
    leads = len(squares[0])
    weights = np.zeros((leads, 7))
    weights[:, 0], weights[:, 1] = persistence, 1 - persistence
    ones = np.ones(leads)
    return Calibration(weights, ones, ones, np.zeros((3, leads)), np.array(squares))


def test_the_last_capture_is_worse_by_what_hindcasts_say() -> None:
    found = calibration([[4.0, 9.0, np.nan], [1.0, 16.0, np.nan]])
    expected = last_capture_rmse(found, np.array([1.0, 4.0, 8.0]))
    np.testing.assert_allclose(expected, [2.0, 3.0, 6.0])


def test_a_forecast_of_persistence_alone_has_the_same_error() -> None:
    found = calibration([[4.0, 9.0], [1.0, 16.0]], persistence=1.0)
    np.testing.assert_array_equal(last_capture_rmse(found, np.array([1.0, 4.0])), [1.0, 4.0])


def test_a_perfect_forecast_leaves_the_last_capture_its_error() -> None:
    found = calibration([[4.0], [0.0]])
    np.testing.assert_allclose(last_capture_rmse(found, np.array([1e-7])), [2.0])
