"""The ledger: the chunk statistics that a capture left behind."""

import numpy as np
from numpy.typing import NDArray

from gnomon.storage.log.bodies.body import Header
from gnomon.storage.repository import Repository
from gnomon.storage.stacks.ledger import open_captured_statistics
from gnomon.storage.values.model import Variable
from gnomon.tasks.capturing.statistics import STATISTICS

__all__ = ["read_ledger"]


def read_ledger(
    repository: Repository, variable: Variable, step: int
) -> dict[str, NDArray[np.float64]]:
    """Return the statistics of a captured step by name, float64 (*chunk grid), verified.

    NaN stands for what was not measured. The names are those that were stored: another release of
    the program may have stored others.

    Raises
    ------
    Integrity
        They are damaged or gone.
    """
    captured = repository.captured[step]
    record = repository.records[captured.sequence]
    if step < variable.since:
        return {}
    position = captured.local if captured.slab == Header.from_json(record.body).id else None
    if position is None:
        first = next(s.step for s in repository.captured if s.sequence == captured.sequence)
        position = step - first
    columns = open_captured_statistics(repository.location, record, variable)
    return {name: columns[name][position] for name in STATISTICS if name in columns}
