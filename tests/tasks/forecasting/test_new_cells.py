"""Cells that were seen once or twice go with their chunk, and say how little is known of them."""

import numpy as np
import pytest

from gnomon.tasks.forecasting import forecast
from tests.tasks.forecasting.series import autoregressive, fit, hours, specification

CAPTURES, CELLS, NEW = 80, 40, 8
Z90 = 1.6448536269514722


@pytest.mark.parametrize("seen", [1, 2])
@pytest.mark.parametrize("common", [0.2, 0.8])
def test_their_intervals_cover(seen: int, common: float) -> None:
    """With the scale of each cell its own, within a factor of two."""
    inside, number = 0, 0
    errors, walks = 0.0, 0.0
    for seed in range(40):
        whole = autoregressive((0.8,), CAPTURES + 6, CELLS, seed=seed, common=common)
        whole *= np.exp(np.random.default_rng(seed).uniform(-0.35, 0.35, CELLS))
        values = whole[:CAPTURES].copy()
        values[: CAPTURES - seen, :NEW] = np.nan
        made = fit(specification(), values).forecast()
        truth = whole[CAPTURES:, :NEW]
        error = made.mean[:, :NEW] - truth
        inside += int((np.abs(error) <= Z90 * made.standard_error[:, :NEW]).sum())
        number += error.size
        errors += float((error**2).sum())
        walks += float(((values[-1, :NEW] - truth) ** 2).sum())
    assert number == 40 * 6 * NEW
    assert 0.87 <= inside / number <= 0.98
    # The chunk knows which way it goes: no worse than the last value.
    assert errors <= 1.02 * walks


def test_a_season_takes_them_along() -> None:
    cycle = 10.0 * np.cos(2 * np.pi * hours(0, CAPTURES) / 86400.0)[:, None]
    rng = np.random.default_rng(0)
    values = cycle + rng.standard_normal((CAPTURES, CELLS))
    values[:-1, 0] = np.nan
    made = fit(specification(seasonal=True), values).forecast()
    others = made.mean[:, 1:] - values[-1, 1:]
    np.testing.assert_allclose(
        made.mean[:, 0] - values[-1, 0], others.mean(axis=1), rtol=0, atol=1e-9
    )


def test_a_chunk_of_new_cells_is_not_predicted() -> None:
    values = autoregressive((0.8,), CAPTURES, CELLS, seed=0)
    values[:-2, :20] = np.nan
    made = fit(specification(), values, starts=(0, 20, CELLS)).forecast()
    assert np.isnan(made.mean[:, :20]).all()
    assert np.isnan(made.standard_error[:, :20]).all()
    assert np.isnan(made.confidence[:, 0]).all()
    assert np.isfinite(made.mean[:, 20:]).all()


def test_too_few_relatives_are_none() -> None:
    values = autoregressive((0.8,), CAPTURES, 6, seed=0)
    values[:-1, :3] = np.nan
    made = fit(specification(), values).forecast()
    assert np.isnan(made.mean[:, :3]).all()
    assert np.isfinite(made.mean[:, 3:]).all()


def test_other_chunks_have_no_say() -> None:
    values = autoregressive((0.8,), CAPTURES, CELLS, seed=0)
    values[:-1, :2] = np.nan
    both = fit(specification(), values, starts=(0, 20, CELLS))
    alone = both.state.take(np.array([0]))
    ahead = float(alone.recent_times[0]) + hours(1, 7)
    made = forecast(both.spec, alone, both.outlook, ahead)
    np.testing.assert_array_equal(made.mean, both.forecast().mean[:, :20])
    np.testing.assert_array_equal(made.standard_error, both.forecast().standard_error[:, :20])


def test_they_stay_in_bounds() -> None:
    rng = np.random.default_rng(0)
    values = np.clip(rng.standard_normal((CAPTURES, CELLS)), 0.0, None)
    values[:-1, :5] = np.nan
    values[-1, 0] = 0.0
    made = fit(specification(minimum=0.0), values).forecast()
    assert np.isfinite(made.mean).all()
    assert made.mean.min() >= 0.0


@pytest.mark.parametrize("missing", [1, 2, 3])
def test_what_was_missing_last_is_less_certain(missing: int) -> None:
    inside, number = 0, 0
    for seed in range(30):
        whole = autoregressive((0.9,), CAPTURES + 6, CELLS, seed=seed, common=0.1)
        values = whole[:CAPTURES].copy()
        values[-missing:, :NEW] = np.nan
        made = fit(specification((1, 0, 0)), values).forecast()
        error = np.abs(made.mean - whole[CAPTURES:])
        hit = error <= Z90 * made.standard_error
        inside += int(hit[0, :NEW].sum())
        number += NEW
        assert made.standard_error[0, :NEW].mean() > made.standard_error[0, NEW:].mean()
    assert 0.84 <= inside / number <= 0.97
