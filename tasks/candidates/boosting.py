"""Gradient boosted trees on lags, the last season and the time of the year, one for all cells.

They learn what the ridge regression misses: trees alone would not follow a trend beyond what they
have seen.  scikit-learn grows them; what is stored and evaluated are their numbers.
"""

from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gnomon.storage.arrays.kernels import compiled
from gnomon.tasks.candidates.ridge import AROUND, OWN, TERMS, Ridge, chunk_means
from gnomon.tasks.forecasting.candidate import CellPast, CellRecord
from gnomon.tasks.forecasting.kernels import Floats
from gnomon.tasks.forecasting.specification import Array, Specification

__all__ = ["Boosting"]

LONGEST_SEASON = 24
"""Slots of the longest period whose last cycle is looked back to: each is kept per cell."""
PERIODS = 2
"""Periods whose phase is a predictor, at most."""
TREES, DEPTH = 80, 4
"""More of them, or deeper ones, fit the noise of a record of a few hundred captures."""
RATE = 0.08
"""Weight of each tree."""
SHARE, LEAST_LEAF = 0.3, 40
"""Share of the pairs that each tree sees, and pairs in a leaf, at least."""
PAIRS = 20_000
"""Pairs of past and future that are learnt from, drawn from the window: a second's worth. With half
of them the trees caught less of what is not linear."""
GROWTH = 1.4
"""Growth of the record that another fit pays for: a refit makes forty hindcasts."""
FEWEST = 40
"""Captures below which nothing is learnt: of thirty months of sea surface temperature the trees
predicted worse than the cells' own ARIMA, and lost their weight for good."""
NODES, LEAVES = 2**DEPTH - 1, 2**DEPTH


class Trees(NamedTuple):
    """Complete trees: the children of node k are 2 k + 1 and 2 k + 2."""

    features: NDArray[np.int64]
    """(B, 15) column that decides at each node."""
    thresholds: Floats
    """(B, 15) up to which it goes left."""
    values: Floats
    """(B, 16) of the leaves."""


class Boosting:
    """A ridge regression, and what it misses, in units of each cell's scale, as trees tell it."""

    per: Literal["cell"] = "cell"
    name = "boosting"
    cost_s = 8.0

    def lags(self, spec: Specification) -> int:
        """Return how many slots of the past it predicts from: a season, if that is short."""
        return max(OWN, _season(spec))

    def fit(self, record: CellRecord, before: Array | None) -> Array:
        """Return the number of captures that were learnt from, the regression, and the trees.

        Parameters
        ----------
        record : CellRecord
        before : float64, optional
            An earlier fit, which is given back until the record has grown by two fifths.
        """
        slots = len(record.anomalies)
        if before is not None and slots < max(GROWTH * before[0], FEWEST):
            return before
        linear = Ridge().fit(record, None)
        features, target, weight = _pairs(record, linear)
        if slots < FEWEST or len(target) < LEAST_LEAF:
            return np.array([float(slots)])
        from sklearn.ensemble import GradientBoostingRegressor

        model = GradientBoostingRegressor(
            n_estimators=TREES,
            max_depth=DEPTH,
            learning_rate=RATE,
            subsample=SHARE,
            min_samples_leaf=LEAST_LEAF,
            init="zero",
            random_state=0,
        )
        model.fit(features, target, sample_weight=weight)
        trees = [_complete(tree.tree_) for tree in model.estimators_[:, 0]]
        return np.concatenate([[float(slots)], linear, *trees])

    def predict(self, parameters: Array, past: CellPast) -> Array:
        """Return the predicted values (H, N); NaN before there were enough captures."""
        leads, cells = past.season.shape
        if len(parameters) == 1:
            return np.full((leads, cells), np.nan)
        split = 1 + past.spec.leads * TERMS
        linear = Ridge().predict(parameters[1:split], past)
        scaled = past.anomalies / past.scale
        around = chunk_means(scaled[0], past.groups)
        season = _season(past.spec)
        periods = min(len(past.spec.periods_s), PERIODS)
        trees = _trees(parameters[split:], OWN + 5 + 2 * periods)
        result = np.zeros((leads, cells))
        for lead in range(1, leads + 1):
            damped = scaled[0] * past.damping**lead
            last = season - 1 - (lead - 1) % season if season else 0
            columns = [*scaled[:OWN], around, past.damping, damped, scaled[last]]
            phase = _phases(past.spec, past.times_s[lead - 1 : lead])[0]
            fixed = [np.full(cells, value) for value in (float(lead), *phase)]
            _add_trees(np.stack([*columns, *fixed]), *trees, result[lead - 1])
        return np.asarray(linear + result * past.scale)


