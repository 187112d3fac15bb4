"""Features: what the captures say of a variable before it is forecast.

A bounded sample of cells stands for the variable. At a refit it is read over a bounded window of
captures: seasonal periods, orders, EOF modes and the calibration of hindcasts come from it. Between
refits only its newest captures are read, and the modes go on.
"""

from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gnomon.storage.captures import CaptureStack
from gnomon.storage.errors import Integrity
from gnomon.storage.grid import Index
from gnomon.storage.model import Variable
from gnomon.storage.repository import Repository
from gnomon.storage.times import SECOND
from gnomon.tasks.cadence import Cadence, identify_cadence, year_seconds
from gnomon.tasks.expectation import Forecaster, forecaster_of
from gnomon.tasks.forecasting import Outlook, Specification, fit_outlook, identify, usable
from gnomon.tasks.forecasting.bounds import bounds
from gnomon.tasks.forecasting.orders import changed_share
from gnomon.tasks.trusted import trusted_values
from gnomon.tasks.work import Mapper, serial

__all__ = ["Features", "distinct_slots", "features", "gated", "refit_reason", "window"]

MIN_CAPTURES = 3
"""Captures below which nothing is forecast."""
MAX_WINDOW = 512
"""Captures that a refit reads at most."""
WINDOW_BYTES = 2**28
"""Memory that one chunk's window may take, as float64."""
SAMPLE_CHUNKS = 16
SAMPLE_CELLS = 64
"""Cells of each sampled chunk whose histories are looked at."""
DRIFTED_SHARE = 0.2
"""Share of chunks that have drifted, above which everything is learnt anew."""
GROWTH = 1.5
"""A refit is due when the captures have grown by this factor since the last one."""
LEAST_GROWTH = 8
"""Captures between two refits, at least, unless something else forces one."""


@dataclass(frozen=True, slots=True)
class Features:
    """How a variable will be forecast."""

    specification: Specification
    """Periods, orders, bounds and tolerance."""
    cadence: Cadence
    """The grid of capture times."""
    outlook: Outlook
    """Modes and calibration, up to the newest capture."""
    sample: tuple[Index, ...]
    """Chunks that the outlook's cells are in."""
    refit: str | None
    """Why everything is learnt anew; None: the state rolls forward."""
    refit_captures: int
    """How many captures there were at the last refit."""

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "specification": self.specification.to_json(),
            "cadence": self.cadence.to_json(),
            "sample": [list(index) for index in self.sample],
            "refit": self.refit,
            "refit_captures": self.refit_captures,
        }


def refit_reason(repository: Repository, name: str) -> str | None:
    """Return why a variable must be learnt anew, or None if its state can roll forward."""
    record = repository.forecaster
    if record is None or name not in record.body["forecaster"]:
        return "first forecast"
    entry = record.body["forecaster"][name]
    if not Specification.is_current(entry["specification"]):
        return "a newer version of the forecaster"
    before = int(entry["refit_captures"])
    now = len(repository.timeline)
    if now >= before + LEAST_GROWTH:
        if now >= before * GROWTH:
            return f"captures grew from {before} to {now}"
        if float(entry.get("drifted", 0.0)) > DRIFTED_SHARE:
            return f"{entry['drifted']:.0%} of the chunks have drifted from what was learnt"
    known = repository.captured[int(record.body["step"])]
    if repository.timeline[-1].instant < known.instant:
        return "the newest capture that was learnt was forgotten"
    changed = [r for r in repository.records[record.sequence :] if r.kind == "verdict"]
    steps = (repository.captured[int(c["step"])] for r in changed for c in r.body["chunks"])
    judged = any(step.instant <= known.instant for step in steps)
    return "a verdict changed what was learnt" if judged else None


