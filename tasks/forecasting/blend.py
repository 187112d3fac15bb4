"""Convex weights of the candidates per lead, from the cross-moments of their hindcast errors."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from gnomon.tasks.forecasting.specification import Array

PRIOR_ORIGINS = 3.0
"""Hindcasts at which a lead's own weights count as much as the next shorter lead's."""
ANCHOR = 3
"""Candidate that the weights lean to, unless it is clearly not the best: autoregression."""
ANCHOR_LOSS = 1.05
"""Squared error, relative to the best candidate's, up to which it is leaned to with n hindcasts:
this plus 2 / n."""
ANCHORED = 8.0
"""Hindcasts at which the leaning costs as much as the best candidate's error variance."""
RIDGE = 0.02
"""Strength of the leaning that remains with many hindcasts."""
LEAST_RIDGE = 1e-4
"""Diagonal, relative to the best candidate's error variance: keeps every solve regular."""


def simplex(moments: Array) -> Array:
    """Weights >= 0 with sum 1 that minimise ``w' M w``, one set per lead.

    Parameters
    ----------
    moments : float64, (H, C, C)
        Positive semi-definite, finite.

    Returns
    -------
    float64, (H, C)
        Exact minimum (Bates and Granger 1969, with non-negativity): every support is tried, which
        is 2^C - 1 small solves. Ties go to the smaller support.
    """
    leads, candidates, _ = moments.shape
    best = np.full(leads, np.inf)
    weights = np.zeros((leads, candidates))
    for size in range(1, candidates + 1):
        for support in map(list, combinations(range(candidates), size)):
            part = moments[:, support][:, :, support]
            raw = np.linalg.solve(part, np.ones((leads, size, 1)))[..., 0]
            total = raw.sum(axis=1)
            usable = (raw >= 0).all(axis=1) & (total > 0)
            share = raw / np.where(usable, total, 1.0)[:, None]
            loss = np.where(usable, np.einsum("hi,hij,hj->h", share, part, share), np.inf)
            better = loss < best * (1.0 - 1e-12)
            best = np.where(better, loss, best)
            dense = np.zeros((leads, candidates))
            dense[:, support] = share
            weights = np.where(better[:, None], dense, weights)
    return weights


def weights(moments: Array, scored: Array) -> Array:
    """Blend weights per lead, shrunk to persistence while few hindcasts were scored.

    Parameters
    ----------
    moments : float64, (H, C, C), variable's units squared
        Sums of the hindcasts' error cross-moments. Candidate 0 is persistence.
    scored : float64, (H,)
        Number of hindcasts in each sum.

    Returns
    -------
    float64, (H, C)
        Rows on the simplex. Lead h: ``t w* + (1 - t) w[h-1]``, ``t = n^2 / (n^2 + n0^2)``, with
        ``w[0]`` persistence and ``w*`` the minimum of ``w' M w / m + s |w - a|^2``, m the best
        candidate's error and a the anchor: on the simplex the second term is quadratic too.
    """
    leads, candidates, _ = moments.shape
    trace = np.trace(moments, axis1=1, axis2=2)
    loss = np.diagonal(moments, axis1=1, axis2=2)
    scale = np.where(trace > 0, np.maximum(loss.min(axis=1), 1e-12 * trace), 1.0)
    identity = np.eye(candidates)
    count = np.maximum(scored, 1.0)
    leaned = loss[:, ANCHOR] <= (ANCHOR_LOSS + 2.0 / count) * scale
    best = np.where(leaned, ANCHOR, loss.argmin(axis=1))
    away = identity - identity[best][:, :, None]
    strength = RIDGE + (ANCHORED / count) ** 2
    regular = moments / scale[:, None, None] + LEAST_RIDGE * identity
    regular = regular + strength[:, None, None] * (away.transpose(0, 2, 1) @ away)
    optimum = simplex(regular)
    previous = np.zeros(candidates)
    previous[0] = 1.0
    result = np.empty((leads, candidates))
    for lead in range(leads):
        square = scored[lead] ** 2 if trace[lead] > 0 else 0.0
        trust = square / (square + PRIOR_ORIGINS**2)
        previous = trust * optimum[lead] + (1.0 - trust) * previous
        result[lead] = previous
    return result
