"""Revisions: captured states that the source has changed since.

An update does not read history again.  It looks at the newest capture, where revisions are most
common, at those that are suspect, which may have been mended or completed, at those whose objects
or files in the source were written after they were read, and at a few drawn by lot.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from math import inf, prod

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from gnomon.storage.arrays.encoding import DIGEST
from gnomon.storage.arrays.residuals import digest
from gnomon.storage.changes.repacked import readings_at
from gnomon.storage.errors import Integrity, Moved, Unreadable
from gnomon.storage.log.readings import is_close
from gnomon.storage.log.staging import fresh_id
from gnomon.storage.log.steps import CapturedStep
from gnomon.storage.pin import Pin
from gnomon.storage.repository import Repository
from gnomon.storage.source.files.opening import rest, written_at
from gnomon.storage.source.objects import objects_of
from gnomon.storage.source.opening import release_source, shared_source
from gnomon.storage.source.states import chunk_sizes, read_states
from gnomon.storage.source.unchanged import check_unchanged
from gnomon.storage.stacks.captures import CaptureStack
from gnomon.storage.values.grid import Block, Index, cut
from gnomon.storage.values.meaning import read_alike
from gnomon.storage.values.model import Variable
from gnomon.storage.values.scaling import Packing
from gnomon.tasks.capturing.estimates import Estimates
from gnomon.tasks.capturing.reading import reading_grid, spans
from gnomon.tasks.capturing.sighting import Sighting, sight
from gnomon.tasks.learning.trusted import pass_over, readable_rows
from gnomon.tasks.work import Mapper

__all__ = ["find_repeats", "find_revisions"]

logger = logging.getLogger(__name__)

OPEN = 8
"""Suspect captures, the latest, that are compared in every update."""
COMPARED_BYTES = 2**27
"""As much of the captures that may have been touched is read in one update."""
SKEW = 2.0
"""Seconds that the clock of the source may be behind."""
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
        How many captures are compared at least, the newest and others drawn by lot; None: all.

    Raises
    ------
    InvalidInput
        The variables of the source are not what they were at init.
    """
    if repository.settings.source.kind == "state" or count == 0:
        return ()
    newest = {step.instant: step for step in repository.state.kept}
    with _comparing(repository) as (run, dataset):
        check_unchanged(dataset, repository.settings)
        seen, written = sight(repository, dataset), written_at(dataset)
        twice = set(seen.twice)
        steps = [newest[t] for t in seen.times.tolist() if t in newest and t not in twice]
        if count is not None:
            steps = _chosen(repository, seen, steps, count, rng, written)
        changed: set[int] = set()
        positions = {step.step: seen.positions(step.instant)[-1] for step in steps}
        for variable in repository.settings.variables:
            pairs = [(s, positions[s]) for s in positions if s not in changed]
            differing = _changed(repository, run, dataset, variable, pairs, mapper)
            changed |= {step for step, _ in differing}
    return tuple(sorted(changed))


@contextmanager
def _comparing(repository: Repository) -> Iterator[tuple[str, xr.Dataset]]:
    """Give the name of a run, and the source as the blocks of this process share it."""
    run = f"compared {fresh_id(repository.records[-1].sequence)}"
    try:
        yield run, shared_source(repository.settings.source, run, repository.memory)
    finally:
        release_source()


