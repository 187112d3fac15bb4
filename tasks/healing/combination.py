"""Combining two estimates of the same cells whose errors are known, and are partly the same.

Pure arrays: what the estimates are made of is not known here.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from gnomon.tasks.healing.inpainting import Inpainted

__all__ = ["SHARED", "combine", "joined"]

Floats = NDArray[np.float64]

SHARED = 0.5
"""Correlation of the errors of both estimates: what neither could know is in both.  It was .54 on
OSTIA and .53 on ERA5, in 30 chunks each, from which it was taken, and .47 in 12 states of E1, from
which nothing was.  As if there were none, 90 % intervals covered 81 and 80 % of the first two.  An
estimate that is twice as sure as the other counts alone."""

SHARED_GUESSES = 0.7
"""The same of two in-paintings of one field, which see the same intact cells, and so have more in
common; it only sets their weights."""
LEAST_EXPLAINED = 0.2
"""Share of the variance of a second guess that in-painting must take off in a cell for it to count
there.  Where intact cells are too far away to say much, what is left is the guess, and the forecast
is the better one: it was made from both.  Without it bands of OSTIA were 4 % worse, and with .5
chunks of ERA5 6 %."""


def combine(
    first: tuple[Floats, Floats], second: tuple[Floats, Floats], correlation: float = SHARED
) -> tuple[Floats, Floats, Floats]:
    """Return the best linear combination of two estimates, cell by cell.

    Parameters
    ----------
    first, second
        Values and standard errors, float64 of one shape; NaN where nothing is estimated.
    correlation
        Of their errors.

    Returns
    -------
    tuple
        Values, standard errors and the weight of the second, 0 to 1, float64.  Where one of them
        is not estimated the other counts alone; NaN, with weight 0, where neither is.

    Notes
    -----
    With errors `s`, `t` and their correlation `r` the weight of the second is
    `(s^2 - r s t) / (s^2 + t^2 - 2 r s t)` within 0 and 1 (Bates and Granger 1969, equation 1); the
    error is that of the combination with these weights.
    """
    (value, s), (other, t) = first, second
    there, also = np.isfinite(value) & np.isfinite(s), np.isfinite(other) & np.isfinite(t)
    shared = correlation * s * t
    spread = s**2 + t**2 - 2.0 * shared
    with np.errstate(divide="ignore", invalid="ignore"):
        weight = np.clip(np.where(spread > 0.0, (s**2 - shared) / spread, 0.0), 0.0, 1.0)
    weight = np.where(there & also, weight, np.where(also, 1.0, 0.0))
    of_first, of_second = np.where(weight < 1.0, 1.0 - weight, 0.0), weight
    parts = [np.where(w > 0.0, w * v, 0.0) for w, v in ((of_first, value), (of_second, other))]
    variance = [np.where(w > 0.0, (w * e) ** 2, 0.0) for w, e in ((of_first, s), (of_second, t))]
    joint = np.where((of_first > 0.0) & (of_second > 0.0), of_first * of_second * shared, 0.0)
    nothing = ~(there | also)
    values = np.where(nothing, np.nan, parts[0] + parts[1])
    errors = np.where(nothing, np.nan, np.sqrt(variance[0] + variance[1] + 2.0 * joint))
    return values, errors, weight


def joined(first: Inpainted, second: Inpainted, shift: Floats, size: Floats) -> Inpainted:
    """Return one in-painting from two of the same field, cell by cell.

    Parameters
    ----------
    first, second : Inpainted
        Of the field minus a first guess, each with its own.
    shift : ndarray of float64, shape (*dims)
        Second guess minus first, data units; NaN where one is unknown.
    size : ndarray of float64, shape (*dims)
        Standard error of the second guess, data units; NaN where it is unknown.

    Notes
    -----
    The second counts only where its interpolation earned a weight, and explains enough of the
    variance: its guess alone is no estimate.  Location and spread are the means by the weights.  So
    is the variance, as if the errors were the same: the errors of both were found in the same
    trials, and the smaller of two such figures is too small by chance, about as much as the mean of
    two estimates is better than each.
    """
    explained = second.standard_error**2 <= (1.0 - LEAST_EXPLAINED) * size**2
    used = (second.weight > 0.0) & explained
    values, _, weight = combine(
        (first.departure, first.standard_error),
        (
            np.where(used, second.departure + shift, np.nan),
            np.where(used, second.standard_error, np.nan),
        ),
        SHARED_GUESSES,
    )

    def mean(one: Floats, other: Floats) -> Floats:
        filled = np.where(np.isfinite(one), one, other)
        return np.where(weight > 0.0, (1.0 - weight) * filled + weight * other, one)

    return replace(
        first,
        departure=values,
        standard_error=np.sqrt(mean(first.standard_error**2, second.standard_error**2)),
        weight=np.where(weight > 0.0, np.maximum(first.weight, second.weight), first.weight),
        log_location=mean(first.log_location, second.log_location),
        log_spread=mean(first.log_spread, second.log_spread),
    )
