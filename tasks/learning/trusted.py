"""What may be learnt from: trusted chunks that can be read.

Damage in the repository must not stop its updates, so what cannot be read counts as if it were
suspect: it is passed over, and said to be.  Restoring it, and a check, still name it.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np
from numpy.typing import NDArray

from gnomon.storage.errors import Integrity
from gnomon.storage.stacks.captures import CaptureStack
from gnomon.storage.values.grid import Index
from gnomon.storage.values.model import TRUSTED

__all__ = [
    "SEARCH",
    "gather",
    "last_trusted",
    "last_trusted_field",
    "pass_over",
    "readable_rows",
    "readable_values",
    "trusted_field",
    "trusted_values",
]

logger = logging.getLogger(__name__)

SEARCH = 64
"""How many captures back a trusted one is looked for, so that the cost does not grow with age."""

_told: set[tuple[object, ...]] = set()
"""What this process has told the damage of."""

_gathered: ContextVar[list[str] | None] = ContextVar("gathered", default=None)
"""Where the damage that is passed over is noted, while somebody gathers it for an answer."""


@contextmanager
def gather() -> Iterator[list[str]]:
    """Give a list that grows by what is passed over meanwhile: the answer must say so."""
    notes: list[str] = []
    token = _gathered.set(notes)
    try:
        yield notes
    finally:
        _gathered.reset(token)


def trusted_values(captures: CaptureStack, step: int, index: Index) -> NDArray[np.float64] | None:
    """Return the physical values of a captured chunk; None if it is suspect or damaged."""
    raw = _trusted_chunk(captures, step, index)
    return None if raw is None else captures.reading(step).to_physical(raw)


def _trusted_chunk(captures: CaptureStack, step: int, index: Index) -> NDArray[np.generic] | None:
    try:
        if captures.status_of(step, index) != TRUSTED:
            return None
        return captures.chunk(step, index)
    except Integrity as error:
        pass_over(error, captures.location.url, captures.variable.name, step)
        return None


def trusted_field(
    captures: CaptureStack, step: int, indices: Sequence[Index]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return values (cell,) of some chunks, one after the other, and which are trusted (chunk,).

    Values are in the variable's units, NaN in chunks that are suspect or damaged, too.
    """
    try:
        trusted = captures.statuses(step, indices) == TRUSTED
    except Integrity as error:
        pass_over(error, captures.location.url, captures.variable.name, step)
        trusted = np.zeros(len(indices), bool)
    loaded = captures.load(step, indices) if trusted.any() else {}
    chunks: list[NDArray[np.generic]] = []
    for place in np.flatnonzero(trusted).tolist():
        raw = loaded.get(indices[place])
        if raw is None:
            raw = _trusted_chunk(captures, step, indices[place])
        if raw is None:
            trusted[place] = False
        else:
            chunks.append(raw.reshape(-1))
    if chunks:
        raw = chunks[0] if len(chunks) == 1 else np.concatenate(chunks)
        known = captures.reading(step).to_physical(raw)
        if trusted.all():
            return known, trusted
    sizes = captures.variable.grid.sizes(indices)
    values = np.full(sizes.sum(), np.nan)
    if chunks:
        values[np.repeat(trusted, sizes)] = known
    return values, trusted


def readable_values(captures: CaptureStack, step: int, index: Index) -> NDArray[np.float64] | None:
    """Return the physical values of a captured chunk, trusted or not; None if it is damaged."""
    try:
        return captures.physical(step, index)
    except Integrity as error:
        pass_over(error, captures.location.url, captures.variable.name, step)
        return None


def readable_rows(captures: CaptureStack, step: int) -> NDArray[np.int64] | None:
    """Return the index rows (*chunk grid, 6) of a captured step; None if they are damaged."""
    try:
        return captures.rows(step)
    except Integrity as error:
        pass_over(error, captures.location.url, captures.variable.name, step)
        return None


def pass_over(error: Integrity, *what: object) -> None:
    """Tell once of each that something of it is damaged, and the run goes on without."""
    notes = _gathered.get()
    if notes is not None and str(error) not in notes:
        notes.append(str(error))
    if what not in _told:
        _told.add(what)
        logger.warning("%s; the run goes on without it", error)


def last_trusted(
    captures: CaptureStack, index: Index, steps: Sequence[int]
) -> tuple[int, NDArray[np.float64]] | None:
    """Return number and physical values of the newest trusted capture of a chunk.

    Parameters
    ----------
    steps
        Numbers of the captures to choose from, in order of time.

    Returns
    -------
    tuple or None
        None if none of the last `SEARCH` of them is trusted and can be read.
    """
    for step in reversed(steps[-SEARCH:]):
        values = trusted_values(captures, step, index)
        if values is not None:
            return step, values
    return None


def last_trusted_field(
    captures: CaptureStack, indices: Sequence[Index], steps: Sequence[int]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return values (cell,) of some chunks as `last_trusted` does, and of which capture (chunk,).

    Without one, values are NaN and the number is -1.
    """
    sizes = captures.variable.grid.sizes(indices)
    if not steps:
        return np.full(sizes.sum(), np.nan), np.full(len(indices), -1)
    values, trusted = trusted_field(captures, steps[-1], indices)
    numbers = np.where(trusted, steps[-1], -1)
    ends = np.cumsum(sizes)
    for place in np.flatnonzero(~trusted).tolist():
        last = last_trusted(captures, indices[place], steps[-SEARCH:-1])
        if last is not None:
            numbers[place] = last[0]
            values[ends[place] - sizes[place] : ends[place]] = last[1].ravel()
    return values, numbers
