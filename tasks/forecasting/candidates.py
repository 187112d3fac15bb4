"""The candidates: what each model predicts, from one reference time.

The same code makes a forecast of every cell and the hindcasts of the sampled ones, so what is
scored is what is issued.  The built-in models are candidates like any other; a model that fails is
replaced by the cell's ARIMA process, which is always there.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from gnomon.storage.entrypoints import FOREIGN
from gnomon.storage.errors import GnomonError, NotFound
from gnomon.storage.redaction import one_line
from gnomon.tasks.forecasting import climatology, registry, tracking
from gnomon.tasks.forecasting.builtin import BUILT_IN, powers
from gnomon.tasks.forecasting.candidate import (
    CANDIDATES,
    Candidate,
    CellCandidate,
    CellPast,
    CellRecord,
    ModeCandidate,
    ModeRecord,
)
from gnomon.tasks.forecasting.specification import Array, Specification, clip
from gnomon.tasks.forecasting.state import State

logger = logging.getLogger(__name__)

_ARIMA = CANDIDATES.index("arima")

MOST_NUMBERS = 10**6
"""Of what a candidate leaves behind: they are written with every update."""
LARGEST_SIZE = 1e3
"""Times the size of a variable's climatology that a prediction may have: no weight helps against
one value beyond all measure."""
MOST_LAGS = 512
"""Slots of the past that a candidate may predict from: each is a number per cell."""

type Fitted = Array | None
"""What a candidate left behind at its fit; None: the fit failed."""


def names_of(spec: Specification) -> tuple[str, ...]:
    """Names along the candidate axis: the built-in ones, then those of the user's choice."""
    return (*CANDIDATES, *spec.candidates)


def chosen(spec: Specification) -> tuple[Candidate, ...]:
    """Candidates of the user's choice; one that is not there fails when it is asked."""
    return tuple(map(_find, spec.candidates))


def choose(spec: Specification, names: Iterable[str]) -> Specification:
    """Specification with the candidates of these names, as far as they are there.

    A warning names those that are not. Labels have none, as nothing lies between them.
    """
    if spec.categorical:
        return spec
    lags = {}
    for candidate in map(_find, dict.fromkeys(names)):
        if (wanted := _lags(candidate, spec)) is not None:
            lags[candidate.name] = wanted
    return replace(spec, candidates=tuple(lags), lags=max(lags.values(), default=0))


def cost_s(names: Iterable[str]) -> float:
    """Seconds that a refit of one variable spends on candidates of these names, about."""
    return sum(max(0.0, float(_find(name).cost_s)) for name in names)


def _lags(candidate: Candidate, spec: Specification) -> int | None:
    """Slots that a candidate predicts from; None, with a warning, if it cannot be used."""
    try:
        if isinstance(candidate, _Absent):
            raise NotFound(candidate.reason)
        lags = int(candidate.lags(spec)) if candidate.per == "cell" else 0
        if not 0 <= lags <= MOST_LAGS:
            raise ValueError(f"it wants {lags} lags, expected 0 to {MOST_LAGS}")
    except FOREIGN as error:  # one bad model must not stop the others
        _pass_over(candidate.name, one_line(error))
        return None
    return lags


def _find(name: str) -> Candidate:
    try:
        return registry.find(name)
    except GnomonError as error:
        return _Absent(name, str(error))


@dataclass(frozen=True, slots=True)
class _Absent:
    """Stands for a candidate that cannot be found here."""

    name: str
    reason: str
    per: Literal["cell"] = "cell"
    cost_s: float = 0.0

    def lags(self, spec: Specification) -> int:
        """Return 0."""
        return 0

    def fit(self, record: CellRecord, before: Array | None) -> Array:
        """Raise what finding it did."""
        raise NotFound(self.reason)

    def predict(self, parameters: Array, past: CellPast) -> Array:
        """Raise what finding it did."""
        raise NotFound(self.reason)


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


def fit_candidates(
    spec: Specification,
    amplitudes: ModeRecord,
    cells: Callable[[], CellRecord],
    before: tuple[Fitted, ...],
) -> tuple[Fitted, ...]:
    """Fit the candidates of the user's choice to a window; one that fails leaves nothing behind.

    Parameters
    ----------
    spec : Specification
    amplitudes : ModeRecord
        Of the window.
    cells : callable
        Returns the sampled cells of the window; called if a candidate is fitted to them.
    before : tuple
        What was fitted to a shorter part of the window; empty at the first fit.
    """
    fitted: list[Fitted] = []
    known: CellRecord | None = None
    guesses = before or (None,) * len(spec.candidates)
    for candidate, guess in zip(chosen(spec), guesses, strict=True):
        if candidate.per == "cell" and known is None:
            known = cells()
        fitted.append(_fit(candidate, amplitudes, known, guess))
    return tuple(fitted)


