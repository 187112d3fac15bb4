"""Judge covariances by hiding intact cells and estimating them from the others.

What is hidden has the shape of the hole: its translated copies in the present field, and the hole
itself in past fields, a part of them at a time, of which the others may serve as knowledge.
"""

from dataclasses import dataclass, replace
from functools import partial
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from gnomon.tasks.healing.covariance import Covariance, View, embed, interpolate
from gnomon.tasks.healing.modes import PastModes
from gnomon.tasks.healing.observations import pick_observers
from gnomon.tasks.healing.regions import Cells, Grid, copy_hole

Floats = NDArray[np.float64]
_FEWEST_KNOWN, _FEWEST_COPIES = 10, 3
"""Intact cells, and hidden copies or past fields, below which there is no verdict: the jackknife
over two says little of how much an error varies."""
_FEWEST_SCORED = 200
"""Hidden cells that are aimed at, by more copies of a small hole: more make the choice surer, and
each copy costs a factorisation for each covariance."""
_MOST_SCORED = 150
"""Cells of a trial that are scored, evenly spread: neighbours are wrong together, so that more
would say little. With 300, stated errors were the same within 2 %."""
_MOST_TRIAL_OBSERVERS = 250
"""Observers while covariances are compared: time grows with their cube. The winner is scored again
with as many as the hole has. With 150, errors of smooth fields were 6 % larger, and 90 % intervals
covered 85 % instead of 87; with 400 they were no better."""
_LEAST_GAIN = 0.01
"""Share of the squared error below which the forecast stands: so little is not worth the risk that
intact cells do not stand for the hole."""
_LEAST_EXCESS = 1e-4
"""Share of the mean below which a trial's squared error counts as no smaller: logs are taken."""
_STRETCHES = (0.5, 1.0, 2.0, 4.0)
"""Factors on the measured lengths, which few fields tell only roughly."""
_NUGGETS = (0.002, 0.05, 0.3)
"""From fields that are smooth to those in which a third of the variance is of single cells. More
values of either cost a factorisation for each trial, and more choice fits chance."""
_RANKS = ((4, np.inf), (16, np.inf), (64, 6.0), (64, 3.0))
"""Modes, and how far they reach in lengths: the first few may tie distant places; of many, from a
short past, what ties distant places is chance (Houtekamer and Mitchell 2001)."""


@dataclass(frozen=True, slots=True)
class Fold:
    """A part of the past that the hole is tried on."""

    fields: Floats
    """Standardised, of the present's size, shape (k, n); NaN where unknown."""
    modes: PastModes
    """PastModes of the rest of the past."""


@dataclass(frozen=True, slots=True)
class Patch:
    """Neighbouring holes and their surroundings; cells are flat numbers of this patch."""

    anomaly: Floats
    """Departure / standard error, shape (n,); NaN where unknown."""
    scale: Floats
    """Standard error of the forecast, data units, shape (n,)."""
    holes: tuple[Cells, ...]
    """Cells to estimate, by hole; the first stands for them."""
    chunks: Cells
    """Number of the chunk that each cell of the first hole is in."""
    intact: Cells
    """Intact cells, ascending."""
    grid: Grid
    lengths: tuple[float, ...]
    """Correlation length of each axis, cells."""
    modes: PastModes
    """PastModes of all the past."""
    folds: tuple[Fold, ...]
    """The past in parts, to try the hole on each with what the others know."""


@dataclass(frozen=True, slots=True)
class Trial:
    """Cells to estimate from observers, in one or several fields."""

    wanted: Cells
    chunks: Cells
    """Number of the chunk of each cell wanted: what is stated is stated of a chunk."""
    observers: Cells
    fields: Floats
    """Standardised fields, shape (k, n); NaN where unknown."""
    modes: PastModes
    """PastModes of the past that an estimate may use."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What hiding intact regions said about one covariance."""

    covariance: Covariance
    weight: float
    inflation: float
    """Ratio of actual to predicted relative error."""
    location: float
    """Mean logarithm of a hidden chunk's RMSE over the expected one."""
    spread: float
    """Standard deviation of that logarithm for one more chunk."""
    ceiling: float
    """The largest standard error allowed, in standard errors of the forecast."""
    healed: float
    """Sum of squared errors of the healed estimate in hidden cells."""
    forecast: float
    """The same of the forecast alone."""
    count: int
    """Hidden cells scored."""


