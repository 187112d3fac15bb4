"""Heal a damaged field: estimate its departures from the forecast given the intact cells.

The departures of intact cells are interpolated into the damaged ones by optimal interpolation with
leading modes of the past and a local covariance. Which covariance, and how far to trust it, is
decided by hiding intact regions of the hole's shape; when that shows no gain, the forecast stands.
This module does not forecast, does not find damage, and reads or writes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gnomon.storage.errors import InvalidInput
from gnomon.tasks.healing.covariance import measure_lengths
from gnomon.tasks.healing.modes import find_modes
from gnomon.tasks.healing.observations import pick_observers
from gnomon.tasks.healing.regions import Grid, group_damage, surround
from gnomon.tasks.healing.validation import (
    Fold,
    Patch,
    Trial,
    Verdict,
    estimate,
    judge,
    look,
    soften,
)

Floats = NDArray[np.float64]
Cells = NDArray[np.intp]
Mask = NDArray[np.bool_]

FEWEST_KNOWN = 10
"""Intact cells below which nothing is healed: no correlation is measured from fewer pairs."""
_COMPLETE = 0.95
"""Share of the intact cells of which a past field must have a value for the hole to be tried in it.
A lower one lets in more of the past, but what a field lacks counts there as a departure of zero."""
_FEWEST_PAST = 3
"""Past fields below which the hole is not tried in them: each is judged by the modes of the others,
and one other field tells little of what varies together."""
_MOST_FOLDS = 5
"""Parts of the past that the hole is tried in: with more, the others know more of it, but modes are
found for each. To try the latest quarter alone told too little (docs/design/006-healing.md)."""
_MOST_PRODUCTS = 4_000_000_000
"""Multiplications, for the error of each cell wanted given each pair of observers: bounds the time
that a large hole takes, by fewer observers."""
MOST_CELLS = 250_000
"""Bound on the surroundings of a hole that are looked at, and so on the memory."""
_ALL_OBSERVERS = 8_000
"""Shared by the holes of a field: the time of each grows with the cube of its observers."""
_BATCH = 4096
"""Wanted cells at a time: bounds the memory of their covariances with the observers."""
_FEWEST_OBSERVERS, _MOST_OBSERVERS = 300, 1200
"""For each hole: fewer would leave out what lies farther off, more take longer, for cells that
nearer ones screen from the hole."""
_SMALL_OBSERVERS, _OBSERVERS_PER_CELL = 800, 2
"""Of a small hole, and for each cell of a wide one, which has a longer rim: with 400, a fifth of
the cells had 10 % larger errors than with 1,200, and chunks of 48 cells up to 3 % larger ones."""
# The cost of a hole grows with the cube of its observers, so many holes share a number of them.


@dataclass(frozen=True, slots=True)
class Inpainted:
    """Estimated departures of damaged cells, and how far to trust them; arrays are (*dims)."""

    departure: Floats
    """Estimated captured minus forecast, data units; NaN but in damaged cells with a forecast."""
    standard_error: Floats
    """Standard error of forecast + departure, data units; NaN where `departure` is NaN."""
    weight: Floats
    """Share of the interpolation used, in [0, 1]; 0 where the forecast stands."""
    validated_rmse: float
    """Error of the healed estimate in hidden intact cells, data units; NaN if none were hidden."""
    forecast_rmse: float
    """Error of the forecast alone in the same hidden cells, data units; NaN if none were hidden."""
    log_location: Floats
    """Mean logarithm of a hidden chunk's RMSE over the expected one; NaN where `weight` is 0."""
    log_spread: Floats
    """Standard deviation of that logarithm; NaN where `weight` is 0."""


