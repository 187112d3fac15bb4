"""Materialize: write the shadow, the predicted states at leads 1..H, as small Zarr deltas."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gnomon.storage.checks.shadows import SHADOW_STATISTICS
from gnomon.storage.errors import InvalidInput
from gnomon.storage.log.bodies.report import Report
from gnomon.storage.log.bodies.shadow import PredictedEntry, ShadowBody
from gnomon.storage.log.staging import Batch, Entry
from gnomon.storage.pin import Pin
from gnomon.storage.repository import Repository
from gnomon.storage.stacks.captures import CaptureStack
from gnomon.storage.stacks.ledger import create_predicted_statistics
from gnomon.storage.stacks.quantising import NO_BASE, QuantisedChunk, quantise_alike
from gnomon.storage.stacks.shadows import (
    INDEX_COLUMNS,
    SCORE_COLUMNS,
    create_shadow,
    create_shadow_tables,
    discard_shadow,
    write_block,
)
from gnomon.storage.values.grid import Block, Index
from gnomon.storage.values.model import Variable
from gnomon.storage.values.times import SECOND, format_instant
from gnomon.tasks.forecasting import (
    Forecast,
    Outlook,
    Specification,
    State,
    Telling,
    last_capture_rmse,
    rows,
)
from gnomon.tasks.forecasting import forecast as predict
from gnomon.tasks.forecasting.specification import LARGEST
from gnomon.tasks.learning.cadence import Cadence
from gnomon.tasks.learning.expectation import Forecaster
from gnomon.tasks.learning.features import Features
from gnomon.tasks.learning.learn import PendingState, groups
from gnomon.tasks.learning.trusted import SEARCH, last_trusted_field
from gnomon.tasks.work import Mapper

__all__ = ["PREDICTION_STATISTICS", "Shadowed", "commit_shadow", "materialize", "withhold"]

PREDICTION_STATISTICS = ("predicted", *(statistic.name for statistic in SHADOW_STATISTICS))
Floats = NDArray[np.float64]
Withheld = Mapping[str, frozenset[Index]]
"""By variable, chunks whose prediction is not kept."""


@dataclass(frozen=True, slots=True)
class Shadowed:
    """A shadow, written but not yet committed."""

    learnt: PendingState
    """The state that it was made from."""
    reference: int
    """Reference time, an instant."""
    instants: tuple[int, ...]
    """Valid times of leads 1..H."""
    lasting: int
    """How many leads, the first ones, stay when newer shadows predict the others."""
    variables: dict[str, PredictedEntry]
    """What the record will say of each variable, without the ledger."""
    statistics: dict[str, dict[str, NDArray[np.float64]]]
    """By variable: columns (lead, *chunk grid) of the prediction table."""
    bases: tuple[int, ...]
    """Captured steps that the changes are counted from."""
    entries: dict[str, Entry]
    """The objects that were written, the forecaster's state included."""
    failed_candidates: dict[str, str]
    """Candidates of the user's choice that failed, here or before, and why."""


