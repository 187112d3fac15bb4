"""Features: what the captures say of a variable before it is forecast.

A bounded sample of cells stands for the variable. At a refit it is read over a bounded window of
captures: seasonal periods, orders, EOF modes and the calibration of hindcasts come from it. Between
refits only its newest captures are read, and the modes go on.
"""

from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from math import prod

import numpy as np
from numpy.typing import NDArray

from gnomon.storage.errors import Integrity
from gnomon.storage.log.bodies.verdict import VerdictBody
from gnomon.storage.log.steps import CapturedStep, Shadow
from gnomon.storage.pin import Pin
from gnomon.storage.repository import Repository
from gnomon.storage.stacks.captures import CaptureStack
from gnomon.storage.values.grid import Index
from gnomon.storage.values.model import RepositorySettings, Variable
from gnomon.storage.values.times import SECOND
from gnomon.tasks.forecasting import (
    Outlook,
    Specification,
    Telling,
    choose,
    cost_s,
    unfitted,
    usable,
)
from gnomon.tasks.forecasting.changes import has_changed
from gnomon.tasks.learning.cadence import (
    MIN_CAPTURES,
    Cadence,
    distinct_slots,
    identify_cadence,
    year_seconds,
)
from gnomon.tasks.learning.expectation import Forecaster, forecaster_of, specification_of
from gnomon.tasks.learning.recorded import is_believed
from gnomon.tasks.learning.refit import (
    CHANGED,
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
from gnomon.tasks.learning.trusted import trusted_values
from gnomon.tasks.work import Mapper, serial

__all__ = [
    "Features",
    "features",
    "gated",
    "refit_reason",
    "traits_of",
    "window",
]


LATE = "captures of earlier times have come"
"""Why a variable is learnt anew, where that is cheap, though nothing makes it due."""


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
    failed_candidates: dict[str, str] = field(default_factory=dict)
    """Candidates of the user's choice that failed, and why: it is forecast without them."""


def refit_reason(repository: Repository, name: str, *, share: float = REFIT_SHARE) -> str | None:
    """Return why a variable must be learnt anew, or None if its state can roll forward.

    Parameters
    ----------
    share
        Share of the capture interval that refits may take to be made often.
    """
    record = repository.forecaster
    if record is None or name not in record.learnt:
        return "first forecast"
    entry = record.learnt[name]
    if not Specification.is_current(entry.specification):
        return "a newer version of the forecaster"
    learnt = specification_of(repository, name)
    chosen = learnt and choose(learnt, repository.state.candidates)
    if learnt is not None and chosen != learnt:
        return "other candidates were chosen"
    reason = _rewritten(repository, record, repository.captured[record.step])
    if reason is not None:
        return reason
    kept = Kept(entry.refit_captures, float(entry.drifted))
    interval_s = Cadence.from_json(dict(entry.cadence)).interval_s
    is_cheap = partial(_is_cheap, repository, interval_s, share)
    late = _learnt_late(repository, record)
    if any(step.revises is not None for step in late):
        return "a capture that was learnt was revised"
    return due(kept, len(repository.timeline), is_cheap) or (LATE if late and is_cheap() else None)


def _rewritten(repository: Repository, record: Shadow, learnt_step: CapturedStep) -> str | None:
    """Return what has changed of the captures that were learnt from; None if nothing."""
    if not is_believed(repository, learnt_step.step):
        return "the time of the newest capture that was learnt is doubted"
    if repository.timeline[-1].instant < learnt_step.instant:
        return "the newest capture that was learnt was forgotten"
    if any(repository.captured[step].forgotten for step in record.rolled):
        return "a capture that was learnt lately was forgotten"
    later = [r for r in repository.records[record.sequence :] if r.kind == VerdictBody.kind]
    verdicts = [VerdictBody.from_json(r.body) for r in later]
    if any(verdict.times or verdict.doubted for verdict in verdicts):
        return "a verdict changed which times are believed"
    steps = (repository.captured[c.step] for verdict in verdicts for c in verdict.chunks)
    if any(step.instant <= learnt_step.instant for step in steps):
        return "a verdict changed what was learnt"
    return None


def _learnt_late(repository: Repository, record: Shadow) -> list[CapturedStep]:
    """Return the captures since the last forecast of times up to those that it knew."""
    learnt = repository.captured[record.step].instant
    return [
        step
        for step in repository.timeline
        if step.sequence > record.sequence and step.instant <= learnt
    ]


def _is_cheap(repository: Repository, interval_s: float, share: float) -> bool:
    """Tell whether refits of all variables together are cheap beside the capture interval."""
    learnt = [v for v in repository.settings.variables if v.forecast]
    read = sum(prod(v.shape) * len(window(repository, v)) for v in learnt)
    return is_cheap(
        read,
        interval_s,
        variables=len(learnt),
        candidates_s=cost_s(repository.state.candidates),
        share=share,
    )


def window(repository: Repository, variable: Variable) -> list[int]:
    """Return the numbers of the captures that a refit reads, in order of time."""
    count = window_length(prod(variable.chunks))
    return [s.step for s in repository.timeline[-count:]]


def traits_of(
    settings: RepositorySettings, variable: Variable, candidates: tuple[str, ...] = ()
) -> Traits:
    """Return what is settled of a variable before anything is learnt of it.

    Parameters
    ----------
    candidates
        Names of those beside the built-in ones.
    """
    return Traits(
        settings.leads,
        year_seconds(settings.calendar),
        settings.periods_s,
        variable.bounds(),
        str(variable.attributes.get("standard_name", "")),
        str(variable.attributes.get("units", "")),
        variable.categorical,
        settings.tolerances.get(variable.name),
        variable.packing.resolution,
        candidates,
    )


def features(
    repository: Repository,
    *,
    refit: str | None = None,
    share: float = REFIT_SHARE,
    mapper: Mapper = serial,
) -> dict[str, Features]:
    """Return how each variable will be forecast; empty while there are too few captures.

    Parameters
    ----------
    refit
        Reason to learn anew; None: only if it is due.
    share
        Share of the capture interval that refits may take to be made often.
    """
    if len(repository.timeline) < MIN_CAPTURES:
        return {}
    names = [v.name for v in repository.settings.variables if v.forecast]
    reasons = [refit or refit_reason(repository, n, share=share) for n in names]
    pin = Pin.of(repository)
    jobs = [(pin, name, reason) for name, reason in zip(names, reasons, strict=True)]
    by_name = {}
    for name, (learnt, failures) in zip(names, mapper(Telling(_features_of), jobs), strict=True):
        if learnt is not None:
            unused = unfitted(learnt.specification, learnt.outlook.fitted)
            by_name[name] = replace(learnt, failed_candidates=unused | failures)
    return by_name


def _features_of(job: tuple[Pin, str, str | None]) -> Features | None:
    pin, name, reason = job
    repository = pin.recall()
    before = None if reason is not None else forecaster_of(repository, name)
    if before is not None and _changes(repository, name, before):
        reason, before = CHANGED, None
    if before is not None:
        choose(before.specification, repository.state.candidates)  # tells which are not here
        return _roll_forward(repository, name, before)
    settings, variable = repository.settings, repository.settings.variable(name)
    numbers = window(repository, variable)
    instants = np.array([repository.captured[s].instant for s in numbers], np.int64)
    cadence = identify_cadence(instants, settings.calendar, settings.interval_s)
    distinct = distinct_slots(cadence, instants)
    captures = repository.captures(name)
    steps = [numbers[int(k)] for k in distinct]
    chosen = sampled_chunks(
        list(variable.grid.indices()), lambda index: _has_values(captures, steps[-1], index)
    )
    values, starts, trusted = _sample(captures, steps, chosen)
    fitted = fit_sample(
        traits_of(settings, variable, repository.state.candidates),
        cadence,
        instants[distinct],
        values,
        starts,
        trusted=trusted,
        gated=gated(steps, chosen, repository.state.accepted.get(name, frozenset())),
    )
    if fitted is None:
        return None
    reason = reason or "what was learnt is damaged"
    return Features(fitted[0], cadence, fitted[1], tuple(chosen), reason, len(repository.timeline))


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
    learnt_step = repository.captured[record.step]
    later = sum(s.instant > learnt_step.instant for s in repository.timeline)
    steps = [s.step for s in repository.timeline[-(later + 1 + RECALLED) :]] if later else []
    values, *_ = _sample(repository.captures(name), steps, list(before.sample))
    return has_changed(values)


def _roll_forward(repository: Repository, name: str, before: Forecaster) -> Features:
    record = repository.forecaster
    assert record is not None
    captures = repository.captures(name)
    instant = repository.captured[record.step].instant
    outlook = before.outlook
    for step in (s for s in repository.timeline if s.instant > instant):
        slot = before.cadence.slot(step.instant)
        if slot > outlook.slot:
            values, *_ = _sample(captures, [step.step], list(before.sample))
            time_s = step.instant / SECOND
            outlook = outlook.roll(before.specification, slot, time_s, values[0])
    count = record.learnt[name].refit_captures
    return Features(before.specification, before.cadence, outlook, before.sample, None, count)


def _has_values(captures: CaptureStack, step: int, index: Index) -> bool:
    if step < captures.variable.since:
        return False
    try:
        return bool(np.isfinite(captures.physical(step, index)).any())
    except Integrity:
        return False  # as it is sampled, this is told


def _sample(
    captures: CaptureStack, steps: list[int], chunks: list[Index]
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.bool_]]:
    """Return histories (step, cell) of cells of some chunks, where each starts, and their trust.

    A chunk that is suspect or damaged is NaN. It is not trusted (step, chunk) if it holds values:
    of others there is nothing to doubt.
    """
    variable = captures.variable
    cells = [prod(s.stop - s.start for s in variable.grid.cells(index)) for index in chunks]
    picked = [sampled_cells(count) for count in cells]
    columns = [np.full((len(steps), each.size), np.nan) for each in picked]
    trusted = np.zeros((len(steps), len(chunks)), bool)
    units: dict[Index, list[int]] = {}
    for place, index in enumerate(chunks):
        units.setdefault(variable.unit_of(index), []).append(place)
    # What is stored together is read together: the next state would drive it out of memory.
    for places, (k, step) in product(units.values(), enumerate(steps)):
        for place in places:
            values = trusted_values(captures, step, chunks[place])
            if values is not None:
                columns[place][k] = usable(values.ravel()[picked[place]])
            has_none = values is None and not _has_values(captures, step, chunks[place])
            trusted[k, place] = values is not None or has_none
    sizes = [0, *(each.size for each in picked)]
    return np.concatenate(columns, axis=1), np.cumsum(sizes), trusted
