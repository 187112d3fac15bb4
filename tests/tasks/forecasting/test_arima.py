"""Known processes are recovered, and every process is stationary and invertible."""

import numpy as np
import pytest

from gnomon.tasks.forecasting import arima
from tests.tasks.forecasting.series import autoregressive


def test_an_autoregressive_process_is_recovered() -> None:
    series = autoregressive((0.6, 0.25), 3000, 8, seed=1, common=0.0)
    found = arima.fit(series, (2, 0, 0))
    np.testing.assert_allclose(found.autoregressive.mean(axis=1), [0.6, 0.25], atol=0.03)


@pytest.mark.parametrize("theta", [-0.7, 0.5])
def test_a_moving_average_is_recovered(theta: float) -> None:
    series = autoregressive((), 3000, 8, seed=2, common=0.0, moving=(theta,))
    found = arima.fit(series, (0, 0, 1))
    assert found.moving.mean() == pytest.approx(theta, abs=0.06)


def test_a_mixed_process_is_recovered() -> None:
    series = autoregressive((0.8,), 4000, 8, seed=3, common=0.0, moving=(-0.4,))
    found = arima.fit(series, (1, 0, 1))
    assert found.autoregressive.mean() == pytest.approx(0.8, abs=0.05)
    assert found.moving.mean() == pytest.approx(-0.4, abs=0.08)


def test_a_walk_with_drift_is_recovered() -> None:
    steps = autoregressive((), 3000, 8, seed=4, common=0.0, moving=(-0.6,))
    found = arima.fit(np.cumsum(0.3 + steps, axis=0), (0, 1, 1))
    assert found.moving.mean() == pytest.approx(-0.6, abs=0.06)
    assert found.drift.mean() == pytest.approx(0.3, abs=0.02)


def test_gaps_do_not_bias_it() -> None:
    series = autoregressive((0.8,), 3000, 8, seed=5, common=0.0)
    series[np.random.default_rng(6).random(series.shape) < 0.3] = np.nan
    assert arima.fit(series, (1, 0, 0)).autoregressive.mean() == pytest.approx(0.8, abs=0.03)


def test_with_little_history_cells_borrow_from_their_chunk_alone() -> None:
    fast = autoregressive((0.1,), 8, 400, seed=7, common=0.0)
    slow = autoregressive((0.9,), 8, 400, seed=8, common=0.0)
    both = np.concatenate([fast, slow], axis=1)
    found = arima.fit(both, (1, 0, 0), starts=np.array([0, 400, 800])).autoregressive[0]
    assert found[:400].mean() < 0.3
    assert found[400:].mean() > 0.5
    assert found[:400].std() < 0.15
    alone = arima.fit(fast, (1, 0, 0)).autoregressive[0]
    np.testing.assert_array_equal(found[:400], alone)


@pytest.mark.parametrize("order", [(3, 0, 0), (1, 0, 1), (2, 1, 2), (0, 1, 1)])
def test_forecasts_stay_finite_whatever_is_learnt(order: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(9)
    series = np.concatenate(
        [
            np.cumsum(np.cumsum(rng.standard_normal((60, 5)), axis=0), axis=0),
            1.1 ** np.arange(60)[:, None] * rng.standard_normal((60, 5)),
            (-1.0) ** np.arange(60)[:, None] * np.ones((60, 5)),
            np.zeros((60, 5)),
        ],
        axis=1,
    )
    found = arima.fit(series, order)
    for part in (found.autoregressive, -found.moving):
        roots = [np.roots([1.0, *-cell]) for cell in part.T if len(cell)]
        assert all(np.abs(r).max(initial=0.0) < 1.0 for r in roots)
    shocks = arima.innovate(found, series, order[1])
    made = arima.predict(found, series[::-1][:6], shocks, order[1], 200)
    assert np.isfinite(made).all()
    reach = np.abs(series).max(axis=0) + 200 * np.abs(np.diff(series, axis=0)).max(axis=0)
    assert (np.abs(made).max(axis=0) <= 10 * reach + 1e-9).all()


def test_stationary_coefficients_are_left_as_they_are() -> None:
    given = np.array([[1.2, 0.5], [-0.5, 0.3]])
    np.testing.assert_allclose(arima.stationary(given), given, atol=1e-12)
    assert np.abs(np.roots([1.0, *-arima.stationary(np.array([[2.0], [0.5]]))[:, 0]])).max() < 1
