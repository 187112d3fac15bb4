"""Events that are rare: their size is in the error bar, and what was doubted in the confidence."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from gnomon.tasks.forecasting import forecast, roll
from tests.tasks.forecasting.series import (
    HOUR,
    Array,
    autoregressive,
    daily,
    fit,
    hours,
    specification,
)

CAPTURES, SIDE = 80, 24


def sprinkled(rng: np.random.Generator) -> Array:
    """Single cells, here and there."""
    shape = CAPTURES, SIDE, SIDE
    return np.where(rng.random(shape) < 0.04, rng.exponential(3.0, shape), 0.0)


def blobs(rng: np.random.Generator) -> Array:
    """Showers that nothing tells of."""
    field = gaussian_filter(rng.standard_normal((CAPTURES, SIDE, SIDE)), (0, 2, 2))
    return np.asarray(np.maximum(field / field.std() - 1.8, 0.0) * 5.0)


def moving(rng: np.random.Generator) -> Array:
    """Showers that last for a while."""
    field = gaussian_filter(rng.standard_normal((CAPTURES, SIDE, SIDE)), (1.5, 2, 2))
    return np.asarray(np.maximum(field / field.std() - 1.8, 0.0) * 5.0)


@pytest.mark.parametrize("make", [sprinkled, blobs, moving])
def test_errors_of_rare_events_are_as_large_as_stated(
    make: Callable[[np.random.Generator], Array],
) -> None:
    actual, stated, expected, covered = [], [], [], []
    for seed in range(6):
        # Chunks of 8 x 8.
        grid = make(np.random.default_rng(seed)).reshape(CAPTURES, 3, 8, 3, 8)
        values = grid.transpose(0, 1, 3, 2, 4).reshape(CAPTURES, -1)
        starts = tuple(range(0, SIDE**2 + 1, 64))
        leads = 6
        found = fit(specification((1, 0, 0), leads=leads), values[:-leads], starts=starts)
        issued = found.forecast()
        error = np.abs(issued.mean - values[-leads:])
        actual.append(np.mean(error**2))
        stated.append(np.mean(issued.standard_error**2))
        expected.append(np.mean(issued.expected_rmse**2))
        covered.append(np.mean(error <= 1.645 * issued.standard_error))
    size = np.mean(actual) ** 0.5
    assert 0.7 * size <= np.mean(stated) ** 0.5 <= 1.4 * size
    assert 0.7 * size <= np.mean(expected) ** 0.5 <= 1.4 * size
    assert 0.87 <= np.mean(covered) <= 0.99


def test_errors_stay_as_large_while_captures_roll_in() -> None:
    """The interval covers more than 90 %, which must not wear the error bar away."""
    rng = np.random.default_rng(9)
    shape = 180, 256
    values = np.where(rng.random(shape) < 0.04, rng.exponential(3.0, shape), 0.0)
    found = fit(specification((1, 0, 0)), values[:80], starts=(0, 64, 128, 192, 256))
    state, outlook = found.state, found.outlook
    for slot in range(80, 170):
        state = roll(found.spec, state, outlook, slot, slot * HOUR, values[slot])
        outlook = outlook.roll(found.spec, slot, slot * HOUR, values[slot])
    issued = forecast(found.spec, state, outlook, hours(170, 176))
    actual = np.sqrt(np.mean((issued.mean - values[170:176]) ** 2))
    assert 0.6 * actual <= np.sqrt(np.mean(issued.standard_error**2)) <= 1.5 * actual
    assert 0.7 * actual <= np.sqrt(np.mean(issued.expected_rmse**2)) <= 1.5 * actual


@pytest.mark.parametrize("before", [2, 8])
def test_one_great_event_counts_once(before: int) -> None:
    values = autoregressive((0.5,), 80, 64, seed=3)
    values[80 - before] += 30.0
    issued = fit(specification((1, 0, 0)), values, starts=(0, 32, 64)).forecast()
    # Its error is in the scale of the cells; hindcasts of before must not count it again.
    assert np.all(issued.expected_rmse <= 1.3 * issued.standard_error.max(axis=1, keepdims=True))
    if before == 8:
        assert issued.standard_error.max() < 10.0


@pytest.mark.parametrize("since", [0, 5, 15])
def test_a_constant_that_changed_once_has_an_error_of_its_size(since: int) -> None:
    values = np.full((61 + since, 16), 5.0)
    values[60:] = 9.0
    issued = fit(specification((1, 0, 0)), values, starts=(0, 16)).forecast()
    assert np.all(issued.standard_error <= 50.0)
    assert np.all(issued.expected_rmse <= 50.0)


def test_what_was_doubted_is_not_in_the_confidence() -> None:
    spec = specification(tolerance=50.0)
    values = daily(80, 30, seed=7)
    starts = 0, 10, 20, 30
    usual = fit(spec, values, starts=starts, gate=True)
    assert usual.learnt.doubted == 0.0
    events = values.copy()
    events[[20, 34, 48, 62], :20] += 300.0
    found = fit(spec, events, starts=starts, gate=True)
    assert 0.0 < found.learnt.doubted < 8 / 240
    highest = found.forecast().confidence.max()
    assert highest <= 1.0 - found.learnt.doubted < usual.forecast().confidence.max()


def test_what_is_not_trusted_was_doubted_and_land_was_not() -> None:
    values = daily(60, 30, seed=8)
    values[:, 20:] = np.nan
    trusted = np.ones((60, 3), bool)
    trusted[10:16, 0] = False
    found = fit(specification(), values, starts=(0, 10, 20, 30), trusted=trusted)
    assert 0.0 < found.learnt.doubted < 6 / 120
    trusted[54:, 0] = False
    assert (
        fit(specification(), values, starts=(0, 10, 20, 30), trusted=trusted).learnt.doubted > 0.1
    )
