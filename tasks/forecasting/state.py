"""What the forecaster carries from one capture to the next, for the cells of one or more chunks.

Everything is kept per cell or per chunk; how many rows that is depends on the specification alone,
never on how much history was learnt.  The cells of chunk g are ``starts[g]:starts[g + 1]``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from math import prod

import numpy as np
from numpy.typing import NDArray

from gnomon.storage.errors import InvalidInput
from gnomon.tasks.forecasting.specification import Array, Specification

type Ints = NDArray[np.int64]


@dataclass(slots=True)
class State:
    """Recursive state of N cells in G chunks. Float64 throughout; sums fade slowly."""

    starts: Ints
    """(G + 1,) first cell of each chunk, and N."""
    coefficients: Array
    """(K, N) of the climatology, variable's units; NaN where never seen."""
    recent: Array
    """(P, N) values at the last slots, newest first; NaN where unknown."""
    products: Array
    """(2, N) sums of products of anomalies at lags 0 and 1."""
    level: Array
    """(N,) exponentially weighted mean of the deseasonalised values."""
    variance: Array
    """(N,) sum of squared innovations, each reduced to one slot."""
    count: Array
    """(N,) number of innovations in it."""
    present: Array
    """(N,) 1 where the last learnt capture has a value; it falls with each that has none."""
    autoregressive: Array
    """(p, N) coefficients of the process of the anomalies, fixed between refits."""
    moving: Array
    """(q, N) coefficients on past innovations, fixed between refits."""
    drift: Array
    """(N,) mean change per slot; zero without a difference."""
    shocks: Array
    """(q, N) last innovations of the process, newest first."""
    loadings: Array
    """(M, N) of the modes, fixed between refits; zero without modes."""
    rest: Array
    """(N,) damping per slot of what the modes leave over, fixed between refits."""
    anchor: Array
    """(N,) the climatology's mean at the last refit, which the modes are departures from."""
    clock: Array
    """(3 + P, G) last slot, learnt captures, slot of the last one, times of `recent` in seconds."""
    information: Array
    """(K, K, G) faded X'X of the harmonic regressors, with what is left of their prior."""
    pooled: Array
    """(6, G) chunk sums: anomalies' products at lags 0 and 1, changes' products at lags 0 and 1,
    squared departures from the damped anomaly and from the local level."""
    surprises: Array
    """(3, G) count, sum, sum of squares of the log standardised rms innovation."""
    swing: Array
    """(K, G) of the log standardised rms innovation on the climatology's regressors."""
    correction: Array
    """(2, G) log of the online correction of the standard error; CUSUM of departures."""

    @property
    def cells(self) -> int:
        """N, number of cells."""
        return int(self.starts[-1])

    @property
    def chunks(self) -> int:
        """G, number of chunks."""
        return len(self.starts) - 1

    @property
    def slot(self) -> int:
        """Cadence index of the last capture, learnt or not; -1 before any."""
        return int(self.clock[0, 0])

    @property
    def captures(self) -> NDArray[np.int64]:
        """(G,) number of captures that each chunk has learnt."""
        return np.asarray(self.clock[1].astype(np.int64))

    @property
    def recent_times(self) -> Array:
        """(P,) times of `recent`, seconds."""
        return self.clock[3:, 0]

    @property
    def sound(self) -> NDArray[np.bool_]:
        """(G,) whether these can be the sums that captures leave behind."""
        result = np.isfinite(self.clock[0]) & np.isfinite(self.clock[2])
        result &= _are_sums(self.clock[1])
        for sums in (self.variance, self.count, self.products[0], self.present):
            result &= np.logical_and.reduceat(_are_sums(sums), self.starts[:-1])
        result &= np.logical_and.reduceat(self.present <= 1.0, self.starts[:-1])
        return np.asarray(result)

    def copy(self) -> State:
        """An equal state that shares nothing."""
        return State(*(getattr(self, f.name).copy() for f in fields(self)))

    def spread[A: np.generic](self, chunkwise: NDArray[A]) -> NDArray[A]:
        """Values of chunks (..., G) at their cells (..., N)."""
        return np.asarray(np.repeat(chunkwise, np.diff(self.starts), axis=-1))

    def take(self, chunks: NDArray[np.intp]) -> State:
        """State of some of the chunks."""
        cells = self.cells_of(chunks)
        parts = {n: np.ascontiguousarray(getattr(self, n)[..., cells]) for n in CELL_PARTS}
        parts |= {n: np.ascontiguousarray(getattr(self, n)[..., chunks]) for n in CHUNK_PARTS}
        sizes = np.diff(self.starts)[chunks]
        return State(np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64), **parts)

    def part(self, chunks: slice) -> State:
        """State of some chunks in a row, whose cells share the memory of this one."""
        first, last = (int(self.starts[chunk]) for chunk in (chunks.start, chunks.stop))
        parts = {n: getattr(self, n)[..., first:last] for n in CELL_PARTS}
        parts |= {n: np.ascontiguousarray(getattr(self, n)[..., chunks]) for n in CHUNK_PARTS}
        return State(self.starts[chunks.start : chunks.stop + 1] - first, **parts)

    def put(self, chunks: NDArray[np.intp], other: State) -> None:
        """Replace some of the chunks by those of another state, in place."""
        cells = self.cells_of(chunks)
        for name in CELL_PARTS:
            getattr(self, name)[..., cells] = getattr(other, name)
        for name in CHUNK_PARTS:
            getattr(self, name)[..., chunks] = getattr(other, name)

    def crop(self, cells: slice) -> State:
        """State of some cells in a row, as if they were one chunk."""
        # Contiguous, or compiled code would be compiled again for every kind of slice.
        parts = {n: np.ascontiguousarray(getattr(self, n)[..., cells]) for n in CELL_PARTS}
        parts |= {n: np.ascontiguousarray(getattr(self, n)[..., :1]) for n in CHUNK_PARTS}
        return State(np.array([0, cells.stop - cells.start]), **parts)

    def cells_of(self, chunks: NDArray[np.intp]) -> NDArray[np.intp]:
        """Positions of the cells of some chunks."""
        ranges = [np.arange(self.starts[c], self.starts[c + 1]) for c in chunks]
        return np.concatenate([np.empty(0, np.intp), *ranges]).astype(np.intp)


