import numpy as np
import pytest

from gnomon.tasks.forecasting import GATE
from gnomon.tasks.forecasting.tracking import innovation_scale
from gnomon.tasks.hindcasting.hindcast import hindcast, issue
from tests.tasks.forecasting.series import (
    Array,
    autoregressive,
    daily,
    fit,
    replay,
    specification,
)

SPEC = specification((2, 0, 0), seasonal=True)


def test_untrusted_captures_are_judged_and_not_learnt() -> None:
    values = daily(50, 5, seed=21)
    found = fit(SPEC, values, trusted=np.arange(50) != 49, gate=True)
    assert np.isfinite(found.learnt.p_values[49, 0])
    assert (found.state.slot, found.state.captures[0]) == (49, 49)


def test_a_real_change_of_level_is_learnt_after_three_captures() -> None:
    values = daily(120, 10, seed=22)
    values[80:] += 100.0
    found = fit(SPEC, values, gate=True)
    assert np.isnan(found.learnt.p_values[80:83, 0]).all(), "what was learnt is not doubted"
    assert not (found.learnt.p_values < GATE).any()
    assert found.state.captures[0] == 120
    made = found.forecast()
    assert np.abs(made.mean - 380.0).max() < 12
    assert made.standard_error.max() < 6.0


def test_a_change_of_level_in_one_chunk_does_not_move_the_other() -> None:
    values = daily(120, 10, seed=22)
    still = fit(SPEC, values, starts=(0, 4, 10), gate=True)
    values[80:, :4] += 100.0
    found = fit(SPEC, values, starts=(0, 4, 10), gate=True)
    assert (found.state.captures == 120).all()
    for name in ("coefficients", "recent", "level", "variance"):
        one, other = getattr(found.state, name), getattr(still.state, name)
        assert one[..., 4:].tobytes() == other[..., 4:].tobytes()


def test_three_captures_that_disagree_are_not_a_change_of_level() -> None:
    values = daily(83, 10, seed=23)
    values[80:] += 100.0 * np.random.default_rng(24).standard_normal((3, 10))
    found = fit(SPEC, values, gate=True)
    assert (found.learnt.p_values[80:83, 0] < GATE).all()
    assert (found.state.captures[0], found.state.slot) == (80, 82)


def test_a_series_that_stays_wild_is_learnt_in_the_end() -> None:
    values = daily(100, 10, seed=25)
    values[80:] += 300.0 * np.random.default_rng(26).standard_normal((20, 10))
    assert fit(SPEC, values, gate=True).state.captures[0] >= 90


def test_without_history_there_is_no_p_value() -> None:
    found = fit(SPEC, daily(20, 4, seed=29), gate=True)
    assert np.isnan(found.learnt.p_values[:9]).all()
    assert np.isfinite(found.learnt.p_values[9:]).all()


def test_false_alarms_come_at_the_rate_that_is_asked_for() -> None:
    alarms = []
    for seed in range(12):
        p_values = fit(SPEC, daily(150, 30, seed=seed)).learnt.p_values
        alarms.append(p_values[np.isfinite(p_values)] < 0.05)
    assert 0.02 < np.concatenate(alarms).mean() < 0.08


def test_hindcasts_do_not_know_of_a_change_before_it_happened() -> None:
    values = daily(120, 10, seed=22)
    values[80:] += 100.0
    found = fit(SPEC, values, gate=True).learnt
    np.testing.assert_array_equal(found.captured.values, values)
    assert (found.window.values[:80].mean() - values[:80].mean()) > 90
    np.testing.assert_array_equal(found.window.values[80:], values[80:])


def test_what_comes_later_cannot_change_a_forecast_that_is_scored() -> None:
    values = daily(120, 10, seed=31)
    jumped = values.copy()
    jumped[110:] += 100.0
    for share in (0.0, 0.005):
        one, other = (
            [s.issued for s in issue(replay(v, seasonal=True, share=share), origins=8)]
            for v in (values, jumped)
        )
        before = [k for k, made in enumerate(one) if made.origin < 110]
        assert len(before) > 3
        for k in before:
            a, b = one[k].forecast, other[k].forecast
            assert a.mean.tobytes() == b.mean.tobytes()
            assert a.standard_error.tobytes() == b.standard_error.tobytes()
            assert a.confidence.tobytes() == b.confidence.tobytes()


