"""Covariance of standardised departures in space, between leads and between variables.

It has two parts, each of unit variance.  One is the sample covariance of past departures, which
knows what belongs together however far apart, and is noisy where there are few.  The other is a
model: stationary in space (Matern), times one matrix of correlations between leads and variables.
How much of each is used follows from how noisy the first is.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gnomon.tasks.healing.covariance import correlate, embed
from gnomon.tasks.simulating.departing import PastFields

__all__ = ["Box", "Covariance", "Joint", "correlate_leads", "fit", "random_walk", "root"]

Floats = NDArray[np.float64]

LAGS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
"""Cells at which variograms are compared, up to half of a box."""
LEAST_NUMBER = 10
"""Pairs of cells at a distance, below which nothing is said of it."""
POINTS = 240
"""Cells and leads whose correlations say how noisy the sample covariance is: all pairs of them."""
LEAST_FIELDS = 8
"""Past fields below which their sample covariance is not used at all."""
MULTIPLES = (0.15, 0.3, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 10.0, 40.0)
"""Correlation lengths of the parts of a model, over the usual one. The sum of few of them is any
variogram that was seen: a single Matern missed those of OSTIA by 40 %."""
MOST_ROOTS = 6.0
"""Root mean squares beyond which a departure counts as if it were so large: of a cell that hardly
ever changed, one change would count more than all else."""
ALL_TOGETHER = 100.0
"""Weight of the condition that all shares together are 1."""


@dataclass(frozen=True, slots=True)
class Box:
    """A box of cells that a covariance is learnt from."""

    shape: tuple[int, ...]
    cyclic: tuple[bool, ...]
    """Whether each axis wraps around."""
    past: PastFields
    """Of its cells, in C order."""


@dataclass(frozen=True, slots=True)
class Covariance:
    """Of the standardised departures of one variable."""

    modelled: float
    """Share of the variance that has the covariance of the model, in [0, 1]."""
    lengths: Floats
    """(parts, dims) of the model, a sum of Matern 3/2: correlation lengths in cells."""
    weights: Floats
    """(H, parts) shares of the parts, sum 1."""
    nuggets: Floats
    """(H,) share of the model's variance that no other cell has."""


@dataclass(frozen=True, slots=True)
class Joint:
    """Correlations between leads and variables, of variables on one grid."""

    names: tuple[str, ...]
    correlations: Floats
    """(V * H, V * H): of each variable its leads, one after another."""

    @property
    def leads(self) -> int:
        """H."""
        return len(self.correlations) // len(self.names)

    def rows(self, name: str) -> slice:
        """Return the rows of a variable."""
        place = self.names.index(name) * self.leads
        return slice(place, place + self.leads)


def root(correlations: Floats) -> Floats:
    """Return the symmetric square root of correlations, its rows of unit length.

    Unlike other roots it has no sign of its own to choose.
    """
    values, vectors = np.linalg.eigh(correlations)
    square_root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    return np.asarray(square_root / np.sqrt((square_root**2).sum(axis=1, keepdims=True)))


def random_walk(leads: int) -> Floats:
    """Return the correlations (H, H) between the departures of a random walk at leads 1..H."""
    lead = np.arange(1.0, leads + 1)
    return np.asarray(np.sqrt(np.minimum.outer(lead, lead) / np.maximum.outer(lead, lead)))


def unit(values: NDArray[np.float32]) -> Floats:
    """Return departures (K, H, N) with a mean square of 1 at each point, 0 where unknown."""
    filled = np.nan_to_num(values.astype(np.float64))
    count = np.isfinite(values).sum(axis=0)
    power = (filled**2).sum(axis=0)
    safe = np.where(power > 0.0, power, 1.0)
    return np.asarray(np.where(power > 0.0, filled * np.sqrt(count / safe), 0.0))


