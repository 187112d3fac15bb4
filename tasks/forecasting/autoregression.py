"""Batched autoregression: one order, one set of coefficients per cell, array operations only.

Coefficients come from autocovariance sums by the Levinson-Durbin recursion, with partial
correlations kept inside (-1, 1), so every cell's process is stationary (before integration).
"""

from __future__ import annotations

import numpy as np

from gnomon.tasks.forecasting.specification import Array

PARTIAL_LIMIT = 0.995
"""Greatest absolute partial correlation, hence damping."""
SHRINKAGE = 20.0
"""Captures' worth of weight that the chunk's pooled correlations have against a cell's own."""


def correlations(sums: Array, pairs: Array, captures: Array) -> Array:
    """Autocorrelations per cell, shrunk to those of the chunk.

    Parameters
    ----------
    sums : float64, (J + 1, N), variable's units squared
        Sums of products of anomalies at lags 0..J; finite.
    pairs : float64, (J + 1,)
        Number of products in the sums of each lag.
    captures : float64, (N,)
        Number of captures learnt per cell; zero where a cell was never seen.

    Returns
    -------
    float64, (J, N)
        Lags 1..J, within [-1, 1]; the pooled value where a cell never varied.
    """
    scale = np.where(pairs > 0, pairs[0] / np.maximum(pairs, 1e-12), 0.0)[:, None]
    scaled = sums * scale
    total = float(scaled[0].sum())
    pooled = scaled[1:].sum(axis=1) / total if total > 0 else np.zeros(len(sums) - 1)
    pooled = pooled * (pairs[1:] / (pairs[1:] + 1.0))
    own = scaled[1:] / np.where(scaled[0] > 0, scaled[0], 1.0)
    weight = np.where(scaled[0] > 0, captures / (captures + SHRINKAGE), 0.0)
    mixed = weight * np.clip(own, -1.0, 1.0) + (1.0 - weight) * pooled[:, None]
    return np.clip(mixed, -1.0, 1.0)


def levinson(correlation: Array) -> Array:
    """Autoregressive coefficients from autocorrelations, stationary in every cell.

    Parameters
    ----------
    correlation : float64, (p, N)
        Autocorrelations at lags 1..p.

    Returns
    -------
    float64, (p, N)
        Levinson-Durbin recursion (Durbin 1960, eq. 8) with clipped partial correlations: all roots
        lie outside the unit circle.
    """
    order, cells = correlation.shape
    result = np.zeros((order, cells))
    variance = np.ones(cells)
    for k in range(order):
        explained = (result[:k] * correlation[:k][::-1]).sum(axis=0)
        partial = np.clip((correlation[k] - explained) / variance, -PARTIAL_LIMIT, PARTIAL_LIMIT)
        result[:k] = result[:k] - partial * result[:k][::-1]
        result[k] = partial
        variance = variance * (1.0 - partial**2)
    return result


def integrate(coefficients: Array, differences: int) -> Array:
    """Recursion on the anomalies themselves of a process that is autoregressive in differences.

    Parameters
    ----------
    coefficients : float64, (p, N)
        Of the differenced anomalies.
    differences : {0, 1}

    Returns
    -------
    float64, (p + differences, N)
        For one difference: ``(1 - L) phi(L)`` multiplied out (Box and Jenkins 1976, section 4.1).
    """
    if differences == 0:
        return coefficients
    cells = coefficients.shape[1]
    result = np.concatenate([coefficients, np.zeros((1, cells))])
    result[1:] -= coefficients
    result[0] += 1.0
    return result
