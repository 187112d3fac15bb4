"""Past departures are what a forecast would have missed, whatever tile a chunk is in."""

import numpy as np
import pytest
from numpy.typing import NDArray

from gnomon.tasks import past
from gnomon.tasks.forecasting import identify
from gnomon.tasks.past import Record, changes, past_departures

Floats = NDArray[np.float64]
DAY = 86400.0


def record(count: int, seed: int = 0, cells: int = 48, damping: float = 0.8) -> Record:
    """Return a first-order process about a mean, its shocks partly shared, in chunks of 12."""
    rng = np.random.default_rng(seed)
    values: Floats = np.zeros((count + 50, cells))
    for k in range(1, len(values)):
        shock = 0.6 * rng.standard_normal(cells) + 0.8 * rng.standard_normal()
        values[k] = damping * values[k - 1] + shock
    slots = np.arange(count)
    starts = np.arange(0, cells + 1, 12)
    return Record(slots, np.asarray(slots * DAY, np.float64), 10.0 + values[50:], starts)


def departures(given: Record, lead: int = 1, unseen: NDArray[np.int64] | None = None) -> Floats:
    specification = identify(
        given.times_s,
        given.values,
        interval_s=DAY,
        leads=3,
        year_s=365.25 * DAY,
        periods_s=(),
        bounds=(None, None),
        tolerance=1.0,
        categorical=False,
    )
    return past_departures(specification, given, lead, unseen)


def test_they_are_as_large_as_what_cannot_be_foreseen() -> None:
    """The shocks have a variance of 1; over two steps it is 1 + .8^2."""
    one = np.concatenate([departures(record(60, seed)) for seed in range(6)])
    two = np.concatenate([departures(record(60, seed), 2) for seed in range(6)])
    assert one.shape[1] == 48
    assert np.sqrt(np.mean(one**2)) == pytest.approx(1.0, rel=0.2)
    assert np.sqrt(np.mean(two**2)) == pytest.approx(np.sqrt(1.64), rel=0.25)


def test_the_tile_that_a_chunk_is_in_makes_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = departures(record(40))
    monkeypatch.setattr(past, "TILE_BYTES", 1)
    np.testing.assert_allclose(departures(record(40)), whole, rtol=1e-9, atol=1e-9)


def test_what_was_unseen_now_is_hidden_from_the_past() -> None:
    """A chunk unknown for two slots misses by what three slots bring; the others as before."""
    unseen = np.array([0, 2, 0, 0])
    hidden = np.concatenate([departures(record(60, seed), 1, unseen) for seed in range(6)])
    seen = np.concatenate([departures(record(60, seed)) for seed in range(6)])
    assert hidden.shape == seen.shape
    grown = np.sqrt(1 + 0.8**2 + 0.8**4)
    assert np.sqrt(np.mean(hidden[:, 12:24] ** 2)) == pytest.approx(grown, rel=0.2)
    np.testing.assert_allclose(hidden[:, 24:], seen[:, 24:], atol=0.5)
    np.testing.assert_array_equal(departures(record(30), 1, 0 * unseen), departures(record(30)))


def test_what_is_missing_stays_missing_and_alone() -> None:
    given = record(30)
    given.values[20:, 12:24] = np.nan
    late = departures(given)[-5:]
    assert np.isnan(late[:, 12:24]).all()
    assert np.isfinite(late[:, :12]).all()


@pytest.mark.parametrize("count", [3, 4, 6])
def test_few_captures_give_few(count: int) -> None:
    found = departures(record(count))
    assert 1 <= len(found) < count
    assert np.isfinite(found).all()


def test_gaps_are_not_bridged() -> None:
    """No departure is found for a capture whose forecast would have had another lead."""
    whole = record(30)
    kept = np.delete(np.arange(30), [20, 21])
    given = Record(whole.slots[kept], whole.times_s[kept], whole.values[kept], whole.starts)
    # From slots 9 to 28 on, but for 20 and 21, which are not there, and 19, after which none is.
    assert len(departures(given)) == 17


def test_changes_are_over_as_many_captures_as_the_lead() -> None:
    given = record(10)
    np.testing.assert_array_equal(changes(given, 2), given.values[2:] - given.values[:-2])
    late = changes(given, 2, np.array([0, 3, 0, 0]))
    np.testing.assert_array_equal(late[:, :12], given.values[5:, :12] - given.values[3:-2, :12])
    np.testing.assert_array_equal(
        late[:, 12:24], given.values[5:, 12:24] - given.values[:-5, 12:24]
    )
