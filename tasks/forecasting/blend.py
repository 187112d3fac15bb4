"""Convex weights of the candidates per lead, from the cross-moments of their hindcast errors."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gnomon.tasks.forecasting.kernels import simplex
from gnomon.tasks.forecasting.specification import Array

MEMORY = 60.0
"""Half-life of a hindcast's weight, in hindcasts: candidates grow better with the record."""
NEIGHBOURS = 1.0
"""How fast the weight of another lead's moments falls with the distance of the logarithms. With
less, all leads have nearly the same weights; with more, each rests on its own few hindcasts."""
LEANING = 0.2
"""Strength of the leaning to the prior weights with one hindcast; it falls with their root. With
less, candidates with nearly the same errors get weights by chance; with more, their errors in
common count less."""
SHARPNESS = 4.0
"""The prior weights are the candidates' mean squared errors to the minus this power: with 0 all are
alike; with more, the best has nearly all."""
BASELINES = 3
"""The first candidates - persistence, climatology, damped anomaly - that a blend must beat."""
DOUBT = 0.5
"""Squared standard errors of a blend's gain over the best baseline that are not believed: with 0
every gain is; with 1 one no larger than its standard error is not believed at all."""
ROUNDING = 1e-12
"""Mean squared error, relative to that of the usual candidate, below which there is none: what is
less than a millionth of the usual error is how its numbers were rounded."""
LEAST_SHARE = 0.25
"""Of the usual loss, below which a perfect candidate at one lead has no more say at others."""
RUNAWAY = 1e6
"""Of the best candidate's loss, beyond which another has no weight: rounding would decide on it."""
LEAST_HINDCASTS = 1.0
"""Verified forecasts below which the blend is persistence: of less than one nothing was learnt."""


def moments(errors: Array) -> tuple[Array, NDArray[np.bool_]]:
    """Mean products (..., C, C) of the errors (..., C, N), and where there were any (...).

    A cell counts where every candidate was verified.
    """
    verified = np.isfinite(errors).all(axis=-2)
    filled = np.where(verified[..., None, :], errors, 0.0)
    count = verified.sum(axis=-1)
    products = filled @ np.swapaxes(filled, -1, -2)
    return products / np.maximum(count, 1)[..., None, None], count > 0


def weights(products: Array, verified: Array) -> Array:
    """Blend weights per lead.

    Parameters
    ----------
    products : float64, (O, H, C, C), variable's units squared
        Mean products of the candidates' errors of each hindcast, the newest last. Candidate 0 is
        persistence.
    verified : float64, (O, H)
        Weight of each; 0 where it was not verified yet.

    Returns
    -------
    float64, (H, C)
        Rows on the simplex: the minimum of ``w' M w + s |w - a|^2`` (Bates and Granger 1969, with
        non-negativity). M pools the moments of neighbouring leads, each relative to its best
        candidate; a are the prior weights and s falls with the number of hindcasts. Where the gain
        over the best baseline is in doubt, the weights lie between.
    """
    _, leads, candidates, _ = products.shape
    total = verified.sum(axis=0)
    count = total**2 / np.maximum((verified**2).sum(axis=0), 1e-12)
    # Moments about zero, not covariances: a bias is an error, too.
    mean = np.einsum("oh,ohcd->hcd", verified, products) / np.maximum(total, 1e-12)[:, None, None]
    loss = np.diagonal(mean, axis1=1, axis2=2)
    usual = _usual(loss)
    scale = np.maximum(loss.min(axis=1), LEAST_SHARE * usual)
    # At the lead itself, where a candidate is perfect, its errors' floor is that of rounding.
    finest = np.maximum(loss.min(axis=1), ROUNDING * usual)
    logarithm = np.log(np.arange(1.0, leads + 1.0))
    near = np.exp(-NEIGHBOURS * np.abs(logarithm[:, None] - logarithm))
    result = np.zeros((leads, candidates))
    result[:, 0] = 1.0
    # Where no candidate errs there is nothing to choose by, and nothing to divide by.
    usable = (scale > 0) & (total > 0)
    for lead in range(leads):
        # By distance, and by what each lead knows: long leads have few hindcasts, and borrow.
        share = near[lead] * np.where(usable, count, 0.0)
        if share.sum() < LEAST_HINDCASTS:
            continue
        size = np.where(usable, scale, 1.0)
        size[lead] = finest[lead] if usable[lead] else 1.0
        pooled = np.tensordot(share / share.sum() / size, mean, 1)
        each = np.maximum(np.diagonal(pooled), ROUNDING)
        prior = (each / each.min()) ** -SHARPNESS
        prior = prior / prior.sum()
        strength = LEANING / np.sqrt(max(count[lead], 0.5))
        # As weights sum to 1, this times w is w - a: the leaning is one more quadratic form.
        away = np.eye(candidates) - prior[:, None]
        sane = np.flatnonzero(each <= RUNAWAY * each.min())
        matrix = pooled + strength * (away.T @ away)
        optimum = np.zeros(candidates)
        optimum[sane] = simplex(np.ascontiguousarray(matrix[np.ix_(sane, sane)]))
        result[lead] = _doubted(optimum, products, verified * share, size)
    return result


