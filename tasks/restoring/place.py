"""Where a time lies among the slots of the cadence, and what is known there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gnomon.storage.repository import Repository
from gnomon.storage.values.times import SECOND
from gnomon.tasks.interpolating.gap import Gap
from gnomon.tasks.learning.cadence import Cadence

__all__ = ["Place"]


@dataclass(frozen=True, slots=True)
class Place:
    """A time on a slot, or between two."""

    slots: tuple[int, ...]
    """The slot that the time is on, or the two that it is between."""
    instants: tuple[int, ...]
    """Their times: of a captured one, that of the capture."""
    share: float
    """How far it is from the first to the second, 0 to 1."""
    missing: tuple[int, ...]
    """Those of the slots of which there is neither a capture nor a prediction."""
    shadow: str | None
    """Id of the shadow that predicts some of them, or ends before them."""
    leads: tuple[tuple[int, int], ...]
    """Which of them it predicts, and at which lead."""
    last: tuple[int, int] | None
    """Slot and number of that shadow's last lead, where a slot is beyond it."""
    hidden: frozenset[int]
    """Times of captures that must not be looked at: those of the time itself."""

    @classmethod
    def of(cls, repository: Repository, cadence: Cadence, instant: int) -> Place:
        """Return the place of a time."""
        timeline = repository.timeline
        guess = cadence.slot(instant)
        low, high = cadence.instant(guess - 3), cadence.instant(guess + 3)
        captured = {
            cadence.slot(s.instant): s.instant
            for s in reversed(timeline)
            if low <= s.instant <= high
        }
        times = {k: captured.get(k, cadence.instant(k)) for k in range(guess - 2, guess + 3)}
        if instant in times.values():
            slots: tuple[int, ...] = (next(k for k, t in times.items() if t == instant),)
        else:
            first = max(k for k, t in times.items() if t < instant)
            slots = (first, first + 1)
        instants = tuple(times[k] for k in slots)
        share = 0.0
        if len(slots) == 2:
            share = (instant - instants[0]) / max(1, instants[1] - instants[0])
        # Of the time itself, a capture is what is to be estimated.
        hidden = frozenset({instant} & set(captured.values()))
        shadow, leads, final = _predicted(repository, cadence, instant, slots)
        known = {k for k, t in captured.items() if t not in hidden} | {k for k, _ in leads}
        missing = tuple(k for k in slots if k not in known)
        return cls(slots, instants, share, missing, shadow, leads, final, hidden)

    def time_s(self, slot: int) -> float:
        """Return the time of one of its slots, seconds."""
        return dict(zip(self.slots, self.instants, strict=True))[slot] / SECOND

    def gap(self, slot: int, known: NDArray[np.int64]) -> Gap:
        """Return where a slot lies among those that are known, int64 (T,), increasing."""
        before, after = known[known < slot], known[known > slot]
        return Gap(
            int(slot - before[-1]) if len(before) else None,
            int(after[0] - slot) if len(after) else None,
        )


def _predicted(
    repository: Repository, cadence: Cadence, instant: int, slots: tuple[int, ...]
) -> tuple[str | None, tuple[tuple[int, int], ...], tuple[int, int] | None]:
    """Return the newest shadow, which slots it predicts at which lead, and where it ends before."""
    last = repository.timeline[-1].instant
    if instant <= last or not repository.shadows:
        return None, (), None
    shadow = repository.shadows[-1]
    if shadow.reference != last or not shadow.instants:
        return None, (), None
    leads = {cadence.slot(t): lead for lead, t in enumerate(shadow.instants, start=1)}
    found = tuple((slot, leads[slot]) for slot in slots if slot in leads)
    end = max(leads.items())
    return shadow.id, found, end if end[0] < slots[-1] else None
