"""Hindcast: how good would the shadow have been over a record, and how honest?

A replay does with the record what a repository would have done; what it predicts from some of the
captures is compared with what came.
"""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from gnomon.storage.errors import InvalidInput
from gnomon.storage.values.times import SECOND
from gnomon.tasks.forecasting import GATE, Specification, learn
from gnomon.tasks.hindcasting.replay import Issued, Replay
from gnomon.tasks.hindcasting.score import HindcastReport, Score, Scored
from gnomon.tasks.learning.cadence import distinct_slots, identify_cadence

__all__ = ["first_origin", "hindcast", "issue", "truth_of"]

FIRST = 0.7
"""Share of the record before the first origin."""
LEAST_CAPTURES = 8
"""Captures below which there is nothing to hindcast."""

Floats = NDArray[np.float64]
Progress = Callable[[str, int, int], None]


def hindcast(
    replay: Replay, *, origins: int = 30, progress: Progress | None = None
) -> HindcastReport:
    """Hindcasts over the last 30 % of a record, scored.

    Parameters
    ----------
    replay
        Before its first capture.
    origins
        Reference times, at most.
    progress
        Called with what is done, how much of it, and of how much.

    Raises
    ------
    InvalidInput
        Too few captures, or nothing could be forecast from them.
    """
    score = Score(replay)
    for scored in issue(replay, origins=origins, progress=progress):
        score.add(scored)
    return score.report()


def issue(
    replay: Replay, *, origins: int = 30, progress: Progress | None = None
) -> Iterator[Scored]:
    """Yield the forecasts from origins over the last 30 % of a record, beside what came."""
    count = len(replay.series.instants)
    first = first_origin(count)
    chosen = np.unique(np.linspace(first, count - 2, min(origins, count - 1 - first)).astype(int))
    believed: tuple[Floats, float] | None = None
    for position in range(first, int(chosen[-1]) + 1):
        is_origin = position in chosen
        replay.update(position)
        issued = replay.forecast() if is_origin else None
        if issued is not None:
            believed = believed or _believed(replay, issued.specification)
            yield Scored(issued, truth_of(replay, issued, believed[0]), believed[1])
        if progress is not None and is_origin:
            progress("hindcasts", int(np.searchsorted(chosen, position)) + 1, len(chosen))
    if believed is None:
        raise InvalidInput(
            "nothing could be forecast: every cell has fewer than 3 values; wait for more captures"
        )


def first_origin(captures: int) -> int:
    """Position of the first capture that a hindcast is made from."""
    if captures < LEAST_CAPTURES:
        raise InvalidInput(
            f"found {captures} captures, expected at least {LEAST_CAPTURES}; wait for more"
        )
    return int(FIRST * captures)


def _believed(replay: Replay, spec: Specification) -> tuple[Floats, float]:
    """Values (T, N), NaN where history itself does not believe them, and their share.

    That is damage: nobody can forecast it, and nobody should. It is looked for in hindsight, so
    that a change which lasts is no damage, though it was suspect when it came.
    """
    series = replay.series
    instants = series.instants[series.offset :]
    cadence = identify_cadence(instants, replay.calendar, replay.interval_s)
    distinct = distinct_slots(cadence, instants)
    everything = np.ones((len(distinct), len(series.starts) - 1), bool)
    learnt = learn(
        spec,
        np.array([cadence.slot(int(t)) for t in instants[distinct]]),
        instants[distinct] / SECOND,
        np.ascontiguousarray(series.values[distinct]),
        series.starts,
        trusted=everything,
        gated=everything,
    )
    doubted = learnt.p_values < GATE
    values = series.values.copy()
    chunks = np.repeat(doubted, np.diff(series.starts), axis=1)
    values[distinct] = np.where(chunks, np.nan, values[distinct])
    return values, float(doubted.mean())


def truth_of(replay: Replay, issued: Issued, values: Floats) -> Floats:
    """Return which values (H, N), of (T - offset, N), verify a forecast; NaN where nothing came."""
    rows = replay.positions_of(issued) - replay.series.offset
    # No row is a place to count from: of a long record it lies before the first one that is here.
    came = rows >= 0
    truth = np.full((len(rows), values.shape[1]), np.nan)
    truth[came] = values[rows[came]]
    return truth
