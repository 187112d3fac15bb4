"""Modes that move together are found, and followed."""

import numpy as np
import pytest

from gnomon.tasks.forecasting import CANDIDATES, modes
from gnomon.tasks.forecasting.hindcasts import load
from tests.tasks.forecasting.series import HOUR, Array, fit, specification

LINEAR = CANDIDATES.index("modes_linear")


def wave(slots: int, cells: int, *, seed: int) -> Array:
    """A damped travelling wave, driven by noise: two modes that feed each other."""
    rng = np.random.default_rng(seed)
    pair = np.zeros((slots + 100, 2))
    turn = 0.95 * np.array([[np.cos(0.5), -np.sin(0.5)], [np.sin(0.5), np.cos(0.5)]])
    for t in range(1, len(pair)):
        pair[t] = turn @ pair[t - 1] + rng.standard_normal(2)
    place = np.linspace(0, 2 * np.pi, cells, endpoint=False)
    field: Array = pair[100:] @ np.stack([np.cos(place), np.sin(place)])
    return field + 0.1 * rng.standard_normal(field.shape)


def test_two_modes_are_found_and_forecast() -> None:
    spec = specification((1, 0, 0))
    values = wave(300, 40, seed=1)
    found = fit(spec, values[:250])
    share = found.outlook.amplitudes.var(axis=0)
    assert share[:2].sum() > 0.95 * share.sum()
    outlook, square = found.outlook, np.zeros((2, 6))
    for slot in range(250, 290):
        outlook = outlook.roll(found.spec, slot, slot * HOUR, values[slot])
        made = outlook.forecast(found.spec, 6)
        linear = made.ahead[LINEAR]
        assert linear is not None
        truth = modes.project(outlook.patterns, values[slot + 1 : slot + 7])[:, :2]
        square[0] += ((linear[:, :2] - truth) ** 2).sum(axis=1)
        square[1] += ((made.now[:2] - truth) ** 2).sum(axis=1)
    # What is not noise is a turn of half a radian: at lead 3 it is nearly all of the change.
    assert (square[0] < 0.75 * square[1]).all()
    assert square[0, 2] < 0.4 * square[1, 2]


def test_the_blend_follows_modes_where_they_lead() -> None:
    found = fit(specification((1, 0, 0)), wave(300, 40, seed=2))
    linear = found.outlook.calibration.weights[:, -1]
    assert linear.mean() > 0.5


def test_an_all_missing_capture_leaves_a_gap() -> None:
    values = wave(100, 20, seed=3)
    found = fit(specification(), values)
    gone = found.outlook.roll(found.spec, 100, 100 * HOUR, np.full(20, np.nan))
    assert np.isnan(gone.amplitudes[-1]).all()
    linear = gone.forecast(found.spec, 6).ahead[LINEAR]
    assert linear is not None
    assert np.isfinite(linear).all()


def test_a_field_with_holes_is_projected_from_the_rest() -> None:
    values = wave(200, 60, seed=4)
    found = modes.fit(values, np.ones(200))
    holes = values.copy()
    holes[:, ::3] = np.nan
    whole, part = (modes.project(found.patterns, v)[:, :2] for v in (values, holes))
    assert np.corrcoef(whole.ravel(), part.ravel())[0, 1] > 0.99


def test_signs_and_order_do_not_hang_on_the_library() -> None:
    values = wave(100, 20, seed=5)
    found = modes.fit(values, np.ones(100)).patterns
    largest = np.take_along_axis(found, np.abs(found).argmax(axis=1)[:, None], axis=1)
    assert (largest > 0).all()
    np.testing.assert_allclose(found @ found.T, np.eye(len(found)), atol=1e-9)


def test_constant_fields_have_no_modes() -> None:
    assert modes.fit(np.zeros((50, 10)), np.ones(50)).patterns.shape == (0, 10)
    assert modes.fit(np.full((50, 10), np.nan), np.ones(50)).patterns.shape == (0, 10)


@pytest.mark.parametrize("share", [0.1, 0.2, 0.4])
def test_what_is_missing_makes_no_mode(share: float) -> None:
    """On a trend a chunk that is missing is far from zero: a mode of it would be of the gaps."""
    rng = np.random.default_rng(6)
    trend = np.linspace(-15.0, 15.0, 100)[:, None] * np.linspace(0.8, 1.2, 64)
    values = trend + rng.standard_normal((100, 64))
    whole = modes.fit(values, np.ones(100))
    missing = np.repeat(rng.random((100, 8)) < share, 8, axis=1)
    found = modes.fit(np.where(missing, np.nan, values), np.ones(100))
    assert abs(found.patterns[0] @ whole.patterns[0]) > 0.999
    for modes_found in (whole, found):
        variance = modes_found.amplitudes.var(axis=0)
        assert variance[0] > 0.97 * variance.sum()


def test_a_chunk_that_is_missing_now_changes_nothing_for_the_others() -> None:
    rng = np.random.default_rng(7)
    slope = rng.normal(1.0, 0.2, 256)
    values = np.arange(67.0)[:, None] * slope + rng.standard_normal((67, 256))
    gappy = values[:61].copy()
    gappy[60, :64] = np.nan
    spec, starts = specification((1, 0, 0)), (0, 64, 128, 192, 256)
    errors = []
    for seen in (values[:61], gappy):
        issued = fit(spec, seen, starts=starts).forecast()
        errors.append(np.sqrt(np.mean((issued.mean - values[61:])[:, 64:] ** 2)))
    assert errors[1] < 1.2 * errors[0]


def test_loadings_are_those_of_the_cells_that_are_there() -> None:
    values = wave(200, 40, seed=8)
    found = modes.fit(values, np.ones(200))
    whole, _, _ = load(values, found.amplitudes, np.ones(200))
    holes = np.where(np.random.default_rng(9).random(values.shape) < 0.35, np.nan, values)
    loadings, *_ = load(holes, found.amplitudes, np.ones(200))
    ratio = float(np.vdot(loadings[:2], whole[:2]) / np.vdot(whole[:2], whole[:2]))
    assert 0.97 < ratio < 1.03


def test_a_chunk_that_is_missing_for_long_goes_with_the_others() -> None:
    rng = np.random.default_rng(10)
    slope = rng.normal(1.0, 0.2, 256)
    values = np.arange(86.0)[:, None] * slope + rng.standard_normal((86, 256))
    seen = values[:80].copy()
    seen[60:, :64] = np.nan
    issued = fit(specification((1, 0, 0)), seen, starts=(0, 64, 128, 192, 256)).forecast()
    error = np.abs(issued.mean - values[80:])
    assert error[:, :64].mean() < 4.0  # twenty slots of the trend went by
    assert np.mean(error[:, :64] <= 1.645 * issued.standard_error[:, :64]) > 0.85