def noise(captures: int = 120, cells: int = 40, *, seed: int = 1) -> Array:
    return 10.0 + np.random.default_rng(seed).standard_normal((captures, cells))


PLAIN = specification((1, 0, 0))


@pytest.mark.parametrize(("first", "last"), [(30, 32), (30, 33), (0, 7)])
def test_captures_without_change_do_not_make_later_damage_believable(first: int, last: int) -> None:
    values = noise()
    values[first:last] = 10.0
    values[70] += 50.0
    values[90] *= -30.0
    assert (fit(PLAIN, values, gate=True).learnt.p_values[[70, 90], 0] < GATE).all()


def test_a_stuck_field_is_left_when_the_truth_is_back() -> None:
    values = noise()
    values[30:33] = 0.0
    assert abs(fit(PLAIN, values, gate=True).state.coefficients[0].mean() - 10.0) < 0.3


def test_seldom_events_are_learnt() -> None:
    values = np.zeros((120, 40))
    wet = np.arange(12, 120, 10)
    values[wet] = np.random.default_rng(2).gamma(1.0, 5.0, (len(wet), 40))
    assert fit(PLAIN, values, gate=True).state.captures[0] == 120


@pytest.mark.parametrize("spike", [1e30, 500.0])
def test_a_spike_before_a_change_of_level_is_not_learnt_with_it(spike: float) -> None:
    values = noise()
    values[61:] += 20.0
    values[60] = spike
    found = fit(PLAIN, values, gate=True)
    assert found.state.captures[0] == 119
    assert found.learnt.p_values[60, 0] < GATE
    assert abs(found.state.coefficients[0].mean() - 30.0) < 0.5
    assert innovation_scale(found.state).max() < 2.0


@pytest.mark.parametrize("size", [1e20, 60.0])
def test_damage_in_the_first_captures_is_found_by_those_after_it(size: float) -> None:
    values = noise()
    values[4] += size
    found = fit(PLAIN, values, gate=True)
    assert (found.learnt.p_values[:, 0] < GATE).sum() == 1
    assert found.learnt.p_values[4, 0] < GATE
    assert abs(found.state.coefficients[0].mean() - 10.0) < 0.3


def test_an_early_change_of_level_is_no_damage() -> None:
    values = noise()
    values[6:] += 20.0
    assert fit(PLAIN, values, gate=True).state.captures[0] == 120


def test_what_fills_a_file_is_never_learnt() -> None:
    values = noise()
    values[60:75] = 9.96921e36
    found = fit(PLAIN, values, gate=True)
    assert found.state.captures[0] == 105
    assert abs(found.state.coefficients[0].mean() - 10.0) < 0.3


@pytest.mark.parametrize("size", [8.0, 60.0])
def test_error_bars_hold_after_a_change_of_level(size: float) -> None:
    covered = []
    for seed in range(4):
        values = autoregressive((0.7,), 126, 40, seed=seed)
        values[60:] += size
        for origin in range(80, 120, 10):
            made = fit(PLAIN, values[: origin + 1], gate=True).forecast()
            departure = np.abs(made.mean - values[origin + 1 : origin + 7])
            covered.append((departure <= 1.645 * made.standard_error).mean())
    assert 0.85 < np.mean(covered) < 0.99


def test_after_a_change_of_level_the_mean_is_soon_right() -> None:
    values = noise(140, seed=3)
    values[100:] += 20.0
    state = fit(PLAIN, values, gate=True).state
    assert np.sqrt(np.mean((state.coefficients[0] - 30.0) ** 2)) < 0.3


def test_chunks_agree_on_the_time_when_a_run_ends_in_missing_captures() -> None:
    rng = np.random.default_rng(4)
    values = noise(60, 20, seed=4)
    values[50:53, :10] += 60.0 * rng.standard_normal((3, 10))
    values[53:, :10] = np.nan
    clock = fit(specification((3, 1, 0)), values, starts=(0, 10, 20), gate=True).state.clock
    np.testing.assert_array_equal(clock[0], [59, 59])
    np.testing.assert_array_equal(clock[3:, 0], clock[3:, 1])


def test_an_offset_does_not_change_what_a_hindcast_finds() -> None:
    values = autoregressive((0.7,), 120, 30, seed=5)
    one, other = (hindcast(replay(values + offset)).ratio_to_persistence for offset in (0.0, 1e9))
    assert abs(one - other) < 0.01
