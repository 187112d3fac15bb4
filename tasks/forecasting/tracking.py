"""One capture after another: how the state of many chunks at once takes them in.

A step reads the capture and the state, and nothing older.  It judges the capture first - how far is
it from what was expected? - and only then learns it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import special

from gnomon.tasks.forecasting import climatology, uncertainty
from gnomon.tasks.forecasting.specification import Array, Specification
from gnomon.tasks.forecasting.state import State
from gnomon.tasks.forecasting.sweep import (
    LARGEST_DAMPING,
    LEARNT,
    SHRINKAGE,
    SURPRISE_MEMORY,
    Captures,
    Memory,
    Tracked,
    sweep,
)

GATE = 1e-6
"""A departure less likely than this is damage until it is known better, and not learnt. With a
larger one, more that is right waits to be learnt; with a smaller one, more damage is learnt. Every
capture of every chunk is tested, so that it has to be small."""
LIMITS = 2000
"""Departures scored before, beyond which the limit of the gate is the same: ten times what is
remembered of them."""
ALLOWANCE = 1.0
"""Mean normal score of departures up to which nothing has drifted; it is 0 where nothing changes.
With less, smaller drifts are seen, and chance looks like one more often."""
LEAST_COUNT = 5.0
"""Innovations that a damping is taken to be known from, at least: `lasting` divides by 3 less."""
DRIFTED = 8.0
"""Sum of the scores beyond it at which a chunk has drifted: with more, a drift is noticed later;
with less, chance leads to more refits."""


@dataclass(frozen=True, slots=True)
class CaptureRun:
    """T captures of N cells in G chunks, in order of time."""

    slots: NDArray[np.int64]
    """(T,) cadence indices, increasing; those in between are missing captures."""
    times_s: Array
    """(T,) valid times, seconds."""
    values: Array
    """(T, N) variable's units; NaN where missing."""
    trusted: NDArray[np.bool_]
    """(T, G) False: the chunk is judged, but not learnt."""
    gated: NDArray[np.bool_] | None = None
    """(T, G) where a p-value below `GATE` keeps the chunk from being learnt; None: nowhere."""

    def take(self, captures: slice | NDArray[np.intp]) -> CaptureRun:
        """Some of the captures."""
        return CaptureRun(
            self.slots[captures],
            self.times_s[captures],
            self.values[captures],
            self.trusted[captures],
            None if self.gated is None else self.gated[captures],
        )

    def trust(self) -> CaptureRun:
        """The same, with every chunk to be learnt, however far it departs."""
        return replace(self, trusted=np.ones(self.trusted.shape, bool), gated=None)


@dataclass(slots=True)
class Outcomes:
    """What became of T captures of G chunks."""

    p_values: Array
    """(T, G) probability of so large a departure, by those learnt before; NaN without history."""
    outcome: NDArray[np.int64]
    """(T, G) `LEARNT`, `DOUBTED` by its p-value, or 0: passed over."""
    passed: NDArray[np.int64]
    """(G,) captures that were looked at: all, or those up to where a run was doubted."""
    doubts: NDArray[np.int64]
    """(G,) captures that were doubted since the last that was learnt."""

    def take(self, chunks: NDArray[np.intp]) -> Outcomes:
        """What became of some of the chunks."""
        chunkwise = self.p_values[:, chunks], self.outcome[:, chunks]
        return Outcomes(*chunkwise, self.passed[chunks], self.doubts[chunks])


