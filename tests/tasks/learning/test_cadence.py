from collections.abc import Sequence

import cftime
import numpy as np
import pytest
from numpy.typing import NDArray

from gnomon.storage.errors import InvalidInput
from gnomon.storage.values.times import EPOCH, SECOND
from gnomon.tasks.learning.cadence import Cadence, identify_cadence, year_seconds

DAY = 86400 * SECOND


def instants(dates: Sequence[tuple[int, ...]], calendar: str = "standard") -> NDArray[np.int64]:
    found = [cftime.datetime(*date, calendar=calendar) for date in dates]
    return np.array([cftime.date2num(d, EPOCH, calendar=calendar) for d in found], np.int64)


def check_slots(cadence: Cadence, times: NDArray[np.int64], slots: list[int]) -> None:
    """Captures are in these slots, and each slot gives back its capture's time exactly."""
    assert [cadence.slot(int(i)) for i in times] == slots
    assert [cadence.instant(s) for s in slots] == times.tolist()


def test_fixed_interval_with_gaps() -> None:
    days = [0, 1, 2, 5, 6, 9]
    times = np.array(days) * DAY + 6 * 3600 * SECOND
    check_slots(identify_cadence(times, "standard"), times, days)


def test_interval_is_a_step_even_if_as_many_steps_are_double() -> None:
    times = np.array([0, 1, 3, 4, 6]) * DAY
    check_slots(identify_cadence(times, "standard"), times, [0, 1, 3, 4, 6])


def test_an_interval_that_is_nothing_beside_the_gaps_is_refused() -> None:
    """Gone through slot by slot, a month of microseconds would take terabytes."""
    month = np.arange(30) * DAY
    with pytest.raises(InvalidInput, match="--interval"):
        identify_cadence(month, "standard", 1e-6)
    bursts = np.array([0, 1, 2, 3, 30 * DAY])
    with pytest.raises(InvalidInput, match="--interval"):
        identify_cadence(bursts, "standard")
    assert identify_cadence(month, "standard", 1.0).interval == SECOND


def test_jittered_captures_fall_into_consecutive_slots() -> None:
    jitter = np.random.default_rng(0).integers(-600, 600, 30) * SECOND
    cadence = identify_cadence(np.arange(30) * DAY + jitter, "standard")
    assert [cadence.slot(int(i)) for i in np.arange(30) * DAY + jitter] == list(range(30))


def test_given_interval_wins() -> None:
    cadence = identify_cadence(np.array([0, 1, 2]) * DAY, "standard", 43200.0)
    assert cadence.slot(DAY) == 2
    assert cadence.interval_s == 43200.0


def test_one_capture_needs_an_interval() -> None:
    with pytest.raises(InvalidInput, match="--interval"):
        identify_cadence(np.array([0]), "standard")
    assert identify_cadence(np.array([5]), "standard", 3600.0).instant(2) == 5 + 7200 * SECOND


@pytest.mark.parametrize("months", [1, 2, 3, 6])
@pytest.mark.parametrize("calendar", ["standard", "noleap", "360_day"])
@pytest.mark.parametrize("before", [DAY, SECOND, 12 * 3600 * SECOND])
def test_ends_of_months(months: int, calendar: str, before: int) -> None:
    """The last day, noon of it, or the last second; the ends to come are as exact."""
    numbers = [2001 * 12 + months * k for k in range(1, 40)]
    times = instants([(n // 12, n % 12 + 1, 1) for n in numbers], calendar) - before
    cadence = identify_cadence(times[:20], calendar)
    check_slots(cadence, times, list(range(len(times))))
    assert Cadence.from_json(cadence.to_json()) == cadence


def test_three_ends_of_long_months_tell() -> None:
    dates = [(2000, 12, 31), (2001, 1, 31), (2001, 2, 28), (2001, 3, 31), (2001, 4, 30)]
    times = instants(dates)
    for few in (times[:3], instants([(2001, 7, 31), (2001, 8, 31), (2001, 10, 31)])):
        cadence = identify_cadence(few, "standard")
        ends = [cadence.instant(cadence.slot(int(i))) for i in times]
        assert ends == times.tolist()


@pytest.mark.parametrize("day", [1, 15, 28])
@pytest.mark.parametrize("first", [1, 6, 7])
def test_months_at_a_day_of_the_month(day: int, first: int) -> None:
    dates = [(2001 + (first - 1 + k) // 12, (first - 1 + k) % 12 + 1, day) for k in range(20)]
    times = instants(dates)
    # Three captures must do: July and August both have 31 days, and so look like a fixed interval.
    for count in (3, 4, 14):
        cadence = identify_cadence(times[:count], "standard")
        check_slots(cadence, times, list(range(20)))


def test_middles_of_months() -> None:
    middles = []
    for k in range(30):
        start, stop = instants([(2003 + n // 12, n % 12 + 1, 1) for n in (k, k + 1)])
        middles.append((start + stop) // 2)
    cadence = identify_cadence(np.array(middles[:14]), "standard")
    check_slots(cadence, np.array(middles), list(range(30)))


def test_months_with_a_gap() -> None:
    times = instants([(2001, m, 1) for m in (1, 2, 3, 6, 7, 8, 11)])
    cadence = identify_cadence(times, "standard")
    check_slots(cadence, times, [0, 1, 2, 5, 6, 7, 10])


def test_quarters_and_years() -> None:
    quarters = instants([(2001 + k // 4, 3 * (k % 4) + 1, 1) for k in range(12)])
    check_slots(identify_cadence(quarters[:6], "standard"), quarters, list(range(12)))
    years = instants([(1999 + k, 7, 1) for k in range(12)])
    check_slots(identify_cadence(years[:6], "standard"), years, list(range(12)))


@pytest.mark.parametrize("calendar", ["360_day", "noleap", "all_leap", "proleptic_gregorian"])
def test_months_of_other_calendars(calendar: str) -> None:
    times = instants([(2001 + k // 12, k % 12 + 1, 16) for k in range(30)], calendar)
    check_slots(identify_cadence(times[:14], calendar), times, list(range(30)))


def test_30_february_exists_in_a_360_day_calendar() -> None:
    times = instants([(2001, 2, d) for d in (28, 29, 30)] + [(2001, 3, 1)], "360_day")
    check_slots(identify_cadence(times, "360_day"), times, [0, 1, 2, 3])


def test_four_weeks_are_no_month() -> None:
    times = np.arange(20) * 28 * DAY
    check_slots(identify_cadence(times, "standard"), times, list(range(20)))


def test_before_1970_and_negative_slots() -> None:
    times = instants([(1900 + k, 1, 1) for k in range(6)])
    cadence = identify_cadence(times, "standard")
    assert cadence.instant(-1) == instants([(1899, 1, 1)])[0]
    assert cadence.slot(cadence.instant(-17)) == -17


def test_json_gives_back_the_same() -> None:
    for times in (np.arange(4) * DAY, instants([(2001, m, 1) for m in (1, 2, 3, 4)])):
        cadence = identify_cadence(times, "standard")
        assert Cadence.from_json(cadence.to_json()) == cadence


def test_length_of_a_year() -> None:
    assert year_seconds("360_day") == 360 * 86400
    assert year_seconds("noleap") == 365 * 86400
    assert year_seconds("standard") == pytest.approx(365.2425 * 86400)
