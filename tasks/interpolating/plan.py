"""A plan: how the candidates are weighed in one place of a gap, and how far that is wrong.

It is learnt once for a variable, from a sample of its cells; each chunk is estimated by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import erf, sqrt

import numpy as np
from numpy.typing import NDArray

from gnomon.tasks.forecasting import blend
from gnomon.tasks.forecasting.specification import Array, Specification, clip
from gnomon.tasks.forecasting.uncertainty import LEAST_SHARE, NOMINAL, NOMINAL_Z, student
from gnomon.tasks.interpolating import beyond
from gnomon.tasks.interpolating.candidates import CANDIDATES, Form, form_of, predict
from gnomon.tasks.interpolating.gap import Gap, Ints, Trials, rows_of, trials_of
from gnomon.tasks.interpolating.process import Record, mean_square, seasons_within

POOLED = 4.0
"""Trials' worth of weight of the chunk's mean square error in that of a cell."""
ROUNDING = 2.0**-23
"""Least standard error, of the size of the values: what never changed has that of its rounding."""
LEAST_SPREAD, SPREAD, SPREAD_TRIALS = 0.05, 0.5, 4.0
"""Standard deviation of the logarithm of a chunk's RMSE over its expected one: the least, that
where no trial tells, and how many trials that weighs."""
SKILL = 0.98
"""Share of the climatology's error from which on an estimate with one side is called one."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is known of a place in a gap, for all chunks of a variable."""

    spec: Specification
    """With the seasons that the record holds."""
    gap: Gap
    """The place."""
    slot: int
    """Cadence index of what is estimated."""
    trials: Trials
    """Known captures in such a place, or in that of a smaller gap."""
    forms: tuple[Form, ...]
    """Of each group of trials, without what is hidden."""
    form: Form
    """With all that is known."""
    weights: Array
    """(C,) of the candidates."""
    without: Array
    """(F, C) the same, found without a group of trials."""
    factor: float
    """On the standard errors, so that their nominal interval covers in trials."""
    location: float
    """Mean logarithm of a chunk's RMSE over that of its standard errors."""
    spread: float
    """Standard deviation of that logarithm."""
    skilled: bool
    """Whether anything is known beyond the climatology."""
    independent: float
    """How many trials these are worth: those that overlap are wrong together."""

    @property
    def growth(self) -> float:
        """Of the variance from the gap of the trials to this one, as of a random walk."""
        return max(1.0, self.gap.variance() / self.trials.gap.variance())

    def confidence(self, standard_error: Array, tolerance: float) -> float:
        """Probability that the RMSE of a chunk (N,) is within a tolerance; NaN if it has none."""
        known = standard_error[np.isfinite(standard_error)]
        if not known.size:
            return float("nan")
        expected = sqrt(float(np.mean(known**2)))
        if expected == 0.0 or tolerance <= 0.0:
            return float(expected <= tolerance)
        margin = (np.log(tolerance / expected) - self.location) / self.spread
        return 0.5 * (1.0 + erf(margin / sqrt(2.0)))


@dataclass(frozen=True, slots=True)
class Estimate:
    """One state of some cells."""

    values: Array
    """(N,) variable's units; NaN where nothing is estimated."""
    standard_error: Array
    """(N,) such that the value +- 1.645 of them covers 90 %; NaN where `values` is."""


