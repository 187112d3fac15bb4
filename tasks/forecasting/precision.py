"""How fine a state need be: a small part of the error that forecasts have anyway.

Every row of a chunk is rounded to a power of two.  What adds to a forecast directly is rounded to
a sixteenth of the chunk's smallest innovation, or finer: the rounding is uniform, so that it adds
less than .04 % to the variance of the error.  What multiplies an anomaly, or an amplitude of a
mode, is rounded as much finer as that is larger.  Values that were captured are kept as they are,
and so is a row of a chunk that never changed, or some of whose cells are so much larger than what
is new each time, fill values perhaps, that no integer would hold them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gnomon.storage.arrays.multiples import BITS, DIGITS, from_multiples, to_multiples
from gnomon.tasks.forecasting import tracking
from gnomon.tasks.forecasting.specification import Array, Specification
from gnomon.tasks.forecasting.state import State, pack, shapes, unpack

__all__ = ["exponents", "rounded"]

ADDED = 2.0**-4
"""Innovations, in standard deviations, that a number may be rounded to that is added to a forecast.
With a quarter as much, each row takes two bits a cell more; with four times as much, each adds half
a percent to the variance of the error."""
MULTIPLIED = 2.0**-5
"""The same of the product of a number and what it is multiplied with."""
COUNTED = 2.0**-8, 2.0**-12
"""What counts of captures, and presences in the last of them, are rounded to."""
type Integers = NDArray[np.int64]


def exponents(spec: Specification, state: State, amplitudes: Array) -> Integers:
    """Powers of two (F, G) that the rows of a packed state are rounded to, by chunk.

    Parameters
    ----------
    spec : Specification
    state : State
        Of N cells in G chunks.
    amplitudes : float64, (T, M), variable's units times root of cells
        Of the modes; NaN where nothing was captured.
    """
    smallest = _smallest(state)
    anomaly = np.sqrt(np.maximum(state.products[0], 0.0) / np.maximum(state.count, 1.0))
    # Of an anomaly that is smaller than what is new each time, there is nothing to multiply.
    largest = np.fmax(np.maximum.reduceat(np.nan_to_num(anomaly), state.starts[:-1]), smallest)
    ratio = np.where(smallest > 0, smallest / np.where(smallest > 0, largest, 1.0), 1.0)
    added, square = ADDED * smallest, smallest**2
    steps: dict[str, Array] = {
        "coefficients": added,
        "level": added,
        "anchor": added,
        "shocks": added,
        # The drift of every slot adds up.
        "drift": added / spec.leads,
        # Of sums over the captures: a hundredth, when there were so many.
        "products": square,
        "variance": square,
        "count": np.full(state.chunks, COUNTED[0]),
        "present": np.full(state.chunks, COUNTED[1]),
        "autoregressive": MULTIPLIED * ratio,
        "moving": np.full(state.chunks, MULTIPLIED),
        "rest": MULTIPLIED * ratio,
    }
    result = []
    for name, shape in shapes(spec)[0].items():
        part = getattr(state, name).reshape(-1, state.cells)
        if name == "recent":
            result += [_exact(row, state.starts) for row in part]
        elif name == "loadings":
            result += _loadings(part, ADDED * smallest, amplitudes, state.starts)
        elif shape != (0,):
            result += [_coarse(row, steps[name], state.starts) for row in part]
    return np.stack(result)


def rounded(spec: Specification, state: State, amplitudes: Array) -> State:
    """The state as it is read again after it was stored; the arguments are those of `exponents`."""
    cells, chunks = pack(spec, state)
    steps = state.spread(exponents(spec, state, amplitudes))
    return unpack(spec, state.starts, from_multiples(to_multiples(cells, steps), steps), chunks)


def _loadings(
    loadings: Array, added: Array, amplitudes: Array, starts: NDArray[np.int64]
) -> list[Integers]:
    known = amplitudes[np.isfinite(amplitudes).all(axis=1)] if amplitudes.size else amplitudes
    count = known.shape[1] if known.size else 0
    size = np.sqrt(np.mean(known**2, axis=0)) if count else np.empty(0)
    sizes = np.concatenate([size, np.zeros(len(loadings) - count)])
    return [
        _coarse(row, added / one if one > 0 else np.zeros(len(added)), starts)
        for row, one in zip(loadings, sizes, strict=True)
    ]


def _smallest(state: State) -> Array:
    """Return the smallest innovation of each chunk (G,), variable's units; 0 where there is none.

    Of a cell by itself few captures tell: it is that of its error bar, which is shrunk to the
    chunk's, unless rounding in the source is all that the error bar is of.
    """
    heads = state.starts[:-1]
    scale = tracking.innovation_scale(state)
    positive = np.where(np.isfinite(scale) & (scale > 0), scale, np.inf)
    count = np.add.reduceat(state.count, heads)
    pooled = np.sqrt(np.add.reduceat(state.variance, heads) / np.maximum(count, 1.0))
    smallest = np.minimum(np.minimum.reduceat(positive, heads), pooled)
    return np.where(np.isfinite(smallest), smallest, 0.0)


def _coarse(row: Array, step: Array, starts: NDArray[np.int64]) -> Integers:
    """Return the exponents (G,) of steps; all digits are kept where there is no step."""
    finest = _exponent(_largest(row, starts)) + 2 - DIGITS
    wanted = _exponent(step)
    return np.where((step > 0) & (wanted >= finest), wanted, BITS)


def _exact(row: Array, starts: NDArray[np.int64]) -> Integers:
    """Return exponents (G,) of which all numbers are multiples; `BITS` where there are none."""
    mantissa, exponent = np.frexp(np.where(np.isfinite(row), row, 0.0))
    whole = np.ldexp(mantissa, 53).astype(np.int64)
    lowest = _exponent((whole & -whole).astype(np.float64)) + exponent - 53
    none = np.iinfo(np.int32).max
    least = np.minimum.reduceat(np.where(whole != 0, lowest, none), starts[:-1])
    finest = _exponent(_largest(row, starts)) + 2 - DIGITS
    return np.where(least == none, 0, np.where(least >= finest, least, BITS))


def _largest(row: Array, starts: NDArray[np.int64]) -> Array:
    sizes = np.where(np.isfinite(row), np.abs(row), 0.0)
    return np.asarray(np.maximum.reduceat(sizes, starts[:-1]))


def _exponent(values: Array) -> Integers:
    """Return the exponents of the powers of two at or below; 0 for zero."""
    return np.where(values != 0, np.frexp(values)[1] - 1, 0).astype(np.int64)
