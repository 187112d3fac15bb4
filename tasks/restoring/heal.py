"""Heal: estimate the suspect chunks of a capture from its intact ones and the forecast.

The intact cells say how the capture departs from the forecast; that departure is in-painted into
the damaged cells and added to the forecast there.  Intact cells stay as they were captured.
"""

from dataclasses import dataclass
from math import isfinite, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy import special

from gnomon.storage.log.steps import Shadow
from gnomon.storage.repository import Repository
from gnomon.storage.serve.planes import PROVENANCE, EstimatedChunk
from gnomon.storage.stacks.captures import CaptureStack
from gnomon.storage.stacks.shadows import ShadowStack
from gnomon.storage.values.grid import Index
from gnomon.storage.values.model import Variable
from gnomon.tasks.forecasting import Specification
from gnomon.tasks.forecasting.specification import clip
from gnomon.tasks.healing.inpainting import inpaint
from gnomon.tasks.healing.past import changes, past_departures
from gnomon.tasks.learning.expectation import specification_of
from gnomon.tasks.learning.trusted import SEARCH, last_trusted
from gnomon.tasks.restoring.region import Past, Region, regions

__all__ = ["Healed", "Odds", "heal"]

LOG_SPREAD = 0.55
"""Standard deviation of log RMSE over expected RMSE where nothing could be hidden to find it: that
of forecasts of single chunks, .44 to .78 on three records while this was developed, .28 to .53 by
`benchmarks/heal.py` on OSTIA."""
LEAST_SPREAD = 0.05
"""No chunk's RMSE is known better than so: trials may agree by chance."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Healed:
    """The estimated chunks of one variable in one capture."""

    patches: dict[Index, EstimatedChunk]
    """By chunk index."""
    expected_error: float | None
    """Expected RMSE over the estimated cells, variable's units; None if nothing is estimated that
    should be."""
    confidence: float | None
    """Expected share of the chunks within tolerance; one of which nothing is estimated is not, and
    one that never had values does not count.  None as the error is."""


def heal(
    repository: Repository,
    step: int,
    shadow: Shadow,
    lead: int,
    name: str,
    indices: list[Index],
) -> Healed:
    """Return estimates of chunks of a variable in a captured step.

    Each is float64 in the shape of the chunk and the variable's units, with standard error and
    provenance; NaN where nothing could be estimated, such as on land.

    Parameters
    ----------
    shadow, lead
        The forecast of the same time, made before it.
    indices
        What to estimate.

    Raises
    ------
    Integrity
        A chunk that is needed is damaged in the repository.
    """
    variable = repository.settings.variable(name)
    captures = repository.captures(name)
    if name not in shadow.variables:
        return Healed({index: _missing(variable, index) for index in indices}, None, None)
    predicted = repository.shadow(name, shadow, captures)
    estimates: dict[Index, _Estimate] = {}
    for region in regions(variable, indices):
        estimates |= _estimate(repository, region, predicted, step, lead)
    before = repository.state.before(repository.captured[step].instant, SEARCH)
    squares, chances, cells = 0.0, [], 0
    for index, estimate in estimates.items():
        if isfinite(estimate.expected):
            count = int(np.isfinite(estimate.patch.standard_error).sum())
            squares, cells = squares + count * estimate.expected**2, cells + count
            chances.append(estimate.chance)
        elif not _is_empty(captures, index, before):
            chances.append(0.0)
    patches = {index: estimate.patch for index, estimate in estimates.items()}
    if not chances:  # land
        return Healed(patches, 0.0, 1.0)
    if not cells:
        return Healed(patches, None, None)
    return Healed(patches, sqrt(squares / cells), float(np.mean(chances)))


@dataclass(frozen=True, slots=True)
class _Estimate:
    """One estimated chunk."""

    patch: EstimatedChunk
    expected: float
    """Expected RMSE, variable's units; NaN if no cell is estimated."""
    chance: float
    """Probability that the RMSE is within tolerance."""


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
            Of the cells, float64 of any shape, one at least; NaN where masked or not estimated.
        tolerance
            In the same units, >= 0.
        """
        expected = _rms(standard_error)
        if expected == 0.0 or tolerance == 0.0:
            return float(expected <= tolerance)
        margin = np.log(tolerance / expected) - self.location
        return float(special.ndtr(margin / max(self.spread, LEAST_SPREAD)))


def _rms(errors: Floats) -> float:
    """Return the root mean square of what is known; NaN if nothing is."""
    finite = errors[np.isfinite(errors)]
    return float(np.sqrt(np.mean(finite**2))) if finite.size else float("nan")


def _missing(variable: Variable, index: Index) -> EstimatedChunk:
    """Return a chunk without estimates: its variable is captured but not forecast."""
    shape = tuple(s.stop - s.start for s in variable.grid.cells(index))
    nothing = np.full(shape, np.nan)
    return EstimatedChunk(nothing, nothing, np.full(shape, PROVENANCE["missing"], np.uint8))


def _is_empty(captures: CaptureStack, index: Index, steps: list[int]) -> bool:
    """Return whether a chunk had no values when it was last captured well, such as on land."""
    last = last_trusted(captures, index, steps)
    return last is not None and not np.isfinite(last[1]).any()


def _estimate(
    repository: Repository, region: Region, predicted: ShadowStack, step: int, lead: int
) -> dict[Index, _Estimate]:
    """Return the estimated chunks of a region."""
    variable = region.variable
    values, errors = region.predicted(predicted, lead)
    specification = specification_of(repository, variable.name)
    inpainted = None
    if not variable.categorical and variable.dims:
        captured = region.captured(predicted.captures, step, without=region.damaged)
        past = region.past(repository, predicted.captures, step)
        unseen = _unseen(region, past, predicted.shadow)
        history = None if past is None else _history(region, past, specification, lead + unseen)
        inpainted = inpaint(
            captured - values,
            errors,
            region.chunkwise(np.isin(np.arange(len(unseen)), region.places)),
            cyclic=region.cyclic,
            history=history,
            chunks=region.chunkwise(np.arange(len(unseen))),
            unseen=region.chunkwise(unseen > 0),
        )
        values = values + np.nan_to_num(inpainted.departure)
        # Where the forecast is sure there is nothing to estimate.
        errors = np.where(np.isfinite(inpainted.standard_error), inpainted.standard_error, errors)
    if specification is not None:
        values = clip(specification, values)
    values = np.clip(values, *variable.bounds())
    tolerance = float(predicted.shadow.variables[variable.name].tolerance)
    scores = predicted.scores()[lead - 1]
    estimates = {}
    for index in region.damaged:
        cells = region.cells(index)
        weight = np.zeros(values[cells].shape) if inpainted is None else inpainted.weight[cells]
        patch = EstimatedChunk(values[cells], errors[cells], _flags(values[cells], weight))
        odds = Odds()
        if inpainted is not None and weight.any():
            location, spread = inpainted.log_location[cells], inpainted.log_spread[cells]
            odds = Odds(float(np.nanmean(location)), float(np.nanmean(spread)))
        stated = (np.nan, np.nan) if weight.any() else scores[index][2:]
        estimates[index] = _judge(patch, odds, tolerance, *map(float, stated))
    return estimates


def _flags(values: Floats, weight: Floats) -> NDArray[np.uint8]:
    """Return where estimated cells come from, by the share that the interpolation has of each."""
    flags = np.where(
        weight > 0, PROVENANCE["estimated_from_intact_neighbours"], PROVENANCE["forecast"]
    )
    return np.where(np.isfinite(values), flags, PROVENANCE["missing"]).astype(np.uint8)


def _judge(
    patch: EstimatedChunk, odds: Odds, tolerance: float, confidence: float, expected: float
) -> _Estimate:
    """Return a patch with its figures: the forecast's own where given, else by the odds."""
    nominal = _rms(patch.standard_error)
    if not isfinite(nominal):
        return _Estimate(patch, nominal, nominal)
    if isfinite(confidence) and isfinite(expected):
        return _Estimate(patch, expected, confidence)
    return _Estimate(patch, nominal, odds.within(patch.standard_error, tolerance))


def _unseen(region: Region, past: Past | None, shadow: Shadow) -> NDArray[np.int64]:
    """Return (G,) for how many slots damaged chunks were unknown when the forecast was made."""
    unseen = np.zeros(len(region.indices), np.int64)
    if past is not None:
        unseen[region.places] = past.unseen(shadow.reference)[region.places]
    return unseen


def _history(
    region: Region, past: Past, specification: Specification | None, leads: NDArray[np.int64]
) -> Floats:
    """Return past departures (D, *dims), of each chunk as they would have been at its lead."""
    if specification is None:
        departures = changes(past.record, leads)
    else:
        departures = past_departures(specification, past.record, leads)
    has_departure = np.isfinite(departures).any(axis=1)
    return past.field(departures[has_departure]).reshape(-1, *region.shape)
