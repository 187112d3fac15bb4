"""Revisions: captured states that the source has changed since.

An update does not read history again; it looks at the newest capture, where revisions are most
common, and at a few older ones drawn by lot, so that over many updates all are looked at.
"""

import logging
from functools import partial

import numpy as np

from gnomon.storage.delta import digest
from gnomon.storage.encoding import DIGEST
from gnomon.storage.errors import Unreadable
from gnomon.storage.grid import Block, cut
from gnomon.storage.model import CapturedStep, Variable
from gnomon.storage.repository import Repository
from gnomon.storage.source import (
    check_unchanged,
    chunk_sizes,
    open_source,
    read_states,
)
from gnomon.storage.timeaxis import instants
from gnomon.tasks.capture import reading_grid, spans
from gnomon.tasks.trusted import readable_rows
from gnomon.tasks.work import Mapper

__all__ = ["find_revisions"]

logger = logging.getLogger(__name__)


def find_revisions(
    repository: Repository, mapper: Mapper, *, count: int | None, rng: np.random.Generator
) -> tuple[int, ...]:
    """Return the numbers of captures that the source no longer holds as they were captured.

    A capture whose time is gone from the source is no revision, and neither is one that the source
    cannot give any more, as its bytes are damaged: that is logged.  Of several versions of a time
    the newest one counts.  A state source holds no captured states.

    Parameters
    ----------
    count
        How many captures are compared, the newest and others drawn by lot; None: all.

    Raises
    ------
    InvalidInput
        The variables of the source are not what they were at init.
    """
    if repository.settings.source.kind == "state" or count == 0:
        return ()
    newest = {step.instant: step for step in repository.state.kept}
    with open_source(repository.settings.source, repository.memory) as dataset:
        check_unchanged(dataset, repository.settings)
        times = instants(dataset, repository.settings)
    positions = {int(t): k for k, t in enumerate(times) if int(t) in newest}
    steps = [newest[t] for t in sorted(positions)]
    if count is not None and len(steps) > count:
        drawn = rng.choice(len(steps) - 1, count - 1, replace=False)
        steps = [*(steps[k] for k in sorted(drawn)), steps[-1]]
    changed: set[int] = set()
    for variable in repository.settings.variables:
        left = [s for s in steps if s.step not in changed]
        changed |= _changed(repository, variable, left, positions, mapper)
    return tuple(sorted(changed))


def _changed(
    repository: Repository,
    variable: Variable,
    steps: list[CapturedStep],
    positions: dict[int, int],
    mapper: Mapper,
) -> set[int]:
    with open_source(repository.settings.source, repository.memory) as dataset:
        _, along = chunk_sizes(dataset, variable)
    blocks = list(reading_grid(variable.grid, along).blocks())
    pinned = (repository.location.url, repository.records[-1].sequence)
    wanted = [(s.step, positions[s.instant]) for s in steps]
    results = mapper(partial(_changed_in_block, pinned, variable.name, wanted), blocks)
    for text in dict.fromkeys(text for _, unread in results for text in unread):
        logger.warning("not compared with what was captured: %s", text)
    return set().union(*(changed for changed, _ in results))


def _changed_in_block(
    pinned: tuple[str, int], name: str, wanted: list[tuple[int, int]], block: Block
) -> tuple[set[int], list[str]]:
    """Return which of the captures differ from the source in one block, and what was not read.

    Runs on a worker.
    """
    repository = Repository.open(pinned[0]).at(pinned[1])
    variable = repository.settings.variable(name)
    captures = repository.captures(name)
    changed: set[int] = set()
    unread: list[str] = []
    with open_source(repository.settings.source, repository.memory) as dataset:
        steps, _ = chunk_sizes(dataset, variable)
        positions = [position for _, position in wanted]
        for span in spans(positions, steps, block, variable.numpy_dtype.itemsize):
            try:
                states = read_states(dataset, variable, [positions[k] for k in span], block.cells)
            except Unreadable as error:
                unread.append(str(error))
                continue
            for j, k in enumerate(span):
                raw, step = states[j, ...], wanted[k][0]
                rows = readable_rows(captures, step)
                if rows is None:
                    continue
                for index, _, cells in variable.grid.inner(block):
                    if digest(name, index, cut(raw, cells)) != rows[index][DIGEST].tobytes():
                        changed.add(step)
                        break
    return changed, unread
