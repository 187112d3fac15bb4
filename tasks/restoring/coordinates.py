"""Coordinates: where a region lies that is given by their values, both ends included.

Along a dimension that has no coordinate it is given by position.  Longitudes go around: a region
from -5 to 5 is found in coordinates from 0 to 360 as well, in two runs, the western one first.
"""

from collections.abc import Mapping
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal, InvalidOperation
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from gnomon.storage.errors import InvalidInput, NotFound
from gnomon.storage.repository import Repository
from gnomon.storage.values.dtypes import is_text
from gnomon.storage.values.selection import Runs
from gnomon.storage.values.times import decode, format_instant, period

__all__ = ["Elsewhere", "End", "places_of", "runs_of"]

End = str | float | None
"""An end of a region: a value of the coordinate, a time, a label, a position; None: open."""
_ROUND = 1e-6
"""Share of the spacing of a coordinate by which a value may be off an end: of ten steps of 0.1 the
sum is not 1."""
_SUMMED = 0.01
"""The most that is made of rounding, as a share of the spacing: coordinates that were added up in
single precision drift, and a hundredth of a cell off is no other cell."""
_CIRCLE = 360.0


class Elsewhere(InvalidInput):
    """Coordinates that are not those of the grid."""


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


def places_of(
    name: str, given: xr.Variable, grid: xr.Variable, *, in_order: bool = False
) -> NDArray[np.intp]:
    """Return at which cells of a grid the cells of something else lie, by a coordinate of both.

    Parameters
    ----------
    name
        Of the coordinate, for messages.
    given, grid
        Values of the coordinate: of one dimension, or of more where they are in the same order.
    in_order
        Whether the cells must be those of the grid, one by one.

    Raises
    ------
    Elsewhere
        A cell is none of the grid, or two are the same, or they are not next to each other.
    """
    there = _Along(name, grid)
    # What is meant by the numbers is known of the grid alone.
    here = _Along(name, given, there.is_longitude)
    if there.is_like(here):
        return np.arange(there.values.size)
    if in_order or here.is_time != there.is_time or here.is_text != there.is_text:
        raise Elsewhere(f"the mask of cells has another {name!r} than the grid; {_ALIGN}")
    places = there.nearest(here)
    if (places < 0).any():
        strange = here.told(int(np.flatnonzero(places < 0)[0]))
        raise Elsewhere(
            f"the mask of cells has a cell at {name} {strange}, where the grid has none; "
            f"{there.span()}; {_ALIGN}"
        )
    order = np.sort(places)
    gaps = np.flatnonzero(np.diff(order) != 1)
    around = there.is_longitude and order[0] == 0 and order[-1] == there.values.size - 1
    if gaps.size > int(around) or (np.diff(order) == 0).any():
        raise Elsewhere(
            f"the cells of the mask are not next to each other along {name}, or one is there "
            f"twice; {_ALIGN}"
        )
    return places


_ALIGN = "give a mask of the grid of the dataset, or of a part of it"


