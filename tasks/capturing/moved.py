"""Moved: a source that is no longer what a plan was made of is refused; nothing of it is kept."""

from collections.abc import Mapping
from typing import Any

import xarray as xr

from gnomon.storage.changes.observed import check_source, observe
from gnomon.storage.errors import Moved
from gnomon.storage.log.description import Change
from gnomon.storage.repository import Repository
from gnomon.storage.source.opening import open_source
from gnomon.storage.source.timeaxis import read_axis
from gnomon.storage.values.times import format_instant
from gnomon.tasks.capturing.plan import CapturePlan

__all__ = ["refuse_moved", "refuse_redescribed", "refuse_shifted"]


def refuse_moved(repository: Repository, plan: CapturePlan) -> None:
    """Refuse what was read of a source whose times or attributes have changed since.

    Raises
    ------
    Moved
        A position of the plan no longer has its time, or the source has changed its attributes.
    """
    if not plan.instants:
        return
    with open_source(plan.source, repository.memory) as dataset:
        refuse_redescribed(repository, plan, dataset)
        refuse_shifted(repository, plan, dataset)


def refuse_shifted(repository: Repository, plan: CapturePlan, dataset: xr.Dataset) -> None:
    """Refuse a source, as it was opened, in which the positions of a plan are of other times.

    Raises
    ------
    Moved
        A position is not of its time: plan again.
    """
    if plan.positions is None:
        return
    axis = read_axis(dataset, repository.settings)
    for instant, position in zip(plan.instants, plan.positions, strict=True):
        there = position < axis.instants.size and not axis.missing[position]
        if not there or int(axis.instants[position]) != instant:
            time = format_instant(instant, repository.settings.calendar)
            raise Moved(
                f"the source was changed while it was read: step {position} was {time}, and is not "
                "any more; nothing of it was kept, run again when its writer is done"
            )


def refuse_redescribed(repository: Repository, plan: CapturePlan, dataset: xr.Dataset) -> None:
    """Refuse a source whose attributes or fixed variables are not those of the plan.

    Raises
    ------
    Moved
        It has changed them: plan again.
    """
    check_source(dataset, repository.frame, repository.settings)
    changes = observe(dataset, repository, plan.id, plan.positions).changes
    if _as_json(changes) != _as_json(plan.descriptions):
        raise Moved(
            "the source changed its attributes while it was read; nothing of it was kept, run "
            "again when its writer is done"
        )


def _as_json(changes: Mapping[int, Change]) -> dict[int, dict[str, Any]]:
    """Return changes in a form that is equal only where types and bits are."""
    return {k: change.to_json() for k, change in changes.items()}
