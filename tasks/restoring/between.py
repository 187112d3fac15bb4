"""Between: a state at a time without a capture, estimated from what is known on both sides.

A time is placed on the cadence.  On a slot that was not captured the estimate is that of a gap;
between two slots it goes from the state of one to that of the next, whether captured, predicted or
estimated.  Chunks are estimated one by one, when they are read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import prod, sqrt
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from gnomon.storage.log.steps import Shadow
from gnomon.storage.repository import Repository
from gnomon.storage.serve.planes import PROVENANCE, EstimatedChunk
from gnomon.storage.stacks.captures import CaptureStack
from gnomon.storage.stacks.shadows import ShadowStack
from gnomon.storage.values.grid import Index
from gnomon.storage.values.times import SECOND
from gnomon.tasks.forecasting.specification import Specification, usable
from gnomon.tasks.interpolating.gap import Gap
from gnomon.tasks.interpolating.labels import estimate_labels
from gnomon.tasks.interpolating.plan import Plan, error_of, estimate, learn
from gnomon.tasks.interpolating.process import Record, fit, mean_square, seasons_within
from gnomon.tasks.learning.cadence import distinct_slots
from gnomon.tasks.learning.expectation import specification_of
from gnomon.tasks.learning.recorded import cadence_of
from gnomon.tasks.learning.refit import sampled_cells
from gnomon.tasks.learning.trusted import trusted_values
from gnomon.tasks.restoring.place import Place

__all__ = ["Between", "Figures", "between", "is_far"]

NEAR = 256
"""Captures around a time that are read, at most: trials hide these."""
FAR = 128
"""Captures beyond them, spread over the rest: seasons are fitted to all of them."""
RECORD_BYTES = 2**28
"""Memory of the captures of a chunk that are read."""
LEAST_READ = 32
"""Captures that are read all the same, however large a chunk is."""
TILE = 2**14
"""Cells that are estimated at once: bounds the memory of all candidates in all trials."""
WITHIN = (2.0, 16.0)
"""By how much the error variance grows as intervals double: of a walk, and of a smooth curve."""

Floats = NDArray[np.float64]
_lock = Lock()
"""Of all plans: chunks are read by several threads, and one of them learns what the others need."""


@dataclass(frozen=True, slots=True)
class State:
    """Some cells of a chunk at one slot, or at the time itself."""

    values: Floats
    """(N,) variable's units; NaN where nothing is known."""
    error: Floats
    """(N,) standard errors; NaN where `values` is."""
    plan: Plan | None = None
    """What they were estimated by; None: captured, predicted, labels, or nothing is known."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What is expected of an estimate, from a sample of the variable's cells."""

    expected_error: float | None
    """RMSE, variable's units; of labels the share of cells with another one. None if unknown."""
    confidence: float | None
    """Expected share of chunks within tolerance."""


