"""Coordinates: where a region lies that is given by their values, both ends included.

Along a dimension that has no coordinate it is given by position.  Longitudes go around: a region
from -5 to 5 is found in coordinates from 0 to 360 as well, in two runs, the western one first.
"""

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from gnomon.storage.errors import InvalidInput, NotFound
from gnomon.storage.repository import Repository
from gnomon.storage.values.dtypes import is_text
from gnomon.storage.values.selection import Runs
from gnomon.storage.values.times import decode, format_instant, period

__all__ = ["End", "runs_of"]

End = str | float | None
"""An end of a region: a value of the coordinate, a time, a label, a position; None: open."""
_ROUND = 1e-6
"""Share of the spacing of a coordinate by which a value may be off an end: of ten steps of 0.1 the
sum is not 1."""


def runs_of(repository: Repository, name: str, first: End, last: End) -> tuple[str, Runs]:
    """Return the dimension and the cells of one range of a region.

    Raises
    ------
    NotFound
        There is no such dimension or coordinate; the message says which are.
    InvalidInput
        No cell lies there, an end is no value of it, or it is the time, or has two dimensions.
    """
    settings = repository.settings
    fixed = repository.frame.variables
    if name in (settings.source.time, settings.time_name):
        raise InvalidInput(
            f"{name!r} is the time of the states; choose one with --at, a period with --from and "
            "--until"
        )
    if name in fixed and fixed[name].ndim > 1:
        dims = ", ".join(f"{d} (0 to {settings.dims[str(d)] - 1})" for d in fixed[name].dims)
        raise InvalidInput(
            f"{name!r} is a coordinate of {fixed[name].ndim} dimensions, along which no region is "
            f"a box; give the region by position along {dims}"
        )
    if name in fixed and fixed[name].ndim == 1 and str(fixed[name].dims[0]) in settings.dims:
        dim, place = str(fixed[name].dims[0]), _Along(name, fixed[name])
    elif name in settings.dims:
        dim, place = name, _Along(name, xr.Variable((name,), np.arange(settings.dims[name])))
    else:
        there = [*settings.dims, *(str(n) for n, v in fixed.items() if v.ndim == 1)]
        raise NotFound(
            f"the dataset has no dimension or coordinate {name!r}; it has "
            f"{', '.join(dict.fromkeys(there)) or 'none'}"
        )
    return dim, place.between(first, last)


class _Along:
    """A coordinate of one dimension, by the values of which cells are chosen."""

    def __init__(self, name: str, coordinate: xr.Variable) -> None:
        self.name = name
        attributes = coordinate.attrs
        values = np.asarray(coordinate.values)
        self.is_time = values.dtype.kind == "M" or " since " in str(attributes.get("units", ""))
        self.is_text = is_text(values.dtype) or values.dtype.kind in "SU"
        self.is_longitude = attributes.get("standard_name") == "longitude" or str(
            attributes.get("units", "")
        ).lower().startswith(("degrees_e", "degree_e", "degreese", "degreee"))
        self.calendar = str(attributes.get("calendar", "standard"))
        self.values: NDArray[Any] = values
        if values.dtype.kind == "M":
            self.values = values.astype("M8[us]").astype(np.int64)
            self.calendar = "proleptic_gregorian"
        elif self.is_time:
            self.values = decode(values, str(attributes["units"]), self.calendar)
        elif values.dtype.kind in "biuf":
            scaled = xr.conventions.decode_cf_variable(
                name, xr.Variable(coordinate.dims, values, attributes), decode_times=False
            )
            self.values = np.asarray(scaled.values)
        elif not self.is_text:
            raise InvalidInput(
                f"{name!r} has values of type {values.dtype}, which no region can be given by"
            )

    def between(self, first: End, last: End) -> Runs:
        """Return the cells from one value to another, both included."""
        if self.is_text:
            inside = self._labelled(first, last)
        elif self.is_time:
            low, high = self._instants(first, last)
            inside = (self.values >= low) & (self.values <= high)
        else:
            inside = self._numbered(first, last)
        if not inside.any():
            ends = " to ".join("the end" if e is None else str(e) for e in (first, last))
            raise InvalidInput(f"the region has no cell of {self.name} from {ends}; {self._span()}")
        edges = np.flatnonzero(np.diff(np.concatenate([[0], inside.astype(np.int8), [0]])))
        runs = [slice(int(a), int(b)) for a, b in edges.reshape(-1, 2)]
        over_seam = len(runs) > 1 and runs[0].start == 0 and runs[-1].stop == inside.size
        if self.is_longitude and over_seam:
            runs = [*runs[1:], runs[0]]
        return tuple(runs)

    def _numbered(self, first: End, last: End) -> NDArray[np.bool_]:
        values = np.asarray(self.values, np.float64)
        low, high = (
            default if end is None else self._number(end)
            for end, default in ((first, -np.inf), (last, np.inf))
        )
        turns = [0.0]
        if self.is_longitude and np.isfinite([low, high]).all():
            turns = [360.0 * k for k in range(-3, 4)]
            if low > high and low - high > high + 360.0 - low:  # eastwards is the shorter way
                high += 360.0
        low, high = min(low, high), max(low, high)
        off = self._tolerance(values)
        inside = [(values >= low + t - off) & (values <= high + t + off) for t in turns]
        return np.asarray(np.logical_or.reduce(inside))

    def _tolerance(self, values: NDArray[np.float64]) -> float:
        """Return by how much a value may be off an end and still be meant by it."""
        if self.values.dtype.kind != "f" or values.size == 0:
            return 0.0
        largest = np.nanmax(np.abs(values), initial=0.0)
        rounding = 2.0 * float(np.spacing(self.values.dtype.type(largest)))
        steps = np.abs(np.diff(values))
        spacing = float(np.median(steps)) if steps.size and np.isfinite(steps).all() else 0.0
        return max(rounding, _ROUND * spacing)

    def _number(self, end: End) -> float:
        try:
            number = float(end)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            number = np.nan
        if not np.isfinite(number):
            raise InvalidInput(
                f"the region has {end!r:.40} as an end of {self.name}; give a number"
            )
        return number

    def _instants(self, first: End, last: End) -> tuple[int, int]:
        ends = [
            (-(2**63), 2**63) if end is None else period(str(end), self.calendar)
            for end in (first, last)
        ]
        if None not in (first, last) and ends[0][0] > ends[1][0]:
            ends.reverse()
        return ends[0][0], min(ends[1][1] - 1, 2**63 - 1)

    def _labelled(self, first: End, last: End) -> NDArray[np.bool_]:
        labels = [t.decode() if isinstance(t, bytes) else str(t) for t in self.values.tolist()]
        places = []
        for end, default in ((first, 0), (last, len(labels) - 1)):
            if end is not None and str(end) not in labels:
                raise InvalidInput(f"no cell of {self.name} is called {end!r:.40}; {self._span()}")
            places.append(default if end is None else labels.index(str(end)))
        positions = np.arange(len(labels))
        return np.asarray((positions >= min(places)) & (positions <= max(places)))

    def _span(self) -> str:
        if self.values.size == 0:
            return "it has none"
        ends = self.values[[0, -1]]
        told = [format_instant(int(e), self.calendar) for e in ends] if self.is_time else ends
        first, last = (f"{e:g}" if isinstance(e, np.floating) else str(e) for e in told)
        return f"it has {self.values.size} cells from {first} to {last}"
