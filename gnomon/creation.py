"""Making a repository: what is protected, with options checked before anything is kept."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import inf
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from gnomon.description import SourceDescription, describe_dataset
from gnomon.options import check_forecast
from gnomon.repository import GnomonRepository, utc
from gnomon.storage.changes.era import settings_of
from gnomon.storage.errors import Conflict, InvalidInput, NotFound
from gnomon.storage.log.credentials import refuse_in_source
from gnomon.storage.log.location import Location
from gnomon.storage.repository import Repository
from gnomon.storage.source.describing import NothingThere
from gnomon.storage.source.files.opening import keep_index, read_numbers
from gnomon.storage.source.groups import groups_beside
from gnomon.storage.source.identify import told_groups
from gnomon.storage.source.objects import objects_of
from gnomon.storage.source.opening import open_source, source_path
from gnomon.storage.source.predicted import refuse_all_predicted
from gnomon.storage.source.states import read_state
from gnomon.storage.userpath import place_of
from gnomon.storage.values import model

__all__ = ["check_place", "create", "describe", "make", "prepared", "refuse_inside"]


LOOKED_AT = 4
"""First and last rows of the objects of a Zarr source in which a value is looked for."""


def create(
    path: str | PathLike[str],
    source: str | PathLike[str],
    *,
    kind: model.Kind | None = None,
    variables: Sequence[str] = (),
    time: str | None = None,
    engine: str | None = None,
    group: str | None = None,
    branch: str | None = None,
    tag: str | None = None,
    snapshot: str | None = None,
    chunks: Mapping[str, int] | None = None,
    leads: int = 6,
    periods_s: Sequence[float] | None = None,
    interval_s: float | None = None,
    start: str | None = None,
    tolerances: Mapping[str, float] | None = None,
) -> GnomonRepository:
    """Make a repository for a source; it captures nothing yet.

    Parameters
    ----------
    path
        Where the repository will live: an empty or new folder, as text or path, or an object-store
        URL, as text.
    source
        Path or URL of the dataset to protect; anything that xarray opens, or a folder or a pattern
        of NetCDF, HDF5 or GRIB files, which are one source.  A path may be a `pathlib.Path`; a
        relative one is kept as an absolute one.  A URL is text; credentials belong in the
        environment, not in it.
    kind
        ``append`` (has a time dimension) or ``state`` (overwritten in place); default: found.
    variables
        What to protect; default: every numeric variable that changes with time.
    time, engine, group
        Name of the time dimension or of the coordinate that holds the times, xarray engine, and
        group; default: found.
    branch, tag, snapshot
        For an Icechunk repository, the state that is the source; default: the branch ``main``.
    chunks
        Cells of a chunk by dimension; default: the source's chunks, split if there are few.
    leads
        Number of capture intervals to predict.
    periods_s
        Seasonal periods in seconds; default: day and year where the data can show them.
    interval_s
        Capture interval in seconds; default: found from the captures.
    start
        Time of the first step, for a source that only counts its steps; they are `interval_s`
        apart.
    tolerances
        RMSE that you can live with, by variable and in its units; default: the usual change over
        one capture interval.

    Raises
    ------
    NotFound
        There is no such source or variable.
    InvalidInput
        The source has nothing that can be protected, or is a prediction itself, an option makes no
        sense, or a URL contains a secret.
    Conflict
        The place for the repository is not empty.
    """
    path, source = place_of(path), source_path(place_of(source))
    check_place(path, source)
    with prepared(
        source,
        kind=kind,
        variables=variables,
        time=time,
        engine=engine,
        group=group,
        branch=branch,
        tag=tag,
        snapshot=snapshot,
        chunks=chunks,
        leads=leads,
        periods_s=periods_s,
        interval_s=interval_s,
        start=start,
        tolerances=tolerances,
    ) as ready:
        return make(path, *ready)


def make(
    path: str,
    settings: model.RepositorySettings,
    frame: xr.Dataset,
    description: SourceDescription,
    dataset: xr.Dataset,
) -> GnomonRepository:
    """Make a repository from what :func:`prepared` gives, in a place that was checked."""
    repository = Repository.create(path, settings, frame, utc())
    keep_index(dataset, repository.location, settings.source)
    return GnomonRepository(repository, description)


def describe(source: str | PathLike[str], **options: Any) -> SourceDescription:
    """Return what :func:`create` would take of a source, and why; the options are the same.

    Nothing is made.  It raises the errors that `create` would raise.
    """
    with prepared(source_path(place_of(source)), **options) as (_, _, description, _):
        return description


@contextmanager
def prepared(
    source: str,
    *,
    kind: model.Kind | None = None,
    variables: Sequence[str] = (),
    leads: int = 6,
    periods_s: Sequence[float] | None = None,
    interval_s: float | None = None,
    start: str | None = None,
    chunks: Mapping[str, int] | None = None,
    tolerances: Mapping[str, float] | None = None,
    beside: Mapping[str, tuple[str, ...]] | None = None,
    **place: str | None,
) -> Iterator[tuple[model.RepositorySettings, xr.Dataset, SourceDescription, xr.Dataset]]:
    """Give settings and frame of a source, its description, and the source, which is open.

    Parameters
    ----------
    beside
        Groups to describe as left out, and their variables; None: all but this one.
    place
        Fields of `SourceSpec`: time, engine, group, branch, tag, snapshot.
    """
    check_forecast(leads, periods_s, interval_s)
    spec = model.SourceSpec(source, kind or "append", **place)
    refuse_in_source(spec)
    wanted = model.RepositorySettings(
        source=spec,
        variables=(),
        created_at="",
        frame="",
        frame_entries={},
        leads=leads,
        periods_s=None if periods_s is None else tuple(periods_s),
        tolerances=dict(tolerances or {}),
        interval_s=interval_s,
        names=tuple(variables),
        chunk_sizes=dict(chunks or {}),
    )
    with open_source(spec) as dataset:
        groups = dict(groups_beside(spec) if beside is None else beside)
        try:
            settings, frame, described = settings_of(dataset, wanted, kind=kind, start=start)
        except NothingThere as error:
            if not groups:
                raise
            raise InvalidInput(
                f"{error}; or one of its groups with --group: {told_groups(groups)}"
            ) from error
        for variable in settings.variables:
            refuse_all_predicted(dataset, variable.name)
        _refuse_empty(dataset, settings)
        _check_tolerances(settings, tolerances or {})
        yield settings, frame, describe_dataset(dataset, settings, described, groups), dataset


def _check_tolerances(settings: model.RepositorySettings, tolerances: Mapping[str, float]) -> None:
    forecast = {v.name for v in settings.variables if v.forecast}
    for name, tolerance in tolerances.items():
        if name not in forecast:
            raise NotFound(
                f"a tolerance is given for {name!r}, which is not forecast; forecast are: "
                f"{', '.join(sorted(forecast))}"
            )
        if not 0 < tolerance < inf:
            raise InvalidInput(
                f"the tolerance of {name} is {tolerance}; it must be finite and above 0"
            )


def check_place(path: str, source: str) -> None:
    """Refuse a place for a repository that is inside its source, or not empty.

    Raises
    ------
    InvalidInput
        The place is inside the source.
    Conflict
        The place is not empty.
    """
    refuse_inside(path, source)
    location = Location(path)
    if not location.is_vacant():
        raise Conflict(f"{location.url} is not empty; choose an empty place for the repository")


def refuse_inside(path: str, source: str) -> None:
    """Refuse a repository that is inside its source."""
    place, source = Location(path).path, source_path(source)
    inside = place is not None and place.resolve().is_relative_to(Path(source).resolve())
    if inside and Path(source).is_dir():
        raise InvalidInput(f"{path} is inside the source; choose a place elsewhere")


def _refuse_empty(dataset: xr.Dataset, settings: model.RepositorySettings) -> None:
    """Refuse a variable without any value in the steps that are looked at, where others have some.

    A store in which nothing has any value is laid out, and not filled yet.
    """
    forecast = [v for v in settings.variables if v.forecast]
    empty = [v.name for v in forecast if not _has_any(dataset, settings, v)]
    if empty and (len(empty) < len(forecast) or settings.source.time is None):
        raise InvalidInput(
            f"{empty[0]} has only missing values in this source; "
            "leave it out by naming the others with --variable"
        )


def _has_any(
    dataset: xr.Dataset, settings: model.RepositorySettings, variable: model.Variable
) -> bool:
    """Return whether a variable has a value in the first, middle or last step, or a written one."""
    positions: Sequence[int | None] = [None]
    if settings.source.time is not None:
        size = dataset.sizes[settings.source.time]
        objects = objects_of(settings.source, variable)
        rows = sorted((objects.rows() or ()) if objects is not None else ())
        rows = rows[:LOOKED_AT] + rows[-LOOKED_AT:]
        written = [row * objects.steps for row in rows] if objects else []
        positions = sorted(p for p in {0, size // 2, size - 1, *written} if 0 <= p < size)
        if not positions:
            return True
    return any(
        np.isfinite(_numbers_at(dataset, variable, p, b.cells)).any()
        for p in positions
        for b in variable.grid.blocks()
    )


def _numbers_at(
    dataset: xr.Dataset, variable: model.Variable, position: int | None, cells: tuple[slice, ...]
) -> NDArray[np.float64]:
    state = read_state(dataset, variable, position, cells)
    return read_numbers(dataset, variable, [position], state[np.newaxis])
