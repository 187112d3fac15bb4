"""How far a variable usually changes from one capture to the next, and what is tolerated of that.

What could not be compared is not known: it is never taken for a variable that does not change.
"""

from __future__ import annotations

import numpy as np

from gnomon.tasks.forecasting.specification import Array

DAMAGE = 1e3
"""Root mean square change over the median one, from which it is damage. With less, rare events of a
quiet variable would be left out of what is usual; with more, a fill value would be part of it."""
SPREAD_TOLERANCE = 0.05
"""Tolerance of a variable that never changed, relative to the spread of its values, unless the user
gives one: nothing says how large its changes will be, but how far apart its values are is known."""
LEAST_TOLERANCE = 1e-6
"""The same relative to the largest value, where all values are equal: above rounding, so that
single precision alone is within it."""
LABEL_TOLERANCE = 0.05
"""Least share of cells with another label that is tolerated, unless the user gives one: of flags
that seldom change, the usual share would let a single cell be too much."""


def usual_change(values: Array, *, categorical: bool = False) -> float | None:
    """Change between two captures in a row.

    Parameters
    ----------
    values : float64, (T, S), variable's units
        NaN where missing or not trusted.
    categorical : bool
        Whether values are labels.

    Returns
    -------
    float or None
        Root mean square, variable's units; of labels the share of cells that have another one. 0
        where the variable never changed; None where no two captures in a row are known, or where it
        changed, but only while captures between were missing.
    """
    size = _size(np.diff(values, axis=0), categorical)
    return size or (None if size is None or has_changed(values) else 0.0)


def has_changed(values: Array) -> bool:
    """Whether any cell has two different values in captures (T, S), missing ones between or not."""
    has_value = np.isfinite(values)
    greatest = np.where(has_value, values, -np.inf).max(axis=0, initial=-np.inf)
    least = np.where(has_value, values, np.inf).min(axis=0, initial=np.inf)
    return bool((greatest > least).any())


def default_tolerance(
    values: Array, usual: float | None, *, resolution: float = 0.0, categorical: bool = False
) -> float:
    """Tolerance where the user gives none.

    Parameters
    ----------
    values, categorical
        As for `usual_change`.
    usual : float or None
        What that returned.
    resolution : float
        Least difference of two values, variable's units; 0 if there is none.

    Returns
    -------
    float
        The usual change; where it is not known, that over the shortest gap over which the variable
        changed; where it never did, a part of what its values span. Of labels 5 % at least.
    """
    size = usual or _gap_change(values, categorical)
    if categorical:
        return max(size, LABEL_TOLERANCE)
    return size or _span_share(values, resolution)


def _gap_change(values: Array, categorical: bool) -> float:
    """Change from the last value to the next, over the shortest gap with any; 0 without."""
    rows = np.arange(len(values))[:, None]
    has_value = np.isfinite(values)
    last = np.maximum.accumulate(np.where(has_value, rows, -1), axis=0)[:-1]
    before = np.take_along_axis(values, np.maximum(last, 0), axis=0)
    change = np.where(has_value[1:] & (last >= 0), values[1:] - before, np.nan)
    gap = rows[1:] - last
    moved = np.isfinite(change) & (change != 0)
    if not moved.any():
        return 0.0
    return _size(np.where(gap == gap[moved].min(), change, np.nan), categorical) or 0.0


def _size(change: Array, categorical: bool) -> float | None:
    """Size of changes (T, S), NaN where unknown; None without any.

    Changes that are `DAMAGE` times the median one are no changes of the variable, and left out.
    """
    has_change = np.isfinite(change)
    count = has_change.sum(axis=1)
    if not count.any():
        return None
    if categorical:
        return float((change[has_change] != 0).mean())
    with np.errstate(over="ignore"):
        square = np.where(has_change, change, 0.0) ** 2
        each = square.sum(axis=1) / np.maximum(count, 1)
        # The median of those that are not zero: of what mostly stands still it would be zero.
        undamaged = (count > 0) & (each <= DAMAGE**2 * _median(each[each > 0]))
        size = float(np.sqrt(square[undamaged].sum() / max(1, count[undamaged].sum())))
    return min(size, float(np.finfo(np.float64).max))


def _span_share(values: Array, resolution: float) -> float:
    finite = values[np.isfinite(values)]
    if not finite.size:
        return resolution / 2
    size = float(np.abs(finite).max())
    # Divided first: squares of large values would not be finite.
    spread = float(np.std(finite / size) * size) if size else 0.0
    return SPREAD_TOLERANCE * spread or max(LEAST_TOLERANCE * size, resolution / 2)


def _median(values: Array) -> float:
    return float(np.median(values)) if len(values) else 0.0
