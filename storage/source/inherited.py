"""Coordinates that a group has from the groups above it.

In a tree of groups the coordinate of a dimension may stand once, above all that lie along it: so
xarray's DataTree writes trees, and so CF 1.8 and NetCDF-4 mean them.
"""

from collections.abc import Callable, Iterator

import xarray as xr

from gnomon.storage.source.axes import is_timelike

__all__ = ["with_inherited"]


def with_inherited(
    dataset: xr.Dataset, group: str, open_group: Callable[[str | None], xr.Dataset]
) -> xr.Dataset:
    """Return a group with the coordinates of its dimensions that only groups above it have.

    The nearest one counts.  Where it is longer or shorter along time, as in the middle of an
    append, the steps that both have are taken; of another length it is not of this group.

    Parameters
    ----------
    open_group
        Opens a group of the source by its path; None: the root.
    """
    lacking = {str(d) for d in dataset.dims if d not in dataset.variables}
    coordinates: dict[str, xr.Variable] = {}
    opened = [dataset]
    for above in _above(group):
        if not lacking:
            break
        try:
            parent = open_group(above)
        except (LookupError, ValueError, TypeError, FileNotFoundError):
            continue  # it is no group, or damaged, which says nothing of this one
        opened.append(parent)
        for dim in sorted(lacking & set(map(str, parent.variables))):
            if _fits(parent.variables[dim], dim, dataset.sizes[dim]):
                coordinates[dim] = parent.variables[dim]
                lacking.remove(dim)
    return _joined(dataset, coordinates, opened) if len(opened) > 1 else dataset


def _joined(
    dataset: xr.Dataset, coordinates: dict[str, xr.Variable], opened: list[xr.Dataset]
) -> xr.Dataset:
    steps = {dim: min(c.size, dataset.sizes[dim]) for dim, c in coordinates.items()}
    notes = [
        f"{dim!r} has {c.size} values in a group above, and {dataset.sizes[dim]} here, as in the "
        f"middle of an append; the first {steps[dim]}, which both have, are taken"
        for dim, c in coordinates.items()
        if c.size != dataset.sizes[dim]
    ]
    joined = dataset.isel({dim: slice(0, size) for dim, size in steps.items()})
    joined = joined.assign({dim: c[: steps[dim]] for dim, c in coordinates.items()})
    joined.encoding = dict(dataset.encoding)
    joined.encoding["notes"] = (*dataset.encoding.get("notes", ()), *notes)

    def close() -> None:
        for part in opened:
            part.close()

    joined.set_close(close)
    return joined


def _above(group: str) -> Iterator[str | None]:
    parts = group.strip("/").split("/")
    for count in range(len(parts) - 1, -1, -1):
        yield "/".join(parts[:count]) or None


def _fits(coordinate: xr.Variable, dim: str, size: int) -> bool:
    """Tell whether what a group above has under the name of a dimension is its coordinate."""
    units = str(coordinate.attrs.get("units", ""))
    tells_time = is_timelike(dim) or " since " in units or coordinate.dtype.kind == "M"
    return coordinate.dims == (dim,) and (coordinate.size == size or tells_time)
