from typing import Any

import cftime
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnomon.storage.errors import InvalidInput
from gnomon.storage.values.timeforms import NATIVE, TEXT, count_form
from gnomon.storage.values.times import (
    EPOCH,
    SECOND,
    chronological,
    decode,
    encode,
    format_instant,
    parse,
    period,
)

CALENDARS = [
    "standard",
    "gregorian",
    "proleptic_gregorian",
    "noleap",
    "365_day",
    "all_leap",
    "366_day",
    "360_day",
    "julian",
]
YEAR = 366 * 86400 * SECOND
instants = st.integers(-300 * YEAR, 600 * YEAR)
calendars = st.sampled_from(CALENDARS)


@given(st.lists(st.integers(-9000 * YEAR, 90_000 * YEAR)), calendars)
def test_times_are_sorted_as_they_come(times: list[int], calendar: str) -> None:
    texts = [format_instant(t, calendar) for t in sorted(times)]
    assert sorted(texts, key=chronological) == texts


@given(instants, calendars)
def test_a_formatted_instant_is_parsed_back(instant: Any, calendar: Any) -> None:
    assert parse(format_instant(instant, calendar), calendar) == instant


@given(instants, calendars, st.sampled_from([4, 7, 10, 13, 16, 19]))
def test_a_period_holds_its_instant(instant: Any, calendar: Any, size: Any) -> None:
    text = format_instant(instant, calendar)[:size]
    start, stop = period(text, calendar)
    assert start <= instant < stop
    assert parse(text, calendar) == start
    following = format_instant(stop, calendar)[:size]
    assert following > text
    assert parse(following, calendar) == stop


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=5), calendars)
def test_whole_hours_decode_and_encode_exactly(hours: Any, calendar: Any) -> None:
    units = "hours since 1900-01-01"
    raw = np.array(hours, "<i4")
    found = decode(raw, units, calendar)
    assert (np.diff(found) == np.diff(hours) * 3600 * SECOND).all()
    again = encode(found.tolist(), units, calendar, np.dtype("<i4"))
    assert again.dtype == raw.dtype
    assert again.tolist() == hours


UNITS = {"days": 86400 * SECOND, "hrs": 3600 * SECOND, "min": 60 * SECOND, "Seconds": SECOND}


@given(
    st.lists(st.floats(-(10.0**5), 10.0**5), min_size=1, max_size=20),
    st.sampled_from(["<f8", "<f4", "<i4", "<i8", "|i1", "<u2"]),
    st.sampled_from([*UNITS, "milliseconds", "microseconds"]),
    st.sampled_from(["1970-01-01", "1900-02-27 12:30:15", "1850-01-01 06:00:00.5 +02:00"]),
    calendars,
)
def test_counts_are_decoded_as_dates_are(
    counts: Any, dtype: str, unit: str, reference: str, calendar: str
) -> None:
    number = np.array(counts)
    with np.errstate(all="ignore"):
        raw = (
            number.astype(dtype) if dtype[1] == "f" else np.rint(number).astype("<i8").astype(dtype)
        )
    units = f"{unit} since {reference}"
    dates = cftime.num2date(raw, units, calendar=calendar)
    expected = cftime.date2num(dates, EPOCH, calendar=calendar)
    np.testing.assert_array_equal(decode(raw, units, calendar), expected)


def test_what_an_integer_cannot_hold_becomes_a_float() -> None:
    half = parse("2000-01-01T12:00", "standard")
    found = encode([half], "days since 2000-01-01", "standard", np.dtype("<i4"))
    assert found.dtype.kind == "f"
    assert found.tolist() == [0.5]


def test_calendars_have_their_own_days() -> None:
    assert period("2001-02-30", "360_day")[1] == parse("2001-03-01", "360_day")
    assert parse("2001-02-29", "all_leap") + 86400 * SECOND == parse("2001-03-01", "all_leap")
    for calendar in ("standard", "noleap"):
        with pytest.raises(InvalidInput, match="not a date"):
            parse("2001-02-30", calendar)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "2010-9",
        "2010-13",
        "2010-00",
        "2010-01-01T25",
        "2010-01-01T00:61",
        "2010-01-01T00:00+99:99",
        "2010-01-01T00:00+24",
        "2010-01-01T00:00-05:60",
        "2010-01-01+05",
        "999999",
    ],
)
def test_nonsense_is_refused(text: Any) -> None:
    with pytest.raises(InvalidInput):
        period(text, "standard")


@given(st.text(max_size=20))
def test_any_text_is_read_or_refused(text: Any) -> None:
    try:
        start, stop = period(text, "standard")
    except InvalidInput:
        return
    assert start < stop


@pytest.mark.parametrize(
    ("units", "calendar"),
    [
        ("hours", "standard"),
        ("hours since yesterday", "standard"),
        ("fortnights since 2000-01-01", "standard"),
        ("months since 2000-01-01", "standard"),
        ("hours since 2000-01-01", "mayan"),
        ("", "standard"),
    ],
)
def test_units_that_cannot_be_decoded_are_refused(units: Any, calendar: Any) -> None:
    with pytest.raises(InvalidInput, match="cannot be decoded"):
        decode(np.array([0, 1]), units, calendar)


@pytest.mark.parametrize("raw", [np.array([0.0, np.nan]), np.array(["a"]), np.array([1e300])])
def test_values_that_are_no_times_are_refused(raw: Any) -> None:
    with pytest.raises(InvalidInput, match="cannot be decoded"):
        decode(raw, "days since 2000-01-01", "standard")


def test_no_times_are_no_instants() -> None:
    assert decode(np.empty(0), "nonsense", "mayan").size == 0


@given(st.lists(st.integers(-8_000_000_000, 10_000_000_000), min_size=1, max_size=20))
def test_every_form_gives_back_what_it_was_given(seconds: list[int]) -> None:
    raw = np.array(seconds, "M8[s]")
    instants = raw.astype("M8[us]").astype(np.int64)
    np.testing.assert_array_equal(decode(raw, NATIVE, "proleptic_gregorian"), instants)
    counted = count_form(7, int(instants[0]), 2, 7_000_000)
    for form, dtype in (
        (NATIVE, "M8[ms]"),
        ("%Y%m%d%H%M%S", "<i8"),
        ("%Y%m%d", "<f8"),
        (counted, "<f8"),
    ):
        told = encode(instants.tolist(), form, "proleptic_gregorian", np.dtype(dtype))
        back = decode(told, form, "proleptic_gregorian")
        np.testing.assert_allclose(back, instants, rtol=0, atol=1e4 if form == counted else 0)
    texts = np.array([text.replace("T", "_") for text in raw.astype(str)])
    np.testing.assert_array_equal(decode(texts, TEXT, "proleptic_gregorian"), instants)


@pytest.mark.parametrize(
    ("raw", "form"),
    [
        (np.array(["NaT"], "M8[ns]"), NATIVE),
        (np.array([2**62], "M8[s]"), NATIVE),
        (np.array([1]), NATIVE),
        (np.array([b"now"]), TEXT),
        (np.array([b""]), TEXT),
        (np.array([20240230]), "%Y%m%d"),
        (np.array([2024030124]), "%Y%m%d%H"),
        (np.array([np.nan]), "%Y%m%d"),
        (np.array([2.0**80]), count_form(0, 0, 1, 1_000_000)),
    ],
    ids=str,
)
def test_what_is_no_time_is_refused(raw: Any, form: str) -> None:
    with pytest.raises(InvalidInput, match="cannot be decoded"):
        decode(raw, form, "proleptic_gregorian")
