"""EOF modes of a variable: a few patterns of a sample of its cells, and how their amplitudes go on.

The modes see the whole variable at once, which no chunk can.  A chunk's cells follow them by their
loadings; what the modes do not explain, a cell predicts by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from gnomon.tasks.forecasting.candidate import ModeRecord
from gnomon.tasks.forecasting.eof import leading_patterns
from gnomon.tasks.forecasting.kernels import faded_sums
from gnomon.tasks.forecasting.specification import Array, Specification

LARGEST = 10
"""Greatest number of modes: the regressions of each on all have as many predictors, three times
over, and later modes are mostly noise."""
CAPTURES_PER_MODE = 4
"""Captures that each mode needs: with fewer, modes describe the sample, and not the variable."""
LEAST_CAPTURES = 12
"""Captures below which there are no modes: fewer than three would be left, found from as little."""
FILLINGS = (1, 1, 1, 3, 3, 3)
"""With how many modes gaps are filled, one time after another: few, as many would follow the noise.
The first alone comes first, until what was put into the gaps has no mode of its own."""
RIDGE = (0.1, 10.0)
"""Penalty of the regressions relative to the modes' mean variance: the first, plus the second
over the number of captures. With less, short records fit chance; with more, all that the modes tell
of each other fades."""
LEVEL_RATE = 0.2
"""Weight of one capture in the modes' local levels: of the last five captures or so. A larger one
is nearer to the amplitude itself, which is a predictor already."""


@dataclass(frozen=True, slots=True)
class Modes:
    """Patterns and amplitudes of M modes on a sample of S cells."""

    patterns: Array
    """(M, S) orthonormal, unitless; zero where a cell was never seen."""
    amplitudes: Array
    """(T, M) of each slot, variable's units times root of cells; NaN where nothing was captured."""
    offsets: Array
    """(S,) to be taken off the anomalies: the mean of a cell with gaps is one of other times."""


