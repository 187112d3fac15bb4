"""Along which dimension a source grows, and which variable tells the times of its steps.

Nothing is guessed in silence: what is chosen says why, and a dimension that is named like time
while nothing tells its times is refused, unless the user says what it is.
"""

import re
from dataclasses import dataclass, replace

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from gnomon.storage.errors import InvalidInput, NotFound
from gnomon.storage.values.model import SourceSpec
from gnomon.storage.values.timeforms import (
    NATIVE,
    TEXT,
    count_form,
    date_form,
    filled_times,
    is_count,
    is_text_of_times,
    missing_times,
)
from gnomon.storage.values.times import UNITS, decode, parse

__all__ = [
    "Axis",
    "Counting",
    "choose_axis",
    "dated_axes",
    "present",
    "tellers",
    "time_variable",
    "undated_axes",
]

REMEDY = (
    "give the times with --interval and --start (as in --interval 1h --start 2024-01-01T00), or "
    "take the whole array as one state that does not grow, with --kind state"
)
"""What to do about a dimension that has no times."""

_TIME_WORDS = {"time", "times", "date", "dates", "datetime", "timestamp", "timestep", "xtime"}
_STEP_NAMES = {"t", "step", "steps", "itime", "nt", "ntime"}
_OTHER_WORDS = {"lead", "period", "bnds", "bounds", "bnd", "nv", "zone", "climatology"}
_LEADS = {
    "step",
    "lead",
    "lead_time",
    "leadtime",
    "forecast_period",
    "forecast_hour",
    "prediction_timedelta",
}
_COUNT_UNITS = {"", "1", "step", "steps", "count", "counts", "index", "number", "timestep"}


@dataclass(frozen=True, slots=True)
class Axis:
    """A dimension along which a source may grow."""

    dim: str
    """Name of the dimension."""
    coordinate: str | None = None
    """The variable that tells the times, as in `SourceSpec`."""
    form: str | None = ""
    """How the times are told: empty in CF units, None not at all."""

    @property
    def teller(self) -> str | None:
        """Name of the variable that tells the times."""
        return self.dim if self.coordinate is None else self.coordinate or None


@dataclass(frozen=True, slots=True)
class Counting:
    """What a user says of steps that tell no times."""

    start: str
    """Time of the first step."""
    interval_us: int | None
    """Microseconds from one step to the next."""


def time_variable(dataset: xr.Dataset, spec: SourceSpec) -> xr.Variable | None:
    """Return what tells the times of an append source, along time alone; None if it is gone.

    Letters are put together to text. Where nothing tells the times, it is the number of the step.
    """
    assert spec.time is not None
    if spec.teller is None:
        if spec.time not in dataset.sizes:
            return None
        return xr.Variable((spec.time,), np.arange(dataset.sizes[spec.time], dtype=np.int64))
    if spec.teller not in dataset.variables:
        return None
    return _along(dataset.variables[spec.teller])


def _along(variable: xr.Variable) -> xr.Variable:
    if variable.ndim == 2 and variable.dtype == "S1":
        letters = np.ascontiguousarray(variable.values)
        text = letters.view(f"S{max(1, letters.shape[1])}")[:, 0] if letters.shape[1] else letters
        return xr.Variable(variable.dims[:1], text, variable.attrs)
    return variable


def present(variable: xr.Variable) -> NDArray[np.generic]:
    """Return the values of a time coordinate without those that are missing."""
    raw = np.asarray(variable.values)
    return raw[~missing_times(raw) & ~filled_times(raw, variable.attrs)]


def _form(name: str, variable: xr.Variable) -> str | None:
    """Return how a variable tells times: ``""`` in CF units, None not at all."""
    kind = variable.dtype.kind
    if kind == "M":
        return NATIVE
    units = str(variable.attrs.get("units", ""))
    if kind in "SUOT":
        along = _along(variable)
        is_told = is_timelike(name) and along.ndim == 1 and is_text_of_times(present(along))
        return TEXT if is_told else None
    if kind not in "iuf":
        return None
    if " since " in units:
        return ""
    may_be_dates = (
        "%" in units or "YYYY" in units.upper() or units.strip().lower() in ("", "1", "year")
    )
    calendar = str(variable.attrs.get("calendar", "proleptic_gregorian"))
    return date_form(present(variable), units, name, calendar) if may_be_dates else None


def is_timelike(name: str) -> bool:
    """Tell whether a name is one of time: ``ocean_time`` is, ``lead_time`` is not."""
    words = set(re.split(r"[_\W]+", name.lower()))
    return bool(words & _TIME_WORDS) and not words & _OTHER_WORDS


def _is_marked(variable: xr.Variable) -> bool:
    attributes = variable.attrs
    return attributes.get("axis") == "T" or attributes.get("standard_name") == "time"


