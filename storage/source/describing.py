"""From a live dataset to the settings of a repository: what is captured, on which grid."""

from collections.abc import Set
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr

from gnomon.storage.errors import InvalidInput, NotFound
from gnomon.storage.source.axes import Axis, Counting, choose_axis
from gnomon.storage.source.chunking import choose_chunks, choose_shards, choose_units
from gnomon.storage.source.reasons import elsewhere, tell_axis
from gnomon.storage.source.unprotected import NEW, UNNAMED
from gnomon.storage.values.dtypes import is_supported, is_text, type_name
from gnomon.storage.values.model import Kind, RepositorySettings, SourceSpec, Variable
from gnomon.storage.values.timeforms import TEXT

__all__ = [
    "Contents",
    "NothingThere",
    "describe",
    "has_own_time",
    "unprotected",
]


class NothingThere(InvalidInput):
    """A source, or the group of it that was opened, has nothing to protect."""


@dataclass(frozen=True, slots=True)
class Contents:
    """What init found in a source."""

    spec: SourceSpec
    """The source, with kind and time dimension filled in."""
    variables: tuple[Variable, ...]
    """Captured at each step."""
    frame: tuple[str, ...]
    """Variables that do not change: stored once."""
    skipped: dict[str, str]
    """Variables that are not protected, and why."""
    time_form: str = ""
    """How the times are told, if not in CF units."""
    reason: str = ""
    """Why the source is taken as append or as state."""
    notes: tuple[str, ...] = ()
    """What was guessed, and what a user should know of it."""


def describe(
    dataset: xr.Dataset,
    spec: SourceSpec,
    *,
    kind: Kind | None = None,
    names: tuple[str, ...] = (),
    chunks: dict[str, int] | None = None,
    counting: Counting | None = None,
    form: str = "",
) -> Contents:
    """Return which variables of an undecoded dataset are captured, and how.

    Parameters
    ----------
    kind
        ``append`` or ``state``; None: append if the times of a dimension are told.
    names
        Variables to protect; empty: every numeric one that can change.
    chunks
        Cells of a chunk by dimension, where the default is not wanted.
    counting
        What the user says of steps that tell no times.
    form
        How the steps were counted so far, of a source that is described anew.

    Raises
    ------
    NotFound
        A named variable is not in the source.
    InvalidInput
        A named variable is not numeric, nothing is left to protect, or nothing tells the times of
        a dimension along which the source seems to grow.
    """
    axis = _axis_of(dataset, spec, kind, counting, form)
    spec = replace(
        spec,
        kind="state" if axis is None else "append",
        time=axis.dim if axis else None,
        coordinate=axis.coordinate if axis else None,
    )
    time_form = (axis.form or "") if axis else ""
    _check_chunks(dataset, chunks or {})
    _check_servable(dataset)
    # A store lists its arrays in whatever order; two descriptions of one source are the same.
    left_out = elsewhere(dataset, axis)
    every = sorted(n for n in map(str, dataset.variables) if n not in left_out)
    moving = [n for n in every if _moves(dataset, n, spec, time_form)]
    _check_names(dataset, names, moving, left_out)
    skipped = left_out | {
        n: f"type {dataset[n].dtype} cannot be stored"
        for n in moving
        if not is_supported(dataset[n].dtype)
    }
    captured = [
        n for n in moving if n not in skipped and (not names or _belongs(dataset, n, names))
    ]
    unnamed = {n: UNNAMED for n in moving if n not in captured and n not in skipped}
    variables = tuple(_variable(dataset, n, spec, names, chunks or {}) for n in captured)
    if not any(v.forecast for v in variables):
        raise NothingThere(
            "the source has no numeric variable that changes with time; "
            "name one with --variable, or the time dimension with --time"
        )
    frame = tuple(n for n in every if n not in moving and n != spec.teller)
    reason, notes = tell_axis(dataset, spec, time_form, asked=kind)
    return Contents(spec, variables, frame, skipped | unnamed, time_form, reason, notes)


