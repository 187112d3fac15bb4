import numpy as np
import pytest

from gnomon.tasks.forecasting import (
    CANDIDATES,
    departures,
    forecast,
    learn,
    pack,
    roll,
    start,
)
from gnomon.tasks.forecasting.hindcasts import RATIO_MEMORY
from tests.tasks.forecasting.series import (
    Array,
    ahead,
    autoregressive,
    daily,
    learnt,
    specification,
    times,
)

SPEC = specification((2, 0), seasonal=True)


def test_a_forecast_reads_nothing_after_its_origin() -> None:
    values = daily(90, 12, seed=4)
    changed = values.copy()
    changed[60:] += np.random.default_rng(5).normal(0, 30, changed[60:].shape)
    made = []
    for series in (values, changed):
        state = start(SPEC, 12)
        for slot, capture in enumerate(series):
            state = roll(SPEC, state, slot, slot * 3600.0, capture)
            if slot == 59:
                made.append(forecast(SPEC, state, ahead(state, SPEC)))
    first, second = made
    for name in ("mean", "standard_error", "confidence", "expected_rmse", "weights"):
        assert getattr(first, name).tobytes() == getattr(second, name).tobytes()


def test_a_hindcast_is_the_forecast_that_was_issued() -> None:
    values = daily(40, 5, seed=6)
    origin = learnt(SPEC, values[:38])
    issued = forecast(SPEC, origin, ahead(origin, SPEC))
    before = roll(SPEC, origin, 38, 38 * 3600.0, values[38])
    scored = roll(SPEC, before, 39, 39 * 3600.0, values[39])
    found = float(np.sqrt(np.mean((issued.mean[1] - values[39]) ** 2)))
    expected = float(np.sqrt(np.mean(issued.standard_error[1] ** 2)))
    added = scored.ratios[1, 1] - before.ratios[1, 1] * (1 - 1 / RATIO_MEMORY)
    assert added == pytest.approx(np.log(found / expected), rel=1e-9)


def test_learning_a_window_is_the_loop_of_single_rolls() -> None:
    values = daily(70, 9, seed=7)
    whole, _ = learn(SPEC, np.arange(70), times(70), values, np.ones(70, dtype=bool), gate=0.0)
    for one, other in zip(pack(SPEC, whole), pack(SPEC, learnt(SPEC, values)), strict=True):
        assert one.tobytes() == other.tobytes()


def test_land_stays_land_and_other_cells_do_not_notice() -> None:
    values = daily(50, 8, seed=8)
    values[:, 2] = np.nan
    state = learnt(SPEC, values)
    made = forecast(SPEC, state, ahead(state, SPEC))
    assert np.isnan(made.mean[:, 2]).all()
    assert np.isnan(made.standard_error[:, 2]).all()
    assert np.isfinite(np.delete(made.mean, 2, axis=1)).all()
    assert np.isfinite(made.expected_rmse).all()
    alone = learnt(SPEC, np.delete(values, 2, axis=1))
    np.testing.assert_allclose(
        np.delete(made.mean, 2, axis=1), forecast(SPEC, alone, ahead(alone, SPEC)).mean, rtol=1e-9
    )


def test_cells_appear_and_vanish() -> None:
    values = daily(60, 6, seed=9)
    values[:30, 0] = np.nan
    values[-1, 1] = np.nan
    values[20:25, 2] = np.nan
    state = learnt(SPEC, values)
    made = forecast(SPEC, state, ahead(state, SPEC))
    assert np.isnan(made.mean).all(axis=0).tolist() == [False, True] + [False] * 4
    assert np.abs(made.mean[:, [0, 2]] - 280.0).max() < 15
    back = roll(SPEC, state, 60, 60 * 3600.0, daily(61, 6, seed=9)[60])
    assert np.isfinite(forecast(SPEC, back, ahead(back, SPEC)).mean).all()


def test_bounds_hold_for_values_that_sit_on_them() -> None:
    spec = specification((2, 0), minimum=0.0, maximum=1.0)
    fraction = np.clip(0.2 + 0.5 * autoregressive((1.2, -0.4), 80, 10, seed=10), 0.0, 1.0)
    state = start(spec, 10)
    for slot, capture in enumerate(fraction):
        state = roll(spec, state, slot, slot * 3600.0, capture)
        if slot >= 3:
            made = forecast(spec, state, ahead(state, spec))
            assert made.mean.min() >= 0.0
            assert made.mean.max() <= 1.0


