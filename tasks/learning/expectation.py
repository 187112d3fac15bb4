"""What the newest forecaster expects of the next captures of some chunks.

Its state is what a commit wrote of it, with the captures since learnt on top: what they are is kept
as captures already.

How a variable is forecast, its cadence and specification, stands in the log record; what was learnt
of it is stored apart, and may be damaged.  Answers depend on the record alone, so that damage to
what was learnt changes none of them: it costs a refit, and `recorded.unreadable` tells.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import nan, prod

import numpy as np
from numpy.typing import NDArray

from gnomon.storage.errors import Integrity
from gnomon.storage.log.bodies.shadow import LearntEntry
from gnomon.storage.repository import Repository
from gnomon.storage.stacks.captures import CaptureStack
from gnomon.storage.stacks.forecaster import ForecasterState
from gnomon.storage.values.documents import NONSENSE
from gnomon.storage.values.grid import Index
from gnomon.storage.values.model import TRUSTED, Variable
from gnomon.storage.values.times import SECOND
from gnomon.tasks.forecasting import (
    CARRIED,
    GATE,
    Outlook,
    Specification,
    State,
    departures,
    join,
    replay,
    roll,
    stored_correction,
    unpack,
    usable,
)
from gnomon.tasks.learning.cadence import Cadence
from gnomon.tasks.learning.recorded import cadence_of, entry_of, nonsense
from gnomon.tasks.learning.trusted import pass_over, trusted_field

__all__ = [
    "Expectation",
    "Forecaster",
    "forecaster_of",
    "specification_of",
]


@dataclass(frozen=True, slots=True)
class Forecaster:
    """The newest forecaster of a variable, open for reading."""

    specification: Specification
    cadence: Cadence
    outlook: Outlook
    stored: ForecasterState
    captures: CaptureStack
    instants: Mapping[int, int]
    """Of the captures that are learnt on top of what is stored, by number, in order of time; one
    that was given up is left out, and the next update learns anew."""
    withheld: frozenset[Index] = frozenset()
    """Chunks whose prediction was refused: their state is not to be gone on with."""
    incomplete: set[Index] = field(default_factory=set)
    """Chunks that were read without a capture that is learnt on top of what is stored, as it is
    damaged: a repair may give another state back."""

    @classmethod
    def of(
        cls, repository: Repository, name: str, commit: str, entry: LearntEntry, outlook: Outlook
    ) -> "Forecaster":
        """Return the forecaster of a variable that a record names, or is about to name.

        Raises
        ------
        ValueError, TypeError, KeyError
            The entry is none of this form.
        """
        return cls(
            Specification.from_json(entry.specification),
            Cadence.from_json(dict(entry.cadence)),
            outlook,
            repository.stored_forecaster(name, commit, entry),
            repository.captures(name),
            {
                s.step: s.instant
                for s in map(repository.captured.__getitem__, entry.rolled)
                if not s.forgotten
            },
        )

    @property
    def sample(self) -> tuple[Index, ...]:
        """Chunks that the outlook's cells are in."""
        return self.stored.entry.sample

    def together(self, indices: Sequence[Index]) -> tuple[list[Index], State | None]:
        """Return the states of some chunks as one, but for those that must be learnt anew.

        They must where they are damaged or senseless, and where the prediction made from them was
        refused.

        Returns
        -------
        list, State or None
            The chunks that it is of, and their state; None of none.
        """
        wanted = [index for index in indices if index not in self.withheld]
        found: list[Index] = []
        parts: list[State] = []
        for group in self.stored.by_file(wanted).values():
            damaged: list[Integrity] = []
            try:
                kept, state = _sound(*self._stored(group, damaged))
                self._replay(kept, state)
                kept, state = _sound(kept, state)
                found += kept
                parts += [state] if kept else []
            except Integrity as error:
                damaged.append(error)
            for each in damaged:
                pass_over(each, self.stored.location.url, self.stored.id)
        return found, join(parts) if parts else None

    def states(self, indices: Sequence[Index]) -> dict[Index, State]:
        """Return the states of some chunks one by one; see `together`."""
        found, state = self.together(indices)
        if state is None:
            return {}
        return {index: state.take(np.array([k])) for k, index in enumerate(found)}

    def joined(self, indices: list[Index]) -> State:
        """Return the states of some chunks that are stored together as one, whatever they hold.

        Raises
        ------
        Integrity
            Stored bytes are not what was written.
        """
        _, state = self._stored(indices)
        self._replay(indices, state)
        return state

    def _stored(
        self, indices: list[Index], damaged: list[Integrity] | None = None
    ) -> tuple[list[Index], State]:
        """Return the chunks that are stored soundly, of one object, and their state as it is."""
        found, cells, shared = self.stored.read(indices, damaged)
        grid = self.captures.variable.grid
        sizes = [prod(s.stop - s.start for s in grid.cells(index)) for index in found]
        starts = np.cumsum([0, *sizes])
        return found, unpack(self.specification, starts, cells, shared)

    def _replay(self, indices: list[Index], state: State) -> None:
        """Learn the captures since on top of a stored state of some chunks, in place."""
        if not self.instants or not indices:
            return
        correction = self.correction()
        for step, instant in self.instants.items():
            slot = self.cadence.slot(instant)
            if slot > state.slot:
                values, trusted = trusted_field(self.captures, step, indices)
                passed = [index for index, known in zip(indices, trusted, strict=True) if not known]
                self.incomplete.update(
                    index for index in passed if self.captures.status_of(step, index) == TRUSTED
                )
                time_s = instant / SECOND
                replay(self.specification, state, slot, time_s, usable(values), trusted=trusted)
        by_chunk = np.moveaxis(correction, 0, -1)
        state.correction[:] = np.stack([by_chunk[index] for index in indices], axis=1)

    def correction(self) -> NDArray[np.float64]:
        """Return what states go on with that captures do not give back, (number, *chunk grid).

        Raises
        ------
        Integrity
            Stored bytes are not what was written.
        """
        carried, entry = self.stored.carried(), self.stored.entry
        kept = self.stored.shared() if carried is None else carried
        expected = entry.columns if carried is None else CARRIED
        if kept.shape[-1] != expected:
            raise Integrity(
                f"what captures left behind of {self.captures.variable.name} has {kept.shape[-1]} "
                f"numbers a chunk, expected {expected}; run 'gnomon update --refit' to learn it "
                "anew"
            )
        return stored_correction(np.moveaxis(kept, -1, 0))


