"""The time axis of an append source: which valid time each state has, whatever units it is told in.

Times are data, so some may be missing or wrong.  Here they are read; a value that stands for none
is masked, and whether the others are believed is told by :mod:`gnomon.storage.values.believable`.
"""

from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from gnomon.storage.errors import InvalidInput
from gnomon.storage.source.axes import time_variable
from gnomon.storage.source.unchanged import ADVICE
from gnomon.storage.values.dtypes import native
from gnomon.storage.values.model import RepositorySettings
from gnomon.storage.values.timeforms import NATIVE, filled_times, is_form, missing_times
from gnomon.storage.values.times import calendar_of, decode, same_calendar, told

__all__ = ["TimeAxis", "read_axis"]


@dataclass(frozen=True, slots=True)
class TimeAxis:
    """The times of a source, by position."""

    raw: NDArray[np.generic]
    """(T,) as the source tells them."""
    instants: NDArray[np.int64]
    """(T,) microseconds since 1970 in the calendar of the settings; 0 where there is none."""
    missing: NDArray[np.bool_]
    """(T,) whether the value stands for no time: NaN, a fill value, or beyond all dates."""
    units: str
    """CF units of the raw times."""
    calendar: str
    """Calendar of the raw times."""

    def told(
        self, settings: RepositorySettings, positions: NDArray[np.intp]
    ) -> NDArray[np.generic]:
        """Return some times as they are told at init, whose attributes are kept.

        Raises
        ------
        InvalidInput
            The units and the type of init cannot express one of them.
        """
        dtype = np.dtype(settings.time_dtype)
        before = settings.time_units, calendar_of({"calendar": settings.calendar})
        if (self.units, self.calendar) == before and self.raw.dtype == dtype:
            return self.raw[positions]
        raw = told(self.instants[positions], settings.time_units, settings.calendar, dtype)
        if raw is None:
            raise InvalidInput(
                f"the source now has times in {self.units!r}; not all of them can be written in "
                f"{settings.time_units!r} as {dtype.str}, as at init; {ADVICE}"
            )
        return raw


def read_axis(dataset: xr.Dataset, settings: RepositorySettings) -> TimeAxis:
    """Return the valid times of an append source.

    Raises
    ------
    InvalidInput
        The time coordinate is gone, tells no times, or tells those of another calendar.
    """
    time = time_variable(dataset, settings.source)
    name = settings.source.teller or settings.source.time
    if time is None:
        raise InvalidInput(f"the source lost its time coordinate {name!r} since init; {ADVICE}")
    units, calendar = _told_in(time, settings)
    raw = native(np.asarray(time.values))
    instants, missing = _decoded(raw, _missing(raw, time), units, calendar)
    before = calendar_of({"calendar": settings.calendar})
    if not same_calendar(calendar, before, instants[~missing]):
        raise InvalidInput(
            f"the calendar of the source's time coordinate {name!r} is {calendar!r}, it was "
            f"{before!r} at init; {ADVICE}"
        )
    return TimeAxis(raw, instants, missing, units, calendar)


def _missing(raw: NDArray[np.generic], time: xr.Variable) -> NDArray[np.bool_]:
    """Return which raw values stand for no time."""
    missing = missing_times(raw)
    if raw.dtype.kind not in "iuf":
        return missing
    missing |= filled_times(raw, time.attrs, zero=False)
    unwritten = _UNWRITTEN.get(raw.dtype.str.lstrip("<|"))
    if unwritten is not None:
        missing |= raw == np.asarray(unwritten, raw.dtype)
    return np.asarray(missing | _is_unwritten(raw))


_UNWRITTEN = {
    "i4": -(2**31) + 1,
    "i8": -(2**63) + 2,
    "u4": 2**32 - 1,
    "u8": 2**64 - 2,
    "f4": 9.969209968386869e36,
    "f8": 9.969209968386869e36,
}
"""What NetCDF has where nothing was written, whether the file says so or not."""


def _is_unwritten(raw: NDArray[np.generic]) -> NDArray[np.bool_]:
    """Return which values are the zeros of an array that was made longer and not filled yet.

    They are at the end, and a leap back from the value before them: a series that counts down goes
    to zero by its step, and one that begins anew goes on from there.
    """
    unwritten = np.zeros(raw.shape, bool)
    written = np.flatnonzero(raw) if raw.dtype.kind in "iuf" else np.empty(0, np.intp)
    if written.size > 1:
        last = int(written[-1])
        usual = float(np.median(np.abs(np.diff(raw[: last + 1].astype(np.float64)))))
        unwritten[last + 1 :] = float(raw[last]) > 1.5 * usual
    return unwritten


def _decoded(
    raw: NDArray[np.generic], missing: NDArray[np.bool_], units: str, calendar: str
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return instants and mask; what the units cannot tell a date of is missing too."""
    if not is_form(units):
        decode(np.zeros(1), units, calendar)  # no value can be decoded if the units are none
    instants, missing = np.zeros(raw.shape, np.int64), missing.copy()
    pending = [np.flatnonzero(~missing)]
    while pending:
        places = pending.pop()
        try:
            instants[places] = decode(raw[places], units, calendar)
        except InvalidInput:  # one that is beyond all dates does not take the others along
            if places.size == 1:
                missing[places] = True
            else:
                pending += np.array_split(places, 2)
    return instants, missing


def _told_in(time: xr.Variable, settings: RepositorySettings) -> tuple[str, str]:
    """Return units and calendar of a time coordinate; those of init if neither was told then.

    Where the source tells its times otherwise, the form stands for the units.
    """
    if time.dtype.kind == "M":
        return NATIVE, "proleptic_gregorian"
    units = time.attrs.get("units")
    as_before = settings.adds_times or units == settings.time_attributes.get("units")
    if settings.time_form and (as_before or " since " not in str(units)):
        return settings.time_form, settings.calendar
    if "units" in settings.time_attributes or "units" in time.attrs:
        return str(time.attrs.get("units")), calendar_of(time.attrs)
    return settings.time_units, calendar_of({"calendar": settings.calendar})
