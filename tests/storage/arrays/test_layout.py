"""The arrays describe themselves as Zarr would, and Zarr reads what is packed into them."""

import json
from itertools import count
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from zarr.codecs import Crc32cCodec, ZstdCodec
from zarr.codecs.numcodecs import PCodec
from zarr.storage import MemoryStore

from gnomon.storage.arrays.layout import PCODEC_LEVEL, ZSTD_LEVEL, residual_metadata, table_metadata
from gnomon.storage.arrays.shards import pack_chunk, pack_shard
from gnomon.storage.arrays.tables import create_residual, create_table
from gnomon.storage.log.location import Location
from gnomon.storage.log.staging import Batch
from gnomon.storage.values.grid import ChunkGrid

fresh = count()
GRIDS = [
    ChunkGrid((), (), ()),
    ChunkGrid((7,), (3,), (3,)),
    ChunkGrid((7, 10), (3, 4), (6, 4)),
    ChunkGrid((7, 10, 4), (3, 10, 2), (6, 20, 6)),
]


def zarrs_own(**options: Any) -> Any:
    memory: dict[str, Any] = {}
    zarr.create_array(MemoryStore(memory), fill_value=0, **options)
    return json.loads(memory["zarr.json"].to_bytes())


@pytest.mark.parametrize("dtype", ["<i1", "<i2", "<i4", "<i8"])
@pytest.mark.parametrize("grid", GRIDS)
def test_residuals_are_described_as_zarr_would(grid: ChunkGrid, dtype: str) -> None:
    codec: dict[str, Any] = {
        "serializer": PCodec(level=PCODEC_LEVEL), "compressors": [Crc32cCodec()],
    }  # fmt: skip
    if dtype == "<i1":
        codec = {"compressors": [ZstdCodec(level=ZSTD_LEVEL), Crc32cCodec()]}
    expected = zarrs_own(
        shape=(5, *grid.shape),
        chunks=(1, *grid.chunks),
        shards=(1, *grid.shards) if grid.shards != grid.chunks else None,
        dtype=dtype,
        filters=None,
        **codec,
    )
    assert json.loads(residual_metadata(5, grid, np.dtype(dtype))) == expected


@pytest.mark.parametrize("grid", GRIDS[1:])
def test_arrays_whose_chunks_hold_all_leads_are_described_as_zarr_would(grid: ChunkGrid) -> None:
    names = ["lead", *"yxz"[: len(grid.shape)]]
    expected = zarrs_own(
        shape=(5, *grid.shape),
        chunks=(5, *grid.chunks),
        shards=None if grid.shards == grid.chunks else (5, *grid.shards),
        dtype="<i4",
        compressors=[Crc32cCodec()],
        serializer=PCodec(level=PCODEC_LEVEL),
        filters=None,
        dimension_names=names,
    )
    about = residual_metadata(5, grid, np.dtype("<i4"), depth=5, names=names)
    assert json.loads(about) == expected


@pytest.mark.parametrize("dtype", ["<i8", "<f8"])
def test_tables_are_described_as_zarr_would(dtype: str) -> None:
    expected = zarrs_own(
        shape=(2, 0, 3),
        chunks=(2, 1, 3),
        dtype=dtype,
        compressors=[ZstdCodec(level=ZSTD_LEVEL), Crc32cCodec()],
        attributes={"columns": ["a", "b"]},
    )
    assert json.loads(table_metadata((2, 0, 3), np.dtype(dtype), ["a", "b"])) == expected


@given(data=st.data(), grid=st.sampled_from(GRIDS), dtype=st.sampled_from(["<i1", "<i2", "<i8"]))
def test_zarr_reads_what_is_packed(data: st.DataObject, grid: ChunkGrid, dtype: str) -> None:
    """Chunks that are all zero, and shards without others, are not stored."""
    batch = Batch(Location(f"memory://layout-{next(fresh)}"), "00000001-x")
    create_residual(batch, "a", lead=1, grid=grid, dtype=np.dtype(dtype))
    expected = np.zeros((1, *grid.shape), dtype)
    for block in grid.blocks():
        packed = {}
        for index, local, _ in grid.inner(block):
            whole = np.zeros(grid.chunks, dtype)
            whole[...] = data.draw(st.integers(-100, 100))
            cells = grid.cells(index)
            inside = tuple(slice(c.stop - c.start) for c in cells)
            where: tuple[Any, ...] = (0, *cells)
            expected[where] = whole[inside]
            stored = pack_chunk(whole)
            assert (stored is None) == (not whole.any())
            if stored is not None:
                packed[local] = stored
        if packed:
            place = (0, *(a // n for a, n in zip(block.start, grid.shards, strict=True)))
            batch.create("/".join(["a/c", *map(str, place)]), pack_shard(grid, packed))
    found = zarr.open_array(batch.store(), path="a", mode="r+")
    np.testing.assert_array_equal(found[...], expected)


@pytest.mark.parametrize("shape", [(), (3,), (2, 0, 4), (4, 3, 2)])
@pytest.mark.parametrize("dtype", [np.int64, np.float64])
def test_zarr_reads_tables(shape: tuple[int, ...], dtype: type) -> None:
    batch = Batch(Location(f"memory://layout-{next(fresh)}"), "00000001-x")
    values: Any = np.asarray(np.random.default_rng(1).normal(size=shape), dtype)
    create_table(batch, "t", values, ["a"])
    found = zarr.open_array(batch.store(), path="t", mode="r+")
    assert found.attrs["columns"] == ["a"]
    np.testing.assert_array_equal(found[...], values)
