from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from gnomon.storage.stacks.captures import CaptureStack
from gnomon.storage.values.model import SUSPECT, TRUSTED
from gnomon.tasks.capturing import statistics
from gnomon.tasks.capturing.statistics import (
    FEW_STATES,
    STATISTICS,
    chunk_statistics,
    many_statistics,
    repeats,
)

OPEN = (None, None)


def test_statistics_of_a_chunk() -> None:
    values = np.array([[1.0, 2.0], [np.nan, 6.0]])
    before = np.array([[1.0, np.nan], [3.0, 2.0]])
    found = chunk_statistics(values, before, (1.5, 5.0))
    assert set(found) == set(STATISTICS)
    assert found["cells"] == 4
    assert found["valid_count"] == 3
    assert (found["minimum"], found["maximum"], found["mean"]) == (1.0, 6.0, 3.0)
    assert found["spread"] == pytest.approx(np.std([1.0, 2.0, 6.0]))
    assert (found["below_minimum"], found["above_maximum"]) == (1, 1)
    # Three cells were known, and three are; two are in both.
    assert found["missing_change"] == 0.0
    assert found["change_rms"] == pytest.approx(np.sqrt(16 / 2))
    assert (found["constant"], found["was_constant"], found["infinite_count"]) == (0, 0, 0)


@pytest.mark.parametrize(
    ("value", "before", "bounds", "categorical", "usual"),
    [
        (0.0, [1.0, 2.0, 3.0], OPEN, False, False),
        (5.0, [0.0, 2.0, 3.0], OPEN, False, False),
        (0.0, [0.0, 2.0, 3.0], OPEN, False, True),
        (0.0, [0.1, 0.2, 0.3], (0.0, 1.0), False, True),
        (1.0, [0.1, 0.2, 0.3], (0.0, 1.0), False, True),
        (0.5, [0.1, 0.2, 0.3], (0.0, 1.0), False, False),
        (3.0, [1.0, 1.0, 2.0], OPEN, True, True),
        (3.0, [1.0, 1.0, 1.0], OPEN, False, True),
    ],
)
def test_a_constant_is_new_unless_the_values_explain_it(
    value: float, before: list[float], bounds: Any, categorical: bool, usual: bool
) -> None:
    values = np.full(3, value)
    found = chunk_statistics(values, np.array(before), bounds, categorical=categorical)
    assert found["constant"] == 1
    assert found["was_constant"] == usual


def test_without_a_capture_before_nothing_is_said_of_change() -> None:
    found = chunk_statistics(np.ones(3), None, OPEN)
    assert np.isnan([found["change_rms"], found["missing_change"], found["p_value"]]).all()
    # A first capture that is constant is no alarm.
    assert (found["constant"], found["was_constant"]) == (1, 1)


def test_all_missing_and_one_cell() -> None:
    found = chunk_statistics(np.full(4, np.nan), np.zeros(4), OPEN)
    assert found["valid_count"] == 0
    assert np.isnan(found["minimum"])
    assert found["missing_change"] == 1
    assert found["constant"] == 0
    assert chunk_statistics(np.zeros(1), None, OPEN)["constant"] == 0


def test_values_that_only_moved_are_not_lost() -> None:
    before = np.array([1.0, 2.0, np.nan, np.nan, np.nan])
    moved = np.array([np.nan, np.nan, np.nan, 3.0, 4.0])
    assert chunk_statistics(moved, before, OPEN)["missing_change"] == 0
    fewer = np.array([np.nan, np.nan, np.nan, np.nan, 4.0])
    assert chunk_statistics(fewer, before, OPEN)["missing_change"] == 0.5
    assert chunk_statistics(before, fewer, OPEN)["missing_change"] == 0


def test_infinities_are_counted_once() -> None:
    before = np.array([np.inf, 1.0, 2.0])
    found = chunk_statistics(np.array([np.inf, -np.inf, 3.0]), before, OPEN)
    assert found["infinite_count"] == 1
    assert found["valid_count"] == 1
    assert found["change_rms"] == 1.0


def stack(
    digests: list[list[int]],
    *,
    suspect: tuple[int, ...] = (),
    dtype: str = "<f4",
    cells: int = 64,
    chunks: int = 2,
) -> CaptureStack:
    """Captures of which only the digests of some chunks and what was suspect matter."""
    steps = [np.array([[0, 0, 0, d, d] for d in step], np.int64) for step in digests]
    status = [np.full(chunks, SUSPECT if k in suspect else TRUSTED) for k in range(len(steps))]
    variable = SimpleNamespace(numpy_dtype=np.dtype(dtype), chunks=(cells,))
    fake: Any = SimpleNamespace(
        rows=steps.__getitem__, status=status.__getitem__, variable=variable
    )
    return cast(CaptureStack, fake)


def rows(digests: list[list[int]]) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.array([[[0, 0, 0, d, d] for d in step] for step in digests], np.int64)