def advance(
    spec: Specification, state: State, record: CaptureRun, *, patience: int = 0, doubts: int = 0
) -> Outcomes:
    """Take captures, all of them later than the state, into it, in place.

    Parameters
    ----------
    spec : Specification
    state : State
    record : CaptureRun
    patience : int
        Doubted captures in a row after which a chunk stops, and waits to be told what they are; 0:
        it never does.
    doubts : int
        Those that were doubted before the first.
    """
    slots, times_s, gated = record.slots, record.times_s, record.gated
    count, past = len(slots), spec.recent
    first = state.slot < 0
    steps = np.diff(slots, prepend=slots[0] - 1 if first else state.slot)
    lengths = np.diff(times_s, prepend=times_s[0] if first else state.recent_times[0])
    # A gap as long as what is kept of the past leaves nothing of it.
    each = np.minimum(steps, past)
    ends = np.cumsum(each) - 1
    owner = np.repeat(np.arange(count), each)
    rows = np.full(len(owner), -1)
    rows[ends] = np.arange(count)
    passing = times_s[owner] - (ends[owner] - np.arange(len(owner))) * (lengths / steps)[owner]
    times = np.concatenate([state.recent_times[::-1], passing])
    captures = Captures(
        rows,
        np.ascontiguousarray(record.values),
        # Slots before the first capture have no time; their values are NaN, and count nowhere.
        np.nan_to_num(climatology.features(spec, times)),
        np.ascontiguousarray(record.trusted),
        np.ascontiguousarray(np.zeros_like(record.trusted) if gated is None else gated),
        np.empty(0) if gated is None else _limits(LIMITS),
    )
    memory = Memory(spec.memory, climatology.prior(spec))
    tracked = Tracked(**{name: getattr(state, name) for name in Tracked._fields})
    learnt, stops = state.clock[1].copy(), np.empty(state.chunks, np.int64)
    doubted = np.full(state.chunks, doubts)
    scores = np.full((2, count, state.chunks), np.nan)
    outcome = np.zeros((count, state.chunks), np.int64)
    sweep(
        state.starts,
        captures,
        tracked,
        memory,
        patience,
        learnt,
        doubted,
        stops,
        scores,
        outcome,
    )
    passed = rows[stops - 1]
    state.clock[0] = slots[passed]
    state.clock[1] = learnt
    latest = np.where(outcome == LEARNT, slots[:, None], -1).max(axis=0, initial=-1)
    state.clock[2] = np.maximum(state.clock[2], latest)
    state.clock[3:] = times[stops + np.arange(past - 1, -1, -1)[:, None]]
    # The lower tail at -t: 1 - T(t) would make every p-value below 1e-16 a zero.
    return Outcomes(special.stdtr(scores[1], -scores[0]), outcome, passed + 1, doubted)


@cache
def _limits(count: int) -> Array:
    """Student t quantiles (count,) of the gate, by the number of departures scored before."""
    # A table, as compiled code has no Student quantile. N is what has not faded of them.
    remembered = SURPRISE_MEMORY * (1.0 - (1.0 - 1.0 / SURPRISE_MEMORY) ** np.arange(count))
    return np.asarray(-special.stdtrit(remembered + 4.0, GATE))


def expected(spec: Specification, state: State, slot: int, time_s: float) -> Array:
    """Expectation (N,) at a later slot; NaN where a cell was never seen."""
    season = climatology.features(spec, np.array([time_s]))[0] @ state.coefficients
    damped = damping(state)
    anomaly = bridged(spec, state, damped)[0] * damped ** (slot - state.slot)
    local = state.level - state.coefficients[0]
    return np.asarray(season + np.where(state.spread(levelled(state)), local, anomaly))


def bridged(spec: Specification, state: State, damped: Array) -> Array:
    """Recent anomalies (P, N), newest first, unknown ones as the process has them.

    Damped from the last known before. Where the process is one of changes, or the local level has
    been the better guide, nothing returns to a climatology: the last known value stands, with the
    drift of the process, or the local level where none is known.
    """
    rows = np.nan_to_num(climatology.features(spec, state.recent_times))
    anomalies = state.recent - rows @ state.coefficients
    walks = spec.order[1] > 0
    stays = np.full(state.cells, True) if walks else state.spread(levelled(state))
    factor, drift = np.where(stays, 1.0, damped), state.drift if walks else np.zeros(state.cells)
    level = np.where(stays, np.nan_to_num(state.level - state.coefficients[0]), 0.0)
    # A walk has no mean to begin with; what is older than its first known value is filled below.
    before = np.where(np.isfinite(anomalies).any(axis=0) & walks, np.nan, level)
    result = np.empty_like(anomalies)
    for lag in range(len(anomalies) - 1, -1, -1):
        before = np.where(np.isfinite(anomalies[lag]), anomalies[lag], before * factor + drift)
        result[lag] = before
    for lag in range(1, len(result) if walks else 0):
        # What is not known before the first known value has not changed otherwise.
        result[lag] = np.where(np.isnan(result[lag]), result[lag - 1] - drift, result[lag])
    return result


def drifted(correction: Array) -> NDArray[np.bool_]:
    """Whether chunks depart more, and have for long, than when they were learnt.

    Parameters
    ----------
    correction : float64, (2, ...)
        That of the state.
    """
    return np.asarray(correction[1] > DRIFTED)


