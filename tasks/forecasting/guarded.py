"""Candidates of the user's choice, called so that a bad one does no harm.

What they are given cannot be written to; what they return is checked.  One that fails is told once
in each process, is named to whoever asks by `Telling`, and is left out.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import numpy as np

from gnomon.storage.entrypoints import FOREIGN
from gnomon.storage.errors import GnomonError, NotFound
from gnomon.storage.redaction import one_line
from gnomon.tasks.forecasting import registry
from gnomon.tasks.forecasting.candidate import (
    Candidate,
    CellCandidate,
    CellPast,
    CellRecord,
    ModeCandidate,
    ModeRecord,
)
from gnomon.tasks.forecasting.specification import Array, Specification

logger = logging.getLogger(__name__)

MOST_NUMBERS = 10**6
"""Of what a candidate leaves behind: they are written with every update."""
LARGEST_SIZE = 1e3
"""Times the size of a variable's climatology, or of its modes, that a prediction may have: no
weight helps against one value beyond all measure."""
MOST_LAGS = 512
"""Slots of the past that a candidate may predict from: each is a number per cell."""


class Unusable(ValueError):
    """What a candidate returned is not what it has to be."""


type Fitted = Array | None
"""What a candidate left behind at its fit; None: the fit failed."""


def chosen(spec: Specification) -> tuple[Candidate, ...]:
    """Candidates of the user's choice; one that is not there fails when it is asked."""
    return tuple(map(_find, spec.candidates, spec.versions))


def choose(spec: Specification, names: Iterable[str]) -> Specification:
    """Specification with the candidates of these names, as far as they are there.

    A warning names those that are not. Labels have none, as nothing lies between them.
    """
    if spec.categorical:
        return spec
    lags: dict[str, int] = {}
    versions: dict[str, int] = {}
    for candidate in map(_find, dict.fromkeys(names)):
        if (wanted := _guarded(_lags, candidate, spec)) is not None:
            lags[candidate.name] = wanted
            versions[candidate.name] = registry.version_of(candidate)
    return replace(
        spec,
        candidates=tuple(lags),
        versions=tuple(versions.values()),
        lags=max(lags.values(), default=0),
    )


def cost_s(names: Iterable[str]) -> float:
    """Seconds that a refit of one variable spends on candidates of these names, about."""
    return sum(max(0.0, float(_find(name).cost_s)) for name in names)


@dataclass(frozen=True, slots=True)
class Telling[A, B]:
    """A function that also tells which candidates failed while it was called, and why."""

    function: Callable[[A], B]
    """What is called; picklable, as this is then."""

    @property
    def __name__(self) -> str:
        """Name of the function, which a dashboard shows."""
        function: Any = self.function
        return str(getattr(function, "func", function).__name__)  # that of a partial is within

    def __call__(self, item: A, /) -> tuple[B, dict[str, str]]:
        """Return the function's result, and the first reason of each that failed, by name."""
        failures: dict[str, str] = {}
        token = _listener.set(failures)
        try:
            return self.function(item), failures
        finally:
            _listener.reset(token)


def unfitted(spec: Specification, fitted: tuple[Fitted, ...]) -> dict[str, str]:
    """Candidates of the user's choice that nothing was left behind of, and why."""
    return {
        candidate.name: "it could not be fitted at the last refit"
        for candidate, parameters in zip(chosen(spec), fitted, strict=True)
        # Of one that is not here it is not known what it predicts, and it is told elsewhere.
        if parameters is None
        and not isinstance(candidate, _Absent)
        and (candidate.per == "cell" or spec.modes)
    }


def _guarded[R](ask: Callable[..., R], candidate: Candidate, *given: Any) -> R | None:
    """What comes of asking a candidate; None, with a warning, if it fails: the others go on."""
    try:
        return ask(candidate, *given)
    except (GnomonError, Unusable) as error:
        _pass_over(candidate.name, one_line(error))
    except FOREIGN as error:
        _pass_over(candidate.name, f"{type(error).__name__}: {one_line(error)}")
    return None


def _lags(candidate: Candidate, spec: Specification) -> int:
    """Slots that a candidate predicts from."""
    if isinstance(candidate, _Absent):
        raise NotFound(candidate.reason)
    lags = int(candidate.lags(spec)) if candidate.per == "cell" else 0
    if not 0 <= lags <= MOST_LAGS:
        raise Unusable(f"it wants {lags} lags, expected 0 to {MOST_LAGS}")
    return lags


