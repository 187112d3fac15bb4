"""States of the open source: regions of them, read as they are stored, and never predictions."""

import errno
import lzma
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from gnomon.storage.errors import Moved, Unavailable, Unreadable
from gnomon.storage.log.credentials import without_secrets
from gnomon.storage.redaction import one_line
from gnomon.storage.values.dtypes import native
from gnomon.storage.values.model import Variable

__all__ = [
    "chunk_sizes",
    "is_damage",
    "read_state",
    "read_states",
]


@without_secrets
def read_states(
    dataset: xr.Dataset,
    variable: Variable,
    positions: Sequence[int] | None,
    cells: tuple[slice, ...],
) -> NDArray[np.generic]:
    """Return a region (state, *dims) of several states, undecoded.

    Parameters
    ----------
    positions
        Indices along time of an append source; None for the one state of a state source.
    cells
        Slices along the variable's own dimensions.

    Raises
    ------
    Unreadable
        What is stored there is damaged: other states may be well.
    Unavailable
        The source did not answer.
    Moved
        There are fewer states by now.
    """
    where: dict[str, Any] = dict(zip(variable.dims, cells, strict=True))
    array = dataset[variable.name]
    dims: tuple[Any, ...] = variable.dims
    if positions is not None:
        time = str(array.dims[variable.time_axis])
        first, last = positions[0], positions[-1]
        run = list(positions) == list(range(first, last + 1))
        where[time] = slice(first, last + 1) if run else list(positions)
        dims = (time, *variable.dims)
    try:
        values = np.asarray(array.isel(where).transpose(*dims).values)
    except Exception as error:  # xarray engines raise whatever their libraries raise
        kind = Unreadable if is_damage(error) else Unavailable
        raise kind(
            f"source: {variable.name} at time indices {positions} cannot be read "
            f"({one_line(error)}); it was not captured, check the source and run again"
        ) from error
    if positions is None:
        return native(values[np.newaxis])
    if len(values) != len(positions):  # a slice beyond the end is no error to NumPy
        raise Moved(
            f"source: {variable.name} ends before time index {positions[-1]}, which was there; "
            "the source was changed while it was read, run again when its writer is done"
        )
    return native(values)


def is_damage(error: Exception) -> bool:
    """Tell whether a read failed because of the bytes that are there: asking again is no use."""
    if isinstance(error, ConnectionError | TimeoutError):
        return False
    if isinstance(error, OSError):  # libraries that decode raise it without a number
        return error.errno in (None, errno.EIO)
    return isinstance(error, ValueError | RuntimeError | EOFError | zlib.error | lzma.LZMAError)


def read_state(
    dataset: xr.Dataset, variable: Variable, position: int | None, cells: tuple[slice, ...]
) -> NDArray[np.generic]:
    """Return a region of one state, undecoded; see :func:`read_states`."""
    positions = None if position is None else [position]
    return native(read_states(dataset, variable, positions, cells)[0, ...])


def chunk_sizes(dataset: xr.Dataset, variable: Variable) -> tuple[int, tuple[int, ...]]:
    """Return how the source is chunked: steps, and cells along the variable's own dimensions.

    A source that tells no chunks can be read in pieces of any size: 1.
    """
    array = dataset.variables[variable.name]
    preferred = array.encoding.get("preferred_chunks") or {}
    along = [min(int(preferred.get(d, 1)), dataset.sizes[str(d)]) for d in variable.dims]
    dims = set(variable.dims)
    steps = next((int(n) for d, n in preferred.items() if d not in dims), 1)
    return steps, tuple(along)
