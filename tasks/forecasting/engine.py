"""The forecaster of the cells of one or more chunks: roll, departures, forecast.

A roll reads the new capture and the state, and nothing older. It does not choose the specification,
and decides nothing about damage.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite

import numpy as np
from numpy.typing import NDArray

from gnomon.storage.errors import InvalidInput
from gnomon.tasks.forecasting import (
    arima,
    calibration,
    climatology,
    labels,
    tracking,
    uncertainty,
)
from gnomon.tasks.forecasting.calibration import Calibration
from gnomon.tasks.forecasting.candidates import CandidateFailed, Prospect, predict
from gnomon.tasks.forecasting.outlook import Outlook
from gnomon.tasks.forecasting.specification import Array, Specification, clip, usable
from gnomon.tasks.forecasting.state import State
from gnomon.tasks.forecasting.sweep import LEARNT
from gnomon.tasks.forecasting.tracking import CaptureRun

TILE = 2**13
"""Cells that are predicted at once: what all candidates say of them stays in a cache of the
processor."""
LEAST_PRESENCE = 0.25
"""Presence below which a cell is gone, and not predicted: missing from four captures in a row."""
LEAST_INNOVATIONS = 1.25
"""Faded number of innovations below which a cell was seen less than three times."""
LEAST_RELATIVES = 4
"""Cells of its chunk that are predicted by themselves, below which a new cell is not predicted."""
CORRECTION_RATE = 0.15
"""Step of the online coverage correction."""
GREATEST_CORRECTION = 1.5
"""Greatest absolute logarithm of the correction."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """Predicted states at leads 1..H from one reference time."""

    mean: Array
    """(H, N) predicted values, variable's units; NaN where a cell is not, or no longer, there, and
    infinite where it is, but its state is broken."""
    standard_error: Array
    """(H, N) such that the mean +- 1.645 of them covers 90 %; more where events are rare, as it is
    not less than .8 of the root mean square error; > 0 where `mean` is finite. Of labels the
    probability that another one is true."""
    confidence: Array
    """(H, G) probability that the chunk's RMSE is within the tolerance, and that it is not of a
    kind that was doubted; of labels, that the share of cells with another one is."""
    expected_rmse: Array
    """(H, G) expected chunk RMSE, variable's units; of labels, the expected share."""


@dataclass(frozen=True, slots=True)
class Departures:
    """How one capture departs from the forecast, per chunk (G,); NaN if nothing can be compared."""

    mean: Array
    """Mean of captured minus predicted, variable's units."""
    rms: Array
    """Root mean square, variable's units."""
    maximum: Array
    """Greatest absolute value, variable's units."""
    standardised_rms: Array
    """Root mean square of departure over standard error, unitless."""
    outside: Array
    """Share of the cells that are outside their 90 % interval."""
    p_value: Array
    """Probability of so large a departure, by those learnt before; NaN while they are few."""


def forecast(spec: Specification, state: State, outlook: Outlook, times_s: Array) -> Forecast:
    """Predicted states of the H slots after `state.slot`, with error bars and confidence.

    Parameters
    ----------
    spec : Specification
    state : State
    outlook : Outlook
        At the same slot as the state.
    times_s : float64, (H,)
        Valid times of those slots, seconds.

    Raises
    ------
    InvalidInput
        If `times_s` has not one time per lead.

    Notes
    -----
    Where a candidate of the user's choice fails that has a weight, the blend and its error bars are
    those of the built-in ones: what was calibrated with it says nothing of a forecast without.

    A cell that was seen once or twice has no history to be predicted from. It is predicted to go
    with its chunk: to its last value comes the mean change predicted for the other cells, and its
    error is that of one of them taken at random, with Student's share for how few they are.
    """
    if np.shape(times_s) != (spec.leads,):
        raise InvalidInput(f"found {np.shape(times_s)} valid times, expected ({spec.leads},)")
    try:
        return _forecast(spec, state, outlook, times_s)
    except CandidateFailed:
        plain, outlook = outlook.without_candidates(spec)
        return _forecast(plain, state, outlook, times_s)


