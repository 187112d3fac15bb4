"""Which variables and cells are wanted of a state, as users write it, and what that selects.

A region is given by the values of coordinates, both ends included; along a dimension that has no
coordinate, by position.  Longitudes go around: a region from -5 to 5 is found in coordinates from 0
to 360 as well, in two runs, the western one first.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from gnomon.storage.errors import InvalidInput, NotFound
from gnomon.storage.repository import Repository
from gnomon.storage.values.dtypes import is_text
from gnomon.storage.values.grid import Index
from gnomon.storage.values.model import Variable
from gnomon.storage.values.selection import EVERYTHING, Runs, Selection
from gnomon.storage.values.times import decode, format_instant, period

__all__ = ["ALL_OF_IT", "Region", "Wanted"]

End = str | float | None
"""An end of a region: a value of the coordinate, a time, a label, a position; None: open."""
Region = str | Sequence[str] | Mapping[str, Any]
"""``lat=10:20,lon=-5:5``, or such texts, or by name a pair of ends."""

_REFERRING = (
    "ancillary_variables",
    "bounds",
    "cell_measures",
    "climatology",
    "coordinates",
    "formula_terms",
    "grid_mapping",
)
"""Attributes by which CF variables name others."""
_ROUND = 1e-6
"""Share of the spacing of a coordinate by which a value may be off an end: of ten steps of 0.1 the
sum is not 1."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a user wants of a state; without arguments all of it."""

    variables: tuple[str, ...] = ()
    """Names; empty: all."""
    region: Mapping[str, tuple[End, End]] = field(default_factory=dict)
    """By dimension or coordinate, both ends."""
    chunks: tuple[tuple[str | None, Index], ...] = ()
    """Chunks by variable (None: those that have such a grid) and index on the chunk grid."""

    @classmethod
    def of(
        cls,
        variable: str | Sequence[str] = (),
        region: Region | None = None,
        chunk: str | Index | Sequence[str | Index] = (),
    ) -> "Wanted":
        """Read what a user gives.

        Parameters
        ----------
        variable
            One name or several.
        region
            Text such as ``lat=10:20,lon=-5:5`` (or ``lead=FIRST/LAST`` for times of day), several
            of them, or a mapping of names to pairs.
        chunk
            Indices on the chunk grid, as ``"3,4"``, ``"sst:3,4"`` or ``(3, 4)``; one or several.

        Raises
        ------
        InvalidInput
            It cannot be read; or region and chunks were both given.
        """
        names = (variable,) if isinstance(variable, str) else tuple(variable)
        one = isinstance(chunk, str) or (bool(chunk) and all(isinstance(c, int) for c in chunk))
        chunks: Iterable[Any] = (chunk,) if one else chunk
        wanted = cls(names, _ends(region), tuple(map(_chunk, chunks)))
        if wanted.region and wanted.chunks:
            raise InvalidInput("a region and chunks were both given; take one of them")
        return wanted

    def within(self, repository: Repository) -> Selection:
        """Return what is selected of the states of an era.

        Raises
        ------
        NotFound
            There is no such variable, dimension, coordinate or chunk; the message says which are.
        InvalidInput
            No cell lies in the region, or its coordinate has two dimensions.
        """
        if self == ALL_OF_IT:
            return EVERYTHING
        variables = self._named(repository)
        cells: dict[str, Runs] = {}
        for name, ends in self.region.items():
            dim, runs = _runs(repository, name, *ends)
            if dim in cells:
                raise InvalidInput(f"the region has two ranges of {dim!r}; give one")
            cells[dim] = runs
        chunks = self._chunks(repository, variables)
        for name, indices in chunks.items():
            for dim, runs in _bounding(repository.settings.variable(name), indices).items():
                bounds = [*cells.get(dim, ()), *runs]
                cells[dim] = (slice(min(r.start for r in bounds), max(r.stop for r in bounds)),)
        sizes = repository.settings.dims
        cells = {d: r for d, r in cells.items() if r != (slice(0, sizes.get(d, -1)),)}
        names = tuple(v.name for v in variables)
        return Selection(names, cells, chunks, _companions(repository, names))

    def _named(self, repository: Repository) -> list[Variable]:
        """Return the variables that are named, be it by their chunks alone; empty: all."""
        variables = [repository.settings.variable(name) for name in dict.fromkeys(self.variables)]
        of_chunks = [name for name, _ in self.chunks if name is not None]
        strange = [name for name in of_chunks if name not in self.variables]
        if self.variables and strange:
            raise InvalidInput(
                f"a chunk of {strange[0]!r} is wanted, but only the variables "
                f"{', '.join(self.variables)}; name it too, or leave the others out"
            )
        if not self.variables and len(of_chunks) == len(self.chunks):
            variables = [repository.settings.variable(name) for name in dict.fromkeys(of_chunks)]
        return variables

    def _chunks(
        self, repository: Repository, variables: list[Variable]
    ) -> dict[str, tuple[Index, ...]]:
        chunks: dict[str, list[Index]] = {}
        every = variables or list(repository.settings.variables)
        for name, index in self.chunks:
            if name is not None:
                fitting = [repository.settings.variable(name)]
            else:
                fitting = _of_one_grid([v for v in every if len(v.dims) == len(index)], index)
            for variable in fitting or every:
                inside = len(index) == len(variable.dims) and all(
                    i < n for i, n in zip(index, variable.grid.counts, strict=True)
                )
                if not inside:
                    raise NotFound(
                        f"{variable.name} has no chunk {_told(index)}; its grid has "
                        f"{' x '.join(map(str, variable.grid.counts)) or 'one'} chunks "
                        f"along {', '.join(variable.dims) or 'no dimension'}, counted from 0"
                    )
                chunks.setdefault(variable.name, []).append(index)
        return {name: tuple(dict.fromkeys(indices)) for name, indices in chunks.items()}


