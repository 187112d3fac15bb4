"""Lossless coding of a chunk against a base, as integers that compress well.

A value of any fixed-width type maps to a signed integer of its width, floats in such a way that
the order of the numbers is kept; two states are then subtracted modulo 2^width.  Every bit comes
back: NaN payloads, signed zeros, all integers.  A *key* is the mapped state itself.
"""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import prod

import numpy as np
import xxhash
from numpy.typing import NDArray

from gnomon.storage.arrays.layout import compressor, is_pcodec
from gnomon.storage.arrays.text import text_bytes
from gnomon.storage.values.dtypes import atom, is_text

__all__ = [
    "GAIN",
    "added",
    "compressed_size",
    "digest",
    "digests",
    "hasher",
    "needs_search",
    "ordered",
    "planar",
    "residual_dtype",
    "restored",
    "sample",
    "sampled_size",
    "stack",
    "stacks_of",
    "straightened",
    "subtracted",
]

GAIN = 0.9
"""A delta is kept only at this share of a key's bytes or less: reading it costs more."""
LOADED_BYTES, UNLOADED_BYTES = 2**24, 2**28
"""What a process straightens in NumPy before it loads a compiled loop, which takes a tenth of the
time: with Numba there already, and where it must be loaded, too."""
LONG_ROW = 128
"""Cells from which on rows are added up one by one."""
WORTH = 0.97
"""Share of the bytes below which a search for differences is worth its time."""
SAMPLE = 3072
"""Values of a chunk that are compressed both ways to choose between key and delta."""


def residual_dtype(dtype: np.dtype[np.generic]) -> np.dtype[np.signedinteger]:
    """Return the signed integer type of the width of the numbers that values are made of."""
    return np.dtype(f"<i{atom(dtype)[0].itemsize}")


def ordered(values: NDArray[np.generic]) -> NDArray[np.signedinteger]:
    """Map values to signed integers, one to one, order kept for floats.

    For floats the bits are read as sign and magnitude and turned to two's complement.  Values
    that are made of several numbers become a last axis.
    """
    part, width = atom(values.dtype)
    numbers = np.asarray(values, order="C")
    if width > 1:
        numbers = numbers.reshape(*numbers.shape, 1).view(part)
    bits = numbers.view(residual_dtype(values.dtype))
    return _flip_magnitude(bits) if part.kind == "f" else bits


def restored(
    integers: NDArray[np.signedinteger], dtype: np.dtype[np.generic]
) -> NDArray[np.generic]:
    """Return the values that :func:`ordered` mapped to these integers."""
    part, width = atom(dtype)
    bits = np.asarray(_flip_magnitude(integers) if part.kind == "f" else integers, order="C")
    return bits.view(dtype)[..., 0] if width > 1 else bits.view(dtype)


def _flip_magnitude(bits: NDArray[np.signedinteger]) -> NDArray[np.signedinteger]:
    """Turn sign and magnitude into two's complement, or back: negative bits are flipped."""
    mask = bits.dtype.type(np.iinfo(bits.dtype).max)
    # The shift spreads the sign over all bits, without a branch; the sign itself is not flipped, so
    # that the same step leads back. In place, on an array of its own.
    flipped = np.asarray(bits >> bits.dtype.type(8 * bits.dtype.itemsize - 1))
    flipped &= mask
    flipped ^= bits
    return flipped


def subtracted(
    key: NDArray[np.signedinteger], base: NDArray[np.signedinteger]
) -> NDArray[np.signedinteger]:
    """Return key - base modulo 2^width."""
    with np.errstate(over="ignore"):  # NumPy warns where both have no dimensions
        return np.asarray(key - base)


def added(
    delta: NDArray[np.signedinteger], base: NDArray[np.signedinteger]
) -> NDArray[np.signedinteger]:
    """Return base + delta modulo 2^width: undoes :func:`subtracted`."""
    with np.errstate(over="ignore"):
        return np.asarray(delta + base)


def planar(integers: NDArray[np.signedinteger]) -> NDArray[np.signedinteger]:
    """Return differences along the last two axes, modulo 2^width: the bends of a field, not slopes.

    Notes
    -----
    The Lorenzo predictor (Ibarria, Lindstrom, Rossignac and Szymczak, 2003).  It is linear, so
    that a chain of residuals is added up first and undone once.
    """
    rows = np.empty(integers.shape, integers.dtype)
    rows[..., :1, :] = integers[..., :1, :]
    np.subtract(integers[..., 1:, :], integers[..., :-1, :], out=rows[..., 1:, :])
    bent = np.empty(integers.shape, integers.dtype)
    bent[..., :1] = rows[..., :1]
    np.subtract(rows[..., 1:], rows[..., :-1], out=bent[..., 1:])
    return bent


def straightened(bent: NDArray[np.signedinteger]) -> NDArray[np.signedinteger]:
    """Undo :func:`planar`."""
    if _loops.are_worth_loading(bent.nbytes):
        from gnomon.storage.arrays.kernels import straighten

        result = np.empty(bent.shape, bent.dtype)
        sizes = bent.shape[-2:]
        # Contiguous, as of every layout there would be another compiled loop.
        straighten(np.ascontiguousarray(bent).reshape(-1, *sizes), result.reshape(-1, *sizes))
        return result
    summed = np.asarray(np.cumsum(bent, axis=-1, dtype=bent.dtype))
    if bent[..., 0, :].size < LONG_ROW:
        return np.asarray(np.cumsum(summed, axis=-2, dtype=bent.dtype))
    # NumPy sums along this axis cell by cell; row by row takes half the time.
    for row in range(1, bent.shape[-2]):
        summed[..., row, :] += summed[..., row - 1, :]
    return summed


