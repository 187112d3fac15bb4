"""What the past of a variable says of its simulation: read from a repository, then plain arrays.

Nothing is read that was captured after the forecast was made, and nothing of a later time.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from math import prod

import numpy as np
from numpy.typing import NDArray

from gnomon.storage.errors import NotFound
from gnomon.storage.log.steps import Shadow
from gnomon.storage.repository import Repository
from gnomon.storage.stacks.captures import CaptureStack
from gnomon.storage.values.grid import Index
from gnomon.storage.values.model import Variable
from gnomon.storage.values.times import SECOND
from gnomon.tasks.forecasting import Specification, usable
from gnomon.tasks.healing.past import PastCaptures
from gnomon.tasks.learning.cadence import Cadence, distinct_slots
from gnomon.tasks.learning.refit import window_length
from gnomon.tasks.learning.trusted import trusted_values
from gnomon.tasks.simulating.covariance import Box
from gnomon.tasks.simulating.departing import (
    PastFields,
    blend_weights,
    changes,
    depart,
    place_origins,
)

__all__ = ["History", "boxes_of"]

Floats = NDArray[np.float64]
Cells = tuple[slice, ...]

MOST_CELLS = 2**13
"""Cells that a covariance is learnt from; of a larger field those of a few boxes."""
BOXES = 4
"""Boxes of a large field, spread over it."""
SAMPLE_CELLS = 1024
"""Cells that the modes and the candidates' weights are found on, as at a refit."""
LEAST_ORIGINS = 3
"""Departures below which changes between captures stand for them."""


def boxes_of(variable: Variable) -> list[Cells]:
    """Return the boxes of cells that a variable is learnt from; the same of one grid."""
    shape = variable.shape
    if prod(shape) <= MOST_CELLS:
        return [tuple(slice(0, size) for size in shape)]
    side = int((MOST_CELLS / BOXES) ** (1.0 / len(shape)))
    sizes = [min(size, side) for size in shape]
    # Each axis in another order, so that boxes are neither in a row nor in a corner.
    orders = [np.roll(np.arange(BOXES), axis) for axis in range(len(shape))]
    return [
        tuple(
            slice(start, start + n)
            for size, n, order in zip(shape, sizes, orders, strict=True)
            for start in [int((size - n) * (order[k] + 0.5) / BOXES)]
        )
        for k in range(BOXES)
    ]


@dataclass(frozen=True, slots=True)
class History:
    """The captures of a variable that a shadow knew, and how it was forecast."""

    captures: CaptureStack
    steps: tuple[int, ...]
    """Captures, one per slot, in order."""
    slots: NDArray[np.int64]
    """(T,) cadence indices."""
    times_s: Floats
    """(T,) valid times."""
    leads: int
    specification: Specification | None
    """With the built-in candidates alone: which cells are missed together hardly depends on who
    predicts. None where it is of an older form."""

    @classmethod
    def of(cls, repository: Repository, shadow: Shadow, name: str) -> "History":
        """Return the history of a variable up to the reference time of a shadow.

        Raises
        ------
        NotFound
            All of its captures were forgotten.
        """
        variable = repository.settings.variable(name)
        learnt, captured = shadow.learnt[name], repository.captured
        cadence = Cadence.from_json(dict(learnt.cadence))
        count = window_length(max(1, prod(variable.chunks)))
        steps = [
            step
            for step in repository.state.before(shadow.reference + 1, count)
            if captured[step].sequence <= shadow.sequence and step >= variable.since
        ]
        if not steps:
            raise NotFound(
                f"no capture of {name!r} is kept that its forecast was learnt from, and so "
                "nothing says how it varies; run 'gnomon update --refit' once there are others"
            )
        instants = np.array([captured[step].instant for step in steps], np.int64)
        chosen = distinct_slots(cadence, instants)
        steps, instants = [steps[k] for k in chosen], instants[chosen]
        specification = None
        if Specification.is_current(learnt.specification) and not variable.categorical:
            specification = Specification.from_json(learnt.specification)
            specification = replace(specification.plain(), lags=0)
        return cls(
            repository.captures(name),
            tuple(steps),
            np.array([cadence.slot(int(i)) for i in instants], np.int64),
            instants / SECOND,
            len(shadow.instants),
            specification,
        )

    @property
    def variable(self) -> Variable:
        """The variable."""
        return self.captures.variable

    def record(self, parts: list[Cells]) -> PastCaptures:
        """Return the captures of some boxes of cells, each as if it were a chunk."""
        values = np.stack(
            [
                np.concatenate([self._read(step, cells).ravel() for cells in parts])
                for step in self.steps
            ]
        )
        sizes = [prod(s.stop - s.start for s in cells) for cells in parts]
        starts = np.cumsum([0, *sizes]).astype(np.int64)
        return PastCaptures(self.slots, self.times_s, values, starts)

    def _read(self, step: int, cells: Cells) -> Floats:
        """Return captured cells, NaN where missing or not trusted."""
        field = np.full(tuple(s.stop - s.start for s in cells), np.nan)
        for index, inside, outside in _overlaps(self.variable, cells):
            values = trusted_values(self.captures, step, index)
            if values is not None:
                field[outside] = usable(values[inside])
        return field

    def learn(self, parts: list[Cells]) -> "Past":
        """Return the past departures of some boxes, and what those of other cells are found by."""
        record = self.record(parts)
        spec = self.specification
        origins = np.empty(0, np.int64) if spec is None else place_origins(spec, record)
        if spec is None or len(origins) < LEAST_ORIGINS:
            fields = changes(record, self.leads, labels=self.variable.categorical)
            return Past(self, _boxes(self.variable, parts, record, fields), None, origins, None)
        count = record.values.shape[1]
        sampled = np.unique(np.linspace(0, count - 1, min(count, SAMPLE_CELLS)).astype(np.intp))
        sample = replace(
            record, values=record.values[:, sampled], starts=np.array([0, len(sampled)], np.int64)
        )
        weights = blend_weights(spec, sample, origins)
        fields = depart(spec, record, origins, weights, sampled)
        return Past(self, _boxes(self.variable, parts, record, fields), sample, origins, weights)


