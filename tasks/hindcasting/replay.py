"""What a repository would do with a record: the same steps with the same numbers, in memory.

Capture after capture arrives, is judged by the forecast of it, and is learnt as in an update: by a
refit where one is due, else by rolling forward. What is left out is what needs a store or a person:
of the checks of captures only the departures test is made, and nobody accepts what it doubts.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from gnomon.storage.values.grid import Index
from gnomon.storage.values.times import SECOND
from gnomon.tasks.forecasting import (
    GATE,
    Departures,
    Forecast,
    Outlook,
    Specification,
    State,
    cost_s,
    departures,
    drifted,
    forecast,
    learn,
    roll,
    rounded,
)
from gnomon.tasks.forecasting.changes import has_changed
from gnomon.tasks.forecasting.engine import candidates
from gnomon.tasks.learning.cadence import MIN_CAPTURES, Cadence, distinct_slots, identify_cadence
from gnomon.tasks.learning.refit import (
    CHANGED,
    MOST_ROLLED,
    RECALLED,
    REFIT_SHARE,
    Kept,
    Traits,
    due,
    fit_sample,
    is_cheap,
    sampled_cells,
    sampled_chunks,
    window_length,
)

__all__ = ["Issued", "Judge", "Replay", "Series", "beyond_belief"]

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Judge = Callable[[Departures, Floats, NDArray[np.int64]], Flags]
"""Tells of a capture's chunks (G,) which are damage: from their departures, values and starts."""


def beyond_belief(departed: Departures, *_: object) -> Flags:
    """Tell which chunks depart further than history itself would believe."""
    return departed.p_value < GATE


@dataclass(frozen=True, slots=True)
class Series:
    """Captures of some or all cells of a variable, in order of time."""

    instants: NDArray[np.int64]
    """(T,) valid times."""
    values: Floats
    """(T - offset, N) variable's units, of the last captures; NaN where missing."""
    starts: NDArray[np.int64]
    """(G + 1,) first cell of each chunk, and N."""
    cells: int
    """Cells of the whole variable."""
    chunk_cells: int
    """Cells of a whole chunk of it."""

    @property
    def offset(self) -> int:
        """Captures whose values are not here, as no window reaches back to them."""
        return len(self.instants) - len(self.values)


@dataclass(frozen=True, slots=True)
class Issued:
    """One forecast, as it would stand in a shadow."""

    origin: int
    """Position of its reference capture in the series."""
    instants: NDArray[np.int64]
    """(H,) valid times."""
    forecast: Forecast
    candidates: Floats
    """(H, C, N) predicted by each candidate."""
    outlook: Outlook
    specification: Specification


@dataclass(slots=True)
class _Fit:
    """What is known of the variable after an update."""

    specification: Specification
    cadence: Cadence
    outlook: Outlook
    columns: NDArray[np.int64]
    """Cells of the sample."""
    state: State
    kept: Kept
    rolled: int = 0
    """Captures since the state was written."""


