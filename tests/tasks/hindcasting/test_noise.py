"""What few and overlapping origins can tell, and what they cannot."""

import numpy as np
import pytest
from numpy.typing import NDArray

from gnomon.tasks.hindcasting.noise import Blocks, calibration_error, chance_error, reliability

type Array = NDArray[np.float64]


def share(sums: Array) -> Array:
    return np.asarray(sums[..., 0] / sums[..., 1])


@pytest.mark.parametrize(("origins", "overlap"), [(16, 1), (30, 1), (30, 3), (60, 6)])
def test_intervals_hold_the_truth(origins: int, overlap: int) -> None:
    """Each origin's cells are within their interval together, and with those of its neighbours."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(200):
        shocks = rng.standard_normal(origins + overlap)
        moving = np.convolve(shocks, np.ones(overlap) / overlap**0.5, "valid")[:origins]
        inside = np.clip(0.75 + 0.1 * moving, 0, 1)
        sums = np.stack([100 * inside, np.full(origins, 100.0)], axis=1)
        low, high = Blocks(origins, overlap).interval(sums, share)
        held += low <= 0.75 <= high
    assert held >= 0.88 * 200


def test_overlapping_origins_tell_less() -> None:
    rng = np.random.default_rng(0)
    inside = np.repeat(rng.uniform(0.5, 1.0, 10), 3)
    sums = np.stack([inside, np.ones(30)], axis=1)
    alone, together = (Blocks(30, n).interval(sums, share) for n in (1, 3))
    assert together[1] - together[0] > 1.3 * (alone[1] - alone[0])


def test_blocks_are_as_long_as_forecasts_overlap() -> None:
    assert Blocks.of(np.arange(0, 60, 2), 6) == Blocks(30, 3)
    assert Blocks.of(np.arange(0, 300, 10), 6) == Blocks(30, 1)
    assert Blocks.of(np.array([5]), 6) == Blocks(1, 1)
    assert Blocks.of(np.arange(4), 24) == Blocks(4, 4)


@pytest.mark.parametrize("blocks", [Blocks(1, 1), Blocks(4, 4), Blocks(5, 3)])
def test_one_block_tells_nothing(blocks: Blocks) -> None:
    assert np.isnan(blocks.interval(np.ones((blocks.count, 2)), share)).all()


def outcomes(
    rng: np.random.Generator, origins: int, likeness: float, each: int = 40
) -> tuple[Array, Array, NDArray[np.int64]]:
    """Outcomes of a perfect confidence, alike within an origin."""
    from scipy.special import ndtri

    origin = np.repeat(np.arange(origins), each)
    stated = rng.beta(2, 1.5, len(origin))
    common = rng.standard_normal(origins)[origin]
    own = rng.standard_normal(len(origin))
    latent = likeness**0.5 * common + (1 - likeness) ** 0.5 * own
    return stated, (latent < ndtri(stated)).astype(np.float64), origin


@pytest.mark.parametrize("likeness", [0.0, 0.3, 0.6])
def test_a_perfect_confidence_is_within_chance(likeness: float) -> None:
    rng = np.random.default_rng(1)
    found, floors, beyond = [], [], 0
    for _ in range(60):
        stated, within, origin = outcomes(rng, 20, likeness)
        error = calibration_error(stated, within)
        floor, limit = chance_error(stated, within, origin, Blocks(20, 1))
        found.append(error)
        floors.append(floor)
        beyond += error > limit
    assert np.mean(floors) == pytest.approx(np.mean(found), rel=0.25)
    assert beyond <= 0.2 * 60


def test_likeness_raises_what_chance_shows() -> None:
    rng = np.random.default_rng(2)
    alone, together = (
        np.mean([chance_error(*outcomes(rng, 20, likeness), Blocks(20, 1))[0] for _ in range(5)])
        for likeness in (0.0, 0.6)
    )
    assert together > 1.2 * alone


def test_a_wrong_confidence_is_beyond_chance() -> None:
    rng = np.random.default_rng(3)
    stated, within, origin = outcomes(rng, 30, 0.1)
    bold = stated**0.3
    error = calibration_error(bold, within)
    assert error > chance_error(bold, within, origin, Blocks(30, 1))[1]


def test_nothing_stated_is_no_error() -> None:
    nothing = np.empty(0)
    assert calibration_error(nothing, nothing) == 0.0
    assert chance_error(nothing, nothing, nothing.astype(int), Blocks(3, 1)) == (0.0, 0.0)
    assert reliability(nothing, nothing) == []


def test_reliability_is_by_bin() -> None:
    stated = np.array([0.05, 0.05, 0.95, 1.0])
    rows = reliability(stated, np.array([0.0, 1.0, 1.0, 1.0]))
    assert [row["number"] for row in rows] == [2, 2]
    assert rows[0]["within"] == 0.5
    assert rows[1]["confidence"] == pytest.approx(0.975)
    assert calibration_error(stated, np.array([0.0, 1.0, 1.0, 1.0])) == pytest.approx(
        (2 * 0.45 + 2 * 0.025) / 4
    )