def _fit(
    candidate: Candidate, amplitudes: ModeRecord, cells: CellRecord | None, before: Fitted
) -> Fitted:
    try:
        if candidate.per == "cell":
            assert cells is not None
            parameters = _numbers(candidate.fit(_sealed(cells), before))
        elif amplitudes.amplitudes.shape[1]:
            parameters = _numbers(candidate.fit(_sealed(amplitudes), before))
        else:
            return None
        if parameters.ndim != 1 or not np.isfinite(parameters).all():
            raise ValueError(f"fit returned {_looks(parameters)}, expected finite numbers (F,)")
        if len(parameters) > MOST_NUMBERS:
            raise ValueError(f"fit returned {len(parameters)} numbers, {MOST_NUMBERS} at most")
    except FOREIGN as error:  # one bad model must not stop the others
        _pass_over(candidate.name, one_line(error))
        return None
    return parameters


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
    own = tuple(
        candidate.predict(np.empty(0), record, leads) if candidate.per == "mode" and count else None
        for candidate in BUILT_IN
    )
    now = np.empty(0)
    if count and len(record.amplitudes):
        now = record.amplitudes[-1] * (record.weights[-1] > 0.0)  # in a gap nothing is known
    return Prospect(now, (*own, *ahead), fitted)


def look_ahead(
    spec: Specification, fitted: tuple[Fitted, ...], record: ModeRecord
) -> tuple[Array | None, ...]:
    """Amplitudes (H, M) by each of the user's candidates; None where it predicts none."""
    return tuple(
        _ahead(candidate, parameters, record) if candidate.per == "mode" else None
        for candidate, parameters in zip(chosen(spec), fitted, strict=True)
    )


def _ahead(candidate: ModeCandidate, parameters: Fitted, record: ModeRecord) -> Array | None:
    shape = leads, count = record.spec.leads, record.amplitudes.shape[1]
    if parameters is None or not count:
        return None
    try:
        amplitudes = _numbers(candidate.predict(parameters, _sealed(record), leads))
        if amplitudes.shape != shape or not np.isfinite(amplitudes).all():
            raise ValueError(f"predict returned {_looks(amplitudes)}, expected finite {shape}")
    except FOREIGN as error:  # as above
        _pass_over(candidate.name, one_line(error))
        return None
    return amplitudes


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
            made = None if ahead is None else follow.at(ahead)
        elif place < len(BUILT_IN):
            made = candidate.predict(np.empty(0), past)
        else:
            made = _cells(candidate, prospect.fitted[place - len(BUILT_IN)], past)
        is_asked = candidate.per == "cell" or len(prospect.now) > 0
        if made is None and is_asked and needed is not None and needed[place]:
            raise CandidateFailed(candidate.name)
        result[:, place] = result[:, _ARIMA] if made is None else made
        if place >= len(BUILT_IN) and made is not None:
            unknown = np.isnan(made)
            result[:, place][unknown] = result[:, _ARIMA][unknown]
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


def _cells(candidate: CellCandidate, parameters: Fitted, past: CellPast) -> Array | None:
    if parameters is None:
        return None
    try:
        values = _numbers(candidate.predict(parameters, _sealed(past)))
        if values.shape != past.season.shape:
            raise ValueError(f"predict returned {_looks(values)}, expected {past.season.shape}")
        size = np.nanmax(np.abs(past.season), initial=0.0) + np.nanmax(past.scale, initial=0.0)
        mad = ~(np.abs(values) <= LARGEST_SIZE * size) & ~np.isnan(values)
        if mad.any():
            raise ValueError(f"predict returned {values[mad][0]:.3g}, of values up to {size:.3g}")
    except FOREIGN as error:  # as above
        _pass_over(candidate.name, one_line(error))
        return None
    return values


def _sealed[R: (ModeRecord, CellRecord, CellPast)](given: R) -> R:
    """The same, with arrays that cannot be written: other candidates know them too."""
    views: dict[str, Any] = {}
    for field in fields(given):
        array = getattr(given, field.name)
        if isinstance(array, np.ndarray):
            views[field.name] = array.view()
            views[field.name].flags.writeable = False
    return replace(given, **views)


def _numbers(given: Any) -> Array:
    """What a candidate returned as float64 of its own, what is masked as NaN.

    Raises
    ------
    TypeError
        They are no real numbers.
    """
    values = np.ma.filled(given.astype(np.float64), np.nan) if np.ma.isMaskedArray(given) else given
    if np.iscomplexobj(values):
        raise TypeError("it returned complex numbers")
    return np.array(values, np.float64)


def _looks(values: Array) -> str:
    finite = "" if np.isfinite(values).all() else ", some not finite"
    return f"numbers of shape {values.shape}{finite}"


def _pass_over(name: str, reason: str) -> None:
    """Say that a candidate failed; once, as it is asked for every block of every update."""
    if name not in _failed:
        _failed.add(name)
        logger.warning("the candidate %.40r failed, and is left out: %s", name, reason)


_failed: set[str] = set()
"""Names of which that was said in this process."""
