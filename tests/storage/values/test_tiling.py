from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gnomon.storage.values.grid import ChunkGrid, cut
from gnomon.storage.values.tiling import chunks_of, joined, parted

axes = st.tuples(st.integers(1, 9), st.integers(1, 4), st.integers(1, 3))
"""Cells, cells of a chunk, chunks of a shard."""


@st.composite
def grids(draw: Any) -> ChunkGrid:
    """Draw grids with edges and without, of no dimensions to three."""
    sizes = draw(st.lists(axes, max_size=3))
    return ChunkGrid(
        tuple(n for n, _, _ in sizes),
        tuple(c for _, c, _ in sizes),
        tuple(c * k for _, c, k in sizes),
    )


@given(grids(), st.integers(1, 3))
def test_chunks_are_taken_out_and_put_together_again(grid: ChunkGrid, leads: int) -> None:
    values = np.arange(leads * np.prod(grid.shape, dtype=int)).reshape(leads, *grid.shape)
    indices = list(grid.indices())
    places, runs = grid.places(indices), []
    for shape, run in grid.runs(indices):
        chunks = chunks_of(values, grid.chunks, places[run], shape)
        assert chunks.shape == (run.stop - run.start, leads, *shape)
        for index, chunk in zip(indices[run], chunks, strict=True):
            np.testing.assert_array_equal(chunk, cut(values, grid.cells(index)))
        runs.append(chunks)
    np.testing.assert_array_equal(joined(runs, grid.chunks, places, grid.shape), values)


@given(grids())
def test_what_has_no_chunk_is_zero(grid: ChunkGrid) -> None:
    """The array may also have room for whole chunks where those at the edges are cut off."""
    indices = list(grid.indices())[::2]
    runs = [np.ones((r.stop - r.start, 1, *shape), int) for shape, r in grid.runs(indices)]
    beyond = tuple(n * c for n, c in zip(grid.counts, grid.chunks, strict=True))
    expected = np.zeros((1, *beyond), int)
    for index in indices:
        where: tuple[Any, ...] = (0, *grid.cells(index))
        expected[where] = 1
    found = joined(runs, grid.chunks, grid.places(indices), beyond)
    np.testing.assert_array_equal(found, expected)


@given(grids(), st.integers(1, 20))
def test_runs_are_chunks_of_one_shape_one_after_the_other(grid: ChunkGrid, most: int) -> None:
    indices = list(grid.indices())
    shapes = [tuple(s.stop - s.start for s in grid.cells(index)) for index in indices]
    found = list(grid.runs(indices, most))
    assert [shape for shape, run in found for _ in indices[run]] == shapes
    assert [index for _, run in found for index in indices[run]] == indices
    sizes = [int(np.prod(shape, dtype=int)) for shape in shapes]
    assert grid.sizes(indices).tolist() == sizes
    assert all(run.stop - run.start == 1 or sum(sizes[run]) <= most for _, run in found)
    cells = np.arange(sum(sizes))
    views = list(grid.split(indices, cells))
    assert [view.shape for view in views] == shapes
    np.testing.assert_array_equal(np.concatenate([view.ravel() for view in views]), cells)


@given(grids())
def test_a_block_yields_each_of_its_chunks(grid: ChunkGrid) -> None:
    values = np.arange(np.prod(grid.shape, dtype=int)).reshape(grid.shape)
    found = []
    for block in grid.blocks():
        for index, local, cells in grid.inner(block):
            whole = cut(values, block.cells)
            np.testing.assert_array_equal(cut(whole, cells), cut(values, grid.cells(index)))
            assert local == tuple(i - a for i, a in zip(index, block.first_chunk, strict=True))
            found.append(index)
    assert sorted(found) == list(grid.indices())


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1)), max_size=12))
def test_equal_rows_are_found_in_order(rows: list[tuple[int, int]]) -> None:
    table = np.array(rows, np.int64).reshape(len(rows), 2)
    found = [part.tolist() for part in parted(table)]
    assert sorted(k for part in found for k in part) == list(range(len(rows)))
    assert all(part == sorted(part) for part in found)
    assert [rows[part[0]] for part in found] == sorted(set(rows))
    assert all({rows[k] for k in part} == {rows[part[0]]} for part in found)
