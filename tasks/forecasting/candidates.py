"""The candidates: what each simple model predicts, from one reference time.

The same code makes a forecast of every cell and the hindcasts of the sampled ones, so what is
scored is what is issued.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gnomon.tasks.forecasting import climatology, kernels, tracking
from gnomon.tasks.forecasting.specification import Array, Specification, clip
from gnomon.tasks.forecasting.state import State

CANDIDATES = (
    "persistence",
    "climatology",
    "damped_anomaly",
    "local_level",
    "arima",
    "modes_independent",
    "modes_linear",
)
"""Names of the candidates, in the order of every array's candidate axis."""


@dataclass(frozen=True, slots=True)
class ModeForecast:
    """What the modes of the variable are at the reference time, and will be."""

    now: Array
    """(M,) amplitudes at the reference time."""
    independent: Array
    """(H, M) amplitudes predicted by each mode's own past."""
    linear: Array
    """(H, M) amplitudes predicted by all of them."""


def predict(
    spec: Specification,
    state: State,
    times_s: Array,
    damping: Array,
    modes: ModeForecast | None,
) -> Array:
    """Predictions (H, C, N) of every candidate, in the variable's units and within its bounds.

    Parameters
    ----------
    spec : Specification
    state : State
    times_s : float64, (H,)
        Valid times of the slots after `state.slot`.
    damping : float64, (N,)
        Of the anomalies per slot, from `tracking.damping`.
    modes : ModeForecast, optional
        None: the candidates that need modes repeat the ARIMA.

    Returns
    -------
    float64, (H, C, N)
        NaN where a cell was never seen.
    """
    leads = len(times_s)
    season = climatology.features(spec, times_s) @ state.coefficients
    anomalies = tracking.bridged(spec, state, damping)
    last = anomalies[0] + climatology.features(spec, state.recent_times[:1])[0] @ state.coefficients
    last = np.where(np.isfinite(state.recent[0]), state.recent[0], last)
    driven, rest = np.zeros((2, 0, state.cells)), np.zeros(state.cells)
    if modes is not None and len(modes.now):
        loadings = state.loadings[: len(modes.now)]
        # The mean has moved since the modes were found; they know nothing of that.
        moved = np.nan_to_num(state.coefficients[0] - state.anchor)
        driven = np.stack([modes.independent[:leads] @ loadings, modes.linear[:leads] @ loadings])
        driven -= moved
        rest = anomalies[0] + moved - modes.now @ loadings
        rest *= state.rest ** tracking.unseen(state)
    result = np.empty((leads, len(CANDIDATES), state.cells))
    kernels.predict(
        season,
        anomalies,
        last,
        damping,
        state.level - state.coefficients[0],
        state.autoregressive,
        state.moving,
        state.drift,
        state.shocks,
        spec.order[1],
        driven,
        rest,
        state.rest,
        result,
    )
    return clip(spec, result)
