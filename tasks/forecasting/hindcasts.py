"""Hindcasts: forecasts made over past captures, each from what was known at its reference time.

At every origin the models are fitted anew to the captures up to it: coefficients, processes, modes
and loadings.  Nothing later reaches them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gnomon.tasks.forecasting import arima, climatology, tracking
from gnomon.tasks.forecasting import modes as eof
from gnomon.tasks.forecasting.candidate import CellRecord
from gnomon.tasks.forecasting.candidates import Prospect, names_of, predict, prospect_of
from gnomon.tasks.forecasting.guarded import Fitted, fit_candidates, look_ahead
from gnomon.tasks.forecasting.specification import Array, Specification
from gnomon.tasks.forecasting.state import State, empty

LOADINGS = 8
"""How often the loadings of cells with gaps are found again with their offsets."""
LONGEST = 512
"""Slots of history that models are fitted to, at most."""


@dataclass(frozen=True, slots=True)
class Move:
    """A change of level of one chunk."""

    chunk: int
    slots: NDArray[np.intp]
    """Of the captures by which it is known, with the last of them."""
    offset: Array
    """(n,) by which everything before is moved, variable's units."""


@dataclass(frozen=True, slots=True)
class Window:
    """Captures of some cells on consecutive slots."""

    times_s: Array
    """(T,) valid times; where there was no capture, between those of its neighbours."""
    values: Array
    """(T, N) variable's units; NaN where missing, suspect or not captured."""
    starts: NDArray[np.int64]
    """(G + 1,) first cell of each chunk, and N."""
    moves: tuple[Move, ...] = ()
    """Changes of level that the values know of as they happened, and not before."""

    def cells(self, chunk: int) -> slice:
        """Cells of a chunk."""
        return slice(int(self.starts[chunk]), int(self.starts[chunk + 1]))


def weights(spec: Specification, slots: int) -> Array:
    """Weight (T,) of each slot in what is fitted to a window, the last one's being 1."""
    return np.asarray((1.0 - 1.0 / spec.memory) ** np.arange(slots - 1, -1, -1.0))


def fit_models(spec: Specification, state: State, window: Window, amplitudes: Array | None) -> None:
    """Fit what is fixed between refits to a window, in place: processes and loadings.

    Parameters
    ----------
    amplitudes : float64, (T, M), optional
        Of the modes, on the window's slots.
    """
    anomalies = climatology.features(spec, window.times_s) @ state.coefficients
    # In place: an array of the window, all slots of all cells, is the largest there is.
    np.subtract(window.values, anomalies, out=anomalies)
    weight = weights(spec, len(anomalies))
    process = arima.fit(anomalies, spec.order, weight, window.starts)
    state.autoregressive[:] = process.autoregressive
    state.moving[:] = process.moving
    state.drift[:] = process.drift
    state.shocks[:] = arima.innovate(process, anomalies, spec.order[1])
    # There may be fewer modes than rows, and fewer than at the origin before.
    state.loadings[:] = 0.0
    state.anchor[:] = state.coefficients[0]
    if amplitudes is not None and amplitudes.shape[1]:
        count = amplitudes.shape[1]
        state.loadings[:count], offsets, left = load(anomalies, amplitudes, weight)
        state.anchor += offsets
        damping = arima.correlations(left, np.zeros(left.shape[1]), weight, 1, window.starts)[0]
        state.rest[:] = np.clip(damping, 0.0, arima.PARTIAL_LIMIT)


