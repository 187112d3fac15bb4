"""What a selection says of the chunks that it touches, against NumPy's own indexing."""

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gnomon.storage.values.model import Variable
from gnomon.storage.values.selection import EVERYTHING, Selection, assembled


def variable_of(shape: tuple[int, ...], chunks: tuple[int, ...]) -> Variable:
    dims = tuple("yxz"[: len(shape)])
    return Variable("v", dims, shape, "<f4", chunks, chunks, chunks)


@st.composite
def cases(draw: Any) -> tuple[Variable, Selection, list[np.ndarray[Any, Any]]]:
    """Draw a variable, a selection of one or two runs along its dimensions, and its positions."""
    shape = tuple(draw(st.lists(st.integers(1, 9), min_size=0, max_size=3)))
    variable = variable_of(shape, tuple(draw(st.integers(1, n + 1)) for n in shape))
    cells, positions = {}, []
    for dim, n in zip(variable.dims, shape, strict=True):
        start = draw(st.integers(0, n - 1))
        runs = [slice(start, draw(st.integers(start + 1, n)))]
        if start > 0 and draw(st.booleans()):  # over the seam: the second run begins at 0
            runs.append(slice(0, draw(st.integers(1, start))))
        if draw(st.booleans()):
            cells[dim] = tuple(runs)
            positions.append(np.concatenate([np.arange(r.start, r.stop) for r in runs]))
        else:
            positions.append(np.arange(n))
    return variable, Selection(cells=cells), positions


@given(cases(), st.data())
def test_a_block_of_a_selection_is_what_indexing_gives(case: Any, data: Any) -> None:
    """A cell in the wrong place, left out, or of a chunk that is not touched."""
    variable, selection, positions = case
    array = np.arange(int(np.prod(variable.shape)), dtype="f4").reshape(variable.shape)
    expected = array[np.ix_(*positions)] if positions else array
    assert selection.shape(variable) == expected.shape
    read = set()

    def chunk(index: Any) -> tuple[Any]:
        read.add(index)
        return (array[variable.grid.cells(index)],)

    (whole,) = assembled(selection.parts(variable), expected.shape, chunk)
    assert np.array_equal(whole, expected)
    assert read == selection.touched(variable)
    assert {part.index for part in selection.blocks(variable)} == read
    start = tuple(data.draw(st.integers(0, n - 1)) for n in expected.shape)
    stop = tuple(
        data.draw(st.integers(a + 1, n)) for a, n in zip(start, expected.shape, strict=True)
    )
    block = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
    size = tuple(b - a for a, b in zip(start, stop, strict=True))
    (part,) = assembled(selection.parts(variable, start, stop), size, chunk)
    assert np.array_equal(part, expected[block])


def test_named_chunks_are_what_a_selection_is_about() -> None:
    """A neighbour that only lies in the box around the named ones is not one of them."""
    variable = variable_of((8, 8), (4, 4))
    selection = Selection(chunks={"v": ((0, 0), (1, 1))})
    assert [part.index for part in selection.blocks(variable)] == [(0, 0), (1, 1)]
    assert len(selection.touched(variable)) == 4


def test_a_variable_that_is_not_wanted_is_not_touched() -> None:
    variable = variable_of((8, 8), (4, 4))
    selection = Selection(("w",), companions=("u",))
    assert not selection.touched(variable)
    assert not list(selection.blocks(variable))
    assert selection.gives("u")
    assert EVERYTHING.is_all_of(variable)