@dataclass(frozen=True, slots=True)
class Past:
    """The past departures of a variable in some boxes, and what those of others are found by."""

    history: History
    boxes: tuple[Box, ...]
    sample: PastCaptures | None
    """Captures of the sample of cells; None where changes stand for departures."""
    origins: NDArray[np.int64]
    weights: Floats | None
    """(H, C) of the candidates."""

    @property
    def count(self) -> int:
        """Number of past departures; 0 where changes stand for them."""
        return 0 if self.sample is None else len(self.boxes[0].past.slots)

    @property
    def chunk_bytes(self) -> int:
        """Bytes of the past departures of a chunk; 0 where those of all cells are held anyway."""
        history, variable = self.history, self.history.variable
        if self.boxes[0].shape == variable.shape:
            return 0
        return 4 * len(self.boxes[0].past.slots) * history.leads * prod(variable.chunks)

    def of_chunk(self, index: Index) -> PastFields:
        """Return the past departures of a chunk, its cells in C order."""
        history, variable = self.history, self.history.variable
        cells = variable.grid.cells(index)
        if self.boxes[0].shape == variable.shape:  # all of it is known
            numbers = np.arange(prod(variable.shape)).reshape(variable.shape)
            return self.boxes[0].past.take(numbers[cells].ravel())
        record = history.record([cells])
        if self.sample is None or self.weights is None or history.specification is None:
            return changes(record, history.leads, labels=variable.categorical)
        # The sample goes along, or modes would depend on the chunk.
        count, more = record.values.shape[1], self.sample.values.shape[1]
        together = replace(
            record,
            values=np.concatenate([record.values, self.sample.values], axis=1),
            starts=np.append(record.starts, count + more),
        )
        sampled = count + np.arange(more)
        fields = depart(history.specification, together, self.origins, self.weights, sampled)
        return fields.take(slice(0, count))


def _boxes(
    variable: Variable, parts: list[Cells], record: PastCaptures, fields: PastFields
) -> tuple[Box, ...]:
    boxes = []
    for number, cells in enumerate(parts):
        shape = tuple(s.stop - s.start for s in cells)
        cyclic = tuple(
            wraps and size == whole
            for wraps, size, whole in zip(variable.cyclic, shape, variable.shape, strict=True)
        )
        boxes.append(Box(shape, cyclic, fields.take(record.cells(number))))
    return tuple(boxes)


def _overlaps(variable: Variable, cells: Cells) -> Iterator[tuple[Index, Cells, Cells]]:
    """Yield the chunks that cover some cells: index, and the common cells in both."""
    near = [
        range(s.start // size, -(-s.stop // size))
        for s, size in zip(cells, variable.chunks, strict=True)
    ]
    for index in product(*near):
        axes = list(zip(variable.grid.cells(index), cells, strict=True))
        common = [(max(a.start, b.start), min(a.stop, b.stop)) for a, b in axes]
        pairs = list(zip(common, axes, strict=True))
        inside = tuple(slice(lo - a.start, hi - a.start) for (lo, hi), (a, _) in pairs)
        outside = tuple(slice(lo - b.start, hi - b.start) for (lo, hi), (_, b) in pairs)
        yield index, inside, outside
