"""The time axis of an append source: which state is of when, whatever the units it is told in."""

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from gnomon.storage.axes import time_variable
from gnomon.storage.errors import InvalidInput
from gnomon.storage.model import Settings
from gnomon.storage.source import ADVICE, native
from gnomon.storage.timeforms import NATIVE
from gnomon.storage.times import decode, encode, parse

__all__ = ["instants", "raw_times"]


def instants(dataset: xr.Dataset, settings: Settings) -> NDArray[np.int64]:
    """Return the valid times of an append source, whatever the units that it tells them in.

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
    found = decode(np.asarray(time.values), units, calendar)
    before = _calendar({"calendar": settings.calendar})
    if calendar != before:
        alike = {calendar, before} == {"standard", "proleptic_gregorian"}
        if not alike or found.min(initial=_GREGORIAN) < _GREGORIAN:
            raise InvalidInput(
                f"the calendar of the source's time coordinate {name!r} is {calendar!r}, it was "
                f"{before!r} at init; {ADVICE}"
            )
    return found


def raw_times(
    dataset: xr.Dataset,
    settings: Settings,
    times: NDArray[np.int64],
    positions: NDArray[np.intp],
) -> NDArray[np.generic]:
    """Return some times of an append source as they are told at init, whose attributes are kept.

    Parameters
    ----------
    times
        int64 (T,), all that `instants` found.
    positions
        Those that are wanted.

    Raises
    ------
    InvalidInput
        The units and the type of init cannot express one of them.
    """
    time = time_variable(dataset, settings.source)
    assert time is not None
    dtype = np.dtype(settings.time_dtype)
    raw = native(np.asarray(time.values))
    units, calendar = _told_in(time, settings)
    before = settings.time_units, _calendar({"calendar": settings.calendar})
    if (units, calendar) == before and raw.dtype == dtype:
        return raw[positions]
    wanted = times[positions]
    told = encode(wanted.tolist(), settings.time_units, settings.calendar, dtype)
    if told.dtype != dtype or not np.array_equal(
        decode(told, settings.time_units, settings.calendar), wanted
    ):
        raise InvalidInput(
            f"the source tells its times in {units!r} now; in {settings.time_units!r} as "
            f"{dtype.str}, as at init, they cannot all be told; {ADVICE}"
        )
    return told


def _told_in(time: xr.Variable, settings: Settings) -> tuple[str, str]:
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
        return str(time.attrs.get("units")), _calendar(time.attrs)
    return settings.time_units, _calendar({"calendar": settings.calendar})


_CALENDARS = {"gregorian": "standard", "365_day": "noleap", "366_day": "all_leap"}
_GREGORIAN = parse("1582-10-15", "proleptic_gregorian")
"""From when on the calendars ``standard`` and ``proleptic_gregorian`` are the same."""


def _calendar(attributes: dict[Any, Any]) -> str:
    name = str(attributes.get("calendar", "standard")).lower()
    return _CALENDARS.get(name, name)
