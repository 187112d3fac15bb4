"""Planes: the states that a view is made of, and where each of their cells comes from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gnomon.storage.errors import NotFound
from gnomon.storage.stacks.captures import CaptureStack
from gnomon.storage.stacks.shadows import ShadowStack
from gnomon.storage.values.grid import Index
from gnomon.storage.values.meaning import read_alike
from gnomon.storage.values.scaling import Packing

__all__ = [
    "EXPECTED_ERROR",
    "EXTRAS",
    "FORECAST_EXTRAS",
    "PROVENANCE",
    "EstimatedChunk",
    "Estimator",
    "Plane",
    "estimated_chunk",
    "is_predicted",
    "plane_chunk",
    "raw_estimate",
]

PROVENANCE = {
    "captured": 0,
    "estimated_from_intact_neighbours": 1,
    "interpolated": 2,
    "forecast": 3,
    "climatology": 4,
    "missing": 5,
    "simulated": 6,
}
"""Values of ``<var>_provenance``, one per cell."""
EXTRAS = {"_standard_error": "<f4", "_provenance": "u1"}
"""How the arrays are called that stand beside the values, by ending, and their types."""
FORECAST_EXTRAS = {**EXTRAS, "_confidence": "<f4"}
"""The same of a shadow that is served along its leads."""
EXPECTED_ERROR = "_expected_error"
"""Ending of the expected errors of such a shadow, one per lead."""


@dataclass(frozen=True, slots=True)
class EstimatedChunk:
    """A chunk that replaces the captured one."""

    values: NDArray[np.float64]
    """In physical units, NaN where missing."""
    standard_error: NDArray[np.float64]
    """In physical units."""
    provenance: NDArray[np.uint8]
    """One of `PROVENANCE` per cell."""


class Estimator(Protocol):
    """Estimates a state of one variable chunk by chunk, each when it is asked for; it pickles."""

    def chunk(self, captures: CaptureStack, index: Index) -> EstimatedChunk:
        """Return the estimate of a chunk; Integrity if what it rests on is damaged."""
        ...


@dataclass(frozen=True, slots=True)
class Plane:
    """One state of a view: captured (`step`), predicted (`shadow`), captured and patched, or
    estimated when it is read (`estimators`)."""

    instant: int
    """Valid time."""
    step: int | None = None
    """Captured step that it shows."""
    shadow: str | None = None
    """Id of the shadow that it shows."""
    lead: int = 0
    """Lead in that shadow."""
    patches: Mapping[tuple[str, Index], EstimatedChunk] = field(default_factory=dict)
    """Chunks that were estimated, by variable and chunk index."""
    estimators: Mapping[str, Estimator] = field(default_factory=dict)
    """By variable: what estimates its chunks that have no patch; only without `step`."""


def is_predicted(planes: tuple[Plane, ...]) -> bool:
    """Tell whether any cell of a view was not captured."""
    return any(plane.step is None or plane.patches for plane in planes)


def plane_chunk(
    captures: CaptureStack,
    shadow: ShadowStack | None,
    plane: Plane,
    index: Index,
    into: Packing,
    *,
    marks: bool = True,
) -> tuple[NDArray[Any], ...]:
    """Return raw values, standard error and provenance of one chunk of a plane.

    Of a predicted plane the confidence comes after them, the same for all cells, NaN if unknown.
    Masked cells (land, fill values) of a captured chunk count as captured, with an error of NaN.

    Parameters
    ----------
    into
        What raw values are to stand for; see `served_reading`.
    marks
        Without, only the raw values of a plane whose cells were all captured.
    """
    variable = captures.variable
    if not marks and plane.step is not None and not plane.patches:
        return (_captured(captures, plane.step, index, into),)
    estimate = estimated_chunk(captures, shadow, plane, index)
    if estimate is None:
        assert plane.step is not None
        raw = _captured(captures, plane.step, index, into)
        error = np.where(np.isnan(into.to_physical(raw)), np.nan, 0.0)
        return raw, error, np.full(raw.shape, PROVENANCE["captured"], np.uint8)
    # Arrays also where a state is one number, of which arithmetic makes no array.
    raw = np.asarray(raw_estimate(captures, plane, index, estimate, into))
    errors = np.asarray(estimate.standard_error / abs(into.factor))
    if shadow is None or plane.step is not None or variable.name in plane.estimators:
        return raw, errors, estimate.provenance
    confidence = np.full(raw.shape, shadow.confidence(plane.lead, index))
    return raw, errors, estimate.provenance, confidence


def estimated_chunk(
    captures: CaptureStack, shadow: ShadowStack | None, plane: Plane, index: Index
) -> EstimatedChunk | None:
    """Return a chunk of which some cells are estimates; None if it is as it was captured."""
    name = captures.variable.name
    patch = plane.patches.get((name, index))
    if patch is None and name in plane.estimators:
        patch = plane.estimators[name].chunk(captures, index)
    if patch is not None or plane.step is not None:
        return patch
    if shadow is None:
        raise NotFound(f"{name} has no prediction at this time")
    values, errors = shadow.chunk(plane.lead, index)
    predicted = np.isfinite(values)
    provenance = np.where(predicted, PROVENANCE["forecast"], PROVENANCE["missing"])
    return EstimatedChunk(values, errors, provenance.astype(np.uint8))


def raw_estimate(
    captures: CaptureStack, plane: Plane, index: Index, estimate: EstimatedChunk, into: Packing
) -> NDArray[np.generic]:
    """Return the raw values of a chunk with estimates; captured cells as they were captured."""
    raw = into.from_physical(estimate.values)
    captured = estimate.provenance == PROVENANCE["captured"]
    if plane.step is not None and captured.any():
        raw = np.where(captured, _captured(captures, plane.step, index, into), raw)
    return raw


def _captured(
    captures: CaptureStack, step: int, index: Index, into: Packing
) -> NDArray[np.generic]:
    """Return a captured chunk, bit for bit where it stands for what is asked for."""
    if read_alike(captures.reading(step), into):
        return captures.chunk(step, index)
    return np.asarray(into.from_physical(captures.physical(step, index)))
