"""The candidates: what each model predicts, from one reference time.

The same code makes a forecast of every cell and the hindcasts of the sampled ones, so what is
scored is what is issued.  The built-in models are candidates like any other; a model that fails is
replaced by the cell's ARIMA process, which is always there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gnomon.tasks.forecasting import climatology, tracking
from gnomon.tasks.forecasting.builtin import BUILT_IN, powers
from gnomon.tasks.forecasting.candidate import (
    CANDIDATES,
    CellPast,
    ModeRecord,
)
from gnomon.tasks.forecasting.guarded import Fitted, chosen, predict_cells
from gnomon.tasks.forecasting.specification import Array, Specification, clip
from gnomon.tasks.forecasting.state import State

_ARIMA = CANDIDATES.index("arima")


def names_of(spec: Specification) -> tuple[str, ...]:
    """Names along the candidate axis: the built-in ones, then those of the user's choice."""
    return (*CANDIDATES, *spec.candidates)


class CandidateFailed(Exception):
    """A candidate that a forecast rests on has failed: its weight and its error bars are void."""


@dataclass(frozen=True, slots=True)
class Prospect:
    """What is known of the variable as a whole at a reference time, for every candidate."""

    now: Array
    """(M,) amplitudes of the modes at the reference time; none without modes."""
    ahead: tuple[Array | None, ...]
    """By candidate: (H, M) amplitudes that one of the modes predicts; None of others, or if it
    failed."""
    fitted: tuple[Fitted, ...]
    """By candidate of the user's choice: what it left behind."""


def prospect_of(
    record: ModeRecord, leads: int, ahead: tuple[Array | None, ...], fitted: tuple[Fitted, ...]
) -> Prospect:
    """Prospect of so many leads.

    Parameters
    ----------
    record : ModeRecord
    leads : int
    ahead, fitted : tuple
        Of the candidates of the user's choice.
    """
    count = record.amplitudes.shape[1]
    built_in = tuple(
        candidate.predict(np.empty(0), record, leads) if candidate.per == "mode" and count else None
        for candidate in BUILT_IN
    )
    now = np.empty(0)
    if count and len(record.amplitudes):
        now = record.amplitudes[-1] * (record.weights[-1] > 0.0)  # in a gap nothing is known
    return Prospect(now, (*built_in, *ahead), fitted)


def predict(
    spec: Specification,
    state: State,
    times_s: Array,
    damping: Array,
    prospect: Prospect,
    groups: NDArray[np.int64] | None = None,
    needed: NDArray[np.bool_] | None = None,
) -> Array:
    """Predictions (H, C, N) of every candidate, in the variable's units and within its bounds.

    Parameters
    ----------
    spec : Specification
    state : State
    times_s : float64, (H,)
        Valid times of the slots after `state.slot`.
    damping : float64, (N,)
        Of the anomalies per slot, from `tracking.damping`.
    prospect : Prospect
        Without modes, or where a candidate failed, the ARIMA is repeated.
    groups : int64, (N,), optional
        Chunk that each cell is of; None: as in the state.
    needed : bool, (C,), optional
        Candidates that must not fail, as error bars rest on them.

    Returns
    -------
    float64, (H, C, N)
        NaN where a cell was never seen.

    Raises
    ------
    CandidateFailed
        One that is needed has failed.
    """
    past = _past_of(spec, state, times_s, damping, groups)
    candidates = (*BUILT_IN, *chosen(spec))
    result = np.empty((len(times_s), len(candidates), state.cells))
    follow = _Following(spec, state, past, prospect)
    for place, candidate in enumerate(candidates):
        if candidate.per == "mode":
            ahead = prospect.ahead[place]
            values = None if ahead is None else follow.at(ahead)
        elif place < len(BUILT_IN):
            values = candidate.predict(np.empty(0), past)
        else:
            values = predict_cells(candidate, prospect.fitted[place - len(BUILT_IN)], past)
        is_asked = candidate.per == "cell" or len(prospect.now) > 0
        if values is None and is_asked and needed is not None and needed[place]:
            raise CandidateFailed(candidate.name)
        # Every place on the axis has numbers, or moments of all candidates could not be taken.
        result[:, place] = result[:, _ARIMA] if values is None else values
        if place >= len(BUILT_IN) and values is not None:
            unknown = np.isnan(values)
            result[:, place][unknown] = result[:, _ARIMA][unknown]
    # Before they are blended: what cannot be must not pull at the others.
    return clip(spec, result)


def _past_of(
    spec: Specification,
    state: State,
    times_s: Array,
    damping: Array,
    groups: NDArray[np.int64] | None,
) -> CellPast:
    """What candidates know of the cells of a state."""
    season = climatology.features(spec, times_s) @ state.coefficients
    anomalies = tracking.bridged(spec, state, damping)
    last = anomalies[0] + climatology.features(spec, state.recent_times[:1])[0] @ state.coefficients
    return CellPast(
        spec=spec,
        times_s=times_s,
        season=season,
        recent_times_s=state.recent_times,
        anomalies=anomalies,
        last=np.where(np.isfinite(state.recent[0]), state.recent[0], last),
        level=state.level - state.coefficients[0],
        scale=tracking.innovation_scale(state) if spec.candidates else np.empty(0),
        damping=damping,
        groups=state.spread(np.arange(state.chunks)) if groups is None else groups,
        autoregressive=state.autoregressive,
        moving=state.moving,
        drift=state.drift,
        shocks=state.shocks,
    )


class _Following:
    """Cells that follow the modes of their variable, and go their own way for the rest."""

    def __init__(
        self, spec: Specification, state: State, past: CellPast, prospect: Prospect
    ) -> None:
        self._season = past.season
        self._has_modes = bool(len(prospect.now))
        if not self._has_modes:
            return
        self._loadings = state.loadings[: len(prospect.now)]
        # The mean has moved since the modes were found; they know nothing of that.
        self._moved = np.nan_to_num(state.coefficients[0] - state.anchor)
        rest = past.anomalies[0] + self._moved - prospect.now @ self._loadings
        # The anomaly is one of `unseen` slots ago: kappa^(h + u) of numerics.md.
        rest *= state.rest ** tracking.unseen(state)
        self._left = rest * powers(state.rest, len(past.season))

    def at(self, ahead: Array) -> Array | None:
        """Values (H, N) of the cells where the modes have amplitudes (H, M); None without modes."""
        if not self._has_modes:
            return None
        driven = ahead[: len(self._season)] @ self._loadings
        driven -= self._moved
        driven += self._season
        driven += self._left
        return np.asarray(driven)