def learn(
    spec: Specification, sample: Record, starts: Ints, gap: Gap, slot: int, time_s: float
) -> tuple[Plan, Estimate]:
    """Plan of a place, and the estimate of the sample itself.

    Parameters
    ----------
    spec
        Of the variable.
    sample
        Captures of a sample of the variable's cells.
    starts : int64, (G + 1,)
        First cell of each of its chunks, and N.
    gap, slot, time_s
        Of what is estimated.
    """
    spec = seasons_within(spec, sample.times_s)
    trials = trials_of(sample.slots, gap)
    forms = tuple(
        form_of(spec, sample, known, trials.gap, sample.slots[trials.rows[trials.folds == fold]])
        for fold, known in enumerate(trials.known)
    )
    everything = np.ones(len(sample.slots), bool)
    form = form_of(spec, sample, everything, gap, np.array([slot]))
    plain = np.eye(len(CANDIDATES))[0]
    plan = Plan(
        spec, gap, slot, trials, forms, form, plain, np.tile(plain, (len(forms), 1)), 1.0, 0.0,
        SPREAD, skilled=True, independent=_independent(trials),
    )  # fmt: skip
    errors = _missed(plan, sample)
    if not len(errors):
        return plan, estimate(plan, sample, time_s)
    products, verified = blend.moments(errors[:, None])
    weight = verified.astype(np.float64)
    weights = blend.weights(products, weight)[-1]
    without = [
        blend.weights(products[trials.folds != k], weight[trials.folds != k])[-1]
        for k in range(len(forms))
    ]
    if len(forms) < 2:
        without = [weights]
    missed = np.einsum("oc,ocn->on", np.stack(without)[trials.folds], errors)
    blended, alone = (float(mean_square(e.ravel(), axis=0)) for e in (missed, errors[:, 1]))
    skilled = not gap.is_open or blended < SKILL**2 * alone
    number = _independent(trials)
    if gap.is_open:
        number = max(number, beyond.independent(missed, trials))
    factor, location, spread = _calibrated(missed, trials, starts, number)
    plan = Plan(
        spec, gap, slot, trials, forms, form, weights, np.stack(without), factor, location, spread,
        skilled, number,
    )  # fmt: skip
    return plan, estimate(plan, sample, time_s)


def estimate(plan: Plan, record: Record, time_s: float) -> Estimate:
    """Estimate of the cells of one chunk.

    Parameters
    ----------
    record
        Their captures, in the slots that the plan was learnt from.
    time_s
        Valid time, seconds.
    """
    targets, times = np.array([plan.slot]), np.array([time_s])
    said = predict(plan.spec, record, plan.form, plan.gap, targets, times)[0]
    values = clip(plan.spec, plan.weights @ said)
    error = error_of(plan, record)
    left, right = (_side(record, plan.slot, reach) for reach in _reaches(plan.gap))
    there = np.isfinite(left) | np.isfinite(right)
    if not plan.gap.is_open:
        error = _alone(record, plan.gap, error, np.isfinite(left) & np.isfinite(right))
    error = error + ROUNDING * np.abs(values) + np.finfo(np.float64).tiny
    there &= np.isfinite(values) & np.isfinite(error)
    return Estimate(np.where(there, values, np.nan), np.where(there, error, np.nan))


def error_of(plan: Plan, record: Record) -> Array:
    """Standard error (N,) that the trials say of a place, variable's units; NaN where none does."""
    errors = _missed(plan, record)
    missed = np.einsum("oc,ocn->on", plan.without[plan.trials.folds], errors)
    variance = _shrunk(missed, plan.independent)
    if not plan.gap.is_open:
        variance = plan.growth * variance
    elif plan.growth > 1.0 and len(errors):
        variance = _beyond(plan, record, variance, _shrunk(errors[:, 1], plan.independent))
    if not np.isfinite(variance).any():
        variance = _walked(record, plan.gap)
    return np.asarray(plan.factor * np.sqrt(variance))


def _beyond(plan: Plan, record: Record, tried: Array, climatology: Array) -> Array:
    """Error variance (N,) of one side alone, farther away than there are trials."""
    share, slots = 1.0 - float(plan.weights[0]), record.slots
    near = [
        beyond.reached(plan.trials.gap, share, slots, plan.trials.known[fold])
        for fold in plan.trials.folds
    ]
    far = beyond.reached(plan.gap, share, slots, plan.form.known)
    distances = sqrt(float(np.mean(np.square(near)))), far
    square = beyond.drift(plan.spec, record)
    return beyond.grown((tried, climatology), plan.growth, share, square, distances)


def _reaches(gap: Gap) -> tuple[int | None, int | None]:
    return (None if gap.before is None else -gap.before), gap.after


def _side(record: Record, slot: int, reach: int | None) -> Array:
    """Values (N,) so many slots away; NaN where none is known."""
    row = -1 if reach is None else int(rows_of(record.slots, np.array([slot + reach]))[0])
    return record.values[row] if row >= 0 else np.full(record.values.shape[1], np.nan)


