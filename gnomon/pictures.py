"""Pictures of states, of what differs between them, and of restore points."""

from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gnomon.storage.serve.planes import PROVENANCE
from gnomon.storage.values.times import format_instant
from gnomon.tasks.comparing.fields import MARKS, Field
from gnomon.tasks.restoring.restore_point import RestorePoint, with_units
from gnomon.tasks.restoring.timeline import Timeline

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_fields", "draw_points", "draw_timeline"]

Floats = NDArray[np.float64]

BAND = 1.64
"""Standard errors on either side within which 90 % of a normal variable are."""
TICKS = 6
DAY = 86_400_000_000
"""Microseconds."""


def _figure(*shape: int, size: tuple[float, float]) -> "tuple[Figure, NDArray[Any]]":
    """Return a figure that no window shows, and its axes (rows, columns)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(*shape, squeeze=False)


def draw_fields(fields: Sequence[Field], path: Path) -> Path:
    """Draw the layers of fields side by side, a row for each variable: maps, or lines.

    The first two layers that are no marks share their colours; a difference is red where it is
    above zero, and blue below.

    Returns
    -------
    Path
        The picture that was written.
    """
    most = max(len(f.layers) for f in fields)
    figure, axes = _figure(len(fields), most, size=(4.2 * most, 3.4 * len(fields)))
    for row, field in zip(axes, fields, strict=True):
        for axis in row[len(field.layers) :]:
            axis.set_axis_off()
        for axis, (title, values) in zip(row, field.layers.items(), strict=False):
            place = "".join(f", {dim} {at}" for dim, at in field.at.items())
            axis.set_title(fill(f"{field.variable}{place}: {title}", 46), loc="left", fontsize=8)
            axis.tick_params(labelsize=7)
            axis.set_xlabel(field.dims[-1], fontsize=7)
            if len(field.dims) == 1:
                _draw_line(axis, field, title, values)
            else:
                axis.set_ylabel(field.dims[0], fontsize=7)
                _draw_map(figure, axis, field, title, values)
    figure.savefig(path, dpi=110)
    return path


def _draw_line(axis: "Axes", field: Field, title: str, values: Floats) -> None:
    places = (np.arange(values.size) + 0.5) * field.shape[0] / values.size - 0.5
    axis.plot(places, values, marker="." if values.size < 200 else None, lw=0.8)
    if title == "provenance":
        axis.set_yticks(list(PROVENANCE.values()), _provenances(), fontsize=6)
    else:
        axis.set_ylabel(field.units, fontsize=7)


def _draw_map(figure: "Figure", axis: "Axes", field: Field, title: str, values: Floats) -> None:
    rows, columns = field.shape
    ends = (rows - 0.5, -0.5) if field.is_downwards else (-0.5, rows - 0.5)
    shown = axis.imshow(
        np.ma.masked_invalid(values),
        origin="upper" if field.is_downwards else "lower",
        extent=(-0.5, columns - 0.5, *ends),
        aspect="auto",
        interpolation="none",
        **_colours(field, title),
    )
    axis.set_facecolor("0.8")
    label = "" if title == "provenance" else field.units
    bar = figure.colorbar(shown, ax=axis, label=label, pad=0.01)
    bar.ax.tick_params(labelsize=7)
    if title == "provenance":
        bar.set_ticks(list(PROVENANCE.values()), labels=_provenances(), fontsize=6)


def _provenances() -> list[str]:
    return [name.replace("_", " ").replace("estimated from ", "") for name in PROVENANCE]


def _colours(field: Field, title: str) -> dict[str, Any]:
    """Return the style of a layer: colours, and the values that they stand for."""
    values = field.layers[title]
    if title == "provenance":
        from matplotlib import colormaps

        count = len(PROVENANCE)
        return {"vmin": -0.5, "vmax": count - 0.5, "cmap": colormaps["tab10"].resampled(count)}
    if title == "standard error":
        return {"vmin": 0.0, "vmax": _largest(values), "cmap": "magma"}
    if title == _difference(field):
        largest = _largest(values)
        return {"vmin": -largest, "vmax": largest, "cmap": "RdBu_r"}
    states = [v for name, v in field.layers.items() if name not in MARKS]
    known = np.concatenate([v[np.isfinite(v)] for v in states[:2]])
    # Of damage that is far off, the colours of all else would be one.
    low, high = np.percentile(known, [1, 99]) if known.size else (0.0, 1.0)
    return {"vmin": low, "vmax": high if high > low else low + 1.0, "cmap": "viridis"}


def _difference(field: Field) -> str | None:
    """Return the title of the layer that is a difference: the third of a pair of states."""
    titles = [name for name in field.layers if name not in MARKS]
    return titles[2] if len(titles) > 2 else None


def _largest(values: Floats) -> float:
    sizes = np.abs(values[np.isfinite(values)])
    return float(sizes.max(initial=0.0)) or 1.0


def draw_timeline(timeline: Timeline, path: Path) -> Path:
    """Draw captures, suspects, revisions and the shadow along time, and the error of its leads.

    The fan is the expected error of the shadow, 1.64 times on either side of its states: where the
    mean of so many cells is normal, nine of ten departures are inside.

    Returns
    -------
    Path
        The picture that was written.
    """
    figure, axes = _figure(2, 1, size=(10, 5.5))
    upper, lower = axes[:, 0]
    kinds = [
        ("captured", timeline.captured, "tab:blue"),
        ("suspect", timeline.suspect, "tab:red"),
        ("revised", timeline.revised, "tab:orange"),
        ("shadow", timeline.shadow, "0.5"),
    ]
    for row, (_, instants, colour) in enumerate(kinds):
        upper.plot(instants, np.full(instants.size, row), "|", ms=14, color=colour)
    labels = [f"{name} ({instants.size})" for name, instants, _ in kinds]
    upper.set_yticks(range(len(kinds)), labels)
    upper.set_ylim(len(kinds) - 0.5, -0.5)
    upper.set_title("restore points", loc="left", fontsize=9)
    _time_axis(upper, timeline.calendar)
    lower.set_title(
        f"{timeline.variable}: expected error of the shadow, +- {BAND} standard errors",
        loc="left",
        fontsize=9,
    )
    lower.set_ylabel(timeline.units)
    lower.axhline(0.0, color="0.8", lw=1)
    if timeline.shadow.size:
        fan = BAND * timeline.expected_error
        lower.fill_between(timeline.shadow, -fan, fan, alpha=0.25, color="tab:blue")
        lower.plot(timeline.shadow, timeline.expected_error, ".-", label="expected error")
        if timeline.tolerance is not None:
            lower.axhline(timeline.tolerance, color="tab:red", ls="--", lw=1, label="tolerance")
        lower.legend(fontsize=8, loc="upper left")
        _time_axis(lower, timeline.calendar)
    else:
        lower.text(0.5, 0.5, "no shadow yet", transform=lower.transAxes, ha="center")
        lower.set_xticks([])
    figure.savefig(path, dpi=110)
    return path


def _time_axis(axis: "Axes", calendar: str) -> None:
    """Tell instants of any calendar as dates, and as times where the axis is that short."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    low, high = axis.get_xlim()
    length = 10 if high - low > 20 * DAY else 13

    def told(value: float, _: object) -> str:
        try:
            return format_instant(int(value), calendar)[:length]
        except (ValueError, OverflowError):  # beyond the years that a calendar has
            return ""

    axis.xaxis.set_major_locator(MaxNLocator(TICKS))
    axis.xaxis.set_major_formatter(FuncFormatter(told))
    axis.tick_params(axis="x", labelsize=7)


