"""What the forecaster carries from one capture to the next, and how it is laid out in two arrays.

The number of rows depends on the specification alone, never on how much history was learnt.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from gnomon.storage.errors import InvalidInput
from gnomon.tasks.forecasting.specification import Array, Specification

CANDIDATE_COUNT = 5
"""C, number of candidates; their names are in `gnomon.tasks.forecasting.trajectory`."""
SCORED_CELLS = 256
"""S, greatest number of cells of a chunk on which hindcasts are scored."""
LIVE_ORIGINS = 6
"""O, greatest number of hindcasts that wait for their valid times."""


@dataclass(frozen=True, slots=True)
class State:
    """Recursive state of the N cells of one chunk. Float64 throughout; sums fade slowly."""

    shift: Array
    """(N,) first value of each cell, variable's units; NaN where never seen."""
    present: Array
    """(N,) 1 where the last learnt capture has a value, else 0."""
    count: Array
    """(N,) number of scored departures per cell."""
    moments: Array
    """(K, N) X'y of the values relative to the shift."""
    recent: Array
    """(L, N) last values relative to the shift, newest first; missing ones bridged."""
    covariances: Array
    """(p + 1, N) sums of lagged products of the differenced anomalies."""
    persistence: Array
    """(2, N) sums of lagged products of the anomalies, lags 0 and 1."""
    level: Array
    """(N,) exponentially weighted mean of the deseasonalised values relative to the shift."""
    innovation: Array
    """(N,) sum of squared departures, each reduced to one slot."""
    clock: Array
    """(6,) learnt captures; slots: last, last learnt, last hindcast; first and last learnt time."""
    recent_times: Array
    """(L,) times of `recent`, seconds."""
    recent_known: Array
    """(L,) 1 where `recent` was captured, 0 where bridged or before the first capture."""
    gram: Array
    """(K, K) X'X of the harmonic regressors."""
    covariance_pairs: Array
    """(p + 1,) number of products in `covariances`."""
    persistence_pairs: Array
    """(2,) number of products in `persistence`."""
    cross: Array
    """(H, C, C) sums of the candidates' hindcast error cross-moments."""
    scored: Array
    """(H,) number of hindcasts in `cross`."""
    weights: Array
    """(H, C) blend weights in use."""
    growth: Array
    """(2, H) number of hindcasts, and sum of their squared error over expected variance."""
    adjustment: Array
    """(H,) logarithm of the coverage correction of the standard error."""
    ratios: Array
    """(3, H) count, sum, sum of squares of log chunk RMSE over expected RMSE."""
    surprises: Array
    """(3,) count, sum, sum of squares of the log standardised rms departure."""
    pending_slots: Array
    """(O,) reference slots of the waiting hindcasts; NaN where there is none."""
    pending_weights: Array
    """(O, H, C) blend weights at each reference time."""
    pending_scales: Array
    """(O, H) standard error factors at each reference time."""
    pending: Array
    """(R, O, S) trajectories of the waiting hindcasts, row 0 the cell's index."""

    @property
    def cells(self) -> int:
        """N, number of cells."""
        return int(self.shift.shape[0])

    @property
    def captures(self) -> int:
        """Number of captures that were learnt."""
        return int(self.clock[0])

    @property
    def slot(self) -> int:
        """Cadence index of the last capture, learnt or not; 0 before any."""
        return int(self.clock[1])

    @property
    def learnt_slot(self) -> int:
        """Cadence index of the last capture that was learnt; 0 before any."""
        return int(self.clock[2])

    @property
    def learnt_time_s(self) -> float:
        """Time of the last capture that was learnt, seconds."""
        return float(self.clock[5])


@dataclass(frozen=True, slots=True)
class Layout:
    """Shapes of the parts of a packed state."""

    cells: dict[str, tuple[int, ...]]
    """Leading shape of each per-cell part (the cells come last), in storage order."""
    shared: dict[str, tuple[int, ...]]
    """Shape of each part that the chunk's cells share, in storage order."""

    @property
    def rows(self) -> int:
        """F, rows of the per-cell array."""
        return sum(prod(shape) for shape in self.cells.values())

    @property
    def length(self) -> int:
        """M, length of the shared array."""
        return sum(prod(shape) for shape in self.shared.values())


def trajectory_rows(spec: Specification) -> int:
    """R, rows of one cell of a waiting hindcast: its index, then a `Trajectory`."""
    return 6 + spec.terms + 2 * spec.memory


def layout(spec: Specification) -> Layout:
    """Shapes of a packed state, a function of the specification alone."""
    terms, recent, leads, lags = spec.terms, spec.recent, spec.leads, spec.order[0] + 1
    cells: dict[str, tuple[int, ...]] = {
        "shift": (),
        "present": (),
        "count": (),
        "moments": (terms,),
        "recent": (recent,),
        "covariances": (lags,),
        "persistence": (2,),
        "level": (),
        "innovation": (),
    }
    shared: dict[str, tuple[int, ...]] = {
        "clock": (6,),
        "recent_times": (recent,),
        "recent_known": (recent,),
        "gram": (terms, terms),
        "covariance_pairs": (lags,),
        "persistence_pairs": (2,),
        "cross": (leads, CANDIDATE_COUNT, CANDIDATE_COUNT),
        "scored": (leads,),
        "weights": (leads, CANDIDATE_COUNT),
        "growth": (2, leads),
        "adjustment": (leads,),
        "ratios": (3, leads),
        "surprises": (3,),
        "pending_slots": (LIVE_ORIGINS,),
        "pending_weights": (LIVE_ORIGINS, leads, CANDIDATE_COUNT),
        "pending_scales": (LIVE_ORIGINS, leads),
        "pending": (trajectory_rows(spec), LIVE_ORIGINS, SCORED_CELLS),
    }
    return Layout(cells, shared)


def pack(spec: Specification, state: State) -> tuple[Array, Array]:
    """State as two arrays, without loss.

    Returns
    -------
    cells : float64, (F, N)
    shared : float64, (M,)
    """
    shapes = layout(spec)
    cells = [getattr(state, name).reshape(-1, state.cells) for name in shapes.cells]
    shared = [getattr(state, name).ravel() for name in shapes.shared]
    return np.concatenate(cells), np.concatenate(shared)


def unpack(spec: Specification, cells: Array, shared: Array) -> State:
    """State from the two arrays of `pack`.

    Parameters
    ----------
    spec : Specification
    cells : float64, (F, N)
    shared : float64, (M,)

    Raises
    ------
    InvalidInput
        If the shapes are not those of the specification.
    """
    shapes = layout(spec)
    if cells.ndim != 2 or cells.shape[0] != shapes.rows or shared.shape != (shapes.length,):
        raise InvalidInput(
            f"found state arrays {cells.shape} and {shared.shape}, expected "
            f"({shapes.rows}, N) and ({shapes.length},): was the specification changed?"
        )
    parts: dict[str, Array] = {}
    row = 0
    for name, shape in shapes.cells.items():
        size = prod(shape)
        parts[name] = np.array(cells[row : row + size]).reshape(*shape, cells.shape[1])
        row += size
    row = 0
    for name, shape in shapes.shared.items():
        size = prod(shape)
        parts[name] = np.array(shared[row : row + size]).reshape(shape)
        row += size
    return State(**parts)
