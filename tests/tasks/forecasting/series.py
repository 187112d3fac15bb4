"""Series with known properties, and a state learnt from one."""

import numpy as np
from numpy.typing import NDArray

from gnomon.tasks.forecasting import Specification, State, roll, start

type Array = NDArray[np.float64]

DAY = 86400.0


def specification(
    order: tuple[int, int] = (2, 0), *, leads: int = 6, seasonal: bool = False, **changes: object
) -> Specification:
    fields: dict[str, object] = {
        "version": 1,
        "periods_s": [DAY] if seasonal else [],
        "harmonics": [2] if seasonal else [],
        "order": order,
        "leads": leads,
        "origin_s": 0.0,
        "minimum": None,
        "maximum": None,
        "tolerance": 1.0,
        "categorical": False,
    }
    return Specification.from_json(fields | changes)


def times(captures: int, interval_s: float = 3600.0) -> Array:
    return interval_s * np.arange(captures, dtype=np.float64)


def autoregressive(
    coefficients: tuple[float, ...], captures: int, cells: int, *, seed: int, common: float = 0.5
) -> Array:
    """Stationary autoregressive series (T, N); `common` is the shared share of the variance."""
    rng = np.random.default_rng(seed)
    warm = 200
    noise: Array = (1 - common) ** 0.5 * rng.standard_normal((captures + warm, cells))
    noise += common**0.5 * rng.standard_normal((captures + warm, 1))
    result: Array = noise.copy()
    for t in range(len(coefficients), len(result)):
        for lag, value in enumerate(coefficients, start=1):
            result[t] += value * result[t - lag]
    return result[warm:]


def daily(captures: int, cells: int, *, seed: int) -> Array:
    """Hourly series around 280 with a daily cycle and red noise."""
    cycle: Array = 5.0 * np.cos(2 * np.pi * times(captures) / DAY)[:, None]
    return 280.0 + cycle + autoregressive((0.8,), captures, cells, seed=seed)


def learnt(spec: Specification, values: Array, interval_s: float = 3600.0) -> State:
    state = start(spec, values.shape[1])
    for slot, (time, capture) in enumerate(
        zip(times(len(values), interval_s), values, strict=True)
    ):
        state = roll(spec, state, slot, float(time), capture)
    return state


def ahead(state: State, spec: Specification, interval_s: float = 3600.0) -> Array:
    return interval_s * (state.slot + 1 + np.arange(spec.leads, dtype=np.float64))