def test_categories_persist() -> None:
    spec = specification((1, 0), categorical=True)
    labels = np.random.default_rng(11).integers(0, 5, (40, 10)).astype(np.float64)
    state = learnt(spec, labels)
    made = forecast(spec, state, ahead(state, spec))
    np.testing.assert_array_equal(made.mean, np.tile(labels[-1], (spec.leads, 1)))
    np.testing.assert_array_equal(made.weights, np.tile(np.eye(len(CANDIDATES))[0], (6, 1)))


@pytest.mark.parametrize("value", [0.0, 273.15, -1e-30, 1e30])
@pytest.mark.parametrize("order", [(0, 1), (3, 0), (2, 1)])
def test_constant_cells_are_predicted_as_themselves(value: float, order: tuple[int, int]) -> None:
    spec = specification(order, seasonal=True)
    state = learnt(spec, np.full((30, 4), value))
    made = forecast(spec, state, ahead(state, spec))
    np.testing.assert_allclose(made.mean, value, rtol=1e-9)
    assert (made.standard_error > 0).all()
    assert made.standard_error.max() <= 1e-3 * abs(value) + 1e-30
    assert (made.confidence > 0.95).all() or abs(value) > 1e6


def test_skipped_slots_and_unlearnt_slots_are_the_same_gap() -> None:
    values = daily(60, 6, seed=12)
    state = learnt(SPEC, values[:40])
    told = state
    for slot in range(40, 47):
        told = roll(SPEC, told, slot, slot * 3600.0, np.full(6, np.nan))
    assert told.slot == 46
    assert told.captures == state.captures
    after = [roll(SPEC, s, 47, 47 * 3600.0, values[47]) for s in (state, told)]
    assert pack(SPEC, after[0])[0].tobytes() == pack(SPEC, after[1])[0].tobytes()
    assert pack(SPEC, after[0])[1].tobytes() == pack(SPEC, after[1])[1].tobytes()
    late, early = forecast(SPEC, told, ahead(told, SPEC)), forecast(SPEC, state, ahead(state, SPEC))
    assert (late.standard_error[0] > early.standard_error[0]).all()


@pytest.mark.parametrize("gap", [2, 5, 30, 5000])
def test_a_gap_of_any_length_is_bridged(gap: int) -> None:
    state = learnt(SPEC, daily(60, 6, seed=13))
    state = roll(SPEC, state, 59 + gap, (59 + gap) * 3600.0, daily(60 + gap, 6, seed=13)[-1])
    made = forecast(SPEC, state, ahead(state, SPEC))
    assert np.isfinite(made.mean).all()
    assert np.abs(made.mean - 280.0).max() < 15


def test_half_the_captures_missing_does_not_bias_the_season() -> None:
    values = daily(400, 6, seed=14)
    kept = np.flatnonzero(np.random.default_rng(15).random(400) < 0.5)
    state = start(SPEC, 6)
    for slot in kept:
        state = roll(SPEC, state, int(slot), slot * 3600.0, values[slot])
    made = forecast(SPEC, state, ahead(state, SPEC))
    cycle = 280.0 + 5.0 * np.cos(2 * np.pi * ahead(state, SPEC) / 86400.0)
    assert np.abs(made.mean[-1] - cycle[-1]).max() < 3.0


def test_too_few_captures_are_refused() -> None:
    state = learnt(SPEC, daily(2, 3, seed=16))
    with pytest.raises(ValueError, match="at least 3"):
        forecast(SPEC, state, ahead(state, SPEC))


@pytest.mark.parametrize(
    ("slot", "time", "values"),
    [
        (9, 36000.0, np.ones(3)),
        (10, 0.0, np.ones(3)),
        (10, np.nan, np.ones(3)),
        (10, 36000.0, [1.0]),
    ],
)
def test_captures_out_of_order_or_shape_are_refused(slot: int, time: float, values: Array) -> None:
    state = learnt(SPEC, daily(10, 3, seed=17))
    with pytest.raises(ValueError, match="found"):
        roll(SPEC, state, slot, time, np.asarray(values))
    with pytest.raises(ValueError, match="found"):
        departures(SPEC, state, slot, time, np.asarray(values))
