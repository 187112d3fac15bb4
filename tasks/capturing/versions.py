"""Versions: how states that are captured again differ from what is kept of their times."""

import numpy as np
from numpy.typing import NDArray

from gnomon.storage.arrays.encoding import DIGEST
from gnomon.storage.repository import Repository
from gnomon.storage.values.model import TRUSTED
from gnomon.tasks.capturing.plan import CapturePlan
from gnomon.tasks.capturing.statistics import WINDOW, copies
from gnomon.tasks.learning.trusted import readable_rows

__all__ = ["copied_chunks", "revised_chunks", "versions_of"]


def versions_of(repository: Repository, plan: CapturePlan) -> dict[int, list[int]]:
    """Return by position in the plan the kept captures of each time that is captured again."""
    again = {plan.instants[k]: k for k, step in enumerate(plan.revises) if step is not None}
    versions: dict[int, list[int]] = {k: [] for k in again.values()}
    for step in repository.state.kept if again else ():
        if step.instant in again:
            versions[again[step.instant]].append(step.step)
    return versions


def revised_chunks(
    repository: Repository, plan: CapturePlan, name: str, rows: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Tell which chunks differ from the newest trusted version of their time, where there is one.

    A refused version in between changes nothing: a third one is not right because it equals that.
    """
    revised = np.zeros(rows.shape[:-1], bool)
    captures = repository.captures(name)
    for k, versions in versions_of(repository, plan).items():
        left = np.ones(rows.shape[1:-1], bool)
        for step in reversed(versions):
            version_rows = readable_rows(captures, step) if left.any() else None
            if version_rows is None:
                continue
            trusted = left & (captures.status(step) == TRUSTED)
            revised[k] |= trusted & (version_rows[..., DIGEST] != rows[k][..., DIGEST]).any(axis=-1)
            left &= ~trusted
    return revised


def copied_chunks(
    repository: Repository,
    plan: CapturePlan,
    name: str,
    rows: dict[str, NDArray[np.int64]],
    revised: NDArray[np.bool_],
) -> NDArray[np.bool_]:
    """Tell which revised chunks hold what was captured of another time."""
    copied = np.zeros(revised.shape, bool)
    for k in np.flatnonzero(revised.reshape(len(revised), -1).any(axis=1)).tolist():
        others = repository.state.around(plan.instants[k], WINDOW)
        copied[k] = revised[k] & copies(repository.captures(name), others, rows[name][k])
    return copied