@dataclass(frozen=True, eq=False)
class Between:
    """Estimates the chunks of one variable at one time, as `storage.serve.planes.Estimator`."""

    spec: Specification
    """Form of the variable's model."""
    place: Place
    """Where the time lies among the slots."""
    time_s: float
    """The time, seconds."""
    steps: tuple[int, ...]
    """Captures that it rests on, one per slot, in order."""
    slots: NDArray[np.int64]
    """(T,) their slots."""
    times_s: Floats
    """(T,) their valid times, seconds."""
    sample: tuple[Index, ...]
    """Chunks that plans are learnt from."""
    shadow: Shadow | None
    """That which predicts the states beside the time, or ends before it, if one does."""
    source: int
    """Provenance of the cells."""
    plans: dict[tuple[Gap, int], Plan] = field(default_factory=dict)
    """What was learnt already, by gap and slot; it grows as chunks with other gaps are met."""

    def chunk(self, captures: CaptureStack, index: Index) -> EstimatedChunk:
        """Return the estimate of a chunk, in the shape of the chunk; see `Estimator`."""
        return self.planned(captures, index)[0]

    def planned(self, captures: CaptureStack, index: Index) -> tuple[EstimatedChunk, Plan | None]:
        """Return the same, and the plan of the chunk's own gap; None where it needed none."""
        plan = None
        shape = tuple(s.stop - s.start for s in captures.variable.grid.cells(index))
        values, error = np.full(prod(shape), np.nan), np.full(prod(shape), np.nan)
        record = self._record(captures, [(index, None)])
        said = self._stated(captures, index)
        for first in range(0, len(values), TILE):
            cells = slice(first, first + TILE)
            part = replace(record, values=record.values[:, cells])
            state = self._estimate(captures, part, _picked_of(said, cells))
            values[cells], error[cells] = state.values, state.error
            plan = plan or state.plan
        bounds = captures.variable.bounds()
        values = np.clip(values, *bounds) if bounds != (None, None) else values
        flags = np.where(np.isfinite(values), self.source, PROVENANCE["missing"])
        flags = flags.reshape(shape).astype(np.uint8)
        return EstimatedChunk(values.reshape(shape), error.reshape(shape), flags), plan

    def figures(self, captures: CaptureStack, tolerance: float) -> Figures:
        """Return what is expected of the estimate, from the sampled cells."""
        squares, cells, chances = 0.0, 0, []
        for index in self.sample:
            picked = self._picked(captures, index)
            record = self._record(captures, [(index, picked)])
            said = _picked_of(self._stated(captures, index), picked)
            state = self._estimate(captures, record, said)
            known, plan = state.error[np.isfinite(state.error)], state.plan
            if not known.size:
                continue
            if self.spec.categorical:
                # The share of cells that are wrong, not the root of a mean of squares.
                squares += float(known.mean()) ** 2 * known.size
                chances.append(float(known.mean() <= tolerance))
            elif plan is None:
                squares += float((known**2).sum())
                chances.append(float(sqrt(float((known**2).mean())) <= tolerance))
            else:
                # What the factor adds is caution of the interval, and no expected error.
                squares += float((known**2).sum()) / plan.factor**2
                chances.append(plan.confidence(known, tolerance))
            cells += known.size
        if not cells:
            return Figures(None, None)
        return Figures(sqrt(squares / cells), float(np.mean(chances)))

    @property
    def skilled(self) -> bool:
        """Whether more than the climatology is known of the slots, as far as it was learnt."""
        with _lock:
            plans = [plan for (_, slot), plan in self.plans.items() if slot in self.place.missing]
        return not plans or any(plan.skilled for plan in plans)

    def _plan(self, captures: CaptureStack, gap: Gap, slot: int) -> Plan:
        with _lock:
            if (gap, slot) not in self.plans:
                self.plans[gap, slot] = self._learn(captures, gap, slot)
            return self.plans[gap, slot]

    def _learn(self, captures: CaptureStack, gap: Gap, slot: int) -> Plan:
        picks = [(index, self._picked(captures, index)) for index in self.sample]
        sample = self._record(captures, picks)
        starts = np.cumsum([0, *(len(cells) for _, cells in picks)])
        return learn(self.spec, sample, starts, gap, slot, self.place.time_s(slot))[0]

    def _picked(self, captures: CaptureStack, index: Index) -> NDArray[np.int64]:
        return sampled_cells(prod(s.stop - s.start for s in captures.variable.grid.cells(index)))

    def _record(
        self, captures: CaptureStack, picks: Sequence[tuple[Index, NDArray[np.int64] | None]]
    ) -> Record:
        """Return the captures of some cells of some chunks; NaN where not trusted."""
        columns = []
        for index, cells in picks:
            size = prod(s.stop - s.start for s in captures.variable.grid.cells(index))
            history = np.full((len(self.steps), size if cells is None else len(cells)), np.nan)
            for row, step in enumerate(self.steps):
                values = trusted_values(captures, step, index)
                if values is not None:
                    flat = usable(values.ravel())
                    history[row] = flat if cells is None else flat[cells]
            columns.append(history)
        return Record(self.slots, self.times_s, np.concatenate(columns, axis=1))

    def _stated(self, captures: CaptureStack, index: Index) -> dict[int, State]:
        """Return the cells of a chunk in slots that a shadow predicts, and where it ends."""
        if self.shadow is None:
            return {}
        stack = ShadowStack(captures.location, captures.variable, self.shadow, captures)
        stated = {}
        ends = () if self.place.last is None else (self.place.last,)
        for slot, lead in {*self.place.leads, *ends}:
            values, error = stack.chunk(lead, index)
            stated[slot] = State(values.ravel(), error.ravel())
        return stated

    def _estimate(self, captures: CaptureStack, record: Record, stated: dict[int, State]) -> State:
        """Return some cells of one chunk at the time."""
        states = [self._state(captures, record, slot, stated) for slot in self.place.slots]
        if len(states) == 1:
            return states[0]
        if self.spec.categorical:
            nearer = states[int(self.place.share > 0.5)]
            wrong = estimate_labels(record, Gap(1, 1), self.place.slots[0])[1]
            wrong = np.where(np.isfinite(nearer.values), wrong, np.nan)
            return State(nearer.values, np.fmax(nearer.error, wrong))
        return self._joined(captures, record, states)

    def _state(
        self, captures: CaptureStack, record: Record, slot: int, stated: dict[int, State]
    ) -> State:
        """Return some cells of one chunk in a slot: captured, predicted or estimated."""
        if slot in stated:
            return stated[slot]
        row = int(np.searchsorted(record.slots, slot))
        there = row < len(record.slots) and record.slots[row] == slot
        if there and np.isfinite(record.values[row]).any():
            values = record.values[row]
            return State(values, np.where(np.isfinite(values), 0.0, np.nan))
        known = np.isfinite(record.values).any(axis=1) & (record.slots != slot)
        if not known.any():  # land, or never trusted
            nothing = np.full(record.values.shape[1], np.nan)
            return State(nothing, nothing)
        gap, plan = self.place.gap(slot, record.slots[known]), None
        if self.spec.categorical:
            values, error = estimate_labels(record, gap, slot)
        else:
            plan = self._plan(captures, gap, slot)
            result = estimate(plan, record, self.place.time_s(slot))
            values, error = result.values, result.standard_error
        if self.place.last is not None and (end := stated.get(self.place.last[0])) is not None:
            # Nobody is surer of what is farther away.
            error = np.where(np.isfinite(error), np.fmax(error, end.error), np.nan)
        return State(values, error, plan)

    def _joined(self, captures: CaptureStack, record: Record, states: list[State]) -> State:
        """Return cells between two slots: anomalies in a straight line, errors added."""
        spec, share = seasons_within(self.spec, record.times_s), self.place.share
        process, anomalies = fit(spec, record, np.ones(len(record.slots), bool))
        times = np.array([self.time_s, *map(self.place.time_s, self.place.slots)])
        mean = process.climatology(spec, times)
        left, right = (states[k].values - mean[k + 1] for k in (0, 1))
        values = mean[0] + (1.0 - share) * left + share * right
        error = (1.0 - share) * states[0].error + share * states[1].error
        step = self._plan(captures, Gap(1, 1), self.place.slots[0])
        near = error_of(step, record)
        wide = error_of(self._plan(captures, Gap(2, 2), self.place.slots[0]), record)
        both = np.isfinite(near) & np.isfinite(wide) & (near > 0)
        ratio = (
            float(np.mean(wide[both] ** 2) / np.mean(near[both] ** 2)) if both.any() else WITHIN[0]
        )
        # Half an interval away from both sides the error is that of one, less what doubling adds.
        half = near**2 / np.clip(ratio, *WITHIN)
        wider = np.sqrt(error**2 + 4.0 * share * (1.0 - share) * half)
        # Where little is known of the slots, what lies between them is within the usual spread.
        wider = np.fmin(wider, np.sqrt(mean_square(anomalies, axis=0)))
        plans = [state.plan for state in states if state.plan is not None]
        plan = max(plans, key=lambda each: each.gap.variance(), default=step)
        return State(np.asarray(values), np.asarray(np.fmax(error, wider)), plan)


