"""The harmonic seasonal climatology: regressors that depend on time alone.

This module does not decide which periods a variable has.
"""

from __future__ import annotations

import numpy as np

from gnomon.tasks.forecasting.specification import Array, Specification

PRIOR = 1.0 / 8.0
"""Weight of the prior "no season" in captures, as a share of a cycle's captures. With less, part of
a cycle makes a season that is extrapolated over all of it; with more, a season is believed
later."""
PRIOR_SLOTS = 24.0
"""Captures of a cycle beyond which the prior does not grow: an eighth of a year of hours would be a
month and a half."""
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
            # The origin comes off first: of seconds since 1970 the phase would lose digits.
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
