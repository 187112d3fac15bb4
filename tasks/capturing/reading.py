"""Reading a source in pieces that fit in memory, each of its chunks once."""

from collections.abc import Iterator, Sequence
from math import ceil, prod

from gnomon.storage.values.grid import Block, ChunkGrid, Index

__all__ = ["capturing_grid", "reading_grid", "spans"]

SPAN_BYTES = 2**27
"""Of a source that is chunked along time, as much of a block is read at once."""

SHARED_BYTES = 2**24
"""A chunk of the source is read for each block that needs part of it, if it is no larger: to read
it takes a fraction of the time that it takes to capture."""
ENOUGH = 4
"""Blocks that keep workers busy: with so many, nothing need be read twice."""


def capturing_grid(grid: ChunkGrid, source_chunks: Index, cell_nbytes: int) -> ChunkGrid:
    """Return the grid of the blocks that workers capture: as of `reading_grid`, or shards.

    Shards, where those would be few, and little is read twice.

    Parameters
    ----------
    cell_nbytes
        Bytes that a chunk of the source has for each cell, of all its steps.
    """
    whole = reading_grid(grid, source_chunks)
    count = prod(ceil(n / size) for n, size in zip(whole.shape, whole.shards, strict=True))
    is_small = prod(source_chunks) * cell_nbytes <= SHARED_BYTES
    return grid if is_small and count < ENOUGH else whole


def reading_grid(grid: ChunkGrid, source_chunks: Index) -> ChunkGrid:
    """Return a grid whose blocks hold whole shards and, where those are larger, source chunks.

    A chunk of the source can only be read whole; a worker should not read it twice.
    """
    blocks = tuple(
        shard * max(1, ceil(chunk / shard))
        for shard, chunk in zip(grid.shards, source_chunks, strict=True)
    )
    return ChunkGrid(grid.shape, grid.chunks, blocks)


def spans(
    positions: Sequence[int] | None, steps: int, block: Block, itemsize: int
) -> Iterator[list[int]]:
    """Yield the numbers of states that are read together: those of one source chunk.

    Parameters
    ----------
    positions
        Their indices along time in the source; None for the one state of a state source.
    steps
        Steps of a source chunk.
    """
    if positions is None:
        yield [0]
        return
    size = prod(s.stop - s.start for s in block.cells) * itemsize
    most = max(1, min(steps, SPAN_BYTES // max(1, size)))
    span: list[int] = []
    for k, position in enumerate(positions):
        if span and (len(span) == most or position // steps != positions[span[0]] // steps):
            yield span
            span = []
        span.append(k)
    if span:
        yield span