def _is_index(variable: xr.Variable) -> bool:
    """Tell whether a coordinate only numbers the places along its dimension."""
    if variable.dtype.kind not in "iu" or str(variable.attrs.get("units", "")).strip() not in (
        "",
        "1",
    ):
        return False
    values = np.asarray(variable.values)
    return bool(values.size) and bool((np.diff(values) == 1).all())


def tellers(dataset: xr.Dataset, dim: str) -> dict[str, str]:
    """Return the variables other than its own that tell the times of a dimension, and how."""
    forms = {}
    for name in sorted(map(str, dataset.variables)):
        variable = dataset.variables[name]
        letters = variable.ndim == 2 and variable.dtype == "S1"
        if name == dim or not (variable.dims == (dim,) or (letters and variable.dims[0] == dim)):
            continue
        form = _form(name, variable)
        if form is not None:
            forms[name] = form
    return forms


def _other(dataset: xr.Dataset, dim: str) -> Axis | None:
    """Return the axis of a dimension whose times a variable of another name tells.

    Dates stand in tables of stations too: the times of an axis are named so, and never come twice;
    nor do they go back and forth, where the dimension has another name.
    """
    coordinate = dataset.variables.get(dim)
    numbers = coordinate is None or coordinate.dims != (dim,) or _is_index(coordinate)
    if dim.lower() in _LEADS or not (numbers or (is_timelike(dim) and _is_undated(dataset, dim))):
        return None
    unlimited = dim in dataset.encoding.get("unlimited_dims", ())
    is_axis = is_timelike(dim) or unlimited or dim.lower() in _STEP_NAMES
    forms = tellers(dataset, dim)

    def rank(name: str) -> tuple[bool, bool, bool]:
        return forms[name] == TEXT, not _is_marked(dataset.variables[name]), "valid" not in name

    for name in sorted(forms, key=rank):
        variable, form = dataset.variables[name], forms[name]
        if not (is_axis or is_timelike(name) or _is_marked(variable)):
            continue
        raw = present(_along(variable))
        if raw.size and (len({*raw.tolist()}) == raw.size if is_axis else _is_sorted(raw)):
            return Axis(dim, name, form)
    return None


def _is_sorted(raw: NDArray[np.generic]) -> bool:
    """Tell whether values only grow, or only fall."""
    values = raw.astype(np.float64) if raw.dtype.kind in "iuf" else raw
    before, after = values[:-1].tolist(), values[1:].tolist()
    pairs = list(zip(before, after, strict=True))
    return all(a < b for a, b in pairs) or all(a > b for a, b in pairs)


def dated_axes(dataset: xr.Dataset) -> list[Axis]:
    """Return the dimensions of a dataset whose times are told, in its order."""
    axes = []
    for dim in map(str, dataset.dims):
        coordinate = dataset.variables.get(dim)
        form = (
            _form(dim, coordinate) if coordinate is not None and coordinate.dims == (dim,) else None
        )
        axis = Axis(dim, None, form) if form is not None else _other(dataset, dim)
        if axis is not None:
            axes.append(axis)
    return axes


def undated_axes(dataset: xr.Dataset, dated: list[Axis]) -> list[str]:
    """Return the dimensions that are called time, or the like, while nothing tells their times."""
    names = {axis.dim for axis in dated}
    return [d for d in map(str, dataset.dims) if d not in names and _is_undated(dataset, d)]


def _is_undated(dataset: xr.Dataset, dim: str) -> bool:
    coordinate = dataset.variables.get(dim)
    if coordinate is None or coordinate.dims != (dim,):
        return is_timelike(dim) or dim.lower() in _STEP_NAMES
    if _is_marked(coordinate):
        return True
    units = str(coordinate.attrs.get("units", "")).strip().lower()
    if is_timelike(dim):
        return units in _COUNT_UNITS or units in UNITS or coordinate.dtype.kind in "mSUOT"
    return dim.lower() in _STEP_NAMES and units in _COUNT_UNITS and coordinate.dtype.kind in "iuf"


def choose_axis(
    dataset: xr.Dataset,
    name: str | None,
    *,
    weights: dict[str, int],
    counting: Counting | None,
    form: str = "",
) -> Axis | None:
    """Return the axis that captures are taken along; None if there is none.

    Parameters
    ----------
    name
        Dimension or coordinate that the user named.
    weights
        By dimension, how many variables with numbers lie along it.
    counting
        What the user says of steps that tell no times.
    form
        How the steps were counted so far, of a source that is described anew.

    Raises
    ------
    NotFound
        There is nothing of that name.
    InvalidInput
        Nothing tells the times, or more than what the user may have meant does.
    """
    axis = _found(dataset, weights) if name is None else _named(dataset, name)
    problem = "" if axis is None else _problem(dataset, axis)
    if axis is None:
        if counting is not None:
            raise InvalidInput(
                "--start is for steps without times; name their dimension with --time"
            )
        return None
    if not problem:
        if counting is not None:
            raise InvalidInput(
                f"{axis.teller!r} already has the times of the dimension {axis.dim!r}; leave out "
                "--start, or name another dimension with --time"
            )
        return axis
    if counting is not None:
        return _counted(dataset, axis, counting)
    if is_count(form):
        return replace(axis, form=form)
    raise InvalidInput(f"{problem}; {REMEDY}")


