"""Two estimates of the same cells, combined."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gnomon.storage.serve.planes import PROVENANCE, EstimatedChunk
from gnomon.tasks.healing.combination import SHARED, combine, joined
from gnomon.tasks.healing.inpainting import Inpainted
from gnomon.tasks.restoring import composite
from gnomon.tasks.restoring.heal import Estimate, Figures


def test_it_is_right_about_errors_that_share_what_is_assumed() -> None:
    """Less error than either, and the stated one is the actual one."""
    draws = np.random.default_rng(3).normal(size=(2, 200_000))
    s, t = 1.0, 0.8
    first = s * draws[0]
    second = t * (SHARED * draws[0] + np.sqrt(1 - SHARED**2) * draws[1])
    values, errors, weight = combine(
        (first, np.full_like(first, s)), (second, np.full_like(second, t))
    )
    actual = float(np.sqrt(np.mean(values**2)))
    assert actual < t
    assert errors[0] == pytest.approx(actual, rel=0.01)
    assert 0.5 < weight[0] < 1.0


@pytest.mark.parametrize(("errors", "weight"), [((2.0, 1.0), 1.0), ((1.0, 2.5), 0.0)])
def test_one_that_is_twice_as_sure_counts_alone(errors: tuple[float, float], weight: float) -> None:
    first, second = (
        (np.array([v]), np.array([e])) for v, e in zip((3.0, 5.0), errors, strict=True)
    )
    values, error, weights = combine(first, second)
    assert (weights[0], values[0], error[0]) == (weight, (3.0, 5.0)[int(weight)], min(errors))


def test_what_is_not_estimated_counts_for_nothing() -> None:
    """In one of them, in both, and where both are sure."""
    first = np.array([1.0, np.nan, np.nan, 4.0]), np.array([0.5, np.nan, np.nan, 0.0])
    second = np.array([np.nan, 2.0, np.nan, 4.0]), np.array([np.nan, 0.25, np.nan, 0.0])
    values, errors, weight = combine(first, second)
    np.testing.assert_array_equal(values, [1.0, 2.0, np.nan, 4.0])
    np.testing.assert_array_equal(errors, [0.5, 0.25, np.nan, 0.0])
    np.testing.assert_array_equal(weight, [0.0, 1.0, 0.0, 0.0])


def inpainted(departure: float, error: float, weight: float) -> Inpainted:
    """Return an in-painting of two cells, of which one is estimated."""

    def cells(value: float) -> NDArray[np.float64]:
        return np.array([value, np.nan])

    told = weight or np.nan
    return Inpainted(
        cells(departure),
        cells(error),
        np.array([weight, 0.0]),
        1.0,
        1.0,
        cells(0.0 * told),
        cells(0.5 * told),
    )


GUESS = np.array([9.0, np.nan])
"""Standard error of the second guess, before it is in-painted."""


def test_two_inpaintings_of_one_field_are_combined_on_one_guess() -> None:
    """The first says 1 above a guess of 10, the second 3 above one of 6: each cell has 10.

    The mean of two is known no better than each: both error bars are from the same trials.
    """
    one = joined(
        inpainted(1.0, 2.0, 1.0), inpainted(3.0, 2.0, 0.5), np.array([-4.0, np.nan]), GUESS
    )
    np.testing.assert_allclose(one.departure, [0.5 * (1.0 + 3.0 - 4.0), np.nan])
    np.testing.assert_allclose(one.standard_error, [2.0, np.nan])
    np.testing.assert_allclose(one.weight, [1.0, 0.0])
    np.testing.assert_allclose(one.log_spread, [0.375, np.nan])


def test_a_second_guess_that_earned_no_weight_changes_nothing() -> None:
    first = inpainted(1.0, 2.0, 1.0)
    one = joined(first, inpainted(0.0, 0.1, 0.0), np.array([-4.0, np.nan]), GUESS)
    for name in ("departure", "standard_error", "weight", "log_location", "log_spread"):
        np.testing.assert_array_equal(getattr(one, name), getattr(first, name))


def test_a_second_guess_counts_where_intact_cells_say_much_of_it() -> None:
    """In the middle of a wide hole what is left is the guess, and the forecast is the better."""
    first, second = inpainted(1.0, 2.0, 1.0), inpainted(3.0, 2.0, 1.0)
    shift = np.array([-4.0, np.nan])
    for size, counts in ((2.3, True), (2.2, False)):
        one = joined(first, second, shift, np.array([size, np.nan]))
        assert (one.departure[0] != 1.0) == counts


def test_the_second_counts_alone_where_the_forecast_stands_and_is_far_less_sure() -> None:
    one = joined(
        inpainted(0.0, 9.0, 0.0), inpainted(3.0, 2.0, 1.0), np.array([-4.0, np.nan]), GUESS
    )
    np.testing.assert_allclose(one.departure, [-1.0, np.nan])
    np.testing.assert_allclose(one.log_spread, [0.5, np.nan])
    assert one.weight[0] == 1.0


def test_each_cell_is_marked_as_what_counts_more_in_it() -> None:
    estimator: Any = SimpleNamespace(spec=SimpleNamespace(categorical=False, tolerance=1.0))

    def estimate(errors: list[float], kind: str) -> Estimate:
        flags = np.full(len(errors), PROVENANCE[kind], np.uint8)
        patch = EstimatedChunk(np.zeros(len(errors)), np.array(errors), flags)
        return Estimate(patch, Figures(1.0, 0.5, len(errors)))

    healed = estimate([1.0, 0.3, 1.0, 0.9], "estimated_from_intact_neighbours")
    between = estimate([0.3, 1.0, 0.9, 1.0], "interpolated")
    marked = composite._joined(healed, between, estimator).patch.provenance
    of_healed, of_between = healed.patch.provenance[0], between.patch.provenance[0]
    assert marked.tolist() == [of_between, of_healed, of_between, of_healed]