def _find(name: str, version: int | None = None) -> Candidate:
    """Candidate of a name, and of the version that was fitted; None: of any."""
    try:
        candidate = registry.find(name)
    except GnomonError as error:
        return _Absent(name, str(error))
    if version is not None and registry.version_of(candidate) != version:
        # Its numbers may mean something else by now.
        return _Absent(
            name,
            f"version {version} was fitted, but version {registry.version_of(candidate)} is "
            "installed: it has to be fitted anew",
        )
    return candidate


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
    record: CellRecord | None = None
    guesses = before or (None,) * len(spec.candidates)
    for candidate, guess in zip(chosen(spec), guesses, strict=True):
        if candidate.per == "cell" and record is None:
            record = cells()
        fitted.append(_guarded(_fit, candidate, amplitudes, record, guess))
    return tuple(fitted)


def _fit(
    candidate: Candidate, amplitudes: ModeRecord, cells: CellRecord | None, before: Fitted
) -> Fitted:
    if candidate.per == "cell":
        assert cells is not None
        parameters = _numbers(candidate.fit(_sealed(cells), before))
    elif amplitudes.amplitudes.shape[1]:
        parameters = _numbers(candidate.fit(_sealed(amplitudes), before))
    else:
        return None
    if parameters.ndim != 1 or not np.isfinite(parameters).all():
        raise Unusable(f"fit returned {_looks(parameters)}, expected finite numbers (F,)")
    if len(parameters) > MOST_NUMBERS:
        raise Unusable(f"fit returned {len(parameters)} numbers, {MOST_NUMBERS} at most")
    return parameters


def look_ahead(
    spec: Specification, fitted: tuple[Fitted, ...], record: ModeRecord
) -> tuple[Array | None, ...]:
    """Amplitudes (H, M) by each of the user's candidates; None where it predicts none."""
    return tuple(
        _guarded(_predict_modes, candidate, parameters, record) if candidate.per == "mode" else None
        for candidate, parameters in zip(chosen(spec), fitted, strict=True)
    )


def _predict_modes(
    candidate: ModeCandidate, parameters: Fitted, record: ModeRecord
) -> Array | None:
    shape = leads, count = record.spec.leads, record.amplitudes.shape[1]
    if parameters is None or not count:
        return None
    amplitudes = _numbers(candidate.predict(parameters, _sealed(record), leads))
    if amplitudes.shape != shape or not np.isfinite(amplitudes).all():
        raise Unusable(f"predict returned {_looks(amplitudes)}, expected finite {shape}")
    size, largest = np.abs(record.amplitudes).max(), np.abs(amplitudes).max()
    if largest > LARGEST_SIZE * size:
        raise Unusable(f"predict returned {largest:.3g}, of amplitudes up to {size:.3g}")
    return amplitudes


def predict_cells(candidate: CellCandidate, parameters: Fitted, past: CellPast) -> Array | None:
    """Values (H, N) that a candidate predicts, NaN where it does not know; None if it fails."""
    return _guarded(_predict_cells, candidate, parameters, past)


def _predict_cells(candidate: CellCandidate, parameters: Fitted, past: CellPast) -> Array | None:
    if parameters is None:
        return None
    values = _numbers(candidate.predict(parameters, _sealed(past)))
    if values.shape != past.season.shape:
        raise Unusable(f"predict returned {_looks(values)}, expected {past.season.shape}")
    size = np.nanmax(np.abs(past.season), initial=0.0) + np.nanmax(past.scale, initial=0.0)
    mad = ~(np.abs(values) <= LARGEST_SIZE * size) & ~np.isnan(values)
    if mad.any():
        raise Unusable(f"predict returned {values[mad][0]:.3g}, of values up to {size:.3g}")
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
    Unusable
        They are no real numbers.
    """
    values = np.ma.filled(given.astype(np.float64), np.nan) if np.ma.isMaskedArray(given) else given
    if np.iscomplexobj(values):
        raise Unusable("it returned complex numbers")
    return np.array(values, np.float64)


def _looks(values: Array) -> str:
    finite = "" if np.isfinite(values).all() else ", some not finite"
    return f"numbers of shape {values.shape}{finite}"


def _pass_over(name: str, reason: str) -> None:
    """Say that a candidate failed; once, as it is asked for every block of every update."""
    if (failures := _listener.get()) is not None:
        failures.setdefault(name, reason)
    if name not in _told:
        _told.add(name)
        logger.warning("the candidate %.40r failed, and is left out: %s", name, reason)


_told: set[str] = set()
"""Names of which that was said in this process."""
_listener: ContextVar[dict[str, str] | None] = ContextVar("failed candidates", default=None)
