"""Labels between captures: the nearer side's, with the probability that it is another."""

from __future__ import annotations

import numpy as np

from gnomon.tasks.forecasting.specification import Array
from gnomon.tasks.interpolating.gap import Gap, Ints, rows_of, trials_of
from gnomon.tasks.interpolating.process import Record

__all__ = ["estimate_labels"]


def estimate_labels(record: Record, gap: Gap, slot: int) -> tuple[Array, Array]:
    """Labels (N,) of a slot, and the probability (N,) of another one; NaN where none is known.

    Notes
    -----
    The probabilities are the shares of the same in known captures in such a place of a gap, one
    where both sides agree, one where they do not, by the rule of succession (Laplace 1814).
    """
    targets = np.array([slot])
    values, agree = (part[0] for part in _nearer(record, gap, targets))
    trials = trials_of(record.slots, gap)
    result = np.full(values.shape, np.nan)
    rows = trials.rows
    said, agreed = _nearer(record, trials.gap, record.slots[rows])
    compared = np.isfinite(said) & np.isfinite(record.values[rows])
    wrong = compared & (said != record.values[rows])
    for alike in (True, False):
        counted = compared & (agreed == alike)
        missed, number = float((wrong & counted).sum()), float(counted.sum())
        # Cells change together: what counts is how many trials there were.
        weight = len(rows) / number if number else 0.0
        share = (missed * weight + 1.0) / (number * weight + 2.0)
        grown = 1.0 - (1.0 - share) ** max(1.0, gap.variance() / trials.gap.variance())
        result[agree == alike] = grown
    return values, np.where(np.isfinite(values), result, np.nan)


def _nearer(record: Record, gap: Gap, targets: Ints) -> tuple[Array, Array]:
    """Labels (O, N) of the nearer side, or of the one there is, and whether both are the same."""
    sides = []
    for sign, reach in ((-1, gap.before), (1, gap.after)):
        if reach is None:
            sides.append(np.full((len(targets), record.values.shape[1]), np.nan))
        else:
            rows = rows_of(record.slots, targets + sign * reach)
            sides.append(np.where((rows >= 0)[:, None], record.values[rows], np.nan))
    left, right = sides
    is_left = gap.after is None or (gap.before is not None and gap.before <= gap.after)
    near, far = (left, right) if is_left else (right, left)
    label = np.where(np.isfinite(near), near, far)
    return label, (left == right) | gap.is_open
