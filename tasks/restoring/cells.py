"""Cells that a user names as damaged: they alone are estimated, all others stay as captured.

For damage that no check has found.  The cells are given as a mask of a variable's shape, an array
or a file of one (NumPy, NetCDF or Zarr), or as polygons around them (GeoJSON).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from gnomon.storage.errors import InvalidInput, NotFound
from gnomon.storage.repository import Repository
from gnomon.storage.serve.planes import Plane
from gnomon.storage.values.grid import Index
from gnomon.storage.values.model import Variable
from gnomon.tasks.learning.trusted import gather
from gnomon.tasks.restoring.heal import Healed, heal
from gnomon.tasks.restoring.locate import locate
from gnomon.tasks.restoring.masks import Mask, mask_of, on_grids
from gnomon.tasks.restoring.points import Patches, candidates
from gnomon.tasks.restoring.request import StateRequest
from gnomon.tasks.restoring.restore_point import RestorePoint

if TYPE_CHECKING:
    from gnomon.tasks.restoring.polygons import Polygons

__all__ = ["Cells", "HealedCells", "accepted_cells", "heal_cells"]

Cells = NDArray[Any] | xr.DataArray | Mapping[str, Any] | str | PathLike[str]
"""A mask of damaged cells, a GeoJSON object of polygons, or the path of a file with either."""

_GEOJSON = (".geojson", ".json")
"""Endings of files that hold polygons."""


@dataclass(frozen=True, slots=True)
class HealedCells:
    """A captured state of which some cells are estimated."""

    repository: Repository
    """The era that has the state."""
    planes: tuple[Plane, ...]
    """What is served."""
    point: RestorePoint
    """What it is, with its figures."""


def heal_cells(repository: Repository, request: StateRequest, cells: Cells) -> HealedCells:
    """Return the captured state of a time with the damaged cells estimated, and no others.

    The other cells are believed, those beside them in a suspect chunk as well, unless they are far
    off the forecast; suspect chunks without a damaged cell stay as they were captured, and tell
    nothing.

    Parameters
    ----------
    request
        The capture.  Of its variables the one that is damaged, or none: all that are forecast and
        have the mask's shape, or longitudes and latitudes.
    cells
        True, or 1, in the damaged cells, of the shape of one state, without time; or polygons, in
        which the centres of damaged cells lie.  A mask with coordinates is placed by them, and may
        be of a part of the grid.

    Raises
    ------
    NotFound
        There is no capture of that time, or no forecast of it was made before.
    InvalidInput
        The mask is none, has another shape or grid, or marks no cell or all of them; the same of
        polygons; or a period, a region, chunks or several variables were asked for beside.
    Integrity
        A chunk that is needed is damaged in the repository.
    """
    at, variable = _one_state(request)
    seen, instant = locate(repository, at, match=request.match)
    points = candidates(seen, instant)
    base = _captured(points, at, request.capture)
    masks = _masks(seen, cells, _forecast(seen, base, variable), variable)
    forecast = next((p for p in points if p.kind == "forecast"), None)
    if forecast is None:
        raise NotFound(
            f"no forecast of {base.valid_time} was made before it was captured, so that nothing "
            "can be estimated of it; name a capture that came after the first shadow"
        )
    healed: dict[str, Healed] = {}
    shadow = seen.shadow_named(forecast.shadow)
    assert base.step is not None
    assert shadow is not None
    with gather() as passed:
        for name, damaged in masks.items():
            touched = _touched(seen.settings.variable(name), damaged)
            healed[name] = heal(
                seen, base.step, shadow, forecast.lead, name, touched, mask=damaged, apart=masks
            )
    point = _told(base, forecast, healed, masks)
    lacking = (f"estimated without what is damaged: {text}" for text in passed)
    point = replace(point, notes=(*point.notes, *lacking))
    patches: Patches = {
        (name, index): patch for name, h in healed.items() for index, patch in h.patches.items()
    }
    return HealedCells(seen, (Plane(instant, step=base.step, patches=patches),), point)


def accepted_cells(repository: Repository, request: StateRequest, cells: Cells) -> HealedCells:
    """Return what `heal_cells` does, if the user accepts it.

    Raises
    ------
    InvalidInput
        Estimates were not accepted, or another kind was asked for.
    """
    if request.kind not in (None, "healed"):
        raise InvalidInput(
            f"cells are estimated in a captured state, found --kind {request.kind}; leave that out"
        )
    healed = heal_cells(repository, request, cells)
    if not request.accept_predicted:
        raise InvalidInput(
            f"this would be the {healed.point}; it holds predicted cells: allow that with "
            "--accept-predicted"
        )
    return healed


def _captured(points: tuple[RestorePoint, ...], at: str, capture: int | None) -> RestorePoint:
    """Return the capture whose cells are to be estimated."""
    kinds = ("captured", "suspect", "revision")
    versions = [p for kind in kinds for p in points if p.kind == kind]
    if capture is not None:
        there = ", ".join(str(p.step) for p in versions) or "none"
        versions = [p for p in versions if p.step == capture]
        if not versions:
            raise NotFound(f"capture {capture} is not one of this time; there is {there}")
    if not versions:
        raise NotFound(f"{at} was not captured, so that none of its cells can be kept; forecast it")
    return versions[0]


def _masks(
    repository: Repository, cells: Cells, variables: list[Variable], name: str | None
) -> dict[str, Mask]:
    """Return the damaged cells of each of the variables that they can be of."""
    given = _polygons(cells)
    if given is None:
        assert not isinstance(cells, Mapping)
        masks = on_grids(mask_of(cells, name), repository, variables)
    else:
        placed = [v for v in variables if given.covers(repository, v)]
        if not placed:
            names = ", ".join(v.name for v in variables) or "nothing is forecast"
            raise InvalidInput(
                f"polygons are of longitudes and latitudes, which no variable has: {names}; give a "
                "mask of the shape of one state"
            )
        masks = {v.name: given.mask(repository, v) for v in placed}
    for of, damaged in masks.items():
        _refuse_all_or_none(of, damaged)
    return masks


def _polygons(cells: Cells) -> "Polygons | None":
    """Return the polygons that are given; None: a mask is."""
    path = Path(fspath(cells)) if isinstance(cells, str | PathLike) else None
    drawn = isinstance(cells, Mapping) if path is None else path.suffix.lower() in _GEOJSON
    if not drawn:
        return None
    # Its library takes a tenth of a second to import, and few restores need it.
    from gnomon.tasks.restoring.polygons import Polygons

    return Polygons.of(cells) if path is None else Polygons.read(path)


def _forecast(repository: Repository, base: RestorePoint, name: str | None) -> list[Variable]:
    """Return the variables of which cells can be estimated."""
    assert base.step is not None
    there = [v for v in repository.settings.variables if v.forecast and base.step >= v.since]
    if name is None:
        return there
    variable = repository.settings.variable(name)
    if variable not in there:
        raise InvalidInput(f"{name} is captured and not forecast: it cannot be estimated")
    return [variable]


def _refuse_all_or_none(name: str, damaged: Mask) -> None:
    if not damaged.any():
        raise InvalidInput("the mask marks no cell as damaged: there is nothing to estimate")
    if damaged.all():
        raise InvalidInput(
            f"the mask marks all {damaged.size} cells of {name} as damaged: nothing is left to "
            "estimate them from; take the forecast, with --kind forecast"
        )


def _touched(variable: Variable, damaged: Mask) -> list[Index]:
    """Return the chunks that hold damaged cells, in order."""
    places = zip(np.nonzero(damaged), variable.grid.chunks, strict=True)
    indices = np.stack([place // size for place, size in places], axis=1)
    return [tuple(map(int, index)) for index in np.unique(indices, axis=0)]


def _told(
    base: RestorePoint,
    forecast: RestorePoint,
    healed: Mapping[str, Healed],
    masks: Mapping[str, Mask],
) -> RestorePoint:
    """Return the restore point that says what was estimated, and how well."""
    names = [*base.expected_error]
    errors: dict[str, float | None] = dict.fromkeys(names, 0.0)
    sure: dict[str, float | None] = dict.fromkeys(names, 1.0)
    errors |= {name: h.expected_error for name, h in healed.items()}
    sure |= {name: h.confidence for name, h in healed.items()}
    known = [sure[name] for name in healed]
    shares = {name: float(mask.mean()) for name, mask in masks.items()}
    notes = base.notes
    if base.suspect_chunks:
        notes += (
            "only the cells that were named are estimated; what else is suspect stays as captured",
        )
    return replace(
        base,
        kind="healed",
        shadow=forecast.shadow,
        lead=forecast.lead,
        reference_time=forecast.reference_time,
        expected_error=errors,
        confidences=sure,
        confidence=None if None in known else min(c for c in known if c is not None),
        predicted=True,
        estimated_cells=sum(int(mask.sum()) for mask in masks.values()),
        estimated_share=float(np.mean([*shares.values()])),
        estimated_shares=dict.fromkeys(names, 0.0) | shares,
        tolerances=forecast.tolerances,
        notes=notes,
    )


def _one_state(request: StateRequest) -> tuple[str, str | None]:
    """Return the time, and the variable whose cells are named; None: all of the mask's shape."""
    names, wanted = request.wanted.variables, request.wanted
    others = {
        "--from": request.from_,
        "--until": request.until,
        "--region": wanted.region,
        "--chunk": wanted.chunks,
    }
    given = [name for name, value in others.items() if value]
    if request.at is None or given or len(names) > 1:
        raise InvalidInput(
            "cells are named in one state, with --at, and of one variable or all; leave out "
            f"{', '.join(given) or 'the period, or name one variable'}"
        )
    return request.at, names[0] if names else None
