"""Which variables and cells are wanted of a state, as users write it, and what that selects."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gnomon.storage.errors import InvalidInput, NotFound
from gnomon.storage.repository import Repository
from gnomon.storage.values.grid import Index
from gnomon.storage.values.model import Variable
from gnomon.storage.values.selection import EVERYTHING, Runs, Selection
from gnomon.tasks.restoring.coordinates import End, runs_of

__all__ = ["ALL_OF_IT", "Region", "Wanted"]

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
            dim, runs = runs_of(repository, name, *ends)
            self._refuse_without(repository, variables, name, dim)
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

    def _refuse_without(
        self, repository: Repository, variables: list[Variable], name: str, dim: str
    ) -> None:
        """Refuse a range along a dimension that nothing wanted has, or bounds alone."""
        bounds = _bounds(repository)
        every = variables or list(repository.settings.variables)
        every = [v for v in every if v.name not in bounds] or every
        if not any(dim in v.dims for v in every):
            there = dict.fromkeys(d for v in every for d in v.dims)
            raise InvalidInput(
                f"{', '.join(v.name for v in every)} have no dimension {dim!r}, along which the "
                f"region has a range of {name!r}; they have {', '.join(there) or 'none'}"
            )

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


def _bounding(variable: Variable, indices: Sequence[Index]) -> dict[str, Runs]:
    """Return the box of cells that holds some chunks, by dimension."""
    axes = zip(*(variable.grid.cells(index) for index in indices), strict=True)
    return {
        dim: (slice(min(s.start for s in axis), max(s.stop for s in axis)),)
        for dim, axis in zip(variable.dims, axes, strict=True)
    }


def _bounds(repository: Repository) -> set[str]:
    """Return what holds the edges of cells: along its last dimension there are no cells."""
    settings = repository.settings
    described = [
        settings.time_attributes,
        *(v.attributes for v in settings.variables),
        *(v.attrs for v in repository.frame.variables.values()),
    ]
    keys = ("bounds", "climatology")
    return {
        name
        for attributes in described
        for k in keys
        for name in str(attributes.get(k, "")).split()
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
