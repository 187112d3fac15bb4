"""Control of false alarms over many chunks that are tested at once.

One update tests as many hypotheses as it has chunks; a plain threshold on the p-value would raise
an alarm in every update of a large dataset.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gnomon.storage.errors import InvalidInput

__all__ = ["q_values"]


def q_values(p_values: ArrayLike) -> NDArray[np.float64]:
    """Return for each test the lowest false discovery rate at which it would be an alarm.

    Parameters
    ----------
    p_values : array_like of float, shape (n,)
        Each in 0..1; NaN where there was no test.

    Returns
    -------
    ndarray of float64, shape (n,)
        In 0..1; NaN where `p_values` is NaN.

    Raises
    ------
    InvalidInput
        A p-value is outside 0..1.

    Notes
    -----
    The k-th smallest of m p-values becomes ``min over j >= k of p_(j) m / j`` (Benjamini and
    Hochberg 1995): for tests that are independent or depend on each other positively, as those of
    neighbours do.  NaN counts in neither m nor j.  scipy.stats has the same, and takes longer to
    import than most updates have to compute.

    Examples
    --------
    >>> q_values([0.01, 0.5, float("nan"), 0.03]).round(3).tolist()
    [0.03, 0.5, nan, 0.045]
    """
    p = np.asarray(p_values, dtype=np.float64)
    q = np.full(p.shape, np.nan)
    tested = ~np.isnan(p)
    if not tested.any():
        return q
    if not ((p[tested] >= 0) & (p[tested] <= 1)).all():
        raise InvalidInput(
            f"p-values lie in 0..1, found {p[tested].min():g} to {p[tested].max():g}; "
            "check the test that made them"
        )
    known = p[tested]
    order = np.argsort(known)
    scaled = known[order] * known.size / np.arange(1, known.size + 1)
    adjusted = np.empty_like(known)
    adjusted[order] = np.minimum.accumulate(scaled[::-1])[::-1]
    q[tested] = adjusted
    return q
