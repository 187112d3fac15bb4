"""Opening the files of a source of many files, a few at a time, to see what is in them."""

import os
import warnings
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from threading import RLock
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from gnomon.storage.errors import InvalidInput
from gnomon.storage.redaction import one_line
from gnomon.storage.source.cutoff import missing_bytes
from gnomon.storage.source.files.form import find_time, form_of, hash_of, packings_of, told_in
from gnomon.storage.source.files.index import NAT, Entry, Packings, SourceMemory, drop_index
from gnomon.storage.source.marks import marks_of, note_marks, predicted
from gnomon.storage.values.dtypes import native
from gnomon.storage.values.meaning import READ_BY
from gnomon.storage.values.model import SourceSpec
from gnomon.storage.values.timeforms import filled_times
from gnomon.storage.values.times import calendar_of, decode, told

__all__ = ["Files", "Stale", "Unfit", "look_at", "stamp_of"]

GRIB = (".grib", ".grib2", ".grb", ".grb2")
MOST_OPEN = 32
"""Files of a source that are open at once."""


class Unfit(ValueError):
    """A file cannot be a part of the source, or not now; the text goes after its name."""

    def __init__(self, reason: str, *, opened: bool = True) -> None:
        super().__init__(reason)
        self.opened = opened


class Stale(Unfit):
    """What the index says of a file is wrong."""


def stamp_of(path: Path) -> tuple[int, int]:
    """Return size and time of modification of a file."""
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns


def open_file(path: Path, spec: SourceSpec) -> xr.Dataset:
    """Open one file, undecoded and lazy.

    Raises
    ------
    Unfit
        It cannot be opened, or is cut off.
    """
    options: dict[str, Any] = {"engine": spec.engine, "decode_cf": False, "cache": False}
    if spec.group is not None:
        options["group"] = spec.group
    if path.suffix.lower() in GRIB and spec.engine in (None, "cfgrib"):
        if find_spec("cfgrib") is None:
            raise Unfit("is a GRIB file; install the package cfgrib to read it", opened=False)
        # An index beside the file would be a write into the source.
        options |= {"engine": "cfgrib", "backend_kwargs": {"indexpath": ""}}
    try:
        if lacking := missing_bytes(path):
            raise ValueError(f"it is cut off, {lacking} bytes are missing")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = xr.open_dataset(path, **options)
    except Exception as error:  # xarray engines raise whatever their libraries raise
        message = error.strerror if isinstance(error, OSError) else None
        reason = (message or one_line(error, 160)).replace(str(path), "it")
        raise Unfit(f"cannot be opened ({reason})", opened=False) from error
    note_marks(dataset)
    return dataset


def look_at(path: Path, spec: SourceSpec) -> Entry:
    """Return what is in a file.

    Raises
    ------
    Unfit
        It cannot be opened, has no time, or was changed meanwhile.
    """
    try:
        before = stamp_of(path)
        with open_file(path, spec) as dataset:
            entry = _entry(dataset, spec, before)
        if stamp_of(path) != before:
            raise Unfit("was changed while it was looked at", opened=False)
    except OSError as error:
        raise Unfit(
            f"cannot be read ({error.strerror or one_line(error)})", opened=False
        ) from error
    except Unfit:
        raise
    except InvalidInput as error:
        raise Unfit(f"cannot be captured ({error})") from error
    except Exception as error:  # as above: its metadata and coordinates are damaged
        raise Unfit(f"cannot be read ({one_line(error, 160)})", opened=False) from error
    return entry


def _entry(dataset: xr.Dataset, spec: SourceSpec, stamp: tuple[int, int]) -> Entry:
    time = find_time(dataset, spec.time)
    if time is None:
        detail = f" {spec.time!r}" if spec.time else ", no value with units '... since ...'"
        raise Unfit(f"has no time: no dimension{detail}; name it with --time")
    times, instants, calendar = _times(dataset, time)
    form = form_of(dataset, time)
    return Entry(
        *stamp,
        form,
        dataset.sizes.get(time, 1),
        times,
        instants,
        calendar,
        told_in(dataset, time),
        {name: hash_of(name, dataset.variables[name]) for name in sorted(form.singles)},
        Packings(packings_of(dataset, time)),
    )


def _times(
    dataset: xr.Dataset, time: str
) -> tuple[NDArray[np.generic] | None, NDArray[np.int64] | None, str]:
    """Return the times of a file, raw and as instants, and their calendar."""
    if time not in dataset.variables:
        return None, None, "standard"
    variable = dataset.variables[time]
    raw, calendar = native(np.atleast_1d(np.asarray(variable.values))), calendar_of(variable.attrs)
    if raw.ndim != 1 or raw.dtype.hasobject:
        return None, None, calendar
    there = _are_there(raw, variable.attrs)
    instants = np.full(raw.shape, NAT)
    try:
        instants[there] = decode(raw[there], str(variable.attrs.get("units")), calendar)
    except InvalidInput:
        return raw, None, calendar
    return raw, instants, calendar


def _are_there(raw: NDArray[np.generic], attributes: dict[Any, Any]) -> NDArray[np.bool_]:
    """Tell which values stand for something."""
    there = ~filled_times(raw, attributes)
    return there & np.isfinite(raw) if raw.dtype.kind == "f" else there


@dataclass(frozen=True, slots=True)
class TimeCoding:
    """How a variable that tells times is told in the whole source."""

    units: str
    """CF units."""
    calendar: str
    """CF calendar."""


