"""When a variable is learnt anew, and from what: plain numbers, without a repository.

A repository and a hindcast decide and learn with the same functions, so that the one is what the
other says of it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from gnomon.storage.values.grid import Index
from gnomon.storage.values.times import SECOND
from gnomon.tasks.forecasting import Outlook, Specification, choose, fit_outlook, identify
from gnomon.tasks.forecasting.bounds import bounds
from gnomon.tasks.learning.cadence import MIN_CAPTURES, Cadence

__all__ = [
    "CHEAP",
    "MOST_ROLLED",
    "REFIT_SHARE",
    "Kept",
    "Traits",
    "due",
    "fit_sample",
    "is_cheap",
    "sampled_cells",
    "sampled_chunks",
    "window_length",
]

MAX_WINDOW = 512
"""Captures that a refit reads at most."""
WINDOW_BYTES = 2**28
"""Memory that one chunk's window may take, as float64."""
SAMPLE_CHUNKS = 16
SAMPLE_CELLS = 64
"""Cells of each sampled chunk whose histories are looked at."""
DRIFTED_SHARE = 0.2
"""Share of chunks that have drifted, above which everything is learnt anew."""
GROWTH = 1.5
"""A refit is due when the captures have grown by this factor since the last one."""
LEAST_GROWTH = 8
"""Captures between two refits, at least, unless something else forces one."""
CHEAP = "a refit takes but a moment of the capture interval"
"""Why a variable is learnt anew though nothing makes it due."""
REFIT_SHARE = 0.005
"""Share of the capture interval that refits may take to be made whenever there is a little more to
learn from."""
FRESH = 1.06
"""By what factor the captures must have grown for that.  A refit writes a whole state, and takes
seconds that a roll does not; with refits at every capture forecasts were no better."""
CHOSEN = 10.0
"""Times that share which candidates of the user's choice may take besides: whoever chooses one
pays for it. When they counted with the rest, ERA5 lost its hourly refits, and 3 % of its skill."""
LONGEST_REFIT_S = 30.0
"""Seconds that they may take then, however long the interval is: a person may be waiting."""
SAMPLE_S = 10.0
"""Seconds that a refit of one variable takes for periods, orders and hindcasts, at most, about."""
MOST_ROLLED = 5
"""Captures that are learnt on top of a written state, at most. Each is read and learnt again by
every step of an update, and a state takes some ten bytes a cell to write: with more of them updates
write less and take longer."""
CELLS_PER_S = 4e6
"""Captured cells that a refit reads and learns in a second, about: half of what two cores do."""

RECALLED = 8
"""Captures before the last one that was learnt which are looked at for a variable that never
changed: it may have done so while a few were missing."""
CHANGED = "it changed for the first time"
"""Why a variable that never changed before is learnt anew."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Traits:
    """What is settled of a variable before anything is learnt of it."""

    leads: int
    """Capture intervals to predict."""
    year_s: float
    """Length of a year in the calendar, seconds."""
    periods_s: tuple[float, ...] | None = None
    """Seasonal periods in seconds; None: found."""
    declared: tuple[float | None, float | None] = (None, None)
    """Declared valid range."""
    standard_name: str = ""
    units: str = ""
    """CF attributes; empty where there are none."""
    categorical: bool = False
    """Whether values are labels."""
    tolerance: float | None = None
    """RMSE in the variable's units that the user can live with; None: found."""
    resolution: float = 0.0
    """Least difference of two values, variable's units; 0 if there is none."""
    candidates: tuple[str, ...] = ()
    """Names of candidates beside the built-in ones."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What the last refit of a variable left behind, as far as the next one depends on it."""

    captures: int
    """How many captures there were."""
    drifted: float
    """Share of the chunks that have drifted since."""