def inpaint(
    departure: Floats,
    standard_error: Floats,
    damaged: Mask,
    *,
    cyclic: Sequence[bool] = (),
    history: Floats | None = None,
    chunks: Cells | None = None,
    unseen: Mask | None = None,
) -> Inpainted:
    """Return the estimated departures of the damaged cells of one field.

    Parameters
    ----------
    departure : ndarray of float64, shape (*dims)
        Captured minus forecast, data units; NaN where unknown. Damaged cells are not looked at.
    standard_error : ndarray of float64, shape (*dims)
        Standard error of the forecast, data units, > 0; NaN (or 0) where there is no forecast
        error to speak of, such as on land: such cells take no part.
    damaged : ndarray of bool, shape (*dims)
        Cells to estimate.
    cyclic : sequence of bool, optional
        Whether each axis wraps; none does by default.
    history : ndarray of float64, shape (T, *dims), optional
        Past departures, or anomalies, about zero, data units; NaN where unknown; T may be 0.
    chunks : ndarray of int, shape (*dims), optional
        Number of the chunk that each cell is in, for the spread of their errors; None: one chunk.
    unseen : ndarray of bool, shape (*dims), optional
        Cells that were unknown when the forecast was made, in `history` as well. What is intact was
        forecast better, so a hole with such cells is tried in past fields alone.

    Raises
    ------
    InvalidInput
        If shapes disagree.

    Notes
    -----
    Optimal interpolation (Gandin 1963) of standardised departures with a covariance of leading
    empirical orthogonal functions (Kaplan et al. 1998) plus a Matern part. Its form, and a weight
    in [0, 1], minimise the error in hidden copies of the hole, leaving one copy out; it
    is 0 unless the gain exceeds 1 % and its own standard error. The error
    bar is the posterior one times the ratio of actual to predicted error in the copies, and at
    most the forecast's own, unless its errors in the copies exceed it. When the past holds three
    fields or more, the hole itself is also tried in each of them, a part of the past at a time,
    with what the other parts know.
    """
    wraps = _check(departure, standard_error, damaged, cyclic, history)
    valid = np.isfinite(standard_error) & (standard_error > 0.0)
    intact = valid & ~damaged & np.isfinite(departure)
    mean = np.where(damaged & valid, 0.0, np.nan)
    error = np.where(damaged & valid, standard_error, np.nan)
    share = np.zeros(departure.shape)
    location, spread = np.full(departure.shape, np.nan), np.full(departure.shape, np.nan)
    grid = Grid(departure.shape, wraps)
    numbers = np.zeros(departure.shape, np.intp) if chunks is None else chunks
    blind = np.zeros(departure.shape, bool) if unseen is None else unseen
    verdicts: list[Verdict] = []
    enough = np.count_nonzero(intact) >= FEWEST_KNOWN
    groups = _gather(damaged, valid, blind, wraps) if enough else []
    observers = _ALL_OBSERVERS // max(1, sum(len(holes) for holes in groups))
    observers = int(np.clip(observers, _FEWEST_OBSERVERS, _MOST_OBSERVERS))
    for holes in groups:
        patch, cells = _cut(holes, grid, departure, standard_error, intact, history, numbers)
        alike = not blind.ravel()[holes[0]].any()
        most = min(observers, max(_SMALL_OBSERVERS, _OBSERVERS_PER_CELL * len(holes[0])))
        verdict = judge(patch, most, alike=alike)
        if verdict is None:
            continue
        verdicts.append(verdict)
        for hole in patch.holes if verdict.weight > 0.0 else ():
            inside = cells[hole]
            mean.ravel()[inside], error.ravel()[inside] = _fill(patch, hole, verdict, most)
            share.ravel()[inside] = verdict.weight
            location.ravel()[inside], spread.ravel()[inside] = verdict.location, verdict.spread
    healed = sum(v.healed if v.weight > 0.0 else v.forecast for v in verdicts)
    return Inpainted(
        departure=mean,
        standard_error=error,
        weight=share,
        validated_rmse=_rmse(healed, verdicts),
        forecast_rmse=_rmse(sum(v.forecast for v in verdicts), verdicts),
        log_location=location,
        log_spread=spread,
    )


def _check(
    departure: Floats,
    standard_error: Floats,
    damaged: Mask,
    cyclic: Sequence[bool],
    history: Floats | None,
) -> tuple[bool, ...]:
    """Return one wrap flag per axis, or raise InvalidInput when shapes disagree."""
    shape = departure.shape
    if not shape or standard_error.shape != shape or damaged.shape != shape:
        raise InvalidInput(
            "departure, standard_error and damaged must share one shape of >= 1 axes, found "
            f"{shape}, {standard_error.shape}, {damaged.shape}"
        )
    if history is not None and history.shape[1:] != shape:
        raise InvalidInput(f"history must have shape (T, *{shape}), found {history.shape}")
    wraps = tuple(bool(c) for c in cyclic) or (False,) * len(shape)
    if len(wraps) != len(shape):
        raise InvalidInput(f"cyclic must have {len(shape)} entries, found {len(wraps)}")
    return wraps


def _gather(damaged: Mask, valid: Mask, blind: Mask, wraps: tuple[bool, ...]) -> list[list[Cells]]:
    """Return the groups of holes, less the cells without a forecast.

    First of a group is the hole that stands for it: the largest of the worst known ones.
    """
    if not (damaged & valid).any():
        return []
    groups = [
        [hole[valid.ravel()[hole]] for hole in holes] for holes in group_damage(damaged, wraps)
    ]

    def place(hole: Cells) -> tuple[bool, int]:
        return bool(blind.ravel()[hole].any()), len(hole)

    ordered = [sorted((h for h in holes if h.size), key=place, reverse=True) for holes in groups]
    return [holes for holes in ordered if holes]


