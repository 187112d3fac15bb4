"""Sighting: what the time axis of a source shows now: steps are good, doubted, or without time.

One bad step never stops the others: it is left out, told with its place and value, and taken once
it is mended, or once a person says that it is right.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from gnomon.storage.repository import Repository
from gnomon.storage.source.timeaxis import TimeAxis, read_axis
from gnomon.storage.values.believable import (
    DAY,
    among,
    clock_or_none,
    distance,
    distinct,
    doubtful,
    misplaced,
)
from gnomon.storage.values.times import format_instant

__all__ = ["LeftOut", "Sighting", "judge", "sight"]

MOST_TOLD = 8
"""Steps that are left out, of one reason, told one by one."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Steps of a source that are not captured, as their time is missing or not believed."""

    positions: tuple[int, ...]
    """Their places along time in the source."""
    value: str
    """The first one's time as the source tells it."""
    valid_time: str | None
    """The first one's valid time; None if it has none."""
    reason: str
    """Why."""

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form; of many positions the first, and how many there are."""
        document = asdict(self) | {"positions": list(self.positions[:MOST_TOLD])}
        return document | {"count": len(self.positions), "text": str(self)}

    def __str__(self) -> str:
        more = f" and {len(self.positions) - 1} more" if len(self.positions) > 1 else ""
        when = f", {self.valid_time}" if self.valid_time else ""
        return (
            f"step {self.positions[0]}{more} of the source (time {self.value}{when}) {self.reason}"
        )


@dataclass(frozen=True)
class Sighting:
    """The steps of a source."""

    axis: TimeAxis
    """All its times."""
    doubted: NDArray[np.bool_]
    """(T,) whether there is a time that is not believed."""
    calendar: str
    """Calendar of the instants."""
    captured: frozenset[int] = frozenset()
    """Doubted instants that were captured before they were doubted: they are told elsewhere."""

    @cached_property
    def good(self) -> NDArray[np.bool_]:
        """(T,) whether a step may be captured."""
        return ~self.axis.missing & ~self.doubted

    @cached_property
    def _sorted(self) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
        """Positions of the good steps and their instants, by instant, then by position."""
        places = np.flatnonzero(self.good)
        instants = self.axis.instants[places]
        if not (instants[1:] > instants[:-1]).all():
            order = np.argsort(instants, kind="stable")
            places, instants = places[order], instants[order]
        return places, instants

    @property
    def order(self) -> NDArray[np.intp]:
        """Positions of the good steps by time, of each time the first."""
        places, instants = self._sorted
        return places[_is_first(instants)]

    @property
    def times(self) -> NDArray[np.int64]:
        """Distinct instants of the good steps, increasing."""
        instants = self._sorted[1]
        return instants[_is_first(instants)]

    @property
    def twice(self) -> list[int]:
        """Instants that several good steps have."""
        instants = self._sorted[1]
        return [int(t) for t in distinct(instants[~_is_first(instants)])]

    def positions(self, instant: int) -> list[int]:
        """Return the positions of the good steps of an instant, in order."""
        places, instants = self._sorted
        start, stop = np.searchsorted(instants, [instant, instant + 1])
        return [int(k) for k in places[start:stop]]

    def left_out(self) -> tuple[LeftOut, ...]:
        """Return what is not captured, and why."""
        entries = []
        if missing := np.flatnonzero(self.axis.missing).tolist():
            entries.append(self._left_out(missing, "has no time"))
        doubted = [
            k
            for k in np.flatnonzero(self.doubted).tolist()
            if int(self.axis.instants[k]) not in self.captured
        ]
        entries += [self._left_out([k], self._why(k)) for k in doubted[: MOST_TOLD - 1]]
        if rest := doubted[MOST_TOLD - 1 :]:
            entries.append(self._left_out(rest, self._why(rest[0])))
        return tuple(entries)

    def _left_out(self, positions: list[int], reason: str) -> LeftOut:
        first = positions[0]
        when = None
        if not self.axis.missing[first]:
            when = format_instant(int(self.axis.instants[first]), self.calendar)
        return LeftOut(
            tuple(positions), str(self.axis.raw[first]), when, f"is left out: it {reason}"
        )

    def _why(self, position: int) -> str:
        return distance(
            int(self.axis.instants[position]), self.axis.instants[self.good], self.calendar
        )


def sight(repository: Repository, dataset: xr.Dataset, *, clock: int | None = None) -> Sighting:
    """Return the steps of an append source beside what was captured of it.

    Parameters
    ----------
    clock
        The time now, an instant of the repository's calendar; None: it is not asked.

    Raises
    ------
    InvalidInput
        The time coordinate is gone, or does not hold times.
    """
    state = repository.state
    axis = read_axis(dataset, repository.settings)
    captured = {step.instant: step.captured_at for step in state.timeline}
    sighting = judge(axis, repository.settings.calendar, captured, state.believed, clock=clock)
    return replace(sighting, captured=state.doubted)


def judge(
    axis: TimeAxis,
    calendar: str,
    captured: Mapping[int, str] = {},
    believed: frozenset[int] = frozenset(),
    *,
    clock: int | None = None,
) -> Sighting:
    """Return which steps of a time axis are believed.

    Parameters
    ----------
    captured
        Instants that were captured, and when, wall-clock.
    believed
        Instants that a person holds for true.
    clock
        The time now, an instant; None: it is not asked.
    """
    captured_instants = np.fromiter(captured, np.int64, len(captured))
    there = distinct(axis.instants[~axis.missing])
    every = distinct(np.concatenate([there, captured_instants[~among(captured_instants, there)]]))

    def fresh(places: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Tell which were, or would now be, captured within a day of their valid time."""
        near = []
        for instant in every[places].tolist():
            text = captured.get(instant)
            when = clock_or_none(text, calendar) if text else clock
            near.append(when is not None and abs(when - instant) <= DAY)
        return np.array(near, bool)

    apart = every[doubtful(every, now=clock, fresh=fresh)]
    doubted = np.zeros(axis.missing.shape, bool)
    if apart.size:
        doubted |= ~axis.missing & among(axis.instants, apart)
    order = np.flatnonzero(~axis.missing)
    doubted[order] |= misplaced(axis.instants[order])
    if doubted.any():
        true = np.fromiter(believed, np.int64, len(believed))
        doubted &= ~among(axis.instants, np.sort(np.concatenate([captured_instants, true])))
    return Sighting(axis, doubted, calendar)


def _is_first(ordered: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell which values are the first of their kind."""
    return np.append(np.ones(min(1, ordered.size), bool), ordered[1:] != ordered[:-1])
