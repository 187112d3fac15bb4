"""Heal: estimate the suspect chunks of a capture from its intact ones and the forecast.

The intact cells say how the capture departs from the forecast; that departure is in-painted into
the damaged cells and added to the forecast there.  Intact cells stay as they were captured.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial
from math import isfinite, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from gnomon.storage.log.steps import Shadow
from gnomon.storage.repository import Repository
from gnomon.storage.serve.planes import PROVENANCE, EstimatedChunk
from gnomon.storage.stacks.captures import CaptureStack
from gnomon.storage.values.grid import Index
from gnomon.storage.values.model import SUSPECT, Variable
from gnomon.tasks.forecasting.specification import clip
from gnomon.tasks.healing.combination import joined
from gnomon.tasks.healing.companions import aided
from gnomon.tasks.healing.inpainting import FEWEST_KNOWN, Inpainted, inpaint
from gnomon.tasks.learning.expectation import specification_of
from gnomon.tasks.learning.trusted import SEARCH, last_trusted
from gnomon.tasks.restoring.departed import (
    companions,
    fields_at,
    last_capture,
    past_of,
    unseen_slots,
    usual,
)
from gnomon.tasks.restoring.region import Region, regions
from gnomon.tasks.work import serial

__all__ = [
    "Estimate",
    "Figures",
    "Healed",
    "Odds",
    "heal",
    "heal_region",
    "missing",
    "rms",
    "summed_up",
]

LOG_SPREAD = 0.55
"""Standard deviation of log RMSE over expected RMSE where nothing could be hidden to find it: that
of forecasts of single chunks, .44 to .78 on three records while this was developed, .28 to .53 by
`benchmarks/heal.py` on OSTIA."""
BELIEF = 6.0
"""Standard errors of the forecast from which a cell of a suspect chunk tells nothing of those that
a user has named: the damage may reach farther than they know."""
LEAST_SPREAD = 0.05
"""No chunk's RMSE is known better than so: trials may agree by chance."""

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


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
    *,
    mask: Mask | None = None,
    apart: Collection[str] = (),
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
    mask
        (*dims) bool, True in the cells of these chunks that are damaged: the others stay as they
        were captured, and tell of the damaged ones.  None: all cells are damaged.
    apart
        Other variables that are damaged there, too, and cannot tell of this one.

    Raises
    ------
    Integrity
        A chunk that is needed is damaged in the repository.
    """
    variable = repository.settings.variable(name)
    estimates: dict[Index, Estimate] = {}
    if name not in shadow.variables and mask is None:
        estimates = {index: missing(variable, index) for index in indices}
    else:
        # As the workers of an update do: in which order numbers are added is the same.
        job = partial(heal_region, repository, step=step, shadow=shadow, lead=lead, apart=apart)
        for part in serial(job, regions(variable, indices, mask)):
            estimates |= part
    return Healed(
        {index: estimate.patch for index, estimate in estimates.items()},
        *summed_up(repository, step, name, {i: e.figures for i, e in estimates.items()}),
    )


def summed_up(
    repository: Repository, step: int, name: str, figures: Mapping[Index, "Figures"]
) -> tuple[float | None, float | None]:
    """Return expected error and confidence of all estimated chunks of a variable; see `Healed`."""
    captures = repository.captures(name)
    before = repository.state.before(repository.captured[step].instant, SEARCH)
    squares, chances, cells = 0.0, [], 0
    for index, chunk in figures.items():
        if chunk.cells:
            squares, cells = squares + chunk.cells * chunk.expected**2, cells + chunk.cells
            chances.append(chunk.chance)
        elif not _is_empty(captures, index, before):
            chances.append(0.0)
    if not chances:  # land
        return 0.0, 1.0
    if not cells:
        return None, None
    return sqrt(squares / cells), float(np.mean(chances))


@dataclass(frozen=True, slots=True)
class Figures:
    """What is known of an estimated chunk."""

    expected: float
    """Expected RMSE over its estimated cells, variable's units; NaN if there is none."""
    chance: float
    """Probability that the RMSE is within tolerance; NaN as the error is."""
    cells: int
    """Cells that are estimated, and not missing."""


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
        expected = rms(standard_error)
        if expected == 0.0 or tolerance == 0.0:
            return float(expected <= tolerance)
        margin = np.log(tolerance / expected) - self.location
        return float(special.ndtr(margin / max(self.spread, LEAST_SPREAD)))


