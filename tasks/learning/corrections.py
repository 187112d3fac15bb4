"""What a capture left behind of being learnt, so that no cell need be looked at again.

A capture is compared with the forecast when it is made, chunk by chunk.  That is all that the
correction of error bars rests on, so that a state that stays where it is can go on without being
read.
"""

import numpy as np
from numpy.typing import NDArray

from gnomon.storage.errors import Integrity
from gnomon.storage.log.staging import sequence_of
from gnomon.storage.log.steps import CapturedStep
from gnomon.storage.repository import Repository
from gnomon.storage.stacks.ledger import open_captured_statistics
from gnomon.storage.values.model import TRUSTED
from gnomon.tasks.forecasting import corrected
from gnomon.tasks.learning.expectation import forecaster_of
from gnomon.tasks.learning.trusted import pass_over

__all__ = ["corrections", "since_forecast"]

_WANTED = "outside_interval", "p_value", "valid_count"
_HARMLESS = frozenset({"capture", "patch", "tag", "repair", "rules", "source"})
"""Kinds of records that change nothing of what a capture was compared with."""


def since_forecast(repository: Repository) -> list[int]:
    """Return the captures later in time than what the newest state knows, in order."""
    record = repository.forecaster
    instant = None if record is None else repository.captured[record.step].instant
    return [s.step for s in repository.timeline if instant is None or s.instant > instant]


def corrections(repository: Repository, name: str) -> NDArray[np.float64] | None:
    """Return what the newest state of a variable goes on with, by what its last capture was like.

    Returns
    -------
    float64 (*chunk grid, number), or None
        NaN in chunks that must be looked at: those that did not change were compared with nothing,
        and of others the state was damaged.  None: all must be, as there is not one capture to be
        learnt, or it was not compared with this very state.
    """
    forecaster, variable = forecaster_of(repository, name), repository.settings.variable(name)
    since = [repository.captured[step] for step in since_forecast(repository)]
    if forecaster is None or len(since) != 1 or not _was_compared(repository, since[0]):
        return None
    (captured,) = since
    record = repository.forecaster
    known_to = -1 if record is None else repository.captured[record.step].instant
    if forecaster.cadence.slot(known_to) != forecaster.outlook.slot:
        return None
    try:
        columns = open_captured_statistics(
            repository.location, repository.records[captured.sequence], variable
        )
        is_trusted = repository.captures(name).status(captured.step) == TRUSTED
        before = forecaster.correction()
    except Integrity as error:
        pass_over(error, repository.location.url, name, captured.step)
        return None
    try:
        outside, p_values, valid = (columns[column][captured.local] for column in _WANTED)
    except LookupError:  # an older release measured other things
        return None
    after = corrected(before, outside, p_values, is_trusted & (valid > 0))
    carried = np.moveaxis(after, 0, -1)
    carried[np.isnan(outside) & (valid > 0)] = np.nan
    return carried


def _was_compared(repository: Repository, captured: CapturedStep) -> bool:
    """Tell whether a capture was compared with the newest state, as all of it is now."""
    record, planned = repository.forecaster, sequence_of(captured.slab)
    if record is None or planned is None or planned <= record.sequence:
        return False
    if any(s.slab == captured.slab and s.step != captured.step for s in repository.captured):
        return False  # of several states in one commit, one was compared on top of the other
    return all(later.kind in _HARMLESS for later in repository.records[planned:])
