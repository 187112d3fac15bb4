"""What is known of the changes of a variable, and what is not."""

import numpy as np
import pytest

from gnomon.tasks.forecasting.changes import default_tolerance, has_changed, usual_change
from tests.tasks.forecasting.series import Array, specification

NOTHING = np.nan


def alternating(captures: int = 40, *, gap: int = 2, seed: int = 1) -> Array:
    """White noise of unit variance of which only every second capture, or fewer, is known."""
    values = np.random.default_rng(seed).standard_normal((captures, 50))
    values[np.arange(captures) % gap > 0] = np.nan
    return values


@pytest.mark.parametrize("categorical", [False, True])
@pytest.mark.parametrize(
    "values",
    [
        np.empty((0, 3)),
        np.ones((1, 3)),
        np.full((9, 3), np.nan),
        alternating(),
        alternating(gap=5),
        np.where(np.isnan(alternating()), np.nan, 7.0),
        # Each cell is known in its own half of the record, and but once.
        np.array([[1.0, NOTHING], [NOTHING, 2.0]]),
        # It changed while nobody looked.
        np.array([[5.0], [5.0], [5.0], [NOTHING], [7.0], [7.0]]),
    ],
)
def test_what_was_not_compared_is_not_known(values: Array, categorical: bool) -> None:
    usual = usual_change(values, categorical=categorical)
    assert usual is None
    assert not specification(usual_change=usual, categorical=categorical).is_constant


def test_what_was_compared_and_is_the_same_never_changed() -> None:
    still = np.full((6, 3), 4.0)
    still[3, :2] = np.nan
    for categorical in (False, True):
        assert usual_change(still, categorical=categorical) == 0
        assert specification(usual_change=0.0, categorical=categorical).is_constant


def test_a_change_is_measured_as_before_where_it_can_be() -> None:
    values = np.random.default_rng(0).standard_normal((40, 50))
    values[10, :7] = np.nan
    assert usual_change(values) == pytest.approx(np.sqrt(np.nanmean(np.diff(values, axis=0) ** 2)))
    labels = np.array([[0.0, 1.0], [0.0, 2.0], [0.0, NOTHING]])
    assert usual_change(labels, categorical=True) == pytest.approx(1 / 3)


@pytest.mark.parametrize("gap", [2, 3, 7])
def test_without_captures_in_a_row_the_shortest_gap_tells_what_is_tolerated(gap: int) -> None:
    values = alternating(210, gap=gap)
    expected = np.sqrt(np.mean((values[gap::gap] - values[:-gap:gap]) ** 2))
    assert default_tolerance(values, None) == pytest.approx(expected)
    values[5 * gap] = np.nan
    assert default_tolerance(values, None) == pytest.approx(expected, rel=0.05)
    labels = np.where(np.isnan(values), np.nan, values > 0)
    assert default_tolerance(labels, None, categorical=True) == pytest.approx(0.5, abs=0.05)


def test_a_change_that_nobody_saw_is_tolerated_as_far_as_it_went() -> None:
    values = np.array([[5.0], [5.0], [5.0], [NOTHING], [7.0], [7.0]])
    assert default_tolerance(values, usual_change(values)) == 2.0


def test_what_is_known_once_is_tolerated_by_its_span() -> None:
    once = np.array([[1.0, NOTHING], [NOTHING, 2.0]])
    assert default_tolerance(once, None) == pytest.approx(0.05 * 0.5)
    assert default_tolerance(np.full((3, 2), np.nan), None, resolution=0.1) == 0.05


def test_a_change_is_found_across_gaps() -> None:
    assert not has_changed(np.array([[1.0, 2.0], [NOTHING, 2.0], [1.0, NOTHING]]))
    assert has_changed(np.array([[1.0, 2.0], [NOTHING, 2.0], [1.5, NOTHING]]))
    assert not has_changed(np.empty((0, 2)))
