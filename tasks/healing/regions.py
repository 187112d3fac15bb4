"""Geometry of damaged regions: their groups, their surroundings, and intact look-alikes.

Pure index arithmetic on grids whose axes may wrap. Cells are flat numbers in C order.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import label
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Cells = NDArray[np.intp]
Mask = NDArray[np.bool_]

_MOST_HOLES, _MOST_GROUPS = 100, 16
"""Holes that are estimated by themselves, and groups of them that are judged by themselves: bound
the time. With fewer, holes that lie farther apart share observers, and the verdict on one of
them."""
_FINEST_SPLIT = 128
"""Tiles along an axis are half of this at first, and half again until few enough hold a centre."""
_MOST_PROBES = 500
"""Cells of a hole that tell how much of a copy is intact: all of them, for every shift, take
long."""
_SHIFTS = {1: 8, 2: 5, 3: 3}
"""Steps of half an extent each way, by the number of axes; 2 for more: the shifts that are tried
grow with the power of the axes. Farther copies are less like the hole."""
_FEWEST_COPIES = 3
"""Copies below which a hole is halved: two say little of how much an error varies."""
_FEWEST_LEFT = 10
"""Intact cells that a copy must leave to estimate it from, as many as a hole needs."""


@dataclass(frozen=True, slots=True)
class Grid:
    """The shape of a grid and which of its axes wrap.

    Parameters
    ----------
    shape : tuple of int
        Cells along each axis.
    cyclic : tuple of bool
        Whether each axis wraps.
    """

    shape: tuple[int, ...]
    cyclic: tuple[bool, ...]


def group_damage(damaged: Mask, cyclic: tuple[bool, ...]) -> list[list[Cells]]:
    """Return at most 16 groups of neighbouring holes, each a list of holes, each of damaged cells.

    Parameters
    ----------
    damaged : ndarray of bool, shape (*dims)
        Damaged cells; diagonal neighbours are connected.
    cyclic : tuple of bool
        Whether each axis wraps, so that a region may cross the seam.

    Notes
    -----
    A hole is one connected region; when there are more than 100, those with neighbouring centres
    count as one.
    """
    regions, count = label(damaged, structure=np.ones((3,) * damaged.ndim))
    pairs = [np.zeros((0, 2), dtype=np.intp)]
    for axis in (a for a, wraps in enumerate(cyclic) if wraps):
        # `label` knows no axis that wraps: holes at both ends of one are joined here.
        ends = np.take(regions, [0, -1], axis=axis)
        seam = np.moveaxis(ends, axis, -1).reshape(-1, 2)
        pairs.append(seam[(seam > 0).all(axis=1)] - 1)
    first, second = np.concatenate(pairs).T
    links = coo_array((np.ones(len(first)), (first, second)), shape=(count, count))
    _, joined = connected_components(links, directed=False)
    cells = np.flatnonzero(damaged)
    hole = _merge_near(joined[regions.ravel()[cells] - 1], cells, damaged.shape, _MOST_HOLES)
    group = _merge_near(hole, cells, damaged.shape, _MOST_GROUPS)
    return [_partition(cells[group == g], hole[group == g]) for g in np.unique(group)]


def _partition(cells: Cells, member: Cells) -> list[Cells]:
    """Return the cells of each member, in the order of the members' numbers."""
    order = np.argsort(member, kind="stable")
    return np.split(cells[order], np.flatnonzero(np.diff(member[order])) + 1)


def _merge_near(member: Cells, cells: Cells, shape: tuple[int, ...], most: int) -> Cells:
    """Return coarser numbers per cell: tiles of members' centres, so that at most `most` remain."""
    _, member = np.unique(member, return_inverse=True)
    counts = np.bincount(member)
    index = np.unravel_index(cells, shape)
    centre = np.stack([np.bincount(member, weights=i) / counts for i in index], axis=1)
    tiles, split = np.arange(len(counts)), _FINEST_SPLIT
    while len(np.unique(tiles)) > most:
        split //= 2
        corner = np.floor(centre * split / np.array(shape)).astype(np.intp)
        tiles = np.ravel_multi_index(tuple(corner.T), (split,) * len(shape))
    return np.asarray(tiles[member], dtype=np.intp)


