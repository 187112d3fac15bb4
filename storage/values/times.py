"""Instants: exact times in any CF calendar, as integer microseconds.

An instant is a number of microseconds since 1970-01-01 in the dataset's own calendar, so that
differences are exact and 30 February exists where the calendar has it.
"""

import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import cftime
import numpy as np
from numpy.typing import NDArray

from gnomon.storage.errors import InvalidInput
from gnomon.storage.values.timeforms import decode_form, encode_form, is_form

__all__ = [
    "EPOCH",
    "SECOND",
    "UNITS",
    "calendar_of",
    "chronological",
    "clock",
    "decode",
    "encode",
    "format_instant",
    "parse",
    "period",
    "same_calendar",
    "told",
]

SECOND = 1_000_000
_TOO_FAR = "too far from 1970 for 64-bit microseconds"
UNITS = {
    name: size
    for size, names in (
        (1, "microsecond microseconds microsec microsecs"),
        (1000, "millisecond milliseconds millisec millisecs msec msecs ms"),
        (SECOND, "second seconds sec secs s"),
        (60 * SECOND, "minute minutes min mins"),
        (3600 * SECOND, "hour hours hr hrs h"),
        (86400 * SECOND, "day days d"),
    )
    for name in names.split()
}
"""Microseconds of units as CF spells them; months and years have no one length."""
EPOCH = "microseconds since 1970-01-01"
_PATTERN = re.compile(
    r"(?P<year>-?\d{1,6})(?:-(?P<month>\d\d)(?:-(?P<day>\d\d)(?:[T ](?P<hour>\d\d)"
    r"(?::(?P<minute>\d\d)(?::(?P<second>\d\d)(?:\.(?P<fraction>\d{1,6}))?)?)?"
    r"(?P<offset>Z|[+-](?:[01]\d|2[0-3])(?::?[0-5]\d)?)?)?)?)?"
)


