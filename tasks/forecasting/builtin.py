"""The candidates that are always there: each a few lines, as they share what every state keeps.

They are candidates like any other.  Only their order is fixed, as the blend knows the first three
as the baselines that it has to beat.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from gnomon.tasks.forecasting import kernels, modes
from gnomon.tasks.forecasting.candidate import Candidate, CellPast, CellRecord
from gnomon.tasks.forecasting.specification import Array, Specification

__all__ = ["BUILT_IN", "powers"]


class _BuiltIn:
    """A model of the cells that needs nothing beyond what every state keeps."""

    per: Literal["cell"] = "cell"
    name = ""
    cost_s = 0.0

    def lags(self, spec: Specification) -> int:
        """Return 0: what every state keeps is enough."""
        return 0

    def fit(self, record: CellRecord, before: Array | None) -> Array:
        """Return nothing."""
        return np.empty(0)


class Persistence(_BuiltIn):
    """The last known value."""

    name = "persistence"

    def predict(self, parameters: Array, past: CellPast) -> Array:
        """Return the predicted values (H, N)."""
        return np.broadcast_to(past.last, past.season.shape)


class Climatology(_BuiltIn):
    """What is usual at that time of the day and the year."""

    name = "climatology"

    def predict(self, parameters: Array, past: CellPast) -> Array:
        """Return the predicted values (H, N)."""
        return past.season


class DampedAnomaly(_BuiltIn):
    """The climatology, with an anomaly that fades."""

    name = "damped_anomaly"

    def predict(self, parameters: Array, past: CellPast) -> Array:
        """Return the predicted values (H, N)."""
        result = powers(past.damping, len(past.season))
        result *= past.anomalies[0]
        result += past.season
        return result


class LocalLevel(_BuiltIn):
    """The climatology, about the mean of the last captures, with the drift of the process."""

    name = "local_level"

    def predict(self, parameters: Array, past: CellPast) -> Array:
        """Return the predicted values (H, N)."""
        result = past.season + past.level
        if past.drift.any():
            result += np.arange(1.0, len(result) + 1.0)[:, None] * past.drift
        return np.asarray(result)


class Arima(_BuiltIn):
    """The cell's own ARIMA process about its climatology."""

    name = "arima"

    def predict(self, parameters: Array, past: CellPast) -> Array:
        """Return the predicted values (H, N)."""
        result = np.empty(past.season.shape)
        kernels.follow(
            past.season,
            past.anomalies,
            past.autoregressive,
            past.moving,
            past.drift,
            past.shocks,
            past.spec.order[1],
            result,
        )
        return result


BUILT_IN: tuple[Candidate, ...] = (
    Persistence(),
    Climatology(),
    DampedAnomaly(),
    LocalLevel(),
    Arima(),
    modes.Independent(),
    modes.LinearInverse(),
)
"""In the order of `candidate.CANDIDATES`."""


def powers(base: Array, leads: int) -> Array:
    """First to last power (H, N) of the base (N,)."""
    result = np.empty((leads, len(base)))
    result[:1] = base
    for lead in range(1, leads):  # three times as fast as `accumulate`
        np.multiply(result[lead - 1], base, out=result[lead])
    return result
