"""Regular chunk grids: which cells a chunk holds, and which chunks a worker takes together."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from math import ceil, prod
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
        for local in product(*(range(n) for n in block.grid)):
            index = tuple(a + i for a, i in zip(block.first_chunk, local, strict=True))
            cells = tuple(
                slice(s.start - a, s.stop - a)
                for s, a in zip(self.cells(index), block.start, strict=True)
            )
            yield index, local, cells
