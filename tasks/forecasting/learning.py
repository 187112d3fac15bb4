"""A state learnt from a window of captures, of which some may be damaged."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import special

from gnomon.tasks.forecasting import tracking
from gnomon.tasks.forecasting.hindcasts import Move, Window, fit_models
from gnomon.tasks.forecasting.specification import Array, Specification
from gnomon.tasks.forecasting.state import State, empty
from gnomon.tasks.forecasting.sweep import DOUBTED, LEARNT, SURPRISE_SCALE
from gnomon.tasks.forecasting.tracking import GATE, CaptureRun, Outcomes, rewind, shift

AGREEING_RUN = 3
"""Gated captures in a row that, if they agree with each other, are a real change of level."""
AGREEMENT = 0.5
"""Greatest spread within an agreeing run, relative to its mean departure."""
FIRST = 9
"""Captures, the first, that are judged by those after them."""
LARGEST_SHIFT = 1e3
"""Values beyond so many times what a chunk had are not learnt, however long they last."""
SCREENED = 256
"""Cells of a chunk that this is done with, about."""
PIECE = 64
"""Captures that a chunk takes by itself at a time."""
DOUBT_MEMORY = 8.0
"""Half-life of a capture in the share that is doubted, in captures."""
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
    doubted: float
    """Share of the captured chunks that are not learnt, the latest counting most: what is learnt
    says nothing of them."""


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
    A damaged capture must not be learnt, but a real change must be in the end. When the last three
    of the captures that are doubted in a row agree (they depart from the expectation by the same
    field, within half its size), that field is taken as a change of level: the state is moved by it
    and the three are learnt. Ten doubted captures in a row are learnt even if they disagree. Values
    a thousand times those before are never learnt, however long they last. Nor is what is not
    trusted: of a change that is suspect, a person has to say that it is true.
    """
    state = empty(spec, starts)
    early = _screen(values, starts, trusted & gated)
    # NaN, not screened, compares false: such a chunk stays trusted.
    record = CaptureRun(slots, times_s, values, trusted & ~(early < GATE), gated)
    judged = tracking.advance(spec, state, record, patience=AGREEING_RUN)
    shifts: list[tuple[int, NDArray[np.intp], Array]] = []
    # One sweep takes all chunks; those that stopped in it, few, go on by themselves.
    for chunk in map(int, np.flatnonzero(judged.doubts >= AGREEING_RUN)):
        index, cells = np.array([chunk]), slice(int(starts[chunk]), int(starts[chunk + 1]))
        alone, chunk_values = state.take(index), np.ascontiguousarray(values[:, cells])
        part = judged.take(index)
        rest = CaptureRun(slots, times_s, chunk_values, record.trusted[:, index], gated[:, index])
        shifts += [(chunk, run, offset) for run, offset in _go_on(spec, alone, rest, part)]
        judged.p_values[:, index], judged.outcome[:, index] = part.p_values, part.outcome
        state.put(index, alone)
    p_values = np.where(early < GATE, early, judged.p_values)
    learnt = judged.outcome == LEARNT
    seen = values
    if not learnt.all():
        seen = np.where(np.repeat(learnt, np.diff(starts), axis=1), values, np.nan)
    captured = consecutive(slots, times_s, seen, starts, spec.leads)
    rows = positions(slots, spec.leads)
    moves = tuple(Move(chunk, rows[run], offset) for chunk, run, offset in shifts)
    captured = replace(captured, moves=moves)
    window = replace(captured, values=captured.values.copy(), moves=()) if moves else captured
    for move in moves:
        # Models are fitted to a history on today's level; hindcasts get the one that was known.
        window.values[: move.slots[0], window.cells(move.chunk)] += move.offset
    fit_models(spec, state, window, _aligned(amplitudes, len(window.values)))
    # Drift is counted from here: what changed before is learnt.
    state.correction[1] = 0.0
    given = ~trusted | np.logical_or.reduceat(np.isfinite(values), starts[:-1], axis=1)
    recent = given * 0.5 ** (np.arange(len(slots))[::-1, None] / DOUBT_MEMORY)
    doubted = float((recent * ~learnt).sum() / recent.sum()) if given.any() else 0.0
    return Learnt(state, p_values, window, captured, doubted)


