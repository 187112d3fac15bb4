"""When the next update is due: a rule of pure functions, and what becomes of it in updates."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnomon.flows.schedule import (
    Due,
    Limits,
    Look,
    dataset_confidence,
    due_at,
    longest_lead,
    next_due,
    usual_delay,
)
from gnomon.storage.log.bodies.shadow import PredictedEntry

TIMES = [f"2001-01-{day:02d}" for day in range(1, 9)]
NOON = datetime(2001, 1, 1, 12, tzinfo=UTC)
HOUR = 3600.0
CALM = [0.95] * 8


def test_the_longest_lead_that_meets_the_target() -> None:
    due = next_due([0.95, 0.9, 0.7, 0.9], TIMES, target=0.8)
    assert (due.lead, due.valid_time) == (2, "2001-01-02")
    assert next_due([0.9] * 4, TIMES, target=0.8).lead == 4


def test_at_once_below_the_target_or_in_trouble() -> None:
    assert next_due([0.5] * 4, TIMES, target=0.8).lead == 1
    due = next_due(CALM, TIMES, target=0.8, trouble="2 chunks are suspect", before=4)
    assert (due.lead, due.reason) == (1, "2 chunks are suspect")


def test_an_interval_is_shortened_at_once_and_grows_twofold_at_most() -> None:
    leads = [1]
    for _ in range(4):
        due = next_due(CALM, TIMES, target=0.8, before=leads[-1])
        leads.append(due.lead)
    assert leads == [1, 2, 4, 8, 8]
    assert "stays" not in due.reason
    assert "may grow" not in due.reason
    assert "the interval of 1 may grow to 2" in next_due(CALM, TIMES, target=0.8, before=1).reason
    assert next_due([0.95, 0.5], TIMES, target=0.8, before=8).lead == 1


def test_an_interval_does_not_grow_while_a_late_capture_is_suspect() -> None:
    due = next_due(CALM, TIMES, target=0.8, before=2, held="as long as a late capture is suspect")
    assert due.lead == 2
    assert "the interval of 2 stays as long as a late capture is suspect" in due.reason
    assert (
        next_due(
            [0.95, 0.5], TIMES, target=0.8, before=2, held="as long as a late capture is suspect"
        ).lead
        == 1
    )


def test_no_interval_is_longer_than_is_allowed() -> None:
    due = next_due(CALM, TIMES, target=0.8, before=4, most=3)
    assert due.lead == 3
    assert "3 is the longest that is allowed" in due.reason
    assert longest_lead(HOUR, Limits()) is None
    assert longest_lead(HOUR, Limits(most=timedelta(hours=2.5))) == 2
    assert longest_lead(HOUR, Limits(most=timedelta(minutes=1))) == 1


def looked(lag_hours: float, at: datetime = NOON) -> Look:
    return Look(at, lag_hours * HOUR)


def test_a_source_that_is_seldom_looked_at_does_not_publish_later_for_that() -> None:
    lags = [2.0, 2.9, 2.4, 2.1, 2.95, 2.6, 2.2, 2.8]
    assert usual_delay([looked(lag) for lag in lags]) == pytest.approx(2.1 * HOUR)
    # What was learnt long ago is forgotten: it publishes an hour later now.
    late = [*lags, *(lag + 1 for lag in lags * 3)]
    assert usual_delay([looked(lag) for lag in late]) == pytest.approx(3.2 * HOUR)
    assert usual_delay([]) is None


def test_a_state_is_due_when_the_source_usually_has_it() -> None:
    """A state of 9:40 that is published two hours later, and was found at noon."""
    look = looked(2 + 1 / 3)
    at = due_at(look, 1 * HOUR, HOUR, Limits(), usual_s=2 * HOUR)
    assert at == NOON + timedelta(minutes=40)
    at = due_at(look, 6 * HOUR, HOUR, Limits(), usual_s=2 * HOUR)
    assert at == NOON + timedelta(hours=5, minutes=40)
    assert due_at(look, 1 * HOUR, HOUR, Limits()) == NOON + timedelta(hours=1)


def test_what_the_user_says_of_the_delay_counts() -> None:
    delay = timedelta(hours=2, minutes=10)
    at = due_at(looked(2 + 1 / 3), HOUR, HOUR, Limits(), usual_s=0.0, delay=delay)
    assert at == NOON + timedelta(minutes=50)


def test_due_times_stay_within_the_limits() -> None:
    limits = Limits(timedelta(minutes=30), timedelta(hours=2))
    assert due_at(looked(1), 0.1 * HOUR, HOUR, limits) == NOON + timedelta(minutes=30)
    assert due_at(looked(1), 9 * HOUR, HOUR, limits) == NOON + timedelta(hours=2)


@given(
    lag=st.floats(-1e12, 1e12),
    usual=st.one_of(st.none(), st.floats(-1e12, 1e12)),
    lead=st.floats(1, 1e13),
)
def test_clocks_that_have_nothing_in_common_do_no_harm(
    lag: float, usual: float | None, lead: float
) -> None:
    """A record of a century ago that grows today, or a simulation of the year 20,000."""
    at = due_at(Look(NOON, lag), lead * HOUR, HOUR, Limits(), usual_s=usual)
    assert at >= NOON
    latest = datetime.max.replace(tzinfo=UTC)
    assert at == latest or abs((at - NOON).total_seconds() - lead * HOUR) <= HOUR + 1


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"lead": 0, "valid_time": "2001", "reason": "x", "at": None},
        {"lead": "1", "valid_time": "2001", "reason": "x"},
        {"lead": 1, "valid_time": "2001", "reason": "x", "at": "soon"},
        {"lead": 1, "valid_time": "2001", "reason": "x", "at": "2001-01-01T00:00:00"},
        {"lead": 1, "valid_time": "2001", "reason": "x", "at": 3},
    ],
)
def test_nonsense_says_nothing_of_the_next_update(data: dict[str, Any]) -> None:
    assert Due.from_json(data) is None


def test_a_due_time_is_read_as_it_was_written() -> None:
    due = Due(2, "2001-01-02", "calm", NOON.isoformat())
    assert Due.from_json(due.to_json()) == due
    assert due.is_later_than(NOON - timedelta(seconds=1))
    assert not due.is_later_than(NOON)
    older = Due.from_json({"lead": 2, "valid_time": "2001-01-02", "reason": "calm"})
    assert older is not None
    assert not older.is_later_than(NOON)


def variable(confidence: list[float | None], usual_change: float | None) -> PredictedEntry:
    return PredictedEntry("r", "r", tuple(confidence), (), 1.0, usual_change=usual_change)


def test_what_never_changed_does_not_say_when_to_look() -> None:
    moving, constant = variable([0.9, 0.8], 0.3), variable([0.7, 0.5], 0.0)
    assert dataset_confidence([moving, constant]) == [0.9, 0.8]
    assert dataset_confidence([constant, constant]) == [0.7, 0.5]
    assert dataset_confidence([moving, variable([0.95, 0.4], None)]) == [0.9, 0.4]


def test_what_is_not_predicted_does_not_count() -> None:
    empty = variable([None, None], 0.2)
    assert dataset_confidence([variable([0.9, 0.8], 0.3), empty]) == [0.9, 0.8]
    assert dataset_confidence([empty]) == [0.0, 0.0]
    assert next_due([0.0, 0.0], TIMES, target=0.8).lead == 1
