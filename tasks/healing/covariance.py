"""Covariance of a standardised departure field on a grid, and the optimal interpolation it gives.

The correlation of two cells is the sum of leading modes of the past (which may tie distant
places) and a stationary, anisotropic Matern part; all variances are relative to the field's own
mean square, which is taken as 1. Nothing here knows which cells are damaged or how well a
covariance does: that is for `gnomon.tasks.healing.inpainting` to find out.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, solve_triangular

Floats = NDArray[np.float64]

_LAGS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96)
"""Cells at which correlation is measured: each costs a pass over the fields, so that they are far
apart where a curve is flat. A length beyond the last one is extrapolated."""
_MOST_FIELDS = 12
"""Past fields that lengths are measured on: more would make them steadier, at a pass for each."""
_SMALLEST_LENGTH = 0.3
"""Cells. Neighbours are correlated by .04 then: with less, nothing would be said of any other cell,
and distances in lengths would have no bound."""
_JITTER = 1e-8
"""Added to the diagonal for each observer: keeps the matrix of cells that hardly differ positive
definite. A larger one would act as noise of the observers."""


@dataclass(frozen=True, slots=True)
class Covariance:
    """A covariance model of unit variance.

    Parameters
    ----------
    stretch : float
        Correlation length in measured lengths; > 0.
    smooth : bool
        Matern 3/2 (once differentiable) instead of Matern 1/2 (exponential).
    nugget : float
        Share of the stationary part that is not shared with any other cell, in [0, 1].
    rank : int
        How many leading modes of the past carry the large scales; 0 for none.
    reach : float
        Distance, in correlation lengths, over which what the modes say fades; inf to keep what
        they say of distant places.
    """

    stretch: float = 1.0
    smooth: bool = False
    nugget: float = 0.05
    rank: int = 0
    reach: float = np.inf


def embed(
    cells: NDArray[np.intp],
    shape: tuple[int, ...],
    cyclic: tuple[bool, ...],
    lengths: tuple[float, ...],
) -> Floats:
    """Return coordinates whose Euclidean distance is in correlation lengths, shape (n, dims').

    Parameters
    ----------
    cells : ndarray of intp, shape (n,)
        Flat cell numbers in C order.
    shape, cyclic, lengths
        Of each axis: number of cells, whether it wraps, correlation length in cells.

    Notes
    -----
    A cyclic axis becomes a circle, so a covariance that is valid in every dimension stays valid.
    """
    columns: list[Floats] = []
    indices = np.unravel_index(cells, shape)
    for axis, (size, wraps, length) in enumerate(zip(shape, cyclic, lengths, strict=True)):
        index = indices[axis]
        if wraps:
            angle, radius = 2.0 * np.pi * index / size, size / (2.0 * np.pi * length)
            columns += [radius * np.cos(angle), radius * np.sin(angle)]
        else:
            columns.append(index / length)
    return np.stack(columns, axis=1)


def correlate(distance: Floats, *, smooth: bool) -> Floats:
    """Return the Matern correlation (3/2 if smooth, else 1/2) at distances in lengths.

    Parameters
    ----------
    distance : ndarray of float64, any shape
        Distances divided by the correlation length, >= 0.
    smooth : bool
        Which of the two; both fall to about 1/e at distance 1 (Matern 1960; Stein 1999).
    """
    if not smooth:
        return np.asarray(np.exp(-distance))
    scaled = distance * 2.146  # so that this one, too, is 1/e at distance 1
    return np.asarray((1.0 + scaled) * np.exp(-scaled))


def measure_lengths(
    field: Floats, history: Floats | None, cyclic: tuple[bool, ...]
) -> tuple[float, ...]:
    """Return the distance, in cells, over which correlation falls to 1/e, for each axis.

    Parameters
    ----------
    field : ndarray of float64, shape (*dims)
        Standardised departures about zero; NaN where unknown.
    history : ndarray of float64, shape (T, *dims), or None
        Past fields of the same kind; up to 12 of them help.
    cyclic : tuple of bool
        Whether each axis wraps.
    """
    samples = [field[np.newaxis]]
    if history is not None and len(history):
        samples.append(history[:: -(-len(history) // _MOST_FIELDS)])
    lengths = []
    for axis in range(field.ndim):
        curves = [_autocorrelation(sample, axis + 1, cyclic[axis]) for sample in samples]
        valid = np.sum([np.isfinite(curve) for curve in curves], axis=0)
        total = np.nansum(curves, axis=0)
        # The present counts as much as all of the past: it is what is healed, but one field.
        lengths.append(_fall_to_1_over_e(np.where(valid > 0, total / np.maximum(valid, 1), np.nan)))
    return tuple(lengths)


def _autocorrelation(fields: Floats, axis: int, wraps: bool) -> Floats:
    """Return the correlation about zero along one axis at each of the lags, NaN if unknown."""
    curve = np.full(len(_LAGS), np.nan)
    size = fields.shape[axis]
    for i, lag in enumerate(_LAGS):
        # Round a circle, lags k and size - k are of the same pairs.
        if lag > (size // 2 if wraps else size - 1):
            break
        first = np.moveaxis(fields, axis, -1)
        second = np.roll(first, -lag, axis=-1)
        if not wraps:
            first, second = first[..., :-lag], second[..., :-lag]
        both = np.isfinite(first) & np.isfinite(second)
        left, right = first[both], second[both]
        # About zero, not about the mean: a bias that a field shares is carried into the hole.
        power = np.sqrt(np.sum(left**2) * np.sum(right**2))
        if left.size >= 10 and power > 0.0:
            curve[i] = np.sum(left * right) / power
    return curve


def _fall_to_1_over_e(curve: Floats) -> float:
    """Return the lag at which a correlation curve crosses 1/e, extrapolated if it never does."""
    usable = np.isfinite(curve)
    if not usable.any():
        return 1.0
    # Logarithms are taken, and divided by: neither 0 nor 1 may be among them.
    lags, values = np.array(_LAGS, dtype=float)[usable], np.clip(curve[usable], 1e-6, 0.9999)
    below = np.flatnonzero(values < np.exp(-1.0))
    at = int(below[0]) if below.size else len(lags) - 1
    if not below.size or at == 0:
        return max(float(-lags[at] / np.log(values[at])), _SMALLEST_LENGTH)
    # Between two lags the curve falls exponentially: its logarithm is a line, and 1/e is at -1.
    share = np.log(values[at - 1]) + 1.0
    return float(
        lags[at - 1]
        + (lags[at] - lags[at - 1]) * share / (np.log(values[at - 1]) - np.log(values[at]))
    )


@dataclass(frozen=True, slots=True)
class View:
    """How some cells see others, whatever the covariance: found once for all that are tried.

    Parameters
    ----------
    apart : ndarray of float64, shape (n, n)
        Distances between the observers, in measured correlation lengths.
    across : ndarray of float64, shape (n, m)
        Distances from the observers to the cells wanted, in the same.
    observed, wanted : ndarray of float64, shapes (n, modes) and (m, modes)
        Loadings of the leading modes, from `Modes.at`; zero columns for none.
    """

    apart: Floats
    across: Floats
    observed: Floats
    wanted: Floats


def interpolate(
    values: Floats, view: View, covariance: Covariance, share: float, *, stated: bool = True
) -> tuple[Floats, Floats]:
    """Return the optimal interpolations, (k, m), and their error variance, (m,).

    Parameters
    ----------
    values : ndarray of float64, shape (k, n)
        Departures about zero, of k fields; finite.
    view : View
        Cells known and cells asked for; no cell may be in both.
    covariance : Covariance
        The model.
    share : float
        Part of the variance that the loadings explain, in [0, 1).
    stated : bool
        Whether the variance is asked for, which takes longer than the rest; else it is NaN.

    Notes
    -----
    Simple kriging with known zero mean (Gandin 1963): mean = C_wo C_oo^-1 z, variance =
    c_ww - C_wo C_oo^-1 C_ow. Modes are localised by a Schur product with a Gaussian taper
    (Houtekamer and Mitchell 2001).
    """
    rest = 1.0 - share
    matrix = _covary(view.apart, view.observed, view.observed, covariance, rest)
    matrix[np.diag_indices_from(matrix)] += rest * covariance.nugget + _JITTER * len(matrix)
    # It is symmetric: transposed, it is in the order of columns, and need not be copied.
    factor = cho_factor(matrix.T, lower=True, overwrite_a=True, check_finite=False)
    # All fields have the same observers, and share the factorisation, which is what costs.
    gain = cho_solve(factor, values.T, check_finite=False)
    cross = _covary(view.across, view.observed, view.wanted, covariance, rest)
    mean = gain.T @ cross
    if not stated:
        return mean, np.full(mean.shape[1], np.nan)
    # It overwrites `cross`, so the mean comes first. Of c' C^-1 c = |L^-1 c|^2 half a solve is
    # enough.
    solved = solve_triangular(factor[0], cross, lower=True, overwrite_b=True, check_finite=False)
    prior = rest + np.sum(view.wanted**2, axis=1)
    # A difference of like numbers may round to less than 0: not below 1 % of a standard error.
    return mean, np.maximum(prior - np.sum(solved**2, axis=0), 1e-4)


def _covary(
    distance: Floats, left: Floats, right: Floats, covariance: Covariance, rest: float
) -> Floats:
    """Return the covariance of two sets of cells without the nugget, shape (n left, n right)."""
    near = correlate(distance / covariance.stretch, smooth=covariance.smooth)
    near *= rest * (1.0 - covariance.nugget)
    if not left.shape[1]:
        return near
    large = left @ right.T
    if np.isfinite(covariance.reach):
        # Entry by entry: a Schur product of two covariances is a covariance.
        large *= np.exp(-((distance / (covariance.stretch * covariance.reach)) ** 2))
    near += large
    return near
