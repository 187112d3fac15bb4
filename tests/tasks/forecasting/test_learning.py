import numpy as np

from gnomon.tasks.forecasting import GATE
from gnomon.tasks.hindcast import Series, issue
from tests.tasks.forecasting.series import daily, fit, specification, times

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
    slots, starts = np.arange(120), np.array([0, 10])
    one, other = (
        issue(SPEC, Series(slots, times(120), v, starts), origins=20)[0] for v in (values, jumped)
    )
    before = [k for k, made in enumerate(one) if made.origin < 110]
    assert len(before) > 5
    for k in before:
        assert one[k].mean.tobytes() == other[k].mean.tobytes()
        assert one[k].error.tobytes() == other[k].error.tobytes()
