"""Polygons that a user draws around damaged cells, as GeoJSON, and the cells that lie in them.

A cell counts where its centre does: inside, or on the line.  Positions are longitudes and latitudes
in degrees, as RFC 7946 has them, and are found in the coordinates of the variable, of one dimension
or of two.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely
import xarray as xr
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from gnomon.storage.errors import InvalidInput
from gnomon.storage.redaction import one_line
from gnomon.storage.repository import Repository
from gnomon.storage.values.model import Variable

__all__ = ["Polygons"]

_DEGREES = {
    "longitude": ("degrees_east", "degree_east", "degree_e", "degrees_e", "degreee", "degreese"),
    "latitude": ("degrees_north", "degree_north", "degree_n", "degrees_n", "degreen", "degreesn"),
}
"""Units by which CF tells the two, 4.1 and 4.2."""
_NAMES = {"longitude": ("longitude", "lon"), "latitude": ("latitude", "lat")}
_WGS84 = ("CRS84", "4326")
"""How a file of before 2016, which may name its coordinates, names those that are meant."""
_TURN = 360.0
_MOST_TURNS = 2
"""By which longitudes of a grid and of a polygon, each within 540 degrees, are brought together."""


@dataclass(frozen=True, slots=True)
class Polygons:
    """What is damaged, as areas on the sphere."""

    area: BaseGeometry
    """Longitudes and latitudes, degrees; polygons alone, at least one."""
    origin: str
    """Where it is from, for messages."""

    @classmethod
    def read(cls, path: Path) -> "Polygons":
        """Read a file of GeoJSON.

        Raises
        ------
        InvalidInput
            It cannot be read, or holds something else than polygons.
        """
        origin = f"--cells {path}"
        if not path.exists():
            raise InvalidInput(
                f"{origin} cannot be read as GeoJSON: there is no such file; give one of polygons, "
                "or a mask"
            )
        try:
            document = json.loads(path.read_text(encoding="utf-8-sig"))
        except (OSError, ValueError, RecursionError) as error:
            raise InvalidInput(
                f"{origin} cannot be read as GeoJSON ({one_line(error)}); give polygons of "
                "longitudes and latitudes, or a mask (.npy, NetCDF or Zarr)"
            ) from error
        return cls.of(document, origin)

    @classmethod
    def of(cls, document: Any, origin: str = "cells") -> "Polygons":
        """Take a GeoJSON object.

        Raises
        ------
        InvalidInput
            It is none, holds something else than polygons, or one that crosses itself.
        """
        if not isinstance(document, Mapping):
            raise InvalidInput(f"{origin} is no GeoJSON object; give polygons")
        _refuse_projected(document, origin)
        areas = []
        try:
            geometries = list(_geometries(document, origin))
        except RecursionError as error:
            raise InvalidInput(
                f"{origin} has collections within collections, too deep to be read; give polygons"
            ) from error
        for number, geometry in enumerate(geometries):
            try:
                area = shapely.from_geojson(json.dumps(geometry))
            except (shapely.errors.ShapelyError, TypeError, ValueError) as error:
                raise InvalidInput(
                    f"geometry {number} of {origin} cannot be read ({one_line(error)})"
                ) from error
            if area.geom_type not in ("Polygon", "MultiPolygon"):
                raise InvalidInput(
                    f"geometry {number} of {origin} is a {area.geom_type}; only polygons have "
                    "cells in them"
                )
            if not area.is_valid:
                reason = shapely.is_valid_reason(area)
                raise InvalidInput(
                    f"geometry {number} of {origin} is no valid polygon ({reason}): what is inside "
                    "is not certain; mend it"
                )
            if not area.is_empty:
                _refuse_far(area, f"geometry {number} of {origin}")
                areas.append(area)
        merged = shapely.union_all(areas)
        if merged.is_empty:
            raise InvalidInput(f"{origin} holds no polygon; draw one around the damaged cells")
        return cls(merged, origin)

    def covers(self, repository: Repository, variable: Variable) -> bool:
        """Tell whether a variable has longitudes and latitudes."""
        return all(p is not None for p in _positions(repository, variable))

    def mask(self, repository: Repository, variable: Variable) -> NDArray[np.bool_]:
        """Return which cells (*dims) of a variable have their centre in a polygon.

        Along other dimensions, such as levels, all cells are alike.

        Raises
        ------
        InvalidInput
            The centre of no cell lies in a polygon.
        """
        east, north = _positions(repository, variable)
        assert east is not None
        assert north is not None
        longitude, latitude = xr.broadcast(_degrees(east), _degrees(north))
        west, south, right, top = self.area.bounds
        shapely.prepare(self.area)
        inside = np.zeros(longitude.shape, bool)
        # Grids count from 0 or from -180, and people draw as their maps do.
        for turns in range(-_MOST_TURNS, _MOST_TURNS + 1):
            shifted = longitude.values + turns * _TURN
            inside |= shapely.intersects_xy(self.area, shifted, latitude.values)
        if not inside.any():
            raise InvalidInput(
                f"the polygons of {self.origin} reach from {west:g} to {right:g} in longitude and "
                f"from {south:g} to {top:g} in latitude, and hold the centre of no cell of "
                f"{variable.name}, which has {_span(longitude)} and {_span(latitude)}"
            )
        sizes = dict(zip(variable.dims, variable.shape, strict=True))
        found = xr.DataArray(inside, dims=longitude.dims)
        spread = found.expand_dims({d: sizes[d] for d in variable.dims if d not in found.dims})
        return np.asarray(spread.transpose(*variable.dims).values)


def _refuse_projected(document: Mapping[str, Any], origin: str) -> None:
    named = document.get("crs")
    if named is not None and not any(word in json.dumps(named) for word in _WGS84):
        raise InvalidInput(
            f"{origin} has other coordinates ({json.dumps(named):.80}); give longitudes and "
            "latitudes in degrees (WGS 84)"
        )


def _refuse_far(area: BaseGeometry, origin: str) -> None:
    """Refuse what are no degrees, and edges of which it is not certain which way round they go."""
    longitude, latitude = shapely.get_coordinates(area).T
    if not (np.abs(longitude).max() <= 1.5 * _TURN and np.abs(latitude).max() <= _TURN / 4):
        raise InvalidInput(
            f"{origin} reaches from {longitude.min():g} to {longitude.max():g} and from "
            f"{latitude.min():g} to {latitude.max():g}; give degrees, the longitude first"
        )
    rings = shapely.get_rings(area)
    longest = max(np.abs(np.diff(shapely.get_coordinates(ring)[:, 0])).max() for ring in rings)
    if _TURN / 2 < longest < _TURN:
        raise InvalidInput(
            f"{origin} has an edge over {longest:g} degrees of longitude, which may go either way "
            "round; add a corner on its way, or write 190 for -170"
        )


def _geometries(document: Any, origin: str) -> Iterator[Mapping[str, Any]]:
    """Yield the geometries of a GeoJSON object, those of collections one by one."""
    kind = document.get("type") if isinstance(document, Mapping) else None
    if kind == "FeatureCollection":
        inner = document.get("features")
    elif kind == "GeometryCollection":
        inner = document.get("geometries")
    elif kind == "Feature":
        inner = [document["geometry"]] if document.get("geometry") is not None else []
    elif isinstance(kind, str):
        yield document
        return
    else:
        inner = None
    if not isinstance(inner, list):
        raise InvalidInput(f"{origin} is no GeoJSON: an object in it has the type {kind!r:.40}")
    for item in inner:
        yield from _geometries(item, origin)


def _positions(
    repository: Repository, variable: Variable
) -> tuple[xr.DataArray | None, xr.DataArray | None]:
    """Return the longitudes and the latitudes of a variable; None where it has none."""
    fixed = {
        str(name): xr.DataArray(coordinate.as_numpy(), name=str(name))
        for name, coordinate in repository.frame.variables.items()
        if coordinate.ndim in (1, 2)
        and set(map(str, coordinate.dims)) <= set(variable.dims)
        and coordinate.dtype.kind in "iuf"
    }
    return _named(fixed, "longitude"), _named(fixed, "latitude")


def _named(fixed: Mapping[str, xr.DataArray], kind: str) -> xr.DataArray | None:
    """Return the coordinate of a kind: by its standard name, else its units, else its own name.

    Those of a rotated grid have the units too, and standard names of their own.
    """
    tests = (
        lambda c: c.attrs.get("standard_name") == kind,
        lambda c: (
            "standard_name" not in c.attrs
            and str(c.attrs.get("units", "")).lower() in _DEGREES[kind]
        ),
        lambda c: (
            not {"standard_name", "units"} & set(c.attrs) and str(c.name).lower() in _NAMES[kind]
        ),
    )
    for test in tests:
        for coordinate in fixed.values():
            if test(coordinate):
                return coordinate
    return None


def _degrees(coordinate: xr.DataArray) -> xr.DataArray:
    decoded = xr.conventions.decode_cf_variable(
        coordinate.name, coordinate.variable, decode_times=False
    )
    return xr.DataArray(decoded.as_numpy()).astype(np.float64)


def _span(degrees: xr.DataArray) -> str:
    known = degrees.values[np.isfinite(degrees.values)]
    return f"{known.min():g} to {known.max():g}" if known.size else "none"