def _forecast(spec: Specification, state: State, outlook: Outlook, times_s: Array) -> Forecast:
    mean, error = np.empty((2, spec.leads, state.cells))
    prospect = outlook.forecast(spec, spec.leads)
    for cells, *issued in _issue(spec, state, outlook.calibration, times_s, prospect):
        mean[:, cells], error[:, cells] = issued
    absent = state.present < LEAST_PRESENCE
    new = ~absent & (state.count < LEAST_INNOVATIONS)
    # Infinite is what checks can see: a broken state that gave NaN would pass for land.
    mean[~np.isfinite(mean)] = np.inf
    mean[:, absent | new] = error[:, absent | new] = np.nan
    for chunk in np.flatnonzero(np.logical_or.reduceat(new, state.starts[:-1])):
        cells = slice(state.starts[chunk], state.starts[chunk + 1])
        moved, wide = _adopt(state.recent[:, cells], new[cells], mean[:, cells], error[:, cells])
        mean[:, cells], error[:, cells] = clip(spec, moved), wide
    calibrated, believed = outlook.calibration, 1.0 - outlook.calibration.doubted
    if spec.categorical:
        error = np.where(np.isfinite(mean), calibrated.ratios[2][:, None], np.nan)
        rmse = chunk_rms(error, state.starts)
        sure = np.where(np.isfinite(rmse), labels.confidence(calibrated.ratios)[:, None], np.nan)
        return Forecast(mean, error, believed * sure, rmse)
    nominal = chunk_rms(error, state.starts)
    if spec.is_constant:
        # No error was ever seen, so there is nothing to tell how likely one is but how often.
        unchanged = labels.confidence(calibrated.ratios)[:, None]
        sure = np.where(np.isfinite(nominal), unchanged, np.nan)
        return Forecast(mean, error, believed * sure, nominal)
    bars = uncertainty.bars(calibrated.factors, calibrated.roots, state.correction[0])
    sure, expected = calibration.confidence(calibrated, nominal, spec.tolerance, bars)
    return Forecast(mean, error, believed * sure, expected)


def candidates(spec: Specification, state: State, outlook: Outlook, times_s: Array) -> Array:
    """Predictions (H, C, N) of every candidate that `forecast` blends; NaN where never seen."""
    prospect = outlook.forecast(spec, len(times_s))
    return predict(spec, state, times_s, tracking.damping(state), prospect)


def departures(
    spec: Specification,
    state: State,
    outlook: Outlook,
    slot: int,
    time_s: float,
    values: Array,
) -> Departures:
    """Departures of a capture from what was predicted of it, before it is learnt.

    Parameters
    ----------
    spec, state, slot, time_s, values
        As for `roll`. With missing captures in between, the prediction is as many slots ahead.

    Raises
    ------
    InvalidInput
        As `roll`.
    """
    values = _checked(state, slot, time_s, values)
    mean, error = _ahead(spec, state, outlook, slot, time_s)
    departure = values - mean
    compared = np.isfinite(departure)
    heads = state.starts[:-1]
    count = np.add.reduceat(compared, heads)
    filled = np.where(compared, departure, 0.0)
    missed = np.abs(departure) > uncertainty.NOMINAL_Z * error
    standard = np.where(compared, departure / error, 0.0)
    p_values = tracking.advance(
        spec,
        # A copy, not trusted: the p-value is what counts here, and nothing is learnt.
        state.copy(),
        _run_of(slot, time_s, values, np.zeros(state.chunks, bool)),
    ).p_values[0]

    def per_chunk(sums: Array) -> Array:
        return np.where(count > 0, sums / np.maximum(count, 1), np.nan)

    return Departures(
        per_chunk(np.add.reduceat(filled, heads)),
        np.sqrt(per_chunk(np.add.reduceat(filled**2, heads))),
        np.where(count > 0, np.maximum.reduceat(np.abs(filled), heads), np.nan),
        np.sqrt(per_chunk(np.add.reduceat(standard**2, heads))),
        per_chunk(np.add.reduceat(missed & compared, heads, dtype=np.int64)),
        np.where(count > 0, p_values, np.nan),
    )


