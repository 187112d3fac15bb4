"""Candidates: what each simple model says of a state that has captures before, after or around it.

All of them are anomalies from the climatology, but for the straight line.  What is common to the
cells of a variable, a `Form`, is fitted to a sample of them; the rest to the cells themselves.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gnomon.tasks.forecasting.eof import leading_patterns
from gnomon.tasks.forecasting.modes import (
    CAPTURES_PER_MODE,
    LARGEST,
    LEAST_CAPTURES,
    LEVEL_RATE,
    project,
)
from gnomon.tasks.forecasting.specification import Array, Specification
from gnomon.tasks.interpolating.gap import Gap, Ints, rows_of
from gnomon.tasks.interpolating.process import Record, bridge, damping, fit, mean_square

__all__ = ["CANDIDATES", "Form", "form_of", "predict", "season_of"]

CANDIDATES = ("line", "climatology", "bridge", "neighbours", "modes", "modes_together")
"""In the order of every candidate axis. A straight line between the sides, or the value of the one
there is; the climatology; the anomalies of a first-order process; these, corrected by what more
captures of a cell say; and by what the modes say, each by itself, and all together."""
LONGEST_SEASON = 48
"""Slots of a cycle that is looked back and ahead on, at most, as the forecaster has it."""
PENALTY = (0.05, 20.0)
"""Of the corrections, relative to the predictors' mean square: the first, plus the second over the
number of trials. What is penalised is the distance from the first-order process."""


@dataclass(frozen=True, slots=True)
class Form:
    """What is common to the cells of a variable, fitted to the known rows of a sample."""

    known: NDArray[np.bool_]
    """(T,) rows that were fitted to."""
    neighbours: Array
    """(P,) weights of a cell's predictors."""
    amplitudes: Array
    """(T, M) of the modes."""
    targets: tuple[Array, Array]
    """Two times (O, M): what is said of the modes' amplitudes, each by itself, and together."""


def season_of(spec: Specification) -> int:
    """Slots of the shortest cycle that is long enough to be a predictor; 0 if there is none."""
    slots = [round(period / spec.interval_s) for period in spec.periods_s]
    return min((s for s in slots if 2 <= s <= LONGEST_SEASON), default=0)


