"""What the newest forecaster expects of the next captures of some chunks."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gnomon.storage.errors import Integrity, InvalidInput
from gnomon.storage.forecaster import ForecasterState
from gnomon.storage.grid import Index
from gnomon.storage.model import Variable
from gnomon.storage.repository import Repository
from gnomon.storage.times import SECOND
from gnomon.tasks.cadence import Cadence
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
from gnomon.tasks.trusted import pass_over

__all__ = ["Expectation", "Forecaster", "forecaster_of"]


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


def forecaster_of(repository: Repository, name: str) -> Forecaster | None:
    """Return the newest forecaster of a variable; None if there is none that can go on.

    One of an older form, or whose outlook is damaged, cannot: a refit makes a new one.
    """
    record = repository.forecaster
    if record is None or name not in record.body["forecaster"]:
        return None
    entry = record.body["forecaster"][name]
    if not Specification.is_current(entry["specification"]):
        return None
    specification = Specification.from_json(entry["specification"])
    stored = repository.forecaster_state(name)
    try:
        outlook = Outlook.unpack(specification, stored.outlook())
    except (Integrity, InvalidInput) as error:
        pass_over(Integrity(str(error)), repository.location.url, name)
        return None
    sample = tuple(tuple(int(i) for i in index) for index in entry["sample"])
    refused = record.body["variables"].get(name, {}).get("withheld", [])
    withheld = frozenset(tuple(int(i) for i in index) for index in refused)
    cadence = Cadence.from_json(entry["cadence"])
    return Forecaster(specification, cadence, outlook, stored, sample, withheld)


@dataclass(slots=True)
class Expectation:
    """Compares new captures of a variable with the forecast, some chunks at a time."""

    forecaster: Forecaster
    _states: dict[Index, State] = field(default_factory=dict)

    @classmethod
    def of(cls, repository: Repository, variable: Variable) -> "Expectation | None":
        """Return the expectation of the newest forecaster; None before the first."""
        found = forecaster_of(repository, variable.name)
        return None if found is None else cls(found)

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
        for known, indices in groups.items():
            state = join([self._states[index] for index in indices])
            values = np.concatenate([chunks[index].ravel() for index in indices])
            outlook = forecaster.outlook
            if known != outlook.slot:
                outlook = outlook.without_modes()
            time_s = instant / SECOND
            found = departures(spec, state, outlook, slot, time_s, values)
            kept = ~(found.p_value < GATE)
            state = roll(spec, state, outlook, slot, time_s, values, trusted=kept)
            for k, index in enumerate(indices):
                self._states[index] = state.take(np.array([k]))
                result[index] = {
                    "departure_mean": float(found.mean[k]),
                    "departure_rms": float(found.rms[k]),
                    "departure_maximum": float(found.maximum[k]),
                    "standardised_rms": float(found.standardised_rms[k]),
                    "p_value": float(found.p_value[k]),
                }
        return result
