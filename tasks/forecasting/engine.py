"""The recursive forecaster of all cells of one chunk: start, roll, departures, forecast.

A roll reads the new capture and the state, and nothing older; a fit over history is the loop of
single rolls. It does not choose the specification, and decides nothing about damage.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isfinite

import numpy as np
from scipy import special

from gnomon.storage.errors import InvalidInput
from gnomon.tasks.forecasting import climatology, hindcasts, uncertainty
from gnomon.tasks.forecasting.absorption import absorb, bridge
from gnomon.tasks.forecasting.expectation import (
    Departures,
    Expectation,
    compare,
    expected,
    judged,
)
from gnomon.tasks.forecasting.specification import Array, Specification, clip
from gnomon.tasks.forecasting.state import State, layout
from gnomon.tasks.forecasting.trajectory import Trajectory, advance, candidates, fitted

RATIO_SCALE = 0.35
"""Prior standard deviation of log chunk RMSE over expected RMSE."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """Predicted states at leads 1..H from one reference time."""

    mean: Array
    """(H, N) predicted values, variable's units; NaN where the cell is not present."""
    standard_error: Array
    """(H, N) such that the mean +- 1.645 of them covers 90 %; > 0 where `mean` is finite."""
    confidence: Array
    """(H,) probability that the chunk's RMSE is within the tolerance."""
    expected_rmse: Array
    """(H,) expected chunk RMSE, variable's units."""
    weights: Array
    """(H, C) blend weights of the candidates."""


def start(spec: Specification, n_cells: int) -> State:
    """State that has seen no capture.

    Parameters
    ----------
    spec : Specification
    n_cells : int
        N, number of cells of the chunk.
    """
    shapes = layout(spec)
    cells = {name: np.zeros((*shape, n_cells)) for name, shape in shapes.cells.items()}
    shared = {name: np.zeros(shape) for name, shape in shapes.shared.items()}
    cells["shift"][:] = np.nan
    shared["clock"][3] = np.nan
    shared["pending"][:] = np.nan
    shared["pending_slots"][:] = np.nan
    shared["weights"][:, 0] = 1.0
    return State(**cells, **shared)


def roll(spec: Specification, state: State, slot: int, time_s: float, values: Array) -> State:
    """State after one more capture.

    Parameters
    ----------
    spec : Specification
    state : State
    slot : int
        Cadence index of the capture, after `state.slot`. Slots in between are missing captures.
    time_s : float
        Its valid time, seconds, after the last learnt one.
    values : float64, (N,), variable's units
        NaN where missing: the cell's history is bridged by its own expectation. All NaN: the slot
        is passed and nothing is learnt.

    Returns
    -------
    State
        A new value; the argument is unchanged.

    Raises
    ------
    InvalidInput
        If the slot or time does not advance, or the shape is not (N,).
    """
    values = _checked(state, slot, time_s, values)
    if not np.isfinite(values).any():
        clock = state.clock.copy()
        clock[1] = slot
        return replace(state, clock=clock)
    if state.captures == 0:
        first = replace(state, recent_times=np.full(spec.recent, time_s))
        return absorb(spec, first, slot, time_s, values)
    trajectory = fitted(spec, state)
    lead = slot - state.learnt_slot
    regressors = climatology.features(spec, np.array([time_s]))[0]
    expectation = expected(spec, state, trajectory, lead, regressors)
    scored = hindcasts.score(spec, judged(state, expectation, values), slot, regressors, values)
    bridged = bridge(spec, scored, trajectory, slot, time_s)
    return hindcasts.renew(spec, absorb(spec, bridged, slot, time_s, values))


def departures(
    spec: Specification, state: State, slot: int, time_s: float, values: Array
) -> Departures:
    """Departures of a capture from what the state expected of it, before it is learnt.

    Parameters
    ----------
    spec, state, slot, time_s, values
        As for `roll`. With missing captures in between, the expectation is as many slots ahead.

    Raises
    ------
    InvalidInput
        As `roll`.
    """
    values = _checked(state, slot, time_s, values)
    if state.captures == 0:
        return Departures(np.nan, np.nan, np.nan, np.nan, np.nan)
    return compare(state, expect(spec, state, slot, time_s), values)


def expect(spec: Specification, state: State, slot: int, time_s: float) -> Expectation:
    """What the state expects at one later slot, in every cell that was ever seen.

    Parameters
    ----------
    spec : Specification
    state : State
        With at least one learnt capture.
    slot : int
        Cadence index, after `state.learnt_slot`.
    time_s : float
        Its valid time, seconds.
    """
    regressors = climatology.features(spec, np.array([time_s]))[0]
    return expected(spec, state, fitted(spec, state), slot - state.learnt_slot, regressors)


