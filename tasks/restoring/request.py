"""What a user asks for: one state, or those of a period, and what part of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypedDict, Unpack

from gnomon.storage.values.grid import Index
from gnomon.tasks.restoring.locate import Match
from gnomon.tasks.restoring.selection import ALL_OF_IT, Region, Wanted

__all__ = ["StateOptions", "StateRequest"]


class StateOptions(TypedDict, total=False):
    """Options of every call that gives a state: which one of a time it is, and what part of it."""

    match: Match
    """What to do if no state has that time: ``exact``, the default, refuses, or estimates it from
    the captures around it if predictions are accepted; ``nearest`` takes the nearest state,
    ``before`` the last one before."""
    kind: str | None
    """Kind of restore point, as `points` lists it; default: the best."""
    capture: int | None
    """Number of the capture to take, if a time has several; `points` shows them."""
    variable: str | Sequence[str]
    """Names of the variables to give, with the coordinates and others that they refer to; default:
    all."""
    region: Region | None
    """Part of the grid by coordinate values, both ends included: ``"lat=10:20,lon=-5:5"`` or
    ``{"lat": (10, 20)}``.  Ends may come in either order; longitudes go around, and of two in
    descending order the shorter way is meant.  Along a dimension without coordinate it is given by
    position.  Nothing else is read, verified, healed or written."""
    chunk: str | Index | Sequence[str | Index]
    """Instead of `region`, indices of chunks on the chunk grid, ``"3,4"`` or ``"sst:3,4"``, or
    several: the smallest region that holds them."""


@dataclass(frozen=True, slots=True)
class StateRequest:
    """A state of a time, or the states of a period, and what is wanted of them."""

    at: str | None = None
    """Time, ISO 8601, as partial as is unique; None: a period, or no time at all."""
    from_: str | None = None
    """Begin of the period, included; None: the first state, if there is an end."""
    until: str | None = None
    """End of the period, included; None: the last state, if there is a begin."""
    match: Match = "exact"
    """What to do if no state has that time."""
    kind: str | None = None
    """Kind of restore point; None: the best."""
    capture: int | None = None
    """Number of the capture; None: that which stands."""
    accept_predicted: bool = False
    """Whether estimated cells are allowed."""
    wanted: Wanted = ALL_OF_IT
    """What of each state: what is suspect or predicted elsewhere does not count."""

    @classmethod
    def of(
        cls,
        at: str | None = None,
        *,
        from_: str | None = None,
        until: str | None = None,
        accept_predicted: bool = False,
        **options: Unpack[StateOptions],
    ) -> "StateRequest":
        """Read what a user gives.

        Raises
        ------
        InvalidInput
            Region or chunks cannot be read, or both were given.
        """
        which: dict[str, Any] = dict(options)
        part = {name: which.pop(name) for name in ("variable", "region", "chunk") if name in which}
        wanted = Wanted.of(**part)
        return cls(at, from_, until, accept_predicted=accept_predicted, wanted=wanted, **which)

    @property
    def names_time(self) -> bool:
        """Whether there is a time or a period."""
        return not (self.at is None and self.from_ is None and self.until is None)
