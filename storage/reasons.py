"""Why a source is taken as it is, and what was guessed of it: sentences for people."""

import numpy as np
import xarray as xr

from gnomon.storage.axes import dated_axes, present, time_variable
from gnomon.storage.model import SourceSpec
from gnomon.storage.timeforms import NATIVE, TEXT, is_count, nanoseconds_lost

__all__ = ["tell_axis"]


def tell_axis(
    dataset: xr.Dataset, spec: SourceSpec, form: str, *, asked: str | None
) -> tuple[str, tuple[str, ...]]:
    """Return why a source is taken as append or state, and what was guessed of its times."""
    if spec.time is None:
        if asked == "state":
            grows = [a.dim for a in dated_axes(dataset)]
            growing = f"; along {', '.join(grows)} it must not grow" if grows else ""
            return f"state, as asked for: the whole array is one state{growing}", ()
        unlimited = [d for d in dataset.encoding.get("unlimited_dims", ()) if d in dataset.dims]
        notes = [
            f"the dimension {d!r} is unlimited, but nothing tells times along it: the source must "
            "not grow, unless --time names what does"
            for d in map(str, unlimited)
        ]
        return "state: no dimension tells times, so that it is overwritten in place", tuple(notes)
    others = [a for a in dated_axes(dataset) if a.dim != spec.time]
    notes = [
        f"the source tells times along {a.dim!r} too; what lies along that alone is left out "
        f"(--time {a.dim} takes it, in a repository of its own)"
        for a in others
    ]
    named = f"the dimension {spec.time!r}"
    teller = "" if spec.teller == spec.time else f", by {spec.teller!r}"
    variable = time_variable(dataset, spec)
    raw = np.empty(0) if variable is None else present(variable)
    if is_count(form):
        what = (
            f"{named} counts steps{teller}"
            if spec.teller
            else f"{named} has no coordinate, its steps are counted"
        )
        notes.append(
            "times are those that --interval and --start say"
            + ("" if spec.teller else "; steps must not be taken away at the beginning")
        )
    elif form == NATIVE:
        what = f"{named} tells times{teller} as {raw.dtype}"
        lost = nanoseconds_lost(raw)
        if lost:
            notes.append(
                f"{lost} times are no whole microseconds; they are kept as they are, and looked "
                "for and ordered by the microsecond that they are in"
            )
    elif form == TEXT:
        what = f"{named} tells times{teller} as text"
        notes.append("a coordinate of the times, in CF units, is added to what is restored")
    elif form:
        what = f"{named} tells times{teller} as numbers such as {raw[0]}, read as dates ({form})"
        notes.append(f"{spec.teller!r} has no CF units; its numbers are read as dates ({form})")
    else:
        assert variable is not None
        what = f"{named} tells times{teller} in {variable.attrs.get('units')!s:.60}"
    return f"append: {what}", tuple(notes)