def _season(spec: Specification) -> int:
    """Slots of the shortest period that is looked back to; 0 for none."""
    slots = [round(period / spec.interval_s) for period in spec.periods_s]
    return min((s for s in slots if 2 <= s <= LONGEST_SEASON), default=0)


def _phases(spec: Specification, times_s: Array) -> Array:
    """Sine and cosine (T, 2 P) of the phase of each period."""
    turns = [2.0 * np.pi * (times_s - spec.origin_s) / p for p in spec.periods_s[:PERIODS]]
    columns = [wave(turn) for turn in turns for wave in (np.sin, np.cos)]
    return np.stack(columns, axis=1) if columns else np.empty((len(times_s), 0))


def _pairs(record: CellRecord, linear: Array) -> tuple[Array, Array, Array]:
    """Predictors (n, F), what the regression missed (n,), and weights (n,) of drawn pairs."""
    spec, season = record.spec, _season(record.spec)
    slots, cells = record.anomalies.shape
    first = max(OWN, season) - 1
    if slots - first < 2:
        return np.empty((0, 1)), np.empty(0), np.empty(0)
    draw = np.random.default_rng(0)
    origin = draw.integers(first, slots - 1, 2 * PAIRS)
    lead = draw.integers(1, spec.leads + 1, 2 * PAIRS)
    cell = draw.integers(0, cells, 2 * PAIRS)
    inside = origin + lead < slots
    origin, lead, cell = origin[inside], lead[inside], cell[inside]
    scaled = record.anomalies / record.scale
    sizes = np.diff(record.starts)
    groups = np.repeat(np.arange(len(sizes)), sizes)
    around = np.stack([chunk_means(row, groups) for row in scaled])
    last = season - 1 - (lead - 1) % season if season else np.zeros_like(lead)
    damping = record.damping[cell]
    damped = scaled[origin, cell] * damping**lead
    lags = [scaled[origin - k, cell] for k in range(OWN)]
    means = [around[origin - k, cell] for k in range(AROUND)]
    coefficients = linear.reshape(-1, TERMS)[lead - 1].T
    explained = (np.stack([*lags, *means, damped]) * coefficients).sum(axis=0)
    columns = [*lags, means[0], damping, damped, scaled[origin - last, cell]]
    columns += [lead.astype(np.float64), *_phases(spec, record.times_s)[origin + lead].T]
    features = np.stack(columns, axis=1)
    target = scaled[origin + lead, cell] - explained
    usable = np.flatnonzero(np.isfinite(features).all(axis=1) & np.isfinite(target))[:PAIRS]
    return features[usable], target[usable], record.weights[(origin + lead)[usable]]


def _complete(tree: Any) -> Array:
    """Nodes and leaves (46,) of one tree of scikit-learn, each branch drawn out to full depth."""
    left, right = tree.children_left, tree.children_right
    feature, threshold, value = tree.feature, tree.threshold, tree.value[:, 0, 0]
    features, thresholds, values = np.zeros(NODES), np.zeros(NODES), np.zeros(LEAVES)
    reached = {0: 0}
    for node in range(NODES):
        at = reached[node]
        is_leaf = left[at] < 0
        if not is_leaf:
            features[node], thresholds[node] = feature[at], threshold[at]
        reached[2 * node + 1] = at if is_leaf else int(left[at])
        reached[2 * node + 2] = at if is_leaf else int(right[at])
    for leaf in range(LEAVES):
        values[leaf] = RATE * value[reached[NODES + leaf]]
    return np.concatenate([features, thresholds, values])


def _trees(packed: Array, columns: int) -> Trees:
    """Trees from the numbers that a fit returned; ValueError if these are none."""
    each = packed.reshape(-1, NODES + NODES + LEAVES)
    features = np.ascontiguousarray(each[:, :NODES]).astype(np.int64)
    if features.size and not 0 <= features.min() <= features.max() < columns:
        raise ValueError(f"a tree decides on column {features.max()} of {columns}")
    return Trees(
        features,
        np.ascontiguousarray(each[:, NODES : 2 * NODES]),
        np.ascontiguousarray(each[:, 2 * NODES :]),
    )


@compiled
def _add_trees(
    columns: Floats, features: NDArray[np.int64], thresholds: Floats, values: Floats, result: Floats
) -> None:
    """Add what trees say of columns (F, n) to the result (n,)."""
    nodes = features.shape[1]
    for tree in range(len(values)):
        for cell in range(columns.shape[1]):
            node = 0
            while node < nodes:
                # As scikit-learn compares: in single precision.
                value = np.float32(columns[features[tree, node], cell])
                node = 2 * node + (1 if value <= thresholds[tree, node] else 2)
            result[cell] += values[tree, node - nodes]