def _sound(indices: list[Index], state: State) -> tuple[list[Index], State]:
    """Return those of some chunks whose state can be what captures leave behind, and it."""
    sound = state.sound
    if sound.all():
        return indices, state
    kept = np.flatnonzero(sound)
    return [indices[k] for k in kept], state.take(kept)


def specification_of(repository: Repository, name: str) -> Specification | None:
    """Return the form of a variable's model; None before the first, and for one of an older form.

    It does not depend on what was learnt, which may be damaged.
    """
    entry = entry_of(repository, name)
    if entry is None:
        return None
    try:
        if not Specification.is_current(entry.specification):
            return None
        return Specification.from_json(entry.specification)
    except NONSENSE as error:
        raise nonsense(repository, name, "specification", error) from error


def forecaster_of(repository: Repository, name: str) -> Forecaster | None:
    """Return the newest forecaster of a variable; None if there is none that can go on.

    One of an older form, or whose outlook is damaged, cannot: a refit makes a new one.
    """
    entry = entry_of(repository, name)
    specification = specification_of(repository, name)
    if entry is None or specification is None:
        return None
    record = repository.forecaster
    if cadence_of(repository, name) is None or record is None:
        return None
    stored = repository.forecaster_state(name)
    try:
        outlook = Outlook.unpack(specification, stored.outlook())
        onward = stored.onward()
        outlook = outlook if onward is None else outlook.go_on(onward)
        forecaster = Forecaster.of(repository, name, record.id, entry, outlook)
    except (Integrity, *NONSENSE) as error:
        pass_over(Integrity(str(error)), repository.location.url, name)
        return None
    predicted = record.variables.get(name)
    withheld = frozenset(() if predicted is None else predicted.withheld)
    return replace(forecaster, withheld=withheld)