def roll(
    spec: Specification,
    state: State,
    outlook: Outlook,
    slot: int,
    time_s: float,
    values: Array,
    *,
    trusted: NDArray[np.bool_] | None = None,
) -> State:
    """State after one more capture.

    Parameters
    ----------
    spec : Specification
    state : State
    outlook : Outlook
        At the same slot as the state: what was predicted corrects the error bars.
    slot : int
        Cadence index of the capture, after `state.slot`. Slots in between are missing captures.
    time_s : float
        Its valid time, seconds.
    values : float64, (N,), variable's units
        NaN where missing.
    trusted : bool, (G,), optional
        False: the chunk's slot is passed and nothing is learnt. None: all are trusted.

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
    result = state.copy()
    learn = np.ones(state.chunks, bool) if trusted is None else trusted
    mean, error = _ahead(spec, state, outlook, slot, time_s)
    judged = _take_in(spec, result, slot, time_s, values, learn)
    departure = values - mean
    compared = np.isfinite(departure)
    missed = compared & (np.abs(departure) > uncertainty.NOMINAL_Z * error)
    heads = state.starts[:-1]
    count = np.add.reduceat(compared, heads, dtype=np.int64)
    outside = np.add.reduceat(missed, heads, dtype=np.int64) / np.where(count > 0, count, np.nan)
    learnt = judged.outcome[0] == LEARNT
    result.correction[:] = corrected(result.correction, outside, judged.p_values[0], learnt)
    return result


def corrected(
    correction: Array, outside: Array, p_values: Array, learnt: NDArray[np.bool_]
) -> Array:
    """`correction` of the state after a capture.

    Parameters
    ----------
    correction : float64, (2, G)
        Before it.
    outside, p_values : float64, (G,)
        As the `departures` of the capture are; NaN if nothing could be compared.
    learnt : bool, (G,)
        Whether the chunk was learnt: what was doubted is not held against the bars, as damage would
        widen them.
    """
    counts = learnt & np.isfinite(outside)
    step = np.where(counts, CORRECTION_RATE * (outside - (1.0 - uncertainty.NOMINAL)), 0.0)
    bars = np.clip(correction[0] + step, -GREATEST_CORRECTION, GREATEST_CORRECTION)
    return np.stack([bars, tracking.drift(correction[1], p_values, learnt)])


def replay(
    spec: Specification,
    state: State,
    slot: int,
    time_s: float,
    values: Array,
    *,
    trusted: NDArray[np.bool_],
) -> None:
    """Take a capture that was learnt before into a state, in place, but for its `correction`.

    Nothing is predicted, so that it takes a fraction of `roll`; the correction, which rests on what
    was predicted then, stays as it is.

    Parameters
    ----------
    spec, state, slot, time_s, values, trusted
        As for `roll`, and it raises as that.
    """
    _take_in(spec, state, slot, time_s, _checked(state, slot, time_s, values), trusted)


def _take_in(
    spec: Specification,
    state: State,
    slot: int,
    time_s: float,
    values: Array,
    trusted: NDArray[np.bool_],
) -> tracking.Outcomes:
    """Learn a capture, in place, but for the correction."""
    gap = slot - state.slot
    # Before the state advances. Over a gap it misses by more than one innovation.
    expected = _process_ahead(spec, state) if gap == 1 and len(state.shocks) else None
    judged = tracking.advance(spec, state, _run_of(slot, time_s, values, trusted))
    if len(state.shocks):
        anomaly = tracking.bridged(spec, state, tracking.damping(state))[0]
        shock = np.zeros(state.cells)
        if expected is not None:
            shock = np.where(np.isfinite(state.recent[0]), anomaly - expected, 0.0)
        # Of slots that were skipped nothing is known, but they have passed.
        skipped = np.zeros((min(gap - 1, len(state.shocks)), state.cells))
        shocks = np.concatenate([np.nan_to_num(shock)[None], skipped, state.shocks])
        state.shocks[:] = shocks[: len(state.shocks)]
    return judged


def chunk_rms(error: Array, starts: NDArray[np.int64]) -> Array:
    """Root mean square (H, G) of standard errors (H, N); NaN where there are none."""
    predicted = np.isfinite(error)
    count = np.add.reduceat(predicted, starts[:-1], axis=1)
    square = np.add.reduceat(np.where(predicted, error**2, 0.0), starts[:-1], axis=1)
    return np.where(count > 0, np.sqrt(square / np.maximum(count, 1)), np.nan)


def _issue(
    spec: Specification,
    state: State,
    calibrated: Calibration,
    times_s: Array,
    prospect: Prospect,
) -> Iterator[tuple[slice, Array, Array]]:
    """Blended mean and standard error (H, n) of one tile of cells after another."""
    leads = len(times_s)
    weights, factors, roots = (
        calibrated.weights[:leads],
        calibrated.factors[:leads],
        calibrated.roots[:leads],
    )
    damping = tracking.damping(state)
    scale, correction = tracking.innovation_scale(state), state.spread(state.correction[0])
    season = tracking.seasons(state, climatology.features(spec, times_s))
    chunk = state.spread(np.arange(state.chunks))
    unseen, lasting = tracking.unseen(state), tracking.lasting(state, damping)
    # A candidate without weight may fail: no error bar rests on it.
    needed = (weights > 0).any(axis=0)
    for cells in _tiles(state, whole=bool(spec.candidates)):
        predictions = predict(
            spec, state.crop(cells), times_s, damping[cells], prospect, chunk[cells], needed
        )
        growth = uncertainty.growth(
            damping[cells], season[:, chunk[cells]], unseen[cells], lasting[cells]
        )
        # Candidates are within bounds already, but rounding may take their mean out.
        mean = clip(spec, (weights[:, None] @ predictions)[:, 0])
        bars = uncertainty.bars(factors, roots, correction[cells])
        yield cells, mean, scale[cells] * np.sqrt(growth) * bars


def _tiles(state: State, *, whole: bool) -> Iterator[slice]:
    """Cells that are predicted at once; ``whole``: no chunk is cut.

    A candidate may look at all cells of a chunk: what it says must not depend on where tiles end.
    """
    first = 0
    while first < state.cells:
        last = min(first + TILE, state.cells)
        if whole and last < state.cells:
            last = int(state.starts[state.starts <= last][-1])
            if last <= first:
                last = int(state.starts[state.starts > first][0])
        yield slice(first, last)
        first = last


def _adopt(recent: Array, new: NDArray[np.bool_], mean: Array, error: Array) -> tuple[Array, Array]:
    """Mean and standard error (H, n) of a chunk with its new cells (n,) predicted from the rest.

    ``recent`` (P, n) are its last values. Counted are cells with a value in the newest capture of
    the chunk, and from there on.
    """
    there = np.isfinite(recent)
    last = recent[int(there.any(axis=1).argmax())]
    has_last = np.isfinite(last)
    rest = has_last & np.isfinite(mean).all(axis=0) & np.isfinite(error).all(axis=0)
    count = int(rest.sum())
    if count < LEAST_RELATIVES:
        return mean, error
    change = mean[:, rest] - last[rest]
    centre = change.mean(axis=1, keepdims=True)
    # Of a cell taken at random: variance within and between. 1 / n below is the mean's own.
    square = (error[:, rest] ** 2 + (change - centre) ** 2).mean(axis=1, keepdims=True)
    wide = np.sqrt(square * (1.0 + 1.0 / count)) * uncertainty.student(np.array(float(count)))
    taken = new & has_last
    return np.where(taken, last + centre, mean), np.where(taken, wide, error)


def _ahead(
    spec: Specification, state: State, outlook: Outlook, slot: int, time_s: float
) -> tuple[Array, Array]:
    """Mean and standard error (N,) at one later slot; beyond the last lead, as at that."""
    nothing = np.full(state.cells, np.nan)
    if state.slot < 0:
        return nothing, nothing
    steps = min(slot - state.slot, spec.leads)
    start = float(state.recent_times[0])
    times = start + (time_s - start) * np.arange(1, steps + 1) / steps
    mean, error = np.empty((2, state.cells))
    try:
        prospect = outlook.forecast(spec, steps)
        for cells, *issued in _issue(spec, state, outlook.calibration, times, prospect):
            mean[cells], error[cells] = issued[0][-1], issued[1][-1]
    except CandidateFailed:
        spec, outlook = outlook.without_candidates(spec)
        return _ahead(spec, state, outlook, slot, time_s)
    return mean, error


def _process_ahead(spec: Specification, state: State) -> Array:
    """Anomaly (N,) that the process predicts for the next slot."""
    process = arima.Process(state.autoregressive, state.moving, state.drift)
    recent = tracking.bridged(spec, state, tracking.damping(state))
    return np.asarray(arima.predict(process, recent, state.shocks, spec.order[1], 1)[0])


def _run_of(slot: int, time_s: float, values: Array, trusted: NDArray[np.bool_]) -> CaptureRun:
    """A record of one capture."""
    return CaptureRun(np.array([slot]), np.array([time_s]), values[None], trusted[None])


def _checked(state: State, slot: int, time_s: float, values: Array) -> Array:
    """Values as float64 with infinities as NaN, after the arguments were found legal."""
    values = usable(values)
    if values.shape != (state.cells,):
        raise InvalidInput(f"found values of shape {values.shape}, expected ({state.cells},)")
    if not isfinite(time_s):
        raise InvalidInput(f"found time {time_s}, expected finite seconds")
    if state.slot >= 0 and (slot <= state.slot or time_s <= state.recent_times[0]):
        raise InvalidInput(
            f"found slot {slot} at {time_s} s, expected one after slot {state.slot} "
            f"and {state.recent_times[0]} s: captures are learnt in order"
        )
    return values
