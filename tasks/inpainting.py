"""Heal a damaged field: estimate its departures from the forecast given the intact cells.

The departures of intact cells are interpolated into the damaged ones by optimal interpolation with
leading modes of the past and a local covariance. Which covariance, and how far to trust it, is
decided by hiding intact regions of the hole's shape; when that shows no gain, the forecast stands.
This module does not forecast, does not find damage, and reads or writes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from gnomon.tasks.covariance import (
    Covariance,
    Modes,
    Places,
    embed,
    find_modes,
    interpolate,
    measure_lengths,
)
from gnomon.tasks.holes import Grid, copy_hole, group_damage, pick_observers, surround

Floats = NDArray[np.float64]
Cells = NDArray[np.intp]
Mask = NDArray[np.bool_]

_FEWEST_KNOWN, _FEWEST_COPIES, _FEWEST_SCORED = 10, 3, 200
_MOST_SCORED, _MOST_TRIAL_OBSERVERS, _MOST_OBSERVERS = 300, 400, 1200
_MOST_CELLS, _MOST_PAIRS, _ALL_OBSERVERS = 250_000, 100_000_000, 8_000
_MOST_TRIED, _COMPLETE = 10, 0.95
_STRETCHES, _NUGGETS = (0.5, 1.0, 2.0, 4.0), (0.002, 0.05, 0.3)
_RANKS = ((4, np.inf), (16, np.inf), (64, 6.0), (64, 3.0))


@dataclass(frozen=True, slots=True)
class Inpainted:
    """Estimated departures of damaged cells, and how far to trust them."""

    departure: Floats
    """Estimated captured minus forecast, data units; NaN except in damaged cells with a forecast."""
    standard_error: Floats
    """Standard error of forecast + departure, data units; NaN where `departure` is NaN."""
    weight: float
    """Share of the interpolation used, mean over damaged cells, in [0, 1]; 0: forecast alone."""
    validated_rmse: float
    """Error of the healed estimate in hidden intact cells, data units; NaN if none were hidden."""
    forecast_rmse: float
    """Error of the forecast alone in the same hidden cells, data units; NaN if none were hidden."""


@dataclass(frozen=True, slots=True)
class _Patch:
    """One hole and its surroundings; cells are flat numbers of this patch."""

    anomaly: Floats
    """Departure / standard error, shape (n,); NaN where unknown."""
    scale: Floats
    """Standard error of the forecast, data units, shape (n,)."""
    hole: Cells
    """Cells to estimate."""
    known: Cells
    """Intact cells, ascending."""
    grid: Grid
    lengths: tuple[float, ...]
    """Correlation length of each axis, cells."""
    modes: Modes
    """Modes of all the past."""
    older: Modes
    """Modes of the past before `tried`."""
    tried: Floats
    """Latest past fields to try the hole on, standardised, of the present's size, shape (k, n)."""


@dataclass(frozen=True, slots=True)
class _Trial:
    """Cells to estimate from observers, in one or several fields."""

    wanted: Cells
    observers: Cells
    fields: Floats
    """Standardised fields, shape (k, n); NaN where unknown."""


@dataclass(frozen=True, slots=True)
class _Verdict:
    """What hiding intact regions said about one covariance."""

    covariance: Covariance
    weight: float
    inflation: float
    """Ratio of actual to predicted relative error."""
    ceiling: float
    """The largest standard error allowed, in standard errors of the forecast."""
    healed: float
    """Sum of squared errors of the healed estimate in hidden cells."""
    forecast: float
    """The same of the forecast alone."""
    count: int
    """Hidden cells scored."""


