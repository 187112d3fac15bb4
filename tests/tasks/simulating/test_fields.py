"""Fields of members: each place by itself, unit variance, and the covariance that was asked for."""

import numpy as np
import pytest
from numpy.typing import NDArray

from gnomon.tasks.healing.covariance import correlate
from gnomon.tasks.simulating import covariance
from gnomon.tasks.simulating.departing import PastFields
from gnomon.tasks.simulating.draws import generator
from gnomon.tasks.simulating.fields import Waves, resemble, roughen, stretch

Floats = NDArray[np.float64]
WHOLE = (slice(0, 12), slice(0, 16))


def waves(
    *, cyclic: bool = False, leads: int = 2, lengths: tuple[float, ...] = (3.0, 5.0)
) -> Waves:
    correlations = 0.6 + 0.4 * np.eye(leads)
    weights = np.eye(leads, 2) if leads == 2 else np.ones((leads, 1))
    parts = np.array([lengths, [2 * x for x in lengths]])[: weights.shape[1]]
    return Waves((12, 16), (False, cyclic), parts, weights, covariance.root(correlations))


def past(count: int = 40, leads: int = 2, cells: int = 30) -> PastFields:
    rng = np.random.default_rng(3)
    common = rng.standard_normal((count, leads, 1))
    values = common + rng.standard_normal((count, leads, cells))
    values[:, :, 5] = np.nan
    values[:7, :, 6] = np.nan
    return PastFields(np.arange(count) * 3, values.astype(np.float32))


def test_a_place_has_the_same_numbers_whatever_was_drawn_before() -> None:
    before = generator(1, "cells", 2, 3).standard_normal(50)
    generator(1, "cells", 2, 4).standard_normal(50)
    assert (generator(1, "cells", 2, 3).standard_normal(50) == before).all()


@pytest.mark.parametrize("other", [(2, "cells", 2, 3), (1, "waves", 2, 3), (1, "cells", 3, 2)])
def test_other_places_have_other_numbers(other: tuple[int, str, int, int]) -> None:
    draws = generator(1, "cells", 2, 3).standard_normal(2000)
    others = generator(*other).standard_normal(2000)
    assert abs(np.corrcoef(draws, others)[0, 1]) < 0.1


def test_a_chunk_alone_is_what_it_is_in_the_whole() -> None:
    """Waves know the place of a cell, not what else was asked for."""
    given = waves()
    whole = given.field(1, 0, 1, WHOLE)
    for rows in (slice(0, 5), slice(5, 12)):
        part = given.field(1, 0, 1, (rows, slice(4, 9)))
        assert np.allclose(part, whole[rows, 4:9], rtol=0, atol=1e-12)
    assert (waves().field(1, 0, 1, WHOLE) == whole).all()


def test_waves_have_unit_variance_in_each_cell() -> None:
    drawn = np.stack([waves().field(1, m, 0, WHOLE) for m in range(400)])
    assert np.mean(drawn**2) == pytest.approx(1.0, abs=0.06)
    assert np.abs(np.mean(drawn**2, axis=0) - 1.0).max() < 0.4


@pytest.mark.parametrize("row", [0, 1])
def test_waves_have_the_correlation_of_their_row(row: int) -> None:
    drawn = np.stack([waves().field(1, m, row, WHOLE) for m in range(400)])
    for lag in (1, 3, 6):
        expected = float(correlate(np.array([lag / (5.0 * (row + 1))]), smooth=True)[0])
        assert np.mean(drawn[:, :, lag:] * drawn[:, :, :-lag]) == pytest.approx(expected, abs=0.1)


def test_leads_go_together_in_every_place() -> None:
    """Also far from the first cell, though their correlation lengths differ."""
    first, second = (
        np.stack([waves().field(1, m, row, WHOLE) for m in range(500)]) for row in (0, 1)
    )
    together = np.mean(first * second, axis=0)
    assert together.min() > 0.25
    assert abs(together[:, :4].mean() - together[:, -4:].mean()) < 0.15


def test_an_axis_that_wraps_around_has_no_seam() -> None:
    drawn = np.stack([waves(cyclic=True).field(1, m, 0, WHOLE) for m in range(50)])
    seam = np.mean((drawn[:, :, 0] - drawn[:, :, -1]) ** 2)
    inside = np.mean((drawn[:, :, 1:] - drawn[:, :, :-1]) ** 2)
    assert seam == pytest.approx(inside, rel=0.5)


def test_a_variable_of_one_number_is_drawn() -> None:
    given = Waves((), (), np.ones((1, 0)), np.ones((1, 1)), np.ones((1, 1)))
    drawn = [float(given.field(1, m, 0, ())) for m in range(800)]
    assert np.std(drawn) == pytest.approx(1.0, abs=0.1)


def test_combinations_of_the_past_have_its_covariance_and_unit_variance() -> None:
    given = past()
    drawn = np.stack([[resemble(1, m, lead, given) for lead in (1, 2)] for m in range(1500)])
    assert np.isnan(drawn[..., 5]).all()
    known = np.delete(drawn, 5, axis=-1).reshape(len(drawn), -1)
    sample = np.nan_to_num(np.delete(given.values, 5, axis=-1)).reshape(40, -1).astype(np.float64)
    sample /= np.sqrt((sample**2).sum(axis=0))
    assert np.abs(known.T @ known / len(known) - sample.T @ sample).max() < 0.15


def test_a_part_of_the_past_gives_the_same_bits() -> None:
    given = past()
    assert (resemble(1, 4, 2, given.take(slice(8, 20))) == resemble(1, 4, 2, given)[8:20]).all()


def test_rough_numbers_are_correlated_between_leads_alone() -> None:
    mixing = covariance.root(np.array([[1.0, 0.7], [0.7, 1.0]]))
    first, second = (roughen(1, "v", 0, lead, mixing, 3, (60, 60)) for lead in (1, 2))
    assert np.mean(first * second) == pytest.approx(0.7, abs=0.06)
    assert np.std(first) == pytest.approx(1.0, abs=0.05)
    assert abs(np.mean(first[1:] * first[:-1])) < 0.06
    assert abs(np.mean(first * roughen(1, "v", 0, 1, mixing, 4, (60, 60)))) < 0.06


@pytest.mark.parametrize("independent", [0.0, 3.0, 40.0])
def test_ninety_percent_are_within_the_stated_interval(independent: float) -> None:
    """However few hindcasts there are: the standard error is about these 90 %."""
    rng = np.random.default_rng(0)
    sizes = np.array([stretch(1, m, independent) for m in range(4000)])
    inside = np.abs(sizes * rng.standard_normal(4000)) < 1.6448536
    assert inside.mean() == pytest.approx(0.9, abs=0.015)
