"""Shadows: predicted states as small integers against the last capture, with error and confidence.

Per lead and chunk the predicted *change* is stored in multiples of a quantum, a power of two near
a quarter of the standard error, so that precision follows confidence (a step of sigma/4 adds 0.3 %
to the error).  Standard errors are stored on a logarithmic scale, eight steps to the octave, which
keeps them within 4.5 %.  The stored integers are hashed, so that every machine finds the same hash.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gnomon.storage.arrays.residuals import digest
from gnomon.storage.arrays.shards import Shards
from gnomon.storage.arrays.tables import Slab, StoredColumn, create_residual, create_table
from gnomon.storage.errors import Integrity, NotFound
from gnomon.storage.log.folders import shadow_of
from gnomon.storage.log.location import Location
from gnomon.storage.log.staging import Batch
from gnomon.storage.log.steps import Shadow
from gnomon.storage.stacks.captures import CaptureStack
from gnomon.storage.values.grid import Index
from gnomon.storage.values.model import Variable

if TYPE_CHECKING:
    import zarr

__all__ = [
    "INDEX_COLUMNS",
    "NO_BASE",
    "SCORE_COLUMNS",
    "QuantisedChunk",
    "ShadowStack",
    "create_shadow",
    "create_shadow_tables",
    "discard_shadow",
    "open_shadow",
    "quantise",
]

INDEX_COLUMNS = ["base", "digest_high", "digest_low"]
SCORE_COLUMNS = ["quantum", "error_scale", "confidence", "expected_rmse"]
_INDEX = [StoredColumn(name) for name in INDEX_COLUMNS]
_SCORE = [StoredColumn("quantum"), StoredColumn("error_scale")]
_SCORE += [
    StoredColumn("confidence", default=np.nan),
    StoredColumn("expected_rmse", default=np.nan),
]
NO_BASE = -1
"""Base of a chunk that was never captured well."""
_NOTHING = np.iinfo(np.int32).min
_PER_OCTAVE = 8.0
_PARTS = {"change": "<i4", "error": "i1"}
"""Arrays of a variable, and their types."""
_UNKNOWN, _ZERO, _SMALLEST, _LARGEST = 0, 1, 2, 255
"""Codes of standard errors: none, exactly zero, and the ends of the logarithmic scale."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class QuantisedChunk:
    """One predicted chunk of one lead, as it goes into a slab."""

    change: NDArray[np.int32]
    """Predicted change in quanta; the smallest integer marks cells without a prediction."""
    error: NDArray[np.uint8]
    """Standard error: 0 none, 1 exactly zero, else ``scale * 2^((k - 2) / 8)``."""
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
        Values of the captured chunk that changes are counted from, float64 in the variable's units,
        NaN where missing; None for none.
    base_step
        Number of that capture; not looked at without one.
    confidence, expected_rmse
        Of the chunk: a probability, and an error in the variable's units; NaN where not known.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        difference = mean - _reference(base, mean.shape)
    predicted = np.isfinite(difference) & np.isfinite(standard_error)
    change = np.where(predicted, difference, 0.0)
    quantum = _quantum(change, standard_error[predicted])
    integers = np.where(predicted, np.rint(change / quantum), _NOTHING).astype(np.int32)
    error, scale = _logarithmic(standard_error, predicted)
    score = np.array([quantum, scale, confidence, expected_rmse])
    base_step = NO_BASE if base is None else base_step
    chunk_digest = np.frombuffer(_digest(variable, address, integers, error), "<i8")
    return QuantisedChunk(integers, error, np.array([base_step, *chunk_digest], np.int64), score)


def _logarithmic(errors: Floats, predicted: NDArray[np.bool_]) -> tuple[NDArray[np.uint8], float]:
    """Return standard errors as codes, and their scale.

    The scale starts at the smallest error, or as low as still reaches the largest: an error below
    it is overstated, none is understated.
    """
    positive = errors[predicted & (errors > 0)]
    if not positive.size:
        return np.where(predicted, _ZERO, _UNKNOWN).astype(np.uint8), 1.0
    reach = 2.0 ** ((_LARGEST - _SMALLEST) / _PER_OCTAVE)
    scale = max(float(positive.min()), float(positive.max()) / reach)
    with np.errstate(divide="ignore", invalid="ignore"):
        steps = np.rint(_PER_OCTAVE * np.log2(errors / scale)) + _SMALLEST
    codes = np.where(errors > 0, np.clip(steps, _SMALLEST, _LARGEST), _ZERO)
    return np.where(predicted, codes, _UNKNOWN).astype(np.uint8), scale


def _reference(base: Floats | None, shape: tuple[int, ...]) -> Floats:
    return np.zeros(shape) if base is None else np.where(np.isfinite(base), base, 0.0)


def _quantum(change: Floats, errors: Floats) -> float:
    """Return a power of two near a quarter of a small standard error of the chunk."""
    typical = float(np.quantile(errors, 0.1)) if errors.size else 1.0
    largest = float(np.abs(change).max(initial=0.0))
    quantum = max(typical / 4, largest * 2.0**-29, np.finfo(np.float64).tiny * 2.0**60)
    return float(2.0 ** np.floor(np.log2(quantum)))


def _dequantise(
    change: NDArray[np.int32], error: NDArray[np.uint8], score: Floats, reference: Floats
) -> tuple[Floats, Floats]:
    quantum, scale = score[:2]
    predicted = change != _NOTHING
    values = np.where(predicted, reference + change * quantum, np.nan)
    steps = error.astype(np.float64) - _SMALLEST
    errors = np.where(error >= _SMALLEST, scale * np.exp2(steps / _PER_OCTAVE), 0.0)
    return values, np.where(error == _UNKNOWN, np.nan, errors)


