"""What attributes say of values, and whether two sets of attributes say the same.

Three sorts are told apart.  *Packing* turns raw values into numbers (scale, offset, fill values):
all captures of an era are read by that of its beginning, so another one is never captured.
*Meaning* says what the numbers are (units, valid range, flags, quantity): a change is a finding.
All else is remarks: a change is a note.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gnomon.storage.documents import NONSENSE
from gnomon.storage.packing import Packing
from gnomon.storage.units import same_units

__all__ = ["PACKING", "changed_meaning", "new_fills", "packing_of", "repacked", "same_value"]

Attributes = Mapping[Any, Any]

PACKING = ("scale_factor", "add_offset", "_FillValue", "missing_value", "_Unsigned")
"""Attributes that turn raw values into numbers."""
_RANGE = ("valid_min", "valid_max", "valid_range")
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
    one, other = np.atleast_1d(np.asarray(first)), np.atleast_1d(np.asarray(second))
    if one.shape != other.shape:
        return False
    if one.dtype.kind not in "biuf" or other.dtype.kind not in "biuf":
        return bool(one.tolist() == other.tolist())
    one, other = one.astype("f8"), other.astype("f8")
    with np.errstate(over="ignore"):
        rounded = one.astype("f4"), other.astype("f4")
    # Zarr has no types for attributes: single precision shows in the number alone.
    is_single = (rounded[0] == one) | (rounded[1] == other)
    same = (
        (one == other)
        | (is_single & (rounded[0] == rounded[1]))
        | (np.isnan(one) & np.isnan(other))
    )
    return bool(same.all())


def changed_meaning(before: Attributes, now: Attributes) -> tuple[str, ...]:
    """Return the names of the attributes by which values are something else than before."""
    if _MAPPING in before or _MAPPING in now:
        return _changed_mapping(before, now)
    names = []
    if not same_units(str(before.get("units", "")), str(now.get("units", ""))):
        names.append("units")
    names += [n for n in (*_RANGE, *_FLAGS) if not _same(before.get(n), now.get(n))]
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


def repacked(before: Attributes, now: Attributes, dtype: np.dtype[np.generic]) -> tuple[str, ...]:
    """Return the names of the attributes by which raw values would be other numbers than before.

    A further fill value is none of them: it matters only where a value equals it, see `new_fills`.
    """
    if dtype.kind not in "biuf":
        return tuple(n for n in PACKING if not _same(before.get(n), now.get(n)))
    names = []
    for name, default in (("scale_factor", 1.0), ("add_offset", 0.0)):
        if not same_value(np.ravel(before.get(name, default)), np.ravel(now.get(name, default))):
            names.append(name)
    try:
        if Packing(dtype, before).counted != Packing(dtype, now).counted:
            names.append("_Unsigned")
        lost = _further(now, before, dtype).size
    except NONSENSE:
        lost = 1
    if lost:
        fills = (n for n in ("_FillValue", "missing_value") if not _same(before.get(n), now.get(n)))
        names += fills
    return tuple(names)


def new_fills(
    before: Attributes, now: Attributes, dtype: np.dtype[np.generic]
) -> NDArray[np.generic]:
    """Return the raw values that mean missing now, and did not before; NaN always did."""
    return _further(before, now, dtype) if dtype.kind in "biuf" else np.empty(0, dtype)


def _further(
    before: Attributes, now: Attributes, dtype: np.dtype[np.generic]
) -> NDArray[np.generic]:
    known, fills = (Packing(dtype, attributes).fills() for attributes in (before, now))
    new = fills[~np.isin(fills, known)]
    return new[~np.isnan(new)] if dtype.kind == "f" else new


def packing_of(attributes: Attributes) -> dict[str, str]:
    """Return the packing as text, the same where numbers are the same in another type."""
    there = {n: np.asarray(attributes[n]) for n in PACKING if n in attributes}
    return {n: str(v.astype(np.float64) if v.dtype.kind in "biuf" else v) for n, v in there.items()}
