"""The candidates' forecasts from one reference time, advanced one slot at a time.

The same code makes a forecast of every cell and the hindcasts of the scored cells, so what is
scored is what is issued.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from gnomon.tasks.forecasting import autoregression, climatology, uncertainty
from gnomon.tasks.forecasting.specification import Array, Specification, clip
from gnomon.tasks.forecasting.state import State

CANDIDATES = ("persistence", "climatology", "damped_anomaly", "autoregression", "local_level")
"""Names of the candidates, in the order of every array's candidate axis."""
LONGEST_GAP = 512
"""Slots after which the autoregressive part of a forecast no longer changes."""


@dataclass(frozen=True, slots=True)
class Trajectory:
    """What one reference time knows, and where its recursions have got to, for n cells.

    All float64, in the variable's units unless noted; NaN where a cell was not present.
    """

    last: Array
    """(n,) last captured value."""
    coefficients: Array
    """(K, n) of the climatology; the shift is in the intercept."""
    damped: Array
    """(n,) damped anomaly at the current slot."""
    damping: Array
    """(n,) autocorrelation over one slot, unitless."""
    recursion: Array
    """(P, n) autoregressive coefficients on the anomalies, unitless."""
    anomalies: Array
    """(P, n) predicted anomalies at the current slot and before, newest first."""
    level: Array
    """(n,) local level relative to the climatology."""
    scale: Array
    """(n,) standard deviation of one-slot departures."""

    def rows(self) -> Array:
        """Everything in one array, (R - 1, n)."""
        single = (self.last, self.damped, self.damping, self.level, self.scale)
        return np.concatenate([np.stack(single), self.coefficients, self.recursion, self.anomalies])


def from_rows(spec: Specification, rows: Array) -> Trajectory:
    """Trajectory from the array of `Trajectory.rows`, (R - 1, n)."""
    start, stop = 5 + spec.terms, 5 + spec.terms + spec.memory
    return Trajectory(
        last=rows[0],
        damped=rows[1],
        damping=rows[2],
        level=rows[3],
        scale=rows[4],
        coefficients=rows[5:start],
        recursion=rows[start:stop],
        anomalies=rows[stop:],
    )


def fitted(spec: Specification, state: State) -> Trajectory:
    """Trajectory at the last learnt capture, for every cell; NaN where a cell was never seen.

    Parameters
    ----------
    spec : Specification
    state : State
        With at least one learnt capture.
    """
    relative = climatology.coefficients(spec, state.gram, state.moments, span_s(state))
    recent = climatology.features(spec, state.recent_times)
    anomalies = state.recent - recent @ relative
    p, d = spec.order
    correlation = autoregression.correlations(
        state.covariances, state.covariance_pairs, state.count
    )
    recursion = autoregression.integrate(autoregression.levinson(correlation), d)
    if p + d == 0:
        recursion = np.zeros((1, state.cells))
    damping = autoregression.correlations(state.persistence, state.persistence_pairs, state.count)
    last = state.recent[0] + state.shift
    return Trajectory(
        last=last,
        coefficients=np.concatenate([relative[:1] + state.shift, relative[1:]]),
        damped=anomalies[0],
        damping=np.clip(damping[0], 0.0, autoregression.PARTIAL_LIMIT),
        recursion=recursion,
        anomalies=anomalies[: spec.memory],
        level=state.level - relative[0],
        scale=uncertainty.innovation_scale(state.innovation, state.count, last),
    )


def span_s(state: State) -> float:
    """Time between the first and the last learnt capture, seconds."""
    return float(state.clock[5] - state.clock[4])


def advance(trajectory: Trajectory, steps: int) -> Trajectory:
    """Trajectory some slots later."""
    anomalies = trajectory.anomalies
    for _ in range(min(steps, LONGEST_GAP)):
        following = (trajectory.recursion * anomalies).sum(axis=0)
        anomalies = np.concatenate([following[None], anomalies[:-1]])
    damped = trajectory.damped * trajectory.damping**steps
    return replace(trajectory, anomalies=anomalies, damped=damped)


def candidates(spec: Specification, trajectory: Trajectory, regressors: Array) -> Array:
    """Predictions of every candidate at the trajectory's current slot.

    Parameters
    ----------
    spec : Specification
    trajectory : Trajectory
    regressors : float64, (K,)
        Harmonic regressors at the valid time.

    Returns
    -------
    float64, (C, n), variable's units
        Within the bounds; NaN where the trajectory is.
    """
    season = regressors @ trajectory.coefficients
    return clip(
        spec,
        np.stack(
            [
                trajectory.last,
                season,
                season + trajectory.damped,
                season + trajectory.anomalies[0],
                season + trajectory.level,
            ]
        ),
    )