@dataclass(frozen=True, slots=True)
class Estimate:
    """One estimated chunk."""

    patch: EstimatedChunk
    figures: Figures
    odds: Odds = Odds()
    """How far its RMSE may be from the expected one."""


_NOTHING = Figures(float("nan"), float("nan"), 0)
_UNSTATED = float("nan"), float("nan")


def rms(errors: Floats) -> float:
    """Return the root mean square of what is known; NaN if nothing is."""
    finite = errors[np.isfinite(errors)]
    return float(np.sqrt(np.mean(finite**2))) if finite.size else float("nan")


def missing(variable: Variable, index: Index) -> Estimate:
    """Return a chunk without estimates: such as of a variable that is captured but not forecast."""
    shape = tuple(s.stop - s.start for s in variable.grid.cells(index))
    nothing = np.full(shape, np.nan)
    patch = EstimatedChunk(nothing, nothing, np.full(shape, PROVENANCE["missing"], np.uint8))
    return Estimate(patch, _NOTHING)


def _is_empty(captures: CaptureStack, index: Index, steps: list[int]) -> bool:
    """Return whether a chunk had no values when it was last captured well, such as on land."""
    last = last_trusted(captures, index, steps)
    return last is not None and not np.isfinite(last[1]).any()


def heal_region(
    repository: Repository,
    region: Region,
    step: int,
    shadow: Shadow,
    lead: int,
    apart: Collection[str] = (),
) -> dict[Index, Estimate]:
    """Return the estimated chunks of a region; see `heal`."""
    variable = region.variable
    if variable.name not in shadow.variables:
        return {index: missing(variable, index) for index in region.damaged}
    predicted = repository.shadow(variable.name, shadow)
    values, errors = region.predicted(predicted, lead)
    captured = region.intact(predicted.captures, step)
    hole = region.hole
    specification = specification_of(repository, variable.name)
    inpainted, from_others = None, False
    count = np.count_nonzero(np.isfinite(captured - values))
    if count >= FEWEST_KNOWN and not variable.categorical and variable.dims:
        guess = captured, values, errors
        inpainted, from_others = _inpainted(repository, region, step, (shadow, lead), guess, apart)
        values = values + np.nan_to_num(inpainted.departure)
        # Where the forecast is sure there is nothing to estimate.
        errors = np.where(np.isfinite(inpainted.standard_error), inpainted.standard_error, errors)
    if specification is not None:
        values = clip(specification, values)
    values = np.clip(values, *variable.bounds())
    weight = np.zeros(region.shape) if inpainted is None else inpainted.weight
    field = EstimatedChunk(
        np.where(hole, values, captured),
        np.where(hole, errors, np.where(np.isfinite(captured), 0.0, np.nan)),
        np.where(hole, _flags(values, weight + from_others), PROVENANCE["captured"]).astype(
            np.uint8
        ),
    )
    tolerance = float(shadow.variables[variable.name].tolerance)
    scores = predicted.scores()[lead - 1]
    estimates = {}
    for index in region.damaged:
        cells = region.cells(index)
        parts = (field.values[cells], field.standard_error[cells], field.provenance[cells])
        stated, odds = (float(scores[index][3]), float(scores[index][2])), Odds()
        if inpainted is not None and weight[cells].any():
            location, spread = inpainted.log_location[cells], inpainted.log_spread[cells]
            stated, odds = _UNSTATED, Odds(float(np.nanmean(location)), float(np.nanmean(spread)))
        elif from_others or not hole[cells].all():
            stated = _UNSTATED  # that of a whole chunk is not that of a part of it
        known = errors[cells][hole[cells] & np.isfinite(values[cells])]
        figures = _judge(known, odds, tolerance, stated)
        estimates[index] = Estimate(EstimatedChunk(*parts), figures, odds)
    return estimates


