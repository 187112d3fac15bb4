"""Chunk statistics: how a captured chunk compares with the one before, as plain numbers."""

from collections.abc import Sequence
from math import prod

import numpy as np
from numpy.typing import NDArray

from gnomon.storage.arrays.encoding import DIGEST
from gnomon.storage.checks.captures import CAPTURE_STATISTICS
from gnomon.storage.stacks.captures import CaptureStack
from gnomon.storage.values.model import TRUSTED, Variable
from gnomon.tasks.learning.trusted import readable_rows

__all__ = [
    "STATISTICS",
    "WINDOW",
    "chunk_statistics",
    "copies",
    "many_statistics",
    "repeats",
    "unchanged_statistics",
]

STATISTICS = tuple(
    s.name for s in CAPTURE_STATISTICS if s.origin in ("values", "forecast") and s.measure is None
)
"""Columns that a worker fills by itself; NaN where there is nothing to say."""

WINDOW = 64
"""Captures among which a repeated chunk is looked for."""
WINDOW_BYTES = 2**26
"""Memory that their digests may take."""
RICH_CELLS, FEW_STATES = 16, 16
"""Numbers in so many cells, of one chunk or of several, do not repeat by accident; of flags, text
and single numbers, so many states must have been different before one that repeats is doubted."""
USUAL = 0.1
"""Share of cells that had a value before, above which it is no fill value."""

PIECE = 2**14
"""Values that are worked on at a time: 128 KiB."""

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
        float64, any shape, in the variable's units; NaN where missing.
    before
        The last trusted capture of the chunk, as `values`; None for none.
    bounds
        Declared valid range; None for an open end.
    categorical
        Whether values are labels; a chunk of one label is nothing new.

    Returns
    -------
    dict
        Each of `STATISTICS`; NaN where there is no value, or nothing to compare with.
    """
    statistics = dict.fromkeys(STATISTICS, np.nan)
    # A sum that overflows costs the slower way, and is not wrong.
    with np.errstate(invalid="ignore", over="ignore"):
        total = float(values.ravel().sum())
    is_finite = None if np.isfinite(total) else np.isfinite(values)
    finite = values.ravel() if is_finite is None else values[is_finite]
    infinite = 0 if is_finite is None else int(np.isinf(values).sum())
    low, high = bounds
    statistics |= {
        "cells": float(values.size),
        "valid_count": float(finite.size),
        "constant": 0.0,
        "below_minimum": 0.0,
        "above_maximum": 0.0,
        "infinite_count": float(infinite),
    }
    constant = False
    if finite.size:
        smallest, largest = float(finite.min()), float(finite.max())
        with np.errstate(over="ignore"):
            mean = float(finite.mean()) if is_finite is not None else total / finite.size
        constant = finite.size > 1 and smallest == largest
        statistics |= {
            "minimum": smallest,
            "maximum": largest,
            "mean": mean,
            # About the mean, in a second pass: mean squares less the squared mean cancel in a field
            # of large values that hardly differ.
            "spread": _rms_difference(finite, mean),
            "constant": float(constant),
        }
        if low is not None and smallest < low:
            statistics["below_minimum"] = float((finite < low).sum())
        if high is not None and largest > high:
            statistics["above_maximum"] = float((finite > high).sum())
    value = float(finite[0]) if constant else None
    statistics["was_constant"] = float(categorical or _is_usual_constant(value, before, bounds))
    if before is not None:
        statistics |= _against(values, is_finite, before, infinite)
    return statistics


def many_statistics(
    stacks: Sequence[Floats],
    before: Sequence[Floats | None],
    bounds: tuple[float | None, float | None],
    *,
    categorical: bool = False,
) -> list[dict[str, float]]:
    """Return the `chunk_statistics` of many chunks, in a fraction of the time where they are small.

    Parameters
    ----------
    stacks
        Chunks (chunk, *cells) of one shape each.
    before
        That of each chunk, one after the other.
    """
    statistics: list[dict[str, float]] = []
    for values in stacks:
        here = before[len(statistics) : len(statistics) + len(values)]
        ordinary: dict[int, dict[str, float]] = {}
        known = [k for k, last in enumerate(here) if last is not None]
        if len(known) > 1 and 1 < values[0].size <= PIECE:
            earlier = np.stack([last for last in here if last is not None])
            flat = (len(known), -1)
            found = _ordinary(values[known].reshape(flat), earlier.reshape(flat), bounds)
            was_constant = {"was_constant": float(categorical)}
            ordinary = {known[k]: told | was_constant for k, told in found.items()}
        statistics += [
            ordinary.get(k) or chunk_statistics(chunk, last, bounds, categorical=categorical)
            for k, (chunk, last) in enumerate(zip(values, here, strict=True))
        ]
    return statistics


def _ordinary(
    values: Floats, before: Floats, bounds: tuple[float | None, float | None]
) -> dict[int, dict[str, float]]:
    """Return the statistics, but one, of those chunks (chunk, cell) of which little is to be said.

    All cells have values, now and before, and they differ.
    """
    low, high = (np.nan if bound is None else bound for bound in bounds)
    with np.errstate(invalid="ignore", over="ignore"):
        mean = values.sum(axis=1) / values.shape[1]
        columns = {
            "cells": np.full(len(values), float(values.shape[1])),
            "valid_count": np.full(len(values), float(values.shape[1])),
            "minimum": values.min(axis=1),
            "maximum": values.max(axis=1),
            "mean": mean,
            "spread": _rms_rows(values - mean[:, None]),
            "below_minimum": (values < low).sum(axis=1),
            "above_maximum": (values > high).sum(axis=1),
            "missing_change": np.zeros(len(values)),
            "change_rms": _rms_rows(values - before),
        }
    differs = columns["minimum"] != columns["maximum"]
    chosen = np.flatnonzero(
        differs
        & (before[:, 0] != before[:, 1])
        & np.isfinite(mean)
        & np.isfinite(columns["change_rms"])
    )
    nothing = dict.fromkeys(STATISTICS, np.nan) | {"constant": 0.0, "infinite_count": 0.0}
    rows = np.stack([*columns.values()], axis=1)[chosen].tolist()
    names = [*columns]
    return {
        k: nothing | dict(zip(names, row, strict=True))
        for k, row in zip(chosen.tolist(), rows, strict=True)
    }


def _rms_rows(differences: Floats) -> Floats:
    """Return the root mean square of each row (row, cell), added up as `_rms_difference` does."""
    squares = np.einsum("ri,ri->r", differences, differences)
    return np.asarray(np.sqrt(squares / differences.shape[1]))


def _against(
    values: Floats, is_finite: NDArray[np.bool_] | None, before: Floats, infinite: int
) -> dict[str, float]:
    """Return how a chunk differs from its last trusted capture.

    Parameters
    ----------
    is_finite
        Which values are; None, and much sooner, if all are.
    """
    if is_finite is None and values.size:
        change = _rms_difference(values.ravel(), before.ravel())
        if np.isfinite(change):  # then so was all of the chunk before
            return {"missing_change": 0.0, "change_rms": change}
    statistics = {}
    if infinite:
        statistics["infinite_count"] = float((np.isinf(values) & ~np.isinf(before)).sum())
    was_finite = np.isfinite(before)
    count = int(was_finite.sum())
    if count:
        # Other cells may have a value instead: stations in turn, clouds that move on.
        now = int(np.isnan(values).sum()) if is_finite is not None else 0
        lost = now - int(np.isnan(before).sum())
        statistics["missing_change"] = max(0, lost) / count
    both = was_finite if is_finite is None else is_finite & was_finite
    values, before = values[both], before[both]
    if values.size:
        statistics["change_rms"] = _rms_difference(values.ravel(), before.ravel())
    return statistics


def _rms_difference(a: Floats, b: Floats | float) -> float:
    """Return the root mean square of a - b, in pieces that stay in the processor's cache."""
    total = 0.0
    # A difference beyond all numbers is infinite, and one of infinities is no number.
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, a.size, PIECE):
            piece = a[start : start + PIECE]
            piece = piece - (b if isinstance(b, float) else b[start : start + PIECE])
            # Squares are added up as they are made, without an array of them.
            total += float(np.einsum("i,i->", piece, piece))
    return float(np.sqrt(total / a.size))