def _are_sums(values: Array) -> NDArray[np.bool_]:
    return np.asarray((values >= 0.0) & (values < np.inf))  # NaN compares false


def join(states: Sequence[State]) -> State:
    """One state of the chunks of several, in order; of one alone, itself."""
    if len(states) == 1:
        return states[0]
    sizes = np.concatenate([np.diff(state.starts) for state in states])
    names = (*CELL_PARTS, *CHUNK_PARTS)
    parts = {n: np.concatenate([getattr(s, n) for s in states], axis=-1) for n in names}
    return State(np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64), **parts)


CELL_PARTS = (
    "coefficients",
    "recent",
    "products",
    "level",
    "variance",
    "count",
    "present",
    "autoregressive",
    "moving",
    "drift",
    "shocks",
    "loadings",
    "rest",
    "anchor",
)
CHUNK_PARTS = ("clock", "information", "pooled", "surprises", "swing", "correction")


CARRIED = 2
"""Rows of `correction`: what `engine.replay` does not find again."""


def stored_correction(packed: Array) -> Array:
    """`correction` (2, ...) of chunks, of the rows (M, ...) that `pack` gives of them."""
    return packed[-CARRIED:]  # the last of its parts


def shapes(spec: Specification) -> tuple[dict[str, tuple[int, ...]], dict[str, tuple[int, ...]]]:
    """Leading shapes of the parts per cell and per chunk, in storage order."""
    terms, past, (p, _, q) = spec.terms, spec.recent, spec.order
    cells: dict[str, tuple[int, ...]] = {
        "coefficients": (terms,),
        "recent": (past,),
        "products": (2,),
        "level": (),
        "variance": (),
        "count": (),
        "present": (),
        "autoregressive": (p,),
        "moving": (q,),
        "drift": (),
        "shocks": (q,),
        "loadings": (spec.modes,),
        "rest": (),
        "anchor": (),
    }
    chunks: dict[str, tuple[int, ...]] = {
        "clock": (3 + past,),
        "information": (terms, terms),
        "pooled": (6,),
        "surprises": (3,),
        "swing": (terms,),
        "correction": (2,),
    }
    return cells, chunks


def empty(spec: Specification, starts: Ints) -> State:
    """State that has seen no capture."""
    cell_shapes, chunk_shapes = shapes(spec)
    cells, chunks = int(starts[-1]), len(starts) - 1
    parts = {n: np.zeros((*s, cells)) for n, s in cell_shapes.items()}
    parts |= {n: np.zeros((*s, chunks)) for n, s in chunk_shapes.items()}
    state = State(np.asarray(starts, np.int64), **parts)
    # NaN, not 0: what was never seen would be predicted as a value.
    state.coefficients[:] = np.nan
    state.recent[:] = np.nan
    state.clock[[0, 2]] = -1.0
    state.clock[3:] = np.nan
    return state


def rows(spec: Specification) -> tuple[int, int]:
    """Rows of the packed state per cell and per chunk."""
    counts = [sum(prod(shape) for shape in part.values()) for part in shapes(spec)]
    return counts[0], counts[1]


def pack(spec: Specification, state: State) -> tuple[Array, Array]:
    """State as two arrays, (F, N) and (M, G), without loss."""
    packed = []
    for part, width in zip(shapes(spec), (state.cells, state.chunks), strict=True):
        packed.append(np.concatenate([getattr(state, n).reshape(-1, width) for n in part]))
    return packed[0], packed[1]


def unpack(spec: Specification, starts: Ints, cells: Array, chunks: Array) -> State:
    """State from the two arrays of `pack`, whose memory is its own from now on.

    Raises
    ------
    InvalidInput
        If the shapes are not those of the specification.
    """
    expected = rows(spec)
    if (len(cells), len(chunks)) != expected or cells.shape[1] != starts[-1]:
        raise InvalidInput(
            f"found state arrays {cells.shape} and {chunks.shape}, expected {expected} rows: "
            "was the specification changed?"
        )
    parts: dict[str, Array] = {}
    for part, array in zip(shapes(spec), (cells, chunks), strict=True):
        row = 0
        for name, shape in part.items():
            size = prod(shape)
            parts[name] = array[row : row + size].reshape(*shape, array.shape[1])
            row += size
    return State(np.asarray(starts, np.int64), **parts)