class Files:
    """The files of a source in order, of which a few are open.

    Parameters
    ----------
    names, paths, entries
        Of each file.
    targets
        Of each variable that tells times.
    """

    def __init__(
        self,
        spec: SourceSpec,
        paths: dict[str, Path],
        entries: dict[str, Entry],
        targets: dict[str, TimeCoding],
        memory: SourceMemory | None,
    ) -> None:
        self.spec = spec
        self.names = list(entries)
        self.paths = paths
        self.entries = entries
        self.targets = targets
        self.memory = memory
        counts = [entry.count for entry in entries.values()]
        self.starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        self._open: OrderedDict[str, xr.Dataset] = OrderedDict()
        self._lock = RLock()
        self._attributes: dict[tuple[str, int], Mapping[str, Any]] = {}

    @property
    def steps(self) -> int:
        """How many time steps there are in all files."""
        return int(self.starts[-1])

    def place(self, position: int) -> tuple[str, int]:
        """Return in which file a time step is, and where in it."""
        k = int(np.searchsorted(self.starts, position, side="right")) - 1
        return self.names[k], position - int(self.starts[k])

    def told_at(self, name: str, position: int, attributes: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the attributes of a variable at a step.

        Parameters
        ----------
        attributes
            Of the whole source, as its first file has them.
        """
        packings = self.entries[self.place(position)[0]].packings
        if name not in packings.attributes:
            return attributes
        key = name, id(packings)
        if key not in self._attributes:
            rest = {n: v for n, v in attributes.items() if n not in READ_BY}
            self._attributes[key] = rest | dict(packings.attributes[name])
        return self._attributes[key]

    def read(self, file: str, name: str, steps: list[int], cells: dict[str, Any]) -> NDArray[Any]:
        """Return some steps of one file, time at the place that it has in the whole source.

        Parameters
        ----------
        cells
            Slices and lists by dimension.

        Raises
        ------
        Unfit
            The file is not what it was: its steps are left out.
        """
        entry, time = self.entries[file], self.entries[file].form.time
        with self._lock:
            dataset = self.dataset(file)
            variable = dataset.variables[name]
            where = dict(cells)
            if time in variable.dims:
                run = steps == list(range(steps[0], steps[-1] + 1))
                where[time] = slice(steps[0], steps[-1] + 1) if run else steps
            values = np.asarray(variable.isel(where).values)
            if time not in variable.dims:  # a single value is that of all steps
                values = np.repeat(values[np.newaxis], len(steps), axis=0)
            # By file: of a variable that not all files have, the source as a whole has none.
            marks = marks_of(dataset, name)
            flags = [dataset.variables[n] for n in marks.flags]
            raw = [(f.isel(where, missing_dims="ignore").values, f.attrs) for f in flags]
            self._refuse_changed(file)
        count = sum(int(predicted(np.asarray(part), told).sum()) for part, told in raw)
        if count or marks.method:
            raise Unfit(f"{file} {marks.refusal(name, count)}")
        return self._told(entry, name, values, variable.attrs)

    def dataset(self, file: str) -> xr.Dataset:
        """Return one file, open, as long as others do not need its place."""
        with self._lock:
            self._refuse_changed(file)
            if file not in self._open:
                while len(self._open) >= MOST_OPEN:
                    self._open.popitem(last=False)[1].close()
                self._open[file] = self._opened(file)
            self._open.move_to_end(file)
            return self._open[file]

    def close(self) -> None:
        """Close what is open."""
        with self._lock:
            while self._open:
                self._open.popitem()[1].close()

    def _refuse_changed(self, file: str) -> None:
        try:
            same = self.entries[file].is_of(stamp_of(self.paths[file]))
        except (FileNotFoundError, PermissionError) as error:
            raise Unfit(f"{file} {(error.strerror or 'is gone').lower()}") from error
        if not same:
            raise Unfit(f"{file} was changed while it was read")

    def _opened(self, file: str) -> xr.Dataset:
        """Open a file and compare it with what was seen in it, by this process or by the index."""
        dataset, entry = open_file(self.paths[file], self.spec), self.entries[file]
        try:
            time = entry.form.time
            moving = {n: p for n, p in entry.form.parts.items() if not p.hash}
            raw = _times(dataset, time)[0] if find_time(dataset, self.spec.time or time) else None
            same = (
                (None if raw is None else (raw.dtype, raw.tobytes()))
                == (None if entry.times is None else (entry.times.dtype, entry.times.tobytes()))
                and told_in(dataset, time) == entry.units
                and form_of(dataset, time, hashed=False).parts == moving
                and str(Packings(packings_of(dataset, time))) == str(entry.packings)
            )
        except Exception:
            dataset.close()
            raise
        if not same:
            dataset.close()
            drop_index(self.memory)
            raise Stale(f"{file} is not what was seen in it; the next run looks at all files anew")
        return dataset

    def _told(
        self, entry: Entry, name: str, values: NDArray[Any], attributes: dict[Any, Any]
    ) -> NDArray[Any]:
        """Return values that are times in the units of the whole source."""
        target = self.targets.get(name)
        if target is None or name not in entry.units:
            return values
        calendar = calendar_of(attributes) if "calendar" in attributes else entry.calendar
        if (entry.units[name], calendar) == (target.units, target.calendar):
            return values
        there = _are_there(values, attributes)
        instants = decode(values[there], entry.units[name], calendar)
        raw = told(instants, target.units, target.calendar, values.dtype)
        if raw is None:
            raise Unfit(f"{name} in {entry.units[name]!r} cannot be told in {target.units!r}")
        values = values.copy()
        values[there] = raw
        return values
