"""How far the last capture of a variable of labels can be trusted: flags, masks, categories.

Between labels nothing lies, so the forecast is the last capture, and how wrong it is, is the share
of cells that have another label.  Captures are what counts: the cells of one change together.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gnomon.tasks.forecasting.specification import Array, Specification

type Counts = NDArray[np.int64]

DOUBT = 0.5
"""Captures' worth of doubt: half a capture in which every label was another, and half a one in
which not (Krichevsky and Trofimov 1981). What was never seen to change may still do so."""


def compare(now: Array, before: Array, starts: NDArray[np.int64]) -> tuple[Counts, Counts]:
    """Number of cells (T, G) of each chunk that are known in both, and of those that differ.

    Parameters
    ----------
    now, before : float64, (T, N)
        NaN where missing.
    starts : int64, (G + 1,)
        First cell of each chunk, and N.
    """
    in_both = np.isfinite(now) & np.isfinite(before)
    cells = np.add.reduceat(in_both, starts[:-1], axis=1, dtype=np.int64)
    return cells, np.add.reduceat(in_both & (now != before), starts[:-1], axis=1, dtype=np.int64)


def is_within(spec: Specification, cells: Counts, changed: Counts) -> NDArray[np.bool_]:
    """Whether no more of so many cells have another label than is tolerated."""
    return np.asarray(changed <= spec.tolerance * cells)


def shares(spec: Specification, values: Array, starts: NDArray[np.int64]) -> Array:
    """What a window says of changes over 1..H slots.

    Parameters
    ----------
    spec : Specification
    values : float64, (T, N)
        On consecutive slots; NaN where missing.
    starts : int64, (G + 1,)
        First cell of each chunk, and N.

    Returns
    -------
    float64, (3, H)
        Number of independent captures; how many of them are within the tolerance, a share of each
        by its chunks; and the expected share of cells that have another label.
    """
    result = np.zeros((3, spec.leads))
    expected = 0.0
    for lead in range(1, spec.leads + 1):
        now, before = values[lead:], values[: max(0, len(values) - lead)]
        cells, changed = compare(now, before, starts)
        seen = cells.any(axis=1)
        # Intervals of several slots overlap: fewer of them are news.
        number = seen.sum() / lead
        if number > 0:
            cells, changed = cells[seen], changed[seen]
            within = is_within(spec, cells, changed) & (cells > 0)
            result[1, lead - 1] = number * np.mean(within.sum(axis=1) / (cells > 0).sum(axis=1))
            share = float(np.mean(changed.sum(axis=1) / cells.sum(axis=1)))
        else:
            share = 0.0
        result[0, lead - 1] = number
        # Not less than at a shorter lead: fewer intervals must not look like more certainty.
        expected = max(expected, (number * share + DOUBT) / (number + 2 * DOUBT))
        result[2, lead - 1] = expected
    return result


def confidence(counts: Array) -> Array:
    """Probability (H,) that a chunk's share of other labels is within the tolerance.

    Parameters
    ----------
    counts : float64, (2 or more, H)
        Captures, and those within the tolerance.
    """
    return np.asarray((counts[1] + DOUBT) / (counts[0] + 2 * DOUBT))
