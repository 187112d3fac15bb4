"""Estimates in the source: chunks that a rollback wrote, and that hold no data yet."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gnomon.storage.arrays.encoding import DIGEST
from gnomon.storage.live.replaced import load_list
from gnomon.storage.repository import Repository
from gnomon.storage.values.grid import Index

__all__ = ["estimated_chunks", "estimated_digests"]


def estimated_digests(
    repository: Repository, name: str, instant: int
) -> dict[Index, frozenset[bytes]]:
    """Return by chunk of a variable the digests of what rollbacks wrote there as estimates.

    Parameters
    ----------
    instant
        Valid time of the state; a state source holds what was written for any other.

    Raises
    ------
    Integrity
        The list of what a rollback wrote is damaged: without it estimates would be taken for data.
    """
    settings = repository.settings
    digests: dict[Index, frozenset[bytes]] = {}
    for rollback in repository.state.rollbacks:
        if not (rollback.estimated and rollback.is_source) or rollback.state == "undone":
            continue
        if settings.source.kind == "append" and rollback.instant != instant:
            continue
        written = load_list(repository.location, rollback).estimates.get(name, {})
        for index, content in written.items():
            digests[index] = digests.get(index, frozenset()) | {bytes.fromhex(content)}
    return digests


def estimated_chunks(
    repository: Repository, name: str, instants: Sequence[int], rows: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Tell which new chunks (step, *chunk grid) are what a rollback wrote as estimates."""
    estimated = np.zeros(rows.shape[:-1], bool)
    for k, instant in enumerate(instants):
        for index, digests in estimated_digests(repository, name, instant).items():
            estimated[(k, *index)] = rows[(k, *index)][DIGEST].tobytes() in digests
    return estimated
