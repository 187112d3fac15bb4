"""Preview: what a restore would give, or change, as fields; nothing is written."""

from collections.abc import Iterator
from contextlib import contextmanager

from gnomon.storage.values.model import SourceSpec
from gnomon.tasks.comparing.operands import live_state
from gnomon.tasks.comparing.states import Kept, Live, Planned
from gnomon.tasks.restoring.restore import planes_of
from gnomon.tasks.restoring.restore_point import RestorePoint
from gnomon.tasks.restoring.states import States
from gnomon.tasks.rollback.differences import Intended

__all__ = ["kept_state", "opened_plan"]


def kept_state(states: States) -> tuple[Kept, RestorePoint]:
    """Return one state as it is kept, and its point; healed, with its figures."""
    (plane,), (point,) = planes_of(states)
    return Kept(states.seen, plane, f"{point.valid_time} ({point.kind})"), point


@contextmanager
def opened_plan(states: States, spec: SourceSpec) -> Iterator[tuple[Live, Planned, RestorePoint]]:
    """Give a live dataset as it is, as it would be once a state was written, and the point.

    Raises
    ------
    NotFound
        It has no step of that time.
    InvalidInput
        It has another grid.
    """
    kept, point = kept_state(states)
    with live_state(states.seen, spec, kept.plane.instant) as live:
        intended = Intended.of(
            states.seen, kept.plane, live.dataset, live.position, states.selection
        )
        yield live, Planned(live, intended, kept), point