def materialize(
    repository: Repository,
    learnt: PendingState,
    mapper: Mapper,
    *,
    withheld: Withheld | None = None,
) -> Shadowed:
    """Predict every chunk at every lead, but for those withheld, and write the shadow."""
    withheld = withheld or {}
    reference = repository.captured[learnt.step].instant
    first = next(iter(learnt.features.values()))
    slot = first.cadence.slot(reference)
    leads = range(1, first.specification.leads + 1)
    instants = tuple(first.cadence.instant(slot + lead) for lead in leads)
    lasting = _lasting(repository, slot, first.cadence, len(leads))
    pin = Pin.of(repository)
    batch = Batch(repository.location, learnt.id, dict(learnt.entries))
    calendar = repository.settings.calendar
    about = {
        "forecast_reference_time": format_instant(reference, calendar),
        "valid_time": [format_instant(instant, calendar) for instant in instants],
        "calendar": calendar,
        "lasting_leads": lasting,
    }
    variables: dict[str, PredictedEntry] = {}
    statistics: dict[str, dict[str, Floats]] = {}
    bases: set[int] = set()
    failed = learnt.failed_candidates
    for name, features in learnt.features.items():
        variable = repository.settings.variable(name)
        grid = variable.grid
        create_shadow(batch, variable, len(leads), lasting, about)
        blocks = list(grid.blocks())
        refused = withheld.get(name, frozenset())
        job = partial(_materialize_block, pin, learnt, name, instants, lasting, refused)
        index = np.zeros((len(leads), *grid.counts, len(INDEX_COLUMNS)), np.int64)
        score = np.zeros((len(leads), *grid.counts, len(SCORE_COLUMNS)))
        columns = {n: np.zeros((len(leads), *grid.counts)) for n in PREDICTION_STATISTICS}
        for block, (result, failures) in zip(blocks, mapper(Telling(job), blocks), strict=True):
            failed = failures | failed
            index[:, *block.chunks], score[:, *block.chunks] = result.index, result.score
            for column, values in result.statistics.items():
                columns[column][:, *block.chunks] = values
            batch.merge(result.entries)
        bases |= set(map(int, np.unique(index[..., 0])))
        index_root, score_root = create_shadow_tables(batch, variable, index, score)
        variables[name] = replace(
            _summary(columns, score, features),
            index_root=index_root,
            score_root=score_root,
            withheld=tuple(sorted(refused)),
        )
        statistics[name] = columns
    base_steps = tuple(sorted(bases - {NO_BASE}))
    return Shadowed(
        learnt,
        reference,
        instants,
        lasting,
        variables,
        statistics,
        base_steps,
        batch.entries,
        failed,
    )


def _lasting(repository: Repository, slot: int, cadence: Cadence, leads: int) -> int:
    """Return how many leads will stay: as many as there were slots since the last shadow.

    If the next one comes after as many, it predicts the times of all others from nearer.
    """
    before = repository.shadows[-1:]
    since = slot - cadence.slot(before[0].reference) if before else 1
    return min(max(since, 1), leads)


def withhold(
    repository: Repository, shadowed: Shadowed, refused: Withheld, mapper: Mapper
) -> Shadowed:
    """Write a shadow that is not committed yet again, without the chunks that a check refused.

    Raises
    ------
    InvalidInput
        Nothing is left.
    """
    discard_shadow(repository.location, shadowed.learnt.id)  # objects are only ever created
    rewritten = materialize(repository, shadowed.learnt, mapper, withheld=refused)
    if not any(columns["predicted"].any() for columns in rewritten.statistics.values()):
        raise InvalidInput(
            "no chunk could be predicted from what was learnt, so no new shadow was kept; what was "
            "captured is kept: run 'gnomon update --refit'"
        )
    return rewritten


def _summary(columns: dict[str, Floats], score: Floats, features: Features) -> PredictedEntry:
    """Return what a shadow says of a variable, without its roots."""
    axes = tuple(range(1, score.ndim - 1))
    specification = features.specification
    # NaN scores belong to chunks where nothing is predicted, all land for instance.
    scored = (np.isfinite(score[..., 2:]) & (score[..., 2:] < LARGEST)).all(axis=-1)
    cells = np.where(scored, columns["predicted"], 0.0)
    total = cells.sum(axis=axes)
    number = np.where(total > 0, total, np.nan)
    share = (np.where(scored, score[..., 2], 0.0) * cells).sum(axis=axes) / number
    squares = np.where(scored, score[..., 3], 0.0) ** 2
    rmse = np.sqrt((squares * cells).sum(axis=axes) / number)
    return PredictedEntry(
        index_root="",
        score_root="",
        confidence=_known([round(float(c), 6) for c in share]),
        expected_rmse=_known(rmse),
        last_capture_rmse=_known(last_capture_rmse(features.outlook.calibration, rmse)),
        tolerance=specification.tolerance,
        usual_change=specification.usual_change,
        unpredicted=int(columns["missing"].sum(axis=axes).max()),
    )


def _known(values: Iterable[float]) -> tuple[float | None, ...]:
    """Return numbers as JSON has them: None where nothing is predicted."""
    return tuple(float(value) if np.isfinite(value) else None for value in values)


