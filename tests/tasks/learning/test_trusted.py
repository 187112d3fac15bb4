from typing import Any

import numpy as np
import pytest

from gnomon.storage.log.location import Location
from gnomon.storage.stacks.captures import CaptureStack
from gnomon.storage.values.model import SUSPECT, Variable
from gnomon.tasks.learning.trusted import last_trusted, last_trusted_field, trusted_field
from tests.storage.building import store_stack

UNITS = Variable("v", ("y", "x"), (20, 21), "<f4", (4, 4), (8, 8), (16, 16))


@pytest.fixture
def stack(tmp_path: Any) -> CaptureStack:
    rng = np.random.default_rng(2)
    states = [rng.normal(size=UNITS.shape).astype("<f4") for _ in range(3)]
    return store_stack(Location(str(tmp_path)), UNITS, states)


def test_fields_are_the_chunks_one_after_the_other(stack: CaptureStack, monkeypatch: Any) -> None:
    """What is compressed together is not decoded chunk by chunk."""
    indices = list(UNITS.grid.indices())
    expected = [stack.physical(1, index).ravel() for index in indices]
    opened = CaptureStack(stack.location, UNITS, stack.steps, stack.slabs, stack.readings)
    monkeypatch.setattr(CaptureStack, "_decode", None)
    values, trusted = trusted_field(opened, 1, indices)
    assert trusted.all()
    np.testing.assert_array_equal(values, np.concatenate(expected))


def test_a_chunk_that_is_suspect_or_damaged_comes_from_an_earlier_capture(
    stack: CaptureStack, tmp_path: Any
) -> None:
    stack.verdicts = {(2, (0, 0)): SUSPECT, (1, (0, 0)): SUSPECT, (2, (1, 5)): SUSPECT}
    (tmp_path / stack.file(2, (4, 4))).write_bytes(b"something else")
    indices = list(UNITS.grid.indices())
    values, numbers = last_trusted_field(stack, indices, [0, 1, 2])
    for index, number, chunk in zip(
        indices, numbers.tolist(), UNITS.grid.split(indices, values), strict=True
    ):
        found = last_trusted(stack, index, [0, 1, 2])
        assert found is not None
        assert number == found[0]
        np.testing.assert_array_equal(chunk, found[1])
    by_index = dict(zip(indices, numbers.tolist(), strict=True))
    assert [by_index[i] for i in ((0, 0), (1, 5), (4, 4), (3, 3))] == [0, 1, 1, 2]


def test_without_a_trusted_capture_there_is_no_number(stack: CaptureStack) -> None:
    stack.verdicts = {(k, (0, 1)): SUSPECT for k in range(3)}
    values, numbers = last_trusted_field(stack, [(0, 0), (0, 1)], [0, 1, 2])
    assert numbers.tolist() == [2, -1]
    assert np.isnan(values[16:]).all()
    assert not np.isnan(values[:16]).any()
    nothing, none = last_trusted_field(stack, [(0, 0)], [])
    assert np.isnan(nothing).all()
    assert none.tolist() == [-1]