def test_a_repeated_state_is_unchanged_or_replayed() -> None:
    found = repeats(stack([[1, 1], [2, 2], [3, 3]]), range(3), rows([[3, 1]]))
    assert found["unchanged"].tolist() == [[True, False]]
    assert found["replayed"].tolist() == [[False, True]]


def test_repeats_within_one_commit_are_found() -> None:
    found = repeats(stack([]), [], rows([[1, 1], [2, 2], [3, 3], [2, 3], [5, 5]]))
    assert np.argwhere(found["replayed"]).tolist() == [[3, 0]]
    assert np.argwhere(found["unchanged"]).tolist() == [[3, 1]]


def test_chunks_that_rarely_change_may_repeat() -> None:
    found = repeats(stack([[1, 1], [1, 2], [1, 1], [1, 2]]), range(4), rows([[1, 1]]))
    assert not found["replayed"].any()
    assert not found["unchanged"].any()


def test_what_was_judged_a_replay_does_not_excuse_the_next() -> None:
    past = [[1, 1], [2, 2], [3, 3], [1, 1]]
    assert repeats(stack(past, suspect=(3,)), range(4), rows([[2, 2]]))["replayed"].all()
    assert not repeats(stack(past), range(4), rows([[2, 2]]))["replayed"].any()
    again = repeats(stack(past, suspect=(3,)), range(4), rows([[1, 1]]))
    assert again["unchanged"].all()


@pytest.mark.parametrize(("dtype", "cells"), [("|b1", 64), ("|u1", 64), ("|O", 64), ("<f4", 8)])
def test_few_possible_states_repeat_by_accident(dtype: str, cells: int) -> None:
    for count, doubted in ((FEW_STATES - 1, False), (FEW_STATES, True)):
        past = stack([[k, k] for k in range(count)], dtype=dtype, cells=cells)
        found = repeats(past, range(count), rows([[0, 0]]))["replayed"]
        assert found.all() == found.any() == doubted


@pytest.mark.parametrize("dtype", ["<f4", "|u1"])
def test_a_single_number_repeats_by_accident_however_many_there_were(dtype: str) -> None:
    """Of 40 numbers that were all different, the next is like one of them once in 20 times."""
    past = stack([[k, 100 + k] for k in range(40)], dtype=dtype, cells=1)
    assert not repeats(past, range(40), rows([[7, 123]]))["replayed"].any()


def test_many_single_numbers_are_replayed_together() -> None:
    steps = [[100 * k + c for c in range(20)] for k in range(20)]
    past = stack(steps, cells=1, chunks=20)
    other = [[5000 + c for c in range(20)]]
    assert repeats(past, range(20), rows([steps[4]]))["replayed"].all()
    # Two of them are like they were, but at different times.
    other[0][3], other[0][9] = steps[4][3], steps[7][9]
    assert not repeats(past, range(20), rows(other))["replayed"].any()


def test_a_cycle_is_told_of_once() -> None:
    """Twelve months that come back every year, in one backfill."""
    states = [[k % 12, k % 12] for k in range(48)]
    found = repeats(stack([]), [], rows(states))["replayed"]
    assert np.flatnonzero(found[:, 0]).tolist() == [12]


@pytest.mark.parametrize("bounds", [OPEN, (-1.0, 1.0)])
def test_statistics_of_many_chunks_are_those_of_each(bounds: Any) -> None:
    """Bit for bit: what is missing, infinite or constant, now or before, and what is not."""
    rng = np.random.default_rng(6)
    values, last = rng.normal(size=(2, 40, 5, 7)).round(3)
    values[0, 0, 0], values[1, 0, 0], values[2], values[3] = np.nan, np.inf, np.nan, 2.0
    last[4, 0, 0], last[5, 0, 0], last[6], last[7] = np.nan, np.inf, np.nan, 2.0
    last[8, 0, 1], values[9], values[10] = last[8, 0, 0], last[9], 1e308
    before = [None if k in (11, 12) else chunk for k, chunk in enumerate(last)]
    edge = rng.normal(size=(1, 5, 2))
    found = many_statistics([values, edge], [*before, None], bounds)
    each = [chunk_statistics(c, b, bounds) for c, b in zip(values, before, strict=True)]
    each.append(chunk_statistics(edge[0], None, bounds))
    for many, one in zip(found, each, strict=True):
        assert many.keys() == one.keys()
        for name in one:
            assert np.float64(many[name]).tobytes() == np.float64(one[name]).tobytes(), name


def test_small_chunks_of_which_little_is_to_be_said_are_measured_at_once(monkeypatch: Any) -> None:
    monkeypatch.setattr(statistics, "chunk_statistics", None)
    values, last = np.random.default_rng(7).normal(size=(2, 100, 8, 8))
    found = many_statistics([values], [*last], OPEN, categorical=True)
    assert [told["maximum"] for told in found] == values.max(axis=(1, 2)).tolist()
    assert {told["was_constant"] for told in found} == {1.0}
