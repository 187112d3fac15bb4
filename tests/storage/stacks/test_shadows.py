from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gnomon.storage.errors import NotFound
from gnomon.storage.repository import Repository
from gnomon.storage.stacks.quantising import (
    NO_BASE,
    QuantisedChunk,
    along_leads,
    dequantise,
    from_along_leads,
    quantise,
    quantise_alike,
    reference_of,
)

SHAPE = (3, 4)
finite = st.floats(-1e12, 1e12)
fields = hnp.arrays(np.float64, SHAPE, elements=st.one_of(finite, st.just(np.nan)))
errors = hnp.arrays(np.float64, SHAPE, elements=st.one_of(st.floats(1e-6, 1e3), st.just(0.0)))


def made_of(mean: Any, sigma: Any, base: Any, base_step: int = 0) -> QuantisedChunk:
    """Quantise a chunk at a single lead."""
    claims = np.array([0.9]), np.array([1.0])
    return quantise("v", (0, 0), mean[None].copy(), sigma[None], base, base_step, *claims)


def back(made: QuantisedChunk, base: Any, lead: int = 0) -> Any:
    change = made.change[lead]
    reference = reference_of(base, change.shape)
    return dequantise(change, made.error[lead], made.score[lead], reference)


@given(fields, errors, st.one_of(st.none(), fields))
def test_predictions_come_back_within_half_a_quantum(mean: Any, sigma: Any, base: Any) -> None:
    made = made_of(mean, sigma, base, 3)
    values, found = back(made, base)
    known = np.isfinite(mean)
    assert np.array_equal(np.isnan(values), ~known)
    assert np.array_equal(np.isnan(found), ~known)
    rounding = 4 * np.spacing(np.abs(np.concatenate([mean.ravel(), [1e12]]))).max(
        where=True, initial=0
    )
    quantum = made.score[0, 0]
    assert (np.abs(values - mean)[known] <= quantum / 2 + np.nan_to_num(rounding) + 1e-3).all()
    assert made.index[0, 0] == (NO_BASE if base is None else 3)


def test_chunks_of_one_shape_are_quantised_as_each_by_itself() -> None:
    """Bit for bit: cells without a prediction at some leads or all, errors of zero, wide ranges."""
    rng = np.random.default_rng(5)
    shape = 4, 9, *SHAPE
    mean, sigma = rng.normal(size=shape), rng.lognormal(size=shape)
    base = rng.normal(size=shape[1:])
    mean[:, 1, 0], mean[2, 2, :, 1], mean[:, 3], mean[1, 4] = [np.nan] * 4
    sigma[:, 2], sigma[0, 5, 0, 0], sigma[:, 6] = 0.0, 0.0, 1.0
    sigma[:, 7, 0, 0], sigma[3, 7, 0, 1], mean[:, 8] = 1e-30, 1e30, 1e9
    base[0, 1], base[5] = np.nan, np.nan
    steps = np.where(np.arange(9) == 5, NO_BASE, np.arange(9))
    claims = rng.uniform(size=(4, 9)), rng.uniform(size=(4, 9))
    indices = [(2, k) for k in range(9)]
    together = quantise_alike("v", indices, mean, sigma, base, steps, *claims)
    for k, made in enumerate(together):
        given = None if k == 5 else base[k]
        told = [claim[:, k] for claim in claims]
        alone = quantise("v", (2, k), mean[:, k], sigma[:, k], given, int(steps[k]), *told)
        assert made.change.tobytes() == alone.change.tobytes()
        assert made.error.tobytes() == alone.error.tobytes()
        assert made.index.tobytes() == alone.index.tobytes()
        assert made.score.tobytes() == alone.score.tobytes()


@given(errors)
def test_standard_errors_come_back_within_five_percent(sigma: Any) -> None:
    made = made_of(np.zeros(SHAPE), sigma, None)
    _, found = back(made, None)
    assert (found[sigma == 0] == 0).all()
    positive = sigma > 0
    largest = sigma.max()
    seen = positive & (sigma > largest * 2.0**-31)
    assert (np.abs(found / np.where(positive, sigma, 1) - 1)[seen] <= 0.05).all()
    assert (found[positive] >= sigma[positive] * 0.95).all()


