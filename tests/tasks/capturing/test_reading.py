"""Blocks that workers capture: shards, unless that reads a large chunk of the source twice."""

from gnomon.storage.values.grid import ChunkGrid
from gnomon.tasks.capturing.reading import SHARED_BYTES, capturing_grid, reading_grid

GRID = ChunkGrid((1000, 2000), (250, 500), (250, 2000))


def test_workers_share_a_small_chunk_of_the_source() -> None:
    assert len(list(reading_grid(GRID, GRID.shape).blocks())) == 1
    assert list(capturing_grid(GRID, GRID.shape, 4).blocks()) == list(GRID.blocks())


def test_a_large_chunk_of_the_source_is_read_once() -> None:
    steps = SHARED_BYTES // (4 * 1000 * 2000) + 1
    assert capturing_grid(GRID, GRID.shape, 4 * steps) == reading_grid(GRID, GRID.shape)


def test_smaller_chunks_of_the_source_change_nothing() -> None:
    assert capturing_grid(GRID, (250, 250), 4) == reading_grid(GRID, (250, 250)) == GRID


def test_nothing_is_read_twice_where_there_is_work_enough() -> None:
    grid = ChunkGrid((8000, 2000), (250, 500), (250, 2000))
    assert capturing_grid(grid, (1000, 2000), 4) == reading_grid(grid, (1000, 2000))
