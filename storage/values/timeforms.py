"""Times that are told in other ways than CF's: datetimes, dates as numbers, text, counts of steps.

A *form* is a short text that stands where CF units stand, and is kept in the settings, so that
later steps are read as the first ones were.
"""

import re
from collections.abc import Mapping
from typing import Any

import cftime
import numpy as np
from numpy.typing import NDArray

__all__ = [
    "NATIVE",
    "TEXT",
    "check_form",
    "count_form",
    "date_form",
    "decode_form",
    "encode_form",
    "filled_times",
    "is_count",
    "is_form",
    "is_text_of_times",
    "missing_times",
    "nanoseconds_lost",
]

NATIVE = "datetime64"
"""NumPy's datetimes, of any unit.

Instants are whole microseconds: of nanoseconds, the microsecond that they are in.
"""
TEXT = "text"
"""ISO 8601, as WRF writes it too: ``2024-03-01_00:00:00``."""
_DATES = {4: "%Y", 6: "%Y%m", 8: "%Y%m%d", 10: "%Y%m%d%H", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}
"""By number of digits; ``%Y%m%d`` may have a fraction of the day, which is read to the second."""
_FIRST_YEAR, _LAST_YEAR = 1600, 2400
"""Of dates that are told as numbers: others are taken for counts."""
_COUNT = re.compile(r"count (\S{1,40}) is (-?\d{1,19}) us, (\S{1,40}) more are (\d{1,19}) us")
_NAMED = re.compile(r"(?i)(?:^|_)(?:time|times|date|dates|day|datetime|yyyymmdd\w*)(?:_|$)")
_TOLD = re.compile(r"(?i)%Y%m|YYYY-?MM")
_EPOCH = "microseconds since 1970-01-01"
_SECOND = 1_000_000
_DAY = 86_400 * _SECOND
_FARTHEST_YEAR = 290_000
"""From 1970, in 64-bit microseconds."""
_LARGEST_COUNT = 2**53
_TEXT = re.compile(r"\d{4}-\d\d(-\d\d([T ]\d\d(:\d\d(:\d\d(\.\d{1,9})?)?)?)?)?")


def is_form(units: str) -> bool:
    """Tell whether what stands for units is a form."""
    return units in (NATIVE, TEXT, *_DATES.values()) or is_count(units)


def is_count(form: str) -> bool:
    """Tell whether a form counts steps."""
    return _COUNT.fullmatch(form) is not None


def check_form(form: str) -> None:
    """Raise ValueError for a form that times cannot be told in."""
    if not is_form(form):
        raise ValueError(f"times are told in the form {form[:40]!r}")
    if is_count(form):
        _counting(form)


def count_form(first: float, start: int, more: float, duration: int) -> str:
    """Return the form of counts of steps.

    Parameters
    ----------
    first, start
        A count, and its instant.
    more, duration
        After how many more counts how many microseconds have passed.
    """
    return f"count {first!r} is {start} us, {more!r} more are {duration} us"


def _counting(form: str) -> tuple[float, int, float, int]:
    match = _COUNT.fullmatch(form)
    assert match is not None
    first, more = float(match[1]), float(match[3])
    start, duration = int(match[2]), int(match[4])
    if not (abs(first) < _LARGEST_COUNT and 0 < more < _LARGEST_COUNT and 0 < duration < 2**63):
        raise ValueError(f"times are told in the form {form[:80]!r}")
    return first, start, more, duration


def date_form(raw: NDArray[np.generic], units: str, name: str, calendar: str) -> str | None:
    """Return the form of numbers such as 20240301 or 20240301.5; None if they are no dates.

    All of them must be dates of a plausible year, and their units or their name must say so.

    Parameters
    ----------
    raw
        Without what is missing.
    """
    by_units = _TOLD.search(units) is not None
    named = _NAMED.search(name) is not None and units.strip() in ("", "1")
    of_years = name.lower() in ("year", "years") and units.strip().lower() in ("", "1", "year")
    exact = raw.dtype.kind in "iu" or raw.dtype == np.float64  # float32 has no 20240301
    if not raw.size or not exact or not (by_units or named or of_years):
        return None
    if raw.dtype.kind == "f" and not np.isfinite(raw).all():
        return None
    digits = {len(str(int(number))) for number in (raw.min(), raw.max())}
    form = _DATES.get(digits.pop()) if len(digits) == 1 else None
    if form is None or (form == "%Y") != of_years:
        return None
    try:
        _dates(raw, form, calendar)
    except ValueError:
        return None
    return form