def inpaint(
    departure: Floats,
    standard_error: Floats,
    damaged: Mask,
    *,
    cyclic: Sequence[bool] = (),
    history: Floats | None = None,
) -> Inpainted:
    """Return the estimated departures of the damaged cells of one field.

    Parameters
    ----------
    departure : ndarray of float64, shape (*dims)
        Captured minus forecast, data units; NaN where unknown. Damaged cells are not looked at.
    standard_error : ndarray of float64, shape (*dims)
        Standard error of the forecast, data units, > 0; NaN (or 0) where there is no forecast
        error to speak of, such as on land: such cells take no part.
    damaged : ndarray of bool, shape (*dims)
        Cells to estimate.
    cyclic : sequence of bool, optional
        Whether each axis wraps; none does by default.
    history : ndarray of float64, shape (T, *dims), optional
        Past departures, or anomalies, about zero, data units; NaN where unknown; T may be 0.

    Raises
    ------
    ValueError
        If shapes disagree.

    Notes
    -----
    Optimal interpolation (Gandin 1963) of standardised departures with a covariance of leading
    empirical orthogonal functions (Kaplan et al. 1998) plus a Matern part. Its form, and a weight
    in [0, 1], minimise the error in hidden copies of the hole, leaving one copy out. The error
    bar is the posterior one times the ratio of actual to predicted error in the copies.
    """
    wraps = _check(departure, standard_error, damaged, cyclic, history)
    valid = np.isfinite(standard_error) & (standard_error > 0.0)
    known = valid & ~damaged & np.isfinite(departure)
    mean = np.where(damaged & valid, 0.0, np.nan)
    error = np.where(damaged & valid, standard_error, np.nan)
    grid = Grid(departure.shape, wraps)
    verdicts: list[tuple[_Verdict, int]] = []
    groups = group_damage(damaged, wraps) if (damaged & valid).any() else []
    for region in groups:
        hole = region[valid.ravel()[region]]
        if not hole.size or np.count_nonzero(known) < _FEWEST_KNOWN:
            continue
        patch, cells = _cut(hole, grid, departure, standard_error, known, history)
        observers = int(np.clip(_ALL_OBSERVERS // len(groups), 300, _MOST_OBSERVERS))
        verdict = _judge(patch, observers)
        if verdict is not None:
            verdicts.append((verdict, hole.size))
        if verdict is not None and verdict.weight > 0.0:
            inside = cells[patch.hole]
            mean.ravel()[inside], error.ravel()[inside] = _fill(patch, verdict, observers)
    return _summarise(mean, error, verdicts)


def _check(
    departure: Floats,
    standard_error: Floats,
    damaged: Mask,
    cyclic: Sequence[bool],
    history: Floats | None,
) -> tuple[bool, ...]:
    """Return one wrap flag per axis, or raise ValueError when shapes disagree."""
    shape = departure.shape
    if not shape or standard_error.shape != shape or damaged.shape != shape:
        raise ValueError(
            "departure, standard_error and damaged must share one shape of >= 1 axes, found "
            f"{shape}, {standard_error.shape}, {damaged.shape}"
        )
    if history is not None and history.shape[1:] != shape:
        raise ValueError(f"history must have shape (T, *{shape}), found {history.shape}")
    wraps = tuple(bool(c) for c in cyclic) or (False,) * len(shape)
    if len(wraps) != len(shape):
        raise ValueError(f"cyclic must have {len(shape)} entries, found {len(wraps)}")
    return wraps


def _cut(
    hole: Cells,
    grid: Grid,
    departure: Floats,
    standard_error: Floats,
    known: Mask,
    history: Floats | None,
) -> tuple[_Patch, Cells]:
    """Return the patch around a hole, and the flat number in the whole field of each its cells."""
    axes, local = surround(hole, grid, _MOST_CELLS)
    box = np.ix_(*axes)
    numbers = np.ravel_multi_index(box, grid.shape)
    scale, intact = standard_error[box], known[box]
    anomaly = np.full(local.shape, np.nan)
    np.divide(departure[box], scale, out=anomaly, where=intact)
    past = np.zeros((0, *local.shape))
    if history is not None and len(history):
        past = history[(slice(None), *box)] / np.where(scale > 0.0, scale, np.nan)
    lengths = measure_lengths(anomaly, past, local.cyclic)
    past = past.reshape(len(past), anomaly.size)
    older = len(past) - min(_MOST_TRIED, len(past) // 4)
    tried = _match(past[older:], anomaly.ravel())
    fields = np.nan_to_num(past, copy=False)
    patch = _Patch(
        anomaly=anomaly.ravel(),
        scale=scale.ravel(),
        hole=np.flatnonzero(np.isin(numbers, hole)),
        known=np.flatnonzero(intact),
        grid=local,
        lengths=lengths,
        modes=find_modes(fields, intact.ravel()),
        older=find_modes(fields[:older], intact.ravel()),
        tried=tried,
    )
    return patch, numbers.ravel()


def _match(past: Floats, present: Floats) -> Floats:
    """Return the past fields known where the present is, scaled to its root mean square."""
    known = np.isfinite(present)
    complete = np.isfinite(past[:, known]).mean(axis=1) > _COMPLETE
    size = np.sqrt(np.nanmean(past[complete][:, known] ** 2, axis=1))
    fields = past[complete][size > 0.0] / size[size > 0.0, np.newaxis]
    return np.asarray(fields * np.sqrt(np.mean(present[known] ** 2)))


def _judge(patch: _Patch, observers: int) -> _Verdict | None:
    """Return the covariance that heals hidden copies of the hole best; None if none can be hidden."""
    wanted = int(np.clip(-(-_FEWEST_SCORED // len(patch.hole)), 8, 40))
    mask = np.zeros(patch.grid.shape, dtype=bool)
    mask.ravel()[patch.known] = True
    hidden = copy_hole(patch.hole, mask, patch.grid, wanted)
    if len(patch.known) < _FEWEST_KNOWN or len(hidden) < _FEWEST_COPIES:
        return None
    trials = _plan(patch, hidden, min(observers, _MOST_TRIAL_OBSERVERS))
    best = Covariance(patch.lengths)
    for refine in (_vary_shape, _vary_nugget, _vary_rank):
        choices = refine(best, len(patch.older.shares))
        best = min(choices, key=lambda c: _score(patch, trials, c).healed)
    return _score(patch, _plan(patch, hidden, observers), best)


def _vary_shape(start: Covariance, past: int) -> list[Covariance]:
    """Return the model with other lengths and smoothness."""
    return [
        replace(start, lengths=tuple(length * stretch for length in start.lengths), smooth=smooth)
        for stretch, smooth in product(_STRETCHES, (False, True))
    ]


def _vary_nugget(start: Covariance, past: int) -> list[Covariance]:
    """Return the model with other nuggets."""
    return [replace(start, nugget=nugget) for nugget in _NUGGETS]


def _vary_rank(start: Covariance, past: int) -> list[Covariance]:
    """Return the model without and with modes of the past, its local part then also shorter."""
    shorter = replace(start, lengths=tuple(length / 2.0 for length in start.lengths))
    return [start] + [
        replace(model, rank=min(rank, past), reach=reach)
        for rank, reach in _RANKS
        for model in (start, shorter)
        if past
    ]


def _plan(patch: _Patch, hidden: list[Cells], observers: int) -> list[_Trial]:
    """Return trials: each hidden region of the present, and the hole itself in past fields."""
    now = patch.anomaly[np.newaxis]
    trials = [(np.setdiff1d(patch.known, cells), cells, now) for cells in hidden]
    if len(patch.tried):
        trials.append((patch.known, patch.hole, patch.tried))
    return [
        _Trial(
            cells[:: -(-len(cells) // _MOST_SCORED)],
            pick_observers(seen, cells, patch.grid, patch.lengths, observers),
            fields,
        )
        for seen, cells, fields in trials
    ]


def _estimate(
    patch: _Patch, trial: _Trial, covariance: Covariance, modes: Modes
) -> tuple[Floats, Floats]:
    """Return the estimates, shape (k, wanted), and their relative error variance, (wanted,)."""
    grid, rank = patch.grid, covariance.rank
    observed, wanted = (
        Places(embed(cells, grid.shape, grid.cyclic, covariance.lengths), modes.at(cells, rank))
        for cells in (trial.observers, trial.wanted)
    )
    values = np.nan_to_num(trial.fields[:, trial.observers])
    return interpolate(values, observed, wanted, covariance, modes.explain(rank))


def _score(patch: _Patch, trials: list[_Trial], covariance: Covariance) -> _Verdict:
    """Return how a covariance does on trials whose truth is known, with the weight it earns."""
    truths, guesses, variances, scales = [], [], [], []
    for trial in trials:
        means, variance = _estimate(patch, trial, covariance, patch.older)
        for truth, mean in zip(trial.fields[:, trial.wanted], means, strict=True):
            seen = np.isfinite(truth)
            truths.append(truth[seen])
            guesses.append(mean[seen])
            variances.append(variance[seen])
            scales.append(patch.scale[trial.wanted][seen])
    truth, guess, scale = (np.concatenate(x) for x in (truths, guesses, scales))
    parts = np.cumsum([len(t) for t in truths])[:-1]
    sums = np.array(
        [
            (d @ d, d @ p, p @ p)
            for d, p in zip(
                np.split(truth * scale, parts), np.split(guess * scale, parts), strict=True
            )
        ]
    )
    weight, without = _weigh(sums)
    healed = sums[:, 0] - 2.0 * without * sums[:, 1] + without**2 * sums[:, 2]
    relative = _soften(np.concatenate(variances), weight)
    better = bool(healed.sum() < sums[:, 0].sum())
    return _Verdict(
        covariance=covariance,
        weight=weight if better else 0.0,
        inflation=float(np.sqrt(np.mean((truth - weight * guess) ** 2 / relative))),
        ceiling=float(max(1.0, np.sqrt(np.mean(truth**2)))),
        healed=float(healed.sum()),
        forecast=float(sums[:, 0].sum()),
        count=len(truth),
    )


def _weigh(sums: Floats) -> tuple[float, Floats]:
    """Return the weight shrunk by its own uncertainty, and the weight without each trial.

    Parameters
    ----------
    sums : ndarray of float64, shape (trials, 3)
        Sums of truth^2, truth x estimate and estimate^2.

    Notes
    -----
    Least squares, with the jackknife variance (Tukey 1958) of the weight in a positive-part
    shrinkage (James and Stein 1961): a weight that chance could explain becomes 0.
    """
    rest = sums.sum(axis=0) - sums
    usable = rest[:, 2] > 0.0
    without = np.divide(rest[:, 1], rest[:, 2], out=np.zeros(len(sums)), where=usable)
    total = sums.sum(axis=0)
    if not total[2] > 0.0:
        return 0.0, np.clip(without, 0.0, 1.0)
    weight = float(np.clip(total[1] / total[2], 0.0, 1.0))
    variance = float(np.sum((without - without.mean()) ** 2)) * (len(sums) - 1) / len(sums)
    shrunk = weight * max(0.0, 1.0 - variance / weight**2) if weight > 0.0 else 0.0
    return shrunk, np.clip(without, 0.0, 1.0)


def _soften(variance: Floats, weight: float) -> Floats:
    """Return the relative error variance when only a share of the interpolation is used."""
    return np.asarray(variance + (1.0 - weight) ** 2 * np.maximum(1.0 - variance, 0.0))


def _fill(patch: _Patch, verdict: _Verdict, observers: int) -> tuple[Floats, Floats]:
    """Return the departures of the hole and their standard errors, data units."""
    most = int(np.clip(_MOST_PAIRS // len(patch.hole), 200, observers))
    chosen = pick_observers(patch.known, patch.hole, patch.grid, patch.lengths, most)
    now = _Trial(patch.hole, chosen, patch.anomaly[np.newaxis])
    (mean,), variance = _estimate(patch, now, verdict.covariance, patch.modes)
    relative = np.sqrt(_soften(variance, verdict.weight)) * verdict.inflation
    scale = patch.scale[patch.hole]
    return verdict.weight * mean * scale, np.minimum(relative, verdict.ceiling) * scale


def _summarise(mean: Floats, error: Floats, verdicts: list[tuple[_Verdict, int]]) -> Inpainted:
    """Return the result with the holes' scores pooled by their numbers of cells."""
    count = sum(v.count for v, _ in verdicts)
    weight = sum(v.weight * size for v, size in verdicts) / max(1, np.isfinite(mean).sum())
    healed = sum(v.healed if v.weight > 0.0 else v.forecast for v, _ in verdicts)
    forecast = sum(v.forecast for v, _ in verdicts)
    return Inpainted(
        departure=mean,
        standard_error=error,
        weight=float(weight),
        validated_rmse=float(np.sqrt(max(healed, 0.0) / count)) if count else float("nan"),
        forecast_rmse=float(np.sqrt(forecast / count)) if count else float("nan"),
    )
