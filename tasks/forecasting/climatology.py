"""The harmonic seasonal climatology: regressors that depend on time alone.

The information matrix of the regressors is the same for every cell of a chunk, so all of them share
one gain. This module does not decide which periods a variable has.
"""

from __future__ import annotations

import numpy as np

from gnomon.tasks.forecasting.specification import Array, Specification

PRIOR = 1.0 / 8.0
"""Weight of the prior "no season" in captures, as a share of a cycle's captures."""
PRIOR_SLOTS = 24.0
"""Captures of a cycle beyond which the prior does not grow."""
INTERCEPT_PRIOR = 1e-6
"""The first value counts next to nothing against the values themselves."""


def features(spec: Specification, times_s: Array) -> Array:
    """Regressors at some times: 1, then cosine and sine of each harmonic of each period.

    Parameters
    ----------
    spec : Specification
    times_s : float64, (T,), seconds; NaN gives NaN.

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


def prior(spec: Specification) -> Array:
    """Information (K, K) before the first capture: the season is zero until it is seen.

    It fades like the captures do, so that it is forgotten after a few cycles.
    """
    diagonal = [INTERCEPT_PRIOR]
    for period, harmonics in zip(spec.periods_s, spec.harmonics, strict=True):
        weight = PRIOR * min(period / spec.interval_s, PRIOR_SLOTS)
        diagonal += [weight] * (2 * harmonics)
    return np.diag(diagonal)


def fade(spec: Specification, captures: Array) -> Array:
    """Factor on the older captures' weight when one more is learnt.

    Parameters
    ----------
    captures : float64, any shape
        Captures learnt before it.

    Returns
    -------
    float64, the same shape
        ``1 - 1 / 8n`` at first, so that the prior and the first captures are forgotten, and then
        that of the memory.
    """
    return np.asarray(1.0 - 1.0 / np.clip(8.0 * (captures + 1.0), 8.0, spec.memory))


def gains(information: Array, regressors: Array) -> Array:
    """Gain (G, K) of recursive least squares (Plackett 1950) of G chunks.

    Parameters
    ----------
    information : float64, (K, K, G)
        With the new capture in it.
    regressors : float64, (K,)
    """
    matrix = np.moveaxis(information, -1, 0)
    size = np.trace(matrix, axis1=1, axis2=2)[:, None, None]
    regular = matrix + 1e-9 * size * np.eye(len(regressors))
    return np.asarray(
        np.linalg.solve(regular, np.broadcast_to(regressors[:, None], (*matrix.shape[:2], 1)))[
            ..., 0
        ]
    )
