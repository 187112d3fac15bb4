"""Past departures are what a forecast would have missed, whatever tile a chunk is in."""

import numpy as np
import pytest
from numpy.typing import NDArray

from gnomon.tasks.forecasting import Specification, identify
from gnomon.tasks.healing import past
from gnomon.tasks.healing.past import (
    PastCaptures,
    changes,
    past_anomalies,
    past_departures,
)

Floats = NDArray[np.float64]
DAY = 86400.0


def record(count: int, seed: int = 0, cells: int = 48, damping: float = 0.8) -> PastCaptures:
    """Return a first-order process about a mean, its shocks partly shared, in chunks of 12."""
    rng = np.random.default_rng(seed)
    values: Floats = np.zeros((count + 50, cells))
    for k in range(1, len(values)):
        shock = 0.6 * rng.standard_normal(cells) + 0.8 * rng.standard_normal()
        values[k] = damping * values[k - 1] + shock
    slots = np.arange(count)
    starts = np.arange(0, cells + 1, 12)
    return PastCaptures(slots, np.asarray(slots * DAY, np.float64), 10.0 + values[50:], starts)


def specify(given: PastCaptures) -> Specification:
    return identify(
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


def departures(given: PastCaptures, lead: int = 1) -> Floats:
    """Return those that there are, at one lead."""
    leads = np.full(len(given.starts) - 1, lead)
    found = past_departures(specify(given), given, leads)
    assert found.shape == given.values.shape
    return found[np.isfinite(found).any(axis=1)]


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
    given = PastCaptures(whole.slots[kept], whole.times_s[kept], whole.values[kept], whole.starts)
    # From slots 9 to 28 on, but for 20 and 21, which are not there, and 19, after which none is.
    assert len(departures(given)) == 17


@pytest.mark.parametrize("lead", [1, 2, 5, 6, 22, 40])
@pytest.mark.parametrize("step", [1, 2])
def test_however_short_the_record_there_is_an_answer(lead: int, step: int) -> None:
    whole = record(32)
    specification = specify(whole)
    for count in range(1, 32):
        slots = step * np.arange(count)
        times = np.asarray(slots * DAY, np.float64)
        given = PastCaptures(slots, times, whole.values[:count], whole.starts)
        found = past_departures(specification, given, np.full(4, lead))
        assert found.shape == given.values.shape
        # A forecast is made where there are two captures, and one so much later.
        possible = lead % step == 0 and count > lead // step + 1 and lead + 1 > step
        assert np.isfinite(found).any() == possible


def test_each_chunk_has_its_lead() -> None:
    given = record(40)
    specification = specify(given)
    leads = np.array([1, 3, 1, 2])
    mixed = past_departures(specification, given, leads)
    for chunk, lead in enumerate(leads):
        alone = past_departures(specification, given, np.full(4, lead))
        cells = given.cells(chunk)
        np.testing.assert_allclose(mixed[:, cells], alone[:, cells], rtol=1e-9, atol=1e-9)


def test_a_large_chunk_is_hindcast_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    given = record(40)
    whole = past_departures(specify(given), given, np.full(4, 1))
    monkeypatch.setattr(past, "PIECE_CELLS", 5)
    monkeypatch.setattr(past, "TILE_BYTES", 1)
    pieces = past_departures(specify(given), given, np.full(4, 1))
    assert (np.isfinite(pieces) == np.isfinite(whole)).all()
    assert np.nanmax(np.abs(pieces - whole)) < 0.3  # cells borrow from fewer others


def test_changes_are_over_as_many_captures_as_the_lead() -> None:
    given = record(10)
    found = changes(given, np.array([2, 2, 2, 3]))
    expected = given.values[2:] - given.values[:-2]
    np.testing.assert_array_equal(found[2:, :36], expected[:, :36])
    np.testing.assert_array_equal(found[3:, 36:], (given.values[3:] - given.values[:-3])[:, 36:])
    assert np.isnan(found[:2]).all()


def test_an_anomaly_knows_nothing_of_its_own_capture_or_later_ones() -> None:
    """Fitted to all of them, past anomalies would be smaller than the one that is healed."""
    given = record(40)
    whole, usual = past_anomalies(specify(given), given, given.times_s[-1] + DAY)
    assert whole.shape == given.values.shape
    assert usual.shape == given.values.shape[1:]
    given.values[30:] += 100.0
    changed, higher = past_anomalies(specify(given), given, given.times_s[-1] + DAY)
    np.testing.assert_array_equal(changed[:30], whole[:30])
    np.testing.assert_allclose(changed[30], whole[30] + 100.0, rtol=1e-9)
    assert (higher > usual + 10.0).all()


def test_anomalies_are_about_the_mean_of_what_was_before_a_third_of_the_record_at_least() -> None:
    given = record(60)
    found, usual = past_anomalies(specify(given), given, given.times_s[-1] + DAY)
    assert np.isnan(found[:21]).all()
    # What is older counts a little less, and a plain mean has no such memory.
    before = np.cumsum(given.values, axis=0) / np.arange(1, 61)[:, None]
    np.testing.assert_allclose(found[21:], (given.values - np.roll(before, 1, 0))[21:], atol=0.2)
    np.testing.assert_allclose(usual, before[-1], atol=0.2)


def test_what_was_never_seen_has_no_anomalies() -> None:
    given = record(30)
    given.values[:, 12:24] = np.nan
    found, usual = past_anomalies(specify(given), given, given.times_s[-1] + DAY)
    assert np.isnan(found[:, 12:24]).all()
    assert np.isnan(usual[12:24]).all()
    assert np.isfinite(found[11:, :12]).all()
    assert np.isfinite(usual[:12]).all()