def _chosen(
    repository: Repository,
    seen: Sighting,
    steps: list[CapturedStep],
    count: int,
    rng: np.random.Generator,
    written: NDArray[np.float64] | None,
) -> list[CapturedStep]:
    """Choose what is compared, in order of time."""
    places = set(range(len(steps))[-1:])
    open_ones = [k for k, step in enumerate(steps) if step.suspects]
    places.update(open_ones[-OPEN:])
    if written is None:
        touched = _touched(repository, seen, steps, rng)
    else:
        rows = enumerate(seen.positions(step.instant)[-1] for step in steps)
        touched = [k for k, row in rows if _is_after(float(written[row]), steps[k])]
    state_bytes = sum(prod(v.shape) * v.numpy_dtype.itemsize for v in repository.settings.variables)
    most = max(count, COMPARED_BYTES // max(1, state_bytes))
    places.update(_drawn(touched, most, rng))
    places.update(_drawn(list(range(len(steps) - 1)), count - 1, rng))
    return [steps[k] for k in sorted(places)]


def _drawn(places: list[int], count: int, rng: np.random.Generator) -> list[int]:
    """Return some of the places by lot, all if there are no more than the count."""
    if len(places) <= count:
        return places
    return [int(k) for k in rng.choice(places, max(0, count), replace=False)]


def _touched(
    repository: Repository, seen: Sighting, steps: list[CapturedStep], rng: np.random.Generator
) -> list[int]:
    """Return the places of captures whose objects in the source were written after the capture.

    Where there are too many objects to ask for each, the newest captures and some others are.
    """
    touched: set[int] = set()
    for variable in repository.settings.variables:
        objects = objects_of(repository.settings.source, variable)
        if objects is None or not objects.most_rows:
            continue
        half = max(1, objects.most_rows * objects.steps // 2)
        places = {*range(len(steps))[-half:], *_drawn(list(range(len(steps))), half, rng)}
        rows = {k: seen.positions(steps[k].instant)[-1] // objects.steps for k in places}
        written = objects.written(set(rows.values()))
        touched.update(k for k, row in rows.items() if _is_after(written.get(row, -inf), steps[k]))
    return sorted(touched)


def _is_after(written: float, step: CapturedStep) -> bool:
    """Tell whether an object written at that time may differ from what was captured."""
    try:
        read_at = datetime.fromisoformat(step.read_at).timestamp()
    except (ValueError, OverflowError):
        return True
    return written > read_at - SKEW


def find_repeats(repository: Repository, mapper: Mapper) -> dict[int, int]:
    """Return which of several steps of one time in the source holds data that were never captured.

    The keys are captures, by number, the newest of each time; the values count the steps of that
    time from 0.  Of several such steps the first one is given.  Steps that hold the same data as a
    capture of their time are left out.

    Raises
    ------
    InvalidInput
        The variables of the source are not what they were at init.
    """
    if repository.settings.source.kind == "state":
        return {}
    with _comparing(repository) as (run, dataset):
        check_unchanged(dataset, repository.settings)
        seen = sight(repository, dataset)
        versions: dict[int, list[int]] = {}
        for step in repository.state.kept:
            versions.setdefault(step.instant, []).append(step.step)
        instants = [t for t in seen.twice if t in versions][-MOST_REPEATS:]
        places = {t: seen.positions(t) for t in instants}
        pairs = [(v, k) for t in instants for k in places[t] for v in versions[t]]
        changed: set[tuple[int, int]] = set()
        for variable in repository.settings.variables:
            changed |= _changed(repository, run, dataset, variable, pairs, mapper)
    repeats: dict[int, int] = {}
    for instant in instants:
        for nth, place in enumerate(places[instant]):
            if all((version, place) in changed for version in versions[instant]):
                repeats.setdefault(max(versions[instant]), nth)
    return repeats


def _changed(
    repository: Repository,
    run: str,
    dataset: xr.Dataset,
    variable: Variable,
    pairs: list[tuple[int, int]],
    mapper: Mapper,
) -> set[tuple[int, int]]:
    """Return which captures differ from the source: pairs of a capture and a position in it."""
    if not pairs:
        return set()
    places = sorted({place for _, place in pairs})
    _, along = chunk_sizes(dataset, variable)
    readings = readings_at(repository, dataset, variable, places)
    blocks = list(reading_grid(variable.grid, along).blocks())
    pinned = Pin.of(repository), run
    pairs = sorted(pairs, key=lambda pair: pair[1])
    results = mapper(partial(_changed_in_block, pinned, variable.name, pairs, readings), blocks)
    for text in dict.fromkeys(text for _, unread in results for text in unread):
        logger.warning("not compared with what was captured: %s", text)
    return set().union(*(changed for changed, _ in results))


def _changed_in_block(
    pinned: tuple[Pin, str],
    name: str,
    pairs: list[tuple[int, int]],
    readings: Mapping[int, Packing],
    block: Block,
) -> tuple[set[tuple[int, int]], list[str]]:
    """Return which of the captures differ from the source in one block, and what was not read.

    Runs on a worker.
    """
    pin, run = pinned
    repository = pin.recall()
    variable = repository.settings.variable(name)
    captures = repository.captures(name)
    changed: set[tuple[int, int]] = set()
    unread: list[str] = []
    by_place: dict[int, list[int]] = {}
    for step, place in pairs:
        by_place.setdefault(place, []).append(step)
    dataset = shared_source(repository.settings.source, run, repository.memory)
    steps, _ = chunk_sizes(dataset, variable)
    places = sorted(by_place)
    for span in spans(places, steps, block, variable.numpy_dtype.itemsize):
        try:
            states = read_states(dataset, variable, [places[k] for k in span], block.cells)
        except (Moved, Unreadable) as error:
            unread.append(str(error))
            continue
        for j, k in enumerate(span):
            now = readings[places[k]]
            written = _written(repository, name, by_place[places[k]], now)
            chunks = {
                index: cut(states[j, ...], cells) for index, _, cells in variable.grid.inner(block)
            }
            digests = {index: digest(name, index, raw) for index, raw in chunks.items()}
            # What a rollback wrote there as an estimate is no revision by the source.
            digests = {i: d for i, d in digests.items() if not written.holds(i, chunks[i])}
            for step in by_place[places[k]]:
                rows = readable_rows(captures, step)
                if rows is None:
                    continue
                differing = {i for i, d in digests.items() if rows[i][DIGEST].tobytes() != d}
                if differing and not read_alike(now, captures.reading(step)):
                    raw = {index: chunks[index] for index in differing}
                    differing = _of_other_numbers(captures, step, now, raw)
                if differing:
                    changed.add((step, places[k]))
    rest(dataset)
    return changed, unread


def _written(repository: Repository, name: str, steps: list[int], packing: Packing) -> Estimates:
    """Return what rollbacks have written as estimates for the time of some captures."""
    (instant,) = {repository.captured[step].instant for step in steps}
    return Estimates.of(repository, name, instant, packing)


def _of_other_numbers(
    captures: CaptureStack, step: int, now: Packing, chunks: Mapping[Index, NDArray[np.generic]]
) -> set[Index]:
    """Return which chunks of the source, packed otherwise than they were captured, have changed."""
    changed = set()
    for index, raw in chunks.items():
        try:
            before = captures.physical(step, index)
        except Integrity as error:
            pass_over(error, captures.location.url, captures.variable.name, step)
            continue
        if not is_close(before, now.to_physical(raw), captures.reading(step), now).all():
            changed.add(index)
    return changed