def judge(patch: Patch, observers: int, *, alike: bool = True) -> Verdict | None:
    """Return the covariance that heals copies of the hole best; None if too few can be hidden.

    Parameters
    ----------
    patch : Patch
        Holes and surroundings; the first hole is the one that is copied.
    observers : int
        Bound on the intact cells that an estimate uses.
    alike : bool
        Whether intact cells are forecast as well as the hole, so that they can stand for it.

    Notes
    -----
    A search in turn over lengths and smoothness, nugget, and modes, with few observers; the
    best is scored again with all of them.
    """
    most = int(np.clip(-(-_FEWEST_SCORED // len(patch.holes[0])), 8, 40))
    mask = np.zeros(patch.grid.shape, dtype=bool)
    mask.ravel()[patch.intact] = True
    hidden = copy_hole(patch.holes[0], patch.chunks, mask, patch.grid, most) if alike else []
    if (
        len(patch.intact) < _FEWEST_KNOWN
        or (len(hidden) if alike else _seen(patch)) < _FEWEST_COPIES
    ):
        return None
    trials = _plan(patch, hidden, min(observers, _MOST_TRIAL_OBSERVERS))
    return _score(patch, _plan(patch, hidden, observers), _search(patch, trials))


def _search(patch: Patch, trials: list[Trial]) -> Covariance:
    """Return the covariance that leaves the least error in the trials."""
    past = _past(patch)
    rank = max(model.rank for model in _vary_rank(past, Covariance()))
    views = [look(patch, trial, rank) for trial in trials]
    tried: dict[Covariance, float] = {}

    def error(model: Covariance) -> float:
        if model not in tried:
            rows = [
                row
                for trial, view in zip(trials, views, strict=True)
                for row in _compare(patch, trial, estimate(trial, view, model, stated=False))
            ]
            tried[model] = float(_left(np.array([row.sums for row in rows])).sum())
        return tried[model]

    best = Covariance()
    # In turn, not all combinations: each costs a factorisation for every trial.
    for models in (_vary_shape, _vary_nugget, partial(_vary_rank, past)):
        best = min(models(best), key=error)
    return best


def _seen(patch: Patch) -> int:
    """Return in how many past fields something of the hole is known."""
    parts = [fold.fields[:, patch.holes[0]] for fold in patch.folds]
    return sum(int(np.isfinite(part).any(axis=1).sum()) for part in parts)


def _vary_shape(start: Covariance) -> list[Covariance]:
    """Return the model with other lengths and smoothness."""
    return [
        replace(start, stretch=stretch, smooth=smooth)
        for stretch, smooth in product(_STRETCHES, (False, True))
    ]


def _vary_nugget(start: Covariance) -> list[Covariance]:
    """Return the model with other nuggets."""
    return [replace(start, nugget=nugget) for nugget in _NUGGETS]


def _vary_rank(past: int, start: Covariance) -> list[Covariance]:
    """Return the model without and with modes of the past, its local part then also shorter."""
    shorter = replace(start, stretch=start.stretch / 2.0)
    return [start] + [
        replace(model, rank=min(rank, past), reach=reach)
        for rank, reach in _RANKS
        for model in (start, shorter)
        if past
    ]


def _plan(patch: Patch, hidden: list[tuple[Cells, Cells]], observers: int) -> list[Trial]:
    """Return trials: each hidden region of the present, and the hole itself in past fields."""
    now = patch.anomaly[np.newaxis]
    trials = [
        (_exclude(patch.intact, cells), cells, chunks, now, patch.modes) for cells, chunks in hidden
    ]
    hole = patch.holes[0]
    trials += [(patch.intact, hole, patch.chunks, fold.fields, fold.modes) for fold in patch.folds]
    plans = []
    for seen, cells, chunks, fields, modes in trials:
        # Only where there is a truth: those taken must not all be among the others.
        scored = np.flatnonzero(np.isfinite(fields[:, cells]).any(axis=0))
        scored = scored[:: max(1, -(-len(scored) // _MOST_SCORED))]
        if len(scored):
            near = pick_observers(seen, cells, patch.grid, patch.lengths, observers)
            plans.append(Trial(cells[scored], chunks[scored], near, fields, modes))
    return plans


def _exclude(cells: Cells, taken: Cells) -> Cells:
    """Return the cells that are not taken, in the same order."""
    out = np.zeros(max(cells.max(), taken.max()) + 1, dtype=bool)
    out[taken] = True
    return cells[~out[cells]]


def _past(patch: Patch) -> int:
    """Return how many modes every trial has."""
    # The fewest: where a trial lacks a mode, another model would be judged.
    return min(len(modes.shares) for modes in (patch.modes, *(f.modes for f in patch.folds)))


def look(patch: Patch, trial: Trial, rank: int) -> View:
    """Return how a trial's observers see each other and the cells wanted, with so many modes."""
    observed, wanted = (
        embed(cells, patch.grid.shape, patch.grid.cyclic, patch.lengths)
        for cells in (trial.observers, trial.wanted)
    )
    return View(
        cdist(observed, observed),
        cdist(observed, wanted),
        trial.modes.at(trial.observers, rank),
        trial.modes.at(trial.wanted, rank),
    )


def estimate(
    trial: Trial, view: View, covariance: Covariance, *, stated: bool = True
) -> tuple[Floats, Floats]:
    """Return a trial's k estimates of n cells, (k, n), and their relative variance, (n,).

    Parameters
    ----------
    trial : Trial
        Observers, n cells wanted, and k standardised fields.
    view : View
        From `look`, with as many modes as the covariance has, or more.
    covariance : Covariance
        The model.
    stated : bool
        Whether the variance is asked for, which costs more than the rest; else it is NaN.
    """
    values, rank = np.nan_to_num(trial.fields[:, trial.observers]), covariance.rank
    seen, wanted = (f[:, :rank] * trial.modes.scale(rank) for f in (view.observed, view.wanted))
    used = replace(view, observed=seen, wanted=wanted)
    return interpolate(values, used, covariance, trial.modes.explain(rank), stated=stated)


def _score(patch: Patch, trials: list[Trial], covariance: Covariance) -> Verdict:
    """Return how a covariance does on trials whose truth is known, with the weight it earns."""
    rows = []
    for trial in trials:
        view = look(patch, trial, covariance.rank)  # one at a time: of all, it would be large
        rows += _compare(patch, trial, estimate(trial, view, covariance))
    sums = np.array([row.sums for row in rows])
    weight, _ = _weigh(sums)
    healed = _left(sums)
    # By trial, whatever its cells: those of one trial are wrong together.
    excess = np.array([row.excess(weight).mean() for row in rows])
    size = np.mean([np.mean(row.truth**2) for row in rows])
    location, spread = _spread(np.concatenate([row.by_chunk(weight) for row in rows]), excess)
    return Verdict(
        covariance=covariance,
        weight=weight if _earned(sums[:, 0], healed) else 0.0,
        # Not more for being measured on few trials: that was tried, and stated 5-10 % too much. The
        # copies alone, the past alone and their geometric mean were each worse on one record.
        inflation=float(np.sqrt(excess.mean())),
        location=location,
        spread=spread,
        # Above 1 where hidden cells show that the forecast states too little of itself.
        ceiling=float(max(1.0, np.sqrt(size))),
        healed=float(healed.sum()),
        forecast=float(sums[:, 0].sum()),
        count=sum(len(row.truth) for row in rows),
    )


def _spread(chunks: Floats, trials: Floats) -> tuple[float, float]:
    """Return mean and standard deviation of the log RMSE of chunks over the expected one.

    Parameters
    ----------
    chunks, trials
        Mean squared error over the predicted one, by hidden chunk and by trial.
    """
    expected = trials.mean()
    if not expected > 0.0:
        return 0.0, 0.0
    ratios = 0.5 * np.log(np.maximum(chunks / expected, _LEAST_EXCESS))
    # The chunks of one trial are wrong together: there are no more cases than trials.
    return float(ratios.mean()), float(np.std(ratios, ddof=1) * np.sqrt(1.0 + 1.0 / len(trials)))


def _earned(forecast: Floats, healed: Floats) -> bool:
    """Return whether healing gains more than 1 % and more than the gain's standard error."""
    gain = forecast - healed
    # The standard error of a sum, not of a mean.
    doubt = float(np.std(gain, ddof=1)) * np.sqrt(len(gain))
    return bool(gain.sum() > max(doubt, _LEAST_GAIN * forecast.sum()))


@dataclass(frozen=True, slots=True)
class _Row:
    """Hidden cells of known truth in one field, each array of shape (n,)."""

    truth: Floats
    estimate: Floats
    variance: Floats
    """Relative, as predicted."""
    scale: Floats
    chunks: Cells

    @property
    def sums(self) -> tuple[float, float, float]:
        """Sums of truth^2, truth x estimate and estimate^2, in data units."""
        # In data units, as that is the error to be made small: wild cells count for more.
        truth, estimate = self.truth * self.scale, self.estimate * self.scale
        return float(truth @ truth), float(truth @ estimate), float(estimate @ estimate)

    def excess(self, weight: float) -> Floats:
        """Return squared errors over the predicted ones, with a share of the estimate used."""
        wrong = self.truth - weight * self.estimate
        return np.asarray(wrong**2 / soften(self.variance, weight))

    def by_chunk(self, weight: float) -> Floats:
        """Return the means of that by chunk."""
        _, number = np.unique(self.chunks, return_inverse=True)
        return np.asarray(np.bincount(number, self.excess(weight)) / np.bincount(number))


def _compare(patch: Patch, trial: Trial, estimated: tuple[Floats, Floats]) -> list[_Row]:
    """Return truth and estimate of each field's cells of known truth."""
    means, variance = estimated
    scale = patch.scale[trial.wanted]
    rows = []
    for truth, mean in zip(trial.fields[:, trial.wanted], means, strict=True):
        seen = np.isfinite(truth)
        if seen.any():
            rows.append(
                _Row(truth[seen], mean[seen], variance[seen], scale[seen], trial.chunks[seen])
            )
    return rows


def _left(sums: Floats) -> Floats:
    """Return the squared error of each trial by the weight of the others, from `sums` of each."""
    # By its own weight every model would look like a gain.
    _, without = _weigh(sums)
    return np.asarray(sums[:, 0] - 2.0 * without * sums[:, 1] + without**2 * sums[:, 2])


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
    # Jackknife variance of weights that are not clipped: bounds would make them look surer.
    variance = float(np.sum((without - without.mean()) ** 2)) * (len(sums) - 1) / len(sums)
    shrunk = weight * max(0.0, 1.0 - variance / weight**2) if weight > 0.0 else 0.0
    return shrunk, np.clip(without, 0.0, 1.0)


def soften(variance: Floats, weight: float) -> Floats:
    """Return the relative error variance when only a share (0..1) of the estimate is used."""
    # The error is (z - z^) + (1 - w) z^. The two are not correlated, and var z^ is 1 - v.
    return np.asarray(variance + (1.0 - weight) ** 2 * np.maximum(1.0 - variance, 0.0))
