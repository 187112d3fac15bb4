"""Hindcasts of a source, without a repository: would its shadow be worth having?"""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from math import prod
from os import PathLike

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from gnomon.flows.settings import Settings
from gnomon.options import check_forecast
from gnomon.progress import Progress
from gnomon.storage.changes.era import settings_of
from gnomon.storage.errors import InvalidInput
from gnomon.storage.source.files.opening import read_numbers
from gnomon.storage.source.opening import open_source, source_path
from gnomon.storage.source.predicted import refuse_predicted
from gnomon.storage.source.states import read_states
from gnomon.storage.source.timeaxis import read_axis
from gnomon.storage.userpath import place_of
from gnomon.storage.values import model
from gnomon.tasks.capturing.sighting import judge
from gnomon.tasks.forecasting import Departures, registry, usable
from gnomon.tasks.forecasting.candidate import Candidate
from gnomon.tasks.hindcasting.hindcast import first_origin, issue
from gnomon.tasks.hindcasting.hindcast import hindcast as evaluate
from gnomon.tasks.hindcasting.replay import Replay, Series
from gnomon.tasks.hindcasting.score import HindcastReport, Score, Scored
from gnomon.tasks.learning.cadence import identify_cadence
from gnomon.tasks.learning.features import traits_of
from gnomon.tasks.learning.refit import window_length
from gnomon.tasks.work import SingleThreaded

__all__ = ["forecasts", "hindcast", "open_replay"]

CELLS = 2**14
"""Most cells that are hindcast; of a larger variable an even share of every chunk is taken."""
SPAN_BYTES = 2**27
"""Approximate size of what is read from the source at once."""


def hindcast(  # noqa: PLR0913 - what a user may settle, all keyword-only after the data
    source: str | PathLike[str],
    variable: str,
    *,
    origins: int = 30,
    leads: int | None = None,
    periods_s: Sequence[float] | None = None,
    interval_s: float | None = None,
    start: str | None = None,
    time: str | None = None,
    engine: str | None = None,
    group: str | None = None,
    chunks: dict[str, int] | None = None,
    candidates: Sequence[str | Candidate] = (),
    settings: Settings | None = None,
    progress: Progress | None = None,
) -> HindcastReport:
    """Replay what a repository would forecast over the last 30 % of a record, and score it.

    It learns the captures before as a backfill does.  Those after arrive one by one; it judges and
    learns them as updates do, with the same refits and rolls.

    Parameters
    ----------
    source
        Path or URL, as text or path; anything that xarray opens.
    variable
        Its name.
    origins
        Greatest number of reference times.
    leads
        Number of intervals ahead; default: 24 for hourly data, otherwise 6.
    periods_s
        Seasonal periods in seconds; default: found.
    interval_s
        Interval in seconds; default: found from the times.
    start
        Time of the first step of a source that only counts its steps.
    time, engine, group
        Name of the time dimension, xarray engine, and group; default: found.
    chunks
        Cells of a chunk by dimension; default: as in `create`.
    candidates
        Forecasting models beside the built-in ones: names of installed ones, or objects.
    settings
        `refit_share`; default: from the environment.
    progress
        Called with the name of the work, how much of it is done, and how much there is.

    Raises
    ------
    NotFound
        There is no such source or variable.
    InvalidInput
        The variable has no time dimension, too few times, or only missing values; or an option is
        outside its range.
    """
    with registry.for_now():
        replay = open_replay(
            source,
            variable,
            leads=leads,
            periods_s=periods_s,
            interval_s=interval_s,
            start=start,
            time=time,
            engine=engine,
            group=group,
            chunks=chunks,
            candidates=candidates,
            settings=settings,
            progress=progress,
        )
        return SingleThreaded(partial(evaluate, origins=origins, progress=progress))(replay)


def forecasts(
    replay: Replay, *, origins: int = 30, progress: Progress | None = None
) -> tuple[list[Scored], HindcastReport]:
    """Return the forecasts of a hindcast, each with what came, and the report on them."""

    def run(replay: Replay) -> tuple[list[Scored], HindcastReport]:
        score = Score(replay)
        scored = list(issue(replay, origins=origins, progress=progress))
        for forecast in scored:
            score.add(forecast)
        return scored, score.report()

    return SingleThreaded(run)(replay)