def _picked_of(states: dict[int, State], cells: slice | NDArray[np.int64]) -> dict[int, State]:
    """Return some cells of each."""
    return {k: State(state.values[cells], state.error[cells]) for k, state in states.items()}


def between(repository: Repository, name: str, instant: int) -> Between | None:
    """Return the estimator of a variable at a time; None where nothing was learnt of it."""
    spec, cadence = specification_of(repository, name), cadence_of(repository, name)
    record = repository.forecaster
    if spec is None or cadence is None or record is None or not repository.timeline:
        return None
    variable = repository.settings.variable(name)
    place = Place.of(repository, cadence, instant)
    steps = tuple(_steps(repository, instant, place, prod(variable.chunks)))
    if not steps:
        return None
    instants = np.array([repository.captured[s].instant for s in steps], np.int64)
    chosen = distinct_slots(cadence, instants)
    slots = np.array([cadence.slot(int(instants[k])) for k in chosen], np.int64)
    source = "interpolated"
    if instant > repository.timeline[-1].instant:
        source = "forecast"
    elif instant < repository.timeline[0].instant:
        source = "climatology"
    shadow = repository.shadow_named(place.shadow)
    if shadow is not None and name not in shadow.variables:
        shadow, place = None, replace(place, leads=(), last=None)
    return Between(
        spec,
        place,
        instant / SECOND,
        tuple(steps[k] for k in chosen),
        slots,
        instants[chosen] / SECOND,
        record.learnt[name].sample or tuple(variable.grid.indices())[:1],
        shadow,
        PROVENANCE[source],
    )


def _steps(repository: Repository, instant: int, place: Place, cells: int) -> Iterator[int]:
    """Yield the captures to rest on: those around a time, and some of all the others."""
    count = min(NEAR + FAR, max(LEAST_READ, RECORD_BYTES // (8 * cells)))
    near = count * NEAR // (NEAR + FAR)
    others = [s for s in repository.timeline if s.instant not in place.hidden]
    middle = sum(s.instant < instant for s in others)
    first = max(0, min(middle - near // 2, len(others) - near))
    far = [*range(first), *range(first + near, len(others))]
    if len(far) > count - near:
        far = [far[k] for k in np.linspace(0, len(far) - 1, count - near).astype(int)]
    for k in sorted({*far, *range(first, min(first + near, len(others)))}):
        yield others[k].step


def is_far(repository: Repository, instant: int) -> bool:
    """Tell whether a time is farther from all captures than these are from each other."""
    first, last = (repository.timeline[k].instant for k in (0, -1))
    return max(first - instant, instant - last) > last - first
