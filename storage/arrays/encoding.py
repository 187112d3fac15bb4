"""Encoding: chunks of a capture as keys, as deltas, or as nothing where nothing has changed."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice

import numpy as np
from numpy.typing import NDArray

from gnomon.storage.arrays.residuals import (
    GAIN,
    digest,
    digests,
    ordered,
    planar,
    sample,
    sampled_size,
    stacks_of,
    subtracted,
)
from gnomon.storage.errors import Integrity
from gnomon.storage.values.dtypes import is_text
from gnomon.storage.values.grid import Index

__all__ = [
    "BASE",
    "CODING",
    "COLUMNS",
    "DIGEST",
    "FILTER",
    "MAX_CHAIN",
    "STATUS",
    "UNCHANGED",
    "EncodedChunk",
    "Held",
    "Row",
    "encode_unit",
]

COLUMNS = ["base", "coding", "status", "digest_high", "digest_low", "filter"]
"""Of the index, one row per step and chunk; see `gnomon.storage.stacks.captures`."""
BASE, CODING, STATUS, DIGEST, FILTER = 0, 1, 2, slice(3, 5), 5
UNCHANGED = -1
MAX_CHAIN = 10
"""Deltas that a read may have to add up before the next one is stored as a key."""
USUAL_CHAIN = 4
"""Deltas from which on another one must save more: every read of a longer chain pays for it."""
LONG_GAIN = 0.5
"""Share of a key that a delta may take beyond that: where little changes, chains stay long."""

Row = NDArray[np.int64]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Held:
    """A chunk as an earlier capture left it: what a new one is compared with."""

    values: Callable[[], NDArray[np.generic]]
    """Gives the chunk's values; they are read only if the new ones differ."""
    digest: NDArray[np.int64]
    """Its two digest columns."""
    holder: int
    """The step that holds its bytes."""
    chain: Callable[[], int]
    """Gives how many deltas the holder needs below it; asked for as `values` are."""


@dataclass(frozen=True, slots=True)
class EncodedChunk:
    """One chunk of one step, as it goes into a slab."""

    row: Row
    """Its index columns."""
    residual: NDArray[np.signedinteger] | None
    """Integers to store; None for an unchanged chunk, and for text, which is stored itself."""
    held: Held
    """The chunk for the step that follows."""

    @property
    def is_unchanged(self) -> bool:
        """Whether the chunk has not changed."""
        return bool(self.row[CODING] == UNCHANGED)


def encode_unit(
    variable: str,
    step: int,
    chunks: Sequence[tuple[Index, NDArray[np.generic], Held | None]],
) -> list[EncodedChunk]:
    """Return the chunks of one unit of capture number `step` as they are stored.

    An unchanged chunk costs nothing.  The others are compressed together, so they are
    all keys, or all deltas if that is enough smaller.

    Parameters
    ----------
    chunks
        Index, values, and what the chunk is coded against, None for nothing.
    """
    rows = np.zeros((len(chunks), len(COLUMNS)), np.int64)
    rows[:, BASE], rows[:, DIGEST] = step, _digests(variable, chunks)
    for row, (_, _, previous) in zip(rows, chunks, strict=True):
        # By digest: of what has not changed nothing needs to be read.
        if previous is not None and previous.digest.tobytes() == row[DIGEST].tobytes():
            # Whoever holds the bytes, not the step before: unchanged steps add nothing to a read.
            row[[BASE, CODING]] = previous.holder, UNCHANGED
    changed = np.flatnonzero(rows[:, CODING] != UNCHANGED).tolist()
    integers, is_delta, bent = _coded(
        [chunks[k][1] for k in changed], [chunks[k][2] for k in changed]
    )
    coded = dict(zip(changed, chain.from_iterable(integers), strict=False))
    encoded = []
    for k, ((_, values, previous), row) in enumerate(zip(chunks, rows, strict=True)):
        if row[CODING] == UNCHANGED and previous is not None:
            encoded.append(EncodedChunk(row, None, previous))
            continue
        length = 0
        if is_delta and previous is not None:
            length = previous.chain() + 1
            row[[BASE, CODING]] = previous.holder, length
        row[FILTER] = int(bent)
        held = Held(partial(_same, values), row[DIGEST], step, partial(_same, length))
        encoded.append(EncodedChunk(row, coded.get(k), held))
    return encoded


def _digests(
    variable: str, chunks: Sequence[tuple[Index, NDArray[np.generic], Held | None]]
) -> NDArray[np.int64]:
    """Return the digest columns of chunks, int64 (chunk, 2)."""
    if is_text(chunks[0][1].dtype):
        hashed = [digest(variable, index, values) for index, values, _ in chunks]
        return np.frombuffer(b"".join(hashed), "<i8").reshape(-1, 2)
    indices = iter([index for index, _, _ in chunks])
    stacks = stacks_of(values for _, values, _ in chunks)
    return np.concatenate([digests(variable, islice(indices, len(s)), s) for s in stacks])


def _same[T](thing: T) -> T:
    return thing


Stacks = list[NDArray[np.signedinteger]]
"""Integers of chunks, (chunk, *cells) of those that follow each other and have one shape."""


def _coded(
    values: Sequence[NDArray[np.generic]], previous: Sequence[Held | None]
) -> tuple[Stacks, bool, bool]:
    """Return chunks as integers to be stored together, whether as deltas, and whether bent."""
    if not values or is_text(values[0].dtype):
        return [], False, False
    keys = [ordered(chunks) for chunks in stacks_of(values)]
    size, bent = _smallest(keys)
    known = [p for p in previous if p is not None]
    if len(known) == len(previous):
        try:
            longest = max(p.chain() for p in known)
            if longest >= MAX_CHAIN:
                return _bent(keys, bent), False, bent
            # Of integers: the difference of two floats is rounded, one modulo 2^width never.
            below = stacks_of(p.values() for p in known)
            deltas = [subtracted(k, ordered(b)) for k, b in zip(keys, below, strict=True)]
        except Integrity as error:  # damage must not stop what comes after it
            logger.warning("%s; stored without it", error)
            return _bent(keys, bent), False, bent
        delta_size, delta_bent = _smallest(deltas)
        if delta_size <= (LONG_GAIN if longest >= USUAL_CHAIN else GAIN) * size:
            return _bent(deltas, delta_bent), True, delta_bent
    return _bent(keys, bent), False, bent


def _bent(integers: Stacks, bent: bool) -> Stacks:
    return [planar(chunks) for chunks in integers] if bent else integers


def _smallest(integers: Stacks) -> tuple[int, bool]:
    """Return about how many bytes integers take, and whether planar differences take fewer."""
    rows = sample(integers)
    size = sampled_size(rows)
    first = integers[0]
    if first.ndim >= 3 and first.dtype.itemsize > 1:
        bent_size = sampled_size([planar(part) for part in rows], bent=True)
        if bent_size < size:
            return bent_size, True
    return size, False
