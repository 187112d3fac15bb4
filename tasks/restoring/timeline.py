"""Timeline: all that a repository can answer for, as the log has it, to be drawn."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gnomon.storage.errors import NotFound
from gnomon.storage.repository import Repository
from gnomon.tasks.restoring.known import at_lead, units_of

__all__ = ["Timeline", "charted", "timeline_of"]


@dataclass(frozen=True, slots=True)
class Timeline:
    """Times of captures by what they are, and the shadow of one variable."""

    variable: str
    """Its name."""
    units: str
    """Units of its errors; empty if it has none, 1 of labels."""
    calendar: str
    """Calendar of the instants."""
    captured: NDArray[np.int64]
    """Instants of captures without a suspect chunk, in order."""
    suspect: NDArray[np.int64]
    """Those of captures with suspect chunks."""
    revised: NDArray[np.int64]
    """Those of which there are further versions."""
    shadow: NDArray[np.int64]
    """Valid times of the newest shadow."""
    expected_error: NDArray[np.float64]
    """Its expected error at each of them, NaN where it is not known."""
    tolerance: float | None
    """Error that the user can live with; None if it is not known."""


def charted(repository: Repository, name: str | None) -> str:
    """Return the variable whose errors are drawn: the one that is named, or the first.

    Raises
    ------
    NotFound
        It is not forecast, or none is: there are no errors then.
    """
    names = [v.name for v in repository.settings.variables if v.forecast]
    if name in names or (name is None and names):
        return name or names[0]
    there = ", ".join(names) or "none"
    what = "no variable" if name is None else f"no variable {name!r} that"
    raise NotFound(f"{what} is forecast, so no errors can be drawn; forecast are: {there}")


def timeline_of(repository: Repository, name: str | None = None) -> Timeline:
    """Return the timeline of a repository; of earlier eras, those in the same calendar.

    Parameters
    ----------
    name
        Of the variable whose errors are expected; None: the first that is forecast.
    """
    variable, calendar = charted(repository, name), repository.settings.calendar
    eras = [repository.in_era(k) for k in range(repository.era)] + [repository]
    eras = [seen for seen in eras if seen.settings.calendar == calendar]
    steps = [step for seen in eras for step in seen.timeline]
    revisions = [s for seen in eras for s in seen.state.kept if s.revises is not None]
    latest = repository.shadows[-1] if repository.shadows else None
    entry = None if latest is None else latest.variables.get(variable)
    instants = latest.instants if latest is not None and entry is not None else ()
    errors = [
        at_lead(entry.expected_rmse, lead)
        for lead in range(1, len(instants) + 1)
        if entry is not None
    ]

    def times(instants: list[int]) -> NDArray[np.int64]:
        return np.unique(np.array(instants, np.int64))

    return Timeline(
        variable,
        units_of(repository)[variable],
        calendar,
        captured=times([s.instant for s in steps if not s.suspects]),
        suspect=times([s.instant for s in steps if s.suspects]),
        revised=times([s.instant for s in revisions]),
        shadow=np.array(instants, np.int64),
        expected_error=np.array([np.nan if e is None else e for e in errors], np.float64),
        tolerance=None if entry is None else float(entry.tolerance),
    )