@dataclass(slots=True)
class Replay:
    """A variable as a repository that protects it alone has it, after one capture or the next."""

    traits: Traits
    series: Series
    calendar: str
    interval_s: float | None = None
    """Capture interval; None: found."""
    share: float = REFIT_SHARE
    """Share of the capture interval that refits may take to be made often."""
    judge: Judge = beyond_belief
    newest: int = -1
    """Position of the newest capture."""
    seconds: dict[str, list[float]] = field(default_factory=lambda: {"refit": [], "roll": []})
    """What each refit and each roll took."""
    _fit: _Fit | None = None
    _trusted: Flags = field(default_factory=lambda: np.empty((0, 0), bool))

    def __post_init__(self) -> None:
        """Trust every capture until it is judged."""
        self._trusted = np.ones((len(self.series.values), len(self.series.starts) - 1), bool)

    def update(self, position: int) -> None:
        """Take in everything up to a position of the series, as one update of the repository."""
        fit = self._fit
        if fit is None:
            self.newest = position
            self._refit()
            return
        before = self.newest
        for new in range(before + 1, position + 1):
            self.newest = new
            self._take(fit, new)
        reason = due(fit.kept, position + 1, partial(self._is_cheap, fit))
        if fit.specification.is_constant:
            first = max(before - RECALLED - self.series.offset, 0)
            rows = np.arange(first, position + 1 - self.series.offset)
            if has_changed(self._seen(rows)[:, fit.columns]):
                reason = CHANGED
        if reason is not None:
            self._refit()
        else:
            fit.kept = Kept(fit.kept.captures, float(drifted(fit.state.correction).mean()))
            fit.rolled += position - before
            if fit.rolled > MOST_ROLLED:
                fit.state = rounded(fit.specification, fit.state, fit.outlook.amplitudes)
                fit.rolled = 0

    def forecast(self) -> Issued | None:
        """Return what the shadow after the last update holds; None while there is too little."""
        fit = self._fit
        if fit is None:
            return None
        slot = fit.cadence.slot(int(self.series.instants[self.newest]))
        leads = range(1, self.traits.leads + 1)
        instants = np.array([fit.cadence.instant(slot + lead) for lead in leads])
        arguments = fit.specification, fit.state, fit.outlook, instants / SECOND
        return Issued(
            self.newest,
            instants,
            forecast(*arguments),
            candidates(*arguments),
            fit.outlook,
            fit.specification,
        )

    def positions_of(self, issued: Issued) -> NDArray[np.int64]:
        """Return the captures (H,) that verify a forecast; -1 where there is none."""
        assert self._fit is not None
        cadence = self._fit.cadence
        later = range(issued.origin + 1, len(self.series.instants))
        # Only as many as there can be.
        near = later[: 4 * len(issued.instants)]
        slots = {cadence.slot(int(self.series.instants[k])): k for k in reversed(near)}
        return np.array([slots.get(cadence.slot(int(t)), -1) for t in issued.instants])

    def _is_cheap(self, fit: _Fit) -> bool:
        captures = min(self.newest + 1, window_length(self.series.chunk_cells))
        return is_cheap(
            self.series.cells * captures,
            fit.cadence.interval_s,
            candidates_s=cost_s(self.traits.candidates),
            share=self.share,
        )

    def _take(self, fit: _Fit, position: int) -> None:
        """Judge a capture, and roll forward by it."""
        instant = int(self.series.instants[position])
        slot, row = fit.cadence.slot(instant), position - self.series.offset
        if slot <= fit.state.slot:
            return
        begun = perf_counter()
        spec, time_s, starts = fit.specification, instant / SECOND, self.series.starts
        values = self.series.values[row]
        departed = departures(spec, fit.state, fit.outlook, slot, time_s, values)
        trusted = self._trusted[row]
        trusted &= ~self.judge(departed, values, starts)
        seen = np.where(np.repeat(trusted, np.diff(starts)), values, np.nan)
        fit.state = roll(spec, fit.state, fit.outlook, slot, time_s, seen, trusted=trusted)
        fit.outlook = fit.outlook.roll(spec, slot, time_s, seen[fit.columns])
        self.seconds["roll"].append(perf_counter() - begun)

    def _refit(self) -> None:
        """Learn everything anew from the window, as of the newest capture."""
        series, stop = self.series, self.newest + 1
        first = max(series.offset, stop - window_length(series.chunk_cells))
        if stop - first < MIN_CAPTURES:
            return
        begun = perf_counter()
        instants = series.instants[first:stop]
        cadence = identify_cadence(instants, self.calendar, self.interval_s)
        distinct = distinct_slots(cadence, instants)
        rows = first - series.offset + distinct
        chunks, columns, heads = self._sample(int(rows[-1]))
        trusted = self._trusted[rows]
        values = self._seen(rows)
        everything = np.ones(trusted.shape, bool)
        fitted = fit_sample(
            self.traits,
            cadence,
            instants[distinct],
            values[:, columns],
            heads,
            trusted=trusted[:, chunks],
            gated=everything[:, chunks],
        )
        if fitted is None:
            self._fit = None
            return
        spec, outlook = fitted
        learnt = learn(
            spec,
            np.array([cadence.slot(int(t)) for t in instants[distinct]]),
            instants[distinct] / SECOND,
            values,
            series.starts,
            trusted=trusted,
            gated=everything,
            amplitudes=outlook.amplitudes,
        )
        self._trusted[rows] &= ~(learnt.p_values < GATE)
        share = float(drifted(learnt.state.correction).mean())
        state = rounded(spec, learnt.state, outlook.amplitudes)
        self._fit = _Fit(spec, cadence, outlook, columns, state, Kept(stop, share))
        self.seconds["refit"].append(perf_counter() - begun)

    def _seen(self, rows: NDArray[np.int64]) -> Floats:
        """Return values (T, N) of captures, NaN where they are not trusted."""
        values = np.ascontiguousarray(self.series.values[rows])
        trusted = self._trusted[rows]
        if not trusted.all():
            values[~np.repeat(trusted, np.diff(self.series.starts), axis=1)] = np.nan
        return values

    def _sample(self, row: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Return the sampled chunks, their sampled cells, and where those of each chunk begin."""
        starts, values = self.series.starts, self.series.values[row]
        whole: list[Index] = [(chunk,) for chunk in range(len(starts) - 1)]
        chosen = sampled_chunks(
            whole, lambda i: bool(np.isfinite(values[starts[i[0]] : starts[i[0] + 1]]).any())
        )
        chunks = np.array([index[0] for index in chosen], np.int64)
        parts = [starts[k] + sampled_cells(int(starts[k + 1] - starts[k])) for k in chunks]
        sizes = np.cumsum([0, *(len(part) for part in parts)])
        return chunks, np.concatenate(parts), sizes.astype(np.int64)
