"""What holds of forecasts, whatever the data."""

from dataclasses import replace

import numpy as np
import pytest

from gnomon.storage.errors import InvalidInput
from gnomon.tasks.forecasting import CANDIDATES, departures, forecast, join, learn, pack, roll
from gnomon.tasks.forecasting.engine import candidates
from gnomon.tasks.forecasting.hindcasts import Window, rolling
from gnomon.tasks.forecasting.outlook import calibrate, place_origins
from tests.tasks.forecasting.series import (
    HOUR,
    Array,
    Fitted,
    autoregressive,
    daily,
    fit,
    hours,
    specification,
    times,
)

SPEC = specification((2, 0, 0), seasonal=True)


def same(one: Fitted, other: Fitted) -> None:
    for a, b in zip(pack(one.spec, one.state), pack(other.spec, other.state), strict=True):
        assert a.tobytes() == b.tobytes()
    assert one.outlook.pack().tobytes() == other.outlook.pack().tobytes()


def test_the_future_cannot_change_a_hindcast() -> None:
    values = daily(120, 30, seed=1)
    changed = values.copy()
    changed[80:] = 1e6 * np.random.default_rng(2).standard_normal((40, 30))
    starts, origins = np.array([0, 30]), np.array([20, 40, 60, 79])
    spec = replace(SPEC, modes=10)
    made, other = (rolling(spec, Window(times(120), v, starts), origins) for v in (values, changed))
    assert made.predictions.tobytes() == other.predictions.tobytes()
    assert made.spread.tobytes() == other.spread.tobytes()
    found, again = (
        calibrate(spec, Window(times(80), v[:80], starts))[0] for v in (values, changed)
    )
    assert found.weights.tobytes() == again.weights.tobytes()


def test_a_hindcast_is_the_forecast_that_would_have_been_issued() -> None:
    values = daily(100, 20, seed=3)
    spec = specification((2, 0, 0), seasonal=True, modes=10)
    made = rolling(spec, Window(times(100), values, np.array([0, 20])), np.array([70]))
    then = fit(SPEC, values[:71])
    issued = then.forecast().mean
    blended = np.einsum(
        "hc,hcn->hn", then.outlook.calibration.weights, made.predictions[0].astype(np.float64)
    )
    np.testing.assert_allclose(issued, blended, rtol=1e-5)


def test_a_damaged_capture_changes_nothing_that_is_learnt() -> None:
    values = daily(80, 10, seed=20)
    wrong, absent = values.copy(), values.copy()
    wrong[60] -= 273.15
    absent[60] = np.nan
    gated, clean = (fit(SPEC, v, gate=True) for v in (wrong, absent))
    assert gated.learnt.p_values[60, 0] < 1e-6
    assert np.nansum(gated.learnt.p_values < 1e-6) == 1
    counted = replace(gated.outlook.calibration, doubted=0.0)
    same(replace(gated, outlook=replace(gated.outlook, calibration=counted)), clean)


def test_a_suspect_capture_that_is_rolled_changes_nothing_but_the_slot() -> None:
    values = daily(60, 10, seed=4)
    found = fit(SPEC, values)
    damaged = values[-1] + 50.0
    one, other = (
        roll(found.spec, found.state, found.outlook, 60, 60 * HOUR, v, trusted=np.array([trust]))
        for v, trust in ((damaged, False), (np.full(10, np.nan), True))
    )
    for a, b in zip(pack(found.spec, one), pack(found.spec, other), strict=True):
        assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize("order", [(2, 0, 0), (1, 0, 1), (0, 1, 1)])
def test_rolling_on_is_what_learning_at_once_would_have_tracked(
    order: tuple[int, int, int],
) -> None:
    values = daily(90, 12, seed=5)
    spec = specification(order, seasonal=True)
    then, now = fit(spec, values[:70]), fit(spec, values)
    state, outlook = then.state, then.outlook
    for slot in range(70, 90):
        state = roll(then.spec, state, outlook, slot, slot * HOUR, values[slot])
        outlook = outlook.roll(then.spec, slot, slot * HOUR, values[slot])
    for name in ("coefficients", "recent", "products", "level", "variance", "count", "clock"):
        np.testing.assert_array_equal(getattr(state, name), getattr(now.state, name), name)
    # What is fixed between refits ages, but not by much within twenty captures.
    ahead = hours(90, 96)
    rolled = forecast(then.spec, state, outlook, ahead).mean
    assert np.sqrt(np.mean((rolled - now.forecast().mean) ** 2)) < 0.7


def test_the_climatology_is_weighted_least_squares() -> None:
    from gnomon.tasks.forecasting import climatology

    values = daily(100, 4, seed=6)
    state = fit(SPEC, values).state
    weights, information = np.ones(100), climatology.prior(SPEC)
    for n in range(1, 100):
        factor = 1.0 - 1.0 / min(8.0 * (n + 1.0), SPEC.memory)
        weights[:n] *= factor
        information = information * factor
    rows = climatology.features(SPEC, times(100))
    # The prior is centred on the first value, and the prior weight is what is left of it.
    centre = np.zeros((rows.shape[1], 4))
    centre[0] = values[0]
    left = (rows * weights[:, None]).T @ rows + information
    right = (rows * weights[:, None]).T @ values + information @ centre
    np.testing.assert_allclose(state.coefficients, np.linalg.solve(left, right), atol=1e-4)


