"""One capture after another: how the state of many chunks at once takes them in.

A step reads the capture and the state, and nothing older.  It judges the capture first - how far is
it from what was expected? - and only then learns it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from gnomon.tasks.forecasting import climatology, kernels, uncertainty
from gnomon.tasks.forecasting.specification import Array, Specification
from gnomon.tasks.forecasting.state import State

SURPRISE_MEMORY = 200.0
"""Effective number of captures that the departures test remembers."""
SURPRISE_SCALE = 0.4
"""Prior standard deviation of the log standardised rms departure."""
LEAST_SURPRISES = 6
"""Scored departures below which the departures test gives no p-value."""
LEAST_CAPTURES = 3
"""Captures that must have been learnt before anything is expected."""
LEAST_SIZE = 1e-3
"""Standardised rms below which departures are all alike: the log of zero is not needed."""
VARIANCE_MEMORY = 100.0
"""Effective number of innovations that a cell's variance remembers, at most."""
SHRINKAGE = 20.0
"""Captures' worth of weight of the chunk's pooled damping in a cell's own."""
LATE = 0.25
"""Share of the chunk's captures below which a cell came late, and its mean follows it faster."""
ALLOWANCE = 1.0
"""Mean normal score of departures up to which nothing has drifted."""
DRIFTED = 8.0
"""Sum of the scores beyond it at which a chunk has drifted."""
RATES = (0.02, 0.98)
"""Least and greatest weight of one capture in the local level."""
FIRST_RATE = 0.2
"""The same while the changes are not known yet."""


def step(
    spec: Specification,
    state: State,
    slot: int,
    time_s: float,
    values: Array,
    *,
    trusted: NDArray[np.bool_],
    gates: Array,
) -> tuple[Array, NDArray[np.bool_]]:
    """Take one capture into a state, in place.

    Parameters
    ----------
    spec : Specification
    state : State
    slot : int
        Cadence index of the capture, after `state.slot`. Slots in between are missing captures.
    time_s : float
        Its valid time, seconds.
    values : float64, (N,), variable's units
        NaN where missing.
    trusted : bool, (G,)
        False: the chunk is judged, but not learnt.
    gates : float64, (G,)
        A chunk whose p-value is smaller is not learnt.

    Returns
    -------
    p_values : float64, (G,)
        NaN where there was not enough history.
    learnt : bool, (G,)
    """
    _pass(spec, state, slot, time_s)
    regressors = np.nan_to_num(climatology.features(spec, state.recent_times))
    swing = seasons(state, regressors[:1])[0]
    departures = _depart(state, values, regressors, swing)
    with np.errstate(invalid="ignore", divide="ignore"):
        size = np.log(np.maximum(np.sqrt(departures.sums[1] / departures.sums[0]), LEAST_SIZE))
    enough = (departures.sums[0] > 0) & (state.clock[1] >= LEAST_CAPTURES)
    size = np.where(enough, size, np.nan)
    p_values = surprise(state.surprises, size)
    present = np.add.reduceat(np.isfinite(values), state.starts[:-1]) > 0
    learn = trusted & present & ~(p_values < gates)
    kept = np.where(learn, size, np.nan)
    state.surprises[:] = uncertainty.accumulate(state.surprises, kept, SURPRISE_MEMORY)
    gains = _learn(spec, state, values, regressors, departures, learn)
    left = np.nan_to_num(kept + 0.5 * np.log(swing) - regressors[0] @ state.swing)
    state.swing += gains.T * left
    state.correction[1] = np.where(learn, _drift(state, p_values), state.correction[1])
    return p_values, learn


@dataclass(frozen=True, slots=True)
class _Departures:
    """How a capture departs from what was expected."""

    innovation: Array
    """(N,) captured minus expected; NaN where either is missing."""
    growth: Array
    """(N,) its expected variance over that of one slot."""
    sums: Array
    """(4, G) number, squares over expected variance, and squares by damped anomaly and level."""


