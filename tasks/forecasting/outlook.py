"""What is known of a variable as a whole: its modes, and how far its forecasts can be trusted.

It comes from a bounded sample of cells, spread over the variable, at a refit.  Between refits only
the modes' amplitudes go on.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gnomon.storage.errors import InvalidInput
from gnomon.tasks.forecasting import climatology, hindcasts, labels, modes, sweep
from gnomon.tasks.forecasting.calibration import Calibration, Sequence, uncalibrated
from gnomon.tasks.forecasting.candidate import ModeRecord
from gnomon.tasks.forecasting.candidates import (
    Fitted,
    Prospect,
    fit_candidates,
    look_ahead,
    names_of,
    prospect_of,
)
from gnomon.tasks.forecasting.hindcasts import LONGEST, Window
from gnomon.tasks.forecasting.learning import learn
from gnomon.tasks.forecasting.specification import Array, Specification

ORIGINS = 40
"""Hindcasts that a refit makes, at most."""
HEAD = 4
"""Numbers before the arrays in a packed outlook."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """Modes of a sample of S cells, and the calibration of the variable."""

    calibration: Calibration
    patterns: Array
    """(M, S) of the modes, unitless."""
    coefficients: Array
    """(K, S) of the sample's climatology, fixed between refits; NaN where never seen."""
    amplitudes: Array
    """(T, M) on consecutive slots, T <= `LONGEST`; NaN where nothing was captured."""
    slot: int
    """Cadence index of the last amplitudes."""
    fitted: tuple[Fitted, ...] = ()
    """By candidate of the user's choice: what it left behind at the refit."""
    ahead: tuple[Array | None, ...] = ()
    """By the same: (H, M) amplitudes that one of the modes predicts. They are predicted once, as
    such a candidate may be slow."""

    def forecast(self, spec: Specification, leads: int) -> Prospect:
        """What is known of the slots after the last, for every candidate."""
        return prospect_of(self._record(spec), leads, self.ahead, self.fitted)

    def look_ahead(self, spec: Specification) -> Outlook:
        """The same with what the candidates of the user's choice predict from here."""
        return replace(self, ahead=look_ahead(spec, self.fitted, self._record(spec)))

    def _record(self, spec: Specification) -> ModeRecord:
        weight = hindcasts.weights(spec, len(self.amplitudes))
        return modes.record_of(spec, self.amplitudes, weight)

    def roll(self, spec: Specification, slot: int, time_s: float, values: Array) -> Outlook:
        """Outlook after one more capture of the sample, (S,); NaN where missing or suspect."""
        if slot <= self.slot:
            raise InvalidInput(f"found slot {slot}, expected one after {self.slot}")
        season = climatology.features(spec, np.array([time_s]))[0] @ self.coefficients
        anomalies = values - season
        found = modes.project(self.patterns, anomalies[None])
        if not np.isfinite(anomalies).any():
            found = np.full_like(found, np.nan)
        gap = np.full((min(slot - self.slot, LONGEST) - 1, len(self.patterns)), np.nan)
        grown = np.concatenate([self.amplitudes, gap, found])[-LONGEST:]
        return replace(self, amplitudes=grown, slot=slot).look_ahead(spec)

    def at(self, spec: Specification, slot: int) -> Outlook:
        """Outlook as it was at an earlier slot since the last refit."""
        passed = self.slot - slot
        earlier = self.amplitudes[: len(self.amplitudes) - passed]
        return replace(self, amplitudes=earlier, slot=slot).look_ahead(spec)

    def without_modes(self) -> Outlook:
        """Outlook for captures of which the sample is not known."""
        nothing = np.zeros((0, self.patterns.shape[1])), np.zeros((len(self.amplitudes), 0))
        ahead = (None,) * len(self.ahead)
        return replace(self, patterns=nothing[0], amplitudes=nothing[1], ahead=ahead)

    def pack(self) -> Array:
        """Everything in one float64 vector, without loss."""
        found = self.calibration
        parts = [found.weights, found.factors, found.roots, found.ratios, found.squares]
        parts += [self.patterns, self.coefficients, self.amplitudes]
        for kept in (*self.fitted, *self.ahead):  # each with its length before it; none is -1
            parts += [np.array([-1.0])] if kept is None else [np.array([float(kept.size)]), kept]
        head = [len(self.amplitudes), self.patterns.shape[1], self.slot, found.doubted]
        return np.concatenate([np.array(head, np.float64), *(part.ravel() for part in parts)])

    @classmethod
    def unpack(cls, spec: Specification, packed: Array) -> Outlook:
        """Outlook from the vector of `pack`.

        Raises
        ------
        InvalidInput
            If its length is not that of the specification.
        """
        slots, cells, slot = (int(n) for n in packed[:3])
        leads, count, terms = spec.leads, len(names_of(spec)), spec.terms
        shapes = [(leads, count), (leads,), (leads,), (3, leads), (2, leads)]
        shapes += [(spec.modes, cells), (terms, cells), (slots, spec.modes)]
        ends = HEAD + np.cumsum([int(np.prod(shape)) for shape in shapes])
        rest, chosen = packed[ends[-1] :], len(spec.candidates)
        kept = _unpack_kept(rest, 2 * chosen) if ends[-1] <= len(packed) else None
        if kept is None:
            raise InvalidInput(
                f"found {len(packed)} numbers of an outlook, expected {ends[-1]}: "
                "was the specification changed?"
            )
        ahead = tuple(p if p is None else p.reshape(leads, spec.modes) for p in kept[chosen:])
        weights, factors, roots, ratios, squares, patterns, coefficients, amplitudes = (
            np.array(part).reshape(shape)
            for part, shape in zip(np.split(packed[HEAD:], ends - HEAD)[:-1], shapes, strict=True)
        )
        calibration = Calibration(weights, factors, roots, ratios, squares, float(packed[3]))
        fitted = tuple(kept[:chosen])
        return cls(calibration, patterns, coefficients, amplitudes, slot, fitted, ahead)


