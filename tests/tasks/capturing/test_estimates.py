"""Which cells tell that a rollback wrote them, and which may be equal by chance."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gnomon.storage.values.model import Variable
from gnomon.tasks.capturing.estimates import Standing, standing

SHAPE = (64, 64)


def variable_of(dtype: str, **attributes: Any) -> Variable:
    return Variable("t", ("y", "x"), SHAPE, dtype, SHAPE, SHAPE, SHAPE, attributes)


def fields(seed: int, error: float, step: float) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return a field and its estimate, float64: smooth errors, both rounded to a step."""
    random = np.random.default_rng(seed)
    truth = 280 + 10 * np.sin(np.linspace(0, 3, 64))[:, None] + random.normal(size=SHAPE)
    errors = random.normal(size=SHAPE)
    for axis in (0, 1):
        errors = errors + np.roll(errors, 1, axis) + np.roll(errors, 2, axis)
    errors *= error / errors.std()
    return np.round(truth / step), np.round((truth + errors) / step)


PACKED = {
    "a hundred steps of error": ("<i2", 1.0, 0.01),
    "ten steps of error": ("<i2", 0.1, 0.01),
    "two steps of error": ("<i2", 0.02, 0.01),
    "a step of error": ("<i2", 0.01, 0.01),
    "rounded floats": ("<f4", 0.1, 0.01),
}


def become(
    variable: Variable,
    now: NDArray[Any],
    written: NDArray[Any],
    mask: NDArray[np.bool_] | None = None,
) -> Standing:
    """Return what became of the estimated cells of a chunk, all of it unless a mask says so."""
    cells = np.ones(now.shape, bool) if mask is None else mask
    is_same = bool((now[cells] == written[cells]).all())
    return standing(variable, now, cells, written[cells], is_same=is_same)


@pytest.mark.parametrize("case", PACKED.values(), ids=PACKED.keys())
def test_measured_values_are_believed_though_some_are_those_of_the_estimate(case: Any) -> None:
    dtype, error, step = case
    equal = 0
    for seed in range(20):
        truth, estimate = (a.astype(dtype) for a in fields(seed, error, step))
        equal += int((truth == estimate).sum())
        assert become(variable_of(dtype), truth, estimate) == "gone"
    assert equal > 100


@pytest.mark.parametrize("case", PACKED.values(), ids=PACKED.keys())
def test_a_patch_that_nobody_has_written_tells(case: Any) -> None:
    dtype, error, step = case
    rows = 16 if error / step < 5 else 4
    for seed in range(20):
        truth, estimate = (a.astype(dtype) for a in fields(seed, error, step))
        truth[20 : 20 + rows] = estimate[20 : 20 + rows]
        assert become(variable_of(dtype), truth, estimate) == "stands"


def test_of_plain_floats_a_single_cell_tells() -> None:
    random = np.random.default_rng(0)
    truth, estimate = random.normal(size=(2, *SHAPE)).astype("<f4")
    assert become(variable_of("<f4"), truth, estimate) == "gone"
    truth[3, 3] = estimate[3, 3]
    assert become(variable_of("<f4"), truth, estimate) == "stands"
    estimate[3, 3] = np.nan  # a cell that was no estimate says nothing
    assert become(variable_of("<f4"), truth, estimate, np.isfinite(estimate)) == "gone"


def test_what_many_cells_have_tells_nothing() -> None:
    """A sea without ice, days without rain."""
    truth, estimate = np.random.default_rng(1).random((2, *SHAPE)).astype("<f4")
    truth[:40], estimate[:40] = 0, 0
    variable = variable_of("<f4")
    assert become(variable, truth, estimate) == "gone"
    zeros = np.zeros(SHAPE, "<f4")
    assert become(variable, zeros, zeros) == "unmoved"
    changed = zeros.copy()
    changed[0, 0] = 0.2
    assert become(variable, changed, zeros) == "gone"
    # Beside them, those that are no common value tell as before.
    truth[50] = estimate[50]
    assert become(variable, truth, estimate) == "stands"


def test_labels_tell_nothing() -> None:
    labels = np.random.default_rng(2).integers(0, 60, SHAPE).astype("<i2")
    variable = variable_of("<i2", flag_values=[*range(60)], flag_meanings="a b")
    assert become(variable, labels, labels) == "unmoved"
    other = labels.copy()
    other[0] += 1
    assert become(variable, other, labels) == "gone"


def test_missing_values_have_been_written() -> None:
    estimate = np.random.default_rng(3).normal(size=SHAPE).astype("<f4")
    assert become(variable_of("<f4"), np.full(SHAPE, np.nan, "<f4"), estimate) == "gone"
