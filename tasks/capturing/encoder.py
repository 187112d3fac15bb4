"""Encode: chunks as they are stored, with how each changed and how it was expected to change.

Nothing is read of the source here, and nothing written.
"""

from dataclasses import dataclass, field, replace
from itertools import chain
from math import inf
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from gnomon.storage.arrays.encoding import EncodedChunk, Held, encode_unit
from gnomon.storage.arrays.residuals import stacks_of
from gnomon.storage.checks.check import Chunk
from gnomon.storage.errors import Integrity
from gnomon.storage.log.readings import is_close
from gnomon.storage.repository import Repository
from gnomon.storage.stacks.captures import CaptureStack
from gnomon.storage.values.grid import Index
from gnomon.storage.values.meaning import read_alike
from gnomon.storage.values.model import TRUSTED, Variable
from gnomon.tasks.capturing import replacements
from gnomon.tasks.capturing.estimates import Estimates, Found
from gnomon.tasks.capturing.ledger import read_ledger
from gnomon.tasks.capturing.measuring import Checks, Measuring
from gnomon.tasks.capturing.plan import CapturePlan
from gnomon.tasks.capturing.statistics import STATISTICS, many_statistics, unchanged_statistics
from gnomon.tasks.capturing.versions import versions_of
from gnomon.tasks.forecasting import GATE
from gnomon.tasks.learning.expectation import Expectation
from gnomon.tasks.learning.trusted import (
    SEARCH,
    last_trusted,
    last_trusted_field,
    pass_over,
    trusted_values,
)

__all__ = ["ChunkEncoder"]

AROUND = 16
"""Captures before a time, and after it, that are asked which cells ever have a value."""