def _usual(loss: Array) -> Array:
    """Median (H,) of the candidates' losses (H, C) that are not zero; 0 where all are.

    Neither one that is perfect nor one that has run away says what is usual.
    """
    wrong = loss > 0
    result = np.zeros(len(loss))
    some = wrong.any(axis=1)
    result[some] = np.nanmedian(np.where(wrong, loss, np.nan)[some], axis=1)
    return result


def _doubted(optimum: Array, products: Array, verified: Array, size: Array) -> Array:
    """Weights (C,) between those of the best baseline and an optimum, as far as it is believed.

    The gain of the optimum has a mean and a standard error over the hindcasts; with z their ratio,
    ``1 - DOUBT / z^2`` of the way is gone (James and Stein 1961). ``verified`` is (O, H).
    """
    each = np.where(verified > 0, verified, 0.0)
    loss = np.diagonal(products, axis1=2, axis2=3)[..., :BASELINES]
    best = int(np.einsum("oh,ohc->c", each / size, loss).argmin())
    gain = (loss[..., best] - np.einsum("c,ohcd,d->oh", optimum, products, optimum)) / size
    # The leads of one hindcast are wrong together: each hindcast counts once.
    weight = each.sum(axis=1)
    gains = np.where(weight > 0, (each * gain).sum(axis=1) / np.maximum(weight, 1e-300), 0.0)
    weight = weight / max(float(weight.sum()), 1e-300)
    mean = float(weight @ gains)
    # E^2, the variance of a weighted mean of hindcasts that are taken as independent. Of a single
    # one it is not known, and nothing is believed.
    number = 1.0 / max(float(weight @ weight), 1e-300)
    way = 0.0
    if mean > 0 and number > 1.0 + 1e-9:
        error = float(weight**2 @ (gains - mean) ** 2) * number / (number - 1.0)
        way = max(0.0, 1.0 - DOUBT * error / mean**2)
    baseline = np.eye(len(optimum))[best]
    return np.asarray(baseline + way * (optimum - baseline))


def stride(origins: NDArray[np.int64]) -> float:
    """Usual number of slots between two hindcasts."""
    return max(1.0, float(np.median(np.diff(origins)))) if len(origins) > 1 else 1.0


def faded(
    origins: NDArray[np.int64],
    reference: int,
    leads: int,
    *,
    power: float = 1.0,
    half: float = MEMORY,
) -> Array:
    """Weight (O, H) of hindcasts in what is known at a slot; 0 where not verified by then.

    A hindcast from half the record that there is now counts ``0.5 ** power``, and every `half`
    newer ones halve its weight: what was fitted to little says little of what is fitted to much.
    """
    ahead = np.arange(1, leads + 1)
    age = np.maximum(reference - origins, 0) / stride(origins)
    weight = 0.5 ** (age / half) * ((origins + 1.0) / (reference + 1.0)) ** power
    # A lead counts from its valid time on: nothing later than the reference slot is known.
    return np.asarray(weight[:, None] * (origins[:, None] + ahead <= reference))
