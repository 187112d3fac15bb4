"""Heal: estimate the suspect chunks of a capture from its intact ones and the forecast.

The intact cells say how the capture departs from the forecast; that departure is in-painted into
the damaged cells and added to the forecast there.  Intact cells stay as they were captured.
"""

from collections.abc import Collection
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from gnomon.storage.captures import CaptureStack
from gnomon.storage.grid import Index
from gnomon.storage.model import SUSPECT, Shadow, Variable
from gnomon.storage.repository import Repository
from gnomon.storage.shadows import ShadowStack
from gnomon.storage.times import SECOND
from gnomon.storage.view import PROVENANCE, Patch
from gnomon.tasks.cadence import distinct_slots
from gnomon.tasks.expectation import cadence_of, specification_of
from gnomon.tasks.forecasting import Specification
from gnomon.tasks.inpainting import inpaint
from gnomon.tasks.past import Record, changes, past_departures
from gnomon.tasks.trusted import trusted_values

__all__ = ["Healed", "Odds", "heal"]

WHOLE_CELLS = 2**22
"""A field up to this size is healed as a whole; of a larger one, the surroundings are used."""
MARGIN = 2
"""Chunks around a damaged one that are its surroundings."""
HISTORY_BYTES = 2**28
HISTORY_STEPS = 72
"""Past captures that departures are found from, at most."""
LOG_SPREAD = 0.55
"""Standard deviation of log RMSE over expected RMSE where nothing could be hidden to find it: that
of forecasts of single chunks, .44 to .78 on three records while this was developed, .28 to .53 by
`benchmarks/heal.py` on OSTIA."""
LONGEST_UNSEEN = 1 / 3
"""Share of the past captures that a chunk may have been unknown for when the forecast was made; for
longer the past does not tell how good its estimate is, and the forecast stands."""
LEAST_SPREAD = 0.05
"""No chunk's RMSE is known better than so: trials may agree by chance."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Healed:
    """The estimated chunks of one capture."""

    patches: dict[tuple[str, Index], Patch]
    """By variable and chunk index."""
    expected_error: dict[str, float]
    """Per healed variable: expected RMSE over the estimated cells."""
    confidence: float
    """Expected share of the estimated chunks within tolerance, the least of the variables."""
    estimated_share: float
    """Estimated chunks over all chunks of their variables."""


def heal(
    repository: Repository, step: int, shadow: Shadow, lead: int, chunks: dict[str, list[Index]]
) -> Healed:
    """Estimate chunks of a captured step.

    Parameters
    ----------
    shadow, lead
        The forecast of the same time, made before it.
    chunks
        What to estimate, by variable.

    Raises
    ------
    Integrity
        A chunk that is needed is damaged in the repository.
    """
    patches: dict[tuple[str, Index], Patch] = {}
    errors: dict[str, float] = {}
    confidences = []
    for name, indices in chunks.items():
        variable = repository.settings.variable(name)
        captures = repository.captures(name)
        if name not in shadow.variables:
            patches |= {(name, index): _missing(captures, index) for index in indices}
            continue
        predicted = repository.shadow(name, shadow, captures)
        tolerance = float(shadow.variables[name]["tolerance"])
        chances: list[float] = []
        for group in _groups(variable, indices):
            region = _Region(variable, group)
            healed, odds = region.heal(repository, captures, predicted, step, lead)
            patches |= healed
            errors_of = (patch.standard_error for patch in healed.values())
            chances += [odds.within(error, tolerance) for error in errors_of]
        squares = [patches[name, index].standard_error ** 2 for index in indices]
        pooled = np.concatenate([s[np.isfinite(s)].ravel() for s in squares])
        errors[name] = float(np.sqrt(pooled.mean())) if pooled.size else 0.0
        confidences.append(float(np.mean(chances)))
    every = sum(repository.settings.variable(name).grid.size for name in chunks)
    return Healed(patches, errors, min(confidences, default=0.0), len(patches) / max(1, every))


@dataclass(frozen=True, slots=True)
class Odds:
    """How far the RMSE of an estimated chunk may be from the one that is expected."""

    location: float = -(LOG_SPREAD**2)
    """Mean logarithm of their ratio; the default makes the expected one the root mean square."""
    spread: float = LOG_SPREAD
    """Standard deviation of that logarithm."""

    def within(self, standard_error: Floats, tolerance: float) -> float:
        """Return the probability that the RMSE of an estimated chunk is within the tolerance.

        Parameters
        ----------
        standard_error
            Of the cells; NaN where masked, or where there is no estimate.
        tolerance
            In the same units.
        """
        known = standard_error[np.isfinite(standard_error)]
        if not known.size:
            return 1.0
        expected = float(np.sqrt(np.mean(known**2)))
        if expected == 0.0 or tolerance == 0.0:
            return float(expected <= tolerance)
        margin = np.log(tolerance / expected) - self.location
        return float(norm.cdf(margin / max(self.spread, LEAST_SPREAD)))


def _missing(captures: CaptureStack, index: Index) -> Patch:
    """Return a chunk of which nothing is known: a variable that is captured but not forecast."""
    shape = tuple(s.stop - s.start for s in captures.variable.grid.cells(index))
    nothing = np.full(shape, np.nan)
    return Patch(nothing, nothing, np.full(shape, PROVENANCE["missing"], np.uint8))


def _groups(variable: Variable, indices: list[Index]) -> list[list[Index]]:
    """Return chunks that are healed together: all of a small field, single ones of a large."""
    if int(np.prod(variable.shape)) <= WHOLE_CELLS:
        return [indices]
    return [[index] for index in indices]


@dataclass(frozen=True, slots=True)
class _Past:
    """The captures of a region before the one that is healed."""

    record: Record
    """Chunk by chunk."""
    instants: NDArray[np.int64]
    """Of its captures."""
    order: NDArray[np.intp]
    """(N,) number of each of its cells in the field."""
    specification: Specification | None
    """How the variable is forecast; None if that cannot be told."""


class _Region:
    """A box of chunks around damage, with its fields as plain arrays."""

    def __init__(self, variable: Variable, damaged: list[Index]) -> None:
        grid = variable.grid
        whole = int(np.prod(variable.shape)) <= WHOLE_CELLS
        corners = np.array(damaged).reshape(len(damaged), -1)
        low = np.zeros(len(grid.counts), int) if whole else corners.min(axis=0) - MARGIN
        high = np.array(grid.counts) if whole else corners.max(axis=0) + MARGIN + 1
        low, high = np.maximum(low, 0), np.minimum(high, grid.counts)
        self.variable = variable
        self.damaged = damaged
        self.indices = [
            index
            for index in grid.indices()
            if all(a <= i < b for a, i, b in zip(low, index, high, strict=True))
        ]
        self.start = [int(a) * c for a, c in zip(low, grid.chunks, strict=True)]
        self.shape = tuple(
            min(int(b) * c, n) - a
            for a, b, c, n in zip(self.start, high, grid.chunks, grid.shape, strict=True)
        )
        complete = [a == n for a, n in zip(self.shape, grid.shape, strict=True)]
        self.cyclic = tuple(c and w for c, w in zip(variable.cyclic, complete, strict=True))

    def _cells(self, index: Index) -> tuple[slice, ...]:
        cells = self.variable.grid.cells(index)
        return tuple(slice(s.start - a, s.stop - a) for s, a in zip(cells, self.start, strict=True))

    def _captured(
        self, captures: CaptureStack, step: int, *, without: Collection[Index] = ()
    ) -> Floats:
        """Return a captured field, NaN where a chunk is not trusted, or to be left out."""
        field = np.full(self.shape, np.nan)
        for index in self.indices:
            if index in without:
                continue
            values = trusted_values(captures, step, index)
            if values is not None:
                field[self._cells(index)] = values
        return np.where(np.isfinite(field), field, np.nan)

    def heal(
        self,
        repository: Repository,
        captures: CaptureStack,
        predicted: ShadowStack,
        step: int,
        lead: int,
    ) -> tuple[dict[tuple[str, Index], Patch], Odds]:
        """Return the estimated chunks, and how far their errors may be from the expected ones."""
        mean, error = np.full(self.shape, np.nan), np.full(self.shape, np.nan)
        status = captures.status(step)
        for index in self.indices:
            mean[self._cells(index)], error[self._cells(index)] = predicted.chunk(lead, index)
        hole = np.zeros(self.shape, bool)
        for index in self.damaged:
            hole[self._cells(index)] = True
        others = [i for i in self.indices if status[i] == SUSPECT and i not in self.damaged]
        departure = self._captured(captures, step, without=self.damaged) - mean
        for index in others:
            departure[self._cells(index)] = np.nan
        name = self.variable.name
        values, errors, odds = mean, error, Odds()
        estimated = np.zeros(self.shape, bool)
        if not self.variable.categorical and self.variable.dims:
            past = self._past(repository, captures, step)
            unseen = self._unseen(past, predicted.shadow.reference)
            inpainted = inpaint(
                departure,
                error,
                hole,
                cyclic=self.cyclic,
                history=self._history(past, lead, unseen),
                unseen=self._field(unseen > 0),
            )
            lost = self._field(unseen > self._longest(past))
            estimated |= (inpainted.weight > 0) & ~lost
            values = np.where(lost, mean, mean + np.nan_to_num(inpainted.departure))
            errors = np.where(lost, error, inpainted.standard_error)
            if np.isfinite(inpainted.log_spread):
                odds = Odds(inpainted.log_location, inpainted.log_spread)
        values = np.clip(values, *self.variable.bounds())
        patches = {}
        for index in self.damaged:
            cells = self._cells(index)
            source = "estimated_from_intact_neighbours" if estimated[cells].any() else "forecast"
            known = np.isfinite(values[cells])
            flags = np.where(known, PROVENANCE[source], PROVENANCE["missing"]).astype(np.uint8)
            patches[name, index] = Patch(values[cells], errors[cells], flags)
        return patches, odds

    def _field(self, chunkwise: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return what is said of chunks, in the order of `indices`, of their cells."""
        field = np.zeros(self.shape, bool)
        for index, value in zip(self.indices, chunkwise, strict=True):
            field[self._cells(index)] = value
        return field

    def _past(self, repository: Repository, captures: CaptureStack, step: int) -> _Past | None:
        """Return the captures before, one per slot, chunk by chunk as the forecaster has them."""
        cadence = cadence_of(repository, self.variable.name)
        count = min(HISTORY_STEPS, HISTORY_BYTES // (8 * prod(self.shape)))
        steps = repository.state.before(repository.captured[step].instant, count)
        if not steps:
            return None
        instants = np.array([repository.captured[s].instant for s in steps], np.int64)
        slots = np.arange(len(steps))
        if cadence is not None:
            chosen = distinct_slots(cadence, instants)
            steps, instants = [steps[k] for k in chosen], instants[chosen]
            slots = np.array([cadence.slot(int(i)) for i in instants])
        numbers = np.arange(prod(self.shape)).reshape(self.shape)
        parts = [numbers[self._cells(index)].ravel() for index in self.indices]
        order = np.concatenate(parts)
        values = np.stack([self._captured(captures, s).ravel()[order] for s in steps])
        starts = np.cumsum([0, *(part.size for part in parts)])
        record = Record(slots, instants / SECOND, values, starts)
        # Both stand in the log: damage to what was learnt changes nothing here.
        return _Past(record, instants, order, specification_of(repository, self.variable.name))

    def _unseen(self, past: _Past | None, reference: int) -> NDArray[np.int64]:
        """Return for how many slots before a forecast each chunk was unknown; 0 of one never known.

        A chunk that is damaged in one capture after another is forecast from the last good one.
        """
        if past is None:
            return np.zeros(len(self.indices), np.int64)
        record = past.record
        before = past.instants <= reference
        known = np.logical_or.reduceat(np.isfinite(record.values), record.starts[:-1], axis=1)
        slots = np.where(known & before[:, None], record.slots[:, None], np.iinfo(np.int64).min)
        last, newest = slots.max(axis=0), record.slots[before].max(initial=record.slots[0])
        return np.asarray(np.where(last < record.slots[0], 0, newest - last), np.int64)

    @staticmethod
    def _longest(past: _Past | None) -> int:
        """Return the slots that a chunk may have been unknown for if its estimate is to count."""
        return 0 if past is None else int(LONGEST_UNSEEN * len(past.record.slots))

    def _history(self, past: _Past | None, lead: int, unseen: NDArray[np.int64]) -> Floats | None:
        """Return past departures (D, *dims), as they would have been at the same lead.

        What the forecast did not know of a chunk, those of the past do not either.
        """
        hidden = np.where(unseen > self._longest(past), 0, unseen)
        if past is None or len(past.record.slots) <= lead + 1 + hidden.max(initial=0):
            return None
        record = past.record
        if past.specification is None:
            departures = changes(record, lead, hidden)
        else:
            departures = past_departures(past.specification, record, lead, hidden)
        history = np.full((len(departures), past.order.size), np.nan)
        history[:, past.order] = departures
        return history.reshape(-1, *self.shape)
