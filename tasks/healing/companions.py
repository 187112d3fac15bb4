"""Companions: what other variables, intact in the same cells, tell of a damaged one.

Departures of variables go together: where it is warmer than was forecast, it is drier, too.  What
the others tell is taken off the departures, what is left is in-painted, and it is added again.  It
is kept only where hiding intact cells shows a gain, so that nothing is lost by others that tell
nothing.  Pure arrays.
"""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gnomon.tasks.healing.inpainting import Inpainted, inpaint

__all__ = ["MOST_COMPANIONS", "aided", "kinship"]

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

MOST_COMPANIONS = 2
"""Other variables that are asked: each costs the hindcasts of a region."""
LEAST_KINSHIP = 0.1
"""Mean squared correlation from which a variable is asked: chance alone gives .02 of 48
captures."""
SHRINKAGE = 5.0
"""Captures' worth of weight that the slope of all cells has against a cell's own. With 20, where
the others go the other way two fifths of the error were left after 30 captures."""
LEAST_GAIN = 0.02
"""Share of the error in hidden cells that the others must take off to be believed."""
COMPLETE = 0.95
"""Share of the hole in which a companion must be known."""
PARTS = 5
"""Parts of the past, each of which is explained by the slopes of the others: by its own it would
look better explained than the present is."""


def kinship(first: Floats, second: Floats) -> float:
    """Return the mean over cells of the squared correlation of two records (T, n) about zero.

    NaN where unknown; 0 if too little is known.
    """
    both = np.isfinite(first) & np.isfinite(second)
    a, b = np.where(both, first, 0.0), np.where(both, second, 0.0)
    power = (a**2).sum(axis=0) * (b**2).sum(axis=0)
    usable = (both.sum(axis=0) >= 3) & (power > 0.0)
    if not usable.any():
        return 0.0
    return float(np.mean((a * b).sum(axis=0)[usable] ** 2 / power[usable]))


def aided(
    departure: Floats,
    standard_error: Floats,
    hole: Mask,
    history: Floats,
    others: Floats,
    other_history: Floats,
    **options: Any,
) -> tuple[Inpainted, bool]:
    """Return the estimated departures of a hole, and whether other variables had a part in them.

    Parameters
    ----------
    departure, standard_error, hole, history, options
        As for :func:`gnomon.tasks.healing.inpainting.inpaint`.
    others : ndarray of float64, shape (k, *dims)
        Departures of k other variables, each in its units; NaN where unknown.
    other_history : ndarray of float64, shape (k, T, *dims)
        Their past departures, of the times of `history`; NaN where unknown.

    Notes
    -----
    A linear regression in each cell, shrunk to that of all cells.  The error bar of what is left is
    the forecast's, times the root mean square of what was left in the past over what was there.
    """
    alone = inpaint(departure, standard_error, hole, history=history, **options)
    valid = hole & np.isfinite(standard_error)
    known = (
        [np.isfinite(other[valid]).mean() >= COMPLETE for other in others] if valid.any() else []
    )
    others, other_history = others[known], other_history[known]
    if not len(others) or len(history) < 2 * PARTS or np.isnan(alone.validated_rmse):
        return alone, False
    left = np.full(history.shape, np.nan)
    for part in np.array_split(np.arange(len(history)), PARTS):
        rest = np.setdiff1d(np.arange(len(history)), part)
        slopes = _slopes(history[rest], other_history[:, rest])
        left[part] = history[part] - np.einsum("k...,kt...->t...", slopes, other_history[:, part])
    both = np.isfinite(left) & np.isfinite(history)
    before, after = float(np.sum(history[both] ** 2)), float(np.sum(left[both] ** 2))
    if not 0.0 < after < before:
        return alone, False
    told = np.einsum("k...,k...->...", _slopes(history, other_history), others)
    error = standard_error * np.sqrt(after / before)
    rest_alone = inpaint(departure - told, error, hole, history=left, **options)
    if not rest_alone.validated_rmse < (1.0 - LEAST_GAIN) * alone.validated_rmse:
        return alone, False
    # Where the others are not known, they have no part.
    used = np.isfinite(told)
    return replace(
        alone,
        departure=np.where(used, rest_alone.departure + told, alone.departure),
        standard_error=np.where(used, rest_alone.standard_error, alone.standard_error),
        weight=np.where(used, rest_alone.weight, alone.weight),
        log_location=np.where(used, rest_alone.log_location, alone.log_location),
        log_spread=np.where(used, rest_alone.log_spread, alone.log_spread),
        validated_rmse=rest_alone.validated_rmse,
    ), True


def _slopes(history: Floats, others: Floats) -> Floats:
    """Return the coefficients (k, *dims) of a history (T, *dims) on others (k, T, *dims)."""
    shape = history.shape[1:]
    y, x = history.reshape(len(history), -1), others.reshape(*others.shape[:2], -1)
    both = np.isfinite(y) & np.isfinite(x).all(axis=0)
    y, x = np.where(both, y, 0.0), np.where(both, x, 0.0)
    scale = np.sqrt(
        np.maximum((x**2).sum(axis=(1, 2)) / max(1, int(np.count_nonzero(both))), 1e-300)
    )
    x = x / scale[:, None, None]
    gram, moment = np.einsum("itn,jtn->nij", x, x), np.einsum("itn,tn->ni", x, y)
    count = max(1, int(np.count_nonzero(both)))
    pooled_gram = gram.sum(axis=0) / count + 1e-6 * np.eye(len(x))
    pooled_moment = moment.sum(axis=0) / count
    matrix, right = gram + SHRINKAGE * pooled_gram, moment + SHRINKAGE * pooled_moment
    slopes = np.linalg.solve(matrix, right[..., None])[..., 0].T / scale[:, None]
    return np.asarray(slopes.reshape(len(x), *shape))
