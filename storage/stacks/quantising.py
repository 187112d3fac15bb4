"""Predictions as small integers: changes in quanta, and codes of standard errors.

The predicted *change* is counted in multiples of a quantum, a power of two near a quarter of the
standard error, so that precision follows confidence (a step of sigma/4 adds 0.3 % to the error).
Standard errors are on a logarithmic scale, eight steps to the octave, which keeps them within
4.5 %.  From lead to lead both go on smoothly, so that what a lead adds to the one before takes a
fraction of the bits.  The integers are hashed, so that every machine finds the same hash.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gnomon.storage.arrays.residuals import digest, digests
from gnomon.storage.values.grid import Index

__all__ = [
    "NO_BASE",
    "Changes",
    "Codes",
    "QuantisedChunk",
    "along_leads",
    "dequantise",
    "digest_of",
    "from_along_leads",
    "quantise",
    "quantise_alike",
    "reference_of",
]

NO_BASE = -1
"""Base of a chunk that was never captured well."""
_NOTHING = np.iinfo(np.int32).min
_PER_OCTAVE = 8.0
_UNKNOWN, _ZERO, _SMALLEST, _LARGEST = 0, 1, 2, 255
"""Codes of standard errors: none, exactly zero, and the ends of the logarithmic scale."""

Floats = NDArray[np.float64]
Changes = NDArray[np.int32]
Codes = NDArray[np.uint8]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class QuantisedChunk:
    """One predicted chunk at every lead, as it goes into a slab."""

    change: Changes
    """(lead, *chunk) predicted change in quanta; the smallest integer marks cells without one."""
    error: Codes
    """(lead, *chunk) standard error: 0 none, 1 exactly zero, else ``scale * 2^((k - 2) / 8)``."""
    index: NDArray[np.int64]
    """(lead, 3) base, digest high, digest low."""
    score: Floats
    """(lead, 4) quantum, error scale, confidence, expected RMSE."""


def quantise(
    variable: str,
    index: Index,
    mean: Floats,
    standard_error: Floats,
    base: Floats | None,
    base_step: int,
    confidence: Floats,
    expected_rmse: Floats,
) -> QuantisedChunk:
    """Return a predicted chunk in the form that is stored.

    Parameters
    ----------
    index
        Of the chunk.
    mean, standard_error
        float64 (lead, *chunk) in the variable's units; NaN where nothing is predicted.
    base
        Values of the captured chunk that changes are counted from, float64 in the variable's units,
        NaN where missing; None for none.
    base_step
        Number of that capture; not looked at without one.
    confidence, expected_rmse
        float64 (lead,): a probability, and an error in the variable's units; NaN where not known.
    """
    missing = np.full(mean.shape[1:], np.nan)
    (chunk,) = quantise_alike(
        variable,
        [index],
        mean[:, None],
        standard_error[:, None],
        (missing if base is None else base)[None],
        np.array([NO_BASE if base is None else base_step]),
        confidence[:, None],
        expected_rmse[:, None],
    )
    return chunk


def quantise_alike(
    variable: str,
    indices: Sequence[Index],
    mean: Floats,
    standard_error: Floats,
    base: Floats,
    base_steps: NDArray[np.int64],
    confidence: Floats,
    expected_rmse: Floats,
) -> list[QuantisedChunk]:
    """Return predicted chunks of one shape as `quantise` returns each, in a fraction of the time.

    Parameters
    ----------
    mean, standard_error
        float64 (lead, chunk, *cells).
    base
        float64 (chunk, *cells), NaN in chunks without one.
    base_steps
        int64 (chunk,), `NO_BASE` for none.
    confidence, expected_rmse
        float64 (lead, chunk).
    """
    flat = (*mean.shape[:2], -1)
    errors = standard_error.reshape(flat)
    with np.errstate(over="ignore", invalid="ignore"):
        difference = (mean - reference_of(base, base.shape)).reshape(flat)
    predicted = np.isfinite(difference) & np.isfinite(errors)
    difference[~predicted] = 0.0
    quanta = _quanta(difference, errors, predicted)
    # In place from here on: of a large chunk at many leads, each copy is large.
    difference /= quanta[..., None]
    np.rint(difference, out=difference)
    difference[~predicted] = _NOTHING
    change = difference.astype(np.int32).reshape(mean.shape)
    codes, scales = _logarithmic(errors, predicted)
    error = codes.reshape(mean.shape)
    rows = np.empty((*quanta.shape, 3), np.int64)
    rows[..., 0] = base_steps
    rows[..., 1:] = _digests_of(variable, indices, change, error)
    score = np.stack([quanta, scales, confidence, expected_rmse], axis=2)
    return [
        QuantisedChunk(change[:, k], error[:, k], rows[:, k], score[:, k])
        for k in range(len(indices))
    ]


def reference_of(base: Floats | None, shape: tuple[int, ...]) -> Floats:
    """Return what changes are counted from: a captured chunk, 0 where it has no value."""
    return np.zeros(shape) if base is None else np.where(np.isfinite(base), base, 0.0)


def _quanta(change: Floats, errors: Floats, predicted: Flags) -> Floats:
    """Return powers of two (lead, chunk) near a quarter of a small standard error of each."""
    small = np.ones(change.shape[:2])
    whole = predicted.all(axis=(0, 2))
    if change.size and whole.any():  # as nearly always: at once
        small[:, whole] = np.quantile(errors if whole.all() else errors[:, whole], 0.1, axis=2)
    for chunk in np.flatnonzero(predicted.any(axis=(0, 2)) & ~whole):
        small[:, chunk] = _small(errors[:, chunk], predicted[:, chunk])
    largest = np.maximum(change.max(axis=2, initial=0.0), -change.min(axis=2, initial=0.0))
    least = np.finfo(np.float64).tiny * 2.0**60
    quanta = np.maximum(np.maximum(small / 4, largest * 2.0**-29), least)
    return np.asarray(2.0 ** np.floor(np.log2(quanta)))


def _small(errors: Floats, known: Flags) -> Floats:
    """Return a small one of the known standard errors (lead, cell) of each lead; 1 without any."""
    if (known == known[:1]).all():
        return np.asarray(np.quantile(errors[:, known[0]], 0.1, axis=1))
    parts = [errors_of[there] for errors_of, there in zip(errors, known, strict=True)]
    return np.array([np.quantile(part, 0.1) if part.size else 1.0 for part in parts])


def _logarithmic(errors: Floats, predicted: Flags) -> tuple[Codes, Floats]:
    """Return standard errors as codes (lead, chunk, cell), and their scales (lead, chunk).

    They are counted from the mean of their logarithms, so that a cell whose error grows as those of
    the chunk has the same code at every lead.  The scale reaches down to the smallest error, of all
    leads where it can, or as low as still reaches the largest: an error below is overstated, none
    is understated.
    """
    scales = np.ones(errors.shape[:2])
    codes = np.where(predicted, _ZERO, _UNKNOWN).astype(np.uint8)
    positive = predicted & (errors > 0)
    known = positive.any(axis=2)
    if not known.any():
        return codes, scales
    with np.errstate(divide="ignore", invalid="ignore"):
        steps = np.log2(errors)
        steps *= _PER_OCTAVE
        middle = _means(steps, positive)
        steps -= middle[..., None]
    np.rint(steps, out=steps)
    steps[~positive] = 0.0
    low, high, reach = steps.min(axis=2), steps.max(axis=2), float(_LARGEST - _SMALLEST)
    lowest = low.min(axis=0)
    is_wide = high.max(axis=0) - lowest > reach
    is_wide |= (np.exp2((middle + lowest) / _PER_OCTAVE) == 0).any(axis=0)
    lowest = np.where(is_wide, np.maximum(low, high - reach), lowest)  # each lead by itself
    steps -= lowest[..., None] - _SMALLEST
    np.clip(steps, _SMALLEST, _LARGEST, out=steps)
    scales[known] = np.exp2((middle + lowest)[known] / _PER_OCTAVE)
    codes[positive] = steps[positive]
    return codes, scales


def _means(values: Floats, chosen: Flags) -> Floats:
    """Return the mean (lead, chunk) of the chosen values (lead, chunk, cell); 0 without any."""
    means = np.zeros(values.shape[:2])
    whole = chosen.all(axis=2)
    means[whole] = (values if whole.all() else values[whole]).mean(axis=-1).reshape(-1)
    for place in zip(*np.nonzero(chosen.any(axis=2) & ~whole), strict=True):
        means[place] = values[place][chosen[place]].mean()
    return means


def dequantise(
    change: Changes, error: Codes, score: Floats, reference: Floats
) -> tuple[Floats, Floats]:
    """Return prediction and standard error of a chunk at one lead, NaN where there is none."""
    quantum, scale = score[:2]
    predicted = change != _NOTHING
    values = np.where(predicted, reference + change * quantum, np.nan)
    steps = error.astype(np.float64) - _SMALLEST
    errors = np.where(error >= _SMALLEST, scale * np.exp2(steps / _PER_OCTAVE), 0.0)
    return values, np.where(error == _UNKNOWN, np.nan, errors)


def digest_of(variable: str, address: Index, change: Changes, error: Codes) -> NDArray[np.int64]:
    """Return the two digest columns of a chunk at one lead; `address` is (lead - 1, *index).

    The base chunk, the scores and the number of the base step have digests of their own.
    """
    both = np.stack([change.astype("<i4"), error.astype("<i4")])
    return np.frombuffer(digest(variable, address, both), "<i8")


def _digests_of(
    variable: str, indices: Sequence[Index], change: Changes, error: Codes
) -> NDArray[np.int64]:
    """Return what `digest_of` returns of chunks (lead, chunk, *cells), int64 (lead, chunk, 2)."""
    both = np.stack([change.astype("<i4"), error.astype("<i4")], axis=2)
    addresses = [(k, *index) for k in range(len(change)) for index in indices]
    found = digests(variable, addresses, both.reshape(-1, *both.shape[2:]))
    return found.reshape(*change.shape[:2], 2)


# From lead to lead -------------------------------------------------------------------------------


def along_leads(change: Changes, quanta: Floats) -> Changes:
    """Return changes (lead, *chunk) as what each lead adds to the one before, modulo 2^32.

    Parameters
    ----------
    change
        int32 (lead, ...), of one chunk or of several.
    quanta
        float64 (lead, ...), one number where they are of one chunk, powers of two: what a lead
        expects of the one before is that, rounded to its own quantum.
    """
    added = change.copy()
    with np.errstate(over="ignore"):
        for k in range(1, len(change)):
            added[k] -= _expected(change[k - 1], quanta[k - 1 : k + 1])
    return added


def from_along_leads(added: Changes, quanta: Floats) -> Changes:
    """Undo :func:`along_leads`."""
    change = added.copy()
    with np.errstate(over="ignore"):
        for k in range(1, len(added)):
            change[k] += _expected(change[k - 1], quanta[k - 1 : k + 1])
    return change


def _expected(before: Changes, quanta: Floats) -> Changes:
    # Exact but for the last rounding, as the quanta are powers of two: the same on every machine.
    most = float(np.iinfo(np.int32).max)
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        scaled = np.clip(np.rint(before * (quanta[0] / quanta[1])), -most, most)
    # NaN where quanta are so far apart that there is no ratio.
    return np.where(before == _NOTHING, _NOTHING, np.nan_to_num(scaled)).astype(np.int32)
