"""Stored arrays are read as Zarr wrote them; no stored byte makes the reader take more memory."""

import itertools
import json
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pytest
import zarr
from numcodecs.pcodec import PCodec
from numcodecs.zstd import Zstd
from numpy.typing import NDArray

from gnomon.storage.arrays import tables
from gnomon.storage.arrays.shards import Shards, read_whole
from gnomon.storage.arrays.tables import Slab, create_index, create_table, root
from gnomon.storage.errors import GnomonError, Integrity
from gnomon.storage.log.location import Location
from gnomon.storage.log.staging import Batch
from gnomon.storage.stacks.forecaster import create_state, write_state
from gnomon.storage.values.grid import ChunkGrid, Index, cut
from tests.storage.building import residual_array

ABSENT = 2**64 - 1
KILO, MEGA = 2**10, 2**20
GRIDS = {
    "unsharded": ChunkGrid((7, 10), (3, 4), (3, 4)),
    "sharded": ChunkGrid((7, 10), (3, 4), (6, 8)),
    "one shard": ChunkGrid((7, 10), (3, 4), (9, 12)),
    "one chunk": ChunkGrid((7, 10), (7, 10), (7, 10)),
    "line": ChunkGrid((7,), (2,), (4,)),
    "no dimensions": ChunkGrid((), (), ()),
}
fresh = itertools.count()


@pytest.fixture(params=["folder", "memory"])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    name = f"memory://shards-{next(fresh)}" if request.param == "memory" else str(tmp_path)
    return Location(name)