@dataclass(slots=True)
class ChunkEncoder:
    """What a worker knows of the chunks of one variable as the states of a commit go by."""

    repository: Repository
    plan: CapturePlan
    variable: Variable
    captures: CaptureStack
    expectation: Expectation | None
    first: int
    """Number of the first new capture."""
    measuring: Measuring
    """The statistics of further checks."""
    versions: dict[int, list[int]]
    """By position in the plan: the captures that it may revise."""
    held: dict[Index, tuple[int, Held]] = field(default_factory=dict)
    """The newest chunk of this commit, and its number."""
    trusted: dict[Index, "_Trusted"] = field(default_factory=dict)
    """The last trusted capture of a chunk."""
    read_as: dict[tuple[int, int], bool] = field(default_factory=dict)
    """By number of an earlier capture, and position in the plan: whether both are read alike."""
    reach: dict[int, float] = field(default_factory=dict)
    """By instant of a planned state: the earliest one at which a trusted capture is looked for."""
    newest: dict[int, float] = field(default_factory=dict)
    """By instant of a planned state: that of the capture before it, known already."""
    ledgers: dict[int, dict[str, NDArray[np.float64]]] = field(default_factory=dict)
    """Statistics of earlier captures by number; empty where they are damaged."""
    written: dict[int, Estimates] = field(default_factory=dict)
    """By position in the plan: what rollbacks wrote as estimates of the state."""
    estimates: dict[tuple[int, Index], Found] = field(default_factory=dict)
    """What became of them, by position in the plan, and chunk."""

    @classmethod
    def on(
        cls,
        repository: Repository,
        plan: CapturePlan,
        variable: Variable,
        checks: Checks,
    ) -> "ChunkEncoder":
        """Return an encoder that knows what was captured before."""
        captures = repository.captures(variable.name)
        is_single = len(plan.instants) == 1
        expectation = Expectation.of(repository, variable, is_single=is_single)
        first, versions = len(repository.captured), versions_of(repository, plan)
        measuring = checks.of(variable)
        return cls(repository, plan, variable, captures, expectation, first, measuring, versions)

    def take(
        self, k: int, chunks: list[tuple[Index, NDArray[np.generic]]]
    ) -> list[tuple[EncodedChunk, dict[str, float]]]:
        """Return chunks of a unit of the k-th planned state as they are stored, and statistics."""
        step, base = self.first + k, self.plan.bases[k]
        beside = [index for index, _ in chunks]
        against = [(index, raw, self._base(base, index, beside)) for index, raw in chunks]
        encoded = encode_unit(self.variable.name, step, against)
        statistics: dict[Index, dict[str, float]] = {}
        self._find_estimates(k, chunks)
        for (index, raw), chunk in zip(chunks, encoded, strict=True):
            if chunk.is_unchanged and base is not None and self._is_read_as(base, k):
                before = self._as_before(base, index)
                if before is not None:
                    statistics[index] = before | self._measure_again(k, index, raw, before)
        statistics |= self._measure(k, [(i, raw) for i, raw in chunks if i not in statistics])
        for (index, _), chunk in zip(chunks, encoded, strict=True):
            self.held[index] = (step, chunk.held)
        return [
            (chunk, statistics[index]) for (index, _), chunk in zip(chunks, encoded, strict=True)
        ]

    def _find_estimates(self, k: int, chunks: list[tuple[Index, NDArray[np.generic]]]) -> None:
        if k not in self.written:
            instant = self.plan.instants[k]
            packing = self.plan.readings[self.variable.name][k]
            self.written[k] = Estimates.of(self.repository, self.variable.name, instant, packing)
        for index, raw in chunks:
            if found := self.written[k].find(index, raw):
                self.estimates[k, index] = found

    def _base(self, base: int | None, index: Index, beside: list[Index]) -> Held | None:
        if base is None or base < self.variable.since:
            return None
        if base >= self.first:
            return self.held[index][1]
        try:
            return self.captures.held(base, index, beside)
        except Integrity as error:
            pass_over(error, self.plan.url, self.variable.name, base)
            return None

    def _is_read_as(self, base: int, k: int) -> bool:
        """Tell whether the same bits stand for the same numbers as in an earlier capture."""
        if base >= self.first:
            return False
        if (base, k) not in self.read_as:
            reading = self.plan.readings[self.variable.name][k]
            self.read_as[base, k] = read_alike(self.captures.reading(base), reading)
        return self.read_as[base, k]

    def _as_before(self, base: int, index: Index) -> dict[str, float] | None:
        """Return the statistics of an unchanged chunk; None if they must be measured."""
        if index in self.trusted or self.captures.status_of(base, index) != TRUSTED:
            return None
        if base not in self.ledgers:
            try:
                self.ledgers[base] = read_ledger(self.repository, self.variable, base)
            except Integrity:
                self.ledgers[base] = {}
        before = {name: float(values[index]) for name, values in self.ledgers[base].items()}
        complete = before.keys() >= set(STATISTICS)
        return unchanged_statistics(before) if complete else None

    def _measure(
        self, k: int, chunks: list[tuple[Index, NDArray[np.generic]]]
    ) -> dict[Index, dict[str, float]]:
        instant, variable = self.plan.instants[k], self.variable
        reading = self.plan.readings[variable.name][k]
        indices = [index for index, _ in chunks]
        stacks = [reading.to_physical(raw) for raw in stacks_of(raw for _, raw in chunks)]
        values = dict(zip(indices, chain.from_iterable(stacks), strict=True))
        departures: dict[Index, dict[str, float]] = {}
        if self.expectation is not None and self.plan.revises[k] is None:
            departures = self.expectation.meet(instant, values)
        self._look_back(indices, instant)
        before = {index: self._trusted(index, instant) for index in indices}
        measured = many_statistics(
            stacks, [*before.values()], reading.bounds(), categorical=variable.categorical
        )
        result = {}
        for (index, physical), told in zip(values.items(), measured, strict=True):
            statistics = told | departures.get(index, {})
            statistics |= self._checked(index, physical, before[index], statistics)
            statistics |= self._revision(k, index, physical, before[index])
            if k + 1 == len(self.plan.instants):  # nothing is compared with it
                self.trusted.pop(index, None)
            elif not self._doubts(k, index, statistics):
                self.trusted[index] = _Trusted(instant, instant, physical)
            result[index] = statistics
        return result

    def _doubts(self, k: int, index: Index, statistics: dict[str, float]) -> bool:
        """Tell whether the checks will call a chunk suspect, as far as it shows by now.

        What is doubted is not the last trusted capture of the states that follow in this commit, as
        it would not be if each were committed alone.  Two things show only once all chunks are
        known: a copy of an older capture, and the rate of false discoveries, for which the p-value
        stands in.
        """
        is_new = self.plan.revises[k] is None
        is_revised = statistics.get("completed") == 0 and not (
            is_new or self.repository.state.may_be_revised(self.plan.instants[k])
        )
        derived = {
            "newly_constant": float(statistics["constant"] and not statistics["was_constant"]),
            "metadata_changed": float(k in self.plan.metadata_changed.get(self.variable.name, ())),
            "revised": float(is_revised),
            "estimated": float("stands" in self.estimates.get((k, index), {}).values()),
        }
        return self.measuring.doubts(statistics | derived) or statistics["p_value"] < GATE

    def _measure_again(
        self, k: int, index: Index, raw: NDArray[np.generic], statistics: dict[str, float]
    ) -> dict[str, float]:
        """Return what further checks measure of a chunk that equals its last trusted capture."""
        if not self.measuring.statistics:
            return {}
        physical = self.plan.readings[self.variable.name][k].to_physical(raw)
        return self._checked(index, physical, physical, statistics)

    def _checked(
        self,
        index: Index,
        physical: NDArray[np.float64],
        before: NDArray[np.float64] | None,
        statistics: dict[str, float],
    ) -> dict[str, float]:
        """Return what further checks measure of a chunk."""
        if not self.measuring.statistics:
            return {}
        variable = self.variable
        chunk = Chunk(
            values=_unwritable(physical),
            before=None if before is None else _unwritable(before),
            statistics=MappingProxyType(dict(statistics)),
            variable=variable.name,
            dims=variable.dims,
            units=str(variable.attributes.get("units", "")),
            index=index,
        )
        return self.measuring.take(chunk)

    def _revision(
        self,
        k: int,
        index: Index,
        physical: NDArray[np.float64],
        earlier: NDArray[np.float64] | None,
    ) -> dict[str, float]:
        """Return how a chunk differs from the trusted version of its time; nothing without one."""
        trusted = last_trusted(self.captures, index, self.versions.get(k, []))
        if trusted is None:
            return {}
        reading, other = (
            self.plan.readings[self.variable.name][k],
            self.captures.reading(trusted[0]),
        )
        if not read_alike(reading, other):  # by as much as the packings round nothing has changed
            physical = np.where(
                is_close(physical, trusted[1], reading, other), trusted[1], physical
            )
        gained = np.isnan(trusted[1]) & ~np.isnan(physical)
        if gained.any() and self._never_had(k, index, gained):
            return dict.fromkeys(replacements.COLUMNS, 0.0)
        return replacements.difference(trusted[1], physical, earlier)

    def _never_had(self, k: int, index: Index, cells: NDArray[np.bool_]) -> bool:
        """Tell whether some cells had no value in any capture around: land, say, or an edge.

        A value there completes nothing, as there was nothing to come.
        """
        left, others = cells, 0
        for step in self.repository.state.around(self.plan.instants[k], AROUND):
            values = trusted_values(self.captures, step, index)
            if values is not None:
                left, others = left & np.isnan(values), others + 1
            if not left.any():
                return False
        return others > 0

    def _look_back(self, indices: list[Index], instant: int) -> None:
        """Find the last trusted captures of chunks before an instant, where they are not known."""
        newest = self._newest(instant)
        # A late state, or a revision, is not the last one before.
        sought = [i for i in indices if newest > self.trusted.get(i, _UNKNOWN).through]
        if not sought:
            return
        steps = self.repository.state.before(instant, SEARCH)
        values, numbers = last_trusted_field(self.captures, sought, steps)
        for index, chunk, number in zip(
            sought, self.variable.grid.split(sought, values), numbers.tolist(), strict=True
        ):
            trusted = self.trusted.get(index, _UNKNOWN)
            at = -inf if number < 0 else self.repository.captured[number].instant
            if at > trusted.through:
                self.trusted[index] = _Trusted(newest, at, chunk)
            else:
                self.trusted[index] = replace(trusted, through=newest)

    def _trusted(self, index: Index, instant: int) -> NDArray[np.float64] | None:
        trusted = self.trusted.get(index, _UNKNOWN)
        return trusted.values if trusted.instant >= self._reach(instant) else None

    def _reach(self, instant: int) -> float:
        """Return the instant of the last state but `SEARCH`, those of this commit among them."""
        if instant not in self.reach:
            captured = self.repository.captured
            earlier = {captured[n].instant for n in self.repository.state.before(instant, SEARCH)}
            earlier |= {planned for planned in self.plan.instants if planned < instant}
            self.reach[instant] = sorted(earlier)[-SEARCH] if len(earlier) >= SEARCH else -inf
        return self.reach[instant]

    def _newest(self, instant: int) -> float:
        if instant not in self.newest:
            numbers = self.repository.state.before(instant, 1)
            before = self.repository.captured[numbers[0]].instant if numbers else -inf
            self.newest[instant] = before
        return self.newest[instant]


@dataclass(frozen=True, slots=True)
class _Trusted:
    """The last trusted capture of a chunk."""

    through: float
    """Up to which instant it is the last."""
    instant: float
    """Its own."""
    values: NDArray[np.float64] | None
    """Physical values; None: there is none."""


_UNKNOWN = _Trusted(-inf, -inf, None)


def _unwritable(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a copy that nobody can write to, not even who insists: the next chunk is measured by
    these values, and other checks are given them too."""
    if not values.size:
        return values
    return np.frombuffer(values.tobytes(), values.dtype).reshape(values.shape)