def window(repository: Repository, variable: Variable) -> list[int]:
    """Return the numbers of the captures that a refit reads, in order of time."""
    chunk = 8 * int(np.prod(variable.chunks))
    count = min(MAX_WINDOW, max(32, WINDOW_BYTES // chunk))
    return [s.step for s in repository.timeline[-count:]]


def features(
    repository: Repository, *, refit: str | None = None, mapper: Mapper = serial
) -> dict[str, Features]:
    """Return how each variable will be forecast; empty while there are too few captures.

    Parameters
    ----------
    refit
        Reason to learn anew; None: only if it is due.
    """
    if len(repository.timeline) < MIN_CAPTURES:
        return {}
    names = [v.name for v in repository.settings.variables if v.forecast]
    jobs = [(repository.location.url, repository.records[-1].sequence, n, refit) for n in names]
    found = mapper(_features_of, jobs)
    return {n: f for n, f in zip(names, found, strict=True) if f is not None}


def _features_of(job: tuple[str, int, str, str | None]) -> Features | None:
    url, sequence, name, wanted = job
    repository = Repository.open(url).at(sequence)
    reason = wanted or refit_reason(repository, name)
    before = None if reason is not None else forecaster_of(repository, name)
    if before is not None and _changes(repository, name, before):
        reason, before = "it changed for the first time", None
    if before is not None:
        return _roll_forward(repository, name, before)
    settings, variable = repository.settings, repository.settings.variable(name)
    numbers = window(repository, variable)
    times = np.array([repository.captured[s].instant for s in numbers], np.int64)
    cadence = identify_cadence(times, settings.calendar, settings.interval_s)
    kept = distinct_slots(cadence, times)
    captures = repository.captures(name)
    steps = [numbers[int(k)] for k in kept]
    chosen = _sample_chunks(captures, steps[-1])
    values, starts, trusted = _sample(captures, steps, chosen)
    if np.isfinite(values).sum(axis=0).max(initial=0) < MIN_CAPTURES:
        return None
    times_s = times[kept] / SECOND
    specification = identify(
        times_s,
        np.where(np.repeat(trusted, np.diff(starts), axis=1), values, np.nan),
        interval_s=cadence.interval_s,
        leads=settings.leads,
        year_s=year_seconds(settings.calendar),
        periods_s=settings.periods_s,
        bounds=bounds(
            variable.bounds(),
            str(variable.attributes.get("standard_name", "")),
            str(variable.attributes.get("units", "")),
            values,
        ),
        tolerance=settings.tolerances.get(name),
        resolution=variable.packing.resolution,
        categorical=variable.categorical,
    )
    accepted = repository.state.accepted.get(name, frozenset())
    specification, outlook = fit_outlook(
        specification,
        np.array([cadence.slot(int(t)) for t in times[kept]]),
        times_s,
        values,
        starts,
        trusted=trusted,
        gated=gated(steps, chosen, accepted),
    )
    reason = reason or "what was learnt is damaged"
    return Features(
        specification, cadence, outlook, tuple(chosen), reason, len(repository.timeline)
    )


def gated(
    steps: list[int], chunks: list[Index], accepted: frozenset[tuple[int, Index]]
) -> NDArray[np.bool_]:
    """Tell which captured chunks (step, chunk) are not learnt if they depart too far."""
    return np.array([[(s, i) not in accepted for i in chunks] for s in steps])


def _changes(repository: Repository, name: str, before: Forecaster) -> bool:
    """Tell whether a variable that never changed has done so since the last forecast.

    Until then nothing is known of how it changes, and what is expected of it is worth nothing.
    """
    record = repository.forecaster
    if record is None or not before.specification.is_constant:
        return False
    known = repository.captured[int(record.body["step"])]
    later = [s.step for s in repository.timeline if s.instant > known.instant]
    values, *_ = _sample(repository.captures(name), [known.step, *later], list(before.sample))
    return changed_share(values) > 0


def _roll_forward(repository: Repository, name: str, before: Forecaster) -> Features:
    record = repository.forecaster
    assert record is not None
    captures = repository.captures(name)
    known = repository.captured[int(record.body["step"])].instant
    outlook = before.outlook
    for step in (s for s in repository.timeline if s.instant > known):
        slot = before.cadence.slot(step.instant)
        if slot > outlook.slot:
            values, *_ = _sample(captures, [step.step], list(before.sample))
            time_s = step.instant / SECOND
            outlook = outlook.roll(before.specification, slot, time_s, values[0])
    count = int(record.body["forecaster"][name]["refit_captures"])
    return Features(before.specification, before.cadence, outlook, before.sample, None, count)


def distinct_slots(cadence: Cadence, times: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return positions of the captures that open a new slot; a second one in it is not learnt."""
    slots = np.array([cadence.slot(int(t)) for t in times])
    highest = np.maximum.accumulate(slots)
    return np.flatnonzero(np.concatenate([[True], slots[1:] > highest[:-1]]))


def _sample_chunks(captures: CaptureStack, step: int) -> list[Index]:
    """Return chunks spread over the variable; those with values, unless there are none."""
    indices = list(captures.variable.grid.indices())
    if len(indices) > SAMPLE_CHUNKS:
        # In an order that spreads from the start, so that few are read where all have values.
        stride = len(indices) // SAMPLE_CHUNKS
        spread = [index for k in range(stride) for index in indices[k::stride]]
        valid = (i for i in spread if _has_values(captures, step, i))
        return list(islice(valid, SAMPLE_CHUNKS)) or spread[:SAMPLE_CHUNKS]
    return indices


def _has_values(captures: CaptureStack, step: int, index: Index) -> bool:
    try:
        return bool(np.isfinite(captures.variable.to_physical(captures.chunk(step, index))).any())
    except Integrity:
        return False  # as it is sampled, this is told


def _sample(
    captures: CaptureStack, steps: list[int], chunks: list[Index]
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.bool_]]:
    """Return histories (step, cell) of cells of some chunks, where each starts, and their trust.

    A chunk that is suspect or damaged is NaN, and not trusted (step, chunk).
    """
    grid = captures.variable.grid
    columns, sizes = [], [0]
    trusted = np.zeros((len(steps), len(chunks)), bool)
    for place, index in enumerate(chunks):
        cells = int(np.prod([s.stop - s.start for s in grid.cells(index)]))
        picked = np.unique(np.linspace(0, cells - 1, min(cells, SAMPLE_CELLS)).astype(np.int64))
        history = np.full((len(steps), picked.size), np.nan)
        for k, step in enumerate(steps):
            values = trusted_values(captures, step, index)
            if values is not None:
                trusted[k, place] = True
                history[k] = usable(values.ravel()[picked])
        columns.append(history)
        sizes.append(picked.size)
    return np.concatenate(columns, axis=1), np.cumsum(sizes), trusted
