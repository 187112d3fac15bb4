"""What a repository of a source would hold, and why, before anything is made."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import prod
from typing import Any

import numpy as np
import xarray as xr

from gnomon.storage.errors import InvalidInput
from gnomon.storage.redaction import redacted
from gnomon.storage.source.describing import Contents
from gnomon.storage.source.files.opening import source_notes, source_told
from gnomon.storage.source.timeaxis import read_axis
from gnomon.storage.values import model
from gnomon.storage.values.times import SECOND, format_instant
from gnomon.tasks.capturing.sighting import judge

__all__ = ["SourceDescription", "TimeDescription", "VariableDescription", "describe_dataset"]


@dataclass(frozen=True, slots=True)
class VariableDescription:
    """A variable that is captured at each step."""

    name: str
    """Name in the source."""
    dims: tuple[str, ...]
    """Dimensions of one state, without time."""
    shape: tuple[int, ...]
    """Cells of one state."""
    dtype: str
    """Type as stored in the source."""
    chunks: tuple[int, ...]
    """Cells of a chunk, which is verified, judged and forecast as a unit."""
    units: str
    """Units as the source has them."""
    forecast: bool
    """Whether it is predicted; otherwise it is only captured."""
    state_bytes: int
    """Size of one state in memory; text counts as 0."""


@dataclass(frozen=True, slots=True)
class TimeDescription:
    """The time axis of an append source."""

    dimension: str
    """Dimension along which the source grows."""
    coordinate: str | None
    """Variable that holds the times; None: steps are counted."""
    units: str
    """CF units, or the form of the times if they have none."""
    calendar: str
    """CF calendar."""
    steps: int
    """Number of steps at present."""
    first: str | None
    """Time of the first step, ISO 8601; None if it is not known."""
    last: str | None
    """Time of the last step."""
    interval_s: float | None
    """Usual number of seconds between two steps."""


@dataclass(frozen=True, slots=True)
class SourceDescription:
    """What `create` takes of a source, and what it leaves out."""

    source: str
    """Path or URL."""
    kind: str
    """``append`` or ``state``."""
    reason: str
    """Why it is of that kind."""
    time: TimeDescription | None
    """The time axis; None for a state source."""
    variables: tuple[VariableDescription, ...]
    """What is captured at each step."""
    fixed: dict[str, tuple[int, ...]]
    """Shapes of what is stored once: coordinates, bounds, masks."""
    skipped: dict[str, str]
    """Variables that are left out, and why."""
    groups: dict[str, tuple[str, ...]]
    """Other groups of the source, and their variables, which are left out."""
    notes: tuple[str, ...]
    """What was guessed, and what else you should know."""
    state_bytes: int
    """Size of one state of all variables in memory."""

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {**asdict(self), "source": redacted(self.source)}


def describe_dataset(
    dataset: xr.Dataset,
    settings: model.RepositorySettings,
    description: Contents,
    groups: Mapping[str, tuple[str, ...]],
) -> SourceDescription:
    """Return the description of a source that settings were made for."""
    notes = [*description.notes, *(source_told(dataset) or source_notes(dataset))]
    time = None
    if settings.source.time is not None:
        try:
            seen = judge(read_axis(dataset, settings), settings.calendar)
            time = _told(dataset, settings, seen.times)
            notes += map(str, seen.left_out())
        except InvalidInput as error:
            notes.append(str(error))
            time = _told(dataset, settings, np.empty(0, np.int64))
    if groups:
        notes.append(
            f"the source also has groups, which are left out: {', '.join(groups)}; protect each in "
            "its own repository, with --group"
        )
    variables = tuple(_variable(v) for v in settings.variables)
    return SourceDescription(
        source=settings.source.url,
        kind=settings.source.kind,
        reason=description.reason,
        time=time,
        variables=variables,
        fixed={name: tuple(dataset.variables[name].shape) for name in description.frame},
        skipped=dict(description.skipped),
        groups=dict(groups),
        notes=tuple(notes),
        state_bytes=sum(v.state_bytes for v in variables),
    )


def _variable(variable: model.Variable) -> VariableDescription:
    return VariableDescription(
        name=variable.name,
        dims=variable.dims,
        shape=variable.shape,
        dtype=variable.dtype,
        chunks=variable.chunks,
        units=str(variable.attributes.get("units", "")),
        forecast=variable.forecast,
        state_bytes=0 if variable.is_text else prod(variable.shape) * variable.numpy_dtype.itemsize,
    )


def _told(dataset: xr.Dataset, settings: model.RepositorySettings, times: Any) -> TimeDescription:
    source, calendar = settings.source, settings.calendar
    assert source.time is not None
    gaps = np.diff(times)
    gaps = gaps[gaps > 0]
    first, last = (format_instant(int(times[k]), calendar) if times.size else None for k in (0, -1))
    return TimeDescription(
        dimension=source.time,
        coordinate=source.teller,
        units=settings.time_form or settings.time_units,
        calendar=calendar,
        steps=int(dataset.sizes[source.time]),
        first=first,
        last=last,
        interval_s=float(np.median(gaps)) / SECOND if gaps.size else None,
    )
