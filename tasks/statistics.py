"""Chunk statistics: how a captured chunk compares with the one before, as plain numbers."""

import numpy as np
from numpy.typing import NDArray

from gnomon.storage.captures import DIGEST, CaptureStack

__all__ = ["STATISTICS", "chunk_statistics", "repeats"]

STATISTICS = (
    "cells",
    "valid_count",
    "missing_change",
    "infinite_count",
    "minimum",
    "maximum",
    "mean",
    "spread",
    "constant",
    "was_constant",
    "change_rms",
    "departure_mean",
    "departure_rms",
    "departure_maximum",
    "standardised_rms",
    "p_value",
    "below_minimum",
    "above_maximum",
)
"""Columns that a worker fills; NaN where there is nothing to say."""

WINDOW = 64
"""Captures among which a repeated chunk is looked for."""
LIVELY = 0.9
"""Share of distinct states above which a chunk counts as one that changes."""
USUAL = 0.1
"""Share of cells that had a value before, above which it is no fill value."""

Floats = NDArray[np.float64]


def chunk_statistics(
    values: Floats,
    before: Floats | None,
    bounds: tuple[float | None, float | None],
    *,
    categorical: bool = False,
) -> dict[str, float]:
    """Return the statistics of one chunk.

    Parameters
    ----------
    values
        Physical values; NaN where missing.
    before
        The last trusted capture of the chunk; None for none.
    bounds
        Declared valid range; None for an open end.
    categorical
        Whether values are labels; a chunk of one label is nothing new.
    """
    found = dict.fromkeys(STATISTICS, np.nan)
    finite = values[np.isfinite(values)]
    infinite = np.isinf(values)
    low, high = bounds
    found |= {
        "cells": float(values.size),
        "valid_count": float(finite.size),
        "constant": float(_is_constant(finite)),
        "below_minimum": 0.0 if low is None else float((finite < low).sum()),
        "above_maximum": 0.0 if high is None else float((finite > high).sum()),
        "was_constant": float(categorical or _is_usual_constant(finite, before, bounds)),
        "infinite_count": float(infinite.sum()),
    }
    if finite.size:
        found |= {
            "minimum": float(finite.min()),
            "maximum": float(finite.max()),
            "mean": float(finite.mean()),
            "spread": float(finite.std()),
        }
    if before is not None:
        known = np.isfinite(before)
        both = known & np.isfinite(values)
        found["infinite_count"] = float((infinite & ~np.isinf(before)).sum())
        if known.any():
            found["missing_change"] = float((known & np.isnan(values)).sum() / known.sum())
        if both.any():
            found["change_rms"] = float(np.sqrt(np.mean((values[both] - before[both]) ** 2)))
    return found


def _is_usual_constant(
    finite: Floats, before: Floats | None, bounds: tuple[float | None, float | None]
) -> bool:
    """Tell whether the chunk was constant before, or its constant is no sign of damage.

    That is a declared bound (no ice, all cloud), or a value that cells often had (no rain).
    """
    if before is None:
        return True
    known = before[np.isfinite(before)]
    if _is_constant(known) or not _is_constant(finite):
        return _is_constant(known)
    at_bound = any(b is not None and np.isclose(finite[0], b) for b in bounds)
    return at_bound or bool(np.mean(known == finite[0]) >= USUAL if known.size else False)


def _is_constant(finite: Floats) -> bool:
    return bool(finite.size > 1 and np.ptp(finite) == 0)


def repeats(captures: CaptureStack, rows: NDArray[np.int64]) -> dict[str, NDArray[np.bool_]]:
    """Tell for new index rows which chunks repeat an earlier state of theirs.

    Parameters
    ----------
    captures
        The captures before.
    rows
        int64 (step, *chunk grid, 5), the new index rows.

    Returns
    -------
    dict
        ``unchanged``: a chunk that usually changes has the digest of the capture before.
        ``replayed``: it has the digest of an older one.  Both bool (step, *chunk grid).
    """
    start = max(0, len(captures.steps) - WINDOW)
    before = [captures.rows(s)[..., DIGEST] for s in range(start, len(captures.steps))]
    unchanged = np.zeros(rows.shape[:-1], bool)
    replayed = np.zeros(rows.shape[:-1], bool)
    history = [np.ascontiguousarray(d).view("V16")[..., 0] for d in before]
    for k in range(rows.shape[0]):
        now = np.ascontiguousarray(rows[k, ..., DIGEST]).view("V16")[..., 0]
        if len(history) >= 2:
            past = np.stack(history[-WINDOW:])
            lively = _distinct(past) >= LIVELY * past.shape[0]
            unchanged[k] = lively & (past[-1] == now)
            replayed[k] = lively & ~unchanged[k] & (past[:-1] == now).any(axis=0)
        history.append(now)
    return {"unchanged": unchanged, "replayed": replayed}


def _distinct(past: NDArray[np.void]) -> NDArray[np.int64]:
    """Return how many different digests each chunk has had."""
    flat = past.reshape(past.shape[0], -1)
    counts = [np.unique(flat[:, chunk]).size for chunk in range(flat.shape[1])]
    return np.array(counts, np.int64).reshape(past.shape[1:])
