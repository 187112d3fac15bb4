"""What is known of a variable as a whole: its modes, and how far its forecasts can be trusted.

It comes from a bounded sample of cells, spread over the variable, at a refit.  Between refits only
the modes' amplitudes go on.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

import numpy as np
from numpy.typing import NDArray

from gnomon.storage.errors import InvalidInput
from gnomon.tasks.forecasting import climatology, hindcasts, labels, modes, sweep
from gnomon.tasks.forecasting.calibration import Calibration, Sequence, uncalibrated
from gnomon.tasks.forecasting.candidate import CANDIDATES, ModeRecord
from gnomon.tasks.forecasting.candidates import Prospect, names_of, prospect_of
from gnomon.tasks.forecasting.guarded import MOST_NUMBERS, Fitted, fit_candidates, look_ahead
from gnomon.tasks.forecasting.hindcasts import LONGEST, Window
from gnomon.tasks.forecasting.learning import learn
from gnomon.tasks.forecasting.specification import Array, Specification

type Shapes = list[tuple[int, ...]]

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
    """By the same: (H, M) amplitudes that one of the modes predicts. They are predicted once for
    each slot that is stored, as such a candidate may be slow."""
    plain: Calibration | None = None
    """Calibration of the built-in candidates alone; None if there are no others."""

    def forecast(self, spec: Specification, leads: int) -> Prospect:
        """What is known of the slots after the last, for every candidate."""
        return prospect_of(self._record(spec), leads, self.ahead, self.fitted)

    def without_candidates(self, spec: Specification) -> tuple[Specification, Outlook]:
        """The same with the built-in candidates alone; a state goes with it as it is."""
        plain = spec.plain()
        calibration = self.plain or uncalibrated(plain)
        calibration = replace(calibration, doubted=self.calibration.doubted)
        return plain, replace(self, calibration=calibration, fitted=(), ahead=(), plain=None)

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
        latest = modes.project(self.patterns, anomalies[None])
        # The projection of nothing is zero, the climatology; what is not known must not say so.
        if not np.isfinite(anomalies).any():
            latest = np.full_like(latest, np.nan)
        gap = np.full((min(slot - self.slot, LONGEST) - 1, len(self.patterns)), np.nan)
        grown = np.concatenate([self.amplitudes, gap, latest])[-LONGEST:]
        return replace(self, amplitudes=grown, slot=slot).look_ahead(spec)

    def onward(self, slot: int) -> Array | None:
        """Amplitudes (slots, M) since an earlier slot, with which `go_on` comes to this outlook.

        None where they are not all it takes: there are other candidates, or it is too long ago.
        """
        passed = self.slot - slot
        if self.fitted or not 0 < passed < len(self.amplitudes):
            return None
        return self.amplitudes[len(self.amplitudes) - passed :]

    def go_on(self, amplitudes: Array) -> Outlook:
        """Outlook as it became with later amplitudes (slots, M).

        Raises
        ------
        InvalidInput
            They are of another number of modes.
        """
        if amplitudes.ndim != 2 or amplitudes.shape[1] != self.amplitudes.shape[1]:
            raise InvalidInput(
                f"found amplitudes {amplitudes.shape}, expected {self.amplitudes.shape[1]} modes"
            )
        grown = np.concatenate([self.amplitudes, amplitudes])[-LONGEST:]
        return replace(self, amplitudes=grown, slot=self.slot + len(amplitudes))

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
        parts = [_flat(self.calibration), self.patterns, self.coefficients, self.amplitudes]
        plain = () if self.plain is None else (_flat(self.plain),)
        # Each with its length before it; none is -1.
        for kept in (*self.fitted, *self.ahead, *plain):
            parts += [np.array([-1.0])] if kept is None else [np.array([float(kept.size)]), kept]
        head = [len(self.amplitudes), self.patterns.shape[1], self.slot, self.calibration.doubted]
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
        leads, doubted = spec.leads, float(packed[3])
        shapes = _calibration_shapes(leads, len(names_of(spec)))
        calibrated = HEAD + _size(shapes)
        shapes = [(spec.modes, cells), (spec.terms, cells), (slots, spec.modes)]
        end = calibrated + _size(shapes)
        chosen = len(spec.candidates)
        kept = _unpack_kept(packed[end:], 2 * chosen + (chosen > 0), MOST_NUMBERS)
        if min(slots, cells) < 0 or kept is None or end > len(packed) or not _fits(kept, spec):
            raise InvalidInput(
                f"found {len(packed)} numbers of an outlook, expected {end}: "
                "was the specification changed?"
            )
        patterns, coefficients, amplitudes = _split(packed[calibrated:end], shapes)
        ahead = tuple(p if p is None else p.reshape(leads, spec.modes) for p in kept[chosen:-1])
        plain = kept[-1] if kept else None
        return cls(
            _calibration(packed[HEAD:calibrated], leads, len(names_of(spec)), doubted),
            patterns,
            coefficients,
            amplitudes,
            slot,
            tuple(kept[:chosen]),
            ahead,
            None if plain is None else _calibration(plain, leads, len(CANDIDATES)),
        )


def _flat(calibration: Calibration) -> Array:
    """Numbers (H * (C + 7),) of a calibration, without what was doubted."""
    names = "weights", "factors", "roots", "ratios", "squares"
    return np.concatenate([getattr(calibration, name).ravel() for name in names])


def _calibration(flat: Array, leads: int, candidates: int, doubted: float = 0.0) -> Calibration:
    """Calibration from the output of `_flat`."""
    weights, factors, roots, ratios, squares = _split(flat, _calibration_shapes(leads, candidates))
    return Calibration(weights, factors, roots, ratios, squares, doubted)


def _calibration_shapes(leads: int, candidates: int) -> Shapes:
    return [(leads, candidates), (leads,), (leads,), (3, leads), (2, leads)]


def _size(shapes: Shapes) -> int:
    """Numbers that arrays of these shapes have together."""
    return sum(map(prod, shapes))


def _split(flat: Array, shapes: Shapes) -> list[Array]:
    """Arrays of these shapes that stand one after another."""
    ends = np.cumsum([prod(shape) for shape in shapes])[:-1]
    parts = zip(np.split(flat, ends), shapes, strict=True)
    return [np.array(part).reshape(shape) for part, shape in parts]


def _fits(kept: list[Array | None], spec: Specification) -> bool:
    """Whether what candidates left behind can be theirs: amplitudes, and a second calibration."""
    if not spec.candidates:
        return not kept
    *ahead, plain = kept[len(spec.candidates) :]
    sizes = {spec.leads * spec.modes, None}
    if any((None if part is None else part.size) not in sizes for part in ahead):
        return False
    return plain is not None and plain.size == _size(
        _calibration_shapes(spec.leads, len(CANDIDATES))
    )


def _unpack_kept(packed: Array, count: int, most: int) -> list[Array | None] | None:
    """So many arrays, each after its length, -1 for none; None if these are not all the numbers."""
    kept: list[Array | None] = []
    place = 0
    for _ in range(count):
        if place >= len(packed):
            return None
        size = int(packed[place]) if np.isfinite(packed[place]) else -2
        if not -1 <= size <= most or place + 1 + size > len(packed):
            return None
        kept.append(None if size < 0 else np.array(packed[place + 1 : place + 1 + size]))
        place += 1 + max(size, 0)
    return kept if place == len(packed) else None


def place_origins(slots: int, count: int = ORIGINS) -> NDArray[np.int64]:
    """Reference slots of the hindcasts of a window, the last ones as dense as the first."""
    first = sweep.LEAST_CAPTURES - 1
    if slots <= first + 1:
        return np.empty(0, np.int64)
    # From when something is expected to when one capture is left to verify with.
    return np.unique(np.linspace(first, slots - 2, min(count, slots - 1 - first)).astype(np.int64))


def calibrate(spec: Specification, window: Window) -> tuple[Calibration, Calibration | None]:
    """Calibration at the end of a sample's window, from hindcasts within it.

    The second is that of the built-in candidates alone; None if there are no others.
    """
    slots = len(window.values)
    origins = place_origins(slots)
    forms = (spec, spec.plain()) if spec.candidates else (spec,)
    if spec.categorical or spec.is_constant:
        # Of what never changed no error was seen: what counts is how often it was looked at.
        counts = labels.shares(spec, window.values, window.starts)
        calibrations = [replace(uncalibrated(form), ratios=counts) for form in forms]
    elif not len(origins):
        calibrations = [uncalibrated(form) for form in forms]
    else:
        forecasts = hindcasts.rolling(spec, window, origins)
        calibrations = []
        for form in forms:
            sequence = Sequence(form, forecasts.take(len(names_of(form))), window.starts)
            # In order: each hindcast is scored with what was calibrated on those before it.
            sequence.run()
            calibrations.append(sequence.at(slots - 1, len(origins)))
    return calibrations[0], calibrations[1] if spec.candidates else None


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
        leading = modes.nothing(len(season), values.shape[1])
    else:
        leading = modes.fit(window.values - season, weight)
    spec = replace(spec, modes=len(leading.patterns))
    coefficients = learnt.state.coefficients.copy()
    # Kept, so that a roll projects anomalies about the same means as the modes have.
    coefficients[0] += leading.offsets
    record = modes.record_of(spec, leading.amplitudes, weight)
    everything = np.arange(values.shape[1])
    fitted = fit_candidates(
        spec,
        record,
        lambda: hindcasts.cell_record(
            spec, learnt.state, window.times_s, window.values - season, everything
        ),
        (),
    )
    # Not the window: there the history is moved to a level that was not known yet.
    calibration, plain = calibrate(spec, learnt.captured)
    outlook = Outlook(
        replace(calibration, doubted=learnt.doubted),
        leading.patterns,
        coefficients,
        leading.amplitudes[-LONGEST:],
        int(slots[-1]),
        fitted,
        plain=plain,
    )
    return spec, outlook.look_ahead(spec)
