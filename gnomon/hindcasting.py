"""Hindcasts of a source, without a repository: would its shadow be worth having?"""

from collections.abc import Sequence
from functools import partial

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from gnomon.maintenance import Progress
from gnomon.storage import model
from gnomon.storage.era import settings_of
from gnomon.storage.errors import InvalidInput
from gnomon.storage.source import instants, open_source, read_states, source_path
from gnomon.storage.times import SECOND
from gnomon.tasks.cadence import identify_cadence, year_seconds
from gnomon.tasks.features import distinct_slots
from gnomon.tasks.forecasting import Specification, identify, usable
from gnomon.tasks.forecasting.bounds import bounds
from gnomon.tasks.hindcast import Report, Series, first_origin
from gnomon.tasks.hindcast import hindcast as evaluate
from gnomon.tasks.work import SingleThreaded

__all__ = ["hindcast", "read_series"]

CELLS = 2**14
"""Cells that are hindcast, at most; of a larger variable an even share of every chunk."""
RESULT_BYTES = 2**29
"""Memory that the predictions of all origins, leads and candidates may take, about."""
BYTES_PER_CELL = 60 * 7 * 16
"""What one cell takes of it per lead."""
SPAN_BYTES = 2**27
"""What is read of the source in one go, about."""
SAMPLE = 400
"""Cells that periods and orders are identified on."""


def hindcast(  # noqa: PLR0913 - what a user may settle, all keyword-only after the data
    source: str,
    variable: str,
    *,
    origins: int = 30,
    leads: int | None = None,
    periods_s: Sequence[float] | None = None,
    interval_s: float | None = None,
    time: str | None = None,
    engine: str | None = None,
    group: str | None = None,
    progress: Progress | None = None,
) -> Report:
    """Hindcast a variable of a dataset over the last 30 % of its record.

    Parameters
    ----------
    source
        Path or URL; anything that xarray opens.
    variable
        Its name.
    origins
        Reference times, at most.
    leads
        How many intervals ahead; default: 24 for hourly data, 6 for other.
    periods_s
        Seasonal periods in seconds; default: found.
    interval_s
        Interval in seconds; default: found from the times.
    time, engine, group
        Name of the time dimension, xarray engine, and group; default: found.
    progress
        Called with what is done, how much of it, and of how much.

    Raises
    ------
    NotFound
        There is no such source or variable.
    InvalidInput
        The variable has no time dimension, too few times, or nothing but missing values.
    """
    spec, series = read_series(
        source,
        variable,
        leads=leads,
        periods_s=periods_s,
        interval_s=interval_s,
        time=time,
        engine=engine,
        group=group,
        progress=progress,
    )
    run = partial(evaluate, spec, origins=origins, progress=progress)
    return SingleThreaded(run)(series)


def read_series(  # noqa: PLR0913 - what a user may settle, all keyword-only after the data
    source: str,
    variable: str,
    *,
    leads: int | None = None,
    periods_s: Sequence[float] | None = None,
    interval_s: float | None = None,
    time: str | None = None,
    engine: str | None = None,
    group: str | None = None,
    progress: Progress | None = None,
) -> tuple[Specification, Series]:
    """Return what `hindcast` works on; the specification is that of the captures before."""
    if leads is not None and leads < 1:
        raise InvalidInput(f"leads is {leads}; it must be at least 1")
    wanted = model.Settings(
        source=model.SourceSpec(source_path(source), "append", time, engine, group),
        variables=(),
        created_at="",
        frame="",
        frame_entries={},
        names=(variable,),
    )
    with open_source(wanted.source) as dataset:
        settings, *_ = settings_of(dataset, wanted, kind="append")
        found = settings.variable(variable)
        times = instants(dataset, settings)
        order = np.argsort(times, kind="stable")
        cadence = identify_cadence(times[order], settings.calendar, interval_s)
        kept = order[distinct_slots(cadence, times[order])]
        if leads is None:
            leads = 24 if cadence.interval_s <= 3600.0 else 6
        most = min(CELLS, RESULT_BYTES // (BYTES_PER_CELL * leads))
        values, starts = _read(dataset, found, kept, most, progress)
    if not values.shape[1]:
        raise InvalidInput(f"{variable} is all missing in this source; name another variable")
    times_s = times[kept] / SECOND
    first = first_origin(len(kept))
    sample = values[:first, :: max(1, values.shape[1] // SAMPLE)]
    attributes = found.attributes
    spec = identify(
        times_s[:first],
        sample,
        interval_s=cadence.interval_s,
        leads=leads,
        year_s=year_seconds(settings.calendar),
        periods_s=None if periods_s is None else tuple(periods_s),
        bounds=bounds(
            found.bounds(),
            str(attributes.get("standard_name", "")),
            str(attributes.get("units", "")),
            sample,
        ),
        categorical=found.categorical,
    )
    slots = np.array([cadence.slot(int(t)) for t in times[kept]])
    return spec, Series(slots, times_s, values, starts)


def _read(
    dataset: xr.Dataset,
    variable: model.Variable,
    positions: NDArray[np.intp],
    most: int,
    progress: Progress | None,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Values (time, cell) of cells spread over the chunks that ever have any, and their starts."""
    grid = variable.grid
    each = max(1, most // grid.size)
    stride = max(1, -(-grid.size // most))
    columns: list[NDArray[np.float64]] = []
    blocks = list(grid.blocks())
    number = 0
    for done, block in enumerate(blocks):
        inner = list(grid.inner(block))
        chosen = [cells for k, (_, _, cells) in enumerate(inner) if (number + k) % stride == 0]
        number += len(inner)
        if chosen:
            columns += _histories(dataset, variable, positions, block.cells, chosen, each)
        if progress is not None:
            progress("reading", done + 1, len(blocks))
    columns = [part for part in columns if part.shape[1]]
    if not columns:
        return np.empty((len(positions), 0)), np.array([0])
    sizes = np.cumsum([0, *(part.shape[1] for part in columns)])
    return np.concatenate(columns, axis=1), sizes.astype(np.int64)


def _histories(
    dataset: xr.Dataset,
    variable: model.Variable,
    positions: NDArray[np.intp],
    region: tuple[slice, ...],
    chunks: list[tuple[slice, ...]],
    each: int,
) -> list[NDArray[np.float64]]:
    """Histories (time, cell) of some cells of each chunk of a region, without those never there."""
    size = int(np.prod([s.stop - s.start for s in region])) * variable.numpy_dtype.itemsize
    span = max(1, SPAN_BYTES // max(1, size))
    parts: list[list[NDArray[np.float64]]] = [[] for _ in chunks]
    for start in range(0, len(positions), span):
        taken = [int(p) for p in positions[start : start + span]]
        raw = read_states(dataset, variable, taken, region)
        for part, cells in zip(parts, chunks, strict=True):
            where: tuple[slice, ...] = (slice(None), *cells)
            chunk = raw[where].reshape(len(taken), -1)
            pick = np.unique(
                np.linspace(0, chunk.shape[1] - 1, min(each, chunk.shape[1])).astype(int)
            )
            part.append(usable(variable.to_physical(chunk[:, pick])))
    whole = [np.concatenate(part) for part in parts]
    return [part[:, np.isfinite(part).any(axis=0)] for part in whole]
