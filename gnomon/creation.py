"""Making a repository: what is protected, with options checked before anything is kept."""

from collections.abc import Mapping, Sequence
from math import inf
from pathlib import Path

import numpy as np
import xarray as xr

from gnomon.options import check_forecast
from gnomon.repository import GnomonRepository, utc
from gnomon.storage import model
from gnomon.storage.credentials import refuse_in_source
from gnomon.storage.era import settings_of
from gnomon.storage.errors import InvalidInput, NotFound
from gnomon.storage.files import keep_index, source_told
from gnomon.storage.location import Location
from gnomon.storage.repository import Repository
from gnomon.storage.source import open_source, read_state, source_path

__all__ = ["create"]


def create(
    path: str,
    source: str,
    *,
    kind: model.Kind | None = None,
    variables: Sequence[str] = (),
    time: str | None = None,
    engine: str | None = None,
    group: str | None = None,
    chunks: Mapping[str, int] | None = None,
    leads: int = 6,
    periods_s: Sequence[float] | None = None,
    interval_s: float | None = None,
    tolerances: Mapping[str, float] | None = None,
) -> GnomonRepository:
    """Make a repository for a source; captures nothing yet.

    Parameters
    ----------
    path
        Where the repository will live: an empty or new folder, or an object-store URL.
    source
        Path or URL of the dataset to protect; anything that xarray opens, or a folder or a pattern
        of NetCDF, HDF5 or GRIB files, which are one source.  A relative path is
        kept as an absolute one.  Credentials belong in the environment, not in a URL.
    kind
        ``append`` (has a time dimension) or ``state`` (overwritten in place); default: found.
    variables
        What to protect; default: every numeric variable that changes with time.
    time, engine, group
        Name of the time dimension, xarray engine, and group; default: found.
    chunks
        Cells of a chunk by dimension; default: the source's, split if it has few.
    leads
        How many capture intervals ahead are predicted.
    periods_s
        Seasonal periods in seconds; default: day and year where the data can show them.
    interval_s
        Capture interval in seconds; default: found from the captures.
    tolerances
        By variable, the RMSE that you can live with, in its units; default: the usual change
        over one capture interval.

    Raises
    ------
    NotFound
        There is no such source or variable.
    InvalidInput
        The source has nothing that can be protected, an option makes no sense, or a URL holds a
        secret.
    Conflict
        The place of the repository is not empty.
    """
    source = source_path(source)
    spec = model.SourceSpec(source, kind or "append", time, engine, group)
    refuse_in_source(spec)
    _check_options(path, source, leads, periods_s, interval_s)
    wanted = model.Settings(
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
        settings, frame, skipped = settings_of(dataset, wanted, kind=kind)
        _refuse_empty(dataset, settings)
        forecast = {v.name for v in settings.variables if v.forecast}
        for name, tolerance in (tolerances or {}).items():
            if name not in forecast:
                raise NotFound(f"tolerance for {name!r}, which is not forecast: {sorted(forecast)}")
            if not 0 < tolerance < inf:
                raise InvalidInput(
                    f"tolerance of {name} is {tolerance}; it must be above 0, and finite"
                )
        made = Repository.create(path, settings, frame, utc())
        keep_index(dataset, made.location, settings.source)
        taken = source_told(dataset)
    return GnomonRepository(made, skipped, taken)


def _check_options(
    path: str,
    source: str,
    leads: int,
    periods_s: Sequence[float] | None,
    interval_s: float | None,
) -> None:
    check_forecast(leads, periods_s, interval_s)
    place = Location(path).path
    inside = place is not None and place.resolve().is_relative_to(Path(source).resolve())
    if inside and Path(source).is_dir():
        raise InvalidInput(f"{path} is inside the source; choose a place elsewhere")


def _refuse_empty(dataset: xr.Dataset, found: model.Settings) -> None:
    """Refuse a variable that is all missing at the first, middle and last time."""
    size = dataset.sizes[found.source.time] if found.source.time else 1
    if size == 0:
        return
    positions = sorted({0, size // 2, size - 1}) if found.source.time else [None]
    for variable in found.variables:
        if variable.forecast and not any(
            np.isfinite(variable.to_physical(read_state(dataset, variable, p, b.cells))).any()
            for p in positions
            for b in variable.grid.blocks()
        ):
            raise InvalidInput(
                f"{variable.name} is all missing in this source; "
                "leave it out: name the others with --variable"
            )
