"""Choose the intact cells that tell most about a hole, so that the cost of healing is bounded."""

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from gnomon.tasks.healing.regions import Cells, Grid

Floats = NDArray[np.float64]

_MOST_NEAR = 20_000
"""Cells nearest to the box around the hole, of which those near the hole itself are chosen: bounds
the search. With fewer, cells near to one that is scattered over a wide box could be missed."""


def pick_observers(
    intact: Cells, hole: Cells, grid: Grid, lengths: tuple[float, ...], most: int
) -> Cells:
    """Return at most `most` intact cells that tell about the hole: dense near it, sparse far off.

    Parameters
    ----------
    intact, hole : ndarray of intp, shape (n,)
        Intact cells to choose from; cells that will be estimated.
    grid : Grid
        The grid.
    lengths : tuple of float
        Correlation length of each axis in cells, the unit of near and far.
    most : int
        Bound on the number returned.

    Notes
    -----
    A cell's chance falls with its distance; ties are spread evenly over the grid by an additive
    recurrence (Roberts 2018), so the choice is deterministic and leaves no clumps.
    """
    if len(intact) <= most:
        return intact
    scale = np.array(lengths)
    points = np.stack(np.unravel_index(intact, grid.shape), axis=1)
    even = points @ _recurrence(len(grid.shape)) % 1.0
    # A sixth of them anywhere: modes may tie the hole to distant places.
    afar = np.argpartition(even, most // 6)[: most // 6]
    region = np.stack(np.unravel_index(hole, grid.shape), axis=1)
    away = _box_distance(points, region, grid, scale)
    near = np.arange(len(intact))
    if len(intact) > _MOST_NEAR:
        # Equal distances are parted evenly, or all of them could lie on one side.
        near = np.argpartition(away + even * 1e-3, _MOST_NEAR)[:_MOST_NEAR]
    circle = [
        size / s if wraps else 0.0
        for size, s, wraps in zip(grid.shape, scale, grid.cyclic, strict=True)
    ]
    distance, _ = cKDTree(region / scale, boxsize=circle).query(points[near] / scale)
    # `even` is uniform, so the share below a threshold falls with the square of the distance.
    # Without the 0.1 all cells at the rim would come first, and leave no room.
    key = even[near] * (0.1 + distance) ** 2
    chosen = near[np.argpartition(key, min(most, len(key) - 1))[: most - len(afar)]]
    return np.asarray(intact[np.union1d(chosen, afar)])


def _recurrence(dims: int) -> Floats:
    """Return the steps of the additive recurrence with the most even spread in so many dims."""
    # The root of x^(d + 1) = x + 1, a golden ratio of d dimensions (Roberts 2018).
    root = 2.0
    for _ in range(40):
        root = (1.0 + root) ** (1.0 / (dims + 1))
    return np.asarray(root ** -np.arange(1.0, dims + 1))


def _box_distance(points: Cells, region: Cells, grid: Grid, scale: Floats) -> Floats:
    """Return the scaled distance of each point to the bounding box of the region."""
    low, high = region.min(axis=0), region.max(axis=0)
    away = np.abs(points - (low + high) / 2.0)
    shape = np.array(grid.shape)
    away = np.where(np.array(grid.cyclic), np.minimum(away, shape - away), away)
    outside = np.maximum(away - (high - low) / 2.0, 0.0) / scale
    return np.asarray(np.sqrt(np.sum(outside**2, axis=1)))
