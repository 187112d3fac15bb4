"""Along what the states of a view lie: times, and of predicted ones reference time and leads."""

from collections.abc import Collection, Iterable
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from gnomon.storage.log.description import Description
from gnomon.storage.repository import Repository
from gnomon.storage.serve.planes import Plane, is_predicted
from gnomon.storage.values.timeforms import is_form
from gnomon.storage.values.times import EPOCH, SECOND, encode

__all__ = ["Coordinates", "along_leads", "along_time"]

_WITH_LEAP_SECONDS = ("standard", "gregorian", "proleptic_gregorian", "julian")
"""Calendars of which CF wants to know whether leap seconds are counted."""
Coordinates = tuple[str | None, dict[Any, xr.Variable], list[str]]
"""The dimension that planes are stacked along, coordinates, and names of those that have no
dimension of their own."""


def along_time(
    repository: Repository,
    planes: tuple[Plane, ...],
    fixed: Collection[str],
    description: Description,
) -> Coordinates:
    """Return the coordinates of planes that are served along time.

    Parameters
    ----------
    fixed
        Names of the variables that do not change.
    """
    settings, dim = repository.settings, repository.settings.source.time
    # One state without time needs no dimension to be stacked along.
    if dim is None and len(planes) > 1:
        dim = _free(repository, fixed, ("time", "valid_time", "shadow_time"))
    coordinates = _forecast_coordinates(repository, planes, dim, description)
    auxiliary = list(coordinates)
    if dim is not None:
        times = _time_coordinate(repository, planes, dim, description)
        coordinates[settings.time_name or dim] = times
    return dim, coordinates, auxiliary


def along_leads(
    repository: Repository,
    planes: tuple[Plane, ...],
    fixed: Collection[str],
    description: Description,
) -> Coordinates:
    """Return the coordinates of planes of one shadow that are served along their leads."""
    settings = repository.settings
    dim = _free(repository, fixed, ("lead", "forecast_period", "shadow_lead"))
    own = settings.time_name or settings.source.time
    time = own or _free(repository, fixed, ("time", "valid_time", "shadow_time"))
    coordinates = _forecast_coordinates(repository, planes, dim, description)
    coordinates = {dim: coordinates.pop("forecast_period"), **coordinates}
    times = _time_coordinate(repository, planes, dim, description)
    times.attrs.pop("axis", None)  # it has none: it lies along the leads
    coordinates[time] = times
    return dim, coordinates, [name for name in coordinates if name != dim]


def _free(repository: Repository, fixed: Collection[str], names: Iterable[str]) -> str:
    """Return the first name that the source does not use."""
    settings = repository.settings
    taken = {*settings.dims, *fixed, *(v.name for v in settings.variables)}
    return next(name for name in names if name not in taken)


def _time_coordinate(
    repository: Repository, planes: tuple[Plane, ...], dim: str, description: Description
) -> xr.Variable:
    """Return the times of planes along a dimension, told as the source tells them."""
    settings = repository.settings
    attributes = dict(description.time)
    if not attributes and not settings.time_form:
        attributes = {
            "standard_name": "time",
            "units": settings.time_units,
            "calendar": settings.calendar,
        }
        if settings.calendar in _WITH_LEAP_SECONDS:
            attributes["units_metadata"] = "leap_seconds: unknown"
    if is_predicted(planes):
        attributes = {n: v for n, v in attributes.items() if n not in ("bounds", "climatology")}
    return xr.Variable((dim,), _raw_times(repository, planes), attributes)


def _forecast_coordinates(
    repository: Repository, planes: tuple[Plane, ...], dim: str | None, description: Description
) -> dict[Any, xr.Variable]:
    """Return reference time and forecast periods, as CF has them, of planes of one shadow."""
    ids = {plane.shadow for plane in planes}
    shadow = repository.shadow_named(ids.pop()) if len(ids) == 1 else None
    if shadow is None:
        return {}
    settings = repository.settings
    calendar, in_cf = settings.calendar, not is_form(settings.time_units)
    units, dtype = (settings.time_units, settings.time_dtype) if in_cf else (EPOCH, "<i8")
    reference = encode([shadow.reference], units, calendar, np.dtype(dtype))[0]
    hours = np.array([(p.instant - shadow.reference) / (3600 * SECOND) for p in planes])
    dims, periods = ((), hours[0]) if dim is None else ((dim,), hours)
    attributes = {"standard_name": "forecast_reference_time", "units": units, "calendar": calendar}
    if "units_metadata" in description.time:
        attributes["units_metadata"] = description.time["units_metadata"]
    return {
        "forecast_reference_time": xr.Variable((), reference, attributes),
        "forecast_period": xr.Variable(
            dims, periods, {"standard_name": "forecast_period", "units": "hours"}
        ),
    }


def _raw_times(repository: Repository, planes: tuple[Plane, ...]) -> NDArray[Any]:
    settings = repository.settings
    dtype = np.dtype(settings.time_dtype)
    raw = []
    for plane in planes:
        told = b"" if plane.step is None else repository.captured[plane.step].raw_time
        if told:
            raw.append(np.frombuffer(told, dtype)[0])
        else:  # of a prediction, or a state of a source without time
            raw.append(encode([plane.instant], settings.time_units, settings.calendar, dtype)[0])
    return np.array(raw)