def forecast(spec: Specification, state: State, times_s: Array) -> Forecast:
    """Predicted states of the H slots after `state.slot`, with error bars and confidence.

    Parameters
    ----------
    spec : Specification
    state : State
    times_s : float64, (H,)
        Valid times of those slots, seconds.

    Raises
    ------
    InvalidInput
        If fewer than 3 captures were learnt, or `times_s` has not one time per lead.
    """
    if state.captures < hindcasts.LEAST_CAPTURES:
        raise InvalidInput(
            f"found {state.captures} learnt captures, expected at least "
            f"{hindcasts.LEAST_CAPTURES}: capture more before a forecast"
        )
    if np.shape(times_s) != (spec.leads,):
        raise InvalidInput(f"found {np.shape(times_s)} valid times, expected ({spec.leads},)")
    regressors = climatology.features(spec, times_s)
    lag = state.slot - state.learnt_slot
    trajectory = advance(_present(spec, state), lag)
    mean = np.empty((spec.leads, state.cells))
    error = np.empty_like(mean)
    leads = np.minimum(lag + np.arange(spec.leads), spec.leads - 1)
    factors = uncertainty.lead_scale(state.growth, state.adjustment)[leads]
    for step in range(spec.leads):
        trajectory = advance(trajectory, 1)
        blended = state.weights[leads[step]] @ candidates(spec, trajectory, regressors[step])
        mean[step] = clip(spec, blended)
        growth = uncertainty.shape(trajectory.damping, lag + step + 1)
        error[step] = trajectory.scale * np.sqrt(growth) * factors[step]
    confidence, rmse = _confidence(spec, state, error, leads)
    return Forecast(mean, error, confidence, rmse, state.weights[leads])


def rebase(state: State, offset: Array) -> State:
    """State whose whole history is moved by an offset, as after a real shift of level.

    Parameters
    ----------
    state : State
    offset : float64, (N,), variable's units
        Not finite: the cell is not moved.

    Notes
    -----
    Everything but the cells' shift is kept relative to it, so one sum moves the climatology, the
    anomalies and the levels. Waiting hindcasts were made before the shift, and are dropped.
    """
    return replace(
        state,
        shift=state.shift + np.where(np.isfinite(offset), offset, 0.0),
        pending_slots=np.full_like(state.pending_slots, np.nan),
    )


def _checked(state: State, slot: int, time_s: float, values: Array) -> Array:
    """Values as float64 with infinities as NaN, after the arguments were found legal."""
    values = np.asarray(values, dtype=np.float64)
    if values.shape != state.shift.shape:
        raise InvalidInput(f"found values of shape {values.shape}, expected {state.shift.shape}")
    if not isfinite(time_s):
        raise InvalidInput(f"found time {time_s}, expected finite seconds")
    if state.captures and (slot <= state.slot or time_s <= state.learnt_time_s):
        raise InvalidInput(
            f"found slot {slot} at {time_s} s, expected one after slot {state.slot} "
            f"and {state.learnt_time_s} s: captures are learnt in order"
        )
    return np.where(np.isfinite(values), values, np.nan)


def _present(spec: Specification, state: State) -> Trajectory:
    """Fitted trajectory, NaN in the values of cells that the last learnt capture has not."""
    trajectory = fitted(spec, state)
    absent = state.present == 0.0
    return replace(
        trajectory,
        last=np.where(absent, np.nan, trajectory.last),
        coefficients=np.where(absent, np.nan, trajectory.coefficients),
        scale=np.where(absent, np.nan, trajectory.scale),
    )


def _confidence(
    spec: Specification, state: State, error: Array, leads: Array
) -> tuple[Array, Array]:
    """Confidence and expected RMSE at each lead."""
    location, scale, freedom = uncertainty.predictive(state.ratios[:, leads], RATIO_SCALE)
    square = np.where(np.isfinite(error), error**2, 0.0).sum(axis=1)
    nominal = np.sqrt(square / max(1, int(np.isfinite(error[0]).sum())))
    positive = np.maximum(nominal, np.finfo(np.float64).tiny)
    margin = np.log(max(spec.tolerance, np.finfo(np.float64).tiny) / positive)
    confidence = special.stdtr(freedom, (margin - location) / scale)
    return np.asarray(confidence), nominal * np.exp(location + 0.5 * np.minimum(scale, 1.0) ** 2)