def draw_points(points: Sequence[RestorePoint], variable: str, path: Path) -> Path:
    """Draw the expected error of each restore point of a time, best first, and the tolerance.

    Returns
    -------
    Path
        The picture that was written.
    """
    figure, axes = _figure(1, 1, size=(9, 1.8 + 0.5 * len(points)))
    axis = axes[0, 0]
    errors = [point.expected_error.get(variable) for point in points]
    known = [e is not None and isfinite(e) for e in errors]
    sizes = [
        float(e or 0.0) if is_known else 0.0 for e, is_known in zip(errors, known, strict=True)
    ]
    colours = ["tab:green" if p.kind == "captured" else "tab:blue" for p in points]
    rows = np.arange(len(points))
    axis.barh(rows, sizes, color=colours)
    units = next((p.units[variable] for p in points if variable in p.units), "")
    for row, (point, size, is_known) in enumerate(zip(points, sizes, known, strict=True)):
        told = with_units(size, units) if is_known else "error unknown"
        told = "exact" if point.kind == "captured" else told
        sure = point.confidences.get(variable)
        told += "" if sure is None or point.kind == "captured" else f", confidence {sure:.2f}"
        axis.text(size, row, f" {told}", va="center", fontsize=8)
    axis.set_yticks(rows, [f"{p.kind.replace('_', ' ')}\n{p.valid_time}" for p in points])
    axis.tick_params(labelsize=7)
    axis.set_ylim(len(points) - 0.5, -0.5)
    tolerances = [p.tolerances[variable] for p in points if variable in p.tolerances]
    if tolerances:
        axis.axvline(tolerances[0], color="tab:red", ls="--", lw=1, label="tolerance")
        axis.legend(fontsize=8)
    axis.set_xlim(0.0, 1.5 * max([*sizes, *tolerances[:1], 1e-300]))
    axis.set_xlabel(f"expected error of {variable}" + (f", {units}" if units else ""), fontsize=8)
    first = f"first: {points[0].reason}" if points and points[0].reason else "restore points"
    axis.set_title(fill(first, 100), loc="left", fontsize=9)
    figure.savefig(path, dpi=110)
    return path
