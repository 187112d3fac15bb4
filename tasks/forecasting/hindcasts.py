"""Hindcasts: forecasts made over past captures, scored when their valid time is captured.

A hindcast is the trajectory of a bounded, deterministic sample of cells exactly as the state had
it at its reference time, with the weights and error bars that would have been issued then. Nothing
that was learnt later reaches it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gnomon.tasks.forecasting import blend, uncertainty
from gnomon.tasks.forecasting.specification import Array, Specification
from gnomon.tasks.forecasting.state import LIVE_ORIGINS, SCORED_CELLS, State
from gnomon.tasks.forecasting.trajectory import (
    CANDIDATES,
    Trajectory,
    advance,
    candidates,
    fitted,
    from_rows,
)

WEIGHTS_MEMORY = 40.0
"""Effective number of hindcasts per lead that the weights remember, at most.

Before that many, a sum of n fades by 1 - 1/2n: hindcasts of untrained states lose weight.
"""
GROWTH_MEMORY = 100.0
"""Effective number of hindcasts per lead that the growth of errors remembers."""
RATIO_MEMORY = 60.0
"""Effective number of hindcasts per lead that the confidence remembers."""
CORRECTION_RATE = 0.1
"""Step of the coverage correction."""
LEAST_CAPTURES = 3
"""Captures that must have been learnt before a forecast is made."""


@dataclass(frozen=True, slots=True)
class Scores:
    """One capture's scores of the waiting hindcasts, by lead; NaN where none was due."""

    cross: Array
    """(H, C, C) mean over cells of products of the candidates' errors."""
    growth: Array
    """(H,) mean squared error of the blend over its expected variance before calibration."""
    missed: Array
    """(H,) share of cells outside the nominal interval."""
    ratio: Array
    """(H,) log of RMSE over expected RMSE."""


def stride(spec: Specification) -> int:
    """Slots between the reference times of hindcasts."""
    return -(-spec.leads // LIVE_ORIGINS)


def sample(present: Array) -> NDArray[np.intp]:
    """Indices of the cells that are scored: evenly strided over those present, at most S."""
    cells = np.flatnonzero(present)
    if len(cells) <= SCORED_CELLS:
        return cells
    return cells[np.linspace(0, len(cells) - 1, SCORED_CELLS).astype(np.intp)]


def score(spec: Specification, state: State, slot: int, regressors: Array, values: Array) -> State:
    """State whose waiting hindcasts have advanced to a capture and been scored against it.

    Parameters
    ----------
    spec : Specification
    state : State
    slot : int
        Cadence index of the capture, after `state.learnt_slot`.
    regressors : float64, (K,)
        Harmonic regressors at its valid time.
    values : float64, (N,)
        The capture; NaN where missing: not scored there.
    """
    if not np.isfinite(state.pending_slots).any():
        return state
    rows = state.pending.reshape(len(state.pending), -1)
    moved = advance(from_rows(spec, rows[1:]), slot - state.learnt_slot)
    scores = _scores(spec, state, slot, candidates(spec, moved, regressors), moved, values)
    known = np.isfinite(scores.growth)
    fade = np.where(known, 1.0 - 1.0 / np.clip(2.0 * state.scored, 2.0, WEIGHTS_MEMORY), 1.0)
    slow = np.where(known, 1.0 - 1.0 / GROWTH_MEMORY, 1.0)
    added = np.where(known[:, None, None], scores.cross, 0.0)
    growth = np.stack([known.astype(np.float64), np.where(known, scores.growth, 0.0)])
    expired = slot - state.pending_slots >= spec.leads
    return replace(
        state,
        cross=state.cross * fade[:, None, None] + added,
        scored=state.scored * fade + known,
        growth=state.growth * slow + growth,
        adjustment=uncertainty.corrected(state.adjustment, scores.missed, CORRECTION_RATE),
        ratios=uncertainty.accumulate(state.ratios, scores.ratio, RATIO_MEMORY),
        pending=np.concatenate([rows[:1], moved.rows()]).reshape(state.pending.shape),
        pending_slots=np.where(expired, np.nan, state.pending_slots),
    )


def _scores(
    spec: Specification,
    state: State,
    slot: int,
    predictions: Array,
    moved: Trajectory,
    values: Array,
) -> Scores:
    """Scores of every waiting hindcast; `predictions` is (C, O * S)."""
    shape = state.pending.shape[1:]
    index = np.where(np.isfinite(state.pending[0]), state.pending[0], 0.0).astype(np.intp)
    errors = predictions.reshape(-1, *shape) - values[index]
    count = len(CANDIDATES)
    result = Scores(
        np.full((spec.leads, count, count), np.nan),
        *(np.full(spec.leads, np.nan) for _ in range(3)),
    )
    for origin in np.flatnonzero(np.isfinite(state.pending_slots)):
        lead = slot - int(state.pending_slots[origin])
        usable = np.isfinite(errors[:, origin]).all(axis=0)
        if lead > spec.leads or not usable.any():
            continue
        part = errors[:, origin][:, usable]
        own = state.pending_weights[origin, lead - 1] @ part
        damping = moved.damping.reshape(shape)[origin, usable]
        variance = moved.scale.reshape(shape)[origin, usable] ** 2
        variance = variance * uncertainty.shape(damping, lead)
        error = np.sqrt(variance) * state.pending_scales[origin, lead - 1]
        found, expected = float(np.mean(own**2)), float(np.mean(error**2))
        result.cross[lead - 1] = part @ part.T / part.shape[1]
        result.growth[lead - 1] = min(found / float(np.mean(variance)), 1e3)
        result.missed[lead - 1] = np.mean(np.abs(own) > uncertainty.NOMINAL_Z * error)
        result.ratio[lead - 1] = 0.5 * np.log(np.clip(found / expected, 1e-3, 1e3))
    return result


def renew(spec: Specification, state: State) -> State:
    """State with a new hindcast from its last learnt capture, when one is due.

    The blend weights are brought up to date at the same moment.

    Parameters
    ----------
    spec : Specification
    state : State
        That has just learnt a capture.
    """
    due = state.learnt_slot - state.clock[3] >= stride(spec) or not np.isfinite(state.clock[3])
    if not due or state.captures < LEAST_CAPTURES:
        return state
    weights = state.weights if spec.categorical else blend.weights(state.cross, state.scored)
    cells = sample(state.present)
    rows = np.full((len(state.pending), SCORED_CELLS), np.nan)
    rows[0, : len(cells)] = cells
    rows[1:, : len(cells)] = fitted(spec, state).rows()[:, cells]
    slots = state.pending_slots
    place = int(np.argmin(np.where(np.isfinite(slots), slots, -np.inf)))
    at = np.arange(LIVE_ORIGINS) == place
    scale = uncertainty.lead_scale(state.growth, state.adjustment)
    clock = state.clock.copy()
    clock[3] = state.learnt_slot
    return replace(
        state,
        clock=clock,
        weights=weights,
        pending=np.where(at[:, None], rows[:, None], state.pending),
        pending_slots=np.where(at, float(state.learnt_slot), slots),
        pending_weights=np.where(at[:, None, None], weights, state.pending_weights),
        pending_scales=np.where(at[:, None], scale, state.pending_scales),
    )
