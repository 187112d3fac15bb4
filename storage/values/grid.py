"""Regular chunk grids: which cells a chunk holds, and which chunks a worker takes together."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from math import ceil, prod
from sys import maxsize
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Block", "ChunkGrid", "Index", "cut"]

Index = tuple[int, ...]


def cut(values: NDArray[Any], cells: tuple[slice, ...]) -> NDArray[Any]:
    """Return a region of an array, contiguous; an array also where it has no dimensions."""
    where: tuple[Any, ...] = (..., *cells)
    return np.asarray(values[where], order="C")


@dataclass(frozen=True, slots=True)
class Block:
    """The chunks of one shard: what one worker reads and writes in one go."""

    start: Index
    """First cell along each dimension."""
    stop: Index
    """One past the last cell along each dimension."""
    first_chunk: Index
    """Grid index of the first chunk."""
    grid: Index
    """Number of chunks along each dimension."""

    @property
    def cells(self) -> tuple[slice, ...]:
        """Slices of the whole array that this block covers."""
        return tuple(slice(a, b) for a, b in zip(self.start, self.stop, strict=True))

    @property
    def chunks(self) -> tuple[slice, ...]:
        """Slices of the chunk grid that this block covers."""
        return tuple(slice(a, a + n) for a, n in zip(self.first_chunk, self.grid, strict=True))


@dataclass(frozen=True, slots=True)
class ChunkGrid:
    """A regular chunk grid over an array; zero-dimensional arrays have one chunk."""

    shape: Index
    """Cells along each dimension."""
    chunks: Index
    """Cells of a chunk along each dimension; edge chunks are cut off."""
    shards: Index
    """Cells of a shard along each dimension, a multiple of the chunks."""

    @property
    def counts(self) -> Index:
        """Number of chunks along each dimension."""
        return tuple(ceil(n / c) for n, c in zip(self.shape, self.chunks, strict=True))

    @property
    def size(self) -> int:
        """Number of chunks."""
        return prod(self.counts)

    def indices(self) -> Iterator[Index]:
        """Yield the index of every chunk in row-major order."""
        return product(*(range(n) for n in self.counts))

    def cells(self, index: Index) -> tuple[slice, ...]:
        """Return the slices of the array that a chunk covers."""
        return tuple(
            slice(i * c, min((i + 1) * c, n))
            for i, c, n in zip(index, self.chunks, self.shape, strict=True)
        )

    def places(self, indices: Sequence[Index]) -> NDArray[np.int64]:
        """Return the indices of some chunks as a table, int64 (chunk, dim)."""
        return np.array(indices, np.int64).reshape(len(indices), len(self.shape))

    def sizes(self, indices: Sequence[Index]) -> NDArray[np.int64]:
        """Return how many cells each of some chunks has."""
        return np.asarray(self._shapes(indices).prod(axis=1))

    def _shapes(self, indices: Sequence[Index]) -> NDArray[np.int64]:
        chunks, shape = np.array(self.chunks, np.int64), np.array(self.shape, np.int64)
        return np.minimum(chunks, shape - self.places(indices) * chunks)

    def runs(self, indices: Sequence[Index], most: int = maxsize) -> Iterator[tuple[Index, slice]]:
        """Yield the shapes of chunks that follow each other and have the same, and which they are.

        Of many small chunks nearly all have the same, so that they can be worked on as one array.

        Parameters
        ----------
        most
            Cells of a run; more only of a single chunk.
        """
        shapes = self._shapes(indices)
        is_new = (shapes[1:] != shapes[:-1]).any(axis=1)
        bounds = [0, *(np.flatnonzero(is_new) + 1).tolist(), len(indices)]
        for start, stop in pairwise(bounds):
            shape = tuple(shapes[start].tolist())
            step = max(1, min(most // max(1, prod(shape)), stop - start))
            for first in range(start, stop, step):
                yield shape, slice(first, min(first + step, stop))

    def split(self, indices: Sequence[Index], values: NDArray[Any]) -> Iterator[NDArray[Any]]:
        """Yield views of the cells (*chunk) of chunks whose cells follow each other (cell,)."""
        end = 0
        for shape, run in self.runs(indices):
            start, end = end, end + (run.stop - run.start) * prod(shape)
            yield from values[start:end].reshape(-1, *shape)

    def blocks(self) -> Iterator[Block]:
        """Yield the blocks that cover the array."""
        for corner in product(
            *(range(0, n, s) for n, s in zip(self.shape, self.shards, strict=True))
        ):
            stop = tuple(
                min(a + s, n) for a, s, n in zip(corner, self.shards, self.shape, strict=True)
            )
            first = tuple(a // c for a, c in zip(corner, self.chunks, strict=True))
            counts = tuple(
                ceil((b - a) / c) for a, b, c in zip(corner, stop, self.chunks, strict=True)
            )
            yield Block(corner, stop, first, counts)

    def inner(self, block: Block) -> Iterator[tuple[Index, Index, tuple[slice, ...]]]:
        """Yield the chunks of a block.

        Yields
        ------
        index
            The chunk's index on the whole grid.
        local
            Its index on the block's own grid.
        cells
            The slices of the block that it covers.
        """
        along = list(zip(block.first_chunk, block.grid, strict=True))
        sizes = zip(along, self.chunks, self.shape, block.start, strict=True)
        # Axis by axis: of many small chunks, what is done for each of them counts.
        cells = [
            [slice(i * c - a, min((i + 1) * c, n) - a) for i in range(first, first + count)]
            for (first, count), c, n, a in sizes
        ]
        return zip(
            product(*(range(first, first + count) for first, count in along)),
            product(*(range(count) for _, count in along)),
            product(*cells),
            strict=True,
        )
