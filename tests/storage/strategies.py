"""Legal inputs of storage: types, special values, shapes and chunkings."""

from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from gnomon.storage.values.grid import ChunkGrid

DTYPES = [
    np.dtype(t)
    for t in (
        *("?", "i1", "u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8"),
        *("<f2", "<f4", "<f8", "<M8[s]", "<M8[ns]", "<m8[h]"),
    )
]
dtypes = st.sampled_from(DTYPES)


def special_values(dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return what breaks careless coding: extremes, signed zeros, infinities, NaN payloads."""
    width = 8 * dtype.itemsize
    if dtype.kind == "b":
        return np.array([False, True])
    edges = [0, 1, 2, 2**width - 1, 2**width - 2, 2 ** (width - 1), 2 ** (width - 1) - 1]
    bits = np.array(edges, np.dtype(f"<u{dtype.itemsize}"))
    found = bits.view(dtype)
    if dtype.kind == "f":
        payload = np.array([np.nan], dtype).view(bits.dtype) | bits.dtype.type(5)
        named = np.array([np.nan, -np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0], dtype)
        found = np.concatenate([found, payload.view(dtype), named])
    return found


@st.composite
def values(draw: st.DrawFn, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Any bit patterns, with special values scattered in."""
    width = np.dtype("u1") if dtype.kind == "b" else np.dtype(f"<u{dtype.itemsize}")
    top = 1 if dtype.kind == "b" else 2 ** (8 * dtype.itemsize) - 1
    bits = draw(hnp.arrays(width, shape, elements=st.integers(0, top)))
    found = np.array(bits.view(dtype))
    special = special_values(dtype)
    where = draw(hnp.arrays(np.int64, shape, elements=st.integers(-special.size, special.size - 1)))
    return np.where(where >= 0, special[np.maximum(where, 0)], found).astype(dtype)


@st.composite
def grids(draw: st.DrawFn, max_dims: int = 3, max_side: int = 7) -> ChunkGrid:
    """Chunk grids: 0-d, edge chunks, one or several chunks to a shard, shards beyond the edge."""
    shape = tuple(draw(st.lists(st.integers(1, max_side), max_size=max_dims)))
    chunks = tuple(draw(st.integers(1, n)) for n in shape)
    shards = tuple(c * draw(st.integers(1, 3)) for c in chunks)
    return ChunkGrid(shape, chunks, shards)


@st.composite
def dtype_and_values(draw: st.DrawFn, max_size: int = 40) -> NDArray[Any]:
    """One array of any type and up to two dimensions."""
    dtype = draw(dtypes)
    shape = tuple(draw(st.lists(st.integers(1, max_size // 6), max_size=2)))
    return draw(values(dtype, shape))
