"""Preview: what a restore would give, or change, as fields; nothing is written."""

from collections.abc import Iterator
from contextlib import contextmanager

from gnomon.storage.repository import Repository
from gnomon.storage.values.model import SourceSpec
from gnomon.storage.values.selection import EVERYTHING, Selection
from gnomon.tasks.comparing.operands import live_state
from gnomon.tasks.comparing.states import Kept, Live, Planned
from gnomon.tasks.restoring.restore import planes
from gnomon.tasks.restoring.restore_point import RestorePoint
from gnomon.tasks.rollback.differences import Intended

__all__ = ["kept_state", "opened_plan"]


def kept_state(
    repository: Repository, point: RestorePoint, selection: Selection = EVERYTHING
) -> tuple[Kept, RestorePoint]:
    """Return the state that a restore point stands for, and the point; healed, with its figures.

    Parameters
    ----------
    selection
        Nothing else is healed.
    """
    (plane,), point = planes(repository, point, selection)
    return Kept(repository, plane, f"{point.valid_time} ({point.kind})"), point


@contextmanager
def opened_plan(
    repository: Repository, point: RestorePoint, spec: SourceSpec, selection: Selection = EVERYTHING
) -> Iterator[tuple[Live, Planned, RestorePoint]]:
    """Give a live dataset as it is, as it would be once a restore point was written, and the point.

    Raises
    ------
    NotFound
        It has no step of that time.
    InvalidInput
        It has another grid.
    """
    kept, point = kept_state(repository, point, selection)
    with live_state(repository, spec, kept.plane.instant) as live:
        intended = Intended.of(repository, kept.plane, live.dataset, live.position, selection)
        yield live, Planned(live, intended, kept), point