def is_text_of_times(raw: NDArray[np.generic]) -> bool:
    """Tell whether all texts are times; without what is missing."""
    try:
        return raw.size > 0 and _texts(raw).size > 0
    except ValueError:
        return False


def missing_times(raw: NDArray[np.generic]) -> NDArray[np.bool_]:
    """Tell which raw times are missing by their type alone: NaN, NaT, empty text.

    Fill values are a matter of the attributes, and not looked at.
    """
    if raw.dtype.kind in "mM":
        return np.isnat(raw)
    if raw.dtype.kind == "f":
        return np.isnan(raw)
    if raw.dtype.kind in "SUOT":
        return np.array([not text for text in _plain(raw)], np.bool_).reshape(raw.shape)
    return np.zeros(raw.shape, np.bool_)


def filled_times(
    raw: NDArray[np.generic], attributes: Mapping[Any, Any], *, zero: bool = True
) -> NDArray[np.bool_]:
    """Tell which raw times are a fill value that their attributes name.

    Parameters
    ----------
    zero
        Whether 0 may be one.  Zarr has it where nobody chose one, and there a series may begin.
    """
    filled = np.zeros(raw.shape, np.bool_)
    if raw.dtype.kind not in "iuf":
        return filled
    for name in ("_FillValue", "missing_value"):
        fills = np.ravel(np.asarray(attributes.get(name, [])))
        if fills.dtype.kind not in "iuf":  # text, say: no number is that
            continue
        if raw.dtype.kind == "f":  # attributes may be of another precision
            with np.errstate(over="ignore"):
                fills = fills.astype(raw.dtype)
        filled |= np.isin(raw, fills if zero else fills[fills != 0])
    return filled


def nanoseconds_lost(raw: NDArray[np.generic]) -> int:
    """Return how many datetimes are no whole microsecond."""
    if raw.dtype.kind != "M" or _unit(raw) != "ns":
        return 0
    return int(np.count_nonzero(raw[~np.isnat(raw)].astype(np.int64) % 1000))


def _unit(raw: NDArray[np.generic]) -> str:
    return np.datetime_data(raw.dtype.str)[0]


def decode_form(raw: NDArray[np.generic], form: str, calendar: str) -> NDArray[np.int64]:
    """Return the instants of raw times in a form.

    Raises
    ------
    ValueError
        A time is missing, or none.
    """
    if missing_times(raw).any():
        raise ValueError("a time value is missing")
    if form == NATIVE:
        return _datetimes(raw)
    if form == TEXT:
        return _texts(raw)
    if raw.dtype.kind not in "iuf" or not np.isfinite(raw).all():
        raise ValueError(f"they have the type {raw.dtype}")
    return _counts(raw, form) if is_count(form) else _dates(raw, form, calendar)


def encode_form(
    instants: NDArray[np.int64], form: str, calendar: str, dtype: np.dtype[np.generic]
) -> NDArray[np.generic]:
    """Return instants as raw times in a form, float64 where an integer cannot hold one.

    Raises
    ------
    ValueError
        The form cannot express them.
    """
    if form == TEXT:
        raise ValueError("they are text in the source")
    if form == NATIVE:
        return instants.astype("datetime64[us]").astype(dtype)
    if is_count(form):
        first, start, more, duration = _counting(form)
        numbers = (instants - start).astype(np.longdouble) * more / duration + first
        return _fitting(numbers.astype(np.float64), dtype)
    dates = [cftime.num2date(int(i), _EPOCH, calendar=calendar) for i in instants]
    return _fitting(np.array([_number(date, form) for date in dates]), dtype)


def _fitting(numbers: NDArray[np.generic], dtype: np.dtype[np.generic]) -> NDArray[np.generic]:
    cast = numbers.astype(dtype)
    return cast if np.array_equal(cast.astype(np.float64), numbers.astype(np.float64)) else numbers


