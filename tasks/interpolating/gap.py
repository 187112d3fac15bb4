"""Gaps: where in time an estimate lies among what is known, and known captures in such a place.

A trial hides captures that are known, in the past, as the ones of a gap are hidden, and estimates
one of them.  What is fitted for it knows nothing of those that are hidden.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

type Ints = NDArray[np.int64]

MOST_TRIALS = 48
"""Trials, at most, spread over the record: more add little to the error bars."""
FOLDS = 12
"""Groups of neighbouring trials that are hidden together: each costs a fit of everything."""
LEAST_LEARNT = 1 / 3
"""Share of the record before the first trial that knows one side alone."""
LEAST_TRIALS = 4
"""Trials below which those of a smaller gap are taken: fewer say nothing of an error."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Where an estimate lies: slots from the captures that it rests on."""

    before: int | None
    """Slots from the last capture before, >= 1; None: nothing before is known."""
    after: int | None
    """Slots to the first capture after, >= 1; None: nothing after is known."""

    @property
    def is_open(self) -> bool:
        """Whether only one side is known."""
        return self.before is None or self.after is None

    def variance(self) -> float:
        """Variance of a random walk in the place, over that of one slot."""
        if self.before is None or self.after is None:
            return float((self.before or 0) + (self.after or 0))
        return self.before * self.after / (self.before + self.after)

    def shrunk(self) -> Gap | None:
        """The same place in a gap that is a slot shorter; None if there is no shorter one."""
        sides = [side for side in (self.before, self.after) if side is not None]
        if max(sides) == 1:
            return None
        if self.before is not None and (self.after is None or self.before >= self.after):
            return Gap(self.before - 1, self.after)
        assert self.after is not None
        return Gap(self.before, self.after - 1)


@dataclass(frozen=True, slots=True)
class Trials:
    """Known captures that stand for those that are not."""

    gap: Gap
    """In which they are hidden."""
    rows: Ints
    """(O,) of the record."""
    folds: Ints
    """(O,) number of the group that each is hidden with."""
    known: NDArray[np.bool_]
    """(F, T) rows that may be fitted to, while a group is hidden."""


def rows_of(slots: Ints, wanted: Ints) -> Ints:
    """Rows (O,) of a record with increasing slots (T,); -1 where a slot was not captured."""
    place = np.minimum(np.searchsorted(slots, wanted), len(slots) - 1)
    return np.where(slots[place] == wanted, place, -1)


def trials_of(slots: Ints, gap: Gap) -> Trials:
    """Trials of a gap, or of the longest shorter one of which there are enough.

    There may be none.
    """
    tried: Gap | None = gap
    smallest = gap
    rows = np.empty(0, np.int64)
    while tried is not None:
        smallest, rows = tried, _places(slots, tried)
        if len(rows) >= LEAST_TRIALS:
            break
        tried = tried.shrunk()
    if len(rows) > MOST_TRIALS:
        rows = rows[np.linspace(0, len(rows) - 1, MOST_TRIALS).astype(np.intp)]
    count = max(1, min(FOLDS, len(rows)))
    folds = np.arange(len(rows)) * count // max(1, len(rows))
    known = np.ones((count if len(rows) else 0, len(slots)), bool)
    for fold in range(len(known)):
        inside = slots[rows[folds == fold]]
        low = inside[0] - (smallest.before or 0)
        high = inside[-1] + (smallest.after or 0)
        if smallest.after is None:
            # As a forecast: nothing after its reference time is known.
            known[fold] = slots <= low
        elif smallest.before is None:
            known[fold] = slots >= high
        else:
            known[fold] = (slots <= low) | (slots >= high)
    return Trials(smallest, rows, folds, known)


def _places(slots: Ints, gap: Gap) -> Ints:
    """Rows (O,) that have captures where the gap has its sides."""
    usable = np.ones(len(slots), bool)
    if gap.before is not None:
        usable &= rows_of(slots, slots - gap.before) >= 0
    if gap.after is not None:
        usable &= rows_of(slots, slots + gap.after) >= 0
    rows = np.flatnonzero(usable)
    if gap.after is None:
        rows = rows[rows_of(slots, slots[rows] - int(gap.before or 0)) >= LEAST_LEARNT * len(slots)]
    elif gap.before is None:
        last = (1.0 - LEAST_LEARNT) * len(slots)
        rows = rows[rows_of(slots, slots[rows] + gap.after) < last]
    return np.asarray(rows, np.int64)