@dataclass(slots=True)
class _Block:
    """The predictions of one block at every lead."""

    index: NDArray[np.int64]
    """(lead, *block grid, column) as it is stored."""
    score: Floats
    """(lead, *block grid, column) as it is stored."""
    statistics: dict[str, Floats]
    """Columns (lead, *block grid) of the prediction table."""
    entries: dict[str, Entry]
    """The objects that were written."""


def _materialize_block(
    pin: Pin,
    learnt: PendingState,
    name: str,
    instants: tuple[int, ...],
    lasting: int,
    refused: frozenset[Index],
    block: Block,
) -> _Block:
    """Predict and write one block; runs on a worker."""
    repository = pin.recall()
    variable = repository.settings.variable(name)
    captures = repository.captures(name)
    outlook = learnt.features[name].outlook
    forecaster = Forecaster.of(repository, name, learnt.id, learnt.states[name], outlook)
    batch = Batch(repository.location, learnt.id)
    numbers = repository.state.before(repository.captured[learnt.step].instant + 1, SEARCH)
    leads = len(instants)
    chunks: dict[Index, QuantisedChunk] = {}
    places = {index: k for k, (index, _, _) in enumerate(variable.grid.inner(block))}
    score = np.zeros((leads, len(places), len(SCORE_COLUMNS)))
    statistics = {column: np.zeros((leads, len(places))) for column in PREDICTION_STATISTICS}
    predicting = _Predicting(captures, forecaster, numbers, instants, refused)
    for stored in forecaster.stored.by_file(places).values():
        for quantised, told in predicting.chunks(stored):
            chunks |= quantised
            here = [places[index] for index in quantised]
            score[:, here] = np.stack([chunk.score for chunk in quantised.values()], axis=1)
            for column, values in told.items():
                statistics[column][:, here] = values
    written = write_block(batch, variable, block, chunks, lasting)
    whole = leads, *block.grid
    columns = {column: values.reshape(whole) for column, values in statistics.items()}
    return _Block(written, score.reshape(*whole, -1), columns, batch.entries)


@dataclass(frozen=True, slots=True)
class _Predicting:
    """What a worker needs to predict chunks of a variable."""

    captures: CaptureStack
    forecaster: Forecaster
    steps: Sequence[int]
    """Captures that the changes may be counted from, in order of time."""
    instants: tuple[int, ...]
    """Valid times of leads 1..H."""
    refused: frozenset[Index]
    """Chunks that are not predicted."""

    def chunks(
        self, stored: list[Index]
    ) -> Iterator[tuple[dict[Index, QuantisedChunk], dict[str, Floats]]]:
        """Yield chunks whose state is stored together as they are kept, and their statistics.

        The latter are (lead, chunk), of chunks of one shape.
        """
        spec, outlook = self.forecaster.specification, self.forecaster.outlook
        variable, leads = self.captures.variable, len(self.instants)
        usual_change = _usual_change(spec, leads)
        times_s = np.array(self.instants) / SECOND
        whole, first = self.forecaster.joined(stored), 0
        for group in groups(variable.grid, stored, 16 * (leads + sum(rows(spec)))):
            state = whole.part(slice(first, first + len(group)))
            first += len(group)
            left_out = [g for g, index in enumerate(group) if index in self.refused]
            predicted = _predicted(spec, state, outlook, times_s, left_out)
            values, base_steps = last_trusted_field(self.captures, group, self.steps)
            for shape, run in variable.grid.runs(group):
                indices, part = group[run], slice(state.starts[run.start], state.starts[run.stop])
                alike = (leads, len(indices), *shape)
                mean = predicted.mean[:, part].reshape(alike)
                error = predicted.standard_error[:, part].reshape(alike)
                base = values[part].reshape(alike[1:])
                claims = predicted.confidence[:, run], predicted.expected_rmse[:, run]
                given = variable.name, indices, mean, error, base, base_steps[run]
                told = _statistics(variable, mean, error, base) | {
                    "confidence": claims[0],
                    "usual_change": np.tile(usual_change[:, None], len(indices)),
                }
                yield dict(zip(indices, quantise_alike(*given, *claims), strict=True)), told


