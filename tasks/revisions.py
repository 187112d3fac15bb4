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
from gnomon.storage.model import Variable
from gnomon.storage.repository import Repository
from gnomon.storage.source import (
    check_unchanged,
    chunk_sizes,
    open_source,
    read_states,
)
from gnomon.tasks.reading import reading_grid, spans
from gnomon.tasks.sighting import sight
from gnomon.tasks.trusted import readable_rows
from gnomon.tasks.work import Mapper

__all__ = ["find_repeats", "find_revisions"]

logger = logging.getLogger(__name__)

MOST_REPEATS = 32
"""Times that a source has several steps of, the latest, that are looked at."""


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
    with open_source(repository.settings.source) as dataset:
        check_unchanged(dataset, repository.settings)
        seen = sight(repository, dataset)
    steps = [newest[t] for t in seen.times.tolist() if t in newest]
    once = set(newest) - set(seen.twice)
    steps = [step for step in steps if step.instant in once]
    if not steps:
        return ()
    if count is not None and len(steps) > count:
        drawn = rng.choice(len(steps) - 1, count - 1, replace=False)
        steps = [*(steps[k] for k in sorted(drawn)), steps[-1]]
    changed: set[int] = set()
    positions = {step.step: seen.positions(step.instant)[-1] for step in steps}
    for variable in repository.settings.variables:
        wanted = [(s, positions[s]) for s in positions if s not in changed]
        changed |= {step for step, _ in _changed(repository, variable, wanted, mapper)}
    return tuple(sorted(changed))


def find_repeats(repository: Repository, mapper: Mapper) -> dict[int, int]:
    """Return what a source holds that has several steps of one time, and other data in one.

    Returns by capture, the newest of its time, which of the steps, counted from 0, holds what none
    of the captures of that time does; of several such steps the first.  Of steps that hold the
    same data there is nothing to be said.

    Raises
    ------
    InvalidInput
        The variables of the source are not what they were at init.
    """
    if repository.settings.source.kind == "state":
        return {}
    with open_source(repository.settings.source) as dataset:
        check_unchanged(dataset, repository.settings)
        seen = sight(repository, dataset)
    versions: dict[int, list[int]] = {}
    for step in repository.state.kept:
        versions.setdefault(step.instant, []).append(step.step)
    instants = [t for t in seen.twice if t in versions][-MOST_REPEATS:]
    places = {t: seen.positions(t) for t in instants}
    wanted = [(v, k) for t in instants for k in places[t] for v in versions[t]]
    changed: set[tuple[int, int]] = set()
    for variable in repository.settings.variables:
        changed |= _changed(repository, variable, wanted, mapper)
    found: dict[int, int] = {}
    for instant in instants:
        for nth, place in enumerate(places[instant]):
            if all((version, place) in changed for version in versions[instant]):
                found.setdefault(max(versions[instant]), nth)
    return found


def _changed(
    repository: Repository, variable: Variable, wanted: list[tuple[int, int]], mapper: Mapper
) -> set[tuple[int, int]]:
    """Return which captures differ from the source: pairs of a capture and a position in it."""
    with open_source(repository.settings.source) as dataset:
        _, along = chunk_sizes(dataset, variable)
    blocks = list(reading_grid(variable.grid, along).blocks())
    pinned = (repository.location.url, repository.records[-1].sequence)
    wanted = sorted(wanted, key=lambda pair: pair[1])
    results = mapper(partial(_changed_in_block, pinned, variable.name, wanted), blocks)
    for text in dict.fromkeys(text for _, unread in results for text in unread):
        logger.warning("not compared with what was captured: %s", text)
    return set().union(*(changed for changed, _ in results))


def _changed_in_block(
    pinned: tuple[str, int], name: str, wanted: list[tuple[int, int]], block: Block
) -> tuple[set[tuple[int, int]], list[str]]:
    """Return which of the captures differ from the source in one block, and what was not read.

    Runs on a worker.
    """
    repository = Repository.open(pinned[0]).at(pinned[1])
    variable = repository.settings.variable(name)
    captures = repository.captures(name)
    changed: set[tuple[int, int]] = set()
    unread: list[str] = []
    by_place: dict[int, list[int]] = {}
    for step, place in wanted:
        by_place.setdefault(place, []).append(step)
    with open_source(repository.settings.source) as dataset:
        steps, _ = chunk_sizes(dataset, variable)
        places = sorted(by_place)
        for span in spans(places, steps, block, variable.numpy_dtype.itemsize):
            try:
                states = read_states(dataset, variable, [places[k] for k in span], block.cells)
            except Unreadable as error:
                unread.append(str(error))
                continue
            for j, k in enumerate(span):
                digests = {
                    index: digest(name, index, cut(states[j, ...], cells))
                    for index, _, cells in variable.grid.inner(block)
                }
                for step in by_place[places[k]]:
                    rows = readable_rows(captures, step)
                    if rows is not None and any(
                        rows[index][DIGEST].tobytes() != found for index, found in digests.items()
                    ):
                        changed.add((step, places[k]))
    return changed, unread
