"""What the state expects of the next capture, and how surprising the capture then is."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from gnomon.tasks.forecasting import hindcasts, uncertainty
from gnomon.tasks.forecasting.specification import Array, Specification, clip
from gnomon.tasks.forecasting.state import State
from gnomon.tasks.forecasting.trajectory import Trajectory, advance, candidates

SURPRISE_MEMORY = 200.0
"""Effective number of captures that the departures test remembers."""
SURPRISE_SCALE = 0.4
"""Prior standard deviation of the log standardised rms departure."""
LEAST_SURPRISES = 6
"""Scored departures below which the departures test gives no p-value."""
LEAST_SIZE = 1e-3
"""Standardised rms below which departures are all alike: the log of zero is not needed."""
INNOVATION_MEMORY = 500.0
"""Effective number of captures that a cell's innovation variance remembers, at most."""


@dataclass(frozen=True, slots=True)
class Departures:
    """How one capture departs from the state's expectation; NaN when nothing can be compared."""

    mean: float
    """Mean of captured minus predicted, variable's units."""
    rms: float
    """Root mean square, variable's units."""
    maximum: float
    """Greatest absolute value, variable's units."""
    standardised_rms: float
    """Root mean square of departure over standard error, unitless."""
    p_value: float
    """Probability of so large a standardised rms; NaN below `LEAST_SURPRISES` scored captures."""


@dataclass(frozen=True, slots=True)
class Expectation:
    """Predicted state at one slot, for cells that were ever seen; NaN elsewhere."""

    mean: Array
    """(N,) blended prediction, variable's units."""
    shape: Array
    """(N,) error variance over that of one slot, unitless."""
    standard_error: Array
    """(N,) variable's units."""


def expected(
    spec: Specification, state: State, trajectory: Trajectory, lead: int, regressors: Array
) -> Expectation:
    """Expectation some slots after the last learnt capture.

    Parameters
    ----------
    spec : Specification
    state : State
    trajectory : Trajectory
        Fitted to the state.
    lead : int
        Slots after `state.learnt_slot`; beyond H the weights of lead H are used.
    regressors : float64, (K,)
        Harmonic regressors at the valid time.
    """
    moved = advance(trajectory, lead)
    row = min(lead, spec.leads) - 1
    factor = uncertainty.lead_scale(state.growth, state.adjustment)[row]
    growth = uncertainty.shape(moved.damping, lead)
    mean = clip(spec, state.weights[row] @ candidates(spec, moved, regressors))
    return Expectation(mean, growth, moved.scale * np.sqrt(growth) * factor)


def compare(state: State, expectation: Expectation, values: Array) -> Departures:
    """Departures of a capture (N,) from an expectation, and their p-value.

    Notes
    -----
    The log of the standardised rms is taken as normal, with mean and variance learnt from the
    captures before; the p-value is the upper tail of its Student t predictive distribution.
    """
    departure = values - expectation.mean
    usable = np.isfinite(departure)
    if not usable.any():
        return Departures(np.nan, np.nan, np.nan, np.nan, np.nan)
    found = departure[usable]
    rms = float(np.sqrt(np.mean(found**2)))
    size = float(np.sqrt(np.mean((found / expectation.standard_error[usable]) ** 2)))
    p_value = np.nan
    faded = LEAST_SURPRISES * (1.0 - LEAST_SURPRISES / SURPRISE_MEMORY)
    if state.surprises[0] >= faded:
        location, scale, freedom = uncertainty.predictive(state.surprises, SURPRISE_SCALE)
        distance = (np.log(max(size, LEAST_SIZE)) - location) / scale
        p_value = float(special.stdtr(freedom, -distance))
    return Departures(float(found.mean()), rms, float(np.abs(found).max()), size, p_value)


def judged(state: State, expectation: Expectation, values: Array) -> State:
    """State with the departures of a capture in its innovation sums and its departures test."""
    departure = values - expectation.mean
    usable = np.isfinite(departure)
    reduced = np.where(usable, departure, 0.0) ** 2 / expectation.shape
    fade = 1.0 - 1.0 / max(2.0, min(float(state.captures), INNOVATION_MEMORY))
    surprise = np.nan
    if state.captures >= hindcasts.LEAST_CAPTURES and usable.any():
        size = compare(state, expectation, values).standardised_rms
        surprise = float(np.log(max(size, LEAST_SIZE)))
    return replace(
        state,
        innovation=np.where(usable, state.innovation * fade + reduced, state.innovation),
        count=np.where(usable, state.count * fade + 1.0, state.count),
        surprises=uncertainty.accumulate(state.surprises, np.asarray(surprise), SURPRISE_MEMORY),
    )
