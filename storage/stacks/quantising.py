"""Predictions as small integers: changes in quanta, and codes of standard errors.

The predicted *change* is counted in multiples of a quantum, a power of two near a quarter of the
standard error, so that precision follows confidence (a step of sigma/4 adds 0.3 % to the error).
Standard errors are on a logarithmic scale, eight steps to the octave, which keeps them within
4.5 %.  From lead to lead both go on smoothly, so that what a lead adds to the one before takes a
fraction of the bits.  The integers are hashed, so that every machine finds the same hash.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gnomon.storage.arrays.residuals import digest
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
    leads, shape = len(mean), mean.shape[1:]
    with np.errstate(over="ignore", invalid="ignore"):
        difference = mean - reference_of(base, shape)
    predicted = np.isfinite(difference) & np.isfinite(standard_error)
    difference[~predicted] = 0.0
    quanta = _quanta(difference, standard_error, predicted)
    # In place from here on: of a large chunk at many leads, each copy is large.
    difference /= quanta.reshape(leads, *(1,) * len(shape))
    np.rint(difference, out=difference)
    difference[~predicted] = _NOTHING
    change = difference.astype(np.int32)
    error, scales = _logarithmic(standard_error, predicted)
    rows = np.zeros((leads, 3), np.int64)
    rows[:, 0] = NO_BASE if base is None else base_step
    for k in range(leads):
        rows[k, 1:] = digest_of(variable, (k, *index), change[k], error[k])
    score = np.stack([quanta, scales, confidence, expected_rmse], axis=1)
    return QuantisedChunk(change, error, rows, score)


def reference_of(base: Floats | None, shape: tuple[int, ...]) -> Floats:
    """Return what changes are counted from: a captured chunk, 0 where it has no value."""
    return np.zeros(shape) if base is None else np.where(np.isfinite(base), base, 0.0)


def _quanta(change: Floats, errors: Floats, predicted: Flags) -> Floats:
    """Return powers of two (lead,) near a quarter of a small standard error of the chunk."""
    leads = len(change)
    every, known = errors.reshape(leads, -1), predicted.reshape(leads, -1)
    if (known == known[:1]).all():  # as nearly always: at once
        every = every if known[0].all() else every[:, known[0]]
        small = np.quantile(every, 0.1, axis=1) if every.size else np.ones(leads)
    else:
        parts = [errors_of[there] for errors_of, there in zip(every, known, strict=True)]
        small = np.array([np.quantile(part, 0.1) if part.size else 1.0 for part in parts])
    flat = change.reshape(leads, -1)
    largest = np.maximum(flat.max(axis=1, initial=0.0), -flat.min(axis=1, initial=0.0))
    least = np.finfo(np.float64).tiny * 2.0**60
    quanta = np.maximum(np.maximum(small / 4, largest * 2.0**-29), least)
    return np.asarray(2.0 ** np.floor(np.log2(quanta)))


def _logarithmic(errors: Floats, predicted: Flags) -> tuple[Codes, Floats]:
    """Return standard errors as codes (lead, *chunk), and their scales (lead,).

    They are counted from the mean of their logarithms, so that a cell whose error grows as those of
    the chunk has the same code at every lead.  The scale reaches down to the smallest error, of all
    leads where it can, or as low as still reaches the largest: an error below is overstated, none
    is understated.
    """
    leads, scales = len(errors), np.ones(len(errors))
    codes = np.where(predicted, _ZERO, _UNKNOWN).astype(np.uint8)
    positive = predicted & (errors > 0)
    known = positive.reshape(leads, -1).any(axis=1)
    if not known.any():
        return codes, scales
    with np.errstate(divide="ignore", invalid="ignore"):
        steps = np.log2(errors)
        steps *= _PER_OCTAVE
        means = [float(steps[k][positive[k]].mean()) if known[k] else 0.0 for k in range(leads)]
        middle = np.array(means)
        steps -= middle.reshape(leads, *(1,) * (errors.ndim - 1))
    np.rint(steps, out=steps)
    steps[~positive] = 0.0
    flat, reach = steps.reshape(leads, -1), float(_LARGEST - _SMALLEST)
    lowest = np.full(leads, flat.min())
    if flat.max() - lowest[0] > reach or not np.exp2((middle + lowest) / _PER_OCTAVE).all():
        lowest = np.maximum(flat.min(axis=1), flat.max(axis=1) - reach)  # each by itself
    steps -= lowest.reshape(leads, *(1,) * (errors.ndim - 1)) - _SMALLEST
    np.clip(steps, _SMALLEST, _LARGEST, out=steps)
    scales[known] = np.exp2((middle + lowest)[known] / _PER_OCTAVE)
    codes[positive] = steps[positive]
    return codes, scales


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


# From lead to lead -------------------------------------------------------------------------------


def along_leads(change: Changes, quanta: Floats) -> Changes:
    """Return changes (lead, *chunk) as what each lead adds to the one before, modulo 2^32.

    Parameters
    ----------
    quanta
        float64 (lead,), powers of two: what a lead expects of the one before is that, rounded to
        its own quantum.
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