def _unpack_kept(packed: Array, count: int) -> list[Array | None] | None:
    """So many arrays, each after its length, -1 for none; None if these are not all the numbers."""
    kept: list[Array | None] = []
    place = 0
    for _ in range(count):
        if place >= len(packed):
            return None
        size = int(packed[place])
        if size < -1 or place + 1 + size > len(packed):
            return None
        kept.append(None if size < 0 else np.array(packed[place + 1 : place + 1 + size]))
        place += 1 + max(size, 0)
    return kept if place == len(packed) else None


def place_origins(slots: int, count: int = ORIGINS) -> NDArray[np.int64]:
    """Reference slots of the hindcasts of a window, the last ones as dense as the first."""
    first = sweep.LEAST_CAPTURES - 1
    if slots <= first + 1:
        return np.empty(0, np.int64)
    return np.unique(np.linspace(first, slots - 2, min(count, slots - 1 - first)).astype(np.int64))


def calibrate(spec: Specification, window: Window) -> Calibration:
    """Calibration at the end of a sample's window, from hindcasts within it."""
    slots = len(window.values)
    found = place_origins(slots)
    if spec.categorical or spec.is_constant:
        # Of what never changed no error was seen: what counts is how often it was looked at.
        counts = labels.shares(spec, window.values, window.starts)
        return replace(uncalibrated(spec), ratios=counts)
    if not len(found):
        return uncalibrated(spec)
    sequence = Sequence(spec, hindcasts.rolling(spec, window, found), window.starts)
    sequence.run()
    return sequence.at(slots - 1, len(found))


def fit(
    spec: Specification,
    slots: NDArray[np.int64],
    times_s: Array,
    values: Array,
    starts: NDArray[np.int64],
    *,
    trusted: NDArray[np.bool_],
    gated: NDArray[np.bool_],
) -> tuple[Specification, Outlook]:
    """Outlook of a variable from a window of its sample, and the specification with its modes.

    Parameters
    ----------
    spec : Specification
    slots, times_s, values, starts, trusted, gated
        As for `learn`; the cells are the sample, each sampled chunk one chunk.
    """
    learnt = learn(spec, slots, times_s, values, starts, trusted=trusted, gated=gated)
    window = learnt.window
    weight = hindcasts.weights(spec, len(window.values))
    season = climatology.features(spec, window.times_s) @ learnt.state.coefficients
    if spec.categorical:
        found = modes.nothing(len(season), values.shape[1])
    else:
        found = modes.fit(window.values - season, weight)
    spec = replace(spec, modes=len(found.patterns))
    coefficients = learnt.state.coefficients.copy()
    coefficients[0] += found.offsets
    record = modes.record_of(spec, found.amplitudes, weight)
    everything = np.arange(values.shape[1])
    fitted = fit_candidates(
        spec,
        record,
        lambda: hindcasts.cell_record(
            spec, learnt.state, window.times_s, window.values - season, everything
        ),
        (),
    )
    outlook = Outlook(
        replace(calibrate(spec, learnt.captured), doubted=learnt.doubted),
        found.patterns,
        coefficients,
        found.amplitudes[-LONGEST:],
        int(slots[-1]),
        fitted,
    )
    return spec, outlook.look_ahead(spec)
