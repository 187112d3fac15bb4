import numpy as np
import pytest

from gnomon.tasks.forecasting import departures, forecast, learn, pack, rebase
from tests.tasks.forecasting.series import ahead, daily, learnt, specification, times

SPEC = specification((2, 0), seasonal=True)
GATE = 1e-6


def test_celsius_for_kelvin_changes_nothing_that_is_learnt() -> None:
    values = daily(80, 10, seed=20)
    wrong = values.copy()
    wrong[60] -= 273.15
    absent = values.copy()
    absent[60] = np.nan
    trusted = np.ones(80, dtype=bool)
    gated, p_values = learn(SPEC, np.arange(80), times(80), wrong, trusted, gate=GATE)
    clean, _ = learn(SPEC, np.arange(80), times(80), absent, trusted, gate=GATE)
    assert p_values[60] < GATE
    assert (p_values[np.isfinite(p_values)] < GATE).sum() == 1
    for one, other in zip(pack(SPEC, gated), pack(SPEC, clean), strict=True):
        assert one.tobytes() == other.tobytes()


def test_untrusted_captures_are_tested_and_not_learnt() -> None:
    values = daily(50, 5, seed=21)
    trusted = np.arange(50) != 49
    state, p_values = learn(SPEC, np.arange(50), times(50), values, trusted, gate=GATE)
    assert np.isfinite(p_values[49])
    assert (state.slot, state.learnt_slot, state.captures) == (49, 48, 49)


def test_a_real_change_of_level_is_learnt_after_three_captures() -> None:
    values = daily(120, 10, seed=22)
    values[80:] += 100.0
    state, p_values = learn(
        SPEC, np.arange(120), times(120), values, np.ones(120, dtype=bool), gate=GATE
    )
    assert np.isnan(p_values[80:83]).all(), "what was learnt after all is not doubted"
    assert not (p_values < GATE).any()
    assert state.captures == 120
    made = forecast(SPEC, state, ahead(state, SPEC))
    assert np.abs(made.mean - 380.0).max() < 12


def test_three_captures_that_disagree_are_not_a_change_of_level() -> None:
    values = daily(83, 10, seed=23)
    values[80:] += 100.0 * np.random.default_rng(24).standard_normal((3, 10))
    trusted = np.ones(83, dtype=bool)
    state, p_values = learn(SPEC, np.arange(83), times(83), values, trusted, gate=GATE)
    assert (p_values[80:83] < GATE).all()
    assert state.learnt_slot == 79
    assert state.slot == 82


def test_a_series_that_stays_wild_is_learnt_in_the_end() -> None:
    values = daily(100, 10, seed=25)
    values[80:] += 300.0 * np.random.default_rng(26).standard_normal((20, 10))
    state, _ = learn(SPEC, np.arange(100), times(100), values, np.ones(100, dtype=bool), gate=GATE)
    assert state.learnt_slot >= 89


def test_rebasing_moves_the_forecast_by_the_offset() -> None:
    state = learnt(SPEC, daily(60, 4, seed=27))
    offset = np.array([10.0, -3.0, np.nan, 0.0])
    before, after = (forecast(SPEC, s, ahead(s, SPEC)).mean for s in (state, rebase(state, offset)))
    np.testing.assert_allclose(after - before, np.tile(np.nan_to_num(offset), (6, 1)), atol=1e-9)


def test_departures_are_those_from_the_expectation() -> None:
    state = learnt(SPEC, daily(60, 4, seed=28))
    expected = forecast(SPEC, state, ahead(state, SPEC))
    capture = expected.mean[0] + np.array([1.0, 1.0, 1.0, -5.0])
    found = departures(SPEC, state, 60, 60 * 3600.0, capture)
    assert found.mean == pytest.approx(-0.5)
    assert found.maximum == pytest.approx(5.0)
    assert found.rms == pytest.approx(np.sqrt(28 / 4))
    assert departures(SPEC, state, 60, 60 * 3600.0, expected.mean[0]).p_value > 0.9
    later = departures(SPEC, state, 62, 62 * 3600.0, expected.mean[2])
    assert later.rms == pytest.approx(0.0, abs=1e-9)


def test_without_history_there_is_no_p_value() -> None:
    values = daily(20, 4, seed=29)
    _, p_values = learn(SPEC, np.arange(20), times(20), values, np.ones(20, dtype=bool), gate=GATE)
    assert np.isnan(p_values[:9]).all()
    assert np.isfinite(p_values[9:]).all()


def test_false_alarms_come_at_the_rate_that_is_asked_for() -> None:
    alarms = []
    for seed in range(12):
        _, p_values = learn(
            SPEC,
            np.arange(150),
            times(150),
            daily(150, 30, seed=seed),
            np.ones(150, dtype=bool),
            gate=0.0,
        )
        alarms.append(p_values[np.isfinite(p_values)] < 0.05)
    assert 0.02 < np.concatenate(alarms).mean() < 0.08