class _Along:
    """A coordinate of one dimension, by the values of which cells are chosen."""

    def __init__(
        self, name: str, coordinate: xr.Variable, is_longitude: bool | None = None
    ) -> None:
        self.name = name
        attributes = coordinate.attrs
        values = np.asarray(coordinate.values)
        self.is_time = values.dtype.kind == "M" or " since " in str(attributes.get("units", ""))
        self.is_text = is_text(values.dtype) or values.dtype.kind in "SU"
        self.is_longitude = (
            _is_longitude(name, attributes) if is_longitude is None else is_longitude
        )
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
            raise InvalidInput(f"the region has no cell of {self.name} from {ends}; {self.span()}")
        edges = np.flatnonzero(np.diff(np.concatenate([[0], inside.astype(np.int8), [0]])))
        runs = [slice(int(a), int(b)) for a, b in edges.reshape(-1, 2)]
        over_seam = len(runs) > 1 and runs[0].start == 0 and runs[-1].stop == inside.size
        if self.is_longitude and over_seam:
            runs = [*runs[1:], runs[0]]
        return tuple(runs)

    def _numbered(self, first: End, last: End) -> NDArray[np.bool_]:
        if self.values.dtype.kind in "iu" and not self.is_longitude:
            return self._counted(first, last)
        values = np.asarray(self.values, np.float64)
        low, high = (
            default if end is None else float(self._number(end))
            for end, default in ((first, -np.inf), (last, np.inf))
        )
        off = self._tolerance(values)
        turns = [0.0]
        if self.is_longitude and np.isfinite([low, high]).all():
            turns = [_CIRCLE * k for k in range(-3, 4)]
            # Eastwards may be the shorter way.
            if low > high and low - high > high + _CIRCLE - low:
                high += _CIRCLE
        elif self.is_longitude and np.isfinite([low, high]).any():
            turns = [self._turn(low if np.isfinite(low) else high, values, off)]
        low, high = min(low, high), max(low, high)
        inside = [(values >= low + t - off) & (values <= high + t + off) for t in turns]
        return np.asarray(np.logical_or.reduce(inside))

    def _counted(self, first: End, last: End) -> NDArray[np.bool_]:
        """Return which whole numbers are inside; as floating point numbers, large ones are not."""
        low, high = (None if e is None else self._number(e) for e in (first, last))
        if low is not None and high is not None and low > high:
            low, high = high, low
        inside = np.ones(self.values.shape, bool)
        if low is not None:
            inside &= self.values >= int(low.to_integral_value(ROUND_CEILING))
        if high is not None:
            inside &= self.values <= int(high.to_integral_value(ROUND_FLOOR))
        return inside

    def _turn(self, end: float, values: NDArray[np.float64], off: float) -> float:
        """Return by how much to turn the one end of a region that is open at the other.

        The open end is that of the coordinate, so that the other is wanted between its two ends.
        """
        west, east = np.nanmin(values, initial=np.inf), np.nanmax(values, initial=-np.inf)
        if west - off <= end <= east + off:
            return 0.0
        for turn in (_CIRCLE * k for k in range(-3, 4)):
            if west - off <= end + turn <= east + off:
                return turn
        if east - west + 1.5 * _spacing(values) > _CIRCLE:
            raise InvalidInput(
                f"the region is open at one end of {self.name}, which goes around, and the other, "
                f"{end:g}, is beyond where it begins and ends; {self.span()}; give both ends"
            )
        return 0.0

    def _tolerance(self, values: NDArray[np.float64], share: float = _ROUND) -> float:
        """Return by how much a value may be off an end and still be meant by it."""
        if self.values.dtype.kind != "f" or values.size == 0:
            return 0.0
        largest = np.nanmax(np.abs(values), initial=0.0)
        rounding = float(np.spacing(self.values.dtype.type(largest)))
        spacing = _spacing(values)
        # One rounding for each step that was added.
        return max(2.0 * rounding, min(values.size * rounding, _SUMMED * spacing), share * spacing)

    def is_like(self, other: "_Along") -> bool:
        """Tell whether another coordinate has the same values in the same order, but for rounding.

        Longitudes may be whole turns off, and what is unknown is unknown in both.
        """
        if self.values.shape != other.values.shape or self.is_text != other.is_text:
            return False
        if self._is_exact(other):
            return bool((self.values == other.values).all())
        off = self._between(other)
        apart = self._apart(np.asarray(other.values, np.float64), self._numbers())
        same = np.isnan(self._numbers()) & np.isnan(np.asarray(other.values, np.float64))
        return bool(((apart <= off) | same).all())

    def nearest(self, other: "_Along") -> NDArray[np.intp]:
        """Return the cell of each value of another coordinate (one dimension); -1: none."""
        if self._is_exact(other):
            index = {value: place for place, value in enumerate(self.values.tolist())}
            found = [index.get(value, -1) for value in other.values.tolist()]
            return np.array(found, np.intp)
        numbers, wanted = self._numbers(), np.asarray(other.values, np.float64)
        if self.is_longitude:
            numbers, wanted = numbers % _CIRCLE, wanted % _CIRCLE
        order = np.argsort(numbers)[: np.isfinite(numbers).sum()]
        if not order.size:
            return np.full(wanted.shape, -1, np.intp)
        after = np.searchsorted(numbers[order], wanted)
        beside = [order[(after + k) % order.size] for k in (-1, 0)]
        apart = np.stack([self._apart(wanted, numbers[b]) for b in beside])
        closer = np.argmin(np.nan_to_num(apart, nan=np.inf), axis=0)
        places = np.where(closer == 0, *beside)
        found_at = np.take_along_axis(apart, closer[None], axis=0)[0]
        return np.where(found_at <= self._between(other), places, -1)

    def _is_exact(self, other: "_Along") -> bool:
        kinds = self.values.dtype.kind + other.values.dtype.kind
        return "f" not in kinds and not self.is_longitude

    def _numbers(self) -> NDArray[np.float64]:
        return np.asarray(self.values, np.float64)

    def _apart(self, one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
        apart = np.abs(one - other)
        return np.abs((apart + _CIRCLE / 2) % _CIRCLE - _CIRCLE / 2) if self.is_longitude else apart

    def _between(self, other: "_Along") -> float:
        """Return by how much the values of two coordinates of one grid may differ."""
        return max(c._tolerance(c._numbers(), _SUMMED) for c in (self, other))

    def _number(self, end: End) -> Decimal:
        try:
            number = Decimal(str(end))
        except InvalidOperation:
            number = Decimal("nan")
        if not number.is_finite():
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
                raise InvalidInput(f"no cell of {self.name} is called {end!r:.40}; {self.span()}")
            places.append(default if end is None else labels.index(str(end)))
        positions = np.arange(len(labels))
        return np.asarray((positions >= min(places)) & (positions <= max(places)))

    def span(self) -> str:
        """Say how many cells there are, and from where to where."""
        if self.values.size == 0:
            return "it has none"
        return f"it has {self.values.size} cells from {self.told(0)} to {self.told(-1)}"

    def told(self, place: int) -> str:
        """Return the value of a cell as text."""
        value = self.values.ravel()[place]
        if self.is_time:
            return format_instant(int(value), self.calendar)
        return f"{value:g}" if isinstance(value, np.floating) else str(value)


def _is_longitude(name: str, attributes: Mapping[Any, Any]) -> bool:
    """Tell whether a coordinate is a longitude: by its standard name, its units, else its name."""
    if not {"standard_name", "units"} & set(attributes):
        return name.lower() in ("lon", "longitude")
    units = str(attributes.get("units", "")).lower()
    return attributes.get("standard_name") == "longitude" or units.startswith(
        ("degrees_e", "degree_e", "degreese", "degreee")
    )


def _spacing(values: NDArray[np.float64]) -> float:
    """Return the usual distance of neighbours; 0 if there is none."""
    steps = np.abs(np.diff(values))
    return float(np.median(steps)) if steps.size and np.isfinite(steps).all() else 0.0