def surround(cells: Cells, grid: Grid, most_cells: int) -> tuple[tuple[Cells, ...], Grid]:
    """Return the index along each axis of a box around the cells, and the box's own grid.

    Parameters
    ----------
    cells : ndarray of intp, shape (n,)
        The damaged region.
    grid : Grid
        The whole grid.
    most_cells : int
        Bound on the size of the box, where the region itself allows it.

    Notes
    -----
    A cyclic axis is turned so that the region never crosses the seam of the box; it stays
    cyclic only when the box holds all of it.
    """
    spans = [
        _span(np.unique(index), size, wraps)
        for index, size, wraps in zip(
            np.unravel_index(cells, grid.shape), grid.shape, grid.cyclic, strict=True
        )
    ]
    limits = np.array(grid.shape, dtype=float)
    extents = np.array([extent for _, extent in spans], dtype=float)
    reach = 64.0
    while np.prod(np.minimum(limits, extents * (1 + reach) + 8 * reach)) > most_cells:
        reach *= 0.8
        if reach < 0.1:
            break
    axes = []
    for (start, extent), size, wraps in zip(spans, grid.shape, grid.cyclic, strict=True):
        margin = int(np.ceil((extent * reach + 8 * reach) / 2))
        if wraps:
            wide = min(size, extent + 2 * margin)
            axes.append((start - (wide - extent) // 2 + np.arange(wide)) % size)
        else:
            axes.append(np.arange(max(0, start - margin), min(size, start + extent + margin)))
    whole = [len(index) == size for index, size in zip(axes, grid.shape, strict=True)]
    cyclic = tuple(bool(w and c) for w, c in zip(whole, grid.cyclic, strict=True))
    return tuple(axes), Grid(tuple(len(index) for index in axes), cyclic)


def _span(used: Cells, size: int, wraps: bool) -> tuple[int, int]:
    """Return the start and extent of the shortest run that holds all used indices."""
    if not wraps:
        return int(used[0]), int(used[-1] - used[0] + 1)
    # On a circle the shortest run is all but the widest gap.
    gaps = np.diff(used, append=used[0] + size)
    widest = int(np.argmax(gaps))
    return int(used[(widest + 1) % len(used)]), int(size - gaps[widest] + 1)


def copy_hole(
    hole: Cells, labels: Cells, is_intact: Mask, grid: Grid, most: int
) -> list[tuple[Cells, Cells]]:
    """Return intact regions that have the shape of the hole, its translated copies, with labels.

    Parameters
    ----------
    hole : ndarray of intp, shape (n,)
        Cells to be estimated.
    labels : ndarray of intp, shape (n,)
        The part of the hole that each belongs to.
    is_intact : ndarray of bool, shape (*dims)
        Intact cells; a copy is cut down to them, and at least half of it must be intact.
    grid : Grid
        The grid; the hole must not cross a seam.
    most : int
        How many copies to return at most.

    Notes
    -----
    Copies that touch the same edges of the grid as the hole, and that are whole, come first. A
    hole too large to be copied at least three times is halved in size until it can be.
    """
    points = np.stack(np.unravel_index(hole, grid.shape), axis=1)
    while True:
        copies = _translate(points, labels, is_intact, grid, most)
        extent = points.max(axis=0) - points.min(axis=0)
        if len(copies) >= _FEWEST_COPIES or not extent.any():
            return copies
        corner = points.min(axis=0)
        points, first = np.unique(corner + (points - corner) // 2, axis=0, return_index=True)
        labels = labels[first]


def _translate(
    points: Cells, labels: Cells, is_intact: Mask, grid: Grid, most: int
) -> list[tuple[Cells, Cells]]:
    """Return the best translated copies of the points as flat intact cells, and their labels."""
    probes = points[:: -(-len(points) // _MOST_PROBES)]
    low, high = points.min(axis=0), points.max(axis=0)
    touched = _touches(low, high, grid)
    candidates = []
    for number, shift in enumerate(product(*_shifts(low, high, grid))):
        offset = np.array(shift)
        cells, _ = _place(probes + offset, grid)
        fraction = is_intact.ravel()[cells].sum() / len(probes)
        if fraction >= 0.5:
            unlike = int(np.sum(touched != _touches(low + offset, high + offset, grid)))
            # By the golden ratio, copies that are equally good come from all over the field.
            spread = (number * 0.6180339887) % 1.0
            # A quarter that is missing is as bad as one edge that the hole does not touch.
            candidates.append((round(unlike + 4.0 * (1.0 - fraction)), spread, shift))
    copies = []
    for _, _, shift in sorted(candidates)[:most]:
        cells, inside = _place(points + np.array(shift), grid)
        intact = is_intact.ravel()[cells]
        count = int(intact.sum())
        if count and is_intact.sum() - count >= max(count, _FEWEST_LEFT):
            copies.append((cells[intact], labels[inside][intact]))
    return copies


def _shifts(low: Cells, high: Cells, grid: Grid) -> list[list[int]]:
    """Return the shifts to try along each axis: half extents, and flush with both edges."""
    most = _SHIFTS.get(len(grid.shape), 2)
    choices = []
    for a, b, size, wraps in zip(low, high, grid.shape, grid.cyclic, strict=True):
        step = max(1, (int(b - a) + 1) // 2)
        reach = min(most, size // step)
        steps = {k * step for k in range(-reach, reach + 1)}
        choices.append(sorted(steps if wraps else steps | {int(-a), int(size - 1 - b)}))
    return choices


def _touches(low: Cells, high: Cells, grid: Grid) -> Mask:
    """Return which edges a box touches or crosses, shape (2 * dims,); none of a cyclic axis."""
    last = np.array(grid.shape) - 1
    closed = ~np.array(grid.cyclic)
    return np.concatenate([(low <= 0) & closed, (high >= last) & closed])


def _place(points: Cells, grid: Grid) -> tuple[Cells, Mask]:
    """Return flat numbers of the points on the grid, wrapped where cyclic, and which are on it."""
    shape = np.array(grid.shape)
    wrapped = np.where(np.array(grid.cyclic), points % shape, points)
    inside = ((wrapped >= 0) & (wrapped < shape)).all(axis=1)
    return np.asarray(np.ravel_multi_index(tuple(wrapped[inside].T), grid.shape)), inside
