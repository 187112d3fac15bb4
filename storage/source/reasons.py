"""Why a source is taken as it is, and what was guessed of it: sentences for people."""

import numpy as np
import xarray as xr

from gnomon.storage.source.axes import (
    Axis,
    dated_axes,
    present,
    tellers,
    time_variable,
    undated_axes,
)
from gnomon.storage.values.model import SourceSpec
from gnomon.storage.values.timeforms import NATIVE, TEXT, is_count, nanoseconds_lost

__all__ = ["elsewhere", "tell_axis"]


def elsewhere(dataset: xr.Dataset, axis: Axis | None) -> dict[str, str]:
    """Return the variables that grow along another dimension than the one that is taken, and why.

    They are not fixed variables: their next step would be a change of the grid.
    """
    if axis is None:
        return {}
    dated = dated_axes(dataset)
    others = {
        a.dim: f"lies along {a.dim}, another time dimension; protect it in a repository of its "
        f"own: --time {a.dim}"
        for a in dated
    } | {
        d: f"lies along {d}, which has no times; protect it in a repository of its own: "
        f"--time {d} --interval 1h --start 2024-01-01T00"
        for d in undated_axes(dataset, dated)
    }
    # What lies along both belongs to the grid of a state, as leads do, and so does its coordinate.
    beside = {d for v in dataset.variables.values() if axis.dim in v.dims for d in v.dims}
    others = {d: why for d, why in others.items() if d not in beside}
    skipped = {}
    for name in sorted(map(str, dataset.variables)):
        dims = tuple(map(str, dataset.variables[name].dims))
        other = next((d for d in dims if d in others), None)
        if other is not None and axis.dim not in dims and name != axis.teller:
            skipped[name] = others[other]
    return skipped


def tell_axis(
    dataset: xr.Dataset, spec: SourceSpec, form: str, *, asked: str | None
) -> tuple[str, tuple[str, ...]]:
    """Return why a source is taken as append or state, and what was guessed about its times."""
    if spec.time is None:
        return _tell_state(dataset, asked)
    notes = [
        f"the source also has times along {a.dim!r}; variables along that dimension alone are left "
        f"out (--time {a.dim} takes them, in a repository of their own)"
        for a in dated_axes(dataset)
        if a.dim != spec.time
    ]
    if spec.coordinate:
        notes += [
            f"{name!r} also has times along {spec.time!r}; --time {name} takes those"
            for name, how in tellers(dataset, spec.time).items()
            if name != spec.coordinate and how != TEXT
        ]
    what, guesses = _tell_form(dataset, spec, form)
    return f"append: the dimension {spec.time!r} {what}", (*notes, *guesses)


def _tell_state(dataset: xr.Dataset, asked: str | None) -> tuple[str, tuple[str, ...]]:
    if asked == "state":
        grows = [a.dim for a in dated_axes(dataset)]
        growing = f"; along {', '.join(grows)} it must not grow" if grows else ""
        return f"state, as asked for: the whole array is one state{growing}", ()
    unlimited = [d for d in dataset.encoding.get("unlimited_dims", ()) if d in dataset.dims]
    notes = tuple(
        f"the dimension {d!r} is unlimited, but has no times: the source must not grow, unless "
        "--time names the dimension that does"
        for d in map(str, unlimited)
    )
    return "state: no dimension has times, so the source is taken as overwritten in place", notes


def _tell_form(dataset: xr.Dataset, spec: SourceSpec, form: str) -> tuple[str, tuple[str, ...]]:
    """Return how the times are stored, and what to note about that."""
    by = "" if spec.teller == spec.time else f", by {spec.teller!r}"
    variable = time_variable(dataset, spec)
    assert variable is not None
    if is_count(form):
        note = "--interval and --start give the times"
        if spec.teller is None:
            note += "; no steps may be removed at the beginning"
            return "has no coordinate, so its steps are counted", (note,)
        return f"counts steps{by}", (note,)
    if form == TEXT:
        note = "restored datasets also have a coordinate of the times, in CF units"
        return f"has times{by} as text", (note,)
    if form == NATIVE:
        lost = nanoseconds_lost(np.asarray(variable.values))
        note = (
            f"{lost} times are not whole microseconds; they are kept as they are, and found and "
            "ordered by the microsecond that they are in"
        )
        return f"has times{by} as {variable.dtype}", (note,) if lost else ()
    if form:
        note = f"{spec.teller!r} has no CF units; its numbers are read as dates ({form})"
        first = present(variable)[0]
        return f"has times{by} as numbers such as {first}, read as dates ({form})", (note,)
    return f"has times{by} in {variable.attrs.get('units')!s:.60}", ()
