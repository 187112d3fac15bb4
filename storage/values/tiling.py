"""Chunks out of an array, and an array out of chunks: many of one shape at once.

What is done for each of many small chunks takes much longer than what is done with an array of
them.  They are given as `ChunkGrid.runs` has them.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gnomon.storage.values.grid import Index

__all__ = ["chunks_of", "joined", "parted"]


def chunks_of(
    values: NDArray[Any], sizes: Index, places: NDArray[np.integer], shape: Index
) -> NDArray[Any]:
    """Return some chunks of one shape, a copy (chunk, lead, *cells).

    Parameters
    ----------
    values
        (lead, *dims).
    sizes
        Cells of a chunk along each dimension, but at the edges.
    places
        Their indices (chunk, dim) on the array's own chunk grid.
    shape
        Theirs.
    """
    every, where = _apart(values, sizes, places, shape)
    inside: tuple[Any, ...] = tuple(slice(0, n) for n in shape)
    return np.asarray(every[where][:, :, *inside])


def joined(
    runs: Sequence[NDArray[Any]], sizes: Index, places: NDArray[np.integer], shape: Index
) -> NDArray[Any]:
    """Return an array (lead, *dims) that has some chunks in their places, and else zeros.

    Parameters
    ----------
    runs
        Chunks (chunk, lead, *cells) of one shape each.
    sizes
        Cells of a chunk along each dimension, but at the edges.
    places
        Indices (chunk, dim) of all of them on the array's own chunk grid.
    shape
        Of the array, without `lead`.
    """
    whole = np.zeros((runs[0].shape[1], *shape), runs[0].dtype)
    start = 0
    for run in runs:
        cells = run.shape[2:]
        every, where = _apart(whole, sizes, places[start : start + len(run)], cells)
        inside: tuple[Any, ...] = (*where, slice(None), *(slice(0, n) for n in cells))
        every[inside] = run
        start += len(run)
    return whole


def _apart(
    values: NDArray[Any], sizes: Index, places: NDArray[np.integer], shape: Index
) -> tuple[NDArray[Any], tuple[NDArray[np.integer], ...]]:
    """Return a view (*grid, lead, *cells) of what has the chunks of one shape, and where they are.

    The first axis of the grid is one of one: a single value has no others.
    """
    region, split, where = [slice(None)], [1, len(values)], [np.zeros(len(places), np.intp)]
    for along, n, size, cells in zip(places.T, values.shape[1:], sizes, shape, strict=True):
        whole = n // size * size
        is_cut = cells < size and whole < n  # the last ones
        region.append(slice(whole, n) if is_cut else slice(0, whole))
        split += [1, cells] if is_cut else [n // size, size]
        where.append(np.zeros_like(along) if is_cut else along)
    axes = range(len(split))
    return values[*region].reshape(split).transpose(*axes[::2], *axes[1::2]), tuple(where)


def parted(rows: NDArray[np.integer]) -> list[NDArray[np.intp]]:
    """Return which rows of a table (row, column) equal each other, in order."""
    if (rows == rows[:1]).all():  # as mostly
        return [np.arange(len(rows))] if len(rows) else []
    _, which = np.unique(rows, axis=0, return_inverse=True)
    by_row = np.argsort(which, kind="stable")
    return np.split(by_row, np.flatnonzero(np.diff(which[by_row])) + 1)