def _found(dataset: xr.Dataset, weights: dict[str, int]) -> Axis | None:
    """Return the axis with the most variables; if need be, one whose times nothing tells."""
    dated = dated_axes(dataset)
    undated = [_undated(dataset, d) for d in undated_axes(dataset, dated) if weights.get(d)]

    unlimited = dataset.encoding.get("unlimited_dims", ())

    def rank(axis: Axis) -> tuple[int, bool, bool]:
        return weights.get(axis.dim, 0), axis.dim == "time", axis.dim in unlimited

    # Of equals, `max` takes the first.
    return max(dated, key=rank, default=None) or max(undated, key=rank, default=None)


def _undated(dataset: xr.Dataset, dim: str) -> Axis:
    coordinate = dataset.variables.get(dim)
    return Axis(dim, None if coordinate is not None and coordinate.dims == (dim,) else "", None)


def _named(dataset: xr.Dataset, name: str) -> Axis:
    """Return the axis that a user names by its dimension, or by what tells its times."""
    variable = dataset.variables.get(name)
    if name not in dataset.dims:
        if variable is None:
            there = ", ".join(map(str, dataset.dims)) or "none"
            raise NotFound(
                f"the source has no dimension or coordinate {name!r}; dimensions: {there}"
            )
        if not variable.dims or _along(variable).ndim != 1:
            raise InvalidInput(
                f"--time names {name!r}, which has the dimensions {variable.dims}; name the "
                "dimension along which the source grows"
            )
        return Axis(str(variable.dims[0]), name, _form("time", variable))
    if variable is not None and variable.dims == (name,):
        form = _form("time", variable)
        if form is not None:
            return Axis(name, None, form)
    forms = tellers(dataset, name)
    if len(forms) > 1:
        raise InvalidInput(
            f"{', '.join(forms)} all have times along the dimension {name!r}; name the one that "
            "counts with --time"
        )
    return Axis(name, *forms.popitem()) if forms else _undated(dataset, name)


def _problem(dataset: xr.Dataset, axis: Axis) -> str:
    """Return why the times of an axis cannot be told; empty if they can."""
    if axis.form is None:
        return f"the dimension {axis.dim!r} is named like time, but has no times"
    variable = dataset.variables[axis.teller]
    if axis.form == "":
        units, calendar = (
            str(variable.attrs.get(n, d)) for n, d in (("units", ""), ("calendar", "standard"))
        )
        try:  # one value that is no time is a matter of its step alone
            decode(np.zeros(1), units, calendar)
        except InvalidInput as error:
            return str(error)
    return ""


def _counted(dataset: xr.Dataset, axis: Axis, counting: Counting) -> Axis:
    """Return the axis with counts that start when the user says so."""
    if axis.teller is None:
        raw: NDArray[np.generic] = np.arange(dataset.sizes[axis.dim])
        units, calendar = "", "proleptic_gregorian"
    else:
        variable = dataset.variables[axis.teller]
        raw = present(variable)
        units = str(variable.attrs.get("units", "")).strip().lower()
        calendar = str(variable.attrs.get("calendar", "proleptic_gregorian"))
    if raw.dtype.kind not in "iuf" or not raw.size or not np.isfinite(raw).all():
        raise InvalidInput(
            f"{axis.dim!r} has no numbers to count by; take it as one state with --kind state"
        )
    first = raw[0].item()
    start = parse(counting.start, calendar)
    if units in UNITS:  # a duration since a time that is not told
        return replace(axis, form=count_form(first, start, 1, UNITS[units]))
    if counting.interval_us is None:
        raise InvalidInput(
            f"{axis.dim!r} only counts steps; give the length of a step with --interval, as in 1h"
        )
    gaps = np.abs(np.diff(np.unique(raw)))
    if not gaps.size and axis.teller is not None:
        raise InvalidInput(
            f"{axis.dim!r} has only one step, which does not show how far the count goes per step; "
            "wait for the next step, or use --kind state"
        )
    more = gaps.min().item() if gaps.size else 1
    return replace(axis, form=count_form(first, start, more, counting.interval_us))