ALL_OF_IT = Wanted()


def _of_one_grid(variables: list[Variable], index: Index) -> list[Variable]:
    """Return variables, if an index means the same chunk of each of them."""
    grids = {(v.dims, v.chunks, v.shape): v for v in variables}
    if len(grids) > 1:
        names = [v.name for v in grids.values()]
        raise InvalidInput(
            f"the chunk grids of {' and '.join(names[:2])} differ; say of which variable the chunk "
            f"is, as in {names[0]}:{_told(index)}"
        )
    return variables


def _told(index: Index) -> str:
    return ",".join(map(str, index))


def _chunk(text: str | Index) -> tuple[str | None, Index]:
    if not isinstance(text, str):
        return None, tuple(map(int, text))
    name, colon, numbers = text.rpartition(":")
    parts = numbers.split(",")
    if not all(p.strip().isascii() and p.strip().isdigit() for p in parts):
        raise InvalidInput(
            f"{text!r:.80} is no chunk; write its index on the chunk grid, as 3,4 or VARIABLE:3,4"
        )
    return name if colon else None, tuple(map(int, parts))


def _ends(region: Region | None) -> dict[str, tuple[End, End]]:
    """Return both ends of each range of a region, by name."""
    ends: dict[str, tuple[End, End]] = {}
    if isinstance(region, Mapping):
        return {str(name): _pair(str(name), bounds) for name, bounds in region.items()}
    for text in (region,) if isinstance(region, str) else region or ():
        for item in text.split(","):
            name, equals, bounds = item.partition("=")
            name = name.strip()
            if not (equals and name and bounds.strip()):
                raise InvalidInput(
                    f"{text!r:.80} is no region; write it as lat=10:20,lon=-5:5, both ends included"
                )
            if name in ends:
                raise InvalidInput(f"the region has two ranges of {name!r}; give one")
            ends[name] = _pair(name, bounds)
    return ends


def _pair(name: str, bounds: Any) -> tuple[End, End]:
    if isinstance(bounds, str):
        # Times of day have colons of their own.
        bounds = re.split("/" if "/" in bounds else ":", bounds)
        bounds = [b.strip() or None for b in bounds]
    elif isinstance(bounds, slice) and bounds.step is None:
        bounds = [bounds.start, bounds.stop]
    elif np.ndim(bounds) == 0:
        bounds = [bounds]
    if not 1 <= len(bounds) <= 2 or (len(bounds) == 1 and bounds[0] is None):
        raise InvalidInput(
            f"the range of {name!r} has {len(bounds)} ends; write it as {name}=FIRST:LAST, times "
            f"of day as {name}=FIRST/LAST"
        )
    return bounds[0], bounds[-1]


# Where a region lies ----------------------------------------------------------------------------


def _runs(repository: Repository, name: str, first: End, last: End) -> tuple[str, Runs]:
    """Return the dimension and the cells of one range of a region."""
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


def _bounding(variable: Variable, indices: Sequence[Index]) -> dict[str, Runs]:
    """Return the box of cells that holds some chunks, by dimension."""
    axes = zip(*(variable.grid.cells(index) for index in indices), strict=True)
    return {
        dim: (slice(min(s.start for s in axis), max(s.stop for s in axis)),)
        for dim, axis in zip(variable.dims, axes, strict=True)
    }


def _companions(repository: Repository, names: tuple[str, ...]) -> tuple[str, ...]:
    """Return what variables refer to, and what that refers to: coordinates, bounds, mappings."""
    if not names:
        return ()
    settings = repository.settings
    attributes: dict[str, Mapping[Any, Any]] = {
        str(n): v.attrs for n, v in repository.frame.variables.items()
    }
    dims = {n: set(map(str, v.dims)) for n, v in repository.frame.variables.items()}
    attributes |= {v.name: v.attributes for v in settings.variables}
    wanted = {d for v in settings.variables if v.name in names for d in v.dims}
    # What a whole dataset names as coordinates, xarray gives to every variable along them.
    every = re.findall(r"\S+", str(settings.attributes.get("coordinates", "")))
    pending = [*names, *wanted, *(n for n in every if dims.get(n, {None}) <= wanted)]
    time = _referred(settings.time_attributes)
    seen: dict[str, None] = {}
    for name in (*pending, *time):
        _follow(name, attributes, seen)
    return tuple(n for n in seen if n not in names)


def _follow(name: str, attributes: Mapping[str, Mapping[Any, Any]], seen: dict[str, None]) -> None:
    if name not in attributes or name in seen:
        return
    seen[name] = None
    for other in _referred(attributes[name]):
        _follow(other, attributes, seen)


def _referred(attributes: Mapping[Any, Any]) -> list[str]:
    texts = (str(attributes.get(key, "")) for key in _REFERRING)
    return [word for text in texts for word in re.findall(r"[^\s:]+", text)]