def level(past: PastFields) -> Floats:
    """Return departures (K, H, N) with a mean square of 1 at each lead, 0 where unknown.

    Over all cells together, each by the square of its size: of few fields the mean square of a
    cell is mostly chance, and what is divided by it is rougher than departures are. On OSTIA
    variograms were half as large again.
    """
    known = np.isfinite(past.values)
    filled = np.where(known, past.values, 0.0).astype(np.float64)
    known &= filled.any(axis=(0, 1))  # what never changed counts for no cell
    size = known * _sizes(past) ** 2
    number = size.sum(axis=(0, 2), keepdims=True)
    number = np.where(number > 0.0, number, 1.0)
    power = np.sqrt((size * filled**2).sum(axis=(0, 2), keepdims=True) / number)
    limited = np.clip(filled, -MOST_ROOTS * power, MOST_ROOTS * power)
    power = np.sqrt((size * limited**2).sum(axis=(0, 2), keepdims=True) / number)
    return np.asarray(limited / np.where(power > 0.0, power, 1.0))


def _sizes(past: PastFields) -> Floats:
    """Return the sizes of cells (H, N)."""
    if past.sizes is None:
        return np.ones(past.values.shape[1:])
    return past.sizes.astype(np.float64)


def correlate_leads(names: Sequence[str], boxes: Sequence[Sequence[Box]], leads: int) -> Joint:
    """Return the correlations between leads and variables.

    Parameters
    ----------
    names
        Variables on one grid.
    boxes
        Of each variable, in the same places; none of a variable without departures.
    leads
        H.

    Notes
    -----
    All cells count alike. Between two variables, and between the leads of one, the correlations
    are shrunk by as much as they are noisy: to none, or to those of a random walk.
    """
    mixed = np.zeros((len(names), leads, len(names), leads))
    for a, b in np.ndindex(len(names), len(names)):
        prior = random_walk(leads) if a == b else np.zeros((leads, leads))
        if a <= b:
            mixed[a, :, b] = _correlate(boxes[a], boxes[b], prior)
            mixed[b, :, a] = mixed[a, :, b].T
    # Blocks of different origins need not fit together: what cannot be is taken out.
    values, vectors = np.linalg.eigh(mixed.reshape(2 * (len(names) * leads,)))
    positive = (vectors * np.maximum(values, 1e-9)) @ vectors.T
    scale = np.sqrt(np.diagonal(positive))
    return Joint(tuple(names), positive / np.outer(scale, scale))


def _correlate(left: Sequence[Box], right: Sequence[Box], prior: Floats) -> Floats:
    """Return the correlations (H, H) of leads of two variables, shrunk to others.

    Notes
    -----
    The weight of `prior` is the sum of the sampling variances over that of the squared differences
    between sample and prior (Schafer and Strimmer 2005, equation 8). The variances are those of a
    jackknife over the origins (Tukey 1958), which knows how much the cells of one field tell: what
    is the same in each of them is believed, however few they are. It takes the origins as
    independent; where forecasts overlap, fewer are.
    """
    if not left or not right:
        return prior
    slots, i, j = np.intersect1d(left[0].past.slots, right[0].past.slots, return_indices=True)
    count, leads = len(slots), len(prior)
    if count < 2:
        return prior
    products, powers = np.zeros((count, leads, leads)), np.zeros((2, count, leads))
    for one, other in zip(left, right, strict=True):
        first, second = unit(one.past.values[i]), unit(other.past.values[j])
        both = first.any(axis=(0, 1)) & second.any(axis=(0, 1))
        first, second = first[..., both], second[..., both]
        products += np.einsum("khn,kln->khl", first, second, optimize=True)
        powers += (first**2).sum(axis=-1), (second**2).sum(axis=-1)

    def ratio(product: Floats, power: Floats) -> Floats:
        both = np.sqrt(power[0][..., :, None] * power[1][..., None, :])
        return np.asarray(np.divide(product, both, out=np.zeros(product.shape), where=both > 0.0))

    total, sums = products.sum(axis=0), powers.sum(axis=1)
    sample = ratio(total, sums)
    without = ratio(total - products, sums[:, None] - powers)
    variance = (count - 1) * without.var(axis=0)
    number = left[0].past.at(i).independent()
    variance *= count / np.minimum.outer(number, number)
    noise, apart = float(variance.sum()), float(((sample - prior) ** 2).sum())
    share = min(1.0, noise / apart) if apart > 0.0 else 1.0
    return np.asarray((1.0 - share) * sample + share * prior)


