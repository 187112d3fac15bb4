"""Blend weights are on the simplex, whatever the errors of the candidates are."""

import warnings
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from gnomon.tasks.forecasting import blend
from gnomon.tasks.forecasting.candidate import CANDIDATES
from tests.tasks.forecasting.series import fit, specification

type Array = NDArray[np.float64]
ORIGINS, LEADS, COUNT, CELLS = 30, 4, len(CANDIDATES), 12


def errors(seed: int = 0) -> Array:
    """(O, H, C, N) with candidates of different worth."""
    rng = np.random.default_rng(seed)
    common = rng.standard_normal((ORIGINS, LEADS, 1, CELLS))
    own = rng.standard_normal((ORIGINS, LEADS, COUNT, CELLS))
    return np.linspace(0.8, 2.0, COUNT)[:, None] * (0.5 * common + own)


def perfect(*candidates: int) -> Callable[[Array], None]:
    def spoil(found: Array) -> None:
        found[:, :, candidates] = 0.0

    return spoil


def everything(found: Array) -> None:
    found[:] = 0.0


def at_some_leads(found: Array) -> None:
    found[:, :2, 4] = 0.0


def all_at_some_leads(found: Array) -> None:
    found[:, 1] = 0.0


def nearly(found: Array) -> None:
    found[:, :, 3] *= 1e-9


def beyond_rounding(found: Array) -> None:
    found[:, :, 3] *= 1e-160


def enormous(found: Array) -> None:
    found *= 1e140


def tiny(found: Array) -> None:
    found *= 1e-150


def one_is_enormous(found: Array) -> None:
    found[:, :, 5] *= 1e60


def mostly(found: Array) -> None:
    found[1:, :, 2] = 0.0


KINDS: dict[str, Callable[[Array], None]] = {
    "no candidate is perfect": lambda found: None,
    "persistence is": perfect(0),
    "one is": perfect(4),
    "several are": perfect(1, 4, 6),
    "all are": everything,
    "one is at some leads": at_some_leads,
    "all are at one lead": all_at_some_leads,
    "one is nearly": nearly,
    "one is but for rounding": beyond_rounding,
    "one is but once": mostly,
    "all are enormous": enormous,
    "all are tiny": tiny,
    "one is enormous": one_is_enormous,
}


def weights(found: Array) -> Array:
    products, verified = blend.moments(found)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return blend.weights(products, verified.astype(np.float64))


@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_on_the_simplex(kind: str) -> None:
    found = errors()
    KINDS[kind](found)
    made = weights(found)
    assert made.shape == (LEADS, COUNT)
    assert np.isfinite(made).all()
    assert (made >= 0).all()
    np.testing.assert_allclose(made.sum(axis=1), 1.0)


@pytest.mark.parametrize(
    ("kind", "right"), [("persistence is", (0,)), ("one is", (4,)), ("several are", (1, 4, 6))]
)
def test_what_is_perfect_is_taken(kind: str, right: tuple[int, ...]) -> None:
    found = errors()
    KINDS[kind](found)
    assert weights(found)[:, right].sum(axis=1) == pytest.approx(1.0, abs=5e-3)


def test_what_is_perfect_at_some_leads_is_taken_there() -> None:
    found = errors()
    at_some_leads(found)
    made = weights(found)
    assert made[:2, 4] == pytest.approx(1.0, abs=5e-3)
    # What a neighbouring lead shows does not make it perfect here.
    alone = weights(errors())
    assert (made[3] @ np.ones(COUNT)) == pytest.approx(1.0)
    assert np.abs(made[3] - alone[3]).max() < 0.7


def test_nothing_to_choose_by_is_persistence() -> None:
    assert (weights(np.zeros((ORIGINS, LEADS, COUNT, CELLS)))[:, 0] == 1).all()


SERIES: dict[str, Array] = {
    "constant": np.full((40, 9), 7.0),
    "constant but once": np.where(np.arange(40)[:, None] == 20, 8.0, 7.0) * np.ones(9),
    "some cells constant": np.where(
        np.arange(9) < 5, 3.0, np.random.default_rng(0).standard_normal((40, 9))
    ),
    "a perfect season": np.cos(2 * np.pi * np.arange(40.0) / 24)[:, None] * np.ones(9),
    "a straight line": np.arange(40.0)[:, None] * np.ones(9),
    "zero": np.zeros((40, 9)),
    "alternating": (np.arange(40.0) % 2)[:, None] * np.ones(9),
}


@pytest.mark.parametrize("kind", SERIES)
@pytest.mark.parametrize("seasonal", [False, True])
def test_series_that_a_candidate_knows_exactly(kind: str, seasonal: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = fit(specification(seasonal=seasonal), SERIES[kind])
        made = found.forecast()
    assert np.isfinite(found.outlook.calibration.weights).all()
    assert np.isfinite(made.mean).all()
    assert (made.standard_error > 0).all()
    assert ((made.confidence >= 0) & (made.confidence <= 1)).all()