def _missed(plan: Plan, record: Record) -> Array:
    """Errors (O, C, N) of every candidate in the trials."""
    trials, slots = plan.trials, record.slots
    shape = (len(trials.rows), len(CANDIDATES), record.values.shape[1])
    result = np.full(shape, np.nan)
    for fold, form in enumerate(plan.forms):
        chosen = trials.folds == fold
        rows = trials.rows[chosen]
        said = predict(plan.spec, record, form, trials.gap, slots[rows], record.times_s[rows])
        result[chosen] = said - record.values[rows][:, None]
    return result


def _independent(trials: Trials) -> float:
    """How many trials these are worth: those that overlap are wrong together."""
    length = max(1.0, (1.0 if trials.gap.is_open else 2.0) * trials.gap.variance())
    return max(1.0, len(trials.rows) / length) if len(trials.rows) else 0.0


def _shrunk(missed: Array, number: float) -> Array:
    """Mean square (N,) of errors (O, N), that of each cell shrunk to that of all."""
    seen = np.isfinite(missed)
    count = seen.sum(axis=0)
    squares = np.where(seen, missed**2, 0.0).sum(axis=0)
    if not count.any():
        return np.full(missed.shape[1], np.nan)
    common = squares.sum() / count.sum()
    share = number / max(1, len(missed))
    return np.asarray((share * squares + POOLED * common) / (share * count + POOLED))


def _calibrated(
    missed: Array, trials: Trials, starts: Ints, number: float
) -> tuple[float, float, float]:
    """Factor on the standard errors, and location and spread of the logarithm of chunks' RMSE."""
    ratios, logs = [], []
    for fold in range(len(trials.known)):
        inside = trials.folds == fold
        rest = missed[~inside] if (~inside).any() else missed
        for first, last in _chunks(starts):
            scale = np.sqrt(_shrunk(rest[:, first:last], number))
            part = missed[inside, first:last]
            expected = mean_square(scale, axis=0)
            with np.errstate(divide="ignore", invalid="ignore"):
                ratios.append(np.abs(part / scale).ravel())
                logs.append(0.5 * np.log(mean_square(part, axis=1) / expected))
    ratio, log = np.concatenate(ratios), np.concatenate(logs)
    ratio, log = ratio[np.isfinite(ratio)], log[np.isfinite(log)]
    if not ratio.size or not log.size:
        return 1.0, 0.0, SPREAD
    quantile = float(np.quantile(ratio, NOMINAL)) / NOMINAL_Z
    factor = max(quantile, LEAST_SHARE * sqrt(float(np.mean(ratio**2))))
    factor *= _caution(number)
    spread = sqrt(
        (number * float(np.var(log)) + SPREAD_TRIALS * SPREAD**2) / (number + SPREAD_TRIALS)
    )
    location = float(np.mean(log)) - np.log(factor) if factor > 0 else 0.0
    return max(factor, 1e-6), location, max(spread, LEAST_SPREAD)


def _caution(number: float) -> float:
    """Factor on an interval that so many independent trials were the only measure of.

    The whole of Student's factor covered 92 to 95 % on three records, its root 91 to 94 %: cells
    that are far apart are not wrong together.
    """
    return sqrt(float(student(np.array(number))))


def _chunks(starts: Ints) -> Iterator[tuple[int, int]]:
    for first, last in pairwise(starts):
        if last > first:
            yield int(first), int(last)


def _walked(record: Record, gap: Gap) -> Array:
    """Variance (N,) in a place of a gap where no trial tells it: that of a random walk."""
    change = np.diff(record.values, axis=0) ** 2 / np.diff(record.slots)[:, None]
    seen = np.isfinite(change)
    if not seen.any():
        return np.full(record.values.shape[1], np.nan)
    common = float(change[seen].mean())
    count = seen.sum(axis=0)
    each = (np.where(seen, change, 0.0).sum(axis=0) + POOLED * common) / (count + POOLED)
    return np.asarray(each * gap.variance() * _caution(0.0) ** 4)


def _alone(record: Record, gap: Gap, error: Array, both: NDArray[np.bool_]) -> Array:
    """Standard errors with those of cells that one side alone is known of."""
    if both.all():
        return error
    walked = np.sqrt(_walked(record, Gap(max(gap.before or 0, gap.after or 0), None)))
    return np.where(both, error, np.fmax(error, walked))
