"""Patches: the estimates of the suspect chunks of a capture, as they were computed.

Each chunk is a small array (*dims, 3) of float64 with the columns value, standard error and
provenance.  It is kept without loss, so that what is served is what was computed, bit for bit, and
its hash stands in the log record.
"""

import numpy as np
from numpy.typing import NDArray

from gnomon.storage.arrays.tables import Slab, StoredColumn, create_table
from gnomon.storage.errors import Integrity
from gnomon.storage.log.folders import patches_of
from gnomon.storage.log.location import Location
from gnomon.storage.log.staging import Batch
from gnomon.storage.values.grid import Index
from gnomon.storage.values.model import Variable

__all__ = ["CURE", "create_patch", "read_patch"]

COLUMNS = ["value", "standard_error", "provenance"]
CURE = "it is computed anew when it is read, and the next 'gnomon update' keeps it again"
"""What to do about damage."""

Floats = NDArray[np.float64]
Patch = tuple[Floats, Floats, NDArray[np.uint8]]
"""Values, standard errors and provenance of a chunk."""


def create_patch(batch: Batch, variable: Variable, index: Index, patch: Patch) -> str:
    """Store the estimate of a chunk; return its root.

    Parameters
    ----------
    patch
        Values and standard errors, float64 in the shape of the chunk and the variable's units, NaN
        where nothing is estimated; provenance, uint8.
    """
    table = np.stack([np.asarray(part, np.float64) for part in patch], axis=-1)
    return create_table(batch, _path(batch.id, variable, index), table, COLUMNS)


def read_patch(
    location: Location, commit: str, variable: Variable, index: Index, root: str
) -> Patch:
    """Return the estimate of a chunk as it was stored, verified by its root.

    Raises
    ------
    Integrity
        It is missing, or not what was written.
    """
    path, name = _path(commit, variable, index).rsplit("/", maxsplit=1)
    shape = tuple(s.stop - s.start for s in variable.grid.cells(index))
    columns = [StoredColumn(column) for column in COLUMNS]
    slab = Slab(location, path, {name: root}, {name: columns}, {name: shape}, cure=CURE)
    table = slab.table(name)
    if table.dtype != np.float64:
        raise Integrity(f"{path}/{name} has the type {table.dtype}, expected float64; {CURE}")
    values, errors, flags = np.moveaxis(table, -1, 0)
    if not np.isin(flags, np.arange(256)).all():
        raise Integrity(f"{path}/{name} has a provenance that is none; {CURE}")
    return np.array(values), np.array(errors), flags.astype(np.uint8)


def _path(commit: str, variable: Variable, index: Index) -> str:
    return f"{patches_of(commit, variable)}/{'.'.join(['c', *map(str, index)])}"
