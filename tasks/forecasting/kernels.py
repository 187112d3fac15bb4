"""Compiled loops over cells: sums of a window, predictions, and weights.

Everything else is array code; these are compiled because each would take some forty passes over
memory in NumPy.  They use no threads, no fast-math and no reductions across chunks, so they give
the same bits as when they are run uncompiled.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gnomon.storage.arrays.kernels import compiled

type Floats = NDArray[np.float64]
type Ints = NDArray[np.int64]


@compiled
def simplex(matrix: Floats) -> Floats:
    """Weights >= 0 with sum 1 that minimise ``w' M w``, for a positive semi-definite M (C, C).

    Moves weight from the worst to the best candidate as far as it pays, until nothing is gained
    (sequential minimal optimisation, Platt 1998).
    """
    size = len(matrix)
    weights = np.full(size, 1.0 / size)
    # M w is half of the gradient; the halves cancel in gap / curve.
    slope = np.zeros(size)
    for i in range(size):
        for j in range(size):
            slope[i] += matrix[i, j] * weights[j]
    for _ in range(1000):
        best = 0
        worst = -1
        for k in range(size):
            if slope[k] < slope[best]:
                best = k
            if weights[k] > 0.0 and (worst < 0 or slope[k] > slope[worst]):
                worst = k
        # At the minimum all candidates in use have one slope, and no other has a smaller one (KKT).
        gap = slope[worst] - slope[best]
        if gap <= 1e-10 * abs(slope[worst]):
            break
        curve = matrix[best, best] + matrix[worst, worst] - 2.0 * matrix[best, worst]
        step = weights[worst]
        # Without curvature, as of two candidates with the same errors, all of the weight may move.
        if curve > 0.0:
            step = min(step, gap / curve)
        weights[best] += step
        weights[worst] -= step
        for k in range(size):
            slope[k] += step * (matrix[k, best] - matrix[k, worst])
    return weights


@compiled
def faded_sums(series: Floats, rate: float) -> Floats:
    """Sums (T, n) of `rate` times a series (T, n) up to each slot, faded by 1 - `rate` a slot."""
    sums = np.empty_like(series)
    slots, columns = series.shape
    for column in range(columns):
        total = 0.0
        for t in range(slots):
            total = rate * series[t, column] + (1.0 - rate) * total
            sums[t, column] = total
    return sums


@compiled
def means(series: Floats, weights: Floats, total: Floats, mean: Floats) -> None:
    """Weighted number (n,) and mean (n,) of the known values of a series (T, n)."""
    slots, cells = series.shape
    for cell in range(cells):
        total[cell] = 0.0
        mean[cell] = 0.0
    for t in range(slots):
        for cell in range(cells):
            value = series[t, cell]
            if np.isfinite(value):
                total[cell] += weights[t]
                mean[cell] += weights[t] * value
    for cell in range(cells):
        if total[cell] > 0.0:
            mean[cell] /= total[cell]


@compiled
def lagged(
    series: Floats, centre: Floats, weights: Floats, count: Floats, product: Floats, size: Floats
) -> None:
    """Weighted sums of products of a series (T, n) less its centre (n,) with its own past.

    Written: the number of known values (n,); for lags 1..p the sum of products (p, n), and the mean
    of the two sums of squares (p, n), over the pairs of which both are known.
    """
    slots, cells = series.shape
    order = len(product)
    for cell in range(cells):
        count[cell] = 0.0
    for lag in range(order):
        for cell in range(cells):
            product[lag, cell] = 0.0
            size[lag, cell] = 0.0
    for t in range(slots):
        weight = weights[t]
        for cell in range(cells):
            if np.isfinite(series[t, cell]):
                count[cell] += weight
        for lag in range(1, min(order, t) + 1):
            for cell in range(cells):
                now = series[t, cell] - centre[cell]
                then = series[t - lag, cell] - centre[cell]
                pair = now * then
                # Squares over the pairs of the product itself (Burg 1975): gaps bias neither.
                if np.isfinite(pair):
                    product[lag - 1, cell] += weight * pair
                    size[lag - 1, cell] += 0.5 * weight * (now * now + then * then)


@compiled
def follow(
    season: Floats,
    anomalies: Floats,
    autoregressive: Floats,
    moving: Floats,
    drift: Floats,
    shocks: Floats,
    differences: int,
    result: Floats,
) -> None:
    """Write what each cell's ARIMA process predicts (H, n), on top of its season (H, n)."""
    leads, cells = season.shape
    p = len(autoregressive)
    q = len(moving)
    past = np.zeros((leads + p + 1, cells))
    height = np.zeros(cells)
    for lag in range(p):
        for cell in range(cells):
            value = anomalies[lag, cell]
            if differences:
                # A process of the changes about their drift, which comes back at each lead.
                value -= anomalies[lag + 1, cell] + drift[cell]
            past[p - 1 - lag, cell] = value
    for cell in range(cells):
        height[cell] = anomalies[0, cell]
    for lead in range(leads):
        for cell in range(cells):
            value = 0.0
            for lag in range(p):
                value += autoregressive[lag, cell] * past[p + lead - 1 - lag, cell]
            # Shocks to come have mean zero: beyond lead q none is left.
            for lag in range(lead, q):
                value += moving[lag, cell] * shocks[lag - lead, cell]
            past[p + lead, cell] = value
            if differences:
                height[cell] += value + drift[cell]
                value = height[cell]
            result[lead, cell] = season[lead, cell] + value


@compiled
def regress(  # noqa: PLR0912, PLR0913, PLR0917 - compiled code takes arrays
    series: Floats,
    centre: Floats,
    long: Floats,
    weights: Floats,
    p: int,
    q: int,
    gram: Floats,
    moment: Floats,
    scale: Floats,
    total: Floats,
) -> None:
    """Sums of the second regression of Hannan and Rissanen, per cell.

    A series (T, n) less its centre (n,) is regressed on its p last values and on the q last
    innovations of the autoregression ``long`` (m, n). Written, weighted: products of the predictors
    (p + q, p + q, n), and with the series (p + q, n); its squares and their number (n,).
    """
    slots, cells = series.shape
    longest = len(long)
    # Before `longest` there are no innovations; here all q of the first row are known.
    first = longest + max(p, q)
    shocks = np.zeros((q + 1, cells))
    column = np.zeros(p + q)
    gram[:] = 0.0
    moment[:] = 0.0
    scale[:] = 0.0
    total[:] = 0.0
    for t in range(longest, slots):
        for row in range(q, 0, -1):
            for cell in range(cells):
                shocks[row, cell] = shocks[row - 1, cell]
        for cell in range(cells):
            value = series[t, cell] - centre[cell]
            shocks[0, cell] = 0.0
            if not np.isfinite(value):
                continue
            left = value
            for lag in range(longest):
                before = series[t - 1 - lag, cell] - centre[cell]
                # What is missing counts as its mean, zero.
                if np.isfinite(before):
                    left -= long[lag, cell] * before
            shocks[0, cell] = left
            if t < first:
                continue
            for i in range(p):
                before = series[t - 1 - i, cell] - centre[cell]
                column[i] = before if np.isfinite(before) else 0.0
            for i in range(q):
                column[p + i] = shocks[i + 1, cell]
            weight = weights[t]
            for i in range(p + q):
                moment[i, cell] += weight * column[i] * value
                for j in range(i + 1):
                    gram[i, j, cell] += weight * column[i] * column[j]
            scale[cell] += weight * value * value
            total[cell] += weight
    for i in range(p + q):
        for j in range(i):
            for cell in range(cells):
                gram[j, i, cell] = gram[i, j, cell]
