"""The harmonic seasonal climatology: regressors that depend on time alone.

The Gram matrix of the regressors is the same for every cell, so all cells of a chunk share one
small linear solve. This module does not decide which periods a variable has.
"""

from __future__ import annotations

import numpy as np

from gnomon.tasks.forecasting.specification import Array, Specification

RIDGE = 1e-4
"""Least penalty per capture: keeps aliased harmonics (collinear columns) solvable."""


def features(spec: Specification, times_s: Array) -> Array:
    """Regressors at some times: 1, then cosine and sine of each harmonic of each period.

    Parameters
    ----------
    spec : Specification
    times_s : float64, (T,), seconds, finite

    Returns
    -------
    float64, (T, K)
    """
    times = np.asarray(times_s, dtype=np.float64)
    columns = [np.ones_like(times)]
    for period, harmonics in zip(spec.periods_s, spec.harmonics, strict=True):
        for harmonic in range(1, harmonics + 1):
            angle = 2.0 * np.pi * harmonic * ((times - spec.origin_s) / period)
            columns += [np.cos(angle), np.sin(angle)]
    return np.stack(columns, axis=-1)


def penalty(spec: Specification, captures: float, span_s: float) -> Array:
    """Ridge penalty of each regressor.

    Parameters
    ----------
    spec : Specification
    captures : float
        Number of captures that were learnt.
    span_s : float
        Time between the first and the last of them, seconds.

    Returns
    -------
    float64, (K,)
        Zero for the intercept. ``n (RIDGE + exp(-4 span / period))`` for the harmonics: the season
        stays near the mean until about one period was seen, and is all but free after two.
    """
    result = [0.0]
    for period, harmonics in zip(spec.periods_s, spec.harmonics, strict=True):
        weight = captures * (RIDGE + float(np.exp(-4.0 * span_s / period)))
        result += [weight] * (2 * harmonics)
    return np.array(result)


def coefficients(spec: Specification, gram: Array, moments: Array, span_s: float) -> Array:
    """Ridge regression coefficients of every cell.

    Parameters
    ----------
    spec : Specification
    gram : float64, (K, K)
        X'X; its first element is the number of captures.
    moments : float64, (K, N), variable's units
        X'y of values relative to the cell's shift.
    span_s : float
        Time between the first and the last capture, seconds.

    Returns
    -------
    float64, (K, N), variable's units
        Solution of ``(X'X + diag(penalty)) b = X'y`` (Hoerl and Kennard 1970, eq. 2.1).
    """
    system = gram + np.diag(penalty(spec, float(gram[0, 0]), span_s))
    return np.asarray(np.linalg.solve(system, np.eye(len(system))) @ moments)
