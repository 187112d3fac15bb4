"""A state learnt from a window of captures, of which some may be damaged."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gnomon.tasks.forecasting import tracking
from gnomon.tasks.forecasting.hindcasts import Window, fit_models
from gnomon.tasks.forecasting.specification import Array, Specification
from gnomon.tasks.forecasting.state import State, empty
from gnomon.tasks.forecasting.sweep import DOUBTED, LEARNT
from gnomon.tasks.forecasting.tracking import Judged, Record

AGREEING_RUN = 3
"""Gated captures in a row that, if they agree with each other, are a real change of level."""
AGREEMENT = 0.5
"""Greatest spread within an agreeing run, relative to its mean departure."""
LONGEST_RUN = 10
"""Gated captures in a row after which the series itself has changed, whether they agree or not."""


@dataclass(frozen=True, slots=True)
class Learnt:
    """What a window of captures left behind."""

    state: State
    p_values: Array
    """(T, G) of the departures of each capture; NaN where there was not enough history, and where
    a run was learnt after all."""
    window: Window
    """The captures that were learnt, on consecutive slots; those before a change of level moved."""
    captured: Window
    """The same as they came: hindcasts must not know of a change before it happened."""


def learn(
    spec: Specification,
    slots: NDArray[np.int64],
    times_s: Array,
    values: Array,
    starts: NDArray[np.int64],
    *,
    trusted: NDArray[np.bool_],
    gated: NDArray[np.bool_],
    amplitudes: Array | None = None,
) -> Learnt:
    """State after a window of captures.

    Parameters
    ----------
    spec : Specification
    slots : int64, (T,)
        Cadence indices, increasing.
    times_s : float64, (T,)
        Valid times, seconds, increasing.
    values : float64, (T, N), variable's units
        NaN where missing; finite values less than `specification.LARGEST`.
    starts : int64, (G + 1,)
        First cell of each chunk, and N.
    trusted : bool, (T, G)
        False: the chunk is judged, but never learnt.
    gated : bool, (T, G)
        Whether a chunk with a p-value below `tracking.GATE` is not learnt.
    amplitudes : float64, (T', M), optional
        Of the modes, on consecutive slots up to the last.

    Notes
    -----
    A damaged capture must not be learnt, but a real change must be in the end. When three gated
    captures in a row agree (they depart from the expectation by the same field, within half its
    size), that field is taken as a change of level: the state is moved by it and the three are
    learnt. Ten gated captures in a row are learnt even if they disagree.
    """
    state = empty(spec, starts)
    record = Record(slots, times_s, values, trusted, gated)
    judged = tracking.advance(spec, state, record, patience=AGREEING_RUN)
    moves: list[tuple[int, int, Array]] = []
    for chunk in map(int, np.flatnonzero(judged.doubts >= AGREEING_RUN)):
        one, cells = np.array([chunk]), slice(int(starts[chunk]), int(starts[chunk + 1]))
        alone, own = state.take(one), np.ascontiguousarray(values[:, cells])
        part = judged.take(one)
        rest = Record(slots, times_s, own, trusted[:, one], gated[:, one])
        moves += [(chunk, t, offset) for t, offset in _go_on(spec, alone, rest, part)]
        judged.p_values[:, one], judged.outcome[:, one] = part.p_values, part.outcome
        state.put(one, alone)
    learnt = judged.outcome == LEARNT
    captured = _window(state, slots, times_s, values, learnt, spec.leads)
    window = replace(captured, values=captured.values.copy()) if moves else captured
    for chunk, t, offset in moves:
        earlier = np.flatnonzero(window.times_s < times_s[t])
        cells = slice(int(starts[chunk]), int(starts[chunk + 1]))
        window.values[earlier, cells] += offset
    fit_models(spec, state, window, _aligned(amplitudes, len(window.values)))
    # Drift is counted from here: what changed before is learnt.
    state.correction[1] = 0.0
    return Learnt(state, judged.p_values, window, captured)


def _go_on(
    spec: Specification, state: State, record: Record, judged: Judged
) -> list[tuple[int, Array]]:
    """Learn the captures of one chunk from where a run of them was doubted, in place.

    Returned are the first captures of new levels, and the changes (n,).
    """
    moves = []
    while judged.doubts[0] >= AGREEING_RUN:
        passed = int(judged.passed[0])
        outcome = judged.outcome[:passed, 0]
        since = int(np.flatnonzero(outcome == LEARNT)[-1])
        run = since + np.flatnonzero(outcome[since:] == DOUBTED)
        believed, offset = _resolve(spec, state, record.take(run))
        if offset is not None:
            moves.append((int(run[0]), offset))
        if believed:
            judged.p_values[run], judged.outcome[run] = np.nan, LEARNT
        if passed == len(record.slots):
            break
        rest = tracking.advance(
            spec,
            state,
            record.take(slice(passed, None)),
            patience=AGREEING_RUN,
            doubts=0 if believed else len(run),
        )
        judged.p_values[passed:], judged.outcome[passed:] = rest.p_values, rest.outcome
        judged.passed, judged.doubts = passed + rest.passed, rest.doubts
    return moves


def _resolve(spec: Specification, state: State, run: Record) -> tuple[bool, Array | None]:
    """Learn a run of doubted captures if it has to be; whether it was, and the change of level."""
    one = state.copy()
    rewind(one, int(run.slots[0]))
    offset = _common_offset(spec, one, run)
    if offset is None and len(run.slots) < LONGEST_RUN:
        return False, None
    if offset is not None:
        rebase(one, offset)
    tracking.advance(spec, one, run.trust())
    state.put(np.array([0]), one)
    return True, offset


def rewind(state: State, first: int) -> None:
    """Forget the slots from `first` on, of which nothing was learnt, in place.

    The oldest recent values were dropped as those slots passed; they stay unknown.
    """
    past = len(state.recent)
    drop = min(past, state.slot - first + 1)
    state.recent[:] = np.concatenate([state.recent[drop:], np.full((drop, state.cells), np.nan)])
    times = state.clock[2:].copy()
    older = times[-1] if drop < past else times[0]
    state.clock[2:] = np.concatenate([times[drop:], np.full((drop, 1), older)])
    state.clock[0] = first - 1


def rebase(state: State, offset: Array) -> None:
    """Move the whole history of a state by an offset (N,), as after a real shift of level."""
    moved = np.where(np.isfinite(offset), offset, 0.0)
    state.coefficients[0] += moved
    state.recent += moved
    state.level += moved


def _common_offset(spec: Specification, state: State, run: Record) -> Array | None:
    """Mean departure of a run of captures, (N,), or None when they do not agree on it."""
    expected = [
        tracking.expected(spec, state, int(slot), float(time_s))
        for slot, time_s in zip(run.slots, run.times_s, strict=True)
    ]
    departure = run.values - np.stack(expected)
    known = np.isfinite(departure)
    mean = np.where(known, departure, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    spread = float(np.sqrt(np.mean(np.where(known, departure - mean, 0.0) ** 2)))
    size = float(np.sqrt(np.mean(mean**2)))
    return mean if spread < AGREEMENT * size else None


def positions(slots: NDArray[np.int64], leads: int) -> NDArray[np.int64]:
    """Rows of captures in a window of consecutive slots.

    A gap longer than the leads is cut short: nothing is predicted, or correlated, across it.
    """
    return np.concatenate([[0], np.cumsum(np.minimum(np.diff(slots), leads + 1))]).astype(np.int64)


def _window(
    state: State,
    slots: NDArray[np.int64],
    times_s: Array,
    values: Array,
    learnt: NDArray[np.bool_],
    leads: int,
) -> Window:
    """The learnt captures on consecutive slots."""
    rows = positions(slots, leads)
    kept = values
    if not learnt.all():
        kept = np.where(np.repeat(learnt, np.diff(state.starts), axis=1), values, np.nan)
    if len(rows) == rows[-1] + 1:
        return Window(times_s, kept, state.starts)
    full = np.full((int(rows[-1]) + 1, values.shape[1]), np.nan)
    full[rows] = kept
    return Window(np.interp(np.arange(len(full)), rows, times_s), full, state.starts)


def _aligned(amplitudes: Array | None, slots: int) -> Array | None:
    """Amplitudes (T, M) on a window's slots; NaN before the first."""
    if amplitudes is None or not amplitudes.shape[1]:
        return None
    missing = max(0, slots - len(amplitudes))
    blank = np.full((missing, amplitudes.shape[1]), np.nan)
    return np.concatenate([blank, amplitudes])[-slots:]
