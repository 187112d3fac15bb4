"""How wrong a prediction may be: growth with lead, Student t with few captures, confidence.

Everything here is a function of sums that the hindcasts keep; nothing reads captures.
"""

from __future__ import annotations

import numpy as np
from scipy import special

from gnomon.tasks.forecasting.specification import Array

NOMINAL = 0.90
"""Coverage that the calibration aims at, for the mean plus or minus `NOMINAL_Z` standard errors."""
NOMINAL_Z = 1.6448536269514722
"""Half width of the nominal interval in standard errors."""
PRIOR_ORIGINS = 2.0
"""Hindcasts' worth of weight of the next shorter lead's growth factor."""
POOLED_CAPTURES = 4.0
"""Captures' worth of weight of the chunk's pooled innovation variance in a cell's own."""
RESOLUTION = float(np.finfo(np.float32).eps)
"""Least standard error relative to the size of the values."""


def shape(damping: Array, lead: float) -> Array:
    """Error variance at a lead relative to lead 1, of a first-order process.

    Parameters
    ----------
    damping : float64, (N,)
        Autocorrelation of the anomalies over one slot.
    lead : float
        In slots, >= 1.

    Returns
    -------
    float64, (N,)
        ``(1 - r^2h) / (1 - r^2)``: 1 at lead 1 and h for a random walk.
    """
    square = np.minimum(damping**2, 0.99)
    return np.asarray((1.0 - square**lead) / (1.0 - square))


def innovation_scale(sums: Array, captures: Array, size: Array) -> Array:
    """Standard deviation of a cell's one-slot departures, shrunk to the chunk's.

    Parameters
    ----------
    sums : float64, (N,), variable's units squared
        Sum of squared departures, each reduced to one slot.
    captures : float64, (N,)
        Number of terms in each sum.
    size : float64, (N,), variable's units
        Magnitude of the values; NaN where a cell was never seen.

    Returns
    -------
    float64, (N,), variable's units
        Greater than zero; NaN where `size` is.
    """
    total = float(captures.sum())
    pooled = float(sums.sum()) / total if total > 0 else 0.0
    variance = (sums + POOLED_CAPTURES * pooled) / (captures + POOLED_CAPTURES)
    floor = RESOLUTION * np.abs(size) + np.finfo(np.float32).tiny
    return np.asarray(np.sqrt(variance) + floor)


def lead_scale(growth: Array, adjustment: Array) -> Array:
    """Factor on the standard error at each lead that makes it calibrated.

    Parameters
    ----------
    growth : float64, (2, H)
        Number of hindcasts scored, and sum of their mean squared error over expected variance.
    adjustment : float64, (H,)
        Logarithm of the coverage correction, see `corrected`.

    Returns
    -------
    float64, (H,)
        Root of the mean ratio, times the correction, times ``t(0.95, n + 2) / 1.645``: with few
        hindcasts the interval is Student's, with many it is Gaussian.
    """
    counts, sums = growth
    previous = 1.0
    ratio = np.empty(len(counts))
    for lead, (count, total) in enumerate(zip(counts, sums, strict=True)):
        previous = (total + PRIOR_ORIGINS * previous) / (count + PRIOR_ORIGINS)
        ratio[lead] = previous
    student = special.stdtrit(counts + 2.0, 0.5 + NOMINAL / 2) / NOMINAL_Z
    return np.asarray(np.sqrt(ratio) * np.exp(adjustment) * student)


def corrected(adjustment: Array, missed: Array, rate: float) -> Array:
    """Coverage correction after one more score, where there was one.

    Parameters
    ----------
    adjustment : float64, (H,)
    missed : float64, (H,)
        Share of cells outside the nominal interval; NaN where nothing was scored.
    rate : float
        Step of the correction.

    Returns
    -------
    float64, (H,)
        ``a + rate (missed - 0.1)`` (Gibbs and Candes 2021, eq. 2, on the log scale), within +-1.
    """
    step = np.where(np.isfinite(missed), rate * (missed - (1.0 - NOMINAL)), 0.0)
    return np.clip(adjustment + step, -1.0, 1.0)


def accumulate(sums: Array, values: Array, memory: float) -> Array:
    """Count, sum and sum of squares after one more value, older ones forgotten slowly.

    Parameters
    ----------
    sums : float64, (3, ...)
    values : float64, (...)
        NaN where there is nothing to add: those sums are unchanged.
    memory : float
        Effective number of values remembered.

    Returns
    -------
    float64, (3, ...)
    """
    known = np.isfinite(values)
    filled = np.where(known, values, 0.0)
    fade = np.where(known, 1.0 - 1.0 / memory, 1.0)
    return np.asarray(sums * fade + np.stack([known.astype(np.float64), filled, filled**2]))


def predictive(sums: Array, prior_scale: float) -> tuple[Array, Array, Array]:
    """Student t predictive distribution of the next value of a normal sample.

    Parameters
    ----------
    sums : float64, (3, ...)
        Count, sum and sum of squares.
    prior_scale : float
        Prior standard deviation. The prior mean is zero with the weight of one value; the prior
        variance has 4 degrees of freedom.

    Returns
    -------
    location, scale, freedom : float64, (...)
        Conjugate normal-gamma update (Gelman et al. 2013, section 3.3).
    """
    count, total, squares = sums
    weight = count + 1.0
    location = total / weight
    freedom = count + 4.0
    scatter = np.maximum(squares - weight * location**2, 0.0)
    variance = (4.0 * prior_scale**2 + scatter) / freedom
    return location, np.sqrt(variance * (1.0 + 1.0 / weight)), freedom
