"""Shadows: predicted states as small integers against the last capture, with error and confidence.

Per lead and chunk the predicted *change* is stored in multiples of a quantum, a power of two near
a quarter of the standard error, so that precision follows confidence (a step of sigma/4 adds 0.3 %
to the error).  Standard errors are stored on a logarithmic scale, eight steps to the octave.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gnomon.storage.captures import CaptureStack
from gnomon.storage.delta import digest
from gnomon.storage.errors import Integrity
from gnomon.storage.grid import Index
from gnomon.storage.location import Location
from gnomon.storage.model import Shadow, Variable
from gnomon.storage.slab import Slab

__all__ = ["INDEX_COLUMNS", "SCORE_COLUMNS", "QuantisedChunk", "ShadowStack", "quantise"]

INDEX_COLUMNS = ["base", "digest_high", "digest_low"]
SCORE_COLUMNS = ["quantum", "error_scale", "confidence", "expected_rmse"]
NO_BASE = -1
_NOTHING = np.iinfo(np.int32).min
_PER_OCTAVE = 8.0

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class QuantisedChunk:
    """One predicted chunk of one lead, as it goes into a slab."""

    change: NDArray[np.int32]
    """Predicted change in quanta; the smallest integer marks cells without a prediction."""
    error: NDArray[np.uint8]
    """Standard error: 0 none, else ``scale * 2^((k - 1) / 8)``."""
    index: NDArray[np.int64]
    """base, digest high, digest low."""
    score: Floats
    """quantum, error scale, confidence, expected RMSE."""


def quantise(
    variable: str,
    address: Index,
    mean: Floats,
    standard_error: Floats,
    base: Floats | None,
    base_step: int,
    confidence: float,
    expected_rmse: float,
) -> QuantisedChunk:
    """Return a predicted chunk in the form that is stored.

    Parameters
    ----------
    address
        (lead - 1, *chunk index).
    mean, standard_error
        float64 in the variable's units; NaN where nothing is predicted.
    base
        Physical values of the captured chunk that changes are counted from; None for none.
    """
    known = np.isfinite(mean) & np.isfinite(standard_error)
    reference = _reference(base, mean.shape)
    change = np.where(known, mean - reference, 0.0)
    quantum = _quantum(change, standard_error[known])
    integers = np.where(known, np.rint(change / quantum), _NOTHING).astype(np.int32)
    positive = standard_error[known & (standard_error > 0)]
    scale = float(positive.min()) if positive.size else 1.0
    with np.errstate(divide="ignore", invalid="ignore"):
        octaves = np.rint(_PER_OCTAVE * np.log2(standard_error / scale)) + 1
    error = np.where(known, np.clip(np.nan_to_num(octaves), 1, 255), 0).astype(np.uint8)
    score = np.array([quantum, scale, confidence, expected_rmse])
    values, errors = _dequantise(integers, error, score, reference)
    found = np.frombuffer(_digest(variable, address, values, errors, score), "<i8")
    index = np.array([NO_BASE if base is None else base_step, *found], np.int64)
    return QuantisedChunk(integers, error, index, score)


def _reference(base: Floats | None, shape: tuple[int, ...]) -> Floats:
    return np.zeros(shape) if base is None else np.where(np.isfinite(base), base, 0.0)


def _quantum(change: Floats, errors: Floats) -> float:
    """Return a power of two near a quarter of a small standard error of the chunk."""
    typical = float(np.quantile(errors, 0.1)) if errors.size else 1.0
    largest = float(np.abs(change).max(initial=0.0))
    wanted = max(typical / 4, largest * 2.0**-30, np.finfo(np.float64).tiny * 2.0**60)
    return float(2.0 ** np.floor(np.log2(wanted)))


def _dequantise(
    change: NDArray[np.int32], error: NDArray[np.uint8], score: Floats, reference: Floats
) -> tuple[Floats, Floats]:
    quantum, scale = score[:2]
    known = change != _NOTHING
    values = np.where(known, reference + change * quantum, np.nan)
    steps = error.astype(np.float64) - 1.0
    errors = np.where(error > 0, scale * np.exp2(steps / _PER_OCTAVE), np.nan)
    return values, errors


def _digest(variable: str, address: Index, values: Floats, errors: Floats, score: Floats) -> bytes:
    # Values are exact sums of float64; the exponential is rounded so that another machine's
    # library, off by a last bit, gives the same hash.
    return digest(
        variable, address, np.concatenate([values.ravel(), np.float32(errors).ravel(), score])
    )


@dataclass(slots=True)
class ShadowStack:
    """The predicted states of one variable in one shadow, open for reading."""

    location: Location
    """Where the repository lives."""
    variable: Variable
    """The variable."""
    shadow: Shadow
    """What the log says of the shadow."""
    captures: CaptureStack
    """The captures that changes are counted from."""
    _slab: Slab | None = field(default=None)

    @property
    def slab(self) -> Slab:
        """The stored arrays."""
        if self._slab is None:
            path = f"shadows/{self.shadow.id}/{self.variable.folder}"
            roots: dict[str, Any] = self.shadow.variables[self.variable.name]["roots"]
            self._slab = Slab(self.location, path, roots)
        return self._slab

    def scores(self) -> Floats:
        """Return quantum, error scale, confidence, expected RMSE per (lead, *chunk grid)."""
        return np.asarray(self.slab.index("score"), np.float64)

    def chunk(self, lead: int, index: Index) -> tuple[Floats, Floats]:
        """Return prediction and standard error of a chunk at lead 1..H, in physical units.

        Raises
        ------
        Integrity
            Stored bytes, of the shadow or of the capture below it, are not what was written.
        """
        address = (lead - 1, *index)
        row = self.slab.index()[address]
        score = self.scores()[address]
        where = (lead - 1, *self.variable.grid.cells(index))
        change = self.slab.read("change", where).astype(np.int32)
        error = self.slab.read("error", where).view(np.uint8)
        base = None
        if row[0] != NO_BASE:
            base = self.variable.to_physical(self.captures.chunk(int(row[0]), index))
        values, errors = _dequantise(change, error, score, _reference(base, change.shape))
        found = np.frombuffer(_digest(self.variable.name, address, values, errors, score), "<i8")
        if not np.array_equal(found, row[1:]):
            file = self.slab.file("change", self.variable.grid, (lead - 1,), index)
            raise Integrity(
                f"shadow of {self.variable.name} chunk {index} at lead {lead} ({file}): digest "
                "differs from what was written; run 'gnomon update' to make a new shadow"
            )
        return values, errors