def open_replay(  # noqa: PLR0913 - what a user may settle, all keyword-only after the data
    source: str | PathLike[str],
    variable: str,
    *,
    leads: int | None = None,
    periods_s: Sequence[float] | None = None,
    interval_s: float | None = None,
    start: str | None = None,
    time: str | None = None,
    engine: str | None = None,
    group: str | None = None,
    chunks: dict[str, int] | None = None,
    candidates: Sequence[str | Candidate] = (),
    settings: Settings | None = None,
    progress: Progress | None = None,
) -> Replay:
    """Return what a hindcast replays: a repository of the variable alone, before any capture."""
    check_forecast(leads, periods_s, interval_s)
    names = registry.names(candidates)
    wanted = model.RepositorySettings(
        source=model.SourceSpec(source_path(place_of(source)), "append", time, engine, group),
        variables=(),
        created_at="",
        frame="",
        frame_entries={},
        periods_s=None if periods_s is None else tuple(periods_s),
        interval_s=interval_s,
        names=(variable,),
        chunk_sizes=dict(chunks or {}),
    )
    with open_source(wanted.source) as dataset:
        settled, *_ = settings_of(dataset, wanted, kind="append", start=start)
        axis = read_axis(dataset, settled)
        times, order = axis.instants, judge(axis, settled.calendar).order
        first = first_origin(len(order))
        if leads is None:
            cadence = identify_cadence(times[order], settled.calendar, interval_s)
            leads = 24 if cadence.interval_s <= 3600.0 else 6
        series = _read(dataset, settled.variable(variable), times, order, first, progress)
    if not np.isfinite(series.values).any():
        raise InvalidInput(
            f"{variable} has only missing values in this source; name another variable"
        )
    traits = replace(traits_of(settled, settled.variable(variable)), leads=leads, candidates=names)
    share = (settings or Settings()).refit_share
    return Replay(traits, series, settled.calendar, interval_s, share=share, judge=_suspect)


def _suspect(
    departed: Departures, values: NDArray[np.float64], starts: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Return which chunks the check of a capture would call implausible."""
    from gnomon.validations.actual import implausible

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # chunks without any value
        parts = np.split(values, starts[1:-1])
        spread = [float(np.nanstd(part)) for part in parts]
        size = [float(np.nanmax(np.abs(part))) for part in parts]
    return implausible(departed.p_value, departed.rms, spread, size)


def _read(
    dataset: xr.Dataset,
    variable: model.Variable,
    times: NDArray[np.int64],
    order: NDArray[np.intp],
    first: int,
    progress: Progress | None,
) -> Series:
    """Return all cells of a small variable, and an even share of each chunk of a large one.

    Read are the captures that the window of the first origin reaches back to, and those after.
    """
    grid, cells = variable.grid, prod(variable.shape)
    chunk_cells = prod(variable.chunks)
    kept = order[max(0, first + 1 - window_length(chunk_cells)) :]
    whole = cells <= CELLS
    each = chunk_cells if whole else max(1, CELLS // grid.size)
    stride = max(1, -(-grid.size // CELLS))
    columns: list[NDArray[np.float64]] = []
    blocks = list(grid.blocks())
    number = 0
    for done, block in enumerate(blocks):
        inner = list(grid.inner(block))
        chosen = [where for k, (_, _, where) in enumerate(inner) if (number + k) % stride == 0]
        number += len(inner)
        if chosen:
            columns += _histories(dataset, variable, kept, block.cells, chosen, each)
        if progress is not None:
            progress("reading", done + 1, len(blocks))
    if not whole:
        # Of land and the like nothing is predicted, and it would take the place of other cells.
        columns = [part[:, np.isfinite(part).any(axis=0)] for part in columns]
        columns = [part for part in columns if part.shape[1]] or [np.empty((len(kept), 1)) * np.nan]
    sizes = np.cumsum([0, *(part.shape[1] for part in columns)]).astype(np.int64)
    values = np.concatenate(columns, axis=1)
    return Series(times[order], values, sizes, cells, chunk_cells)


def _histories(
    dataset: xr.Dataset,
    variable: model.Variable,
    positions: NDArray[np.intp],
    region: tuple[slice, ...],
    chunks: list[tuple[slice, ...]],
    each: int,
) -> list[NDArray[np.float64]]:
    """Histories (time, cell) of some cells of each chunk of a region."""
    size = int(np.prod([s.stop - s.start for s in region])) * variable.numpy_dtype.itemsize
    span = max(1, SPAN_BYTES // max(1, size))
    parts: list[list[NDArray[np.float64]]] = [[] for _ in chunks]
    for start in range(0, len(positions), span):
        taken = [int(p) for p in positions[start : start + span]]
        refuse_predicted(dataset, variable, taken, region)  # only what was measured can judge
        raw = read_states(dataset, variable, taken, region)
        for part, cells in zip(parts, chunks, strict=True):
            where: tuple[slice, ...] = (slice(None), *cells)
            chunk = raw[where].reshape(len(taken), -1)
            pick = np.unique(
                np.linspace(0, chunk.shape[1] - 1, min(each, chunk.shape[1])).astype(int)
            )
            part.append(usable(read_numbers(dataset, variable, taken, chunk[:, pick])))
    return [np.concatenate(part) for part in parts]