def fit(boxes: Sequence[Box], joint: Joint, name: str) -> Covariance:
    """Return the covariance of a variable, from boxes of its past departures.

    Parameters
    ----------
    boxes
        At least one; where none has a departure, cells are independent.
    joint
        With the correlations of its leads.

    Notes
    -----
    The model has the variogram of the past, lead by lead: the sum of squared relative differences
    at all distances along all axes is the least. Departures of longer leads are smoother.
    """
    dims, leads = len(boxes[0].shape), joint.leads
    nothing = Covariance(1.0, np.ones((1, dims)), np.ones((leads, 1)), np.ones(leads))
    boxes = [box for box in boxes if np.nan_to_num(box.past.values).any()]
    if not boxes or not dims:
        return nothing
    fields = [unit(box.past.values) for box in boxes]
    even = [level(box.past) for box in boxes]
    curves = np.stack([_variograms(boxes, even, axis) for axis in range(dims)])
    lengths = _scales(curves)
    shares = np.stack([_shares(curves[:, lead], lengths) for lead in range(leads)])
    used = shares[:, 1:].any(axis=0)
    if not used.any():
        return nothing
    together = shares[:, 1:].sum(axis=1)
    weights = np.where(together[:, None] > 0, shares[:, 1:], 1.0)[:, used]
    weights /= weights.sum(axis=1, keepdims=True)
    nuggets = np.where(together > 0, shares[:, 0], 1.0)
    model = Covariance(1.0, lengths[used], weights, nuggets)
    correlations = joint.correlations[joint.rows(name), joint.rows(name)]
    return replace(model, modelled=_noise(boxes, fields, correlations, model))


def _variograms(boxes: Sequence[Box], fields: Sequence[Floats], axis: int) -> Floats:
    """Return half the mean squared difference (H, distances) along an axis; NaN where unknown.

    Pairs of cells count by the product of their sizes: with these weights the members have the
    variogram of the past in the variable's units, where cells that hardly vary tell little.
    """
    leads = fields[0].shape[1]
    squares, total = np.zeros((leads, len(LAGS))), np.zeros((leads, len(LAGS)))
    number = np.zeros(len(LAGS))
    for box, field in zip(boxes, fields, strict=True):
        maps = np.moveaxis(field.reshape(*field.shape[:2], *box.shape), axis + 2, -1)
        sizes = np.moveaxis(_sizes(box.past).reshape(leads, *box.shape), axis + 1, -1)
        known = maps.any(axis=(0, 1))
        for place, lag in enumerate(LAGS):
            if 2 * lag > box.shape[axis]:
                break
            both = known[..., lag:] & known[..., :-lag]
            difference = (maps[..., lag:] - maps[..., :-lag])[..., both]
            pairs = (sizes[..., lag:] * sizes[..., :-lag])[..., both]
            squares[:, place] += ((difference**2).mean(axis=0) * pairs).sum(axis=-1) / 2
            total[:, place] += pairs.sum(axis=-1)
            number[place] += both.sum()
    enough = (number >= LEAST_NUMBER) & (total > 0.0)
    return np.where(enough, squares / np.where(total > 0.0, total, 1.0), np.nan)


def _scales(curves: Floats) -> Floats:
    """Return the correlation lengths (parts, dims) of which a covariance may be made.

    They are multiples of the distance at which the mean variogram of an axis reaches 1 - 1/e, and
    each axis also half as long, or twice.
    """
    base = []
    for curve in curves:
        known = np.isfinite(curve).any(axis=0)
        mean = np.maximum.accumulate(np.append(0.0, np.nanmean(curve[:, known], axis=0)))
        distance = np.append(0.0, np.array(LAGS, float)[known])
        at = float(np.interp(1.0 - np.exp(-1.0), mean, distance)) if len(mean) > 1 else 1.0
        base.append(max(at, 1.0))
    axes = np.eye(len(curves))
    forms = np.exp2(np.concatenate([np.zeros((1, len(curves))), axes, -axes]))
    middle = np.exp(np.mean(np.log(base)))
    # Near by, fields are often as long one way as the other, whatever they are far off.
    usual = middle * (np.array(base) / middle) ** np.array([[1.0], [0.5], [0.0]])
    lengths = usual[:, None] * forms
    every = lengths[None] * np.array(MULTIPLES)[:, None, None, None]
    return np.asarray(every.reshape(-1, len(curves)))


