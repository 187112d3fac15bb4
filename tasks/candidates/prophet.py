"""Prophet on the leading EOF modes: a trend that bends, and a season that Fourier terms draw.

Needs the extra ``gnomon[prophet]``.
"""

import logging
import warnings
from typing import Any, Literal

import numpy as np
import pandas as pd

from gnomon.tasks.forecasting.candidate import ModeRecord
from gnomon.tasks.forecasting.modes import Independent
from gnomon.tasks.forecasting.specification import Array

__all__ = ["Prophet"]

MODES = 3
"""Modes that have a model of their own, as it takes a tenth of a second for each."""
LONGEST = 200
"""Captures, the newest, that a model is fitted to."""
FEWEST = 20
"""Captures below which no model is fitted."""
TERMS = 3
"""Fourier pairs of each period."""
FIRST_DAY = pd.Timestamp("2000-01-01")
"""Time of the first slot, as Prophet wants dates; any would do."""


class Prophet:
    """Trend and seasons of each of the leading modes (Taylor and Letham 2018).

    Nothing in it starts from the last value, so there is nothing that could be kept of a fit: it is
    fitted when it predicts.
    """

    per: Literal["mode"] = "mode"
    name = "prophet"
    cost_s = 10.0

    def fit(self, record: ModeRecord, before: Array | None) -> Array:
        """Return nothing."""
        return np.empty(0)

    def predict(self, parameters: Array, record: ModeRecord, leads: int) -> Array:
        """Return the predicted amplitudes (H, M)."""
        result = Independent().predict(np.empty(0), record, leads)
        series = record.amplitudes[-LONGEST:].T[:MODES]
        captured = record.weights[-LONGEST:] > 0.0
        if captured.sum() < FEWEST:
            return result
        slots = np.arange(series.shape[1] + leads)
        days = FIRST_DAY + pd.to_timedelta(slots * record.spec.interval_s, unit="s")
        past = days[:-leads][captured]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its own use of pandas
            for k, amplitudes in enumerate(series):
                model = _model(record)
                model.fit(pd.DataFrame({"ds": past, "y": amplitudes[captured]}), seed=0)
                result[:, k] = model.predict(pd.DataFrame({"ds": days[-leads:]}))["yhat"]
        return result


def _model(record: ModeRecord) -> Any:
    logging.getLogger("prophet.plot").setLevel(logging.CRITICAL)  # it misses a library for plots
    from prophet import Prophet as Model

    logging.getLogger("cmdstanpy").setLevel(logging.CRITICAL)  # which sets it when it is imported
    spec = record.spec
    model = Model(
        daily_seasonality=False,
        weekly_seasonality=False,
        yearly_seasonality=False,
        uncertainty_samples=0,
    )
    for period_s in spec.periods_s:
        most = round(period_s / spec.interval_s) // 2
        if most >= 1:
            days = period_s / 86400.0
            model.add_seasonality(f"{days:g} d", days, fourier_order=min(TERMS, most))
    return model
