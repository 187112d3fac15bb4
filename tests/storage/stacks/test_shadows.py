from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gnomon.storage.errors import NotFound
from gnomon.storage.repository import Repository
from gnomon.storage.stacks.shadows import NO_BASE, _dequantise, _reference, quantise

SHAPE = (3, 4)
finite = st.floats(-1e12, 1e12)
fields = hnp.arrays(np.float64, SHAPE, elements=st.one_of(finite, st.just(np.nan)))
errors = hnp.arrays(np.float64, SHAPE, elements=st.one_of(st.floats(1e-6, 1e3), st.just(0.0)))


def back(made: Any, base: Any) -> Any:
    return _dequantise(made.change, made.error, made.score, _reference(base, made.change.shape))


@given(fields, errors, st.one_of(st.none(), fields))
def test_predictions_come_back_within_half_a_quantum(mean: Any, sigma: Any, base: Any) -> None:
    made = quantise("v", (0, 0, 0), mean, sigma, base, 3, 0.9, 1.0)
    values, found = back(made, base)
    known = np.isfinite(mean)
    assert np.array_equal(np.isnan(values), ~known)
    assert np.array_equal(np.isnan(found), ~known)
    rounding = 4 * np.spacing(np.abs(np.concatenate([mean.ravel(), [1e12]]))).max(
        where=True, initial=0
    )
    quantum = made.score[0]
    assert (np.abs(values - mean)[known] <= quantum / 2 + np.nan_to_num(rounding) + 1e-3).all()
    assert made.index[0] == (NO_BASE if base is None else 3)


@given(errors)
def test_standard_errors_come_back_within_five_percent(sigma: Any) -> None:
    made = quantise("v", (0, 0, 0), np.zeros(SHAPE), sigma, None, 0, 0.9, 1.0)
    _, found = back(made, None)
    assert (found[sigma == 0] == 0).all()
    positive = sigma > 0
    largest = sigma.max()
    seen = positive & (sigma > largest * 2.0**-31)
    assert (np.abs(found / np.where(positive, sigma, 1) - 1)[seen] <= 0.05).all()
    assert (found[positive] >= sigma[positive] * 0.95).all()


def test_a_constant_chunk_has_no_error() -> None:
    made = quantise("v", (0, 0, 0), np.ones(SHAPE), np.zeros(SHAPE), np.ones(SHAPE), 0, 1.0, 0.0)
    values, found = back(made, np.ones(SHAPE))
    assert (values == 1).all()
    assert (found == 0).all()


def test_wide_ranges_of_error_are_overstated_never_understated() -> None:
    sigma = np.array([[1e-12, 1.0, 1e6]])
    made = quantise("v", (0, 0, 0), np.zeros((1, 3)), sigma, None, 0, 0.9, 1.0)
    found = back(made, None)[1]
    assert (found >= sigma * 0.95).all()
    assert found[0, 2] == pytest.approx(1e6, rel=0.05)


def test_a_large_change_beside_a_small_error_does_not_overflow() -> None:
    mean = np.array([[1e9, -1e9, 2.0**31 - 1, 0.1]])
    made = quantise("v", (0, 0, 0), mean, np.full((1, 4), 1e-9), None, 0, 0.9, 1.0)
    values, _ = back(made, None)
    assert (np.abs(values - mean) <= made.score[0]).all()


def test_what_cannot_be_counted_from_its_base_is_not_predicted() -> None:
    base = np.array([[-1e308, 0.0, np.inf]])
    made = quantise("v", (0,), np.array([[1e308, 1.0, 2.0]]), np.ones((1, 3)), base, 0, 0.9, 1.0)
    values, _ = back(made, base)
    assert np.isnan(values[0, 0])
    assert values[0, 1] == pytest.approx(1.0, abs=0.2)
    assert values[0, 2] == pytest.approx(2.0, abs=0.2)


@given(fields, errors)
def test_the_digest_sees_every_edit(mean: Any, sigma: Any) -> None:
    mean = np.where(np.isnan(mean), 0.0, mean)
    one = quantise("v", (0, 0, 0), mean, sigma + 1, None, 0, 0.9, 1.0)
    for other in (
        quantise("v", (1, 0, 0), mean, sigma + 1, None, 0, 0.9, 1.0),
        quantise("w", (0, 0, 0), mean, sigma + 1, None, 0, 0.9, 1.0),
    ):
        assert one.index[1:].tolist() != other.index[1:].tolist()


def test_leads_that_were_never_predicted_are_not_found(repository_path: Any) -> None:
    repository = Repository.open(str(repository_path))
    stack = repository.shadow("t", repository.shadows[0])
    stack.chunk(2, (0, 0))
    for lead in (0, 3, -1):
        with pytest.raises(NotFound, match="leads"):
            stack.chunk(lead, (0, 0))


def test_a_shadow_depends_on_the_digest_of_its_base(repository_path: Any) -> None:
    repository = Repository.open(str(repository_path))
    stack = repository.shadow("t", repository.shadows[0])
    values, error = stack.chunk(1, (0, 0))
    assert values.shape == error.shape == (4, 5)
    land = np.isnan(repository.settings.variable("t").to_physical(stack.captures.chunk(3, (0, 0))))
    assert np.array_equal(np.isnan(values), land)
    assert land.any()