def predictors(series: Array, slots: Ints, targets: Ints, gap: Gap, season: int) -> Array:
    """What is known of series (T, N) beside some slots: (O, P, N); 0 where it was not captured.

    Of each side: the nearest value, the one beyond, an exponentially weighted mean, and the value
    of the nearest whole cycle away.
    """
    filled = np.nan_to_num(series)
    parts = []
    for sign, reach in ((-1, gap.before), (1, gap.after)):
        if reach is None:
            continue
        level = _levels(filled[::-sign])[::-sign]
        near = rows_of(slots, targets + sign * reach)
        beyond = rows_of(slots, targets + sign * (reach + 1))
        beyond = np.where(beyond >= 0, beyond, near)
        parts += [_taken(filled, near), _taken(filled, beyond), _taken(level, near)]
        if season:
            away = sign * season * -(-reach // season)
            parts.append(_taken(filled, rows_of(slots, targets + away)))
    return np.stack(parts, axis=1)


def _levels(filled: Array) -> Array:
    """Exponentially weighted means (T, N) of what is up to each row, the row included."""
    result, total, weight = np.empty_like(filled), np.zeros(filled.shape[1]), 0.0
    for row, values in enumerate(filled):
        total = (1.0 - LEVEL_RATE) * total + LEVEL_RATE * values
        weight = (1.0 - LEVEL_RATE) * weight + LEVEL_RATE
        result[row] = total / weight
    return result


def _taken(series: Array, rows: Ints) -> Array:
    return np.where((rows >= 0)[:, None], series[rows], 0.0)


def bridged(series: Array, slots: Ints, targets: Ints, gap: Gap, damped: Array) -> Array:
    """Series (T, N) at some slots (O, N), by a first-order process with a damping (N,).

    Where one side has no value, by the other alone; 0 where none has.
    """
    sides = []
    for sign, reach in ((-1, gap.before), (1, gap.after)):
        if reach is None:
            sides.append(np.full((len(targets), series.shape[1]), np.nan))
        else:
            rows = rows_of(slots, targets + sign * reach)
            sides.append(np.where((rows >= 0)[:, None], series[rows], np.nan))
    left, right = sides
    weights = bridge(damped, gap)
    both = weights[0] * left + weights[1] * right
    if gap.is_open:
        both = np.nan_to_num(weights[0] * left) + np.nan_to_num(weights[1] * right)
        return np.asarray(both)
    alone = [
        damped ** float(reach or 0) * side
        for reach, side in ((gap.before, left), (gap.after, right))
    ]
    one = np.where(np.isfinite(left), alone[0], np.nan_to_num(alone[1]))
    return np.asarray(np.where(np.isfinite(both), both, one))


def form_of(
    spec: Specification, sample: Record, known: NDArray[np.bool_], gap: Gap, targets: Ints
) -> Form:
    """What the known rows of a sample say of a gap, and of the modes at some slots."""
    process, anomalies = fit(spec, sample, known)
    slots, season = sample.slots, season_of(spec)
    # Of what is hidden nothing is there, not even beside what is fitted to.
    seen_slots, seen = slots[known], anomalies[known]
    learnt = _learnable(seen_slots, gap)
    scale = np.sqrt(mean_square(seen, axis=0))
    cells = np.isfinite(scale) & (scale > 0)
    unit = seen[:, cells] / scale[cells]
    neighbours = _neighbours(unit, seen_slots, learnt, gap, season, process.damping[cells])
    amplitudes = _amplitudes(anomalies, known)
    own = damping(slots, amplitudes, known)
    given = bridged(amplitudes, slots, targets, gap, own)
    alone, together = given.copy(), given.copy()
    if amplitudes.shape[1] and len(learnt) > 1:
        known_amplitudes = amplitudes[known]
        past = predictors(known_amplitudes, seen_slots, seen_slots[learnt], gap, season)
        said = bridged(known_amplitudes, seen_slots, seen_slots[learnt], gap, own)
        left = known_amplitudes[learnt] - said
        now = predictors(amplitudes, slots, targets, gap, season)
        for mode in range(amplitudes.shape[1]):
            weights = _ridge(past[:, :, mode], left[:, mode : mode + 1])
            alone[:, mode] += (now[:, :, mode] @ weights)[:, 0]
        weights = _ridge(past.reshape(len(past), -1), left)
        together += now.reshape(len(now), -1) @ weights
    return Form(known, neighbours, amplitudes, (alone, together))


def _learnable(slots: Ints, gap: Gap) -> Ints:
    """Rows whose sides are there as well."""
    usable = np.ones(len(slots), bool)
    for reach in (-gap.before if gap.before else None, gap.after):
        if reach is not None:
            usable &= rows_of(slots, slots + reach) >= 0
    return np.flatnonzero(usable)


def _neighbours(
    unit: Array, slots: Ints, rows: Ints, gap: Gap, season: int, damped: Array
) -> Array:
    """Weights (P,) of the predictors of a cell, one for all cells of unit size."""
    count = (3 + bool(season)) * (2 - gap.is_open)
    if not len(rows) or not unit.shape[1]:
        return np.zeros(count)
    past = predictors(unit, slots, slots[rows], gap, season)
    left = unit[rows] - bridged(unit, slots, slots[rows], gap, damped)
    filled = np.nan_to_num(left)
    gram = np.einsum("opn,oqn->pq", past, past, optimize=True)
    moment = np.einsum("opn,on->p", past, filled, optimize=True)
    cells = unit.shape[1]
    return np.asarray(_solve(gram / cells, moment[:, None] / cells, len(rows))[:, 0])


def _ridge(past: Array, target: Array) -> Array:
    return _solve(past.T @ past, past.T @ np.nan_to_num(target), len(past))


def _solve(gram: Array, moment: Array, count: int) -> Array:
    size = float(np.trace(gram)) / max(1, len(gram))
    strength = (PENALTY[0] + PENALTY[1] / count) * size + 1e-300
    return np.asarray(np.linalg.solve(gram + strength * np.eye(len(gram)), moment))


def _amplitudes(anomalies: Array, known: NDArray[np.bool_]) -> Array:
    """Amplitudes (T, M) of the modes of the known rows, in all rows."""
    count = int(known.sum())
    largest = 0 if count < LEAST_CAPTURES else min(LARGEST, count // CAPTURES_PER_MODE)
    if not largest:
        return np.zeros((len(anomalies), 0))
    patterns = leading_patterns(np.nan_to_num(anomalies[known]), largest)
    return project(patterns, anomalies)


def predict(
    spec: Specification,
    record: Record,
    form: Form,
    gap: Gap,
    targets: Ints,
    times_s: Array,
) -> Array:
    """What every candidate says of some slots: (O, C, N), variable's units; NaN where never seen.

    Parameters
    ----------
    targets, times_s
        (O,) slots and valid times, those of the form.
    """
    process, anomalies = fit(spec, record, form.known)
    slots, season = record.slots, season_of(spec)
    mean = process.climatology(spec, times_s)
    given = bridged(anomalies, slots, targets, gap, process.damping)
    weighted = np.einsum(
        "p,opn->on", form.neighbours, predictors(anomalies, slots, targets, gap, season)
    )
    result = np.empty((len(targets), len(CANDIDATES), record.values.shape[1]))
    result[:, 0] = _line(record, targets, times_s, gap, mean)
    result[:, 1], result[:, 2] = mean, mean + given
    result[:, 3] = result[:, 2] + weighted
    loadings, left = _loaded(anomalies, form)
    rest = bridged(left, slots, targets, gap, damping(slots, left, form.known))
    for place, modes in enumerate(form.targets, start=4):
        result[:, place] = mean + modes @ loadings + rest
    return result


def _loaded(anomalies: Array, form: Form) -> tuple[Array, Array]:
    """Loadings (M, N) of cells on the modes, and what these leave of the anomalies (T, N)."""
    amplitudes = form.amplitudes
    if not amplitudes.shape[1]:
        return np.zeros((0, anomalies.shape[1])), anomalies
    rows = amplitudes[form.known]
    gram = rows.T @ rows
    gram = gram + (1e-6 * np.trace(gram) + 1e-300) * np.eye(len(gram))
    loadings = np.linalg.solve(gram, rows.T @ np.nan_to_num(anomalies[form.known]))
    return loadings, anomalies - amplitudes @ loadings


def _line(record: Record, targets: Ints, times_s: Array, gap: Gap, mean: Array) -> Array:
    """Values (O, N) on a straight line between the sides, or that of the one there is."""
    values, weights = [], []
    for sign, reach in ((-1, gap.before), (1, gap.after)):
        if reach is not None:
            rows = rows_of(record.slots, targets + sign * reach)
            values.append(np.where((rows >= 0)[:, None], record.values[rows], np.nan))
            weights.append(np.abs(times_s - record.times_s[rows]))
    if len(values) == 1:
        return np.asarray(np.where(np.isfinite(values[0]), values[0], mean))
    share = (weights[1] / (weights[0] + weights[1]))[:, None]
    line = share * values[0] + (1.0 - share) * values[1]
    one = np.where(np.isfinite(values[0]), values[0], values[1])
    return np.asarray(np.where(np.isfinite(line), line, np.where(np.isfinite(one), one, mean)))
