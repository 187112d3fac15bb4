"""Compiled loops over the integers of chunks; they give the same bits as array code does.

Numba takes a third of a second to load, and a loop some milliseconds: `residuals` knows when that
is worth it.
"""

from collections.abc import Callable
from typing import Any, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["compiled", "straighten"]


def compiled[F: Callable[..., Any]](function: F) -> F:
    """Compile a function at its first call, once for each machine where that can be kept."""
    try:
        # By NumPy's error model a division by zero is inf or NaN, as uncompiled, and not checked.
        return cast(F, njit(cache=True, nogil=True, error_model="numpy")(function))
    except RuntimeError:  # neither the package nor a home can be written to
        return cast(F, njit(nogil=True, error_model="numpy")(function))


@compiled
def straighten(bent: NDArray[np.signedinteger], result: NDArray[np.signedinteger]) -> None:
    """Write the sums of planar differences (plane, row, column), modulo 2^width."""
    planes, rows, columns = bent.shape
    for plane in range(planes):
        total = np.int64(0)
        for column in range(columns):
            total += bent[plane, 0, column]
            result[plane, 0, column] = total
        for row in range(1, rows):
            total = np.int64(0)
            for column in range(columns):
                total += bent[plane, row, column]
                result[plane, row, column] = total + result[plane, row - 1, column]
