"""How wrong a prediction may be: growth with lead, Student t with few hindcasts, confidence.

Everything here is a function of hindcasts and of sums that the state keeps.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import special

from gnomon.tasks.forecasting import sweep
from gnomon.tasks.forecasting.specification import Array
from gnomon.tasks.forecasting.sweep import POOLED_CAPTURES, RESOLUTION, SMALLEST

NOMINAL = 0.90
"""Coverage that the calibration aims at, for the mean plus or minus `NOMINAL_Z` standard errors."""
NOMINAL_Z = 1.6448536269514722
"""Half width of the nominal interval in standard errors: the 95 % quantile of the normal."""
PRIOR_HINDCASTS = 2.0
"""Hindcasts' worth of weight of the next shorter lead's factor: longer leads have fewer independent
ones. With more weight, a lead whose error differs from the one before is followed more slowly."""
LEAST_SHARE = 0.8
"""Of the root mean square error, the least standard error: less than what the quantile gives of
normal (1), Laplace (.99) and Student errors with 3 degrees of freedom (.83)."""
MOST_POINT = 30.0
"""Greatest standardised error that counts: of what never changed before, any error is beyond it."""
MOST_ROOT = 2.0
"""Greatest root mean square over the scale, which is one itself: more was made of a first event."""
POINTS = 33
"""Quantiles that stand for the cells of one hindcast: more are finer, and take memory for each
origin and lead."""


def growth(
    damping: Array, seasons: Array, unseen: Array | None = None, lasting: Array | None = None
) -> Array:
    """Error variance at each lead relative to one slot's innovations, of a first-order process.

    Parameters
    ----------
    damping : float64, (N,)
        Autocorrelation r of the anomalies over one slot.
    seasons : float64, (H, N)
        Variance of the innovations of each slot ahead, over their mean.
    unseen : float64, (N,), optional
        Slots, the last ones, of which no value is known; None: all are.
    lasting : float64, (N,), optional
        Damping over these, up to 1; None: as over the others.

    Returns
    -------
    float64, (H, N)
        ``v_h = r^2 v_(h-1) + s_h``: without seasons 1 at lead 1, and h for a random walk.
    """
    square = np.minimum(damping**2, 0.99)
    result = np.array(seasons, np.float64)
    for lead in range(1, len(result)):
        result[lead] += square * result[lead - 1]
    if unseen is not None and unseen.any():
        lasting_square = square if lasting is None else lasting**2
        rest = 1.0 - lasting_square
        # Where the damping is 1 the geometric sum is u itself, which the quotient cannot say.
        passed = np.divide(
            1.0 - lasting_square**unseen, rest, out=unseen.astype(np.float64), where=rest > 0
        )
        for lead in range(len(result)):
            passed = passed * lasting_square
            result[lead] += passed
    return result


def seasons(swing: Array, surprises: Array, regressors: Array) -> Array:
    """Variance of innovations at some times over their mean.

    Parameters
    ----------
    swing : float64, (K, G)
        Coefficients of the log standardised rms innovation.
    surprises : float64, (3, G)
        Count, sum and sum of squares of what they leave over.
    regressors : float64, (T, K)
        Of the times; the first is constant.

    Returns
    -------
    float64, (T, G)
        1 where the season of the size is no larger than noise would make it.
    """
    result = np.empty((len(regressors), swing.shape[1]))
    sweep.seasons(swing, surprises, np.nan_to_num(regressors), result)
    return result


def innovation_scale(sums: Array, captures: Array, size: Array, starts: NDArray[np.int64]) -> Array:
    """Standard deviation of a cell's one-slot departures, shrunk to its chunk's.

    Parameters
    ----------
    sums : float64, (N,), variable's units squared
        Sum of squared departures, each reduced to one slot.
    captures : float64, (N,)
        Number of terms in each sum.
    size : float64, (N,), variable's units
        Magnitude of the values; NaN where a cell was never seen.
    starts : int64, (G + 1,)
        First cell of each chunk, and N.

    Returns
    -------
    float64, (N,), variable's units
        Greater than zero; NaN where `size` is.
    """
    total = np.add.reduceat(captures, starts[:-1])
    squares = np.add.reduceat(sums, starts[:-1])
    pooled = np.where(total > 0, squares / np.where(total > 0, total, 1.0), 0.0)
    spread = np.repeat(pooled, np.diff(starts))
    variance = (sums + POOLED_CAPTURES * spread) / (captures + POOLED_CAPTURES)
    # What never changed has an error of its rounding: no standardised error divides by zero.
    floor = RESOLUTION * np.abs(size) + SMALLEST
    return np.asarray(np.sqrt(variance) + floor)


def quantiles(standardised: Array) -> Array:
    """`POINTS` quantiles (..., Q) of absolute errors (..., N); NaN where there is none."""
    levels = (np.arange(POINTS) + 0.5) / POINTS
    ordered = np.sort(np.minimum(np.abs(standardised), MOST_POINT), axis=-1)  # NaN last
    count = np.isfinite(ordered).sum(axis=-1, keepdims=True)
    place = np.clip(np.round(levels * count - 0.5), 0, np.maximum(count - 1, 0)).astype(np.intp)
    return np.where(count > 0, np.take_along_axis(ordered, place, axis=-1), np.nan)


def independent(weight: Array, stride: float) -> Array:
    """Effective number (H,) of hindcasts at each lead.

    Parameters
    ----------
    weight : float64, (O, H)
        Weight of each; 0 where it was not verified.
    stride : float
        Slots between two hindcasts. Those of a longer lead overlap, and fewer of them are news.
    """
    # N_h of the error bars: what unequal weights are worth, over how many forecasts overlap.
    count = weight.sum(axis=0) ** 2 / np.maximum((weight**2).sum(axis=0), 1e-12)
    leads = np.arange(1.0, weight.shape[1] + 1.0)
    return np.asarray(count / np.maximum(1.0, leads / stride))


def mean_squares(errors: Array, scale: Array) -> Array:
    """Mean squares (..., 2) of errors (..., N) and of their scale; NaN where there are none."""
    verified = np.isfinite(errors)
    count = verified.sum(axis=-1)
    squares = (np.where(verified, values**2, 0.0).sum(axis=-1) for values in (errors, scale))
    return np.stack(
        [np.where(count > 0, total / np.maximum(count, 1), np.nan) for total in squares], axis=-1
    )


def factors(points: Array, weight: Array, number: Array) -> Array:
    """Factor on the standard error at each lead that makes its nominal interval cover.

    Parameters
    ----------
    points : float64, (O, H, Q)
        Quantiles of each hindcast's absolute standardised errors.
    weight : float64, (O, H)
        Weight of each; 0 where it was not verified.
    number : float64, (H,)
        How many hindcasts these are worth, from `independent`.

    Returns
    -------
    float64, (H,)
        The hindcasts' `NOMINAL` quantile over `NOMINAL_Z`, shrunk to the next shorter lead's; with
        none at all, grown from it as the error of a random walk.
    """
    result = np.zeros(len(number))
    for lead in np.flatnonzero(number > 0):
        rows = weight[:, lead] > 0
        result[lead] = _quantile(points[rows, lead], weight[rows, lead]) / NOMINAL_Z
    return _shrunk(result, number)


def roots(squares: Array, weight: Array, number: Array) -> Array:
    """Root mean square (H,) of hindcasts' errors over their scale, at most `MOST_ROOT`.

    Parameters
    ----------
    squares : float64, (O, H, 2)
        Mean squares of each hindcast's errors and of their scale, oldest first.
    weight, number
        As for `factors`, which says what becomes of leads that were not verified.

    Notes
    -----
    Of all cells and hindcasts together: one of a cell that never changed before is beyond any
    measure. The scale is no less than that of the latest hindcast, which knows of the errors of the
    others: an event must not count both in the scale and beside it.
    """
    result = np.zeros(len(number))
    for lead in np.flatnonzero(number > 0):
        rows = weight[:, lead] > 0
        missed, scale = squares[rows, lead].T
        below = weight[rows, lead] @ np.maximum(scale, scale[-1])
        ratio = weight[rows, lead] @ missed / max(below, SMALLEST**2)
        result[lead] = np.sqrt(min(ratio, MOST_ROOT**2))
    return _shrunk(result, number)


def bars(factors: Array, roots: Array, correction: Array) -> Array:
    """Factor (H, n) on the scale of cells whose corrections, logarithms, are (n,).

    Notes
    -----
    Where events are so rare that most intervals need not reach them, a quantile says nothing of
    their size. A standard error is not less than `LEAST_SHARE` of the root mean square then, and
    the interval covers more than it claims.
    """
    return np.maximum(factors[:, None] * np.exp(correction), LEAST_SHARE * roots[:, None])


def _shrunk(estimates: Array, number: Array) -> Array:
    """What so many hindcasts said at each lead (H,), shrunk to the next shorter lead's."""
    result = np.ones(len(estimates))
    previous = 1.0
    for lead, count in enumerate(number):
        if count > 0:
            # Variances are averaged, not standard errors.
            mixed = (count * estimates[lead] ** 2 + PRIOR_HINDCASTS * previous**2) / (
                count + PRIOR_HINDCASTS
            )
            # Hindcasts without any error must not leave an interval of no width at all.
            previous = max(float(np.sqrt(mixed)), 1e-6)
        elif lead:
            # Nothing is known of this lead: it may go on as a walk does.
            previous *= float(np.sqrt((lead + 1) / lead))
        result[lead] = previous
    return result


def student(number: Array) -> Array:
    """Factor (H,) on an interval that so many hindcasts were its only measure: Student's."""
    # Two degrees more, so that with no hindcasts it is finite: 1.8 times the normal's.
    return np.asarray(special.stdtrit(number + 2.0, 0.5 + NOMINAL / 2) / NOMINAL_Z)


def _quantile(points: Array, weight: Array) -> float:
    """`NOMINAL` quantile of rows (O, Q) of some weight (O,)."""
    # One distribution of all: a mean of quantiles would hide the few hindcasts that went wrong.
    each = np.repeat(weight, points.shape[1])
    order = np.argsort(points.ravel(), kind="stable")
    share = np.cumsum(each[order]) / each.sum()
    return float(points.ravel()[order][np.searchsorted(share, NOMINAL)])


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
    # Equal values may leave a little less than nothing, by rounding.
    scatter = np.maximum(squares - weight * location**2, 0.0)
    variance = (4.0 * prior_scale**2 + scatter) / freedom
    return location, np.sqrt(variance * (1.0 + 1.0 / weight)), freedom
