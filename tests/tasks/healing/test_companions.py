"""Other variables help where they know, and do no harm where they do not."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from gnomon.tasks.healing.companions import aided, kinship
from gnomon.tasks.healing.inpainting import inpaint

Floats = NDArray[np.float64]
SHAPE = (18, 24)


def fields(count: int, seed: int) -> Floats:
    """Return smooth fields of unit variance, each with noise in its cells."""
    rng = np.random.default_rng(seed)
    smooth = gaussian_filter(rng.standard_normal((count, *SHAPE)), (0, 3, 3))
    return np.asarray(smooth / smooth.std() + 0.7 * rng.standard_normal((count, *SHAPE)))


def hole() -> NDArray[np.bool_]:
    mask = np.zeros(SHAPE, bool)
    mask[6:12, 9:15] = True
    return mask


def rms(values: Floats) -> float:
    return float(np.sqrt(np.mean(values**2)))


def test_a_variable_that_goes_along_tells_what_no_neighbour_knows() -> None:
    """In a part of the field it goes the other way: slopes are those of each cell."""
    mask = hole()
    sign = np.where(np.arange(SHAPE[1]) < 12, 1.0, -1.0)
    covered = []
    for seed in range(8):
        other = fields(31, seed)
        own = 3.0 * sign * other + 0.5 * fields(31, 100 + seed)
        error = np.full(SHAPE, own.std())
        told = 1e3 * other[None]
        given = np.where(mask, 1e6, own[-1])  # which nobody may look at
        healed, helped = aided(given, error, mask, own[:-1], told[:, -1], told[:, :-1])
        assert helped
        wrong = (healed.departure - own[-1])[mask]
        # The noise of the other is that of this one, too, which is two thirds of what it varies by.
        assert rms(wrong) < 0.35 * rms(own[-1][mask])
        covered.append(np.abs(wrong) <= 1.645 * healed.standard_error[mask])
    assert 0.84 <= np.mean(covered) <= 0.97


def test_a_variable_that_tells_nothing_changes_nothing() -> None:
    mask, own, other = hole(), fields(31, 1), fields(31, 50)
    given, error = np.where(mask, np.nan, own[-1]), np.ones(SHAPE)
    healed, helped = aided(given, error, mask, own[:-1], other[None, -1], other[None, :-1])
    alone = inpaint(given, error, mask, history=own[:-1])
    assert not helped
    np.testing.assert_array_equal(healed.departure, alone.departure)
    assert kinship(own[:-1].reshape(30, -1), other[:-1].reshape(30, -1)) < 0.1


def test_what_is_damaged_there_as_well_is_not_asked() -> None:
    mask, other = hole(), fields(31, 1)
    own = 3.0 * other
    now = np.where(mask, np.nan, other[-1])
    given, error = np.where(mask, np.nan, own[-1]), np.full(SHAPE, 3.0)
    _, helped = aided(given, error, mask, own[:-1], now[None], other[None, :-1])
    assert not helped


def test_of_too_little_nothing_is_said() -> None:
    assert kinship(np.full((5, 3), np.nan), np.ones((5, 3))) == 0.0
    assert kinship(np.ones((2, 3)), np.ones((2, 3))) == 0.0
