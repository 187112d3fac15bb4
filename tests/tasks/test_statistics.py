from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from gnomon.storage.captures import CaptureStack
from gnomon.tasks.statistics import STATISTICS, chunk_statistics, repeats

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
    # Of three cells that were known, one was lost; two are in both.
    assert found["missing_change"] == pytest.approx(1 / 3)
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


def test_infinities_are_counted_once() -> None:
    before = np.array([np.inf, 1.0, 2.0])
    found = chunk_statistics(np.array([np.inf, -np.inf, 3.0]), before, OPEN)
    assert found["infinite_count"] == 1
    assert found["valid_count"] == 1
    assert found["change_rms"] == 1.0


def stack(digests: list[list[int]]) -> CaptureStack:
    """Captures of which only the digests of two chunks matter."""
    steps = [np.array([[0, 0, 0, d, d] for d in step], np.int64) for step in digests]
    fake: Any = SimpleNamespace(rows=steps.__getitem__)
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
