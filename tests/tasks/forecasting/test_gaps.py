"""Gaps, and what is known only now and then: nothing fails, and nothing passes for evidence."""

import numpy as np
import pytest

from gnomon.tasks.forecasting import blend, roll
from gnomon.tasks.forecasting.builtin import BUILT_IN
from gnomon.tasks.forecasting.candidate import CANDIDATES, ModeRecord
from gnomon.tasks.forecasting.hindcasts import Move, Window, rolling
from tests.tasks.forecasting.series import Array, autoregressive, fit, specification, times

HOUR = 3600.0


def waves(slots: int, cells: int) -> Array:
    """Two waves and some noise."""
    rng = np.random.default_rng(1)
    turn = 2 * np.pi * np.arange(slots)[:, None] / np.array([9.0, 5.0])
    noise = 0.1 * rng.standard_normal((slots, cells))
    return np.asarray(np.sin(turn) @ rng.standard_normal((2, cells)) + noise)


@pytest.mark.parametrize("name", ["modes_independent", "modes_linear"])
@pytest.mark.parametrize("before", [12, 16, 24])
def test_a_model_of_the_modes_stands_a_gap_of_all_its_targets(name: str, before: int) -> None:
    """Later leads have their targets in the gap alone: they are not predicted."""
    model = BUILT_IN[CANDIDATES.index(name)]
    assert model.per == "mode"
    amplitudes, weights = waves(before + 60, 2), np.ones(before + 60)
    weights[before:] = 0.0
    amplitudes[before:] = amplitudes[before - 1]
    spec = specification(leads=24)
    predicted = model.predict(np.empty(0), ModeRecord(spec, amplitudes, weights), 24)
    assert np.isfinite(predicted).all()


@pytest.mark.parametrize("before", [14, 24])
@pytest.mark.parametrize("empty", [False, True])
def test_a_variable_is_learnt_after_a_long_gap(before: int, empty: bool) -> None:
    """Of slots, or of captures without a value."""
    values = waves(before + 65, 20)
    spec = specification(leads=24)
    if empty:
        values[before:-5] = np.nan
        learnt = fit(spec, values)
    else:
        slots = np.concatenate([np.arange(before), np.arange(before + 60, before + 65)])
        learnt = fit(spec, values[slots], slots=slots)
    forecast = learnt.forecast()
    assert np.isfinite(forecast.mean).all()
    assert (forecast.standard_error > 0).all()


def test_no_hindcast_is_held_against_a_change_of_level_that_it_did_not_know() -> None:
    """From the first of its captures on, and of those that were made while it was not learnt."""
    values = autoregressive((0.3,), 42, 6, seed=2)
    values[30:] += 10.0
    move = Move(0, np.array([30, 31, 32]), np.full(6, 10.0))
    window = Window(times(42), values, np.array([0, 6]), (move,))
    spec = specification(leads=4)
    errors = rolling(spec, window, np.array([27, 30, 31, 32])).errors[:, :, 0, 0]
    np.testing.assert_array_equal(np.isfinite(errors[0]), [True, True, False, False])
    assert np.isnan(errors[1:3]).all()
    assert np.isfinite(errors[3]).all()
    assert np.abs(errors[np.isfinite(errors)]).max() < 6.0


def test_captures_that_share_no_cell_agree_on_nothing() -> None:
    """Stations report in turn: three captures of noise are damage, not a change of level."""
    values = autoregressive((0.3,), 90, 30, seed=3)
    values[60:63] = 50.0 * np.random.default_rng(4).standard_normal((3, 30))
    turn = np.arange(90)[:, None] % 3 != np.arange(30) % 3
    for missing in (turn, np.zeros_like(turn)):
        learnt = fit(specification(), np.where(missing, np.nan, values), gate=True).learnt
        assert learnt.captured.moves == ()
        assert np.nanmax(learnt.p_values[60:63]) < 1e-3


def test_innovations_move_on_with_the_slots() -> None:
    """Those before a slot that was skipped are further back by it."""
    spec = specification(order=(0, 0, 2))
    learnt = fit(spec, autoregressive((0.5,), 60, 8, seed=5))
    state = learnt.state
    assert (state.shocks != 0).any()
    values = autoregressive((0.5,), 1, 8, seed=6)[0]
    after = {
        slot: roll(spec, state, learnt.outlook, slot, slot * HOUR, values) for slot in (60, 61, 900)
    }
    np.testing.assert_array_equal(after[60].shocks[1], state.shocks[0])
    for slot in (61, 900):
        assert not after[slot].shocks.any()


def test_one_hindcast_makes_no_blend() -> None:
    """How far chance has made the best of it is not known: the best baseline stands."""
    rng = np.random.default_rng(7)
    errors = rng.standard_normal((5, 3, len(CANDIDATES), 40)) * np.linspace(1.5, 0.5, 7)[:, None]
    products, verified = blend.moments(errors)
    for count in (1, 2, 5):
        counted = verified.astype(float)
        counted[count:] = 0.0
        weights = blend.weights(products, counted)
        np.testing.assert_allclose(weights.sum(axis=1), 1.0)
        share = weights[:, 3:].sum(axis=1)
        assert (share == 0).all() if count == 1 else (share > 0.5).all()
