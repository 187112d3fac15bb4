"""Estimates in a live dataset: cells that a rollback wrote, and that hold no data yet.

They are known by their bits, wherever they were written and however they came into the source.  A
value of the source may be the same by chance.  So a cell tells only where chance is no explanation:
not where many cells of the chunk have its value, as the zeros of a sea without ice, or labels; and
not if there are no more equal cells than near misses let expect, as in packed data.  Cells that do
not tell are estimates as long as there is no other sign that somebody has written there.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gnomon.storage.arrays.encoding import DIGEST
from gnomon.storage.arrays.residuals import digest, ordered
from gnomon.storage.live.replaced import EstimatedChunk, load_cells, load_list
from gnomon.storage.log.location import Location
from gnomon.storage.log.steps import Rollback
from gnomon.storage.repository import Repository
from gnomon.storage.values.grid import Index
from gnomon.storage.values.model import TRUSTED, Variable
from gnomon.storage.values.scaling import Packing
from gnomon.tasks.capturing.carried import Carried, carried
from gnomon.tasks.learning.trusted import readable_rows

__all__ = ["Estimates", "Found", "standing"]

Standing = Literal["gone", "unmoved", "stands"]
"""What became of the estimated cells of a chunk: others have written there; nothing tells; some are
there still."""
Found = Mapping[int, Standing]
"""That of one chunk, by rollback, the number of its record."""

COMMON = 0.05
"""Share of the cells of a chunk from which on a value is common: that it is met again says nothing.
Measured fields of twenty levels and more have rarer ones, even where they are packed."""
NEAR = 4
"""What is nearer than this part of the median difference are near misses: within it, the density of
the differences of two fields hardly falls."""
DEVIATIONS = 4.0
"""Standard deviations of the count, a Poisson variable, by which equal cells may exceed the count
that near misses let expect: neighbours are wrong alike, so that it varies by a little more."""
PEAK = 4.0
"""Times as many cells may be equal as are off by one step, each way, where estimates are that good.
A normal density says how many; of less than half a step of error it says too many."""


@dataclass(frozen=True, slots=True)
class Estimates:
    """What rollbacks wrote as estimates of one variable, of a state of one time."""

    location: Location
    variable: Variable
    packing: Packing
    """How the raw values that are asked for are read."""
    chunks: Mapping[Index, tuple[tuple[Rollback, EstimatedChunk, bool], ...]]
    """By chunk: each rollback, what it wrote, and whether a later capture is trusted there: then
    only the whole chunk, unchanged, is known again."""
    carried: tuple[tuple[Carried, NDArray[np.bool_] | None], ...]
    """What was written where the variable was packed otherwise, of another type, or on another
    grid; and which chunks are trusted in a later capture."""

    @classmethod
    def of(cls, repository: Repository, name: str, instant: int, packing: Packing) -> "Estimates":
        """Return the estimates of a variable, by every rollback.

        Those that were taken back count, too: an object that others have written since is left as
        it is, and what was copied before stands elsewhere.

        Parameters
        ----------
        instant
            Valid time of the state; a state source holds what was written for any other.
        packing
            How the raw values that are asked for are read.

        Raises
        ------
        Integrity
            The list of what a rollback wrote is damaged: without it estimates would be taken for
            data.
        """
        variable = repository.settings.variable(name)
        is_state = repository.settings.source.kind == "state"
        chunks: dict[Index, tuple[tuple[Rollback, EstimatedChunk, bool], ...]] = {}
        for rollback in _marking(repository, variable):
            if not is_state and rollback.instant != instant:
                continue
            written = load_list(repository.location, rollback).estimates.get(name, {})
            over = _trusted_since(repository, name, rollback) if written and is_state else None
            for index, chunk in written.items():
                is_over = over is not None and bool(over[index])
                chunks[index] = (*chunks.get(index, ()), (rollback, chunk, is_over))
        others = tuple(
            (other, _trusted_since(repository, name, other.rollback) if is_state else None)
            for other in carried(repository, variable, packing, None if is_state else instant)
        )
        return cls(repository.location, variable, packing, chunks, others)

    def find(self, index: Index, there: NDArray[np.generic]) -> Found:
        """Return what became of the estimates in a chunk, as a live dataset holds it, undecoded."""
        found: dict[int, Standing] = {}
        for rollback, chunk, is_over in self.chunks.get(index, ()):
            is_same = digest(self.variable.name, index, there).hex() == chunk.digest
            if not is_same and (is_over or chunk.cells is None):
                found[rollback.sequence] = "gone"
                continue
            mask, written = load_cells(self.location, rollback.id, chunk, there)
            what = standing(self.variable, there, mask, written, is_same=is_same)
            found[rollback.sequence] = "gone" if is_over and what == "unmoved" else what
        for other, trusted in self.carried:
            mask, written = other.cells(index, there, self.packing)
            if not mask.any():
                continue
            is_same = bool((ordered(there[mask]) == ordered(written)).all())
            is_over = trusted is not None and bool(trusted[index])
            width = other.width(self.packing)
            what = standing(self.variable, there, mask, written, is_same=is_same, width=width)
            is_gone = is_over and (not is_same or what == "unmoved")
            found[other.rollback.sequence] = "gone" if is_gone else what
        return found

    def holds(self, index: Index, there: NDArray[np.generic]) -> bool:
        """Tell whether a chunk of a live dataset holds estimates, as far as it shows there."""
        return any(what != "gone" for what in self.find(index, there).values())

    def cells(self, index: Index, there: NDArray[np.generic]) -> NDArray[np.bool_]:
        """Return which cells of a chunk of a live dataset are estimates still, in its shape."""
        cells = np.zeros(there.shape, bool)
        found = self.find(index, there)
        for rollback, chunk, _ in self.chunks.get(index, ()):
            if found.get(rollback.sequence, "gone") != "gone":
                mask, written = load_cells(self.location, rollback.id, chunk, there)
                cells[mask] |= ordered(there[mask]) == ordered(written)
        for other, _ in self.carried:
            if found.get(other.rollback.sequence, "gone") != "gone":
                mask, written = other.cells(index, there, self.packing)
                cells[mask] |= ordered(there[mask]) == ordered(written)
        return cells


def _marking(repository: Repository, variable: Variable) -> Iterable[Rollback]:
    """Yield the rollbacks of every era in which a variable was cut as it is now."""
    for state in repository.eras:
        for v in state.settings.variables:
            is_alike = (v.name, v.dtype, v.grid) == (variable.name, variable.dtype, variable.grid)
            if is_alike:
                yield from (rollback for rollback in state.rollbacks if rollback.marks)


def _trusted_since(
    repository: Repository, name: str, rollback: Rollback
) -> NDArray[np.bool_] | None:
    """Return which chunks of the newest capture after a rollback are trusted; None: there is none.

    Somebody has written to these since.
    """
    later = newest_after(repository, rollback.sequence)
    if later is None:
        return None
    captures = repository.captures(name)
    if readable_rows(captures, later) is None:
        return None
    return np.asarray(captures.status(later) == TRUSTED)


def newest_after(repository: Repository, sequence: int) -> int | None:
    """Return the number of the newest kept capture after a log record; None if there is none."""
    later = [step.step for step in repository.state.kept if step.sequence > sequence]
    return max(later, default=None)


def standing(
    variable: Variable,
    there: NDArray[np.generic],
    mask: NDArray[np.bool_],
    written: NDArray[np.generic],
    *,
    is_same: bool,
    width: int = 1,
) -> Standing:
    """Return what became of estimated cells.

    Parameters
    ----------
    there
        The chunk as the live dataset holds it, undecoded.
    mask, written
        Which of its cells were estimates, and their values in that order.
    is_same
        Whether all of the chunk is as the rollback left it.
    width
        How many values may be taken for one that was written.
    """
    now = ordered(there[mask]).astype(np.int64)
    with np.errstate(over="ignore"):
        steps = now - ordered(written).astype(np.int64)
    equal = steps == 0
    if not equal.any():
        return "gone"
    tells = np.zeros(equal.shape, bool)
    if not variable.categorical:
        tells = equal & ~_is_common(there)[mask]
    if int(tells.sum()) > _by_chance(np.abs(steps[~equal]), width):
        return "stands"
    return "unmoved" if is_same else "gone"


def _is_common(chunk: NDArray[np.generic]) -> NDArray[np.bool_]:
    """Return which cells of a chunk have a value that many others have."""
    _, place, counts = np.unique(ordered(chunk), return_inverse=True, return_counts=True)
    return np.asarray((counts >= max(2.0, COMMON * chunk.size))[place].reshape(chunk.shape))


def _by_chance(steps: NDArray[np.int64], width: int) -> float:
    """Return how many cells may be equal by chance where others differ by so many steps.

    Of two fields that are measured alike, the differences have a smooth density: as many are 0 as
    each of those about it.
    """
    if not steps.size:
        return 0.0
    middle = np.median(steps)
    # Where all are multiples of a step, as of rounded values, that is what one differs by at least.
    steps = steps // np.gcd.reduce(steps[steps <= middle])
    near = max(1, int(np.median(steps)) // NEAR)
    expected = float((steps <= near).sum()) / (2 * near)
    if near == 1:  # so few steps that the density falls: as a normal one
        beyond = max(1.0, float((steps == 2).sum()) / 2)
        expected *= float(np.clip((expected / beyond) ** (1 / 3), 1.0, PEAK))
    expected *= width
    return expected + DEVIATIONS * sqrt(expected * (1 + 1 / (2 * near)))


def estimated_chunks(
    repository: Repository,
    versions: Mapping[int, list[int]],
    rows: Mapping[str, NDArray[np.int64]],
    found: Mapping[str, Mapping[tuple[int, Index], Found]],
) -> dict[str, NDArray[np.bool_]]:
    """Tell by variable which new chunks (step, *chunk grid) hold estimates.

    What does not tell by itself is no estimate if all else that the rollback estimated of the state
    is gone, or if a state source has changed in any chunk since a capture that was made after it.
    A chunk that is what was captured of its time, and is trusted, is none either: a person has
    accepted it.  Otherwise it is.

    Parameters
    ----------
    versions
        By position of a new state: the captures of its time.
    rows
        By variable: index rows of the new states (step, *chunk grid, 6).
    found
        By variable: by position of a new state, and chunk, what workers have found.
    """
    estimated = {name: np.zeros(r.shape[:-1], bool) for name, r in rows.items()}
    together: dict[tuple[int, int], set[Standing]] = {}
    for chunks in found.values():
        for (k, _), by_rollback in chunks.items():
            for sequence, what in by_rollback.items():
                together.setdefault((k, sequence), set()).add(what)
    for name, chunks in found.items():
        captures = repository.captures(name)
        for (k, index), by_rollback in chunks.items():
            row = rows[name][(k, *index)]
            is_accepted = any(
                captures.status_of(step, index) == TRUSTED
                and (before[index][DIGEST] == row[DIGEST]).all()
                for step in versions.get(k, ())
                if (before := readable_rows(captures, step)) is not None
            )
            estimated[name][(k, *index)] = not is_accepted and any(
                what == "stands"
                or (
                    what == "unmoved"
                    and not _is_rewritten(together[k, sequence])
                    and not _has_moved_on(repository, sequence, k, rows)
                )
                for sequence, what in by_rollback.items()
            )
    return estimated


def _is_rewritten(whats: set[Standing]) -> bool:
    """Tell whether all estimates of a state that tell are gone, and that there are such."""
    return "gone" in whats and "stands" not in whats


def _has_moved_on(
    repository: Repository, sequence: int, k: int, rows: Mapping[str, NDArray[np.int64]]
) -> bool:
    """Tell whether a state source has changed since a capture that was made after a rollback."""
    if repository.settings.source.kind != "state":
        return False
    later = newest_after(repository, sequence)
    if later is None:
        return False
    for name, now in rows.items():
        before = readable_rows(repository.captures(name), later)
        if before is not None and (before[..., DIGEST] != now[k][..., DIGEST]).any():
            return True
    return False