def load(anomalies: Array, amplitudes: Array, weight: Array) -> tuple[Array, Array, Array]:
    """Loadings (M, N) of cells on modes, their offsets (N,), and what is left (T, N).

    Notes
    -----
    The mean of a cell with gaps is not that of the others' times: what it is off is the offset,
    zero for a cell without. As zeros the gaps would also make the loadings less by their share.
    """
    seen = np.isfinite(amplitudes[:, :1]).all(axis=1)
    scores = np.where(seen[:, None], amplitudes, 0.0)
    scaled = scores * weight[:, None]
    gram = scaled.T @ scores
    # The last term is for amplitudes that are all zero: without it there is no solution.
    gram = gram + 1e-6 * np.trace(gram) * np.eye(len(gram)) + 1e-300 * np.eye(len(gram))
    # A sum tells it in one pass, without a mask of the window.
    whole = np.isfinite(anomalies.sum())
    filled = anomalies if whole else np.nan_to_num(anomalies)
    loadings = np.linalg.solve(gram, scaled.T @ filled)
    offsets = np.zeros(anomalies.shape[1])
    if not whole:
        has_value = np.isfinite(anomalies) & seen[:, None]
        counted = has_value * weight[:, None]
        total = counted.sum(axis=0)
        gaps = (total > 0) & (has_value.sum(axis=0) < seen.sum())
        # In turn, as each needs the other: loadings are found with gaps that both have filled.
        for _ in range(LOADINGS):
            left = np.where(has_value, anomalies - scores @ loadings, 0.0)
            offsets = np.where(gaps, (counted * left).sum(axis=0) / np.maximum(total, 1e-300), 0.0)
            filled = np.where(has_value, anomalies - offsets, scores @ loadings)
            loadings = np.linalg.solve(gram, scaled.T @ filled)
    left = scores @ loadings + offsets
    np.subtract(anomalies, left, out=left)
    left[~seen] = np.nan
    return loadings, offsets, left


def look_out(
    spec: Specification,
    state: State,
    window: Window,
    sampled: NDArray[np.intp],
    before: tuple[Fitted, ...] = (),
) -> tuple[Array, Prospect]:
    """Amplitudes (T, M) of the modes of a sample's window, and what every candidate says then.

    Parameters
    ----------
    before : tuple
        What the candidates left behind at an earlier origin.
    """
    season = climatology.features(spec, window.times_s) @ state.coefficients[:, sampled]
    weight = weights(spec, len(window.values))
    anomalies = window.values[:, sampled] - season
    amplitudes = eof.fit(anomalies, weight).amplitudes
    record = eof.record_of(spec, amplitudes, weight)
    fitted = fit_candidates(
        spec,
        record,
        lambda: cell_record(spec, state, window.times_s, anomalies, sampled),
        before,
    )
    ahead = look_ahead(spec, fitted, record)
    return amplitudes, prospect_of(record, spec.leads, ahead, fitted)


def cell_record(
    spec: Specification,
    state: State,
    times_s: Array,
    anomalies: Array,
    sampled: NDArray[np.intp],
) -> CellRecord:
    """What candidates of the cells are fitted to: a sample of a window's cells."""
    chunk = state.spread(np.arange(state.chunks))[sampled]
    _, sizes = np.unique(chunk, return_counts=True)
    return CellRecord(
        spec,
        times_s,
        anomalies,
        weights(spec, len(anomalies)),
        tracking.innovation_scale(state)[sampled],
        tracking.damping(state)[sampled],
        np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
    )


@dataclass(frozen=True, slots=True)
class Hindcasts:
    """Forecasts from O origins, and what became of them."""

    origins: NDArray[np.int64]
    """(O,) slots of the window that they were made at."""
    predictions: Array
    """(O, H, C, N) of every candidate; NaN beyond the window and where unknown. H leads are kept,
    all or the last ones."""
    errors: Array
    """(O, H, C, N) predictions minus captured values."""
    spread: Array
    """(O, H, N) standard deviation of what a first-order process would do."""

    def take(self, count: int) -> Hindcasts:
        """The same of so many candidates, the first ones."""
        predictions, errors = self.predictions[:, :, :count], self.errors[:, :, :count]
        return replace(self, predictions=predictions, errors=errors)


