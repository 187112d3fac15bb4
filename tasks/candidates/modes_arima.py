"""ARIMA models of the leading EOF modes, as pmdarima finds and fits them."""

import warnings
from typing import Any, Literal

import numpy as np

from gnomon.tasks.forecasting.candidate import ModeRecord
from gnomon.tasks.forecasting.modes import Independent
from gnomon.tasks.forecasting.specification import Array

__all__ = ["ModesArima"]

MODES = 4
"""Modes that have a model of their own; a search takes a second, and the others matter little.
What is beyond them goes its way as in the built-in candidate of independent modes."""
LONGEST = 200
"""Captures, the newest, that a model is fitted to: the time of a fit grows with them."""
GREATEST = 3
"""Greatest p and q; with more, fits fail to converge more often than they gain."""
GROWTH = 1.1
"""Growth of the record after which the coefficients are found anew."""
SEARCH_GROWTH = 2.0
"""Growth after which the orders are searched for anew: of twenty captures, most look white."""
HEAD = 4
"""Numbers before the coefficients of a mode: p, d, q and whether there is a constant."""
FEWEST = 20
"""Captures below which no model is fitted."""


class ModesArima:
    """The full model of `pmdarima.auto_arima`, on each of the leading modes."""

    per: Literal["mode"] = "mode"
    name = "modes_arima"
    cost_s = 10.0

    def fit(self, record: ModeRecord, before: Array | None) -> Array:
        """Return how many captures were fitted, and searched; order and coefficients of each mode.

        Parameters
        ----------
        record : ModeRecord
        before : float64, optional
            Of a shorter record: until it has doubled, its orders are kept, and the coefficients
            found anew. To search for the orders takes ten times as long.
        """
        slots = len(record.amplitudes)
        series = _captured(record)
        if np.isfinite(series).sum(axis=1).min(initial=LONGEST) < FEWEST:
            return np.zeros(2)
        models: list[Array] = []
        searched = float(slots)
        if before is not None and slots < SEARCH_GROWTH * before[1]:
            models, searched = _unpack(before[2:]), float(before[1])
            if len(models) == len(series) and slots < GROWTH * before[0]:
                return before
        models = [
            _estimate(amplitudes, models[k][:HEAD]) if k < len(models) else _search(amplitudes)
            for k, amplitudes in enumerate(series)
        ]
        return np.concatenate([[float(slots), searched], *models])

    def predict(self, parameters: Array, record: ModeRecord, leads: int) -> Array:
        """Return the predicted amplitudes (H, M)."""
        result = Independent().predict(np.empty(0), record, leads)
        models = _unpack(parameters[2:])[: result.shape[1]]
        for k, (model, series) in enumerate(zip(models, _captured(record), strict=False)):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                state = _sarimax(series, model[:HEAD]).filter(model[HEAD:])
                result[:, k] = state.forecast(leads)
        return result


def _captured(record: ModeRecord) -> Array:
    """Amplitudes (M, T) of the leading modes; NaN in gaps."""
    amplitudes = np.where(record.weights[:, None] > 0.0, record.amplitudes, np.nan)
    return amplitudes[-LONGEST:].T[:MODES]


def _search(series: Array) -> Array:
    """Order and coefficients that pmdarima finds for a series (T,); NaN in gaps."""
    import pmdarima

    gaps = np.isnan(series)
    places = np.arange(len(series))
    # It takes no gaps; lines through them choose the order, but do not make the coefficients.
    whole = np.interp(places, places[~gaps], series[~gaps]) if gaps.any() else series

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of models that it tries and drops
        model = pmdarima.auto_arima(
            whole,
            seasonal=False,  # the climatology has the season already
            max_p=GREATEST,
            max_q=GREATEST,
            max_d=1,
            suppress_warnings=True,
            error_action="ignore",
        )
    head = np.array([*model.order, float(model.with_intercept)])
    if gaps.any():
        return _estimate(series, head)
    return np.concatenate([head, model.params()])


def _estimate(series: Array, head: Array) -> Array:
    """The same order with the coefficients of another series (T,); NaN in gaps."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = _sarimax(series, head).fit(disp=False, maxiter=30)
    return np.concatenate([head, fitted.params])


def _sarimax(series: Array, head: Array) -> Any:
    from statsmodels.tsa.statespace.sarimax import SARIMAX

    p, d, q, constant = (int(n) for n in head)
    return SARIMAX(series, order=(p, d, q), trend="c" if constant else "n")


def _unpack(parameters: Array) -> list[Array]:
    """Order and coefficients of each mode, from a fit; ValueError if these are none."""
    models, place = [], 0
    while place < len(parameters):
        p, d, q, constant = (int(n) for n in parameters[place : place + HEAD])
        if not (0 <= min(p, q) <= max(p, q) <= GREATEST and {d, constant} <= {0, 1}):
            raise ValueError(f"({p}, {d}, {q}) is no order")
        size = HEAD + p + q + constant + 1  # and the variance
        if place + size > len(parameters):
            raise ValueError("coefficients are missing")
        models.append(parameters[place : place + size])
        place += size
    return models
