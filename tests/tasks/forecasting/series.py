"""Series with known properties, and what is learnt from them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gnomon.tasks.forecasting import (
    Forecast,
    Learnt,
    Outlook,
    Specification,
    State,
    fit_outlook,
    forecast,
    learn,
)
from gnomon.tasks.forecasting.specification import FORMAT_VERSION
from gnomon.tasks.hindcasting.replay import Replay, Series
from gnomon.tasks.learning.refit import Traits

type Array = NDArray[np.float64]

DAY = 86400.0
HOUR = 3600.0


def specification(
    order: tuple[int, int, int] = (2, 0, 0),
    *,
    leads: int = 6,
    seasonal: bool = False,
    **changes: object,
) -> Specification:
    fields: dict[str, object] = {
        "version": FORMAT_VERSION,
        "periods_s": [DAY] if seasonal else [],
        "harmonics": [2] if seasonal else [],
        "order": order,
        "interval_s": HOUR,
        "leads": leads,
        "origin_s": 0.0,
        "minimum": None,
        "maximum": None,
        "tolerance": 1.0,
        "categorical": False,
        "modes": 0,
    }
    return Specification.from_json(fields | changes)


def times(captures: int, interval_s: float = HOUR) -> Array:
    return interval_s * np.arange(captures, dtype=np.float64)


def hours(first: int, last: int) -> Array:
    """Times of the slots from one to before another."""
    return HOUR * np.arange(first, last, dtype=np.float64)


def autoregressive(
    coefficients: tuple[float, ...],
    captures: int,
    cells: int,
    *,
    seed: int,
    common: float = 0.5,
    moving: tuple[float, ...] = (),
) -> Array:
    """Stationary ARMA series (T, N); `common` is the shared share of the variance."""
    rng = np.random.default_rng(seed)
    warm = 200
    noise: Array = (1 - common) ** 0.5 * rng.standard_normal((captures + warm, cells))
    noise += common**0.5 * rng.standard_normal((captures + warm, 1))
    result: Array = noise.copy()
    for t in range(max(len(coefficients), len(moving)), len(result)):
        for lag, value in enumerate(coefficients, start=1):
            result[t] += value * result[t - lag]
        for lag, value in enumerate(moving, start=1):
            result[t] += value * noise[t - lag]
    return result[warm:]


def daily(captures: int, cells: int, *, seed: int) -> Array:
    """Hourly series around 280 with a daily cycle and red noise."""
    cycle: Array = 5.0 * np.cos(2 * np.pi * times(captures) / DAY)[:, None]
    return 280.0 + cycle + autoregressive((0.8,), captures, cells, seed=seed)


def replay(
    values: Array,
    *,
    starts: tuple[int, ...] | None = None,
    seasonal: bool = False,
    share: float = 0.0,
    **options: float,
) -> Replay:
    """What a hindcast of captures at the hour replays; refits are not made because cheap."""
    captures, cells = values.shape
    heads = np.array([0, cells] if starts is None else starts)
    series = Series((times(captures) * 1e6).astype(np.int64), values, heads, cells, cells)
    tolerance = options.pop("tolerance", None)
    traits = Traits(6, 365.2425 * DAY, periods_s=(DAY,) if seasonal else (), tolerance=tolerance)
    return Replay(traits, series, "standard", share=share, **options)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Fitted:
    """Everything that a window of captures left behind."""

    spec: Specification
    learnt: Learnt
    outlook: Outlook

    @property
    def state(self) -> State:
        return self.learnt.state

    def forecast(self) -> Forecast:
        last = float(self.state.recent_times[0])
        ahead = last + times(self.spec.leads + 1, self.spec.interval_s)[1:]
        return forecast(self.spec, self.state, self.outlook, ahead)


def fit(
    spec: Specification,
    values: Array,
    *,
    slots: NDArray[np.int64] | None = None,
    starts: tuple[int, ...] | None = None,
    trusted: NDArray[np.bool_] | None = None,
    gate: bool = False,
) -> Fitted:
    """What is learnt of captures at the hour; their cells are the sample too."""
    heads = np.array([0, values.shape[1]] if starts is None else starts)
    known = np.arange(len(values)) if slots is None else slots
    shape = len(values), len(heads) - 1
    believed = np.ones(shape, bool) if trusted is None else trusted.reshape(shape)
    given = spec, known, (spec.interval_s * known).astype(np.float64), values, heads
    gated = np.full(shape, gate)
    found, outlook = fit_outlook(*given, trusted=believed, gated=gated)
    learnt = learn(found, *given[1:], trusted=believed, gated=gated, amplitudes=outlook.amplitudes)
    return Fitted(found, learnt, outlook)