def _shares(curves: Floats, lengths: Floats) -> Floats:
    """Return the nugget and the shares of the parts (1 + parts,), none below 0, sum 1.

    `curves` are the variograms (dims, distances) of one lead. Relative differences count.
    """
    from scipy.optimize import nnls

    rows, wanted = [], []
    for axis, curve in enumerate(curves):
        known = np.isfinite(curve) & (curve > 0)
        near = correlate(np.array(LAGS)[known, None] / lengths[None, :, axis], smooth=True)
        part = np.concatenate([np.ones((known.sum(), 1)), 1.0 - near], axis=1)
        rows.append(part / curve[known, None])
        wanted.append(np.ones(known.sum()))
    if not sum(map(len, wanted)):
        return np.append(1.0, np.zeros(len(lengths)))
    one = np.full((1, 1 + len(lengths)), ALL_TOGETHER)
    shares, _ = nnls(np.concatenate([*rows, one]), np.append(np.concatenate(wanted), ALL_TOGETHER))
    return np.asarray(shares / shares.sum())


def _noise(
    boxes: Sequence[Box], fields: Sequence[Floats], leads: Floats, model: Covariance
) -> float:
    """Return the share of the model that makes the expected error of all correlations least.

    That is the sum of the sampling variances over that of the squared differences between sample
    and model (Schafer and Strimmer 2005, equation 8). The sampling variance is seen from how the
    earlier half of the past differs from the later one: departures in a row are not independent.
    """
    count = len(boxes[0].past.slots)
    if count < LEAST_FIELDS:
        return 1.0
    weights = boxes[0].past.weights
    passed = np.cumsum(np.ones(count) if weights is None else weights.mean(axis=1))
    halves = passed <= passed[-1] / 2
    chosen = np.unique(np.linspace(0, len(leads) - 1, 6).astype(int))
    above = below = 0.0
    for box, field in zip(boxes, fields, strict=True):
        known = np.flatnonzero(field.any(axis=(0, 1)))
        each = max(2, POINTS // (len(chosen) * len(boxes)))
        cells = known[np.unique(np.linspace(0, len(known) - 1, each).astype(int))]
        points = field[:, chosen][:, :, cells].reshape(count, -1)
        sample, first, second = map(_alike, (points, points[halves], points[~halves]))
        near = np.stack([_near(box, cells, model, int(lead)) for lead in chosen])
        # Between two leads the mean, as it is of waves that both have.
        both = np.sqrt(near[:, None] * near[None]) * leads[np.ix_(chosen, chosen)][..., None, None]
        target = both.transpose(0, 2, 1, 3).reshape(sample.shape)
        other = ~np.eye(len(sample), dtype=bool)
        above += float(((first - second)[other] ** 2).sum()) / 4
        below += float(((sample - target)[other] ** 2).sum())
    return float(np.clip(above / below, 0.0, 1.0)) if below > 0.0 else 1.0


def _alike(points: Floats) -> Floats:
    """Return the correlations (N, N) of departures (K, N) about zero."""
    power = np.sqrt((points**2).sum(axis=0))
    scaled = points / np.where(power > 0.0, power, 1.0)
    return np.asarray(scaled.T @ scaled)


def _near(box: Box, cells: NDArray[np.intp], model: Covariance, lead: int) -> Floats:
    """Return the modelled correlations (n, n) of cells at one lead, counted from 0."""
    near = np.zeros((len(cells), len(cells)))
    for lengths, weight in zip(model.lengths, model.weights[lead], strict=True):
        if weight > 0:
            place = embed(cells, box.shape, box.cyclic, tuple(lengths))
            distance = np.sqrt(((place[:, None] - place[None]) ** 2).sum(axis=-1))
            near += weight * correlate(distance, smooth=True)
    near *= 1.0 - model.nuggets[lead]
    near[np.diag_indices_from(near)] = 1.0
    return np.asarray(near)