def decode(raw: NDArray[np.generic], units: str, calendar: str) -> NDArray[np.int64]:
    """Return the instants of raw time values with CF units, or told in another form.

    Raises
    ------
    InvalidInput
        The units or the calendar are not CF, or a value is missing.
    """
    if raw.size == 0:
        return np.empty(raw.shape, np.int64)
    try:
        if is_form(units):
            return decode_form(raw, units, calendar)
        if raw.dtype.kind == "f" and not np.isfinite(raw).all():
            raise ValueError("a time value is missing")
        size = UNITS.get(units.split(" since ", maxsplit=1)[0].strip().lower())
        if size is None or raw.dtype.kind not in "iuf":
            return _decode_dates(raw, units, calendar)
        return _decode_counts(raw, size, int(_decode_dates(np.zeros(1), units, calendar)[0]))
    except (ValueError, TypeError, OverflowError, AttributeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise InvalidInput(
            f"times with units {units!r} and calendar {calendar!r} cannot be decoded ({reason}); "
            "give the time coordinate CF units such as 'hours since 2000-01-01'"
        ) from error


def _decode_counts(raw: NDArray[np.generic], size: int, start: int) -> NDArray[np.int64]:
    """Return the instants of numbers of units of `size` microseconds since one.

    A date object for each, as `cftime` makes, takes far longer. Fractions are rounded as it does:
    to microseconds, and where that is one off a second, towards the second.
    """
    if raw.dtype.kind in "iu":
        most = max(abs(int(raw.min())), abs(int(raw.max())))
        if most * size + abs(start) >= 2**63:
            raise OverflowError(_TOO_FAR)
        return np.asarray(raw.astype(np.int64) * size + start)
    longs = raw.astype(np.longdouble) * size
    if not (np.abs(longs + start) < 2**63).all():
        raise OverflowError(_TOO_FAR)
    counts = np.rint(longs).astype(np.int64)
    if size >= SECOND:
        rest = counts % SECOND
        counts = np.where(rest == 1, np.floor(longs).astype(np.int64), counts)
        counts = np.where(rest == SECOND - 1, np.ceil(longs).astype(np.int64), counts)
    return np.asarray(counts + start)


def _decode_dates(raw: NDArray[np.generic], units: str, calendar: str) -> NDArray[np.int64]:
    """Return the instants of raw values by way of the calendar's dates."""
    # What the coder of xarray calls; by that, every command would load xarray and dask.array.
    dates = cftime.num2date(raw.ravel(), units, calendar, only_use_cftime_datetimes=True)
    numbers = np.asarray(cftime.date2num(dates, EPOCH, calendar=calendar)).reshape(raw.shape)
    if numbers.dtype.kind not in "iu":
        raise OverflowError(_TOO_FAR)
    return numbers.astype(np.int64)


_CALENDARS = {"gregorian": "standard", "365_day": "noleap", "366_day": "all_leap"}


def calendar_of(attributes: Mapping[Any, Any]) -> str:
    """Return the CF calendar that attributes name, by the first of its names."""
    name = str(attributes.get("calendar", "standard")).lower()
    return _CALENDARS.get(name, name)


def same_calendar(first: str, second: str, instants: NDArray[np.int64]) -> bool:
    """Tell whether instants are the same times in two calendars, by the first of their names.

    The mixed and the proleptic Gregorian one are the same since October 1582.
    """
    if first == second:
        return True
    since = parse("1582-10-15", "proleptic_gregorian")
    alike = {first, second} == {"standard", "proleptic_gregorian"}
    return alike and bool(instants.min(initial=since) >= since)


def encode(
    instants: Sequence[int], units: str, calendar: str, dtype: np.dtype[np.generic]
) -> NDArray[np.generic]:
    """Return instants as raw time values in CF units or another form, for times of no source.

    An integer type that cannot hold a value exactly becomes float64.

    Raises
    ------
    InvalidInput
        The units cannot express them.
    """
    try:
        if is_form(units):
            return encode_form(np.array(instants, np.int64), units, calendar, dtype)
        dates = [cftime.num2date(i, EPOCH, calendar=calendar) for i in instants]
        numbers = np.asarray(cftime.date2num(dates, units, calendar=calendar))
    except (ValueError, TypeError, OverflowError, AttributeError) as error:
        raise InvalidInput(
            f"times cannot be written with units {units!r:.80} and calendar {calendar!r:.80}: "
            f"{' '.join(str(error).split())[:160]}"
        ) from error
    cast = numbers.astype(dtype)
    return cast if np.array_equal(cast.astype(np.float64), numbers.astype(np.float64)) else numbers


def told(
    instants: NDArray[np.int64], units: str, calendar: str, dtype: np.dtype[Any]
) -> NDArray[np.generic] | None:
    """Return instants as raw time values of a type in CF units; None if one cannot be told exactly.

    Where units have one length no date is made of each, which would take far longer.

    Raises
    ------
    InvalidInput
        The units or the calendar are not CF.
    """
    size = UNITS.get(units.split(" since ", maxsplit=1)[0].strip().lower())
    if size is None or dtype.kind not in "iuf":
        raw = encode(instants.ravel().tolist(), units, calendar, dtype).reshape(instants.shape)
    else:
        counts = instants - decode(np.zeros(1), units, calendar)
        whole, rest = np.divmod(counts, size)
        with np.errstate(over="ignore", invalid="ignore"):
            exact = whole if dtype.kind in "iu" and not rest.any() else counts / np.longdouble(size)
            raw = exact.astype(dtype)
    same = raw.dtype == dtype and np.array_equal(decode(raw, units, calendar), instants)
    return raw if same else None


def format_instant(instant: int, calendar: str) -> str:
    """Return an instant as ISO 8601."""
    return str(cftime.num2date(instant, EPOCH, calendar=calendar).isoformat())


def chronological(time: str) -> tuple[int, str]:
    """Return the key that sorts texts of `format_instant`: as text, 10000 is before 9999."""
    years, _, rest = time.removeprefix("-").partition("-")
    return (-int(years) if time.startswith("-") else int(years)), rest


def parse(text: str, calendar: str) -> int:
    """Return the instant at which a (possibly partial) ISO 8601 time begins."""
    return period(text, calendar)[0]


def period(text: str, calendar: str) -> tuple[int, int]:
    """Return the first instant of a (possibly partial) ISO 8601 time, and the one after its last.

    ``2010-09`` is the whole of September, ``2010-09-16T12`` one hour.  An offset from UTC may
    follow a time of day; without one it is UTC.
    """
    match = _PATTERN.fullmatch(text.strip())
    if match is None:
        raise InvalidInput(f"cannot read the time {text!r}; write it as 2010-09-16T12:00")
    texts = match.groupdict()
    ahead = _offset(texts.pop("offset") or "Z") * SECOND
    parts = {name: int(value) for name, value in texts.items() if value is not None}
    if "fraction" in parts:
        parts["fraction"] = int(match["fraction"].ljust(6, "0"))
    fields = [parts.get(n, 1 if n in ("month", "day") else 0) for n in texts]
    year, month = fields[:2]
    try:
        start = _instant(fields, calendar)
        if "month" not in parts:
            stop = _instant([year + 1, 1, 1, 0, 0, 0, 0], calendar)
        elif "day" not in parts:
            stop = _instant([year + month // 12, month % 12 + 1, 1, 0, 0, 0, 0], calendar)
        else:
            size = {"hour": 86400, "minute": 3600, "second": 60, "fraction": 1}
            seconds = next((s for n, s in size.items() if n not in parts), 0)
            stop = start + (seconds * SECOND or 1)
        if not all(-(2**63) <= t - ahead < 2**63 for t in (start, stop)):
            raise OverflowError(_TOO_FAR)
    except (ValueError, OverflowError) as error:
        raise InvalidInput(
            f"{text!r} is not a date of the calendar {calendar!r}: {error}"
        ) from error
    return start - ahead, stop - ahead


def clock(text: str, calendar: str) -> int:
    """Return a wall-clock time as an instant of any calendar, of which some lack its day."""
    try:
        return parse(text, calendar)
    except InvalidInput:
        day = text[8:10]
        if not (day.isascii() and day.isdecimal()):
            raise
        return parse(f"{text[:8]}{int(day) - 1:02d}{text[10:]}", calendar)


def _offset(text: str) -> int:
    """Return how many seconds ahead of UTC a place is, of ``Z``, ``+05``, ``-0330``, ``+05:30``."""
    if text == "Z":
        return 0
    hours, minutes = int(text[1:3]), int(text[3:].lstrip(":") or 0)
    return (-1 if text[0] == "-" else 1) * (3600 * hours + 60 * minutes)


def _instant(fields: Sequence[int], calendar: str) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of years 0, which CF does not have
        date = cftime.datetime(*fields, calendar=calendar)
        instant = int(cftime.date2num(date, EPOCH, calendar=calendar))
    if not -(2**63) <= instant < 2**63:
        raise OverflowError(_TOO_FAR)
    return instant
