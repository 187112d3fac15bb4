"""A ridge regression on the last values of the cell and of its neighbours, one for all cells.

The neighbours are the cells of its chunk, by their mean: in most cases that says more than the
cells next to it (docs/design/008), and it needs no geometry.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gnomon.tasks.forecasting.candidate import CellPast, CellRecord
from gnomon.tasks.forecasting.specification import Array, Specification

__all__ = ["AROUND", "OWN", "TERMS", "Ridge", "chunk_means"]

OWN, AROUND = 3, 2
"""Lags of the cell itself, and of the mean of its chunk."""
TERMS = OWN + AROUND + 1
"""Predictors: those, and the damped anomaly, which knows the cell's own damping."""
STRENGTH = 1e-3
"""Penalty relative to the predictors' mean square, per sample: little, as a sample has thousands
of pairs; it only decides between predictors that say the same."""


class Ridge:
    """One linear model per lead for all cells, of anomalies in units of each cell's scale."""

    per: Literal["cell"] = "cell"
    name = "ridge"
    cost_s = 3.0

    def lags(self, spec: Specification) -> int:
        """Return how many slots of the past it predicts from."""
        return OWN

    def fit(self, record: CellRecord, before: Array | None) -> Array:
        """Return the coefficients (H * 6,), lead after lead.

        Parameters
        ----------
        record : CellRecord
        before : float64, optional
            Not needed: a fit takes a moment.
        """
        scaled = record.anomalies / record.scale
        sizes = np.diff(record.starts)
        groups = np.repeat(np.arange(len(sizes)), sizes)
        around = np.stack([chunk_means(row, groups) for row in scaled])
        leads, first = record.spec.leads, OWN - 1
        result = np.zeros((leads, TERMS))
        powers = np.ones(len(record.damping))
        for lead in range(1, leads + 1):
            powers = powers * record.damping
            stop = len(scaled) - lead
            if stop <= first:
                break
            columns = [scaled[first - k : stop - k] for k in range(OWN)]
            columns += [around[first - k : stop - k] for k in range(AROUND)]
            columns.append(columns[0] * powers)
            predictors = np.stack(columns)
            target = scaled[first + lead :]
            usable = np.isfinite(predictors).all(axis=0) & np.isfinite(target)
            weight = (usable * record.weights[first + lead :, None])[usable]
            x, y = predictors[:, usable], target[usable]
            gram = (x * weight) @ x.T
            penalty = STRENGTH * np.trace(gram) / TERMS + 1e-9
            result[lead - 1] = np.linalg.solve(gram + penalty * np.eye(TERMS), (x * weight) @ y)
        return result.ravel()

    def predict(self, parameters: Array, past: CellPast) -> Array:
        """Return the predicted values (H, N)."""
        coefficients = parameters.reshape(-1, TERMS)[: len(past.season)]
        scaled = past.anomalies[:OWN] / past.scale
        around = np.stack([chunk_means(row, past.groups) for row in scaled[:AROUND]])
        linear = coefficients[:, :-1] @ np.concatenate([scaled, around])
        leads = np.arange(1.0, len(coefficients) + 1.0)[:, None]
        damped = coefficients[:, -1:] * scaled[0] * past.damping**leads
        return np.asarray(past.season + (linear + damped) * past.scale)


def chunk_means(row: Array, groups: NDArray[np.int64]) -> Array:
    """Return the mean (N,) of the known values (N,) of each cell's chunk; NaN without any."""
    has_value = np.isfinite(row)
    total = np.bincount(groups, np.where(has_value, row, 0.0))
    count = np.bincount(groups, has_value)
    with np.errstate(invalid="ignore"):
        return np.asarray((total / count)[groups])
