"""Whether an open source is what it was at init: variables, types and coordinates.

What it says of itself beyond that, and may change, is a matter of
:mod:`gnomon.storage.changes.observed`.
"""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from gnomon.storage.errors import InvalidInput, Unavailable
from gnomon.storage.log.description import exact
from gnomon.storage.source.identify import listed
from gnomon.storage.values.dtypes import native, type_name
from gnomon.storage.values.model import RepositorySettings, Variable
from gnomon.storage.values.scaling import PACKING, Packing, check_packing

__all__ = ["ADVICE", "check_frame", "check_unchanged"]

ADVICE = "restore it, or go on with the source as it is now by 'gnomon update --new-era'"
"""What to do about a source that is not what it was at init."""


def check_unchanged(dataset: xr.Dataset, settings: RepositorySettings) -> None:
    """Refuse a source whose variables, grid or types are not what they were at init.

    Raises
    ------
    InvalidInput
        Names the first difference.
    Unavailable
        There are no variables at all.
    """
    for variable in settings.variables:
        if variable.name not in dataset.variables:
            there = listed(sorted(map(str, dataset.data_vars)))
            if not there:
                raise Unavailable(
                    "the source has no variables at all, as while it is written anew; expected "
                    f"{variable.name!r}; try again when its writer is done"
                )
            raise InvalidInput(
                f"the source has no variable {variable.name!r} any more, it has {there}; {ADVICE}"
            )
        source_variable = dataset.variables[variable.name]
        dims = tuple(d for d in source_variable.dims if d != settings.source.time)
        shape = tuple(dataset.sizes[str(d)] for d in dims)
        time = settings.source.time
        axis = source_variable.dims.index(time) if time in source_variable.dims else None
        dtype = type_name(source_variable.dtype)
        for what, now, before in (
            ("dimensions", dims, variable.dims),
            ("shape", shape, variable.shape),
            ("type", dtype, variable.dtype),
            ("time axis", axis, variable.time_axis if time is not None else None),
        ):
            if now != before:
                raise InvalidInput(
                    f"{variable.name} has {what} {now}, at init it had {before}; {ADVICE}"
                )
        _check_packing(variable, source_variable.attrs)


def _check_packing(variable: Variable, attributes: Mapping[Any, Any]) -> None:
    """Refuse packing that makes no numbers, and a changed packing of values that are no numbers."""
    initial = variable.attributes
    if variable.numpy_dtype.kind in "biuf":
        try:
            check_packing(variable.name, variable.numpy_dtype, attributes)
        except InvalidInput as error:
            raise InvalidInput(f"{error}; {ADVICE}") from error
        return
    names = [n for n in PACKING if exact(initial.get(n)) != exact(attributes.get(n))]
    if names:
        differences = "; ".join(f"{n} {attributes.get(n)}, at init {initial.get(n)}" for n in names)
        raise InvalidInput(
            f"{variable.name} is packed differently from init ({differences}); {ADVICE}"
        )


def check_frame(
    frame: xr.Dataset, dataset: xr.Dataset, names: Collection[str] | None = None
) -> tuple[str, ...]:
    """Refuse a source whose coordinates are not what they were at init; return what to note.

    What differs by rounding, or in its type or packing alone, means the same.

    Parameters
    ----------
    names
        Those that say where the cells are; None: all.

    Raises
    ------
    InvalidInput
        Names the coordinate.
    """
    notes = []
    for name, variable in frame.variables.items():
        if names is not None and name not in names:
            continue
        if name not in dataset.variables:
            raise InvalidInput(f"the source lost {name!r} since init; {ADVICE}")
        now, before = _numbers(dataset.variables[name], variable)
        same = now.shape == before.shape and (
            now.tolist() == before.tolist()
            if before.dtype == object
            else native(now).tobytes() == before.tobytes()
        )
        if same:
            continue
        if now.shape != before.shape or not _is_rounded(now, before):
            raise InvalidInput(
                f"{name!r} of the source differs from what it was at init (the grid changed?); "
                f"{ADVICE}"
            )
        notes.append(f"{name!r} of the source differs from what it was at init by rounding alone")
    return tuple(notes)


def _is_rounded(now: NDArray[Any], before: NDArray[Any]) -> bool:
    """Tell whether numbers differ by no more than the rounding of the coarser of their types."""
    if not {now.dtype.kind, before.dtype.kind} <= set("iuf"):
        return False
    types = [d for d in (now.dtype, before.dtype) if d.kind == "f"]
    if not types or not before.size:
        return bool(np.array_equal(now, before))
    size = np.abs(before[np.isfinite(before)]).max(initial=0.0)
    allowed = _ROUNDINGS * max(float(np.finfo(d).eps) for d in types) * float(size)
    return bool(np.allclose(now.astype(float), before, rtol=0.0, atol=allowed, equal_nan=True))


_ROUNDINGS = 4
"""Steps of the last digit of the largest value that a coordinate may be off."""


def _numbers(now: xr.Variable, before: xr.Variable) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the values of a coordinate, as numbers where it is packed otherwise than before."""
    raw = np.asarray(now.values), np.asarray(before.values)
    names = {"scale_factor", "add_offset", "_Unsigned"}
    if names.isdisjoint(now.attrs) and names.isdisjoint(before.attrs):
        return raw
    if {raw[0].dtype.kind, raw[1].dtype.kind} - set("iuf"):
        return raw
    first, second = (
        Packing(v.dtype, a).to_physical(native(v))
        for v, a in zip(raw, (now.attrs, before.attrs), strict=True)
    )
    return first, second
