"""Beyond the captures: how the error of an estimate that knows one side alone grows with distance.

Trials at the longest distance of which there are enough say how far it is wrong there.  From there
to a longer distance it grows as that of a random walk, until it is that of the climatology; where
the record drifts, it grows as the drift does, and never stops.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gnomon.tasks.forecasting.specification import Array, Specification
from gnomon.tasks.interpolating.gap import Gap, Ints, Trials
from gnomon.tasks.interpolating.process import Record, damping, fit

LARGEST_CORRELATION = 0.9
"""Of neighbouring captures about a drift, at most: of a short record it is not known better."""


def independent(missed: Array, trials: Trials) -> float:
    """How many trials these are worth, by the errors (O, N) of what one side alone says.

    Those that overlap are wrong together only as far as neighbouring errors are alike: of noise
    each counts, of a walk, or of a drift, one for each length of the gap.
    """
    count = len(trials.rows)
    if not count:
        return 0.0
    longest = max(1.0, trials.gap.variance())
    now, past = missed[1:], missed[:-1]
    pairs = np.isfinite(now) & np.isfinite(past)
    square = float(np.where(pairs, (now**2 + past**2) / 2.0, 0.0).sum())
    if not square > 0.0:
        return max(1.0, count / longest)
    alike = max(0.0, float(np.where(pairs, now * past, 0.0).sum() / square))
    # About zero, not about their mean: what all are wrong by is shared by all.  Squares of errors
    # that are correlated by r are correlated by r squared.
    shared = alike**2
    length = min(longest, (1.0 + shared) / max(1.0 - shared, 1e-12))
    return max(1.0, count / length)


def drift(spec: Specification, record: Record) -> Array:
    """Mean square drift (N,) of cells per slot, variable's units; 0 where it may be chance.

    Notes
    -----
    The square of a slope that is fitted by least squares exceeds that of the drift by the slope's
    variance, which is taken off: of all cells together, as one alone cannot tell it from chance.
    Captures that are correlated by r count as ``(1 - r) / (1 + r)`` of them.
    """
    everything = np.ones(len(record.slots), bool)
    anomalies = fit(spec, record, everything)[1]
    seen = np.isfinite(anomalies)
    count = seen.sum(axis=0)
    usable = count > 2
    if not usable.any():
        return np.zeros(anomalies.shape[1])
    slots = record.slots.astype(np.float64)[:, None]
    number = np.maximum(count, 1)
    centred = np.where(seen, slots - np.where(seen, slots, 0.0).sum(axis=0) / number, 0.0)
    about = np.where(seen, anomalies - np.where(seen, anomalies, 0.0).sum(axis=0) / number, 0.0)
    length = np.maximum((centred**2).sum(axis=0), 1e-300)
    slope = (centred * about).sum(axis=0) / length
    left = np.where(seen, about - slope * centred, np.nan)
    alike = np.clip(damping(record.slots, left, everything), 0.0, LARGEST_CORRELATION)
    variance = np.nansum(left**2, axis=0) / np.maximum(count - 2, 1) / length
    variance = variance * (1.0 + alike) / (1.0 - alike)
    square, chance = float(np.mean(slope[usable] ** 2)), float(np.mean(variance[usable]))
    believed = max(0.0, 1.0 - chance / square) ** 2 if square > 0.0 else 0.0
    return np.where(usable, believed * (slope**2 + square) / 2.0, 0.0)


def reached(gap: Gap, share: float, slots: Ints, known: NDArray[np.bool_]) -> float:
    """Slots over which a drift makes an estimate wrong.

    The last capture is so far away as the gap is long; what goes back to the climatology, a share
    of the estimate, is as wrong as the middle of the known rows (T,) is far away.
    """
    side = slots[known]
    middle = abs(float(side[-1] if gap.after is None else side[0]) - float(side.mean()))
    return gap.variance() + share * middle


def grown(
    errors: tuple[Array, Array],
    ratio: float,
    share: float,
    square: Array,
    slots: tuple[float, float],
) -> Array:
    """Error variance (N,) at a distance, from that at the distance of the trials.

    Parameters
    ----------
    errors
        Twice (N,), mean square errors in the trials: of the estimate, and of the climatology.
    ratio
        Of the distance over that of the trials, >= 1.
    share
        Of the estimate that goes back to the climatology, 0 to 1: the last capture's walks on.
    square
        (N,) mean square drift per slot.
    slots
        Root mean square slots over which it drifts, in the trials and at the distance.
    """
    tried, climatology = errors
    walked = ratio * tried
    walked += share * (np.minimum(walked, np.maximum(tried, climatology)) - walked)
    drifted = tried + square * max(0.0, slots[1] ** 2 - slots[0] ** 2)
    return np.asarray(np.fmax(walked, drifted))
