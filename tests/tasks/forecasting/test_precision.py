"""A state that is rounded forecasts what it did, within a small part of its error bar."""

from collections.abc import Callable

import numpy as np
import pytest

from gnomon.tasks.forecasting import Specification, State, forecast, rounded
from gnomon.tasks.hindcasting.replay import Replay, Series
from gnomon.tasks.learning.refit import Traits
from tests.tasks.forecasting.series import DAY, Array

COUNT, CELLS = 60, 96
STARTS = np.array([0, 32, 64, 96])


def season(rng: np.random.Generator) -> Array:
    phase = 2 * np.pi * np.arange(COUNT)[:, None] / 12
    size = rng.uniform(1, 20, CELLS)
    return size * np.cos(phase) + walk(rng, 0.8) + 280


def walk(rng: np.random.Generator, damping: float = 1.0) -> Array:
    result = np.zeros((COUNT, CELLS))
    for k in range(1, COUNT):
        result[k] = damping * result[k - 1] + rng.normal(size=CELLS)
    return result


def scales(rng: np.random.Generator) -> Array:
    """Some cells vary by millions of times more than others, as tracers do."""
    return np.exp(rng.uniform(-15, 15, CELLS)) * (1 + 0.1 * walk(rng, 0.5))


def half_still(rng: np.random.Generator) -> Array:
    values = season(rng)
    values[:, ::2] = values[0, ::2]
    return values


def far_from_zero(rng: np.random.Generator) -> Array:
    return 1e9 + 1e-3 * walk(rng, 0.5)


def with_gaps(rng: np.random.Generator) -> Array:
    values = season(rng)
    values[rng.random(values.shape) < 0.2] = np.nan
    values[:, :5] = np.nan
    return values


def counts(rng: np.random.Generator) -> Array:
    return rng.poisson(0.3, (COUNT, CELLS)).astype(np.float64)


def fills(rng: np.random.Generator) -> Array:
    """Fill values that nobody declared, beside what varies."""
    values = season(rng)
    values[:, 3::16] = 1e20
    values[:, 40] = 9.969209968386869e36
    return values


def still(rng: np.random.Generator) -> Array:
    """Nothing changes in most chunks, and what stands there is of all sizes."""
    values = np.exp(rng.uniform(-30, 10, CELLS)) * np.ones((COUNT, 1))
    values[:, :3] += walk(rng)[:, :3]
    return values


KINDS = [season, walk, scales, half_still, far_from_zero, with_gaps, counts, fills, still]


def learnt(values: Array) -> tuple[Specification, State, Array, Array, Replay]:
    """What a repository has learnt of a record."""
    instants = (np.arange(COUNT) * 30 * DAY * 1e6).astype(np.int64)
    series = Series(instants, values, STARTS, CELLS, 32)
    replay = Replay(Traits(3, 365.25 * DAY), series, "standard", share=0.0)
    replay.update(COUNT - 1)
    fit = replay._fit
    assert fit is not None
    times_s = float(fit.state.recent_times[0]) + fit.specification.interval_s * np.arange(1.0, 4.0)
    return fit.specification, fit.state, fit.outlook.amplitudes, times_s, replay


@pytest.mark.parametrize("kind", KINDS)
def test_a_rounded_state_forecasts_the_same(
    kind: Callable[[np.random.Generator], Array], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "gnomon.tasks.hindcasting.replay.rounded", lambda spec, state, amplitudes: state
    )
    spec, state, amplitudes, times_s, replay = learnt(kind(np.random.default_rng(3)))
    coarse = rounded(spec, state, amplitudes)
    fit = replay._fit
    assert fit is not None
    before = forecast(spec, state, fit.outlook, times_s)
    after = forecast(spec, coarse, fit.outlook, times_s)
    # Captured values are as they were, so that what persists does.
    assert np.array_equal(coarse.recent, state.recent, equal_nan=True)
    if kind is still:
        same = slice(32, CELLS)
        assert np.array_equal(coarse.level[same], state.level[same])
        assert np.array_equal(coarse.coefficients[:, same], state.coefficients[:, same])
    assert np.array_equal(np.isfinite(before.mean), np.isfinite(after.mean))
    known = np.isfinite(before.mean)
    # Of a constant the error bar is that of its chunk, or of its last digits.
    bar = np.maximum(before.standard_error, 1e-12 * np.abs(before.mean))
    moved = np.abs(after.mean - before.mean)[known] / bar[known]
    assert np.sqrt(np.mean(moved**2)) < 0.05
    wider = np.log(after.standard_error[known] / before.standard_error[known])
    # Of a cell that varies by far less than its chunk, the chunk's error bar is all that there is.
    assert np.sqrt(np.mean(wider**2)) < (0.05 if kind is scales else 0.02)
    np.testing.assert_allclose(after.confidence, before.confidence, atol=0.02)


def test_a_state_that_saw_nothing_stays_so() -> None:
    values = season(np.random.default_rng(3))
    values[:, 32:64] = np.nan
    spec, state, amplitudes, *_ = learnt(values)
    coarse = rounded(spec, state, amplitudes)
    assert np.isnan(coarse.coefficients[:, 32:64]).all()
    assert not coarse.count[32:64].any()
    assert coarse.sound.all()
