"""Chunks, units and shards of a captured variable, chosen to fit the chunks of its source."""

from math import ceil, prod

__all__ = ["choose_chunks", "choose_shards", "choose_units"]

MIN_CHUNKS = 16
"""A small field is split at least this far, so that damage has a place."""
MIN_CELLS = 256
"""No chunk is split below this many cells for the sake of `MIN_CHUNKS`."""
MAX_CHUNK_BYTES = 2**22
"""Larger source chunks are split."""
SHARD_BYTES = 2**24
"""Chunks are grouped into stored objects of about this size."""
MIN_SHARDS = 4
"""Fields are cut into at least this many, for workers to share,"""
MIN_SHARD_BYTES = 2**21
"""but not smaller than this: many small objects cost more than they gain."""
MIN_CHUNK_BYTES = 2**16
"""Smaller source chunks are taken together, as long as there are more than `MIN_CHUNKS`."""
UNIT_BYTES = 2**18
"""Chunks smaller than this are compressed together: a stream of a few numbers packs badly."""
READ_BYTES = 2**27
"""Memory for all steps of one source chunk."""


def choose_chunks(
    shape: tuple[int, ...], source: tuple[int, ...], itemsize: int
) -> tuple[int, ...]:
    """Return chunks that fit the source's: small enough to place damage, not smaller.

    Large chunks of the source are divided evenly, small ones are taken together, so that no chunk
    straddles two of the source's, which is how damage arrives and what is read at once.
    """
    chunks = [max(1, min(c, n)) for c, n in zip(source, shape, strict=True)]

    def count() -> int:
        return prod(ceil(n / c) for n, c in zip(shape, chunks, strict=True))

    while count() > MIN_CHUNKS and 2 * prod(chunks) * itemsize <= MIN_CHUNK_BYTES:
        parts = [ceil(n / c) for n, c in zip(shape, chunks, strict=True)]
        most = max(range(len(chunks)), key=lambda axis: parts[axis])
        chunks[most] *= 2

    def too_few() -> bool:
        return count() < MIN_CHUNKS and prod(chunks) >= 2 * MIN_CELLS

    def too_large() -> bool:
        return prod(chunks) > 1 and prod(chunks) * itemsize > MAX_CHUNK_BYTES

    free = [c >= n for c, n in zip(source, shape, strict=True)]
    while too_few() or too_large():
        parts = [_part(size, is_free) for size, is_free in zip(chunks, free, strict=True)]
        even = [axis for axis, part in enumerate(parts) if 8 * part > chunks[axis] > 1]
        if not even and not too_large():
            break
        longest = max(even or range(len(chunks)), key=lambda axis: chunks[axis])
        chunks[longest] = parts[longest]
    return tuple(min(c, max(1, n)) for c, n in zip(chunks, shape, strict=True))


def _part(size: int, is_free: bool) -> int:
    """Return the largest part that a chunk can be divided into, or its half if that is free."""
    if is_free or size < 2:
        return ceil(size / 2)
    return next(size // n for n in range(2, size + 1) if size % n == 0)


def choose_shards(
    shape: tuple[int, ...],
    chunks: tuple[int, ...],
    source: tuple[int, ...],
    itemsize: int,
    steps: int,
) -> tuple[int, ...]:
    """Return how many chunks are stored together, and read from the source at once.

    Of a source that is chunked along time, all steps of a chunk are read together.
    """
    limit = max(MIN_SHARD_BYTES, prod(shape) * itemsize // MIN_SHARDS)
    limit = min(SHARD_BYTES, limit, READ_BYTES // max(1, steps))
    return _group(shape, chunks, source, limit // itemsize)


def choose_units(
    shape: tuple[int, ...], chunks: tuple[int, ...], source: tuple[int, ...], itemsize: int
) -> tuple[int, ...]:
    """Return how many chunks are compressed together, as `UNIT_BYTES` asks for."""
    return _group(shape, chunks, source, UNIT_BYTES // itemsize)


def _group(
    shape: tuple[int, ...], chunks: tuple[int, ...], source: tuple[int, ...], limit: int
) -> tuple[int, ...]:
    """Return the size of a group of neighbouring chunks with about so many cells, at least one.

    Like a chunk, a group ends where a chunk of the source ends, or divides it evenly.
    """
    group = list(chunks)
    for axis in reversed(range(len(shape))):
        size, source_size, n = chunks[axis], max(1, source[axis]), shape[axis]
        room = limit // max(1, prod(group))
        count = ceil(n / size)
        most = max(1, min(count, room))
        fitting = (
            k
            for k in range(most, 0, -1)
            if k == count or not (size * k % source_size and source_size % (size * k))
        )
        taken = next(fitting, most)
        group[axis] = size * taken
        if taken < count:
            break
    return tuple(group)
