"""Restore points as datasets: which captured, predicted or healed states are served together.

A view is a list of planes, one per valid time.  Every plane knows per chunk where its cells come
from, and says so in two ancillary variables: ``<var>_standard_error`` and ``<var>_provenance``.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray
from zarr.storage import MemoryStore

from gnomon.storage.attributes import plain_attributes
from gnomon.storage.captures import CaptureStack
from gnomon.storage.documents import NONSENSE
from gnomon.storage.errors import GnomonError, Integrity, NotFound
from gnomon.storage.grid import Index
from gnomon.storage.model import Shadow, Variable
from gnomon.storage.reader import ComputedArray, ReadingStore
from gnomon.storage.repository import Repository
from gnomon.storage.shadows import ShadowStack
from gnomon.storage.template import ServedArray, create_computed, create_fixed
from gnomon.storage.times import encode

__all__ = [
    "PROVENANCE",
    "Patch",
    "Plane",
    "is_predicted",
    "open_view",
    "plane_chunk",
    "raw_dataset",
    "reading_store",
]

PROVENANCE = {
    "captured": 0,
    "estimated_from_intact_neighbours": 1,
    "interpolated": 2,
    "forecast": 3,
    "climatology": 4,
    "missing": 5,
}
"""Values of ``<var>_provenance``, one per cell."""

NOTES = "gnomon_notes"
"""Global attribute that says what estimates lack; there only where they lack something."""


@dataclass(frozen=True, slots=True)
class Patch:
    """A chunk that replaces the captured one."""

    values: NDArray[np.float64]
    """In physical units, NaN where missing."""
    standard_error: NDArray[np.float64]
    """In physical units."""
    provenance: NDArray[np.uint8]
    """One of `PROVENANCE` per cell."""


@dataclass(frozen=True, slots=True)
class Plane:
    """One state of a view: captured (`step`), predicted (`shadow`), or captured and patched."""

    instant: int
    """Valid time."""
    step: int | None = None
    """Captured step that it shows."""
    shadow: str | None = None
    """Id of the shadow that it shows."""
    lead: int = 0
    """Lead in that shadow."""
    patches: Mapping[tuple[str, Index], Patch] = field(default_factory=dict)
    """Chunks that were estimated, by variable and chunk index."""
    notes: tuple[str, ...] = ()
    """What the estimates lack, as the served dataset must say."""


def is_predicted(planes: tuple[Plane, ...]) -> bool:
    """Tell whether any cell of a view was not captured."""
    return any(plane.step is None or plane.patches for plane in planes)


def raw_dataset(
    repository: Repository, planes: tuple[Plane, ...], *, plain: bool = False
) -> xr.Dataset:
    """Return planes as an undecoded, lazy dataset laid out like the source.

    Parameters
    ----------
    plain
        Leave out standard errors and provenance; only for planes that were captured.
    """
    store = reading_store(repository, planes, plain=plain)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            dataset = xr.open_dataset(
                store,  # type: ignore[arg-type]
                engine="zarr",
                consolidated=False,
                decode_cf=False,
                chunks=None,
                cache=False,
            )
        except GnomonError:
            raise
        except NONSENSE as error:
            raise _none(error) from error
    # Zarr keeps attributes as JSON, which has no float32: put back the exact ones.
    for name, attributes in store.attributes.items():
        dataset.variables[name].attrs = dict(attributes)
    dataset.attrs = _attributes(repository, planes)
    return dataset


def _attributes(repository: Repository, planes: tuple[Plane, ...]) -> dict[str, Any]:
    """Return the source's global attributes, and what estimates lack."""
    notes = dict.fromkeys(note for plane in planes for note in plane.notes)
    told = {NOTES: "; ".join(notes)} if notes else {}
    return dict(repository.settings.attributes) | told


def reading_store(
    repository: Repository, planes: tuple[Plane, ...], *, plain: bool = False
) -> ReadingStore:
    """Return planes as a read-only Zarr store."""
    pinned = repository.location.url, repository.records[-1].sequence, repository.era
    return _build(repository, planes, plain, (*pinned, planes, plain))


def open_view(
    url: str, sequence: int, era: int, planes: tuple[Plane, ...], plain: bool
) -> ReadingStore:
    """Rebuild a reading store in another process, pinned to the same commit and era."""
    repository = Repository.open(url).at(sequence).in_era(era)
    return _build(repository, planes, plain, (url, sequence, era, planes, plain))


def _build(
    repository: Repository, planes: tuple[Plane, ...], plain: bool, recipe: tuple[Any, ...]
) -> ReadingStore:
    try:
        return _laid_out(repository, planes, plain, recipe)
    except GnomonError:
        raise
    except NONSENSE as error:
        raise _none(error) from error


def _none(error: BaseException) -> Integrity:
    """Return the error that says that the settings describe no dataset that can be opened."""
    reason = " ".join(str(error).split())[:200]
    return Integrity(
        f"what the settings describe is no dataset ({type(error).__name__}: {reason}); the "
        "repository was tampered with"
    )