def fit(anomalies: Array, weights: Array) -> Modes:
    """Leading EOFs of a sample.

    Parameters
    ----------
    anomalies : float64, (T, S), variable's units
        From the climatology, on consecutive slots; NaN where unknown.
    weights : float64, (T,)
        Weight of each slot.

    Notes
    -----
    Gaps are filled with the last value before, then with what the leading modes say of them, and
    the modes found again, a few times (Beckers and Rixen 2003). An anomaly of zero in their place
    makes modes of what is missing, which no filling ever leaves.
    """
    has_value = np.isfinite(anomalies)
    seen = has_value.any(axis=1)
    count = int(seen.sum())
    largest = 0 if count < LEAST_CAPTURES else min(LARGEST, count // CAPTURES_PER_MODE)
    if largest == 0:
        return nothing(*has_value.shape)
    # A slot that nothing was captured of is no gap: as zeros it adds nothing to the products.
    gaps = ~has_value & seen[:, None] & has_value.any(axis=0)
    # Rows times the root of their weight have the weighted covariance as their product.
    filled, root = np.where(has_value, anomalies, 0.0), np.sqrt(weights)[:, None]
    if gaps.any():
        filled = np.where(gaps, _nearest(anomalies), filled)
    patterns, offsets = leading_patterns(filled * root, largest), np.zeros(has_value.shape[1])
    partial = gaps.any(axis=0)
    total = np.maximum((has_value * weights[:, None]).sum(axis=0), 1e-300)
    for count in FILLINGS if partial.any() else ():
        # Few of them: many would follow the noise, and the gaps with it.
        few = patterns[:count]
        modelled = project(few, anomalies - offsets) @ few
        left = np.where(has_value, anomalies - modelled, 0.0)
        # Of cells with gaps alone: the mean of the others is of all times already.
        offsets = np.where(partial, (weights @ left) / total, 0.0)
        filled = np.where(gaps, modelled, np.where(has_value, anomalies - offsets, 0.0))
        patterns = leading_patterns(filled * root, largest)
    # Of what was captured, not of what was filled in: a filling must not confirm itself.
    amplitudes = project(patterns, anomalies - offsets)
    return Modes(patterns, np.where(seen[:, None], amplitudes, np.nan), offsets)


def nothing(slots: int, cells: int) -> Modes:
    """No modes of so many cells."""
    return Modes(np.zeros((0, cells)), np.full((slots, 0), np.nan), np.zeros(cells))


def _nearest(anomalies: Array) -> Array:
    """Anomalies (T, S) with each cell's value before in its gaps, at the start the one after."""
    has_value = np.isfinite(anomalies)
    rows = np.arange(len(anomalies))[:, None]
    before = np.maximum.accumulate(np.where(has_value, rows, -1))
    first = has_value.argmax(axis=0)
    return np.take_along_axis(anomalies, np.where(before < 0, first, before), axis=0)


def project(patterns: Array, anomalies: Array) -> Array:
    """Amplitudes (T, M) of fields (T, S); a field with gaps is fitted where it is known."""
    has_value = np.isfinite(anomalies)
    filled = np.where(has_value, anomalies, 0.0)
    result = filled @ patterns.T
    rows = np.flatnonzero(has_value.any(axis=1) & ~has_value.all(axis=1))
    # Most have the same cells: land, or chunks that are missing for long.
    masks, number = np.unique(np.packbits(has_value[rows], axis=1), axis=0, return_inverse=True)
    for k in range(len(masks)):
        alike = rows[number == k]
        part = patterns * has_value[alike[0]]
        # The penalty is that of one cell in a thousand: it only matters where little is known.
        gram = part @ part.T + 1e-3 * np.eye(len(patterns))
        result[alike] = np.linalg.solve(gram, result[alike].T).T
    return result


class LinearInverse:
    """One regression per lead of all modes on all modes.

    Notes
    -----
    A linear inverse model (Penland and Sardeshmukh 1995) that is fitted at each lead by itself, so
    that nothing has to be Markovian.  Predictors are the amplitudes now, their local level, and
    those one season before the valid time.  It is quick enough to be fitted when it predicts.
    """

    per: Literal["mode"] = "mode"
    name = "modes_linear"
    cost_s = 0.0

    def fit(self, record: ModeRecord, before: Array | None) -> Array:
        """Return nothing."""
        return np.empty(0)

    def predict(self, parameters: Array, record: ModeRecord, leads: int) -> Array:
        """Return the predicted amplitudes (H, M)."""
        amplitudes, weight, season = record.amplitudes, record.weights, record.season
        level = levels(amplitudes)
        result = np.zeros((leads, amplitudes.shape[1]))
        if not amplitudes.shape[1]:
            return result
        # One for all modes: relative to each one's own, the small and noisy would fit as freely.
        size = float(_mean_square(record).mean())
        strength = RIDGE[0] + RIDGE[1] / len(amplitudes)
        for lead in range(1, leads + 1):
            parts = [amplitudes[season:], level[season:]]
            if season:
                # As few cycles before the valid time as end at the reference time, or before.
                start = season + lead - season * -(-lead // season)
                parts.append(amplitudes[start : start + len(amplitudes) - season])
            predictors = np.concatenate(parts, axis=1)
            past, target = predictors[:-lead], amplitudes[season + lead :]
            # The weight of the target's slot: where that is a gap there is no truth.
            w = weight[season + lead :]
            # Few pairs, and fewer at later leads: these stay zero, which is the climatology.
            if len(past) < record.spec.leads or not w.any():
                break
            scaled = past * w[:, None]
            gram = scaled.T @ past + strength * float(w.sum()) * size * np.eye(past.shape[1])
            result[lead - 1] = predictors[-1] @ np.linalg.solve(gram, scaled.T @ target)
        return result


class Independent:
    """One regression per lead and mode on the mode's own past."""

    per: Literal["mode"] = "mode"
    name = "modes_independent"
    cost_s = 0.0

    def fit(self, record: ModeRecord, before: Array | None) -> Array:
        """Return nothing: it is quick enough to be fitted when it predicts."""
        return np.empty(0)

    def predict(self, parameters: Array, record: ModeRecord, leads: int) -> Array:
        """Return the predicted amplitudes (H, M)."""
        amplitudes, weight, season = record.amplitudes, record.weights, record.season
        level = levels(amplitudes, 0.1)
        size = np.sqrt(np.maximum(_mean_square(record), 1e-300))
        start = max(season, 1)
        result = np.zeros((leads, amplitudes.shape[1]))
        for lead in range(1, leads + 1):
            parts = [amplitudes[start:], amplitudes[start - 1 : -1], level[start:]]
            if season:
                first = start + lead - season * -(-lead // season)
                parts.append(amplitudes[first : first + len(amplitudes) - start])
            # A constant of the mode's own size: the ridge weighs on it as on the others.
            parts.append(np.broadcast_to(size, parts[0].shape))
            predictors = np.stack(parts).transpose(2, 0, 1)
            past, target = predictors[..., :-lead], amplitudes[start + lead :]
            w = weight[start + lead :]
            if past.shape[2] < record.spec.leads or not w.any():
                break
            scaled = past * w
            gram = scaled @ past.transpose(0, 2, 1)
            penalty = (0.05 + 1.0 / len(amplitudes)) * float(w.sum()) * size**2
            gram = gram + penalty[:, None, None] * np.eye(past.shape[1])
            moment = (scaled @ target.T[..., None])[..., 0]
            coefficients = np.linalg.solve(gram, moment[..., None])[..., 0]
            result[lead - 1] = (predictors[..., -1] * coefficients).sum(axis=-1)
        return result


def record_of(spec: Specification, amplitudes: Array, weights: Array) -> ModeRecord:
    """What candidates know of amplitudes (T, M), NaN in gaps, of slots with weights (T,)."""
    has_amplitudes = np.isfinite(amplitudes[:, :1]).all(axis=1)
    return ModeRecord(spec, _filled(amplitudes), weights * has_amplitudes)


def _mean_square(record: ModeRecord) -> Array:
    """Weighted mean squares (M,) of the amplitudes; 0 where none is known."""
    total = max(float(record.weights.sum()), 1e-300)
    return np.asarray(record.weights @ record.amplitudes**2 / total)


def levels(filled: Array, rate: float = LEVEL_RATE) -> Array:
    """Exponentially weighted means (T, M) of the amplitudes up to each slot."""
    keep = 1.0 - rate
    sums = faded_sums(np.ascontiguousarray(filled, np.float64), rate)
    # The sums begin with zero; divided out, the first level is the first amplitude.
    return np.asarray(sums / (1.0 - keep ** np.arange(1.0, len(filled) + 1.0))[:, None])


def _filled(amplitudes: Array) -> Array:
    """Amplitudes with the last known ones in the gaps."""
    has_amplitudes = np.isfinite(amplitudes[:, :1]).all(axis=1)
    last = np.maximum.accumulate(np.where(has_amplitudes, np.arange(len(has_amplitudes)), 0))
    # Before the first one 0, the climatology; `record_of` gives such slots no weight.
    return np.nan_to_num(amplitudes[last])