def _inpainted(
    repository: Repository,
    region: Region,
    step: int,
    forecast: tuple[Shadow, int],
    guess: tuple[Floats, Floats, Floats],
    apart: Collection[str],
) -> tuple[Inpainted, bool]:
    """Return how the hole departs from the forecast, and whether other variables had a part in it.

    Parameters
    ----------
    guess
        What is intact, what is predicted, and its standard error, float64 (*dims).
    """
    (shadow, lead), (captured, values, errors) = forecast, guess
    captures = repository.captures(region.variable.name)
    past = region.past(repository, captures, step)
    unseen = unseen_slots(region, past, shadow)
    specification = specification_of(repository, region.variable.name)
    history, instants = past_of(region, past, specification, lead + unseen)
    options: dict[str, Any] = {
        "cyclic": region.cyclic,
        "chunks": region.chunkwise(np.arange(len(unseen))),
        "unseen": region.chunkwise(unseen > 0),
    }
    others = companions(repository, region, past, step, forecast, apart)
    departure = _believable(region, captures, step, captured - values, errors)
    inpainted, from_others = aided(
        departure,
        errors,
        region.hole,
        history,
        np.array([now for now, _, _ in others]).reshape(len(others), *region.shape),
        np.array([fields_at(fields, of, instants) for _, fields, of in others]).reshape(
            len(others), *history.shape
        ),
        **options,
    )
    # Other guesses have a longer past, and miss other things.
    leads, valid = lead + unseen, repository.captured[step].instant
    believed = departure + values
    for other in (
        last_capture(region, past, shadow, leads),
        usual(region, past, specification, leads, valid),
    ):
        departed, error = believed - other.values, other.standard_error
        again = inpaint(departed, error, region.hole, history=other.past, **options)
        inpainted = joined(inpainted, again, other.values - values, error)
    return inpainted, from_others


def _believable(
    region: Region, captures: CaptureStack, step: int, departure: Floats, errors: Floats
) -> Floats:
    """Return the departures without those that are beyond belief, in chunks that are suspect.

    There the cells that a user has not named are intact by their word alone.
    """
    status = captures.status(step)
    doubted = region.chunkwise(np.array([status[i] == SUSPECT for i in region.indices], bool))
    with np.errstate(invalid="ignore"):
        beyond = doubted & ~(np.abs(departure) <= BELIEF * errors)
    return np.where(beyond, np.nan, departure)


def _flags(values: Floats, weight: Floats) -> NDArray[np.uint8]:
    """Return where estimated cells come from, by the share that the interpolation has of each."""
    flags = np.where(
        weight > 0, PROVENANCE["estimated_from_intact_neighbours"], PROVENANCE["forecast"]
    )
    return np.where(np.isfinite(values), flags, PROVENANCE["missing"]).astype(np.uint8)


def _judge(errors: Floats, odds: Odds, tolerance: float, stated: tuple[float, float]) -> Figures:
    """Return the figures of a chunk: the forecast's own where given, else by the odds.

    Parameters
    ----------
    errors
        Standard errors (n,) of its estimated cells.
    stated
        Expected RMSE and confidence of the forecast; NaN where another estimate takes its place.
    """
    nominal, cells = rms(errors), int(np.isfinite(errors).sum())
    if not isfinite(nominal):
        return _NOTHING
    if all(map(isfinite, stated)):
        return Figures(*stated, cells)
    return Figures(nominal, odds.within(errors, tolerance), cells)