def _screen(
    values: Array, starts: NDArray[np.int64], gated: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """p-values (T, G) of the first captures, which have no history, by those after them.

    NaN but for the first `FIRST`. A capture or two that are far larger than the rest are damage;
    more of them are how the variable is, or was.
    """
    result = np.full(gated.shape, np.nan)
    head = values[: 3 * FIRST]
    if len(head) < 2 * FIRST:
        return result
    for chunk in range(len(starts) - 1):
        first, last = int(starts[chunk]), int(starts[chunk + 1])
        sample = head[:, first : last : max(1, (last - first) // SCREENED)]
        # The median of a cell that is seldom known is one of the values that are judged by it.
        sample = sample[:, np.isfinite(sample).sum(axis=0) > FIRST]
        if not sample.shape[1]:
            continue
        # Medians, as the damage that is looked for is among these captures.
        departure = np.abs(sample - np.nanmedian(sample, axis=0))
        largest = np.nanmax(departure)
        # Over the largest: squares of values near `specification.LARGEST` would not be finite.
        scaled = np.nan_to_num(departure / largest) if largest > 0 else np.zeros_like(sample)
        square = (scaled**2).mean(axis=1)
        size = np.log(square[square > 0]) / 2.0
        if len(size) < 2 * FIRST:
            continue
        centre = np.median(size)
        # 1.4826 median absolute deviations are one standard deviation of a normal sample.
        scale = max(SURPRISE_SCALE, 1.4826 * float(np.median(np.abs(size - centre))))
        with np.errstate(divide="ignore"):
            score = (np.log(square[:FIRST]) / 2.0 - centre) / scale
        p_values = np.where(gated[:FIRST, chunk], special.stdtr(len(size) - 1.0, -score), np.nan)
        if (p_values < GATE).sum() < AGREEING_RUN:
            result[:FIRST, chunk] = np.where(p_values < GATE, p_values, np.nan)
    return result


def _go_on(
    spec: Specification, state: State, record: CaptureRun, judged: Outcomes
) -> list[tuple[NDArray[np.intp], Array]]:
    """Learn the captures of one chunk from where a run of them was doubted, in place.

    Returned are the captures that show a new level, and the changes (n,).
    """
    moves = []
    passed, doubts = int(judged.passed[0]), int(judged.doubts[0])
    while True:
        if doubts >= AGREEING_RUN and judged.outcome[passed - 1, 0] == DOUBTED:
            outcome = judged.outcome[:passed, 0]
            since = int(np.flatnonzero(outcome == LEARNT)[-1])
            run = since + np.flatnonzero(outcome[since:] == DOUBTED)
            believed, offset = _resolve(spec, state, record, run)
            if offset is not None:
                moves.append((believed, offset))
            judged.p_values[believed], judged.outcome[believed] = np.nan, LEARNT
            doubts = 0 if len(believed) else doubts
        if passed == len(record.slots):
            return moves
        # Piece by piece: a long record is not laid out anew for each doubt.
        piece = slice(passed, passed + PIECE)
        rest = tracking.advance(
            spec, state, record.take(piece), patience=AGREEING_RUN, doubts=doubts
        )
        judged.p_values[piece], judged.outcome[piece] = rest.p_values, rest.outcome
        passed, doubts = passed + int(rest.passed[0]), int(rest.doubts[0])


def _resolve(
    spec: Specification, state: State, record: CaptureRun, run: NDArray[np.intp]
) -> tuple[NDArray[np.intp], Array | None]:
    """Learn the last of a run of doubted captures if they have to be.

    Returned are those that were learnt, and the change of level that they show.
    """
    # Rewound to be learnt; if it is not to be, the run has to stay passed over.
    trial = state.copy()
    # The last ones: a spike before a change of level is not part of it.
    tail = run[-AGREEING_RUN:]
    rewind(trial, int(record.slots[tail[0]]))
    offset = _common_offset(spec, trial, record.take(tail))
    if offset is None or not _is_possible(spec, trial, record.take(tail)):
        if len(run) < LONGEST_RUN or not _is_possible(spec, trial, record.take(run)):
            return run[:0], None
        offset = None
        tail, trial = run, state.copy()
        rewind(trial, int(record.slots[run[0]]))
        tracking.advance(spec, trial, record.take(run).trust())
    else:
        shift(spec, trial, record.take(tail), offset)
    state.put(np.array([0]), trial)
    return tail, offset


def _common_offset(spec: Specification, state: State, run: CaptureRun) -> Array | None:
    """Mean departure of a run of captures, (N,), or None when they do not agree on it."""
    expected = [
        tracking.expected(spec, state, int(slot), float(time_s))
        for slot, time_s in zip(run.slots, run.times_s, strict=True)
    ]
    departure = run.values - np.stack(expected)
    compared = np.isfinite(departure)
    count = compared.sum(axis=0)
    mean = np.where(compared, departure, 0.0).sum(axis=0) / np.maximum(count, 1)
    # A cell that is known in one capture agrees with itself, whatever it says.
    twice = count > 1
    if not twice.any():
        return None
    left = (departure - mean)[:, twice][compared[:, twice]]
    spread = float(np.sqrt(np.mean(left**2)))
    size = float(np.sqrt(np.mean(mean[twice] ** 2)))
    return mean if spread < AGREEMENT * size else None


def _is_possible(spec: Specification, state: State, run: CaptureRun) -> bool:
    """Whether the values of a chunk may be these: not so if they are of another order altogether.

    What fills a file where nothing was written is, for one, and it may do so for long.
    """
    size = np.nanmax(np.abs(run.values), initial=0.0)
    usual = np.nanmax(np.abs(state.coefficients[0]), initial=0.0)
    usual += np.nanmax(tracking.innovation_scale(state), initial=0.0)
    return bool(size <= LARGEST_SHIFT * (usual + spec.tolerance + (spec.usual_change or 0.0)))


def positions(slots: NDArray[np.int64], leads: int) -> NDArray[np.int64]:
    """Rows of captures in a window of consecutive slots.

    A gap longer than the leads is cut short: nothing is predicted, or correlated, across it.
    """
    return np.concatenate([[0], np.cumsum(np.minimum(np.diff(slots), leads + 1))]).astype(np.int64)


def consecutive(
    slots: NDArray[np.int64],
    times_s: Array,
    values: Array,
    starts: NDArray[np.int64],
    leads: int,
) -> Window:
    """Captures (T, N) laid out on consecutive slots, as :func:`positions` has them."""
    rows = positions(slots, leads)
    if len(rows) == rows[-1] + 1:
        return Window(times_s, values, starts)
    full = np.full((int(rows[-1]) + 1, values.shape[1]), np.nan)
    full[rows] = values
    return Window(np.interp(np.arange(len(full)), rows, times_s), full, starts)


def _aligned(amplitudes: Array | None, slots: int) -> Array | None:
    """Amplitudes (T, M) on a window's slots; NaN before the first."""
    if amplitudes is None or not amplitudes.shape[1]:
        return None
    missing = max(0, slots - len(amplitudes))
    blank = np.full((missing, amplitudes.shape[1]), np.nan)
    return np.concatenate([blank, amplitudes])[-slots:]