def _cut(
    holes: list[Cells],
    grid: Grid,
    departure: Floats,
    standard_error: Floats,
    is_intact: Mask,
    history: Floats | None,
    chunks: Cells,
) -> tuple[Patch, Cells]:
    """Return the patch around holes, and its cells' flat numbers in the whole field."""
    axes, local = surround(np.concatenate(holes), grid, MOST_CELLS)
    box: tuple[Cells, ...] = np.ix_(*axes)
    numbers = np.ravel_multi_index(box, grid.shape).ravel()
    # A box that is turned at a seam has its cells out of order.
    order = np.argsort(numbers)
    scale, intact = standard_error[box], is_intact[box]
    anomaly = np.full(local.shape, np.nan)
    # Over its standard error, a calm place and a wild one have one variance, as C has.
    np.divide(departure[box], scale, out=anomaly, where=intact)
    past = np.zeros((0, *local.shape))
    if history is not None and len(history):
        # Over today's standard error: the covariance that is sought is that of today's field.
        past = np.stack([field[box] for field in history]) / np.where(scale > 0.0, scale, np.nan)
    lengths = measure_lengths(anomaly, past, local.cyclic)
    past = past.reshape(len(past), anomaly.size)
    # Modes take what is unknown as zero, its expectation; trials keep NaN, as no truth is known.
    fields = np.nan_to_num(past)
    patch = Patch(
        anomaly=anomaly.ravel(),
        scale=scale.ravel(),
        holes=tuple(order[np.searchsorted(numbers, hole, sorter=order)] for hole in holes),
        chunks=chunks.ravel()[holes[0]],
        intact=np.flatnonzero(intact),
        grid=local,
        lengths=lengths,
        modes=find_modes(fields, intact.ravel()),
        folds=_fold(past, fields, anomaly.ravel(), intact.ravel()),
    )
    return patch, numbers


def _fold(past: Floats, fields: Floats, present: Floats, intact: Mask) -> tuple[Fold, ...]:
    """Return the past in parts, each with the modes of the others; none of too short a past."""
    if len(past) < _FEWEST_PAST:
        return ()
    # Parts in a row: captures next to each other are alike, and would tell of the one left out.
    parts = np.array_split(np.arange(len(past)), min(_MOST_FOLDS, len(past)))
    folds = (Fold(_match(past[part], present), find_modes(fields, intact, part)) for part in parts)
    return tuple(fold for fold in folds if len(fold.fields))


def _match(past: Floats, present: Floats) -> Floats:
    """Return the past fields known where the present is, scaled to its root mean square."""
    has_value = np.isfinite(present)
    if not has_value.any():
        return past[:0]
    complete = np.isfinite(past[:, has_value]).mean(axis=1) > _COMPLETE
    size = np.sqrt(np.nanmean(past[complete][:, has_value] ** 2, axis=1))
    # The past lends its patterns, not its size: its weather was another.
    fields = past[complete][size > 0.0] / size[size > 0.0, np.newaxis]
    return np.asarray(fields * np.sqrt(np.mean(present[has_value] ** 2)))


def _fill(patch: Patch, hole: Cells, verdict: Verdict, observers: int) -> tuple[Floats, Floats]:
    """Return the departures of one hole and their standard errors, data units."""
    most = int(np.clip((_MOST_PRODUCTS / len(hole)) ** 0.5, 200, observers))
    chosen = pick_observers(patch.intact, hole, patch.grid, patch.lengths, most)
    whole = np.zeros(len(hole), np.intp)
    mean, variance = np.empty(len(hole)), np.empty(len(hole))
    for start in range(0, len(hole), _BATCH):
        part = slice(start, start + _BATCH)
        now = Trial(hole[part], whole[part], chosen, patch.anomaly[np.newaxis], patch.modes)
        view = look(patch, now, verdict.covariance.rank)
        (mean[part],), variance[part] = estimate(now, view, verdict.covariance)
    relative = np.sqrt(soften(variance, verdict.weight)) * verdict.inflation
    scale = patch.scale[hole]
    # No more than the forecast's own, or what the copies have shown that to be.
    return verdict.weight * mean * scale, np.minimum(relative, verdict.ceiling) * scale


def _rmse(squares: float, verdicts: list[Verdict]) -> float:
    """Return the root of squared errors over the cells that verdicts hid; NaN if none."""
    count = sum(v.count for v in verdicts)
    return float(np.sqrt(max(squares, 0.0) / count)) if count else float("nan")
