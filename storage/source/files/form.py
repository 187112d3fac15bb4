"""The form of a file: which variables it has, on which grid, of which quantity.

Values of two files can stand in one series only if their forms agree.  What may differ, as it is
told for each file: the times, the units in which they are told, how values are packed, and how they
are chunked.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from gnomon.storage.log.records import content_hash
from gnomon.storage.stacks.fixed import encode_variable
from gnomon.storage.values.documents import items, members, text, whole
from gnomon.storage.values.dtypes import type_name
from gnomon.storage.values.meaning import READ_BY
from gnomon.storage.values.model import RepositorySettings
from gnomon.storage.values.scaling import check_packing
from gnomon.storage.values.times import calendar_of
from gnomon.storage.values.units import conversion, same_units

if TYPE_CHECKING:
    import xarray as xr

__all__ = [
    "Form",
    "Part",
    "differing",
    "find_time",
    "form_of",
    "form_of_settings",
    "hash_of",
    "is_time",
    "moves",
    "other_times",
    "packings_of",
    "told_in",
]

Meaning = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Part:
    """One variable of a file."""

    dims: tuple[str, ...]
    """Its dimensions, time among them if it moves."""
    shape: tuple[int, ...]
    """Sizes of its dimensions, but of time."""
    dtype: str
    """NumPy type string, little endian."""
    meaning: Meaning
    """What gives numbers their meaning: units, calendar, flags, standard name."""
    hash: str = ""
    """Of the values, of an array that describes the grid."""


@dataclass(frozen=True)
class Form:
    """The variables of a file: those that move with time, those that describe the grid, and others.

    Of the others, single values say, no hash is here: what they are may differ from file to file.
    """

    time: str
    """Name of the time dimension."""
    parts: Mapping[str, Part]
    """By name."""

    @cached_property
    def singles(self) -> frozenset[str]:
        """Return the variables that have one value, or array, for the whole file."""
        parts = self.parts.items()
        return frozenset(n for n, p in parts if not p.hash and self.time not in p.dims)

    @cached_property
    def key(self) -> str:
        """The JSON form as text, the same for forms that are equal."""
        return json.dumps(self.to_json())

    def to_json(self) -> list[Any]:
        """Return the JSON form."""
        parts = {
            n: [list(p.dims), list(p.shape), p.dtype, [list(m) for m in p.meaning], p.hash]
            for n, p in sorted(self.parts.items())
        }
        return [self.time, parts]

    @classmethod
    def from_json(cls, data: Any) -> "Form":
        """Read the JSON form; ValueError or the like if it is not one."""
        time, parts = data
        return cls(text(time, "time"), members(parts, "parts", lambda v, _: _part(v)))


def _part(value: Any) -> Part:
    dims, shape, dtype, meaning, digest = value
    return Part(
        items(dims, "dims", text),
        items(shape, "shape", whole),
        text(dtype, "type"),
        items(meaning, "meaning", lambda v, w: (text(v[0], w), text(v[1], w))),  # type: ignore[index]
        text(digest, "hash"),
    )


def find_time(dataset: "xr.Dataset", name: str | None) -> str | None:
    """Return the time dimension of a file, or the single value that is its time; None: none."""
    variables = dataset.variables
    if name is not None and name not in dataset.dims:
        dims = variables[name].dims if name in variables else ("none", "such")
        return name if dims == () else str(dims[0]) if len(dims) == 1 else None
    if name is not None:
        return name
    for dim in map(str, dataset.dims):
        if dim in variables and variables[dim].dims == (dim,) and is_time(variables[dim]):
            return dim
    singles = [str(n) for n, v in variables.items() if v.dims == () and is_time(v)]
    named = [n for n in singles if n == "time" or variables[n].attrs.get("standard_name") == "time"]
    growing = [str(d) for d in dataset.encoding.get("unlimited_dims", ()) if d in dataset.dims]
    likely = [str(d) for d in dataset.dims if str(d).lower() in ("time", "valid_time")]
    candidates = [*named, *growing, *likely, *(singles if len(singles) == 1 else [])]
    beside = {str(v.dims[0]) for v in variables.values() if v.ndim == 1 and is_time(v)}
    return next(iter([*candidates, *(beside if len(beside) == 1 else [])]), None)


def is_time(variable: "xr.Variable") -> bool:
    """Tell whether a variable tells times in CF units."""
    return " since " in str(variable.attrs.get("units", ""))


def moves(dataset: "xr.Dataset", time: str) -> frozenset[str]:
    """Return the variables that change with time.

    In a file whose time is a single value, and which is one step, no dimension tells: it is what
    describes no grid, and the single values that tell times.
    """
    variables = dataset.variables
    if time in dataset.dims:
        return frozenset(str(n) for n, v in variables.items() if time in v.dims)
    grid = _grid(dataset)
    return frozenset(
        str(n) for n, v in variables.items() if is_time(v) or (v.dims and n not in grid)
    )


def other_times(dataset: "xr.Dataset", time: str) -> frozenset[str]:
    """Return the variables along another dimension that tells times: they are another series."""
    variables = dataset.variables
    dims = {d for d in dataset.dims if d != time and d in variables and is_time(variables[d])}
    return frozenset(str(n) for n, v in variables.items() if dims.intersection(v.dims))


def _grid(dataset: "xr.Dataset") -> set[str]:
    """Return the variables that describe the grid, as CF attributes name them."""
    named = set(map(str, dataset.coords))
    for attributes in (dataset.attrs, *(v.attrs for v in dataset.variables.values())):
        for key in ("coordinates", "bounds", "grid_mapping"):
            named |= {part.strip(":") for part in str(attributes.get(key, "")).split()}
    return named


def told_in(dataset: "xr.Dataset", time: str) -> dict[str, str]:
    """Return the units of each variable that tells times; the bounds of time have its own."""
    units = {str(n): str(v.attrs["units"]) for n, v in dataset.variables.items() if is_time(v)}
    if time in units:
        for key in ("bounds", "climatology"):
            name = str(dataset.variables[time].attrs.get(key, ""))
            if name in dataset.variables:
                units.setdefault(name, units[time])
    return units


def form_of(dataset: "xr.Dataset", time: str, *, hashed: bool = True) -> Form:
    """Return the form of an undecoded file.

    Parameters
    ----------
    hashed
        Read the arrays that describe the grid; otherwise they are left out.
    """
    moving, times, grid = moves(dataset, time), told_in(dataset, time), _grid(dataset)
    strange = other_times(dataset, time)
    parts = {}
    for name, variable in ((str(n), v) for n, v in dataset.variables.items()):
        dims = tuple(map(str, variable.dims))
        is_fixed = bool(dims) and name not in moving and name in grid
        if name == time or name in strange or (is_fixed and not hashed):
            continue
        parts[name] = Part(
            (time, *dims) if name in moving and time not in dims else dims,
            tuple(n for d, n in variable.sizes.items() if d != time),
            type_name(variable.dtype),
            () if is_fixed else _meaning(variable.attrs, name in times),
            hash_of(name, variable) if is_fixed else "",
        )
    return Form(time, parts)


def packings_of(dataset: "xr.Dataset", time: str) -> dict[str, dict[str, Any]]:
    """Return the attributes by which values that change with time are numbers, by variable.

    Raises
    ------
    InvalidInput
        By these, they are none.
    """
    packings = {}
    for name in sorted(moves(dataset, time) - told_in(dataset, time).keys() - {time}):
        variable = dataset.variables[name]
        packing = {n: variable.attrs[n] for n in READ_BY if n in variable.attrs}
        check_packing(name, variable.dtype, packing)
        packings[name] = packing
    return packings


def hash_of(name: str, variable: "xr.Variable") -> str:
    """Return the hash under which the frame of a repository would keep the values."""
    return content_hash(encode_variable(name, variable)[0])


def form_of_settings(settings: RepositorySettings) -> Form:
    """Return what files must be like to be captured under settings."""
    time = str(settings.source.time)
    bounds = {str(settings.time_attributes.get(key, "")) for key in ("bounds", "climatology")}
    parts = {}
    for v in settings.variables:
        if v.name == time:  # numbers along the dimension that another coordinate dates
            continue
        dims = (*v.dims[: v.time_axis], time, *v.dims[v.time_axis :])
        tells = " since " in str(v.attributes.get("units", "")) or v.name in bounds
        parts[v.name] = Part(dims, v.shape, v.dtype, _meaning(v.attributes, tells))
    for name, entry in settings.frame_entries.items():
        dtype = "|O" if entry["dtype"] == "text" else str(entry["dtype"])
        shape = tuple(map(int, entry["shape"]))
        parts[name] = Part(tuple(entry["dims"]), shape, dtype, (), str(entry["hash"]))
    return Form(time, parts)


def _meaning(attributes: Mapping[Any, Any], tells_time: bool) -> Meaning:
    meaning = {}
    if tells_time and "calendar" in attributes:
        meaning["calendar"] = calendar_of(attributes)
    elif "units" in attributes and not tells_time:
        meaning["units"] = str(attributes["units"])
    for name in (*_FLAGS, *_STATED):
        if name in attributes:
            values = np.atleast_1d(np.asarray(attributes[name])).tolist()
            meaning[name] = " ".join(" ".join(str(value).split()) for value in values)
    return tuple(sorted(meaning.items()))


_FLAGS = ("flag_values", "flag_masks", "flag_meanings")
_STATED = ("standard_name",)
"""Where nothing was said before, or is said now, nothing was contradicted."""


def differing(now: Meaning, before: Meaning) -> str | None:
    """Return the first attribute that gives numbers another meaning; None if there is none.

    Units of one quantity mean the same: numbers in them are converted.
    """
    meaning_now, meaning_before = dict(now), dict(before)
    for key in sorted(meaning_now.keys() | meaning_before.keys()):
        first, second = meaning_now.get(key), meaning_before.get(key)
        if first == second or (key in _STATED and None in (first, second)):
            continue
        if key == "units" and _is_one_quantity(str(first or ""), str(second or "")):
            continue
        return key
    return None


def _is_one_quantity(first: str, second: str) -> bool:
    return same_units(first, second) or conversion(first, second) is not None
