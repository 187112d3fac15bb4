"""Fields: what is drawn of states, thinned to the pixels of a picture, chunk by chunk.

Where several cells share a pixel, one of them is drawn, the same in all layers: the one that
differs most, or is least sure.  So nothing that stands out is averaged away.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from gnomon.storage.errors import InvalidInput
from gnomon.storage.values.grid import Index
from gnomon.storage.values.model import Variable
from gnomon.storage.values.selection import EVERYTHING, Selection
from gnomon.tasks.comparing.compare import Difference
from gnomon.tasks.comparing.pairs import Pair, Part, pairs, parts
from gnomon.tasks.comparing.states import Chunk, Kept, Planned, State
from gnomon.tasks.work import Mapper, serial

__all__ = [
    "MARKS",
    "PIXELS",
    "Canvas",
    "Field",
    "check_drawable",
    "difference_field",
    "is_drawable",
    "state_field",
]

Floats = NDArray[np.float64]

PIXELS = 1000
"""Pixels along each side of a picture, at most."""
MARKS = ("standard error", "provenance")
"""Layers that a field has only where a cell is an estimate."""


@dataclass(frozen=True, slots=True)
class Field:
    """What is drawn of one variable."""

    variable: str
    """Its name."""
    units: str
    """Its units; empty if it has none."""
    dims: tuple[str, ...]
    """Dimensions that are drawn: y and x, or one."""
    shape: Index
    """Cells along them."""
    at: dict[str, int]
    """Positions along the other dimensions."""
    layers: dict[str, Floats]
    """By title: values of the pixels, float64 (y, x) or (x,), NaN where there is none.
    ``provenance`` has numbers of `PROVENANCE`, NaN where no cell is an estimate."""
    is_downwards: bool = False
    """Whether the coordinate of the first of two dimensions falls, as latitude from the north."""


@dataclass(frozen=True, slots=True)
class Thinned:
    """A chunk, thinned to the pixels that it touches: for each, the cell of the highest rank."""

    pixels: NDArray[np.int64]
    """Number of each pixel on the canvas, row by row."""
    ranks: Floats
    """Of their cells."""
    layers: dict[str, Floats]
    """By name, the values of their cells."""


class Canvas:
    """Pixels that are filled chunk by chunk.

    Parameters
    ----------
    at
        Positions along the dimensions that are not drawn.
    names
        Of the layers.
    pixels
        Along each side, at most.
    """

    def __init__(
        self,
        variable: Variable,
        at: Mapping[str, int],
        names: tuple[str, ...],
        pixels: int = PIXELS,
    ) -> None:
        self.variable, self.at = variable, at
        self.shape = tuple(
            n for d, n in zip(variable.dims, variable.shape, strict=True) if d not in at
        )
        self._cells = tuple(-(-n // pixels) for n in self.shape)  # of a pixel, along each side
        drawn = tuple(-(-n // c) for n, c in zip(self.shape, self._cells, strict=True))
        self.layers = {name: np.full(drawn, np.nan) for name in names}
        self._ranks = np.full(drawn, -np.inf)

    def wants(self, index: Index) -> bool:
        """Tell whether a chunk has a cell that is drawn."""
        cells = zip(self.variable.dims, self.variable.grid.cells(index), strict=True)
        return all(s.start <= self.at.get(d, s.start) < s.stop for d, s in cells)

    def add(self, index: Index, rank: Floats, layers: Mapping[str, Floats]) -> None:
        """Add a chunk, as :meth:`thinned` takes it."""
        self.put(self.thinned(index, rank, layers))

    def thinned(self, index: Index, rank: Floats, layers: Mapping[str, Floats]) -> Thinned:
        """Return a chunk as it may be put; of the cells of a pixel, that with the highest rank.

        Parameters
        ----------
        rank
            In the shape of the chunk; infinite is the highest, NaN the lowest.
        layers
            By name, in the shape of the chunk; those that are left out stay NaN.
        """
        named = list(zip(self.variable.dims, self.variable.grid.cells(index), strict=True))
        cut = tuple(self.at[d] - s.start if d in self.at else slice(None) for d, s in named)
        places = [
            np.arange(s.start, s.stop) // cells
            for (_, s), cells in zip(
                [(d, s) for d, s in named if d not in self.at], self._cells, strict=True
            )
        ]
        pixels = np.ravel_multi_index(tuple(np.meshgrid(*places, indexing="ij")), self._ranks.shape)
        ranks = np.nan_to_num(rank[cut], nan=-1.0, posinf=np.inf).ravel()
        # Of repeated indices NumPy keeps the last assignment: the highest rank.
        order = np.argsort(ranks, kind="stable")
        best = np.full(self._ranks.size, -1)
        best[pixels.ravel()[order]] = order
        there = np.flatnonzero(best >= 0)
        cells = best[there]
        values = {name: np.asarray(layer[cut]).ravel()[cells] for name, layer in layers.items()}
        return Thinned(there, ranks[cells], values)

    def put(self, chunk: Thinned) -> None:
        """Fill pixels with a chunk, where no other had a cell of its rank or a higher one."""
        higher = chunk.ranks > self._ranks.ravel()[chunk.pixels]
        there = chunk.pixels[higher]
        self._ranks.reshape(-1)[there] = chunk.ranks[higher]
        for name, values in chunk.layers.items():
            self.layers[name].reshape(-1)[there] = values[higher]


def is_drawable(variable: Variable) -> bool:
    """Tell whether a variable has numbers, and a dimension to draw them along."""
    return bool(variable.dims) and variable.numpy_dtype.kind in "biuf"


def difference_field(
    first: State,
    second: State,
    variable: Variable,
    difference: Difference,
    coordinates: Mapping[str, xr.Variable],
    *,
    pixels: int = PIXELS,
    mapper: Mapper = serial,
) -> Field:
    """Return first, second, their difference and, of estimates, error and provenance.

    Parameters
    ----------
    difference
        How they differ: of more than two dimensions the slice with the largest difference is drawn.
    coordinates
        Fixed variables of the dataset.

    Raises
    ------
    InvalidInput
        The variable has no dimensions, or no numbers.
    Integrity
        A chunk that is needed is damaged in the repository.
    """
    lows = {d: low for d, (low, _) in difference.where.items()}
    names = [first.told, second.told, f"{second.told} minus {first.told}"]
    is_estimated = any(isinstance(s, Planned) or _is_estimated(s) for s in (first, second))
    names += MARKS if is_estimated else ()
    at = _others(variable, difference.peak or lows)
    canvas = Canvas(variable, at, tuple(names), pixels)

    def thinned(part: Part) -> list[Thinned]:
        chosen = pairs(part, first, second, variable, wanted=canvas.wants, every=True)
        return [_thinned_pair(canvas, names, pair) for pair in chosen]

    # Put in the order of the chunks: of equal ranks, the first is kept.
    for chunk in chain.from_iterable(mapper(thinned, [*parts(first, second, variable)])):
        canvas.put(chunk)
    return _field(canvas, coordinates)


def _thinned_pair(canvas: Canvas, names: Sequence[str], pair: Pair) -> Thinned:
    values = pair.first.values, pair.second.values
    with np.errstate(over="ignore", invalid="ignore"):
        change = values[1] - values[0]
    rank = np.abs(change)
    # A value that only one of them has is more of a difference than any number.
    rank[np.isnan(values[0]) != np.isnan(values[1])] = np.inf
    layers = dict(zip(names, (*values, change), strict=False))
    if pair.error is not None:
        marked = pair.second if pair.second.error is not None else pair.first
        layers |= _marks(marked, pair.error)
    return canvas.thinned(pair.index, rank, layers)


def state_field(
    state: Kept,
    variable: Variable,
    coordinates: Mapping[str, xr.Variable],
    *,
    selection: Selection = EVERYTHING,
    pixels: int = PIXELS,
    mapper: Mapper = serial,
) -> Field:
    """Return values and, of estimates, standard error and provenance of a state.

    Of more than two dimensions the slice with the least sure cell is drawn; raises as
    :func:`difference_field`.

    Parameters
    ----------
    selection
        Only chunks with a selected cell are read and drawn.
    """
    check_drawable(variable)
    touched = selection.touched(variable)
    at = _others(variable, _least_sure(state, variable, touched))
    names = (state.told, *(MARKS if _is_estimated(state) else ()))
    canvas = Canvas(variable, at, names, pixels)

    def thinned(index: Index) -> Thinned:
        chunk = state.chunk(variable, index)
        rank = np.zeros(chunk.values.shape) if chunk.error is None else chunk.error
        marks = {} if chunk.error is None else _marks(chunk, chunk.error)
        return canvas.thinned(index, rank, {state.told: chunk.values} | marks)

    for drawn in mapper(thinned, [*filter(canvas.wants, touched)]):
        canvas.put(drawn)
    return _field(canvas, coordinates)


def _is_estimated(state: State) -> bool:
    return isinstance(state, Kept) and state.captured is None


def _marks(chunk: Chunk, error: Floats) -> dict[str, Floats]:
    """Return standard errors and provenance of the cells that are estimates, NaN elsewhere."""
    assert chunk.provenance is not None
    values = (
        np.where(error > 0, error, np.nan),
        np.where(chunk.provenance > 0, chunk.provenance, np.nan),
    )
    return dict(zip(MARKS, values, strict=True))


def _least_sure(state: Kept, variable: Variable, touched: Collection[Index]) -> dict[str, int]:
    """Return the position of the cell with the largest standard error, among some chunks."""
    if len(variable.dims) <= 2 or not touched:
        return {}
    largest = -1.0
    place = [s.start for s in variable.grid.cells(min(touched))]
    for index in touched if _is_estimated(state) else ():
        error = state.chunk(variable, index).error
        if error is None or not (error > largest).any():
            continue
        largest = float(np.nanmax(error))
        local = np.unravel_index(int(np.nanargmax(error)), error.shape)
        cells = variable.grid.cells(index)
        place = [s.start + int(k) for s, k in zip(cells, local, strict=True)]
    return dict(zip(variable.dims, place, strict=True))


def check_drawable(variable: Variable) -> None:
    """Raise InvalidInput if there is nothing to draw of a variable."""
    if is_drawable(variable):
        return
    reason = f"values of type {variable.dtype}" if variable.dims else "no dimensions"
    raise InvalidInput(
        f"{variable.name} has {reason}, so there is nothing to draw; name another variable with "
        "--variable, or leave the picture out"
    )


def _others(variable: Variable, place: Mapping[str, int]) -> dict[str, int]:
    """Return positions along all dimensions but the last two, which are drawn."""
    check_drawable(variable)
    return {d: place.get(d, 0) for d in variable.dims[:-2]}


def _field(canvas: Canvas, coordinates: Mapping[str, xr.Variable]) -> Field:
    variable = canvas.variable
    dims = tuple(d for d in variable.dims if d not in canvas.at)
    layers = canvas.layers
    if all(np.isnan(layers[name]).all() for name in MARKS if name in layers):
        layers = {name: values for name, values in layers.items() if name not in MARKS}
    return Field(
        variable.name,
        str(variable.attributes.get("units", "")),
        dims,
        canvas.shape,
        dict(canvas.at),
        layers,
        len(dims) == 2 and _falls(coordinates.get(dims[0])),
    )


def _falls(coordinate: xr.Variable | None) -> bool:
    if coordinate is None or coordinate.ndim != 1 or coordinate.dtype.kind not in "iuf":
        return False
    values = np.asarray(coordinate.values, np.float64)
    return values.size > 1 and bool(values[0] > values[-1])