def _digest(
    variable: str, address: Index, change: NDArray[np.int32], error: NDArray[np.uint8]
) -> bytes:
    # The base chunk, the scores and the number of the base step have digests of their own.
    return digest(variable, address, np.stack([change.astype("<i4"), error.astype("<i4")]))


def create_shadow(batch: Batch, variable: Variable, leads: int) -> None:
    """Make room for the predicted states of a variable in a commit."""
    for part, dtype in _PARTS.items():
        create_residual(
            batch,
            f"{shadow_of(batch.id, variable)}/{part}",
            lead=leads,
            grid=variable.stored_grid,
            dtype=np.dtype(dtype),
        )


def open_shadow(batch: Batch, variable: Variable) -> "tuple[zarr.Array[Any], zarr.Array[Any]]":
    """Return the arrays of predicted changes, int32, and of error codes, both (lead, *dims)."""
    import zarr  # here, as what is read is read without it

    path = shadow_of(batch.id, variable)
    change, error = (
        zarr.open_array(batch.store(), path=f"{path}/{part}", mode="r+") for part in _PARTS
    )
    return change, error


def create_shadow_tables(
    batch: Batch, variable: Variable, index: NDArray[np.int64], scores: Floats
) -> tuple[str, str]:
    """Store index and scores (lead, *chunk grid, column) of a variable; return their roots."""
    path = shadow_of(batch.id, variable)
    return (
        create_table(batch, f"{path}/index", index, INDEX_COLUMNS),
        create_table(batch, f"{path}/score", scores, SCORE_COLUMNS),
    )


def discard_shadow(location: Location, commit: str) -> None:
    """Remove the predictions of a shadow that no record names, and that is to be written again."""
    location.delete(location.list(f"{shadow_of(commit)}/"))


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
            path = shadow_of(self.shadow.id, self.variable)
            entry = self.shadow.variables[self.variable.name]
            roots = {"index": entry.index_root, "score": entry.score_root}
            sizes = (len(self.shadow.instants), *self.variable.grid.counts)
            self._slab = Slab(
                self.location,
                path,
                roots,
                columns={"index": _INDEX, "score": _SCORE},
                sizes=dict.fromkeys(("index", "score"), sizes),
                cure="run 'gnomon update --refit' to make a new shadow",
            )
        return self._slab

    def scores(self) -> Floats:
        """Return quantum, error scale, confidence, expected RMSE, float64 (lead, *chunk grid, 4).

        The last two are NaN where they are not known, or not possible.

        Raises
        ------
        Integrity
            The table is damaged.
        """
        scores = np.array(self.slab.index("score"), np.float64)
        confidence, rmse = scores[..., 2], scores[..., 3]
        confidence[~((confidence >= 0) & (confidence <= 1))] = np.nan
        rmse[~((rmse >= 0) & np.isfinite(rmse))] = np.nan
        return scores

    def confidence(self, lead: int, index: Index) -> float:
        """Return the confidence of a chunk at lead 1..H; NaN if it is not known."""
        confidence = float(self.slab.index("score")[(lead - 1, *index, 2)])
        return confidence if 0 <= confidence <= 1 else np.nan

    def file(self, lead: int, index: Index) -> str:
        """Return the stored object that holds the predicted change of a chunk."""
        cells = self.variable.grid.cells(index)
        return self._shards("change", "<i4").name(lead - 1, cells)

    def _shards(self, part: str, dtype: str) -> Shards:
        return self.slab.shards(part, self.variable.stored_grid, np.dtype(dtype))

    def chunk(self, lead: int, index: Index) -> tuple[Floats, Floats]:
        """Return prediction and standard error of a chunk at lead 1..H.

        Both are float64 in the shape of the chunk and the units of init, NaN where nothing is
        predicted.

        Raises
        ------
        NotFound
            The shadow has no such lead.
        Integrity
            Stored bytes, of the shadow or of the capture below it, are not what was written.
        """
        if not 1 <= lead <= len(self.shadow.instants):
            raise NotFound(
                f"the shadow has no lead {lead}; its leads are 1 to {len(self.shadow.instants)}"
            )
        address = (lead - 1, *index)
        row = self.slab.index()[address]
        score = self.scores()[address]
        shape = tuple(c.stop - c.start for c in self.variable.grid.cells(index))
        name = f"shadow of {self.variable.name} chunk {index} at lead {lead}"
        cells = self.variable.grid.cells(index)
        parts = (self._shards("change", "<i4"), self._shards("error", "i1"))
        try:
            change, error = (shards.read(lead - 1, cells) for shards in parts)
        except Integrity as failure:
            raise Integrity(
                f"{name}: {failure}; run 'gnomon update --refit' to make a new shadow"
            ) from failure
        error = error.view(np.uint8)
        chunk_digest = np.frombuffer(_digest(self.variable.name, address, change, error), "<i8")
        if not np.array_equal(chunk_digest, row[1:]):
            files = " or ".join(shards.name(lead - 1, cells) for shards in parts)
            raise Integrity(
                f"{name} ({files}): digest differs from what was written; "
                "run 'gnomon update --refit' to make a new shadow"
            )
        if not (np.isfinite(score[:2]).all() and (score[:2] > 0).all()):
            raise Integrity(
                f"{name}: found a quantum of {score[0]} and an error scale of {score[1]}, expected "
                "numbers above zero; run 'gnomon update --refit' to make a new shadow"
            )
        base = None
        if row[0] != NO_BASE:
            if int(row[0]) not in self.shadow.bases:
                raise Integrity(
                    f"{name} is counted from capture {row[0]}, expected one of those that its "
                    "record names; run 'gnomon update --refit' to make a new shadow"
                )
            base = self.captures.physical(int(row[0]), index)
        return _dequantise(change, error, score, _reference(base, shape))