@dataclass(slots=True)
class Expectation:
    """Compares new captures of a variable with the forecast, some chunks at a time."""

    forecaster: Forecaster
    is_single: bool = False
    """Whether no other capture comes, so that nothing need be kept for it: of a large dataset, a
    hundred times a field."""
    _states: dict[Index, State] = field(default_factory=dict)
    _beside: dict[Index, int] = field(default_factory=dict)
    """Chunks that were read last, by number in their state: they are stored together."""
    _read: State | None = None
    """Their state."""
    _met: dict[Index, "_Met"] = field(default_factory=dict)
    """What was compared last: it is learnt when there is another capture to compare."""

    @classmethod
    def of(
        cls, repository: Repository, variable: Variable, *, is_single: bool = False
    ) -> "Expectation | None":
        """Return the expectation of the newest forecaster; None before the first.

        Parameters
        ----------
        is_single
            Whether only one capture is to be compared.
        """
        forecaster = forecaster_of(repository, variable.name)
        return None if forecaster is None else cls(forecaster, is_single)

    def meet(
        self, instant: int, chunks: Mapping[Index, NDArray[np.float64]]
    ) -> dict[Index, dict[str, float]]:
        """Return departure statistics of a capture; the next call expects the one after it."""
        forecaster = self.forecaster
        spec, slot = forecaster.specification, forecaster.cadence.slot(instant)
        self._learn(chunks)
        result: dict[Index, dict[str, float]] = {}
        for indices, state in self._groups(chunks):
            state_slot = state.slot
            if slot <= state_slot:
                continue
            values = np.concatenate([chunks[index].ravel() for index in indices])
            outlook = forecaster.outlook
            if state_slot != outlook.slot:
                outlook = outlook.without_modes()
            time_s = instant / SECOND
            departed = departures(spec, state, outlook, slot, time_s, values)
            trusted = ~(departed.p_value < GATE)
            # What these were compared with may come back as another state.
            uncertain = forecaster.incomplete
            met = _Met(indices, outlook, slot, time_s, values, trusted)
            self._met |= dict.fromkeys(indices, met)
            for k, index in enumerate(indices):
                result[index] = {
                    "departure_mean": float(departed.mean[k]),
                    "departure_rms": float(departed.rms[k]),
                    "departure_maximum": float(departed.maximum[k]),
                    "standardised_rms": float(departed.standardised_rms[k]),
                    "outside_interval": nan if index in uncertain else float(departed.outside[k]),
                    "p_value": float(departed.p_value[k]),
                }
        if self.is_single:
            self._met.clear()
        return result

    def _groups(self, chunks: Collection[Index]) -> Iterator[tuple[list[Index], State]]:
        """Yield the states of some chunks, those of one slot as one."""
        if self.is_single:
            yield from self._fresh(chunks)
            return
        self._states |= self.forecaster.states([i for i in chunks if i not in self._states])
        by_slot: dict[int, list[Index]] = {}
        for index in chunks:
            if index in self._states:
                by_slot.setdefault(self._states[index].slot, []).append(index)
        for indices in by_slot.values():
            yield indices, join([self._states[index] for index in indices])

    def _fresh(self, chunks: Collection[Index]) -> Iterator[tuple[list[Index], State]]:
        """Yield states as they are kept, of chunks that are stored together as one."""
        left = list(chunks)
        while left:
            if left[0] not in self._beside:
                beside = self.forecaster.stored.beside(left[0])
                self._read = None  # two of them need not be in memory
                found, self._read = self.forecaster.together(beside)
                self._beside = dict.fromkeys(beside, -1) | {i: k for k, i in enumerate(found)}
            here = [index for index in left if index in self._beside]
            left = [index for index in left if index not in self._beside]
            known = [index for index in here if self._beside[index] >= 0]
            if known and self._read is not None:
                numbers = np.array([self._beside[index] for index in known])
                is_row = (np.diff(numbers) == 1).all()
                row = slice(int(numbers[0]), int(numbers[-1]) + 1)
                yield known, self._read.part(row) if is_row else self._read.take(numbers)

    def _learn(self, chunks: Collection[Index]) -> None:
        """Learn what was compared before of some chunks."""
        spec = self.forecaster.specification
        for index in chunks:
            last = self._met.get(index)
            if last is None:
                continue
            for learnt in last.indices:
                del self._met[learnt]
            state = join([self._states[index] for index in last.indices])
            given = last.slot, last.time_s, last.values
            state = roll(spec, state, last.outlook, *given, trusted=last.trusted)
            for k, learnt in enumerate(last.indices):
                self._states[learnt] = state.take(np.array([k]))


@dataclass(frozen=True, slots=True)
class _Met:
    """A capture of some chunks that was compared with what was expected."""

    indices: list[Index]
    outlook: Outlook
    slot: int
    time_s: float
    values: NDArray[np.float64]
    trusted: NDArray[np.bool_]
