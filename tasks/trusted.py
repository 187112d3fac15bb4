"""The last trusted capture of a chunk: what changes are counted from."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gnomon.storage.captures import CaptureStack
from gnomon.storage.grid import Index
from gnomon.storage.model import TRUSTED

__all__ = ["SEARCH", "last_trusted"]

SEARCH = 64
"""How many captures back a trusted one is looked for, so that the cost does not grow with age."""


def last_trusted(
    captures: CaptureStack, index: Index, steps: Sequence[int]
) -> tuple[int, NDArray[np.float64]] | None:
    """Return number and physical values of the newest trusted capture of a chunk.

    Parameters
    ----------
    steps
        Numbers of the captures to choose from, in order of time.

    Returns
    -------
    tuple or None
        None if none of the last `SEARCH` of them is trusted.
    """
    for step in reversed(steps[-SEARCH:]):
        if captures.status_of(step, index) == TRUSTED:
            return step, captures.variable.to_physical(captures.chunk(step, index))
    return None