def _is_usual_constant(
    value: float | None, before: Floats | None, bounds: tuple[float | None, float | None]
) -> bool:
    """Tell whether the chunk was constant before, or its constant is no sign of damage.

    That is a declared bound (no ice, all cloud), or a value that cells often had (no rain).  The
    value is None if the chunk is not constant.
    """
    if before is None:
        return True
    # Nearly all chunks vary, which their first cells show.
    first = before.ravel()[:2]
    if value is None and first.size > 1 and np.isfinite(first).all() and first[0] != first[1]:
        return False
    finite = before[np.isfinite(before)]
    if value is None or _is_constant(finite):
        return _is_constant(finite)
    # Close to: values that were unpacked have their rounding, declared bounds another.
    at_bound = any(b is not None and np.isclose(value, b) for b in bounds)
    return at_bound or bool(np.mean(finite == value) >= USUAL if finite.size else False)


def _is_constant(finite: Floats) -> bool:
    return bool(finite.size > 1 and np.ptp(finite) == 0)


def unchanged_statistics(before: dict[str, float]) -> dict[str, float]:
    """Return the statistics of a chunk that is bit for bit its last trusted capture.

    Parameters
    ----------
    before
        The statistics of that capture.
    """
    nothing = (
        "departure_mean",
        "departure_rms",
        "departure_maximum",
        "standardised_rms",
        "outside_interval",
    )
    valid = before["valid_count"] > 0
    return (
        before
        | dict.fromkeys((*nothing, "p_value"), np.nan)
        | {
            "missing_change": 0.0 if valid else np.nan,
            "change_rms": 0.0 if valid else np.nan,
            "infinite_count": 0.0,
            "was_constant": before["constant"],
        }
    )


