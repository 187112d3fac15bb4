"""How one capture enters the state: gaps are bridged first, then the sums are updated."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from gnomon.tasks.forecasting import climatology
from gnomon.tasks.forecasting.specification import Array, Specification
from gnomon.tasks.forecasting.state import State
from gnomon.tasks.forecasting.trajectory import Trajectory, advance, span_s

MEMORY = 500.0
"""Effective number of captures that the autocovariances remember, at most.

Before that many, the n-th capture fades the older ones by 1 - 1/n: early anomalies, measured
against a climatology that was not known yet, lose weight.
"""
LEVEL_RATE = 0.2
"""Weight of one capture in the local level (Brown 1963)."""


def bridge(
    spec: Specification, state: State, trajectory: Trajectory, slot: int, time_s: float
) -> State:
    """State whose recent values end at a slot, each missing one the autoregressive expectation.

    The value at the slot itself is the expectation too: `absorb` replaces it where captured.
    `trajectory` is fitted to the state.
    """
    count = spec.recent
    gap = slot - state.learnt_slot
    skipped = max(0, gap - count)
    moved = advance(trajectory, skipped)
    ahead = np.arange(skipped + 1, gap + 1) / gap
    times = state.learnt_time_s + ahead * (time_s - state.learnt_time_s)
    regressors = climatology.features(spec, times)
    filled = []
    for row in regressors:
        moved = advance(moved, 1)
        filled.append(row @ trajectory.coefficients + moved.anomalies[0] - state.shift)
    newest = np.where(np.isnan(state.shift), 0.0, np.stack(filled[::-1]))
    times = times[::-1]
    times[0] = time_s
    return replace(
        state,
        recent=np.concatenate([newest, state.recent])[:count],
        recent_times=np.concatenate([times, state.recent_times])[:count],
        recent_known=np.concatenate([np.zeros(len(times)), state.recent_known])[:count],
    )


def absorb(spec: Specification, state: State, slot: int, time_s: float, values: Array) -> State:
    """State whose sums hold one more capture.

    Parameters
    ----------
    spec : Specification
    state : State
        From `bridge`: its newest recent value is the expectation at this slot.
    slot, time_s, values
        As for `gnomon.tasks.forecasting.engine.roll`, at least one value finite.
    """
    valid = np.isfinite(values)
    new = valid & np.isnan(state.shift)
    regressors = climatology.features(spec, np.array([time_s]))[0]
    shift = np.where(new, values, state.shift)
    relative = np.where(valid, values - shift, 0.0)
    recent = np.where(new, 0.0, state.recent)
    recent[0] = np.where(valid, relative, recent[0])
    target = np.where(valid, relative, regressors @ _coefficients(spec, state))
    known = state.recent_known.copy()
    known[0] = 1.0
    begun = time_s if state.captures == 0 else state.clock[4]
    clock = np.array([state.clock[0] + 1, slot, slot, state.clock[3], begun, time_s])
    following = replace(
        state,
        shift=shift,
        present=valid.astype(np.float64),
        recent=recent,
        recent_known=known,
        clock=clock,
        gram=state.gram + np.outer(regressors, regressors),
        moments=state.moments + regressors[:, None] * target,
    )
    gap = slot - state.learnt_slot if state.captures else 1
    return _correlated(spec, following, regressors, valid & ~new, gap)


def _coefficients(spec: Specification, state: State) -> Array:
    """Climatology relative to the shift, (K, N); zero before the first capture."""
    if state.captures == 0:
        return np.zeros_like(state.moments)
    return climatology.coefficients(spec, state.gram, state.moments, span_s(state))


def _correlated(
    spec: Specification, state: State, regressors: Array, usable: NDArray[np.bool_], gap: int
) -> State:
    """State whose lagged products and local level hold the newest value."""
    coefficients = _coefficients(spec, state)
    anomalies = state.recent - climatology.features(spec, state.recent_times) @ coefficients
    known = state.recent_known
    fade = 1.0 - 1.0 / max(2.0, min(state.clock[0], MEMORY))
    p, d = spec.order
    changes, pairs = anomalies, known
    if d:
        changes, pairs = anomalies[:-1] - anomalies[1:], known[:-1] * known[1:]
    products = np.where(usable, changes[0] * changes[: p + 1], 0.0) * (
        pairs[0] * pairs[: p + 1, None]
    )
    lagged = np.where(usable, anomalies[0] * anomalies[:2], 0.0) * known[:2, None]
    rate = 1.0 - (1.0 - LEVEL_RATE) ** gap
    seasonal = regressors[1:] @ coefficients[1:]
    step = np.where(state.present > 0, state.recent[0] - seasonal - state.level, 0.0)
    fresh = (state.present > 0) & ~usable
    return replace(
        state,
        covariances=state.covariances * fade + products,
        covariance_pairs=state.covariance_pairs * fade + pairs[0] * pairs[: p + 1],
        persistence=state.persistence * fade + lagged,
        persistence_pairs=state.persistence_pairs * fade + known[:2],
        level=state.level + np.where(fresh, 1.0, rate) * step,
    )
