"""Members of a variable of labels: the predicted one, or another that was seen before."""

import numpy as np
from numpy.typing import NDArray
from scipy import special

__all__ = ["draw_labels"]

Floats = NDArray[np.float64]

CHUNK_SHARE = 0.1
"""Weight of one cell of the same chunk in which label a cell may have, over that of its own past:
a label that was never seen in a cell may still be, if its neighbours have it."""


def draw_labels(
    label: Floats, probability: Floats, field: Floats, other: Floats, seen: Floats
) -> Floats:
    """Return a label for each cell of a chunk.

    Parameters
    ----------
    label : float64, (N,)
        The predicted one; NaN where none is.
    probability : float64, (N,)
        That another one is true.
    field : float64, (N,)
        Standard normal, correlated in space: where it is low, another label comes.
    other : float64, (N,)
        Uniform in [0, 1): which one.
    seen : float64, (T, N)
        Labels of the past; NaN where missing.

    Returns
    -------
    float64, (N,)
        NaN where nothing is predicted; the predicted label where no other was ever seen.
    """
    changes = np.isfinite(label) & (special.ndtr(field) < np.nan_to_num(probability))
    known = np.unique(seen[np.isfinite(seen)])
    if not changes.any() or not known.size:
        return label
    weights = np.stack([(seen == value).sum(axis=0) for value in known]).astype(np.float64)
    weights += CHUNK_SHARE * weights.mean(axis=1, keepdims=True)
    weights[known[:, None] == label] = 0.0
    total = np.cumsum(weights, axis=0)
    place = (total <= other * total[-1]).sum(axis=0)
    drawn = known[np.minimum(place, len(known) - 1)]
    return np.where(changes & (total[-1] > 0), drawn, label)
