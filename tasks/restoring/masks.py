"""Masks of damaged cells, and where their cells lie on the grid of a variable.

Where both have coordinates, a cell is found by them, in whatever order the mask has them:
longitudes modulo 360, numbers but for their rounding.  A mask of a part of the grid says that the
rest is sound.
Without coordinates a cell is found by its position.
"""

import re
from collections.abc import Mapping
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from gnomon.storage.errors import GnomonError, InvalidInput
from gnomon.storage.redaction import one_line
from gnomon.storage.repository import Repository
from gnomon.storage.values.model import Variable
from gnomon.tasks.restoring.coordinates import Elsewhere, places_of

__all__ = ["Mask", "mask_of", "on_grids"]

Mask = NDArray[np.bool_]


def mask_of(
    cells: NDArray[Any] | xr.DataArray | str | PathLike[str], name: str | None
) -> xr.DataArray:
    """Return a mask, or that of a file, as true and false, with the names and coordinates it has.

    Parameters
    ----------
    name
        The variable that is damaged, by which a mask is found in a file of several.

    Raises
    ------
    InvalidInput
        It is none, or the file cannot be read.
    """
    if isinstance(cells, str | PathLike):
        array = _read(Path(fspath(cells)), name)
    elif isinstance(cells, xr.DataArray):
        array = cells
    else:
        array = xr.DataArray(np.asarray(cells))
    values = array.values
    if values.dtype.kind not in "biuf" or not np.isin(values, (0, 1)).all():
        raise InvalidInput(
            f"the mask of cells has the type {values.dtype} and other values than 0 and 1; give "
            "true or 1 in the damaged cells, and false or 0 in all others"
        )
    return array.astype(bool)


def _read(path: Path, variable: str | None) -> xr.DataArray:
    origin = f"--cells {path} cannot be read as a mask"
    kinds = "a file of NumPy (.npy), NetCDF or Zarr, or polygons (.geojson)"
    if not path.exists():
        raise InvalidInput(f"{origin}: there is no such file; give {kinds}")
    try:
        if path.suffix == ".npy":
            return xr.DataArray(np.load(path, allow_pickle=False))
        with xr.open_dataset(path, engine="zarr" if path.is_dir() else None) as dataset:
            loaded = dataset.load()
    except (OSError, EOFError, ValueError, KeyError, GnomonError) as error:
        raise InvalidInput(f"{origin} ({one_line(error)}); give {kinds}") from error
    names = list(map(str, loaded.data_vars))
    chosen = variable if variable in names else names[0] if len(names) == 1 else None
    if chosen is None:
        raise InvalidInput(
            f"--cells {path} has the variables {', '.join(names) or 'none'}; keep the mask alone "
            "in it, or under the name of the variable"
        )
    return loaded[chosen]


def on_grids(
    mask: xr.DataArray, repository: Repository, variables: list[Variable]
) -> dict[str, Mask]:
    """Return the damaged cells (*dims) of each of the variables on whose grid a mask lies.

    Raises
    ------
    InvalidInput
        It lies on none of their grids.
    """
    found: dict[str, Mask] = {}
    elsewhere: list[Elsewhere] = []
    for variable in variables:
        try:
            placed = _placed(mask, repository, variable)
        except Elsewhere as error:
            elsewhere.append(error)
        else:
            if placed is not None:
                found[variable.name] = placed
    if found:
        return found
    if elsewhere:
        raise elsewhere[0]
    shapes = ", ".join(f"{v.name} {_extent(v.shape)}" for v in variables) or "nothing is forecast"
    raise InvalidInput(
        f"the mask of cells has the shape {_extent(mask.shape)}; it must be that of one state: "
        f"{shapes}"
    )


def _extent(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "of a single value"


def _placed(mask: xr.DataArray, repository: Repository, variable: Variable) -> Mask | None:
    """Return the damaged cells of a variable; None: the mask has another shape."""
    time = repository.settings.source.time
    if time is not None and mask.sizes.get(time) == 1 and time not in variable.dims:
        mask = mask.isel({time: 0}, drop=True)
    if mask.ndim != len(variable.dims):
        return None
    fixed = repository.frame.variables
    mask = _named(mask, variable, fixed)
    places = []
    for dim, size in zip(variable.dims, variable.shape, strict=True):
        if dim in mask.coords and dim in fixed and fixed[dim].dims == (dim,):
            places.append(places_of(dim, mask.coords[dim].variable, fixed[dim]))
        elif mask.sizes[dim] == size:
            places.append(np.arange(size))
        else:
            return None
    _refuse_other_coordinates(mask, dict(zip(variable.dims, places, strict=True)), repository)
    damaged = np.zeros(variable.shape, bool)
    damaged[np.ix_(*places)] = mask.values
    return damaged


def _named(
    mask: xr.DataArray, variable: Variable, fixed: Mapping[Any, xr.Variable]
) -> xr.DataArray:
    """Return a mask with the dimensions of a variable.

    Of other names, longitudes are longitudes and latitudes latitudes; the rest is taken in order.
    """
    left = [dim for dim in variable.dims if dim not in mask.dims]
    ours = {_kind_of(dim, fixed.get(dim)): dim for dim in left}
    others = [d for d in mask.dims if d not in variable.dims]
    kinds = {
        d: _kind_of(str(d), mask.coords[d].variable if d in mask.coords else None) for d in others
    }
    new = {d: ours[kind] for d, kind in kinds.items() if kind is not None and kind in ours}
    rest = iter([dim for dim in left if dim not in new.values()])
    new |= {d: next(rest) for d in others if d not in new}
    taken = [n for n in new.values() if n in mask.coords]
    return mask.drop_vars(taken).rename(new).transpose(*variable.dims)


def _kind_of(name: str, coordinate: xr.Variable | None) -> str | None:
    """Tell longitudes and latitudes by what their coordinate says of itself, else by their name."""
    told = {} if coordinate is None else coordinate.attrs
    standard, units = str(told.get("standard_name", "")), str(told.get("units", "")).lower()
    for kind, letter, short in (("longitude", "e", "lon"), ("latitude", "n", "lat")):
        is_told = standard == kind or re.fullmatch(rf"degrees?_?{letter}(ast|orth)?", units)
        if is_told or (not standard and not units and name.lower() in (kind, short)):
            return kind
    return None


def _refuse_other_coordinates(
    mask: xr.DataArray, places: dict[str, NDArray[np.intp]], repository: Repository
) -> None:
    """Refuse a mask whose further coordinates, be they of two dimensions, are not the grid's."""
    fixed = repository.frame.variables
    for name, coordinate in mask.coords.items():
        dims = tuple(map(str, coordinate.dims))
        if not dims or dims == (name,) or name not in fixed:
            continue
        grid = fixed[name]
        if set(map(str, grid.dims)) == set(dims) <= set(places):
            there = grid.transpose(*dims).isel({d: places[d] for d in dims})
            places_of(str(name), coordinate.variable, there, in_order=True)
