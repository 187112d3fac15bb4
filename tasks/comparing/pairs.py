"""Pairs: the chunks of two states side by side, by digest where that is enough."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from gnomon.storage.log.readings import is_close
from gnomon.storage.values.grid import Block, Index
from gnomon.storage.values.meaning import read_alike
from gnomon.storage.values.model import Variable
from gnomon.tasks.comparing.states import Chunk, ChunkFilter, Live, State

__all__ = ["Pair", "Part", "bits", "pairs", "parts"]

TOGETHER = 8
"""Chunks of a part: what a thread takes in one go."""

Floats = NDArray[np.float64]
Part = Block | list[Index]
"""Of a live dataset, a block whose chunks are read together."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One chunk of two states; arrays in its shape."""

    index: Index
    """On the chunk grid."""
    first: Chunk
    """Of the first state."""
    second: Chunk
    """Of the second."""
    differs: NDArray[np.bool_]
    """Cells that differ in any bit; of two packings, by more than these round; of estimates, as
    numbers, NaN equal to NaN. All cells of a chunk that one of them cannot decode."""

    @property
    def error(self) -> Floats | None:
        """Standard error of the difference, NaN where it is unknown, 0 where no cell of the two is
        an estimate; None if none is.

        Errors of two estimates count as independent: where they share what they rest on, their
        difference is smaller than that.
        """
        errors = [chunk.error for chunk in (self.first, self.second) if chunk.error is not None]
        return np.sqrt(sum(error**2 for error in errors)) if errors else None

    @property
    def is_unreadable(self) -> bool:
        """Whether one of them cannot be decoded."""
        return self.first.is_unreadable or self.second.is_unreadable


def parts(first: State, second: State, variable: Variable) -> Iterator[Part]:
    """Yield the parts of a variable that threads may take side by side."""
    live = _live(first, second)
    if live is not None:
        yield from live.blocks(variable)
        return
    indices = variable.grid.indices()
    while part := list(islice(indices, TOGETHER)):
        yield part


def pairs(
    part: Part,
    first: State,
    second: State,
    variable: Variable,
    *,
    wanted: ChunkFilter = lambda _: True,
    every: bool = False,
) -> Iterator[Pair]:
    """Yield the chunks of a part in two states, one after the other: memory is that of a few.

    Parameters
    ----------
    part
        One of `parts`.
    wanted
        Which chunks are looked at.
    every
        Also those whose digests tell that they are the same, which are not read otherwise.

    Raises
    ------
    Integrity
        A chunk that is needed is damaged in the repository.
    """
    for index in _indices(part, _live(first, second), variable, wanted):
        if _is_same(first, second, variable, index):
            if every:
                chunk = first.chunk(variable, index)
                yield Pair(index, chunk, chunk, np.zeros(chunk.values.shape, bool))
            continue
        before, after = first.chunk(variable, index), second.chunk(variable, index)
        yield Pair(index, before, after, _differing(before, after))


def _indices(
    part: Part, live: Live | None, variable: Variable, wanted: ChunkFilter
) -> Iterator[Index]:
    if not isinstance(part, Block):
        return filter(wanted, part)
    assert live is not None
    return live.indices(variable, part, wanted)


def _live(first: State, second: State) -> Live | None:
    return next((state for state in (first, second) if isinstance(state, Live)), None)


def _is_same(first: State, second: State, variable: Variable, index: Index) -> bool:
    """Tell by digest whether a chunk is the same in both."""
    signatures = first.signature(variable, index), second.signature(variable, index)
    if signatures[0] is None or signatures[1] is None:
        return False
    (digest, packing), (other, its_packing) = signatures[0], signatures[1]
    # Packed otherwise, other bits may be the same numbers, and the same bits others.
    return digest == other and read_alike(packing, its_packing)


def _differing(first: Chunk, second: Chunk) -> NDArray[np.bool_]:
    if first.is_unreadable or second.is_unreadable:
        return np.full(first.values.shape, first.is_unreadable != second.is_unreadable)
    if first.raw is None or second.raw is None:
        return np.asarray(~is_close(first.values, second.values, first.packing))
    if read_alike(first.packing, second.packing):
        return np.asarray(bits(first.raw) != bits(second.raw))
    return ~is_close(first.values, second.values, first.packing, second.packing)


def bits(values: NDArray[np.generic]) -> NDArray[np.generic]:
    """Return values that are equal where the bits are, NaN and NaT included."""
    if values.dtype.kind in "fcMm":
        return np.asarray(values, order="C").view(np.dtype((np.void, values.dtype.itemsize)))
    return values
