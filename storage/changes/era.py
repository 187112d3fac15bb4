"""Eras: going on with a source whose grid, types or variables have changed.

What was captured before stays as it is, on its own grid; a record says how the source looks from
now on, and captures, shadows and numbers begin anew.
"""

from dataclasses import replace

import xarray as xr

from gnomon.storage.changes.observed import check_source, differs
from gnomon.storage.errors import GnomonError, InvalidInput
from gnomon.storage.log.bodies.source import EraBody
from gnomon.storage.log.credentials import refuse_in_source
from gnomon.storage.repository import Repository
from gnomon.storage.source.axes import Counting, time_variable
from gnomon.storage.source.describing import Contents, describe
from gnomon.storage.source.files.index import SourceMemory
from gnomon.storage.source.files.opening import is_as_at_init
from gnomon.storage.source.opening import open_source
from gnomon.storage.source.timeaxis import read_axis
from gnomon.storage.stacks.fixed import encode_frame
from gnomon.storage.values.model import Kind, RepositorySettings
from gnomon.storage.values.times import EPOCH, SECOND

__all__ = ["begin_era", "settings_of"]


def settings_of(
    dataset: xr.Dataset, wishes: RepositorySettings, *, kind: Kind | None, start: str | None = None
) -> tuple[RepositorySettings, xr.Dataset, Contents]:
    """Return how a source looks, with a user's wishes: settings, frame, and what is told of it.

    Parameters
    ----------
    wishes
        Source, names, chunk sizes, leads, periods, interval and tolerances.
    kind
        ``append`` or ``state``; None: found.
    start
        Time of the first step, of a source that only counts its steps.

    Raises
    ------
    NotFound
        A named variable is not in the source.
    InvalidInput
        Nothing in it can be protected.
    """
    interval_us = None if wishes.interval_s is None else round(wishes.interval_s * SECOND)
    contents = describe(
        dataset,
        wishes.source,
        kind=kind,
        names=wishes.names,
        chunks=wishes.chunk_sizes,
        counting=None if start is None else Counting(start, interval_us),
        form=wishes.time_form,
    )
    settings = replace(
        wishes,
        source=contents.spec,
        variables=contents.variables,
        frame="",
        frame_entries={},
        attributes={str(k): v for k, v in dataset.attrs.items()},
        dims={str(d): n for d, n in dataset.sizes.items() if d != contents.spec.time},
        time_attributes={},
        time_dtype="<i8",
        time_form=contents.time_form,
    )
    coordinate = time_variable(dataset, contents.spec) if contents.spec.time is not None else None
    if coordinate is not None and settings.adds_times:
        added = {"standard_name": "time", "units": EPOCH, "calendar": settings.calendar}
        settings = replace(settings, time_attributes=added)
    elif coordinate is not None:
        dtype = coordinate.dtype.newbyteorder("<").str
        settings = replace(settings, time_attributes=dict(coordinate.attrs), time_dtype=dtype)
    frame = xr.Dataset({name: dataset.variables[name] for name in contents.frame})
    return settings, frame, contents


def begin_era(repository: Repository, committed_at: str) -> Repository:
    """Describe the source anew and return the repository in its new era.

    Raises
    ------
    InvalidInput
        The source is what it was, and has no new variable, so that no new era is needed; or its
        URL holds a secret, which would be stored once more.
    Conflict
        Another writer was first; nothing was changed.
    """
    refuse_in_source(repository.settings.source)
    with open_source(repository.settings.source, SourceMemory(repository.location)) as dataset:
        settings, frame, _ = settings_of(
            dataset, repository.settings, kind=repository.settings.source.kind
        )
        if _is_as_before(dataset, repository, settings):
            raise InvalidInput("the source is what it was at init; no new era is needed")
        settings = replace(settings, created_at=committed_at)
        settings, files = encode_frame(settings, frame, len(repository.records))
    for name, data in files.items():
        repository.location.create(name, data)
    repository.location.flush(files)
    return repository.commit(EraBody(settings), committed_at)


def _is_as_before(
    dataset: xr.Dataset, repository: Repository, settings: RepositorySettings
) -> bool:
    """Tell whether a source has the grid and the meaning, and no variable that is not captured."""
    before = repository.settings
    try:
        check_source(dataset, repository.frame, before)
        if not is_as_at_init(dataset, before):
            return False
        if before.source.time is not None:
            read_axis(dataset, before)
    except GnomonError:
        return False
    if differs(dataset, repository):
        return False
    return {v.name for v in settings.variables} == {v.name for v in before.variables}
