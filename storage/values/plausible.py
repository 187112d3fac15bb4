"""What a description of variables and times must be like before anything is done with it.

A hostile description would make a reader allocate, count or search without end.  The limits are
far above what this program writes, and it writes nothing that is beyond them.
"""

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from gnomon.storage.values.documents import number, text, whole
from gnomon.storage.values.dtypes import is_supported
from gnomon.storage.values.timeforms import NATIVE, check_form
from gnomon.storage.values.times import decode, format_instant

if TYPE_CHECKING:
    from gnomon.storage.values.model import RepositorySettings, Variable
    from gnomon.storage.values.scaling import Packing

__all__ = [
    "CHUNK_BYTES",
    "LARGEST_NDIM",
    "MOST_CAPTURES",
    "MOST_CHUNKS",
    "MOST_LEADS",
    "check_reading",
    "check_settings",
    "check_variable",
    "length",
    "members_of",
    "positive",
    "size",
]

MOST_CHUNKS = 2**24
"""Chunks of one state of a variable: what goes through them one by one must end."""
CHUNK_BYTES = 2**31
"""Largest chunk, and what is compressed together: it is unpacked in memory."""
MOST_CAPTURES = 2**20
"""States of one commit: each takes memory as long as the repository is open."""
MOST_LEADS = 2**12
MOST_TIME_TEXT = 1000
"""Characters of the units or the calendar of time, which is taken apart by regular expressions."""
LARGEST_NDIM = 60
"""Dimensions of a state: NumPy has 64 at most, and two are added."""


def size(value: object, what: str) -> int:
    """Return a number of cells."""
    return whole(value, what, least=0)


def length(value: object, what: str) -> int:
    """Return a number of cells, at least one."""
    return whole(value, what, least=1)


def positive(value: object, what: str) -> float:
    """Return a finite number above zero."""
    return number(value, what, least=np.finfo(np.float64).tiny)


def members_of(value: object) -> dict[str, Any]:
    """Return an object, whatever its members are."""
    if not isinstance(value, dict):
        raise ValueError(f"found a {type(value).__name__}, expected an object")
    return value


def check_reading(packing: "Packing") -> None:
    """Raise ValueError, or what else reading nonsense raises, if a packing makes no numbers."""
    if packing.dtype.kind in "biuf":
        _ = (packing.scale, packing.offset, packing.fills(), packing.bounds())


def check_variable(variable: "Variable") -> None:
    """Raise ValueError if a variable cannot be what this program has described.

    It is asked before anything is allocated or counted by its numbers.
    """
    name, ndim = variable.name, len(variable.dims)
    parts = (variable.shape, variable.chunks, variable.units, variable.shards)
    optional = (variable.cyclic, variable.source_chunks)
    if any(len(part) != ndim for part in parts) or any(len(o) not in (0, ndim) for o in optional):
        raise ValueError(f"{name} has {ndim} dims, and sizes for another number of them")
    if ndim > LARGEST_NDIM or len(set(variable.dims)) != ndim or variable.time_axis > ndim:
        raise ValueError(f"{name} has the dims {variable.dims!r:.80}")
    if not is_supported(variable.numpy_dtype):
        raise ValueError(f"{name} has the type {variable.dtype[:40]!r}, which is never captured")
    check_reading(variable.packing)
    sizes = zip(*parts, strict=True)
    if any((unit % chunk and unit < n) or shard % unit for n, chunk, unit, shard in sizes):
        raise ValueError(f"{name} has units or shards that are no multiples of its chunks")
    for chunk in (variable.chunks, variable.units):
        if prod(chunk) * variable.numpy_dtype.itemsize > CHUNK_BYTES:
            raise ValueError(f"{name} has chunks of more than {CHUNK_BYTES} bytes")
    if variable.grid.size > MOST_CHUNKS:
        raise ValueError(f"{name} has {variable.grid.size} chunks, at most {MOST_CHUNKS} are taken")


def check_settings(settings: "RepositorySettings") -> None:
    """Raise ValueError if settings do not fit together, or their times cannot be told."""
    names = [v.name for v in settings.variables]
    if len(set(names)) != len(names) or len({v.folder for v in settings.variables}) != len(names):
        raise ValueError("two variables have the same name")
    sizes: dict[str, int] = {}
    for variable in settings.variables:
        for dim, n in zip(variable.dims, variable.shape, strict=True):
            if sizes.setdefault(dim, n) != n:
                raise ValueError(f"the dimension {dim!r} has {n} cells and {sizes[dim]}")
    attributes = settings.time_attributes
    for name in ("units", "calendar"):
        text(attributes.get(name, ""), f"{name} of time", most=MOST_TIME_TEXT)
    dtype = np.dtype(settings.time_dtype)
    if not is_supported(dtype) or dtype.kind in "OV" or dtype.itemsize > MOST_TIME_TEXT:
        raise ValueError(f"times have the type {settings.time_dtype[:40]!r}")
    format_instant(0, settings.calendar)
    if settings.time_form:
        check_form(settings.time_form)
    if settings.time_units == settings.time_form:
        is_native = settings.time_form == NATIVE
        if dtype.kind not in ("M" if is_native else "iuf"):
            raise ValueError(f"times have the type {settings.time_dtype[:40]!r}")
        return
    decode(np.zeros(1, np.int64), settings.time_units, settings.calendar)
