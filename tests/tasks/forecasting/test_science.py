"""Known processes are recovered, intervals cover, and the blend costs nothing."""

import numpy as np
import pytest

from gnomon.tasks.forecasting import blend, climatology, forecast, roll, start, trajectory
from tests.tasks.forecasting.series import (
    Array,
    ahead,
    autoregressive,
    daily,
    learnt,
    specification,
    times,
)

Z90 = 1.6448536269514722


def test_an_autoregressive_process_is_recovered() -> None:
    values = autoregressive((1.2, -0.5), 1500, 60, seed=30, common=0.0)
    fitted = trajectory.fitted(specification((2, 0)), learnt(specification((2, 0)), values))
    np.testing.assert_allclose(fitted.recursion.mean(axis=1), [1.2, -0.5], atol=0.03)
    assert fitted.scale.mean() == pytest.approx(1.0, abs=0.05)


def test_a_season_is_recovered() -> None:
    spec = specification((1, 0), seasonal=True)
    fitted = trajectory.fitted(spec, learnt(spec, daily(600, 20, seed=31)))
    season = climatology.features(spec, times(24)) @ fitted.coefficients
    truth = 280.0 + 5.0 * np.cos(2 * np.pi * times(24) / 86400.0)
    assert np.abs(season.mean(axis=1) - truth).max() < 1.0


def test_recursions_are_stationary_whatever_is_learnt() -> None:
    rng = np.random.default_rng(32)
    walks = np.cumsum(rng.standard_normal((60, 50)), axis=0) ** 3
    fitted = trajectory.fitted(specification((3, 0)), learnt(specification((3, 0)), walks))
    for cell in fitted.recursion.T:
        assert np.abs(np.roots([1.0, *-cell])).max() < 1.0


def errors(
    values: Array, order: tuple[int, int], first: int, every: int = 1
) -> tuple[Array, float]:
    """RMSE of the blend and of each candidate, and share inside the 90 % interval."""
    spec = specification(order)
    state = start(spec, values.shape[1])
    squares, covered = [], []
    for slot, capture in enumerate(values):
        state = roll(spec, state, slot, slot * 3600.0, capture)
        if slot < first or slot + spec.leads >= len(values) or slot % every:
            continue
        made = forecast(spec, state, ahead(state, spec))
        path = trajectory.fitted(spec, state)
        for lead in range(spec.leads):
            truth = values[slot + 1 + lead]
            path = trajectory.advance(path, 1)
            single = trajectory.candidates(spec, path, np.ones(1))
            squares.append(((np.vstack([made.mean[lead], single]) - truth) ** 2).mean(axis=1))
            inside = np.abs(made.mean[lead] - truth) <= Z90 * made.standard_error[lead]
            covered.append(inside.mean())
    return np.sqrt(np.mean(squares, axis=0)), float(np.mean(covered))


SERIES = {
    "white": (autoregressive((), 400, 30, seed=33), (1, 0)),
    "red": (autoregressive((0.8,), 400, 30, seed=34), (1, 0)),
    "oscillating": (autoregressive((1.2, -0.6), 400, 30, seed=35), (2, 0)),
    "walk": (np.cumsum(autoregressive((), 400, 30, seed=36), axis=0), (1, 1)),
    "wrong order": (np.cumsum(autoregressive((), 400, 30, seed=37), axis=0), (1, 0)),
}


@pytest.mark.parametrize("name", SERIES)
def test_the_blend_is_no_worse_than_the_best_candidate(name: str) -> None:
    values, order = SERIES[name]
    rmse, _ = errors(values, order, 200)
    assert rmse[0] <= 1.015 * rmse[1:].min()
    assert rmse[0] <= 1.01 * rmse[1]


@pytest.mark.parametrize("name", SERIES)
def test_intervals_cover_what_they_say(name: str) -> None:
    values, order = SERIES[name]
    _, coverage = errors(values, order, 100)
    assert 0.87 <= coverage <= 0.94


def test_intervals_cover_with_few_captures() -> None:
    found = []
    for seed in range(20):
        values = autoregressive((0.7,), 40, 30, seed=100 + seed)
        found.append(errors(values, (1, 0), 3)[1])
    assert 0.87 <= np.mean(found) <= 0.97


def test_confidence_is_the_rate_of_success() -> None:
    spec = specification((1, 0), tolerance=1.3)
    said, happened = [], []
    for seed in range(8):
        values = autoregressive((0.7,), 200, 40, seed=seed, common=0.7)
        state = start(spec, 40)
        for slot, capture in enumerate(values):
            state = roll(spec, state, slot, slot * 3600.0, capture)
            if slot > 50 and slot + spec.leads < 200:
                made = forecast(spec, state, ahead(state, spec))
                rmse = np.sqrt(np.mean((made.mean - values[slot + 1 : slot + 7]) ** 2, axis=1))
                said.append(made.confidence)
                happened.append(rmse <= spec.tolerance)
    assert np.mean(said) == pytest.approx(np.mean(happened), abs=0.06)


def test_the_simplex_minimum_is_exact() -> None:
    rng = np.random.default_rng(38)
    sample = rng.standard_normal((20, 5, 8))
    moments = sample @ sample.transpose(0, 2, 1)
    weights = blend.simplex(moments)
    np.testing.assert_allclose(weights.sum(axis=1), 1.0)
    assert (weights >= 0).all()
    least = np.einsum("hi,hij,hj->h", weights, moments, weights)
    for other in rng.dirichlet(np.full(5, 0.5), 2000):
        assert (least <= np.einsum("i,hij,j->h", other, moments, other) + 1e-9).all()


def test_without_hindcasts_the_blend_is_persistence() -> None:
    weights = blend.weights(np.zeros((4, 5, 5)), np.zeros(4))
    np.testing.assert_array_equal(weights, np.tile(np.eye(5)[0], (4, 1)))
