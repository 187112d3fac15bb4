"""Batched ARIMA: one order, one set of coefficients per cell, array operations only.

Autoregressive terms come from autocorrelations by the Levinson-Durbin recursion; where there are
moving-average terms, both come from the regression of Hannan and Rissanen (1982) on the innovations
of a long autoregression.  Cells with little history borrow from the pooled estimate of their chunk.
Every process is stationary and invertible: partial correlations are kept inside (-1, 1).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gnomon.tasks.forecasting import kernels
from gnomon.tasks.forecasting.specification import Array

PARTIAL_LIMIT = 0.98
"""Greatest absolute partial correlation: below 1, so that processes are stationary and invertible,
and what a filter starts with is forgotten within `LONGEST_FILTER` slots."""
SHRINKAGE = 20.0
"""Captures' worth of weight that the chunk's pooled estimate has against a cell's own: correlations
of few captures are mostly chance. With more weight, cells of one chunk can differ less."""
LONG_ORDER = 6
"""Order of the long autoregression whose innovations the moving-average terms are fitted on; a
quarter of the record where that is less. A longer one leaves purer innovations, and fewer captures
to find them from."""
TINY = 1e-300
"""Keeps a division by a sum of squares that is zero from failing."""


@dataclass(frozen=True, slots=True)
class Process:
    """Fitted processes of n cells; unitless but for `drift`."""

    autoregressive: Array
    """(p, n) coefficients of the differenced series on its own past."""
    moving: Array
    """(q, n) coefficients of the series on past innovations."""
    drift: Array
    """(n,) mean of the differences per slot, in the series' units; zero without a difference."""


