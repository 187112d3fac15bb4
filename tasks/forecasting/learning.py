"""A state learnt from a window of captures: the loop of single departures and rolls."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gnomon.tasks.forecasting.engine import departures, expect, rebase, roll, start
from gnomon.tasks.forecasting.specification import Array, Specification
from gnomon.tasks.forecasting.state import State

AGREEING_RUN = 3
"""Gated captures in a row that, if they agree with each other, are a real change of level."""
AGREEMENT = 0.5
"""Greatest spread within an agreeing run, relative to its mean departure."""
LONGEST_RUN = 10
"""Gated captures in a row after which the series itself has changed, whether they agree or not."""


def learn(
    spec: Specification,
    slots: NDArray[np.int64],
    times_s: Array,
    values: Array,
    trusted: NDArray[np.bool_],
    *,
    gate: float | Array,
) -> tuple[State, Array]:
    """State after a window of captures, and the p-value of each one's departures.

    Parameters
    ----------
    spec : Specification
    slots : int64, (T,)
        Cadence indices, increasing.
    times_s : float64, (T,)
        Valid times, seconds, increasing.
    values : float64, (T, N), variable's units
        NaN where missing.
    trusted : bool, (T,)
        False: the capture is tested, but never learnt.
    gate : float, or float64 (T,)
        A capture with a smaller p-value is not learnt; 0 learns it if it is trusted.

    Returns
    -------
    state : State
    p_values : float64, (T,)
        NaN where there was not enough history, and where a run was learnt after all.

    Notes
    -----
    A damaged capture must not be learnt, but a real change must be in the end. When three gated
    captures in a row agree (they depart from the expectation by the same field, within half its
    size), that field is taken as a change of level: the state is rebased by it and the three are
    learnt. Ten gated captures in a row are learnt even if they disagree.
    """
    state = start(spec, values.shape[1])
    p_values = np.full(len(slots), np.nan)
    gates = np.broadcast_to(gate, len(slots))
    run: list[int] = []
    for t, (slot, time_s) in enumerate(zip(slots, times_s, strict=True)):
        p_values[t] = departures(spec, state, int(slot), float(time_s), values[t]).p_value
        if not trusted[t] or not np.isfinite(values[t]).any():
            continue
        if not p_values[t] < gates[t]:
            run = []
            state = roll(spec, state, int(slot), float(time_s), values[t])
            continue
        run.append(t)
        offset = (
            _common_offset(spec, state, slots[run], times_s[run], values[run])
            if len(run) >= AGREEING_RUN
            else None
        )
        if offset is None and len(run) < LONGEST_RUN:
            continue
        if offset is not None:
            state = rebase(state, offset)
        p_values[run] = np.nan
        for kept in run:
            state = roll(spec, state, int(slots[kept]), float(times_s[kept]), values[kept])
        run = []
    if state.captures and slots[-1] > state.slot:
        state = roll(spec, state, int(slots[-1]), float(times_s[-1]), np.full(state.cells, np.nan))
    return state, p_values


def _common_offset(
    spec: Specification, state: State, slots: NDArray[np.int64], times_s: Array, values: Array
) -> Array | None:
    """Mean departure of a run of captures, (N,), or None when they do not agree on it."""
    expected = [
        expect(spec, state, int(slot), float(time_s)).mean
        for slot, time_s in zip(slots, times_s, strict=True)
    ]
    departure = values - np.stack(expected)
    known = np.isfinite(departure)
    mean = np.where(known, departure, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    spread = float(np.sqrt(np.mean(np.where(known, departure - mean, 0.0) ** 2)))
    size = float(np.sqrt(np.mean(mean**2)))
    return mean if spread < AGREEMENT * size else None