@dataclass(slots=True)
class _Loops:
    """How much this process has straightened, by which it pays to load compiled loops."""

    straightened: int = 0
    """Bytes."""

    def are_worth_loading(self, nbytes: int) -> bool:
        """Tell whether loops are to straighten so many bytes more."""
        self.straightened += nbytes
        least = LOADED_BYTES if "numba" in sys.modules else UNLOADED_BYTES
        return bool(nbytes) and self.straightened >= least


_loops = _Loops()


def stack[T: np.generic](chunks: Sequence[NDArray[T]]) -> NDArray[T]:
    """Return chunks of one shape as an array (chunk, *cells); of one, which may be large, a view.

    What is done with the array of many small chunks takes a fraction of the time.
    """
    return chunks[0][None] if len(chunks) == 1 else np.stack(chunks)


def stacks_of[T: np.generic](chunks: Iterable[NDArray[T]]) -> list[NDArray[T]]:
    """Return chunks as arrays (chunk, *cells) of those that follow each other and have one shape.

    At the edges of a grid chunks are smaller than the others.
    """
    return [stack([*run]) for _, run in groupby(chunks, np.shape)]


def sample(
    stacks: Sequence[NDArray[np.signedinteger]],
) -> list[NDArray[np.signedinteger]]:
    """Return some rows from the middle of every chunk, `SAMPLE` values or a little more in all.

    Parameters
    ----------
    stacks
        Chunks of one shape, each (chunk, *cells).
    """
    share = max(256, SAMPLE // sum(map(len, stacks)))
    parts = []
    for chunks in stacks:
        width = chunks.shape[-1] if chunks.ndim >= 3 else 1
        rows = chunks.reshape(len(chunks), -1, width)
        # Two whole rows at least, of which planar differences can be taken.
        count = max(2, -(-share // max(1, width)))
        middle = max(0, (rows.shape[1] - count) // 2)
        parts.append(rows[:, middle : middle + count])
    return parts


def sampled_size(parts: Sequence[NDArray[np.signedinteger]], *, bent: bool = False) -> int:
    """Return the bytes that integers take when they are stored together.

    Parameters
    ----------
    bent
        Whether they are planar differences, which are searched only where it is worth its time.
    """
    values = np.concatenate([part.reshape(-1) for part in parts])
    size = compressed_size(values)
    if not bent:
        return size
    plain = compressed_size(values, search=False)
    return size if size < WORTH * plain else plain


def compressed_size(values: NDArray[np.signedinteger], *, search: bool = True) -> int:
    """Return the bytes that the integers of a chunk take when they are stored."""
    return len(compressor(values.dtype, search=search).encode(np.ascontiguousarray(values)))


def needs_search(bent: NDArray[np.signedinteger]) -> bool:
    """Tell whether planar differences become smaller if differences of them are taken again.

    For measured data they seldom do, and the search may even harm; for very smooth fields, such as
    those of models, they do.  The answer depends on the values alone, so that a repair comes to the
    same.
    """
    if not is_pcodec(bent.dtype):
        return False
    values = np.concatenate([part.reshape(-1) for part in sample([bent[None]])])
    return compressed_size(values) < WORTH * compressed_size(values, search=False)


def digest(variable: str, index: tuple[int, ...], values: NDArray[np.generic]) -> bytes:
    """Return the 16-byte content hash of a chunk at its address.

    Hashed are the variable, the chunk index, the type, the shape and the bytes, so that a chunk
    that is swapped with another, or stale, is as visible as a flipped bit.
    """
    data = np.asarray(values, order="C")
    kind = "text" if is_text(data.dtype) else data.dtype.str
    state = hasher(variable, index, kind, data.shape)
    state.update(text_bytes(data) if kind == "text" else data.reshape(-1).view(np.uint8))
    return state.digest()


def digests(
    variable: str, indices: Iterable[tuple[int, ...]], values: NDArray[np.generic]
) -> NDArray[np.int64]:
    """Return the `digest` of several chunks of numbers (chunk, *cells) as two columns each."""
    data = np.asarray(values, order="C")
    raw = data.reshape(-1).view(np.uint8).data
    size = data.itemsize * prod(data.shape[1:])
    hashed = []
    for k, index in enumerate(indices):
        state = hasher(variable, index, data.dtype.str, data.shape[1:])
        state.update(raw[k * size : (k + 1) * size])
        hashed.append(state.digest())
    return np.frombuffer(b"".join(hashed), "<i8").reshape(-1, 2)


def hasher(
    variable: str, index: tuple[int, ...], kind: str, shape: tuple[int, ...]
) -> xxhash.xxh3_128:
    """Return what makes the `digest` of a chunk whose bytes come one part after the other."""
    # Parted by NUL, no two addresses are the same text.
    return xxhash.xxh3_128(f"{variable}\0{index}\0{kind}\0{shape}\0".encode())