def test_a_constant_chunk_has_no_error() -> None:
    made = made_of(np.ones(SHAPE), np.zeros(SHAPE), np.ones(SHAPE))
    values, found = back(made, np.ones(SHAPE))
    assert (values == 1).all()
    assert (found == 0).all()


def test_wide_ranges_of_error_are_overstated_never_understated() -> None:
    sigma = np.array([[1e-12, 1.0, 1e6]])
    made = made_of(np.zeros((1, 3)), sigma, None)
    found = back(made, None)[1]
    assert (found >= sigma * 0.95).all()
    assert found[0, 2] == pytest.approx(1e6, rel=0.05)


def test_a_large_change_beside_a_small_error_does_not_overflow() -> None:
    mean = np.array([[1e9, -1e9, 2.0**31 - 1, 0.1]])
    made = made_of(mean, np.full((1, 4), 1e-9), None)
    values, _ = back(made, None)
    assert (np.abs(values - mean) <= made.score[0, 0]).all()


def test_what_cannot_be_counted_from_its_base_is_not_predicted() -> None:
    base = np.array([[-1e308, 0.0, np.inf]])
    made = made_of(np.array([[1e308, 1.0, 2.0]]), np.ones((1, 3)), base)
    values, _ = back(made, base)
    assert np.isnan(values[0, 0])
    assert values[0, 1] == pytest.approx(1.0, abs=0.2)
    assert values[0, 2] == pytest.approx(2.0, abs=0.2)


@given(fields, errors)
def test_the_digest_sees_every_edit(mean: Any, sigma: Any) -> None:
    both = np.stack([np.nan_to_num(mean)] * 2)
    claims = np.full(2, 0.9), np.ones(2)

    def digests(variable: str) -> Any:
        made = quantise(variable, (0, 0), both.copy(), np.stack([sigma + 1] * 2), None, 0, *claims)
        return made.index[:, 1:]

    one, other = digests("v"), digests("w")
    assert one[0].tolist() != one[1].tolist()  # of another lead
    assert one[0].tolist() != other[0].tolist()


stacks = hnp.arrays(
    np.int32,
    st.tuples(st.integers(1, 5), st.integers(1, 4)),
    elements=st.one_of(st.integers(-100, 100), st.integers(-(2**31), 2**31 - 1)),
)


@given(stacks, st.lists(st.integers(-1000, 1000), min_size=5, max_size=5))
def test_what_leads_add_gives_them_back(changes: Any, exponents: list[int]) -> None:
    quanta = np.exp2(np.array(exponents[: len(changes)], float))
    added = along_leads(changes, quanta)
    np.testing.assert_array_equal(from_along_leads(added, quanta), changes)


def test_what_goes_on_smoothly_adds_little() -> None:
    rng = np.random.default_rng(3)
    first, growth = rng.normal(size=(50, 60)), np.linspace(1.0, 3.0, 6)
    mean = np.stack([first * damping for damping in 0.9 ** np.arange(6)])
    sigma = rng.uniform(0.5, 2.0, first.shape) * growth[:, None, None]
    claims = np.full(6, 0.9), np.ones(6)
    made = quantise("v", (0, 0), mean, sigma, None, 0, *claims)
    added = along_leads(made.change, made.score[:, 0])
    assert np.abs(added[1:]).mean() < 0.5 * np.abs(made.change[1:]).mean()
    # An error that grows as that of the chunk has the same code, but for the rounding.
    assert np.abs(np.diff(made.error.astype(int), axis=0)).max() <= 1
    for lead in range(6):
        np.testing.assert_allclose(back(made, None, lead)[1], sigma[lead], rtol=0.05)


@pytest.mark.parametrize(
    "sigma",
    [
        np.array([[1e-6] * 9 + [1.0], [1.0] * 9 + [1e-6]]),
        np.array([[5e-324] * 10, [1.0] + [1e-9] * 9]),
        np.array([[0.0] * 10, [1.0] + [1e-9] * 9]),
    ],
)
def test_leads_whose_errors_are_unlike_have_scales_of_their_own(sigma: Any) -> None:
    claims = np.full(2, 0.9), np.ones(2)
    made = quantise("v", (0,), np.zeros((2, 10)), sigma, None, 0, *claims)
    for lead in range(2):
        np.testing.assert_allclose(back(made, None, lead)[1], sigma[lead], rtol=0.05)
    assert (made.score[:, 1] > 0).all()


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
