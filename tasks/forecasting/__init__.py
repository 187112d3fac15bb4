"""How the next states are predicted: one recursive, batched forecaster for all cells of a chunk.

The parts, from the ground up (each imports only those above it):

- `specification`: what is fixed between refits; `orders` chooses it from a window of captures.
- `climatology`, `autoregression`, `blend`, `uncertainty`: the pure numerics.
- `state`: what is carried from one capture to the next, and how it packs into two arrays.
- `trajectory`: the candidates' forecasts from one reference time, advanced one slot at a time.
- `hindcasts`: trajectories made over past captures, scored when their valid time is captured;
  `expectation`: the next capture's departures; `absorption`: how it enters the sums.
- `engine`: start, roll, departures, forecast; `learning`: the same over a window of captures.
"""

from gnomon.tasks.forecasting.engine import (
    Forecast,
    departures,
    expect,
    forecast,
    rebase,
    roll,
    start,
)
from gnomon.tasks.forecasting.expectation import Departures, Expectation
from gnomon.tasks.forecasting.learning import learn
from gnomon.tasks.forecasting.orders import identify
from gnomon.tasks.forecasting.specification import Specification
from gnomon.tasks.forecasting.state import State, layout, pack, unpack
from gnomon.tasks.forecasting.trajectory import CANDIDATES

__all__ = [
    "CANDIDATES",
    "Departures",
    "Expectation",
    "Forecast",
    "Specification",
    "State",
    "departures",
    "expect",
    "forecast",
    "identify",
    "layout",
    "learn",
    "pack",
    "rebase",
    "roll",
    "start",
    "unpack",
]
