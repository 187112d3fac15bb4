from dataclasses import replace

import numpy as np
import pytest

from gnomon.storage.errors import InvalidInput, NotFound
from gnomon.storage.times import SECOND, parse
from gnomon.tasks.points import RestorePoint, find_instant, points, suspects
from gnomon.tasks.restore import choose
from tests.cases import DAMAGED, HISTORY, Case

DAY = 86400 * SECOND
NEXT = "2001-01-25"
"""The day after the history: predicted in `grown`, captured with damage in `damaged`."""


def kinds(case: Case, at: str) -> list[str]:
    stored = case.open().stored
    return [p.kind for p in points(stored, find_instant(stored, at))]


def test_captured_comes_first(grown: Case) -> None:
    stored = grown.open().stored
    found = points(stored, parse("2001-01-10", "standard"))
    assert [p.kind for p in found] == ["captured", "last_capture"]
    exact, before = found
    assert (exact.step, exact.lead, exact.predicted, exact.confidence) == (9, 0, False, 1.0)
    assert exact.expected_error == {"sst": 0.0}
    assert (before.step, before.valid_time) == (8, "2001-01-09T00:00:00")


def test_the_first_capture_has_nothing_before(grown: Case) -> None:
    assert kinds(grown, "2001-01-01") == ["captured"]


def test_beyond_the_last_capture_is_forecast(grown: Case) -> None:
    stored = grown.open().stored
    for lead in range(1, 7):
        instant = parse(NEXT, "standard") + (lead - 1) * DAY
        forecast, last = points(stored, instant)
        assert (forecast.kind, forecast.lead, forecast.predicted) == ("forecast", lead, True)
        assert forecast.instant == instant
        assert forecast.confidence is not None
        assert 0 <= forecast.confidence <= 1
        error = forecast.expected_error["sst"]
        assert error is not None
        assert 0.1 < error < 3
        assert (last.kind, last.lead, last.step) == ("last_capture", lead, HISTORY - 1)


def test_a_suspect_capture_is_healed_first(damaged: Case) -> None:
    stored = damaged.open().stored
    found = points(stored, parse(NEXT, "standard"))
    assert [p.kind for p in found] == ["healed", "suspect", "forecast", "last_capture"]
    assert suspects(stored, HISTORY) == {"sst": [DAMAGED]}
    assert [p.suspect_chunks for p in found] == [1, 1, 0, 0]
    assert [p.predicted for p in found] == [True, False, True, False]
    # A shadow that knew the damaged capture must not answer for it.
    assert found[2].shadow == stored.shadows[0].id
    assert found[1].confidence is None


def test_the_next_forecast_comes_from_the_newest_shadow(damaged: Case) -> None:
    stored = damaged.open().stored
    found = points(stored, parse("2001-01-26", "standard"))[0]
    assert (found.kind, found.lead, found.shadow) == ("forecast", 1, stored.shadows[-1].id)


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("2001-01-10", 9),
        ("2001-01-10T00:00:00", 9),
        ("2001-01-09T20", 9),
        ("2001-01-10T11:59", 9),
        (NEXT, HISTORY),
        ("2001-01-24T23:30", HISTORY),
        ("2001-01-30", HISTORY + 5),
    ],
)
def test_a_time_names_the_state_of_its_slot(grown: Case, text: str, day: int) -> None:
    stored = grown.open().stored
    assert find_instant(stored, text) == stored.captured[0].instant + day * DAY


@pytest.mark.parametrize("text", ["2001-01", "2001"])
def test_a_time_that_names_several_states_is_refused(grown: Case, text: str) -> None:
    with pytest.raises(InvalidInput, match=r"names 30 states, from 2001-01-01.* to 2001-01-30"):
        find_instant(grown.open().stored, text)


@pytest.mark.parametrize("text", ["2000-12-31T06", "2000", "2001-01-31T13", "2050-01-01"])
def test_a_time_without_a_state_says_which_there_are(grown: Case, text: str) -> None:
    with pytest.raises(NotFound, match=r"24 captures from 2001-01-01.* until 2001-01-30"):
        find_instant(grown.open().stored, text)


@pytest.mark.parametrize("text", ["", "yesterday", "2001-13-01", "2001-02-30", "10.01.2001"])
def test_what_is_no_time_is_refused(grown: Case, text: str) -> None:
    with pytest.raises(InvalidInput):
        find_instant(grown.open().stored, text)


def test_a_slot_that_was_skipped_is_answered_by_an_older_shadow(grown: Case) -> None:
    grown.arrive(HISTORY + 2, HISTORY + 3)
    grown.open().update()
    stored = grown.open().stored
    assert [s.instant // DAY for s in stored.captured[-2:]] == [11346, 11349]
    found = points(stored, find_instant(stored, NEXT))
    assert [(p.kind, p.lead) for p in found] == [("forecast", 1), ("last_capture", 1)]
    assert found[0].shadow == stored.shadows[0].id
    skipped = points(stored, find_instant(stored, "2001-01-26"))
    assert [(p.kind, p.lead) for p in skipped] == [("forecast", 2), ("last_capture", 2)]


def point(kind: str) -> RestorePoint:
    made = RestorePoint("captured", "t", 0, 0, None, 0, {}, None, 0, False)
    return replace(made, kind=kind, predicted=kind in ("healed", "forecast"))  # type: ignore[arg-type]


def test_choose_takes_the_best_that_is_accepted() -> None:
    captured, last = point("captured"), point("last_capture")
    healed, suspect, forecast = point("healed"), point("suspect"), point("forecast")
    assert choose((captured, last), None, accept_predicted=False) is captured
    everything = (healed, suspect, forecast, last)
    assert choose(everything, None, accept_predicted=True) is healed
    with pytest.raises(InvalidInput, match="--accept-predicted"):
        choose(everything, None, accept_predicted=False)
    assert choose(everything, "forecast", accept_predicted=True) is forecast
    with pytest.raises(InvalidInput, match="--accept-predicted"):
        choose(everything, "forecast", accept_predicted=False)


def test_a_suspect_or_stale_state_is_only_taken_by_name() -> None:
    suspect, last = point("suspect"), point("last_capture")
    with pytest.raises(NotFound, match="suspect, last_capture"):
        choose((suspect, last), None, accept_predicted=True)
    assert choose((suspect, last), "suspect", accept_predicted=False) is suspect
    assert choose((suspect, last), "last_capture", accept_predicted=False) is last
    with pytest.raises(NotFound, match="there is suspect, last_capture"):
        choose((suspect, last), "captured", accept_predicted=False)
    with pytest.raises(NotFound, match="there is nothing"):
        choose((), "captured", accept_predicted=False)


def test_points_as_json(damaged: Case) -> None:
    stored = damaged.open().stored
    for found in points(stored, parse(NEXT, "standard")):
        data = found.to_json()
        assert data["kind"] == found.kind
        assert data["valid_time"] in ("2001-01-25T00:00:00", "2001-01-24T00:00:00")
        numbers = [e for e in found.expected_error.values() if e is not None]
        assert np.isfinite(numbers).all()
