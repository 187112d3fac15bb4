"""The time axis of a source of many files: in one unit, though each may tell it in its own."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gnomon.storage.source.files.index import Entry
from gnomon.storage.source.files.reading import TimeCoding
from gnomon.storage.values.model import RepositorySettings
from gnomon.storage.values.times import EPOCH, calendar_of, told

__all__ = ["FileAxis", "axis_of"]


@dataclass(frozen=True, slots=True)
class FileAxis:
    """The times of all files."""

    raw: NDArray[np.generic] | None
    """By position; None if the time dimension has no coordinate."""
    targets: dict[str, TimeCoding]
    """How each variable that tells times is told."""


def axis_of(
    entries: Mapping[str, Entry], settings: RepositorySettings | None
) -> tuple[FileAxis, dict[str, str]]:
    """Return the time axis of files in order, and why some files cannot stand on it.

    Units and type are those of the settings, else those of the first file, else, where these
    cannot tell all times exactly, microseconds.
    """
    if not entries or all(entry.times is None for entry in entries.values()):
        return FileAxis(None, _targets(entries, settings)), {}
    first = next(entry for entry in entries.values() if entry.times is not None)
    time, targets = first.form.time, _targets(entries, settings)
    assert first.times is not None
    dtype = first.times.dtype
    if settings is not None and time in targets:
        dtype = np.dtype(settings.time_dtype)
    raw, reasons = _told(entries, time, targets.get(time), dtype)
    if settings is None and any(reason.startswith(_INEXACT) for reason in reasons.values()):
        targets |= {
            name: TimeCoding(EPOCH, target.calendar)
            for name, target in targets.items()
            if name == time or target == targets[time]
        }
        raw, reasons = _told(entries, time, targets[time], np.dtype("<i8"))
    return FileAxis(np.concatenate(list(raw.values())) if raw else None, targets), reasons


_INEXACT = "its times cannot be told"


def _targets(
    entries: Mapping[str, Entry], settings: RepositorySettings | None
) -> dict[str, TimeCoding]:
    """Return how each variable that tells times is to be told."""
    targets: dict[str, TimeCoding] = {}
    for entry in entries.values():
        for name, units in entry.units.items():
            part = entry.form.parts.get(name)
            calendar = dict(part.meaning).get("calendar") if part is not None else None
            targets.setdefault(name, TimeCoding(units, calendar or entry.calendar))
    if settings is None or " since " not in str(settings.time_attributes.get("units")):
        return targets
    axis = TimeCoding(settings.time_units, calendar_of({"calendar": settings.calendar}))
    told_as = {str(settings.source.time): axis}
    for key in ("bounds", "climatology"):
        told_as[str(settings.time_attributes.get(key, ""))] = axis
    for variable in settings.variables:
        units = str(variable.attributes.get("units", ""))
        if " since " in units and variable.name in targets:
            calendar = variable.attributes.get("calendar", targets[variable.name].calendar)
            told_as[variable.name] = TimeCoding(units, calendar_of({"calendar": calendar}))
    return targets | {name: target for name, target in told_as.items() if name in targets}


def _told(
    entries: Mapping[str, Entry], time: str, target: TimeCoding | None, dtype: np.dtype[np.generic]
) -> tuple[dict[str, NDArray[np.generic]], dict[str, str]]:
    """Return the raw times of each file in one unit and type, or why it has none."""
    raw: dict[str, NDArray[np.generic]] = {}
    reasons: dict[str, str] = {}
    for name, entry in entries.items():
        there = None if target is None else TimeCoding(entry.units.get(time, ""), entry.calendar)
        if entry.times is None:
            reasons[name] = f"it has no coordinate {time!r}, as others have"
        elif entry.times.dtype == dtype and there == target:
            raw[name] = entry.times
        elif target is None:
            reasons[name] = f"{time!r} has type {entry.times.dtype.str}, expected {dtype.str}"
        elif entry.instants is None:
            reasons[name] = "its times cannot be decoded"
        elif dtype.kind != "f" and not entry.there.all():
            reasons[name] = f"a time is missing, which {dtype.str} cannot tell"
        else:
            values = told(entry.good, target.units, target.calendar, dtype)
            if values is None:
                reasons[name] = f"{_INEXACT} as {dtype.str} in {target.units!r}"
            else:
                raw[name] = np.full(entry.count, np.nan if dtype.kind == "f" else 0, dtype)
                raw[name][entry.there] = values
    return raw, reasons
