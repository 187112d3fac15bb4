"""The process of cells: a seasonal climatology, and anomalies that are damped from slot to slot."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gnomon.tasks.forecasting import climatology
from gnomon.tasks.forecasting.specification import Array, Specification
from gnomon.tasks.interpolating.gap import Gap, Ints, rows_of

SHRINKAGE = 20.0
"""Pairs of captures that the damping of all cells weighs in that of one, as in the forecaster."""
LARGEST_DAMPING = 0.995
"""An anomaly is halved after 139 slots at the latest. Nearer to one the weights of two sides are
those of a straight line, which is another candidate."""
CYCLES = 2.0
"""Cycles of a period that a record must hold for its season to be fitted to it."""


@dataclass(frozen=True, slots=True)
class Record:
    """Captures of some cells, one per slot, oldest first."""

    slots: Ints
    """(T,) cadence indices, increasing."""
    times_s: Array
    """(T,) valid times, seconds."""
    values: Array
    """(T, N) variable's units; NaN where missing or not trusted."""


@dataclass(frozen=True, slots=True)
class Process:
    """What is fitted to each of N cells."""

    base: Array
    """(N,) mean that values are counted from; NaN where never seen."""
    coefficients: Array
    """(K, N) of the season and the rest of the mean."""
    damping: Array
    """(N,) of the anomalies per slot."""

    def climatology(self, spec: Specification, times_s: Array) -> Array:
        """Climatology (O, N) at some times."""
        return climatology.features(spec, times_s) @ self.coefficients + self.base


def mean_square(values: Array, axis: int) -> Array:
    """Mean squares along an axis; NaN where there is no value."""
    seen = np.isfinite(values)
    count = seen.sum(axis=axis)
    total = np.where(seen, values**2, 0.0).sum(axis=axis)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def seasons_within(spec: Specification, times_s: Array) -> Specification:
    """The same with the periods that a record holds often enough to be fitted to it."""
    span = float(times_s[-1] - times_s[0]) if len(times_s) else 0.0
    kept = [k for k, p in enumerate(spec.periods_s) if CYCLES * p <= span + spec.interval_s]
    return replace(
        spec,
        periods_s=tuple(spec.periods_s[k] for k in kept),
        harmonics=tuple(spec.harmonics[k] for k in kept),
    )


def fit(spec: Specification, record: Record, known: NDArray[np.bool_]) -> tuple[Process, Array]:
    """Process of the cells, from the known rows (T,), and the anomalies (T, N) of all rows."""
    values = record.values
    seen = np.isfinite(values) & known[:, None]
    count = seen.sum(axis=0)
    total = np.where(seen, values, 0.0).sum(axis=0)
    base = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    coefficients = _regress(spec, record.times_s, values - base, seen)
    process = Process(base, coefficients, np.zeros(len(base)))
    anomalies = values - process.climatology(spec, record.times_s)
    return replace(process, damping=damping(record.slots, anomalies, known)), anomalies


def _regress(spec: Specification, times_s: Array, values: Array, seen: NDArray[np.bool_]) -> Array:
    """Coefficients (K, N) of values (T, N) about their mean, where they are seen."""
    regressors = climatology.features(spec, times_s)
    penalty = climatology.prior(spec)
    filled = np.where(seen, values, 0.0)
    moments = regressors.T @ filled
    whole = seen.any(axis=1)
    if (seen.sum(axis=0) == whole.sum())[seen.any(axis=0)].all():
        rows = regressors[whole]
        return np.asarray(np.linalg.solve(rows.T @ rows + penalty, moments))
    terms = regressors.shape[1]
    squares = (regressors[:, :, None] * regressors[:, None, :]).reshape(len(regressors), -1)
    gram = (seen.astype(np.float64).T @ squares).reshape(-1, terms, terms) + penalty
    return np.asarray(np.linalg.solve(gram, moments.T[..., None])[..., 0].T)


def damping(slots: Ints, anomalies: Array, known: NDArray[np.bool_]) -> Array:
    """First autocorrelation (N,) of anomalies (T, N), that of each cell shrunk to that of all."""
    before = rows_of(slots, slots - 1)
    later = np.flatnonzero((before >= 0) & known & known[before])
    now, past = anomalies[later], anomalies[before[later]]
    pairs = np.isfinite(now) & np.isfinite(past)
    now, past = np.where(pairs, now, 0.0), np.where(pairs, past, 0.0)
    cross, square = (now * past).sum(axis=0), ((now**2 + past**2) / 2).sum(axis=0)
    count = pairs.sum(axis=0)
    common = cross.sum() / square.sum() if square.sum() > 0 else 0.0
    each = np.where(square > 0, cross / np.where(square > 0, square, 1.0), common)
    mixed = (count * each + SHRINKAGE * common) / (count + SHRINKAGE)
    return np.asarray(np.clip(mixed, 0.0, LARGEST_DAMPING))


def bridge(damping: Array, gap: Gap) -> tuple[Array, Array]:
    """Weights (N,) of the anomalies before and after: the best of a first-order process."""
    if gap.after is None:
        return damping ** float(gap.before or 0), np.zeros_like(damping)
    if gap.before is None:
        return np.zeros_like(damping), damping**gap.after
    near, far = damping**gap.before, damping**gap.after
    rest = 1.0 - (near * far) ** 2
    return near * (1.0 - far**2) / rest, far * (1.0 - near**2) / rest