def _axis_of(
    dataset: xr.Dataset, spec: SourceSpec, kind: Kind | None, counting: Counting | None, form: str
) -> Axis | None:
    """Return the time axis of an append source; None of a state source."""
    if kind == "state":
        if counting is not None:
            raise InvalidInput(
                "--start is for steps of an append source; leave out --start or --kind state"
            )
        return None
    name, weights = spec.coordinate or spec.time, _weights(dataset)
    axis = choose_axis(dataset, name, weights=weights, counting=counting, form=form)
    if axis is None and kind == "append":
        raise InvalidInput(
            "the source has no time dimension with CF units ('... since ...'); name it with "
            "--time, or use --kind state for a field that is overwritten in place"
        )
    return axis


def _weights(dataset: xr.Dataset) -> dict[str, int]:
    """Return how many variables with numbers lie along each dimension."""
    names = [
        n
        for n in map(str, dataset.variables)
        if _is_numeric(dataset.variables[n].dtype) and _is_predictable(dataset, n)
    ]
    return {
        str(d): sum(d in dataset.variables[n].dims for n in names if n != d) for d in dataset.dims
    }


def unprotected(
    dataset: xr.Dataset, settings: RepositorySettings, fixed: Set[str]
) -> dict[str, str]:
    """Return the variables of a source that change with time and are not captured, and why.

    Parameters
    ----------
    fixed
        Names of variables that are known not to change with time.
    """
    spec = settings.source
    expected = {v.name for v in settings.variables} | {spec.teller} | fixed
    new = [n for n in sorted(map(str, dataset.variables)) if n not in expected]
    if not new:
        return {}
    axis = None if spec.time is None else Axis(spec.time, spec.coordinate, settings.time_form)
    reasons = {n: why for n, why in elsewhere(dataset, axis).items() if n in new}
    for name in (n for n in new if _moves(dataset, n, spec, settings.time_form)):
        dtype = dataset.variables[name].dtype
        reasons[name] = UNNAMED if settings.names else NEW
        if not is_supported(dtype):
            reasons[name] = f"type {dtype} cannot be stored"
    return reasons


def has_own_time(dataset: xr.Dataset, name: str) -> bool:
    """Tell whether a variable lies along another time axis than the one that is captured."""
    dims = [d for d in map(str, dataset.variables[name].dims) if d in dataset.variables]
    return any(_is_time(dataset.variables[d]) for d in dims)


def _moves(dataset: xr.Dataset, name: str, spec: SourceSpec, form: str) -> bool:
    """Tell whether a variable can differ between captures."""
    if spec.kind == "append":
        # Times that are text are captured as they stand, beside a coordinate of their instants.
        return spec.time in dataset[name].dims and (name != spec.teller or form == TEXT)
    if _is_time(dataset.variables[name]):
        return True  # the valid time of a field that is overwritten, and its bounds, move with it
    described = str(dataset.attrs.get("coordinates", "")).split()
    described += [c for v in dataset.variables.values() for c in _named(v.attrs, "coordinates")]
    bounds = [
        b for v in dataset.variables.values() if not _is_time(v) for b in _named(v.attrs, "bounds")
    ]
    mappings = [m for v in dataset.variables.values() for m in _named(v.attrs, "grid_mapping")]
    fixed = {*described, *bounds, *mappings, *map(str, dataset.coords)}
    return name not in fixed


def _named(attributes: dict[Any, Any], key: str) -> list[str]:
    return str(attributes.get(key, "")).split()


def _check_names(
    dataset: xr.Dataset, names: tuple[str, ...], moving: list[str], left_out: dict[str, str]
) -> None:
    for name in names:
        if name in left_out:
            raise InvalidInput(f"{name} {left_out[name]}")
        if name not in dataset.variables:
            there = ", ".join(map(str, dataset.data_vars))
            raise NotFound(f"the source has no variable {name!r}; it has {there}")
        if not is_supported(dataset[name].dtype):
            raise InvalidInput(
                f"{name} has type {dataset[name].dtype}; only numbers, booleans, datetimes "
                "and text can be captured"
            )
        if name not in moving:
            raise InvalidInput(
                f"{name} does not change with time in this source; name one that does: "
                f"{', '.join(moving)}"
            )