@pytest.fixture(autouse=True)
def another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read tables as a process that has not written them: of an object store they are kept."""
    monkeypatch.setattr(tables._kept, "nbytes", -1)


def read(shards: Shards, lead: int, index: Index) -> NDArray[Any]:
    return shards.read(lead, shards.grid.cells(index))


def file(shards: Shards, lead: int, index: Index) -> str:
    return shards.name(lead, shards.grid.cells(index))


def store(location: Location, grid: ChunkGrid, values: NDArray[Any]) -> Shards:
    """Write leads of integers as a slab does, and open them."""
    batch = Batch(location, "00000001-x")
    made = residual_array(batch, "a", lead=len(values), grid=grid, dtype=values.dtype)
    made[...] = values
    return Shards(location, "a", grid, values.dtype)


def some(grid: ChunkGrid, dtype: str, leads: int = 2) -> NDArray[Any]:
    rng = np.random.default_rng(1)
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, (leads, *grid.shape), dtype, endpoint=True)


@contextmanager
def little_memory(nbytes: int) -> Iterator[None]:
    """Demand that no more than this is taken at any moment."""
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= nbytes, f"{peak} bytes were taken, {nbytes} allowed"


# What Zarr wrote -----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["i1", "<i2", "<i4", "<i8"])
@pytest.mark.parametrize("grid", GRIDS.values(), ids=list(GRIDS))
def test_chunks_come_back_and_edges_are_cut(
    location: Location, grid: ChunkGrid, dtype: str
) -> None:
    values = some(grid, dtype)
    shards = store(location, grid, values)
    for lead in range(2):
        for index in grid.indices():
            found = read(shards, lead, index)
            assert found.dtype == values.dtype
            assert np.array_equal(found, cut(values[lead], grid.cells(index)))
            assert location.read(file(shards, lead, index))


@pytest.mark.parametrize("grid", GRIDS.values(), ids=list(GRIDS))
def test_chunks_of_zeros_are_not_stored(location: Location, grid: ChunkGrid) -> None:
    values = some(grid, "<i4")
    first = next(grid.indices())
    corner: tuple[Any, ...] = (0, *grid.cells(first))
    values[corner] = 0
    values[1] = 0
    shards = store(location, grid, values)
    assert not read(shards, 0, first).any()
    for index in grid.indices():
        assert np.array_equal(read(shards, 0, index), cut(values[0], grid.cells(index)))
        assert not read(shards, 1, index).any()
    assert location.list("a/c/1") == []


def test_a_lead_or_object_that_is_not_there_is_zeros(location: Location) -> None:
    """The digest tells whether it should be: see the captures."""
    shards = store(location, GRIDS["sharded"], some(GRIDS["sharded"], "<i4"))
    assert not read(shards, 9, (0, 0)).any()
    location.delete([file(shards, 0, (0, 0))])
    assert not read(Shards(location, "a", shards.grid, shards.dtype), 0, (0, 0)).any()


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_zarr_reads_the_multiples_of_a_state_that_was_packed_here(
    location: Location, grid: ChunkGrid
) -> None:
    values = np.random.default_rng(2).integers(-(2**40), 2**40, (5, *grid.shape)).astype(float)
    values[1] = 0.0
    batch = Batch(location, "00000001-x")
    create_state(batch, "s", grid, 5)
    for block in grid.blocks():
        part = values[(slice(None), *block.cells)]
        write_state(batch, "s", "v", grid, block, part, np.zeros((5, *block.grid), np.int64))
    cells = zarr.open_array(batch.store(), path="s/cells", mode="r+")
    np.testing.assert_array_equal(cells[...], values)


def test_what_is_read_cannot_be_changed_under_another_reader(location: Location) -> None:
    grid = GRIDS["sharded"]
    values = some(grid, "<i4")
    shards = store(location, grid, values)
    found = read(shards, 0, (0, 0))
    if found.flags.writeable:
        found[...] = 0
    assert np.array_equal(read(shards, 0, (0, 0)), values[0, :3, :4])


# Hostile objects -----------------------------------------------------------------------------


def sealed(data: bytes) -> bytes:
    """Return bytes with their checksum, as codecs end them."""
    return data + int(google_crc32c.value(data)).to_bytes(4, "little")


def packed(values: NDArray[Any]) -> bytes:
    codec = Zstd() if values.dtype.itemsize == 1 else PCodec(level=8)
    return bytes(codec.encode(np.ascontiguousarray(values).reshape(-1)))


def streamed_zeros(nbytes: int) -> bytes:
    """Return a Zstandard frame that does not say its size: 4 bytes for each 128 KiB of zeros."""
    last = nbytes // 2**17 - 1
    blocks = (
        ((2**17 << 3) | 2 | (k == last)).to_bytes(3, "little") + b"\0" for k in range(last + 1)
    )
    return b"\x28\xb5\x2f\xfd\x00\x58" + b"".join(blocks)


BOMBS: dict[str, tuple[str, bytes]] = {
    "pcodec": ("<i4", packed(np.zeros(4 * MEGA, "<i4"))),
    "pcodec of noise": ("<i4", packed(np.random.default_rng(0).integers(0, 2**31, MEGA, "<i4"))),
    "pcodec of another type": ("<i4", packed(np.zeros(4 * MEGA, "<i8"))),
    "zstd": ("i1", packed(np.zeros(64 * MEGA, "i1"))),
    "zstd without a size": ("i1", streamed_zeros(64 * MEGA)),
    "garbage": ("<i4", b"\xff" * 99),
    "garbage for zstd": ("i1", b"\xff" * 99),
    "nothing": ("<i4", b""),
    "nothing for zstd": ("i1", b""),
}


def directory(*places: tuple[int, int]) -> bytes:
    return sealed(np.array(places, "<u8").tobytes())


@pytest.mark.parametrize("sharded", [False, True])
@pytest.mark.parametrize("bomb", BOMBS)
def test_a_chunk_never_unpacks_beyond_its_cells(
    location: Location, bomb: str, sharded: bool
) -> None:
    """What fits is given back, and has another digest; what does not is refused."""
    dtype, data = BOMBS[bomb]
    grid = (
        ChunkGrid((20, 20), (10, 10), (20, 20))
        if sharded
        else ChunkGrid((20, 20), (10, 10), (10, 10))
    )
    payload = sealed(data)
    if sharded:
        payload = payload + directory((0, len(payload)), *[(ABSENT, ABSENT)] * 3)
    location.create("a/c/0/0/0", payload)
    shards = Shards(location, "a", grid, np.dtype(dtype))
    with little_memory(256 * KILO + 3 * len(payload)):
        try:
            found = read(shards, 0, (0, 0))
        except Integrity as error:
            reason = str(error)
        else:
            reason = "a/c/0/0/0"
            assert found.shape == (10, 10)
            assert found.dtype == np.dtype(dtype)
    assert "a/c/0/0/0" in reason


def test_fewer_values_than_declared_leave_no_memory_of_others(location: Location) -> None:
    location.create("a/c/0/0/0", sealed(packed(np.arange(1, 8, dtype="<i4"))))
    shards = Shards(location, "a", ChunkGrid((10, 10), (10, 10), (10, 10)), np.dtype("<i4"))
    try:
        found = read(shards, 0, (0, 0)).ravel()
    except Integrity:
        return
    assert found.tolist() == [*range(1, 8), *[0] * 93]


GOOD = sealed(packed(np.arange(100, dtype="<i4")))
PLACES: dict[str, tuple[int, int]] = {
    "beyond the end": (10**6, 50),
    "just at the end": (len(GOOD) + 68, 50),
    "far beyond the end": (2**62, 50),
    "a start without an end": (2**63 - 1, 50),
    "no number of the system": (2**63, 50),
    "the largest start": (ABSENT - 1, 50),
    "a huge length": (0, 2**40),
    "the largest length": (0, ABSENT - 1),
    "a length that wraps around": (8, ABSENT - 7),
    "a start without a chunk": (ABSENT, len(GOOD)),
    "a length without a chunk": (0, ABSENT),
    "no length": (0, 0),
    "too short for a checksum": (0, 3),
    "only a checksum": (len(GOOD) - 4, 4),
    "cut off": (0, len(GOOD) - 1),
    "shifted": (1, len(GOOD)),
    "into the directory": (0, len(GOOD) + 20),
    "the directory itself": (len(GOOD), 68),
}


@pytest.mark.parametrize("place", PLACES)
def test_a_shard_that_points_elsewhere_is_damage(location: Location, place: str) -> None:
    grid = ChunkGrid((20, 20), (10, 10), (20, 20))
    where = [PLACES[place], (0, len(GOOD)), (ABSENT, ABSENT), (ABSENT, ABSENT)]
    location.create("a/c/0/0/0", GOOD + directory(*where))
    shards = Shards(location, "a", grid, np.dtype("<i4"))
    with little_memory(256 * KILO), pytest.raises(Integrity, match="a/c/0/0/0"):
        read(shards, 0, (0, 0))
    assert read(shards, 0, (0, 1)).ravel().tolist() == list(range(100))
    assert not read(shards, 0, (1, 1)).any()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"x",
        b"\0" * 67,
        b"\0" * 68,
        b"\0" * 999,
        GOOD,
        GOOD + directory((0, len(GOOD)))[:-1],
        GOOD + directory((0, len(GOOD))),
        GOOD + directory(*[(0, len(GOOD))] * 3),
    ],
)
def test_a_shard_without_its_directory_is_damage(location: Location, data: bytes) -> None:
    location.create("a/c/0/0/0", data)
    shards = Shards(location, "a", ChunkGrid((20, 20), (10, 10), (20, 20)), np.dtype("<i4"))
    with pytest.raises(Integrity, match="a/c/0/0/0 was changed"):
        read(shards, 0, (0, 0))


def test_a_directory_of_another_shape_is_damage_or_other_chunks(location: Location) -> None:
    """Of more chunks than declared the last are taken, and have other digests."""
    places = [(0, 0), *[(0, len(GOOD))] * 4]
    location.create("a/c/0/0/0", GOOD + directory(*places))
    shards = Shards(location, "a", ChunkGrid((20, 20), (10, 10), (20, 20)), np.dtype("<i4"))
    with pytest.raises(Integrity, match="checksum"):
        read(shards, 0, (0, 0))


def test_an_object_that_is_larger_than_its_chunk_can_be_is_not_read_whole(
    tmp_path: Path,
) -> None:
    location = Location(str(tmp_path))
    (tmp_path / "a/c/0/0").mkdir(parents=True)
    with open(tmp_path / "a/c/0/0/0", "wb") as sparse:
        sparse.truncate(256 * MEGA)
    shards = Shards(location, "a", ChunkGrid((10, 10), (10, 10), (10, 10)), np.dtype("<i4"))
    with little_memory(MEGA), pytest.raises(Integrity, match="a/c/0/0/0"):
        read(shards, 0, (0, 0))


# Small arrays that are read whole ------------------------------------------------------------


@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 1), (0,), (2, 0, 3)])
@pytest.mark.parametrize("dtype", ["<i8", "<f8"])
def test_a_table_comes_back(location: Location, shape: Index, dtype: str) -> None:
    rng = np.random.default_rng(3)
    values = (rng.normal(size=shape) * 9).astype(dtype)
    table = create_table(Batch(location, "00000001-x"), "t/a", np.asarray(values), ["x"])
    found, columns = read_whole(location, "t/a")
    assert columns == ("x",)
    assert found.dtype == np.dtype(dtype)
    assert found.shape == shape
    assert found.tobytes() == values.tobytes()
    assert table == root(found)
    assert Slab(location, "t", {"a": table}).index("a").tobytes() == values.tobytes()


def about(**changes: Any) -> bytes:
    return json.dumps({"shape": [2, 3], "data_type": "int64"} | changes).encode()


TABLE = np.arange(6, dtype=np.int64).reshape(2, 3)
HOSTILE: dict[str, bytes] = {
    "nothing": b"",
    "no JSON": b"{",
    "no text": b"\xff\xfe",
    "a list": b"[]",
    "null": b"null",
    "a number": b"3",
    "nested without end": b"[" * 100_000,
    "an empty object": b"{}",
    "no shape": b'{"data_type": "int64"}',
    "no type": b'{"shape": [2, 3]}',
    "another type": about(data_type="float32"),
    "an unknown type": about(data_type="object"),
    "a type that is none": about(data_type=["int64"]),
    "a shape of text": about(shape="24"),
    "a shape of words": about(shape=["two"]),
    "a shape of null": about(shape=None),
    "a shape of one number": about(shape=6),
    "a negative shape": about(shape=[-2, -3]),
    "a shape with a negative side": about(shape=[2, -3]),
    "an infinite shape": b'{"shape": [1e999], "data_type": "int64"}',
    "a shape that is no number": b'{"shape": [NaN], "data_type": "int64"}',
    "many dimensions": about(shape=[1] * 99),
    "a side that no machine holds": about(shape=[2**70]),
    "an empty side beside such a side": about(shape=[2**70, 0]),
    "a large shape": about(shape=[2**18, 2**6]),
    "the largest shape": about(shape=[2**40, 2**40]),
    "more cells": about(shape=[2, 4]),
    "fewer cells": about(shape=[2, 2]),
    "other dimensions": about(shape=[6]),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_description_of_a_table_is_damage(location: Location, what: str) -> None:
    table = create_table(Batch(location, "00000001-x"), "t/a", TABLE, ["x"])
    location.replace("t/a/zarr.json", HOSTILE[what])
    payload = location.read("t/a/c/0/0")
    for name in ("t/a/c/0", "t/a/c/0/0/0", f"t/a/c/{'/'.join('0' * 99)}"):
        if location.path is None:  # where a file is in the place of a folder, none is found
            location.create(name, payload)
    with little_memory(2 * MEGA), pytest.raises(Integrity, match="t/a"):
        Slab(location, "t", {"a": table}).index("a")


@pytest.mark.parametrize("bomb", ["zstd", "zstd without a size", "garbage for zstd", "nothing"])
def test_a_table_never_unpacks_beyond_its_shape(location: Location, bomb: str) -> None:
    table = create_table(Batch(location, "00000001-x"), "t/a", TABLE, ["x"])
    payload = sealed(BOMBS[bomb][1])
    location.replace("t/a/c/0/0", payload)
    with little_memory(256 * KILO + 3 * len(payload)), pytest.raises(Integrity, match="t/a"):
        Slab(location, "t", {"a": table}).index("a")


def test_a_table_of_fewer_bytes_than_declared_is_refused(location: Location) -> None:
    table = create_table(Batch(location, "00000001-x"), "t/a", TABLE, ["x"])
    location.replace("t/a/c/0/0", sealed(packed(TABLE.ravel()[:3].view("i1"))))
    with pytest.raises(Integrity, match="t/a"):
        Slab(location, "t", {"a": table}).index("a")


@pytest.mark.parametrize("part", ["zarr.json", "c/0/0"])
def test_an_index_is_read_from_its_copy(
    location: Location, part: str, caplog: pytest.LogCaptureFixture
) -> None:
    index = create_index(Batch(location, "00000001-x"), "t/index", TABLE, ["x"])
    location.delete([f"t/index/{part}"])
    slab = Slab(location, "t", {"index": index})
    assert np.array_equal(slab.index(), TABLE)
    assert "run 'gnomon repair'; its copy was read instead" in caplog.text
    caplog.clear()
    assert np.array_equal(slab.index(), TABLE)
    assert caplog.text == ""
    location.replace("copies/t/index/c/0/0", b"x")
    with pytest.raises(Integrity, match=f"^t/index/{part} is missing"):
        Slab(location, "t", {"index": index}).index()


def test_damage_of_every_kind_is_refused_or_right(location: Location) -> None:
    """Any one byte of a stored chunk, of a shard's directory and of a table."""
    grid = ChunkGrid((12, 12), (6, 6), (12, 12))
    values = some(grid, "<i4", 1)
    shards = store(location, grid, values)
    name = file(shards, 0, (0, 0))
    whole = location.read(name)
    rng = np.random.default_rng(4)
    for position in rng.permutation(len(whole))[:60].tolist():
        bent = bytearray(whole)
        bent[position] ^= 1 << int(rng.integers(8))
        location.replace(name, bytes(bent))
        again, refused = Shards(location, "a", grid, shards.dtype), 0
        for index in grid.indices():
            try:
                found = read(again, 0, index)
            except GnomonError:
                refused += 1
            else:
                assert np.array_equal(found, cut(values[0], grid.cells(index)))
        assert refused in (1, 4)


def test_want_of_memory_is_no_damage(location: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    grid = ChunkGrid((6, 8), (3, 4), (6, 8))
    shards = store(location, grid, some(grid, "<i4"))

    def lacking(*_: Any, **__: Any) -> None:
        raise MemoryError

    monkeypatch.setattr("gnomon.storage.arrays.shards.PCodec.decode", lacking)
    with pytest.raises(MemoryError):
        read(shards, 0, (0, 0))
