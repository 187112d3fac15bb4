"""What attributes say of values, and whether two sets of attributes say the same.

Three sorts are told apart.  *Packing* turns raw values into numbers (scale, offset, fill values):
each capture is read by its own.  *Meaning* says what the numbers are (units, valid range, flags,
quantity): a change is a finding.  All else is remarks: a change is a note.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gnomon.storage.values.scaling import PACKING, Packing
from gnomon.storage.values.units import conversion, same_units

__all__ = [
    "IDENTITY",
    "RANGE",
    "READ_BY",
    "changed_meaning",
    "converting",
    "is_scaled_alike",
    "read_alike",
    "reading",
    "same_value",
]

Attributes = Mapping[Any, Any]

RANGE = ("valid_min", "valid_max", "valid_range")
"""Bounds of the numbers, given in packed values."""
READ_BY = (*PACKING, *RANGE, "units")
"""Attributes by which raw values are numbers, and by which of these are valid."""
IDENTITY = (1.0, 0.0)
"""What converts numbers that are in the units of init already."""
_FLAGS = ("flag_values", "flag_masks", "flag_meanings")
_STATED = ("standard_name", "cell_methods", "positive", "calendar")
"""Which quantity, of which cells, counted which way: where nothing was said before, a word more is
a remark, as archives add them later to data that is what it was."""
_REMARKS = ("long_name", "comment", "history", "description", "GeoTransform")
_WKT = ("crs_wkt", "spatial_ref")
"""Text that libraries write anew in each release."""
_MAPPING = "grid_mapping_name"


def same_value(first: Any, second: Any) -> bool:
    """Tell whether two attributes say the same: numbers by value, text by its words.

    A number of single precision is the same as the one of double precision that it was made from.
    """
    if isinstance(first, str) and isinstance(second, str):
        return first.split() == second.split()
    values, others = np.atleast_1d(np.asarray(first)), np.atleast_1d(np.asarray(second))
    if values.shape != others.shape:
        return False
    if values.dtype.kind not in "biuf" or others.dtype.kind not in "biuf":
        return bool(values.tolist() == others.tolist())
    values, others = values.astype("f8"), others.astype("f8")
    with np.errstate(over="ignore"):
        rounded = values.astype("f4"), others.astype("f4")
    # Zarr has no types for attributes: single precision shows in the number alone.
    is_single = (rounded[0] == values) | (rounded[1] == others)
    same = (
        (values == others)
        | (is_single & (rounded[0] == rounded[1]))
        | (np.isnan(values) & np.isnan(others))
    )
    return bool(same.all())


def changed_meaning(before: Attributes, now: Attributes) -> tuple[str, ...]:
    """Return the names of the attributes that have changed the meaning of values."""
    if _MAPPING in before or _MAPPING in now:
        return _changed_mapping(before, now)
    names = []
    if not same_units(str(before.get("units", "")), str(now.get("units", ""))):
        names.append("units")
    names += [n for n in (*RANGE, *_FLAGS) if not _same(before.get(n), now.get(n))]
    for name in _STATED:
        stated = name in before and name in now
        if stated and not same_value(str(before[name]).lower(), str(now[name]).lower()):
            names.append(name)
    return tuple(names)


def _changed_mapping(before: Attributes, now: Attributes) -> tuple[str, ...]:
    """Of a grid mapping every parameter counts: they say where the cells are."""
    ignored = {*_REMARKS, *(_WKT if _MAPPING in before and _MAPPING in now else ())}
    names = sorted({*map(str, before), *map(str, now)} - ignored)
    return tuple(n for n in names if not _same(before.get(n), now.get(n)))


def _same(before: Any, now: Any) -> bool:
    if before is None or now is None:
        return before is now
    return same_value(before, now)


def reading(
    dtype: np.dtype[np.generic],
    attributes: Attributes,
    conversion: tuple[float, float] | None = None,
) -> Packing:
    """Return how raw values are read by attributes, with those of them that matter.

    Parameters
    ----------
    conversion
        Factor and shift by which numbers in the units of the attributes are in those of init.
    """
    names = (*PACKING, *RANGE, *_FLAGS)
    relevant = {n: attributes[n] for n in names if n in attributes}
    return Packing(dtype, relevant, *(conversion or IDENTITY))


def converting(now: Attributes, before: Attributes) -> tuple[float, float] | None:
    """Return factor and shift from the units of some attributes to those of others.

    None if there is no such line.  Of differences there is a factor alone: 1 degC more is 1 K more.
    """
    line = conversion(*(str(attributes.get("units", "")) for attributes in (now, before)))
    if line is not None and any(map(_is_difference, (now, before))):
        return line[0], 0.0
    return line


def _is_difference(attributes: Attributes) -> bool:
    """Tell whether numbers are differences, by CF's ``units_metadata`` or the standard name."""
    name = str(attributes.get("standard_name", ""))
    stated = "difference" in str(attributes.get("units_metadata", ""))
    return stated or name.endswith((" standard_error", "_anomaly"))


def read_alike(first: Packing, second: Packing) -> bool:
    """Tell whether all raw values are the same numbers by both packings, or missing by both.

    Steps of single and double precision are the same, as for :func:`same_value`.
    """
    if first is second:
        return True
    fills = [packing.fills() for packing in (first, second)]
    return is_scaled_alike(first, second) and not (
        _further(*fills).size or _further(*reversed(fills)).size
    )


def is_scaled_alike(first: Packing, second: Packing) -> bool:
    """Tell whether raw values are the same numbers by both, where none of them is missing."""
    return (
        first.counted == second.counted
        and same_value(first.scale, second.scale)
        and same_value(first.offset, second.offset)
    )


def _further(others: NDArray[np.generic], fills: NDArray[np.generic]) -> NDArray[np.generic]:
    """Return the further raw values that mean missing; NaN always does."""
    new = fills[~np.isin(fills, others)]
    return new[~np.isnan(new)] if new.dtype.kind == "f" else new