def _predicted(
    spec: Specification, state: State, outlook: Outlook, times_s: Floats, left_out: list[int]
) -> Forecast:
    """Return the predictions of a group of chunks, but for some of them, by place."""
    # What a broken state makes of it is for the check to find.
    with np.errstate(all="ignore"):
        predicted = predict(spec, state, outlook, times_s)
    for g in left_out:
        part = slice(state.starts[g], state.starts[g + 1])
        predicted.mean[:, part] = predicted.standard_error[:, part] = np.nan
        predicted.confidence[:, g] = predicted.expected_rmse[:, g] = np.nan
    return predicted


def _usual_change(spec: Specification, leads: int) -> Floats:
    """Return the usual change over 1..H slots, of a random walk; NaN if it was not measured."""
    usual = np.nan if spec.usual_change is None else spec.usual_change
    return usual * np.sqrt(np.arange(1.0, leads + 1))


def _statistics(variable: Variable, mean: Floats, error: Floats, base: Floats) -> dict[str, Floats]:
    """Return statistics (lead, chunk) of predictions (lead, chunk, *cells) from a base.

    Parameters
    ----------
    base
        float64 (chunk, *cells), NaN in chunks without one.
    """
    flat = (*mean.shape[:2], -1)
    mean, error, base = mean.reshape(flat), error.reshape(flat), base.reshape(flat[1:])
    predicted = np.isfinite(mean) & np.isfinite(error)
    largest = np.fmax(np.abs(mean), np.abs(error))
    broken = ~np.isnan(mean) & (~predicted | (largest >= LARGEST))
    held = np.isfinite(base)
    low, high = variable.bounds()
    outside = mean < (-np.inf if low is None else low)
    outside |= mean > (np.inf if high is None else high)
    with np.errstate(over="ignore", invalid="ignore"):
        changes = (mean - base) ** 2
    return {
        "cells": np.full(mean.shape[:2], float(mean.shape[2])),
        "predicted": predicted.sum(axis=2),
        "missing": (held & ~predicted).sum(axis=2),
        "broken": broken.sum(axis=2),
        "out_of_bounds": outside.sum(axis=2),
        "standard_error_minimum": _least(error, predicted),
        "standard_error_mean": _mean(error, predicted),
        "change_rms": np.sqrt(_mean(changes, predicted & held)),
    }


def _least(values: Floats, chosen: NDArray[np.bool_]) -> Floats:
    """Return the least of the chosen values (..., cell) of each; NaN where there is none."""
    least = np.where(chosen, values, np.inf).min(axis=-1, initial=np.inf)
    return np.where(chosen.any(axis=-1), least, np.nan)


def _mean(values: Floats, chosen: NDArray[np.bool_]) -> Floats:
    """Return the mean of the chosen values (..., cell) of each; NaN where there is none."""
    count = chosen.sum(axis=-1)
    total = np.where(chosen, values, 0.0).sum(axis=-1)
    return np.asarray(total / np.where(count > 0, count, np.nan))


def commit_shadow(
    repository: Repository,
    shadowed: Shadowed,
    *,
    report: dict[str, Any],
    committed_at: str,
) -> Repository:
    """Put the log record that makes a shadow and its forecaster state real.

    Raises
    ------
    Conflict
        Another writer captured, judged or forecast since this state was learnt, or gave up what
        it rests on: learn it again.
    """
    learnt = shadowed.learnt
    work = learnt.work(repository.era, shadowed.bases)
    repository.refuse_stale(work)
    batch = Batch(repository.location, learnt.id, dict(shadowed.entries))
    variables: dict[str, PredictedEntry] = {}
    for name, columns in shadowed.statistics.items():
        variable = repository.settings.variable(name)
        ledger = create_predicted_statistics(batch, variable, columns)
        variables[name] = replace(shadowed.variables[name], ledger=ledger)
    body = ShadowBody(
        step=learnt.step,
        reference=shadowed.reference,
        instants=shadowed.instants,
        bases=shadowed.bases,
        variables=variables,
        forecaster=learnt.states,
        report=Report(report),
        lasting=shadowed.lasting,
    )
    return repository.commit_shadow(body, committed_at, batch, work)
