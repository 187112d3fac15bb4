"""A source that moved: the same data in another place, without a new era.

Nothing is taken on trust.  The new place must hold the variables, the grid and the coordinates that
were captured, and of the times that it shares with the captures one at least must be the same.
"""

import numpy as np
import xarray as xr

from gnomon.storage.arrays.encoding import DIGEST
from gnomon.storage.arrays.residuals import digest
from gnomon.storage.changes.observed import check_source
from gnomon.storage.changes.repacked import readings_at
from gnomon.storage.errors import Integrity, InvalidInput
from gnomon.storage.log.bodies.source import SourceBody
from gnomon.storage.log.credentials import refuse_in_source
from gnomon.storage.log.readings import is_close
from gnomon.storage.log.steps import CapturedStep
from gnomon.storage.repository import Repository
from gnomon.storage.source.files.opening import source_notes
from gnomon.storage.source.opening import open_source
from gnomon.storage.source.states import read_state
from gnomon.storage.source.timeaxis import read_axis
from gnomon.storage.source.unchanged import ADVICE
from gnomon.storage.values.dtypes import native
from gnomon.storage.values.grid import cut
from gnomon.storage.values.meaning import read_alike
from gnomon.storage.values.model import SourceSpec
from gnomon.storage.values.times import format_instant

__all__ = ["move_source"]

_COMPARED = 3
"""Captures that are compared with the new place at most."""


def move_source(
    repository: Repository, spec: SourceSpec, committed_at: str
) -> tuple[Repository, tuple[str, ...]]:
    """Commit that the source is elsewhere from now on; return what could not be verified.

    Raises
    ------
    InvalidInput
        The new place holds another dataset, or a secret.
    NotFound
        There is nothing.
    Conflict
        Another writer was first; nothing was changed.
    """
    refuse_in_source(spec)
    if spec == repository.settings.source:
        raise InvalidInput("the source is there already; nothing was changed")
    with open_source(spec) as dataset:
        try:
            check_source(dataset, repository.frame, repository.settings)
            notes = () if spec.time is None else _compare(repository, dataset)
        except InvalidInput as error:
            reason = str(error).removesuffix(f"; {ADVICE}")
            raise InvalidInput(
                f"{spec.url} does not hold what was captured: {reason}; nothing was changed"
            ) from error
        notes += source_notes(dataset)
    if spec.time is None:
        notes += ("a state source cannot be compared with what was captured before",)
    return repository.commit(SourceBody(spec), committed_at), notes


def _compare(repository: Repository, dataset: xr.Dataset) -> tuple[str, ...]:
    """Refuse a place whose data differ; return what to note."""
    settings = repository.settings
    axis = read_axis(dataset, settings)
    there = set(axis.instants[~axis.missing].tolist())
    shared = [s for s in repository.timeline if s.instant in there]
    if not repository.timeline:
        return ("nothing was captured yet, so that no data could be compared",)
    if not shared:
        return ("no captured time is in the new place, so that no data could be compared",)
    trusted = [s for s in shared if not s.suspects] or shared
    chosen = {s.step: s for s in (trusted[-1], trusted[0], trusted[len(trusted) // 2])}
    unlike = []
    for step in list(chosen.values())[:_COMPARED]:
        place = int(np.flatnonzero((axis.instants == step.instant) & ~axis.missing)[0])
        if _is_same(repository, dataset, step, place):
            break
        unlike.append(format_instant(step.instant, settings.calendar))
    else:
        raise InvalidInput(f"its data differ at {', '.join(unlike)}")
    if not unlike:
        return ()
    return (
        f"the data of {', '.join(unlike)} differ from what was captured; "
        "'gnomon update --compare -1' captures all that does",
    )


def _is_same(
    repository: Repository, dataset: xr.Dataset, step: CapturedStep, position: int
) -> bool:
    """Tell whether every chunk of a captured state is the same in a source, but for its packing."""
    for variable in (v for v in repository.settings.variables if step.step >= v.since):
        captures = repository.captures(variable.name)
        digests, before = captures.rows(step.step), captures.reading(step.step)
        now = readings_at(repository, dataset, variable, [position])[position]
        for block in variable.grid.blocks():
            values = read_state(dataset, variable, position, block.cells)
            for index, _, cells in variable.grid.inner(block):
                raw = native(cut(values, cells))
                if digest(variable.name, index, raw) == digests[index][DIGEST].tobytes():
                    continue
                if read_alike(now, before):
                    return False
                try:
                    numbers = captures.physical(step.step, index), now.to_physical(raw)
                except Integrity:
                    return False
                if not is_close(*numbers, before, now).all():
                    return False
    return True