def rolling(
    spec: Specification,
    window: Window,
    origins: NDArray[np.int64],
    *,
    sampled: NDArray[np.intp] | None = None,
    passed: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
) -> Hindcasts:
    """Hindcasts of a window's cells.

    Parameters
    ----------
    spec : Specification
    window : Window
    origins : int64, (O,)
        Slots of the window, increasing.
    sampled : int, (S,), optional
        Cells that the modes are found on; None: all.
    passed : int
        Leads, the first, that nothing is kept of.
    progress
        Called with what is done, how much of it, and of how much.
    """
    # The number of modes is found at each origin.
    spec = replace(spec, modes=eof.LARGEST)
    cells = window.values.shape[1]
    sample = np.arange(cells) if sampled is None else sampled
    state = empty(spec, window.starts)
    shape = (len(origins), spec.leads - passed, len(names_of(spec)), cells)
    predictions, errors = np.full(shape, np.nan), np.full(shape, np.nan)
    spread = np.full((len(origins), spec.leads - passed, cells), np.nan)
    past = _Past(spec, state, window)
    fitted: tuple[Fitted, ...] = ()
    for place, slot in enumerate(map(int, origins)):
        # One state goes on from origin to origin, and is what learning anew up to each would give.
        past.advance(slot)
        rows = slice(max(0, slot + 1 - LONGEST), slot + 1)
        seen = Window(window.times_s[rows], past.values[rows], window.starts)
        amplitudes, prospect = look_out(spec, state, seen, sample, fitted)
        fitted = prospect.fitted
        fit_models(spec, state, seen, amplitudes)
        ahead = window.times_s[slot + 1 : slot + 1 + spec.leads]
        damping = tracking.damping(state)
        predicted = predict(spec, state, ahead, damping, prospect)
        kept = len(ahead) - passed
        if kept > 0:
            spread[place, :kept] = tracking.spread(spec, state, ahead, damping)[passed:]
            predictions[place, :kept] = predicted[passed:]
            captured = window.values[slot + 1 + passed : slot + 1 + len(ahead), None]
            errors[place, :kept] = predicted[passed:] - captured
        for move in window.moves:
            # What a change of level made of a forecast says nothing of the next ones. It has been
            # learnt from the last of its captures on: those before do not know all of it.
            if slot < int(move.slots[-1]):
                first = max(0, int(move.slots[0]) - slot - 1 - passed)
                errors[place, first:, :, window.cells(move.chunk)] = np.nan
        if progress is not None:
            progress("hindcasts", place + 1, len(origins))
    return Hindcasts(origins, predictions, errors, spread)


class _Past:
    """What is known of a window at one slot after another, in a state and in values."""

    def __init__(self, spec: Specification, state: State, window: Window) -> None:
        self.spec, self.state, self.window = spec, state, window
        # Levels are moved in these as the origin passes the captures that show it.
        self.values = window.values.copy() if window.moves else window.values
        slots = len(window.values)
        trusted = np.ones((slots, state.chunks), bool)
        for move in window.moves:
            # Learnt by the move, when the last of them has come: none of them was believed before.
            trusted[move.slots, move.chunk] = False
        self.record = tracking.CaptureRun(np.arange(slots), window.times_s, window.values, trusted)
        self.left = sorted(window.moves, key=lambda move: int(move.slots[-1]))
        self.next = 0

    def advance(self, slot: int) -> None:
        """Learn the captures up to a slot."""
        while self.left and int(self.left[0].slots[-1]) <= slot:
            move = self.left.pop(0)
            self._learn(int(move.slots[-1]))
            self._move(move)
        self._learn(slot)

    def _learn(self, slot: int) -> None:
        if slot >= self.next:
            tracking.advance(self.spec, self.state, self.record.take(slice(self.next, slot + 1)))
            self.next = slot + 1

    def _move(self, move: Move) -> None:
        chunk, first = np.array([move.chunk]), int(move.slots[0])
        cells = self.window.cells(move.chunk)
        state = self.state.take(chunk)
        captures = self.record.take(move.slots)
        tracking.shift(
            self.spec,
            state,
            replace(captures, values=captures.values[:, cells], trusted=captures.trusted[:, chunk]),
            move.offset,
        )
        self.state.put(chunk, state)
        self.values[:first, cells] += move.offset