def _laid_out(
    repository: Repository, planes: tuple[Plane, ...], plain: bool, recipe: tuple[Any, ...]
) -> ReadingStore:
    settings = repository.settings
    predicted = is_predicted(planes)
    memory = MemoryStore()
    zarr.create_group(memory, attributes=plain_attributes(_attributes(repository, planes)))
    fixed = dict(repository.frame.variables)
    if settings.source.time is not None:
        attributes = dict(settings.time_attributes)
        if predicted:
            attributes.pop("bounds", None)
        dims = (settings.source.time,)
        fixed[dims[0]] = xr.Variable(dims, _raw_times(repository, planes), attributes)
    exact: dict[str, dict[str, Any]] = {}
    for name, variable in fixed.items():
        exact[str(name)] = dict(variable.attrs)
        create_fixed(memory, str(name), variable)
    arrays: dict[str, ComputedArray] = {}
    for captured in settings.variables:
        if predicted and not captured.forecast:
            continue
        extras = captured.forecast and not plain
        for served in _Served(repository, captured, planes).arrays(extras=extras):
            arrays[served.name] = served.computed
            exact[served.name] = served.attributes
            create_computed(memory, served)
    return ReadingStore(memory, arrays, (open_view, recipe), exact)


def _raw_times(repository: Repository, planes: tuple[Plane, ...]) -> NDArray[Any]:
    settings = repository.settings
    dtype = np.dtype(settings.time_dtype)
    raw = []
    for plane in planes:
        if plane.step is not None:
            raw.append(np.frombuffer(repository.captured[plane.step].raw_time, dtype)[0])
        else:
            raw.append(encode([plane.instant], settings.time_units, settings.calendar, dtype)[0])
    return np.array(raw)


def plane_chunk(
    captures: CaptureStack, shadow: ShadowStack | None, plane: Plane, index: Index
) -> tuple[NDArray[np.generic], NDArray[np.float64], NDArray[np.uint8]]:
    """Return raw values, standard error and provenance of one chunk of a plane.

    Masked cells (land, fill values) of a captured chunk count as captured, with an error of NaN.
    """
    variable = captures.variable
    patch = plane.patches.get((variable.name, index))
    if patch is not None:
        raw = variable.from_physical(patch.values)
        captured = patch.provenance == PROVENANCE["captured"]
        if plane.step is not None and captured.any():
            raw = np.where(captured, captures.chunk(plane.step, index), raw)
        return raw, patch.standard_error, patch.provenance
    if plane.step is not None:
        raw = captures.chunk(plane.step, index)
        error = np.where(np.isnan(variable.to_physical(raw)), np.nan, 0.0)
        return raw, error, np.full(raw.shape, PROVENANCE["captured"], np.uint8)
    if shadow is None:
        raise NotFound(f"{variable.name} has no prediction at this time")
    values, errors = shadow.chunk(plane.lead, index)
    known = np.isfinite(values)
    provenance = np.where(known, PROVENANCE["forecast"], PROVENANCE["missing"]).astype(np.uint8)
    return variable.from_physical(values), errors, provenance


class _Served:
    """The arrays that a view serves for one variable."""

    def __init__(
        self, repository: Repository, variable: Variable, planes: tuple[Plane, ...]
    ) -> None:
        self.variable = variable
        self.planes = planes
        self.captures = repository.captures(variable.name)
        self.time = repository.settings.source.time
        by_id: dict[str, Shadow] = {s.id: s for s in repository.shadows}
        self.shadows = {
            p.shadow: repository.shadow(variable.name, by_id[p.shadow], self.captures)
            for p in planes
            if p.shadow is not None
        }

    def arrays(self, *, extras: bool) -> list[ServedArray]:
        variable = self.variable
        attributes = dict(variable.attributes)
        if not extras:
            return [self._array(variable.name, 0, variable.numpy_dtype, attributes)]
        names = [f"{variable.name}_standard_error", f"{variable.name}_provenance"]
        before = str(attributes.get("ancillary_variables", "")).split()
        attributes["ancillary_variables"] = " ".join([*before, *names])
        about = {"units": attributes["units"]} if "units" in attributes else {}
        standard_name = attributes.get("standard_name")
        if standard_name:
            about["standard_name"] = f"{standard_name} standard_error"
        flags = {
            "standard_name": "status_flag",
            "long_name": f"provenance of {variable.name}",
            "flag_values": np.array(list(PROVENANCE.values()), np.uint8),
            "flag_meanings": " ".join(PROVENANCE),
        }
        error = about | {"long_name": f"standard error of {variable.name}"}
        return [
            self._array(variable.name, 0, variable.numpy_dtype, attributes),
            self._array(names[0], 1, np.dtype("<f4"), error | {"_FillValue": np.float32(np.nan)}),
            self._array(names[1], 2, np.dtype("u1"), flags),
        ]

    def _array(
        self, name: str, part: int, dtype: np.dtype[Any], attributes: dict[str, Any]
    ) -> ServedArray:
        grid = self.variable.grid
        shape, chunks, counts = list(grid.shape), list(grid.chunks), list(grid.counts)
        dims = list(self.variable.dims)
        axis = self.variable.time_axis if self.time is not None else None
        if axis is not None and self.time is not None:
            shape.insert(axis, len(self.planes))
            chunks.insert(axis, 1)
            counts.insert(axis, len(self.planes))
            dims.insert(axis, self.time)

        def compute(index: Index) -> NDArray[Any]:
            if axis is None:
                return self._chunk(self.planes[0], index, part).astype(dtype, copy=False)
            inner = index[:axis] + index[axis + 1 :]
            cells = self._chunk(self.planes[index[axis]], inner, part)
            return np.expand_dims(cells.astype(dtype, copy=False), axis)

        computed = ComputedArray(tuple(chunks), tuple(counts), dtype, compute)
        return ServedArray(name, tuple(dims), tuple(shape), attributes, computed)

    def _chunk(self, plane: Plane, index: Index, part: int) -> NDArray[Any]:
        shadow = self.shadows[plane.shadow] if plane.shadow is not None else None
        result: NDArray[Any] = plane_chunk(self.captures, shadow, plane, index)[part]
        return result
