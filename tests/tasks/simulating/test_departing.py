"""Past departures of all leads: what is unknown stays so, and the newest count most."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from gnomon.tasks.forecasting import identify
from gnomon.tasks.healing.past import PastCaptures
from gnomon.tasks.simulating.covariance import level
from gnomon.tasks.simulating.departing import PastFields, blend_weights, depart, place_origins

DAY = 86400.0
LEADS = 3
LAND, CALM = slice(0, 10), slice(10, 15)


@pytest.fixture(scope="module")
def past() -> PastFields:
    """Return departures of white noise, with cells of land and cells that never change."""
    count, cells = 40, 40
    values: NDArray[np.float64] = np.random.default_rng(0).standard_normal((count, cells))
    values[:, LAND] = np.nan
    values[:, CALM] = 3.0
    values[:, -5:] *= 10.0
    slots = np.arange(count)
    record = PastCaptures(slots, np.asarray(slots * DAY, np.float64), values, np.array([0, cells]))
    spec = identify(
        record.times_s,
        record.values,
        interval_s=DAY,
        leads=LEADS,
        year_s=365.25 * DAY,
        periods_s=(),
        bounds=(None, None),
        tolerance=1.0,
        categorical=False,
    )
    origins = place_origins(spec, record)
    weights = blend_weights(spec, record, origins)
    return depart(replace(spec, lags=0), record, origins, weights, np.arange(cells))


def test_what_is_masked_or_never_changes_has_no_departure(past: PastFields) -> None:
    assert np.isnan(past.values[..., LAND]).all()
    assert not np.nan_to_num(past.values[..., CALM]).any()
    assert np.isfinite(past.values[..., CALM.stop :]).all()


def test_they_are_level_over_the_cells_that_have_any(past: PastFields) -> None:
    """As zeros, the others would make the rest larger than one, and their variograms too."""
    assert past.sizes is not None
    even = level(past)
    weight = np.broadcast_to(past.sizes**2, even.shape)[..., CALM.stop :]
    squares = even[..., CALM.stop :] ** 2
    assert np.average(squares, axis=(0, 2), weights=weight) == pytest.approx(1.0, rel=1e-3)
    assert not even[..., : CALM.stop].any()


def test_the_newest_count_most_and_fewer_are_independent(past: PastFields) -> None:
    assert past.weights is not None
    assert (np.diff(past.weights, axis=0) > 0).all()
    assert past.weights.mean(axis=0) == pytest.approx(1.0)
    alike = replace(past, weights=None)
    assert (past.independent() < alike.independent()).all()


def test_a_part_of_the_cells_keeps_their_sizes(past: PastFields) -> None:
    assert past.sizes is not None
    part = past.take(slice(30, 40)).sizes
    assert part is not None
    assert (part == past.sizes[:, 30:]).all()
    assert part[:, -5:].min() > 2 * part[:, :5].max()