def _datetimes(raw: NDArray[np.generic]) -> NDArray[np.int64]:
    if raw.dtype.kind != "M" or _unit(raw) == "generic":
        raise ValueError(f"they have the type {raw.dtype}, and are no datetimes")
    if not (np.abs(raw.astype("datetime64[Y]").astype(np.int64)) < _FARTHEST_YEAR).all():
        raise ValueError("too far from 1970 for 64-bit microseconds")
    return raw.astype("datetime64[us]").astype(np.int64)


def _plain(raw: NDArray[np.generic]) -> list[str]:
    texts = (
        np.char.decode(raw.astype(np.bytes_), "ascii", "replace") if raw.dtype.kind == "S" else raw
    )
    return [str(text).strip(" \0") for text in texts.ravel()]


def _texts(raw: NDArray[np.generic]) -> NDArray[np.int64]:
    texts = [
        text.replace("_", "T").removesuffix("Z").removesuffix("+00:00") for text in _plain(raw)
    ]
    for text in texts:
        if _TEXT.fullmatch(text) is None:  # NumPy takes 'now' and 'today' for times
            raise ValueError(f"{text[:40]!r} is no time")
    return _datetimes(np.array(texts, "datetime64[us]"))


def _counts(raw: NDArray[np.generic], form: str) -> NDArray[np.int64]:
    first, start, more, duration = _counting(form)
    elapsed = np.rint((raw.astype(np.longdouble) - first) * duration / more)
    if not (np.abs(elapsed + start) < 2**63).all():
        raise ValueError("too far from 1970 for 64-bit microseconds")
    return elapsed.astype(np.int64) + start


def _dates(raw: NDArray[np.generic], form: str, calendar: str) -> NDArray[np.int64]:
    """Return the instants of numbers whose digits are those of a date."""
    whole = np.floor(raw).astype(np.int64)
    seconds = np.rint((raw.astype(np.float64) - whole) * 86_400).astype(np.int64)
    if form != "%Y%m%d" and seconds.any():
        raise ValueError("a date has a fraction")
    fields: list[NDArray[np.int64]] = []
    for _ in range(form.count("%") - 1):
        fields.insert(0, whole % 100)
        whole = whole // 100
    years = whole
    if not ((years >= _FIRST_YEAR) & (years <= _LAST_YEAR)).all():
        raise ValueError(f"a date is not from {_FIRST_YEAR} to {_LAST_YEAR}")
    count = len(fields)
    lower = (1, 1, 0, 0, 0)
    month, day, hour, minute, second = (
        fields[k] if k < count else np.full(raw.shape, lower[k], np.int64) for k in range(5)
    )
    days = _days(years, month, day, calendar)
    if not ((hour < 24) & (minute < 60) & (second < 60)).all():
        raise ValueError("a date has no such time of day")
    of_day = (hour * 60 + minute) * 60 + second + seconds
    return np.asarray(days * _DAY + of_day * _SECOND)


def _days(
    years: NDArray[np.int64], month: NDArray[np.int64], day: NDArray[np.int64], calendar: str
) -> NDArray[np.int64]:
    """Return days since 1970-01-01."""
    if calendar in ("standard", "proleptic_gregorian"):
        months = (years - 1970) * 12 + month - 1
        starts, ends = (
            m.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
            for m in (months, months + 1)
        )
        if not ((month >= 1) & (month <= 12) & (day >= 1) & (day <= ends - starts)).all():
            raise ValueError("a date has no such month or day")
        return starts + day - 1
    dates = [
        cftime.datetime(int(y), int(m), int(d), calendar=calendar)
        for y, m, d in zip(years.ravel(), month.ravel(), day.ravel(), strict=True)
    ]
    numbers = cftime.date2num(dates, "days since 1970-01-01", calendar=calendar)
    return np.asarray(numbers).astype(np.int64).reshape(years.shape)


def _number(date: cftime.datetime, form: str) -> float:
    """Return the number whose digits are those of a date."""
    fields = [date.year, date.month, date.day, date.hour, date.minute, date.second]
    taken = form.count("%")
    number = 0
    for field in fields[:taken]:
        number = number * 100 + int(field)
    seconds = (fields[3] * 60 + fields[4]) * 60 + fields[5]
    if form == "%Y%m%d" and not date.microsecond:
        return number + seconds / 86_400 if seconds else number
    rest = (*fields[taken:], date.microsecond)
    if rest != (1, 1, 0, 0, 0, 0)[taken - 1 :]:
        raise ValueError(f"{date} is no whole {form}")
    return number