def repeats(
    captures: CaptureStack, steps: Sequence[int], rows: NDArray[np.int64]
) -> dict[str, NDArray[np.bool_]]:
    """Tell for new index rows which chunks repeat an earlier state, and never did before.

    What was judged suspect does not count as having happened, so a second replay is found like
    the first, and one that a person accepted is none the next time.  In one commit, nothing is
    judged yet: where states come round again and again, only the first are told of.

    Parameters
    ----------
    captures
        The captures before.
    steps
        Their numbers, in order of time.
    rows
        int64 (step, *chunk grid, 6), the new index rows.

    Returns
    -------
    dict
        ``unchanged``: a chunk that always changed has the digest of the capture before.
        ``replayed``: it has the digest of an older one; if it has but few cells, so must others
        of the same capture.  Both bool (step, *chunk grid).
    """
    window, least = _window(rows[0]), _least(captures.variable)
    history, believed = _history(captures, steps[-window:])
    new = rows[..., DIGEST][..., 0].reshape(rows.shape[0], -1)
    unchanged, replayed = np.zeros(new.shape, bool), np.zeros(new.shape, bool)
    for k, now in enumerate(new):
        if len(history) >= least:
            past, trusted = np.stack(history[-window:]), np.stack(believed[-window:])
            lively = _again(past, trusted, now, least)
            stuck = past[-1][lively] == now[lively]
            unchanged[k, lively[stuck]] = True
            replayed[k] = _of_some(captures.variable, past, now, lively[~stuck])
        history.append(now)
        believed.append(np.ones(now.size, bool))
    shape = rows.shape[:-1]
    return {"unchanged": unchanged.reshape(shape), "replayed": replayed.reshape(shape)}


def copies(
    captures: CaptureStack, steps: Sequence[int], rows: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Tell which chunks of one state equal those of a capture of another time.

    As in :func:`repeats`, only chunks that always changed count.
    """
    spare = max(0, len(steps) - 2 * _window(rows)) // 2
    history, believed = _history(captures, steps[spare : len(steps) - spare])
    now = rows[..., DIGEST][..., 0].ravel()
    if len(history) < _least(captures.variable):
        return np.zeros(rows.shape[:-1], bool)
    past = np.stack(history)
    again = _again(past, np.stack(believed), now, _least(captures.variable))
    return _of_some(captures.variable, past, now, again).reshape(rows.shape[:-1])


def _window(rows: NDArray[np.int64]) -> int:
    """Return how many captures are looked at, fewer where each has many chunks."""
    return int(np.clip(WINDOW_BYTES // (16 * max(1, rows[..., 0].size)), 2, WINDOW))


def _least(variable: Variable) -> int:
    """Return how many captures must be known of a variable before two may be called alike."""
    return 2 if _is_rich(variable) else FEW_STATES


def _history(
    captures: CaptureStack, steps: Sequence[int]
) -> tuple[list[NDArray[np.int64]], list[NDArray[np.bool_]]]:
    """Return the digests of all chunks of some captures, and which are trusted.

    Of 128 random bits 64 are enough to tell a few states of one chunk apart.
    """
    history: list[NDArray[np.int64]] = []
    believed: list[NDArray[np.bool_]] = []
    for step in steps:
        rows = readable_rows(captures, step)
        if rows is not None:
            history.append(rows[..., DIGEST][..., 0].ravel())
            believed.append((captures.status(step) == TRUSTED).ravel())
    return history, believed


def _again(
    past: NDArray[np.int64], trusted: NDArray[np.bool_], now: NDArray[np.int64], least: int
) -> NDArray[np.intp]:
    """Return which chunks equal one of some states, and were never twice the same before."""
    again = np.flatnonzero((past == now).any(axis=0))
    return np.asarray(again[_always_changed(past[:, again], trusted[:, again], least)])


def _of_some(
    variable: Variable, past: NDArray[np.int64], now: NDArray[np.int64], places: NDArray[np.intp]
) -> NDArray[np.bool_]:
    """Tell which chunks equal a state that shares enough cells with this one, shape (chunk,)."""
    repeated = np.zeros(now.shape, bool)
    alike = past[:, places] == now[places]
    many = alike.sum(axis=1) * prod(variable.chunks) >= RICH_CELLS
    repeated[places] = alike[many].any(axis=0)
    return repeated


def _is_rich(variable: Variable) -> bool:
    """Tell whether chunks have so many possible states that two alike are no accident."""
    dtype = variable.numpy_dtype
    return dtype.kind in "iufc" and dtype.itemsize > 1 and prod(variable.chunks) >= RICH_CELLS


def _always_changed(
    past: NDArray[np.int64], trusted: NDArray[np.bool_], least: int
) -> NDArray[np.bool_]:
    """Tell which chunks never had a trusted digest twice; (step, chunk) in."""
    count = trusted.sum(axis=0)
    # What is not trusted becomes like nothing else: its own number.
    ordered = np.sort(np.where(trusted, past, np.arange(past.size).reshape(past.shape)), axis=0)
    distinct = (ordered[1:] != ordered[:-1]).all(axis=0)
    return np.asarray(distinct & (count >= least), bool)
