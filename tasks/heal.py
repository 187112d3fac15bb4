"""Heal: estimate the suspect chunks of a capture from its intact ones and the forecast.

The intact cells say how the capture departs from the forecast; that departure is in-painted into
the damaged cells and added to the forecast there.  Intact cells stay as they were captured.
"""

from dataclasses import dataclass

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
from gnomon.tasks.expectation import specification_of
from gnomon.tasks.forecasting import Specification
from gnomon.tasks.forecasting.climatology import features as regressors
from gnomon.tasks.inpainting import inpaint
from gnomon.tasks.trusted import trusted_values

__all__ = ["Healed", "chance_within", "heal"]

WHOLE_CELLS = 2**22
"""A field up to this size is healed as a whole; of a larger one, the surroundings are used."""
MARGIN = 2
"""Chunks around a damaged one that are its surroundings."""
HISTORY_BYTES = 2**28
HISTORY_STEPS = 48
"""Past captures from which spatial patterns are learnt, at most."""
LOG_SPREAD = 0.35
"""Standard deviation of log RMSE over expected RMSE, where nothing better is known."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Healed:
    """The estimated chunks of one capture."""

    patches: dict[tuple[str, Index], Patch]
    """By variable and chunk index."""
    expected_error: dict[str, float]
    """Per healed variable: expected RMSE over the estimated cells."""
    confidence: float
    """Expected share of all chunks, intact ones included, that are within tolerance."""


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
    shares = []
    for name, indices in chunks.items():
        variable = repository.settings.variable(name)
        captures = repository.captures(name)
        if name not in shadow.variables:
            patches |= {(name, index): _missing(captures, index) for index in indices}
            continue
        predicted = repository.shadow(name, shadow, captures)
        for group in _groups(variable, indices):
            region = _Region(variable, group)
            patches |= region.heal(repository, captures, predicted, step, lead)
        squares = [patches[name, index].standard_error ** 2 for index in indices]
        pooled = np.concatenate([s[np.isfinite(s)].ravel() for s in squares])
        errors[name] = float(np.sqrt(pooled.mean())) if pooled.size else 0.0
        tolerance = float(shadow.variables[name]["tolerance"])
        chances = [chance_within(s, tolerance) for s in squares]
        shares.append(1 - (len(indices) - sum(chances)) / variable.grid.size)
    return Healed(patches, errors, float(min(shares, default=0.0)))


def chance_within(squares: Floats, tolerance: float) -> float:
    """Return the probability that the RMSE of an estimated chunk is within the tolerance.

    Parameters
    ----------
    squares
        Squared standard errors of the cells; NaN where masked.
    tolerance
        In the units of the standard errors.
    """
    known = squares[np.isfinite(squares)]
    if not known.size:
        return 1.0
    expected = float(np.sqrt(known.mean()))
    if expected == 0.0 or tolerance == 0.0:
        return float(expected <= tolerance)
    return float(norm.cdf(np.log(tolerance / expected) / LOG_SPREAD))


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

    def _captured(self, captures: CaptureStack, step: int) -> Floats:
        """Return a captured field, NaN where a chunk is not trusted."""
        field = np.full(self.shape, np.nan)
        for index in self.indices:
            if index in self.damaged:
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
    ) -> dict[tuple[str, Index], Patch]:
        mean, error = np.full(self.shape, np.nan), np.full(self.shape, np.nan)
        status = captures.status(step)
        for index in self.indices:
            mean[self._cells(index)], error[self._cells(index)] = predicted.chunk(lead, index)
        hole = np.zeros(self.shape, bool)
        for index in self.damaged:
            hole[self._cells(index)] = True
        others = [i for i in self.indices if status[i] == SUSPECT and i not in self.damaged]
        departure = self._captured(captures, step) - mean
        for index in others:
            departure[self._cells(index)] = np.nan
        name = self.variable.name
        if self.variable.categorical or not self.variable.dims:
            values, errors, weight = mean, error, 0.0
        else:
            history = self._history(repository, captures, step)
            found = inpaint(departure, error, hole, cyclic=self.cyclic, history=history)
            values = mean + np.nan_to_num(found.departure)
            errors, weight = found.standard_error, found.weight
        values = np.clip(values, *self.variable.bounds())
        source = "estimated_from_intact_neighbours" if weight > 0 else "forecast"
        patches = {}
        for index in self.damaged:
            cells = self._cells(index)
            known = np.isfinite(values[cells])
            flags = np.where(known, PROVENANCE[source], PROVENANCE["missing"]).astype(np.uint8)
            patches[name, index] = Patch(values[cells], errors[cells], flags)
        return patches

    def _history(self, repository: Repository, captures: CaptureStack, step: int) -> Floats | None:
        """Return past anomalies (step, *dims): captures without their seasonal cycle."""
        specification = specification_of(repository, self.variable.name)
        size = 8 * int(np.prod(self.shape))
        count = min(HISTORY_STEPS, HISTORY_BYTES // size)
        steps = repository.state.before(repository.captured[step].instant, count)
        if specification is None or len(steps) < 3:
            return None
        fields = np.stack([self._captured(captures, s) for s in steps])
        times_s = np.array([repository.captured[s].instant for s in steps]) / SECOND
        return _anomalies(fields, times_s, specification)


def _anomalies(fields: Floats, times_s: Floats, spec: Specification) -> Floats:
    design = regressors(spec, times_s)
    if design.shape[0] < 3 * design.shape[1]:
        design = np.ones((times_s.size, 1))
    flat = fields.reshape(len(fields), -1)
    mean = np.nanmean(np.where(np.isfinite(flat).any(axis=0), flat, 0.0), axis=0)
    filled = np.where(np.isfinite(flat), flat, mean)
    coefficients, *_ = np.linalg.lstsq(design, filled, rcond=None)
    return np.asarray((flat - design @ coefficients).reshape(fields.shape))