def fit(
    series: Array,
    order: tuple[int, int, int],
    weights: Array | None = None,
    starts: NDArray[np.int64] | None = None,
) -> Process:
    """Process of every cell.

    Parameters
    ----------
    series : float64, (T, n)
        Anomalies on consecutive slots; NaN where unknown.
    order : (int, int, int)
        p, d (0 or 1) and q.
    weights : float64, (T,), optional
        Weight of each slot; None: all equal.
    starts : int64, (G + 1,), optional
        First cell of each chunk whose cells borrow from each other, and n; None: one chunk.
    """
    if starts is None:
        starts = np.array([0, series.shape[1]])
    p, d, q = order
    cells = series.shape[1]
    # One layout, or compiled code would be compiled again for another.
    changes = np.ascontiguousarray(difference(series, d))
    # A change has the weight of its later slot.
    weight = np.ones(len(changes)) if weights is None else weights[len(weights) - len(changes) :]
    drift = np.zeros(cells)
    if d:
        total = np.empty(cells)
        kernels.means(changes, weight, total, drift)
        # With n differences the mean is known to 1 / n of their spread: little history, no drift.
        drift = drift * total / (total + SHRINKAGE)
    if p + q == 0 or len(changes) < 3:
        return Process(np.zeros((p, cells)), np.zeros((q, cells)), drift)
    if q == 0:
        autocorrelations = correlations(changes, drift, weight, p, starts)
        return Process(levinson(autocorrelations), np.zeros((0, cells)), drift)
    longest = max(1, min(LONG_ORDER, len(changes) // 4))
    long = levinson(correlations(changes, drift, weight, longest, starts))
    both = _regress(changes, drift, long, weight, (p, q), starts)
    # 1 + theta B is invertible where the autoregression by -theta is stationary: hence the signs.
    return Process(stationary(both[:p]), -stationary(-both[p:]), drift)


def difference(series: Array, d: int) -> Array:
    """Series after d differences."""
    return np.diff(series, axis=0) if d else series


def correlations(
    series: Array, centre: Array, weight: Array, order: int, starts: NDArray[np.int64]
) -> Array:
    """Autocorrelations at lags 1..order, (order, n), shrunk to those of the chunk.

    Parameters
    ----------
    series : float64, (T, n)
        NaN where unknown.
    centre : float64, (n,)
        What is subtracted from it.
    weight : float64, (T,)
    order : int
    starts : int64, (G + 1,)

    Notes
    -----
    Each lag is scaled by the variance over its own pairs (Burg 1975), so that gaps in the record
    neither bias it nor take it out of [-1, 1].
    """
    cells = series.shape[1]
    count, product, size = np.empty(cells), np.empty((order, cells)), np.empty((order, cells))
    kernels.lagged(series, centre, weight, count, product, size)
    pairs = np.maximum(len(series) - np.arange(1, order + 1), 0)[:, None]
    total = _pooled(size, starts)
    # The last lags of a short record rest on a pair or two of slots, however many the cells.
    pooled = _pooled(product, starts) / np.where(total > 0, total, 1.0) * (pairs / (pairs + 1.0))
    cellwise = np.where(size > 0, product / np.maximum(size, TINY), pooled)
    share = count / (count + SHRINKAGE)
    # With a denominator for each lag these need not be positive definite; `levinson` sees to it.
    return np.clip(share * cellwise + (1.0 - share) * pooled, -1.0, 1.0)


def _pooled(values: Array, starts: NDArray[np.int64]) -> Array:
    """Sums over each chunk's cells (last axis), at its cells."""
    return np.repeat(np.add.reduceat(values, starts[:-1], axis=-1), np.diff(starts), axis=-1)


def levinson(correlation: Array) -> Array:
    """Autoregressive coefficients from autocorrelations, stationary in every cell.

    Parameters
    ----------
    correlation : float64, (p, n)
        Autocorrelations at lags 1..p.

    Returns
    -------
    float64, (p, n)
        Levinson-Durbin recursion (Durbin 1960, eq. 8) with clipped partial correlations: all roots
        lie outside the unit circle.
    """
    order, cells = correlation.shape
    result = np.zeros((order, cells))
    variance = np.ones(cells)
    for k in range(order):
        explained = (result[:k] * correlation[:k][::-1]).sum(axis=0)
        # The limit also keeps `variance` above zero, and so the next division from failing.
        partial = np.clip((correlation[k] - explained) / variance, -PARTIAL_LIMIT, PARTIAL_LIMIT)
        # Not in place: the later half would read what the first half has become.
        result[:k] = result[:k] - partial * result[:k][::-1]
        result[k] = partial
        variance = variance * (1.0 - partial**2)
    return result


def stationary(coefficients: Array) -> Array:
    """Nearest-in-partials stationary coefficients: those of the step-down recursion, clipped.

    Parameters
    ----------
    coefficients : float64, (p, n)

    Returns
    -------
    float64, (p, n)
        Unchanged where the process was stationary already (Monahan 1984).
    """
    order, cells = coefficients.shape
    partials = np.zeros((order, cells))
    down = coefficients.copy()
    for k in range(order - 1, -1, -1):
        partials[k] = np.clip(down[k], -PARTIAL_LIMIT, PARTIAL_LIMIT)
        # By the clipped partial: by that of a root on the circle, zero would be divided by.
        down = (down[:k] + partials[k] * down[:k][::-1]) / (1.0 - partials[k] ** 2)
    result = np.zeros((order, cells))
    for k in range(order):
        result[:k] = result[:k] - partials[k] * result[:k][::-1]
        result[k] = partials[k]
    return result


def _regress(
    changes: Array,
    drift: Array,
    long: Array,
    weight: Array,
    order: tuple[int, int],
    starts: NDArray[np.int64],
) -> Array:
    """Coefficients (p + q, n) of the second step of Hannan and Rissanen."""
    p, q = order
    size, cells = p + q, changes.shape[1]
    gram, moment = np.empty((size, size, cells)), np.empty((size, cells))
    scale, total = np.empty(cells), np.empty(cells)
    kernels.regress(changes, drift, long, weight, p, q, gram, moment, scale, total)
    scale = np.where(scale > 0, scale, 1.0)
    # Without units, or the cells of the greatest variance would be all of the pool.
    gram, moment = gram / scale, moment / scale
    # After division by the squares these are means: 20 captures against `total` are 20 / total.
    prior = SHRINKAGE / np.maximum(total, 1.0)
    number = _pooled(np.ones(cells), starts)
    # A chunk that never changed has zeros to borrow: without a ridge there is no solution.
    pooled = _pooled(gram, starts) / number + 1e-6 * np.eye(size)[..., None]
    gram = np.moveaxis(gram + prior * pooled, -1, 0) + 1e-9 * np.eye(size)
    moment = moment + prior * _pooled(moment, starts) / number
    return np.asarray(np.linalg.solve(gram, moment.T[..., None])[..., 0].T)


def innovate(process: Process, series: Array, d: int) -> Array:
    """Last q innovations (q, n), newest first, of a series (T, n)."""
    p, q = len(process.autoregressive), len(process.moving)
    if q == 0:
        return np.zeros((0, series.shape[1]))
    changes = difference(series[-LONGEST_FILTER:], d) - process.drift
    has_value = np.isfinite(changes)
    # In a gap nothing is new: an innovation of zero, and a change of the drift.
    filled = np.where(has_value, changes, 0.0)
    past = np.zeros((q, series.shape[1]))
    for t in range(len(filled)):
        value = filled[t] - (process.moving * past).sum(axis=0)
        for lag in range(1, min(p, t) + 1):
            value = value - process.autoregressive[lag - 1] * filled[t - lag]
        past = np.concatenate([np.where(has_value[t], value, 0.0)[None], past[:-1]])
    return past


LONGEST_FILTER = 100
"""Slots over which innovations are filtered: with |theta| <= .98 the start is forgotten by then."""


def predict(process: Process, recent: Array, innovations: Array, d: int, leads: int) -> Array:
    """Forecasts (leads, n) of the series.

    Parameters
    ----------
    process : Process
    recent : float64, (>= p + d, n)
        Last values of the series, newest first; finite.
    innovations : float64, (q, n)
        Last innovations, newest first.
    d : {0, 1}
    leads : int
    """
    p, q = len(process.autoregressive), len(process.moving)
    changes = (recent[:-1] - recent[1:])[: max(p, 1)] - process.drift if d else recent[: max(p, 1)]
    past = [changes[lag] for lag in range(p)]
    shocks = list(innovations)
    level = recent[0] if d else np.zeros_like(recent[0])
    result = np.empty((leads, recent.shape[1]))
    for lead in range(leads):
        value = np.zeros(recent.shape[1])
        for lag in range(p):
            value = value + process.autoregressive[lag] * past[lag]
        for lag in range(q):
            value = value + process.moving[lag] * shocks[lag]
        past = [value, *past[:-1]] if p else past
        shocks = [np.zeros_like(value), *shocks[:-1]] if q else shocks
        if d:
            level = level + value + process.drift
            result[lead] = level
        else:
            result[lead] = value
    return result