def test_chunks_do_not_notice_each_other() -> None:
    values = daily(60, 30, seed=7)
    values[:, 25] = np.nan
    whole = fit(SPEC, values, starts=(0, 10, 17, 30))
    spec, amplitudes = whole.spec, whole.outlook.amplitudes
    parts = []
    for first, last in ((0, 10), (10, 17), (17, 30)):
        size = last - first
        one = learn(
            spec, np.arange(60), times(60), values[:, first:last], np.array([0, size]),
            trusted=np.ones((60, 1), bool), gated=np.zeros((60, 1), bool), amplitudes=amplitudes,
        )  # fmt: skip
        parts.append(one.state)
    for a, b in zip(pack(spec, whole.state), pack(spec, join(parts)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)
    ahead = hours(60, 66)
    made = forecast(spec, whole.state, whole.outlook, ahead).mean
    alone = [forecast(spec, part, whole.outlook, ahead).mean for part in parts]
    np.testing.assert_allclose(made, np.concatenate(alone, axis=1), rtol=1e-9)


def test_a_forecast_does_not_depend_on_how_it_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    found = fit(SPEC, daily(60, 30, seed=8), starts=(0, 10, 17, 30))
    whole = found.forecast()
    monkeypatch.setattr("gnomon.tasks.forecasting.engine.TILE", 7)
    parts = found.forecast()
    np.testing.assert_allclose(whole.mean, parts.mean, rtol=1e-12)
    assert whole.standard_error.tobytes() == parts.standard_error.tobytes()


@pytest.mark.parametrize("order", [(2, 0, 0), (1, 1, 1)])
def test_compiled_code_gives_the_bits_of_the_uncompiled(
    order: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    from gnomon.tasks.forecasting import blend, kernels, sweep, tracking

    values = daily(25, 6, seed=9)
    values[3:9, 2] = np.nan
    spec = specification(order, seasonal=True)
    compiled, made = fit(spec, values), fit(spec, values).forecast()
    for module in (kernels, sweep, blend, tracking):
        for name, function in list(vars(module).items()):
            if hasattr(function, "py_func"):
                monkeypatch.setattr(module, name, function.py_func)
    plain = fit(spec, values)
    same(compiled, plain)
    assert made.mean.tobytes() == plain.forecast().mean.tobytes()


def test_land_stays_land_and_other_cells_do_not_notice() -> None:
    values = daily(50, 6, seed=10)
    masked = np.insert(values, [1, 4], np.nan, axis=1)
    made = fit(SPEC, masked).forecast()
    assert np.isnan(made.mean[:, [1, 5]]).all()
    assert np.isnan(made.standard_error[:, [1, 5]]).all()
    plain = fit(SPEC, values).forecast()
    sea = [0, 2, 3, 4, 6, 7]
    np.testing.assert_allclose(made.mean[:, sea], plain.mean, rtol=1e-9)
    np.testing.assert_allclose(made.confidence, plain.confidence, rtol=1e-9)


def test_all_land_has_no_forecast() -> None:
    made = fit(SPEC, np.full((20, 3), np.nan)).forecast()
    assert np.isnan(made.mean).all()
    assert np.isnan(made.expected_rmse).all()


def test_cells_appear_and_vanish() -> None:
    values = daily(60, 5, seed=11)
    values[:30, 0] = np.nan
    values[50:, 1] = np.nan
    values[58:, 2] = np.nan
    made = fit(SPEC, values).forecast()
    assert np.isfinite(made.mean[:, [0, 2, 3, 4]]).all(), "a gap of two captures is bridged"
    assert np.isnan(made.mean[:, 1]).all(), "what is gone is not predicted"
    assert np.abs(made.mean[:, 0] - 280).max() < 12


def test_bounds_hold_for_values_that_sit_on_them() -> None:
    rng = np.random.default_rng(12)
    values = np.clip(0.9 + 0.3 * autoregressive((0.7,), 80, 8, seed=13), 0.0, 1.0)
    values[:, 3] = 1.0
    values[:, 4] = rng.integers(0, 2, 80)
    made = fit(specification((2, 0, 0), minimum=0.0, maximum=1.0), values).forecast()
    assert made.mean.min() >= 0.0
    assert made.mean.max() <= 1.0
    assert (made.standard_error > 0).all()


def test_categories_persist() -> None:
    values = np.random.default_rng(14).integers(0, 4, (40, 9)).astype(float)
    made = fit(specification((1, 0, 0), categorical=True), values).forecast()
    np.testing.assert_array_equal(made.mean, np.tile(values[-1], (6, 1)))


@pytest.mark.parametrize("order", [(1, 0, 0), (3, 0, 0), (0, 1, 1), (2, 1, 1), (1, 0, 1)])
@pytest.mark.parametrize("value", [0.0, 273.15, -1e30, 1e-30])
def test_constant_cells_are_predicted_as_themselves(
    value: float, order: tuple[int, int, int]
) -> None:
    made = fit(specification(order), np.full((40, 5), value)).forecast()
    np.testing.assert_allclose(made.mean, value, rtol=1e-9, atol=1e-300)
    assert (made.standard_error > 0).all()
    assert (made.standard_error <= 1e-5 * abs(value) + 1e-30).all()


def test_skipped_slots_and_unlearnt_slots_are_the_same_gap() -> None:
    values = daily(60, 5, seed=15)
    gap = np.delete(np.arange(60), [20, 21, 40])
    empty = values.copy()
    empty[[20, 21, 40]] = np.nan
    one, other = fit(SPEC, values[gap], slots=gap), fit(SPEC, empty)
    np.testing.assert_allclose(one.forecast().mean, other.forecast().mean, rtol=1e-9)


@pytest.mark.parametrize("gap", [1, 5, 50, 5000])
def test_a_gap_of_any_length_is_bridged(gap: int) -> None:
    values = daily(80, 5, seed=16)
    slots = np.concatenate([np.arange(60), np.arange(60, 80) + gap])
    made = fit(SPEC, values, slots=slots).forecast()
    assert np.isfinite(made.mean).all()
    assert np.abs(made.mean - 280).max() < 15
    found = fit(SPEC, values[:60])
    state = roll(found.spec, found.state, found.outlook, 60 + gap, (60 + gap) * HOUR, values[60])
    assert np.isfinite(state.coefficients).all()


@pytest.mark.parametrize("gap", [1, 2, 3, 6])
@pytest.mark.parametrize("order", [(0, 1, 1), (1, 1, 0), (2, 1, 1)])
def test_what_goes_up_does_not_fall_back_in_a_gap(order: tuple[int, int, int], gap: int) -> None:
    """Chunks that the last captures lack are far from their mean, and stay there."""
    rng = np.random.default_rng(21)
    values = 0.5 * np.arange(60.0)[:, None] + 0.1 * rng.standard_normal((60, 6))
    truth = values[-1].copy()
    values[-gap:, 3:] = np.nan
    found = fit(specification(order), values, starts=(0, 3, 6))
    ahead = times(66)[60:]
    made = candidates(found.spec, found.state, found.outlook, ahead)
    # At most what the gap brought is missing, not the thirty slots back to the mean.
    for name in ("persistence", "damped_anomaly", "local_level", "arima"):
        departure = made[0, CANDIDATES.index(name)] - truth
        assert np.abs(departure).max() < 0.5 * (gap + 3), name


def test_half_the_captures_missing_does_not_bias_the_season() -> None:
    values = daily(400, 20, seed=17)
    kept = np.sort(np.random.default_rng(18).choice(400, 200, replace=False))
    found = fit(SPEC, values[kept], slots=kept)
    season = found.state.coefficients[1]
    assert abs(season.mean() - 5.0) < 0.6


def test_it_is_deterministic() -> None:
    values = daily(70, 40, seed=19)
    same(fit(SPEC, values), fit(SPEC, values.copy()))


def test_departures_are_those_from_the_forecast() -> None:
    found = fit(SPEC, daily(60, 4, seed=28))
    made = found.forecast()
    capture = made.mean[0] + np.array([1.0, 1.0, 1.0, -5.0])
    given = found.spec, found.state, found.outlook
    seen = departures(*given, 60, 60 * HOUR, capture)
    assert seen.mean[0] == pytest.approx(-0.5)
    assert seen.maximum[0] == pytest.approx(5.0)
    assert seen.rms[0] == pytest.approx(np.sqrt(28 / 4))
    assert departures(*given, 60, 60 * HOUR, capture - 273.15).p_value[0] < 1e-6
    later = departures(*given, 62, 62 * HOUR, made.mean[2])
    assert later.rms[0] == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize(
    ("slot", "time", "values"),
    [
        (59, 60 * HOUR, np.zeros(4)),
        (60, 59 * HOUR, np.zeros(4)),
        (60, np.nan, np.zeros(4)),
        (60, 60 * HOUR, np.zeros(5)),
    ],
)
def test_captures_out_of_order_or_shape_are_refused(slot: int, time: float, values: Array) -> None:
    found = fit(SPEC, daily(60, 4, seed=29))
    before = [part.copy() for part in pack(found.spec, found.state)]
    with pytest.raises(InvalidInput, match="found"):
        roll(found.spec, found.state, found.outlook, slot, time, values)
    for a, b in zip(before, pack(found.spec, found.state), strict=True):
        assert a.tobytes() == b.tobytes()


def test_with_few_captures_it_is_persistence() -> None:
    values = daily(4, 6, seed=30)
    made = fit(specification(), values).forecast()
    assert np.isfinite(made.mean).all()
    assert place_origins(3).size == 0
    np.testing.assert_array_equal(fit(specification(), values[:3]).forecast().mean[0], values[2])
    assert np.isnan(fit(specification(), values[:2]).forecast().mean).all()