def drift(sums: Array, p_values: Array, learnt: NDArray[np.bool_]) -> Array:
    """The one-sided CUSUM (G,) of normal scores (Page 1954) after a capture with p-values (G,)."""
    # At 1e-12 a score is 7.03: less the allowance, one capture alone is not beyond `DRIFTED`.
    score = special.ndtri(1.0 - np.clip(np.nan_to_num(p_values, nan=0.5), 1e-12, 1.0 - 1e-12))
    return np.where(learnt, np.maximum(0.0, sums + score - ALLOWANCE), sums)


def seasons(state: State, regressors: Array) -> Array:
    """Variance (T, G) of the innovations at some times, with regressors (T, K), over their mean."""
    return uncertainty.seasons(state.swing, state.surprises, regressors)


def spread(spec: Specification, state: State, times_s: Array, damped: Array) -> Array:
    """Standard deviation (H, N) of what a first-order process does in the next slots."""
    season = seasons(state, climatology.features(spec, times_s))
    grown = uncertainty.growth(damped, state.spread(season), unseen(state), lasting(state, damped))
    return np.asarray(innovation_scale(state) * np.sqrt(grown))


def unseen(state: State) -> Array:
    """Slots (N,), the last ones, that have no value of a cell.

    Beyond what the state keeps, those since its chunk was learnt.
    """
    has_value = np.isfinite(state.recent)
    since = np.maximum(state.slot - state.clock[2], len(has_value))
    return np.where(has_value.any(axis=0), has_value.argmax(axis=0), state.spread(since))


def lasting(state: State, damped: Array) -> Array:
    """Damping (N,) for the error after slots without a value, up to 1.

    Notes
    -----
    The autocorrelation of a short record is too small by (1 + 3 r) / n (Marriott and Pope 1954); of
    a random walk it says that errors stop growing: after sixty slots without a value, 90 %
    intervals covered 55 %. The bias is added. With the standard error of the damping added
    as well, what is damped was three times too uncertain.
    """
    count = np.maximum(state.count, LEAST_COUNT)
    return np.minimum((count * damped + 1.0) / (count - 3.0), 1.0)


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
    # As in `sweep._depart`, or forecasts would be damped otherwise than they were judged.
    weight = state.count / (state.count + SHRINKAGE)
    pooled = state.spread(pooled_damping(state))
    ratio = state.products[1] / np.where(state.products[0] > 0, state.products[0], 1.0)
    mixed = np.where(state.products[0] > 0, weight * ratio + (1.0 - weight) * pooled, pooled)
    return np.clip(mixed, 0.0, LARGEST_DAMPING)


def shift(spec: Specification, state: State, run: CaptureRun, offset: Array) -> None:
    """Move one chunk to a new level, and learn the captures that show it, in place.

    Parameters
    ----------
    state : State
        Of one chunk, that passed the captures of the run and learnt none of them.
    run : CaptureRun
    offset : float64, (n,)
        By which the whole history is moved.
    """
    if state.slot >= run.slots[0]:
        rewind(state, int(run.slots[0]))
    rebase(state, offset, len(run.slots))
    advance(spec, state, run.trust())


def rewind(state: State, first: int) -> None:
    """Forget the slots from `first` on, of which nothing was learnt, in place.

    The oldest recent values were dropped as those slots passed; they stay unknown.
    """
    past = len(state.recent)
    drop = min(past, state.slot - first + 1)
    state.recent[:] = np.concatenate([state.recent[drop:], np.full((drop, state.cells), np.nan)])
    times = state.clock[3:].copy()
    older = times[-1] if drop < past else times[0]
    state.clock[3:] = np.concatenate([times[drop:], np.full((drop, 1), older)])
    state.clock[0] = first - 1


def rebase(state: State, offset: Array, captures: int) -> None:
    """Move the whole history of a chunk by an offset (N,) that so many captures show."""
    moved = np.where(np.isfinite(offset), offset, 0.0)
    state.coefficients[0] += moved
    state.anchor += moved
    state.recent += moved
    state.level += moved
    # The mean is now known by those captures alone, and follows the next ones as fast.
    number = state.information[0, 0]
    # The root on row and column: the corner is scaled as meant, and R stays positive definite.
    less = np.sqrt(np.minimum(1.0, captures / np.maximum(number, captures)))
    state.information[0] *= less
    state.information[:, 0] *= less
