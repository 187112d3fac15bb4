"""The ledger: the statistics that the checks of a commit looked at.

No capture needs them.  Their roots stand in the log record.
"""

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from gnomon.storage.arrays.tables import Slab, create_table
from gnomon.storage.log.bodies.body import Header
from gnomon.storage.log.bodies.capture import CaptureBody
from gnomon.storage.log.bodies.shadow import ShadowBody
from gnomon.storage.log.folders import captured_statistics, ledger_of, predicted_statistics
from gnomon.storage.log.location import Location
from gnomon.storage.log.records import Record
from gnomon.storage.log.staging import Batch
from gnomon.storage.values.model import RepositorySettings, Variable

__all__ = [
    "create_captured_statistics",
    "create_predicted_statistics",
    "open_captured_statistics",
    "roots_of",
]

Columns = Mapping[str, NDArray[np.float64]]
"""Columns by name, each (step or lead, *chunk grid)."""


def create_captured_statistics(batch: Batch, variable: Variable, columns: Columns) -> str:
    """Store the statistics of a variable's captures, and return their root."""
    return _create(batch, captured_statistics(variable), columns)


def create_predicted_statistics(batch: Batch, variable: Variable, columns: Columns) -> str:
    """Store the statistics of a variable's predictions, and return their root."""
    return _create(batch, predicted_statistics(variable), columns)


def _create(batch: Batch, key: str, columns: Columns) -> str:
    table = np.stack([np.asarray(column, np.float64) for column in columns.values()], -1)
    return create_table(batch, f"{ledger_of(batch.id)}/{key}", table, list(columns))


def open_captured_statistics(
    location: Location, record: Record, variable: Variable
) -> Mapping[str, NDArray[np.float64]]:
    """Return the columns (step, *chunk grid) of the statistics that a capture left, verified.

    Raises
    ------
    Integrity
        They are damaged or gone.
    """
    key = captured_statistics(variable)
    slab = Slab(
        location,
        ledger_of(str(Header.from_json(record.body).id)),
        {key: CaptureBody.from_json(record.body).variables[variable.name].ledger},
        sizes={key: (None, *variable.grid.counts)},
    )
    return slab.by_name(key)


def roots_of(record: Record, settings: RepositorySettings) -> Iterator[tuple[str, str]]:
    """Yield the name of each table that a record put into the ledger, and its root.

    Parameters
    ----------
    settings
        Of the record's era.
    """
    if record.kind == CaptureBody.kind:
        for name, captured in CaptureBody.from_json(record.body).variables.items():
            yield captured_statistics(settings.variable(name)), captured.ledger
    elif record.kind == ShadowBody.kind:
        for name, predicted in ShadowBody.from_json(record.body).variables.items():
            yield predicted_statistics(settings.variable(name)), predicted.ledger
