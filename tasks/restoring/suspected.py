"""Which chunks of a capture are suspect, as the index and later verdicts have it."""

import numpy as np

from gnomon.storage.repository import Repository
from gnomon.storage.values.grid import Index
from gnomon.storage.values.model import SUSPECT
from gnomon.storage.values.selection import EVERYTHING, Selection

__all__ = ["suspects"]


def suspects(
    repository: Repository, step: int, selection: Selection = EVERYTHING
) -> dict[str, list[Index]]:
    """Return the suspect chunks of a captured step by variable; empty if it is trusted.

    Of a selection, those that have a selected cell.
    """
    doubted: dict[str, list[Index]] = {}
    for variable in repository.settings.variables:
        if not selection.gives(variable.name):
            continue
        status = repository.captures(variable.name).status(step)
        chunks = [tuple(map(int, index)) for index in np.argwhere(status == SUSPECT)]
        if not selection.is_all_of(variable):
            touched = selection.touched(variable)
            chunks = [index for index in chunks if index in touched]
        if chunks:
            doubted[variable.name] = chunks
    return doubted