def _depart(state: State, values: Array, regressors: Array, swing: Array) -> _Departures:
    innovation, growth = np.empty(state.cells), np.empty(state.cells)
    sums = np.zeros((state.chunks, 4))
    kernels.innovate(
        state.starts,
        values,
        regressors,
        state.coefficients,
        state.recent[1:],
        state.products,
        innovation_scale(state),
        state.count,
        state.level,
        levelled(state),
        pooled_damping(state),
        swing,
        SHRINKAGE,
        innovation,
        growth,
        sums,
    )
    return _Departures(innovation, growth, sums.T)


def _learn(
    spec: Specification,
    state: State,
    values: Array,
    regressors: Array,
    departures: _Departures,
    learn: NDArray[np.bool_],
) -> Array:
    """Take a capture into the chunks that learn it, in place; return their gains (G, K)."""
    captures, row = state.clock[1].copy(), regressors[0]
    fades = climatology.fade(spec, captures)
    forget = 1.0 - 1.0 / np.clip(captures, 2.0, VARIANCE_MEMORY)
    before = np.where(captures == 0, climatology.prior(spec)[..., None], state.information * fades)
    information = before + np.outer(row, row)[..., None]
    state.information[:] = np.where(learn, information, state.information)
    gains = climatology.gains(np.where(learn, information, np.eye(len(row))[..., None]), row)
    pooled = np.zeros((state.chunks, 4))
    kernels.absorb(
        state.starts,
        learn,
        values,
        regressors,
        gains,
        np.stack([fades, forget], axis=-1),
        level_rate(state),
        LATE * np.minimum(captures, VARIANCE_MEMORY),
        departures.innovation,
        departures.growth,
        state.coefficients,
        state.recent,
        state.products,
        state.level,
        state.variance,
        state.count,
        state.present,
        pooled,
    )
    added = np.concatenate([pooled.T[2:], departures.sums[2:]])
    state.pooled[:2] = np.where(learn, pooled.T[:2], state.pooled[:2])
    state.pooled[2:] = np.where(learn, state.pooled[2:] * fades + added, state.pooled[2:])
    state.clock[1] += learn
    return gains


def _pass(spec: Specification, state: State, slot: int, time_s: float) -> None:
    """Move the recent values on to a slot, with unknown ones in between."""
    past = spec.recent
    first = state.slot < 0
    gap = past if first else min(slot - state.slot, past)
    before = state.recent_times[0] if not first else time_s
    state.recent[gap:] = state.recent[: past - gap].copy()
    state.recent[:gap] = np.nan
    between = time_s - np.arange(gap) * ((time_s - before) / max(slot - state.slot, 1))
    times = np.concatenate([between, state.recent_times])[:past]
    state.clock[0] = slot
    state.clock[2:] = times[:, None]


def expected(spec: Specification, state: State, slot: int, time_s: float) -> Array:
    """Expectation (N,) at a later slot; NaN where a cell was never seen."""
    season = climatology.features(spec, np.array([time_s]))[0] @ state.coefficients
    damped = damping(state)
    anomaly = bridged(spec, state, damped)[0] * damped ** (slot - state.slot)
    local = state.level - state.coefficients[0]
    return np.asarray(season + np.where(state.spread(levelled(state)), local, anomaly))


def bridged(spec: Specification, state: State, damped: Array) -> Array:
    """Recent anomalies (P, N), newest first, unknown ones damped from the last known before."""
    rows = np.nan_to_num(climatology.features(spec, state.recent_times))
    found = state.recent - rows @ state.coefficients
    before = np.zeros(state.cells)
    result = np.empty_like(found)
    for lag in range(len(found) - 1, -1, -1):
        before = np.where(np.isfinite(found[lag]), found[lag], before * damped)
        result[lag] = before
    return result


