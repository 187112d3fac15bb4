"""The socket of the forecasting models: what a candidate of the blend has to be.

A candidate is small: it has a name, is fitted to a window of captures, and predicts from what it
left behind and what is known at a reference time.  What it leaves behind is numbers, so that it can
be stored, verified and read anywhere; nothing that a repository holds is ever executed.  If what
these numbers mean ever changes, give the candidate a `version`, an integer, and count it up: what
another version left behind is not predicted from, and the next update fits it anew.  Without one it
is 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from gnomon.tasks.forecasting.specification import Array, Specification

__all__ = [
    "CANDIDATES",
    "Candidate",
    "CellCandidate",
    "CellPast",
    "CellRecord",
    "ModeCandidate",
    "ModeRecord",
]

CANDIDATES = (
    "persistence",
    "climatology",
    "damped_anomaly",
    "local_level",
    "arima",
    "modes_independent",
    "modes_linear",
)
"""Names of the built-in candidates, in the order of every array's candidate axis."""
LONGEST_SEASON = 48
"""Slots of the longest period whose last cycle is a predictor: a longer one is too seldom seen."""


@dataclass(frozen=True, slots=True)
class ModeRecord:
    """What is known of the EOF modes of a variable at a reference time."""

    spec: Specification
    """Of the variable: the interval, periods, and how many leads are predicted."""
    amplitudes: Array
    """(T, M) of the modes on consecutive slots up to the reference time, those of the greatest
    variance first; anomalies, so that 0 is the climatology. In gaps the last known ones."""
    weights: Array
    """(T,) of each slot in what is fitted: 1 for the last, less for older ones, 0 in gaps."""

    @property
    def season(self) -> int:
        """Slots of the shortest period whose last cycle may be a predictor; 0 for none."""
        spec, captures = self.spec, len(self.amplitudes)
        slots = [round(period / spec.interval_s) for period in spec.periods_s]
        # A cycle and the leads go at the ends: more than one cycle of pairs is left to fit to.
        seen = [s for s in slots if captures > 2 * s + spec.leads + 12]
        return min((s for s in seen if 2 <= s <= LONGEST_SEASON), default=0)


@dataclass(frozen=True, slots=True)
class CellRecord:
    """A window of captures of some cells, the sample of a variable."""

    spec: Specification
    """Of the variable."""
    times_s: Array
    """(T,) valid times of consecutive slots, seconds; the last is the reference time."""
    anomalies: Array
    """(T, S) captured values less their climatology, variable's units; NaN where missing."""
    weights: Array
    """(T,) of each slot in what is fitted: 1 for the last, less for older ones."""
    scale: Array
    """(S,) standard deviation of what is new from one slot to the next, > 0."""
    damping: Array
    """(S,) of an anomaly from one slot to the next, 0 to 0.98."""
    starts: NDArray[np.int64]
    """(G + 1,) first cell of each chunk, and S."""


@dataclass(frozen=True, slots=True)
class CellPast:
    """What is known of some cells at a reference time, and when they are predicted for."""

    spec: Specification
    """Of the variable."""
    times_s: Array
    """(H,) valid times to predict, seconds, one slot after another."""
    season: Array
    """(H, N) climatology at these times, variable's units; NaN where a cell was never seen."""
    recent_times_s: Array
    """(P,) times of the last slots, newest first, seconds; P is at least 3, and `lags`."""
    anomalies: Array
    """(P, N) values less climatology at those slots, newest first; gaps are filled by the cell's
    own damping."""
    last: Array
    """(N,) last known values, variable's units."""
    level: Array
    """(N,) local level: the exponentially weighted mean of the anomalies."""
    scale: Array
    """(N,) standard deviation of what is new from one slot to the next, > 0."""
    damping: Array
    """(N,) of an anomaly from one slot to the next, 0 to 0.98."""
    groups: NDArray[np.int64]
    """(N,) chunk that each cell is of, increasing from 0 or more."""
    autoregressive: Array
    """(p, N) coefficients of the cell's own ARIMA process, newest lag first."""
    moving: Array
    """(q, N) coefficients on its last innovations."""
    drift: Array
    """(N,) mean change per slot; zero where the process is not one of changes."""
    shocks: Array
    """(q, N) last innovations of the process, newest first."""


class CellCandidate(Protocol):
    """A model that predicts each cell from what is known of it: one for all cells of a variable."""

    @property
    def per(self) -> Literal["cell"]:
        """What it predicts."""
        ...

    @property
    def name(self) -> str:
        """In settings, reports and records: small letters, digits and underscores."""
        ...

    @property
    def cost_s(self) -> float:
        """Seconds that a refit spends on it, about: on some forty hindcasts, and their fits.

        An update learns anew when that is cheap beside the capture interval. It is declared, not
        measured, so that what is learnt does not depend on how busy a machine was.
        """
        ...

    def lags(self, spec: Specification) -> int:
        """Return from how many slots of the past it predicts: at least 3 are always there.

        Each costs a number per cell in the repository.
        """
        ...

    def fit(self, record: CellRecord, before: Array | None) -> Array:
        """Return everything that `predict` needs to know later, as numbers.

        Parameters
        ----------
        record : CellRecord
            Nothing later than the reference time is in it.
        before : float64, (F,), optional
            What a fit to a shorter part of the same record returned: it may be given back where
            little is new. None at the first fit.

        Returns
        -------
        float64, (F,)
            Any number of them; finite.
        """
        ...

    def predict(self, parameters: Array, past: CellPast) -> Array:
        """Return the predicted values (H, N), variable's units; NaN where nothing can be said."""
        ...


class ModeCandidate(Protocol):
    """A model of the amplitudes of the EOF modes: a dozen series instead of a million."""

    @property
    def per(self) -> Literal["mode"]:
        """What it predicts."""
        ...

    @property
    def name(self) -> str:
        """As that of a `CellCandidate`."""
        ...

    @property
    def cost_s(self) -> float:
        """As that of a `CellCandidate`."""
        ...

    def fit(self, record: ModeRecord, before: Array | None) -> Array:
        """Return everything that `predict` needs to know later, as numbers.

        Parameters
        ----------
        record : ModeRecord
            Nothing later than the reference time is in it.
        before : float64, (F,), optional
            What a fit to a shorter part of the same record returned. The modes were not quite the
            same then: what is about a single mode is a first guess, at best.

        Returns
        -------
        float64, (F,)
            Any number of them; finite.
        """
        ...

    def predict(self, parameters: Array, record: ModeRecord, leads: int) -> Array:
        """Return the predicted amplitudes (H, M) of the next slots, as many as there are leads.

        The record may be longer than the one that was fitted to.
        """
        ...


type Candidate = CellCandidate | ModeCandidate