def window_length(chunk_cells: int) -> int:
    """Return how many captures a refit reads of a variable with chunks of so many cells."""
    return min(MAX_WINDOW, max(32, WINDOW_BYTES // (8 * chunk_cells)))


def is_cheap(
    read: int,
    interval_s: float,
    *,
    variables: int = 1,
    candidates_s: float = 0.0,
    share: float = REFIT_SHARE,
) -> bool:
    """Tell whether refits are cheap beside the capture interval, so that they are made often.

    Parameters
    ----------
    read
        Captured cells that refits read, of all variables.
    interval_s
        Seconds between captures.
    variables
        How many variables there are: each is sampled, and its orders are searched for.
    candidates_s
        Seconds that a refit of one variable spends on candidates beside the built-in ones.
    share
        Share of the interval that refits may take; 0: none is cheap.

    Notes
    -----
    The cost is an estimate from sizes, not a measurement: when a repository learns anew must not
    depend on how busy a machine was, or a hindcast could not tell of it beforehand.
    """
    least = min(share * interval_s, LONGEST_REFIT_S)
    own_s, chosen_s = SAMPLE_S * variables + read / CELLS_PER_S, candidates_s * variables
    return own_s <= least and chosen_s <= min(CHOSEN * share * interval_s, 2 * LONGEST_REFIT_S)


def due(kept: Kept, captures: int, is_cheap: Callable[[], bool]) -> str | None:
    """Return why a variable is learnt anew when there are so many captures; None: it is not.

    Parameters
    ----------
    is_cheap
        Tells whether refits are cheap beside the capture interval.
    """
    if captures >= kept.captures + LEAST_GROWTH:
        if captures >= kept.captures * GROWTH:
            return f"captures grew from {kept.captures} to {captures}"
        if kept.drifted > DRIFTED_SHARE:
            return f"{kept.drifted:.0%} of the chunks have drifted from what was learnt"
    return CHEAP if captures >= FRESH * kept.captures and is_cheap() else None


def sampled_chunks(indices: list[Index], has_values: Callable[[Index], bool]) -> list[Index]:
    """Return chunks spread over a variable; those with values now, unless there are none."""
    if len(indices) <= SAMPLE_CHUNKS:
        return indices
    # In an order that spreads from the start, so that few are read where all have values.
    stride = len(indices) // SAMPLE_CHUNKS
    spread = [index for k in range(stride) for index in indices[k::stride]]
    return list(islice(filter(has_values, spread), SAMPLE_CHUNKS)) or spread[:SAMPLE_CHUNKS]


def sampled_cells(cells: int) -> NDArray[np.int64]:
    """Return which cells of a sampled chunk are looked at."""
    return np.unique(np.linspace(0, cells - 1, min(cells, SAMPLE_CELLS)).astype(np.int64))


def fit_sample(
    traits: Traits,
    cadence: Cadence,
    instants: NDArray[np.int64],
    values: Floats,
    starts: NDArray[np.int64],
    *,
    trusted: NDArray[np.bool_],
    gated: NDArray[np.bool_],
) -> tuple[Specification, Outlook] | None:
    """Return how a variable is forecast, learnt from a sample; None while it has too few values.

    Parameters
    ----------
    traits
        What is settled beforehand.
    cadence
        The grid of capture times.
    instants
        int64 (T,), of the window's captures, one per slot.
    values
        float64 (T, S), variable's units, of the sampled cells; NaN where missing or not trusted.
    starts
        int64 (G + 1,), first cell of each sampled chunk, and S.
    trusted, gated
        bool (T, G): captured chunks that may be learnt, and those that are not if they depart too
        far.
    """
    if np.isfinite(values).sum(axis=0).max(initial=0) < MIN_CAPTURES:
        return None
    times_s = instants / SECOND
    specification = identify(
        times_s,
        np.where(np.repeat(trusted, np.diff(starts), axis=1), values, np.nan),
        interval_s=cadence.interval_s,
        leads=traits.leads,
        year_s=traits.year_s,
        periods_s=traits.periods_s,
        bounds=bounds(traits.declared, traits.standard_name, traits.units, values),
        tolerance=traits.tolerance,
        resolution=traits.resolution,
        categorical=traits.categorical,
    )
    specification = choose(specification, traits.candidates)
    slots = np.array([cadence.slot(int(t)) for t in instants])
    return fit_outlook(specification, slots, times_s, values, starts, trusted=trusted, gated=gated)