def _check_chunks(dataset: xr.Dataset, chunks: dict[str, int]) -> None:
    for dim, size in chunks.items():
        if dim not in dataset.dims:
            raise InvalidInput(
                f"--chunk names {dim!r}; the source has {', '.join(map(str, dataset.dims))}"
            )
        if size < 1:
            raise InvalidInput(f"--chunk {dim}={size} must be at least 1")


def _check_servable(dataset: xr.Dataset) -> None:
    """Refuse names that no Zarr hierarchy can hold."""
    for name in map(str, dataset.variables):
        if name in ("", ".", "..", "zarr.json") or "/" in name or not _is_text(name):
            raise InvalidInput(
                f"the source has a variable named {name!r}, which Zarr cannot hold; rename it"
            )


def _is_text(name: str) -> bool:
    try:
        return bool(name.encode())
    except UnicodeEncodeError:
        return False


def _belongs(dataset: xr.Dataset, name: str, names: tuple[str, ...]) -> bool:
    """Tell whether a variable is named, or accompanies the dataset's time axis."""
    return name in names or not _is_predictable(dataset, name)


def _is_predictable(dataset: xr.Dataset, name: str) -> bool:
    variable = dataset.variables[name]
    auxiliary = {
        n
        for v in dataset.variables.values()
        for key in ("bounds", "coordinates", "climatology", "ancillary_variables")
        for n in _named(v.attrs, key)
    } | set(map(str, dataset.coords))
    return name not in auxiliary and not _is_time(variable)


def _is_time(variable: xr.Variable) -> bool:
    return " since " in str(variable.attrs.get("units", "")) or variable.dtype.kind in "mM"


def _variable(
    dataset: xr.Dataset,
    name: str,
    spec: SourceSpec,
    names: tuple[str, ...],
    chunks: dict[str, int],
) -> Variable:
    array = dataset.variables[name]
    dims = tuple(str(d) for d in array.dims if d != spec.time)
    shape = tuple(dataset.sizes[d] for d in dims)
    preferred = array.encoding.get("preferred_chunks") or {}
    source_chunks = tuple(int(preferred.get(d, n)) for d, n in zip(dims, shape, strict=True))
    chosen = choose_chunks(shape, source_chunks, array.dtype.itemsize)
    limits = zip(dims, chosen, shape, strict=True)
    chosen = tuple(max(1, min(chunks.get(d, c), n)) for d, c, n in limits)
    steps = int(preferred.get(spec.time, 1)) if spec.time else 1
    units = chosen
    if not is_text(array.dtype):
        group = choose_units(shape, chosen, source_chunks, array.dtype.itemsize)
        units = tuple(max(1, min(u, n)) for u, n in zip(group, shape, strict=True))
    return Variable(
        name=name,
        dims=dims,
        shape=shape,
        dtype=type_name(array.dtype),
        chunks=chosen,
        units=units,
        shards=choose_shards(shape, units, source_chunks, array.dtype.itemsize, steps),
        attributes={str(k): v for k, v in array.attrs.items()},
        forecast=_is_numeric(array.dtype)
        and 0 not in shape
        and (name in names or _is_predictable(dataset, name)),
        cyclic=tuple(_is_cyclic(dataset, d) for d in dims),
        time_axis=array.dims.index(spec.time) if spec.time in array.dims else 0,
        source_chunks=tuple(map(max, source_chunks, (1,) * len(dims))) if preferred else (),
    )


def _is_numeric(dtype: np.dtype[Any]) -> bool:
    return dtype.kind in "biuf" and dtype.itemsize <= 8


def _is_cyclic(dataset: xr.Dataset, dim: str) -> bool:
    """Tell whether a dimension is longitude around the whole globe."""
    if dim not in dataset.variables or dataset.variables[dim].dims != (dim,):
        return False
    coordinate = dataset.variables[dim]
    named = coordinate.attrs.get("standard_name") == "longitude" or str(
        coordinate.attrs.get("units", "")
    ).startswith(("degrees_east", "degree_east"))
    if not named or coordinate.size < 4:
        return False
    values = np.asarray(coordinate.values, np.float64)
    step = float(np.median(np.diff(values)))
    return bool(abs(abs(step) * values.size - 360.0) < 0.5 * abs(step))