def drifted(state: State) -> NDArray[np.bool_]:
    """Whether each chunk (G,) departs more, and has for long, than when it was learnt."""
    return np.asarray(state.correction[1] > DRIFTED)


def _drift(state: State, p_values: Array) -> Array:
    """One-sided CUSUM (G,) of the normal scores of the p-values (Page 1954)."""
    score = special.ndtri(1.0 - np.clip(np.nan_to_num(p_values, nan=0.5), 1e-12, 1.0 - 1e-12))
    return np.asarray(np.maximum(0.0, state.correction[1] + score - ALLOWANCE))


def seasons(state: State, regressors: Array) -> Array:
    """Variance (T, G) of the innovations at some times, with regressors (T, K), over their mean."""
    return uncertainty.seasons(state.swing, state.surprises, regressors)


def spread(spec: Specification, state: State, times_s: Array, damped: Array) -> Array:
    """Standard deviation (H, N) of what a first-order process does in the next slots."""
    season = seasons(state, climatology.features(spec, times_s))
    grown = uncertainty.growth(damped, state.spread(season))
    return np.asarray(innovation_scale(state) * np.sqrt(grown))


def innovation_scale(state: State) -> Array:
    """Standard deviation (N,) of one-slot innovations, shrunk to the chunk's."""
    return uncertainty.innovation_scale(
        state.variance, state.count, state.coefficients[0], state.starts
    )


def levelled(state: State) -> NDArray[np.bool_]:
    """Whether the local level has predicted each chunk (G,) better than the damped anomaly."""
    return np.asarray(state.pooled[5] < state.pooled[4])


def pooled_damping(state: State) -> Array:
    """Damping per slot (G,) of the chunks' anomalies."""
    size = state.pooled[0]
    return np.where(size > 0, state.pooled[1] / np.where(size > 0, size, 1.0), 0.0)


def damping(state: State) -> Array:
    """Damping per slot (N,) of the cells' anomalies, in [0, 0.98]."""
    own = state.count / (state.count + SHRINKAGE)
    pooled = state.spread(pooled_damping(state))
    ratio = state.products[1] / np.where(state.products[0] > 0, state.products[0], 1.0)
    mixed = np.where(state.products[0] > 0, own * ratio + (1.0 - own) * pooled, pooled)
    return np.clip(mixed, 0.0, 0.98)


def level_rate(state: State) -> Array:
    """Weight (G,) of one capture in the local level: that of the best ARIMA(0, 1, 1).

    Notes
    -----
    The first autocorrelation r of the changes gives the moving-average term by
    ``r = theta / (1 + theta^2)``; the rate is ``1 + theta`` (Box and Jenkins 1976, section 5.3).
    """
    size, product = state.pooled[2], state.pooled[3]
    known = size > 0
    r = np.clip(np.where(known, product / np.where(known, size, 1.0), 0.0), -0.4999, 0.0)
    theta = np.where(r < -1e-6, (1.0 - np.sqrt(1.0 - 4.0 * r**2)) / (2.0 * np.minimum(r, -1e-6)), r)
    rate = np.clip(1.0 + theta, *RATES)
    trust = state.clock[1] / (state.clock[1] + 10.0)
    return np.asarray(np.where(known, trust * rate + (1.0 - trust) * FIRST_RATE, FIRST_RATE))


def surprise(surprises: Array, size: Array) -> Array:
    """Probability (G,) of so large a log standardised rms, by those learnt before; NaN if few.

    Notes
    -----
    The logarithm is taken as normal, with mean and variance learnt from the captures before; the
    p-value is the upper tail of its Student t predictive distribution.
    """
    location, scale, freedom = uncertainty.predictive(surprises, SURPRISE_SCALE)
    p_values = special.stdtr(freedom, -(size - location) / scale)
    enough = surprises[0] >= LEAST_SURPRISES * (1.0 - LEAST_SURPRISES / SURPRISE_MEMORY)
    return np.where(enough, p_values, np.nan)
