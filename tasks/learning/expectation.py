"""What the newest forecaster expects of the next captures of some chunks.

How a variable is forecast, its cadence and specification, stands in the log record; what was learnt
of it is stored apart, and may be damaged.  Answers depend on the record alone, so that damage to
what was learnt changes none of them: it costs a refit, and `recorded.unreadable` tells.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gnomon.storage.errors import Integrity
from gnomon.storage.repository import Repository
from gnomon.storage.stacks.forecaster import ForecasterState
from gnomon.storage.values.documents import NONSENSE
from gnomon.storage.values.grid import Index
from gnomon.storage.values.model import Variable
from gnomon.storage.values.times import SECOND
from gnomon.tasks.forecasting import (
    GATE,
    Outlook,
    Specification,
    State,
    departures,
    join,
    roll,
    unpack,
)
from gnomon.tasks.learning.cadence import Cadence
from gnomon.tasks.learning.recorded import cadence_of, entry_of, nonsense
from gnomon.tasks.learning.trusted import pass_over

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
    sample: tuple[Index, ...]
    """Chunks that the outlook's cells are in."""
    withheld: frozenset[Index] = frozenset()
    """Chunks whose prediction was refused: their state is not to be gone on with."""

    def state(self, index: Index) -> State | None:
        """Return the stored state of a chunk; None if it must be learnt anew.

        It must where it is damaged or senseless, and where the prediction made from it was refused.
        """
        if index in self.withheld:
            return None
        try:
            cells, shared = self.stored.chunk(index)
        except Integrity as error:
            pass_over(error, self.stored.location.url, self.stored.id)
            return None
        starts = np.array([0, cells.shape[1]])
        state = unpack(self.specification, starts, cells, shared[:, None])
        return state if state.is_sound else None


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
    stored = repository.forecaster_state(name)
    try:
        outlook = Outlook.unpack(specification, stored.outlook())
    except (Integrity, *NONSENSE) as error:
        pass_over(Integrity(str(error)), repository.location.url, name)
        return None
    cadence = cadence_of(repository, name)
    record = repository.forecaster
    if cadence is None or record is None:
        return None
    predicted = record.variables.get(name)
    withheld = frozenset(() if predicted is None else predicted.withheld)
    return Forecaster(specification, cadence, outlook, stored, entry.sample, withheld)


@dataclass(slots=True)
class Expectation:
    """Compares new captures of a variable with the forecast, some chunks at a time."""

    forecaster: Forecaster
    _states: dict[Index, State] = field(default_factory=dict)

    @classmethod
    def of(cls, repository: Repository, variable: Variable) -> "Expectation | None":
        """Return the expectation of the newest forecaster; None before the first."""
        forecaster = forecaster_of(repository, variable.name)
        return None if forecaster is None else cls(forecaster)

    def meet(
        self, instant: int, chunks: Mapping[Index, NDArray[np.float64]]
    ) -> dict[Index, dict[str, float]]:
        """Return departure statistics of a capture; the next call expects the one after it."""
        forecaster = self.forecaster
        spec, slot = forecaster.specification, forecaster.cadence.slot(instant)
        groups: dict[int, list[Index]] = {}
        for index in chunks:
            if index not in self._states:
                state = forecaster.state(index)
                if state is None:
                    continue
                self._states[index] = state
            if slot > self._states[index].slot:
                groups.setdefault(self._states[index].slot, []).append(index)
        result: dict[Index, dict[str, float]] = {}
        for state_slot, indices in groups.items():
            state = join([self._states[index] for index in indices])
            values = np.concatenate([chunks[index].ravel() for index in indices])
            outlook = forecaster.outlook
            if state_slot != outlook.slot:
                outlook = outlook.without_modes()
            time_s = instant / SECOND
            departed = departures(spec, state, outlook, slot, time_s, values)
            trusted = ~(departed.p_value < GATE)
            state = roll(spec, state, outlook, slot, time_s, values, trusted=trusted)
            for k, index in enumerate(indices):
                self._states[index] = state.take(np.array([k]))
                result[index] = {
                    "departure_mean": float(departed.mean[k]),
                    "departure_rms": float(departed.rms[k]),
                    "departure_maximum": float(departed.maximum[k]),
                    "standardised_rms": float(departed.standardised_rms[k]),
                    "p_value": float(departed.p_value[k]),
                }
        return result
