"""What the newest forecaster state expects of the next captures of a chunk."""

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from gnomon.storage.errors import Integrity
from gnomon.storage.forecaster import ForecasterState
from gnomon.storage.grid import Index
from gnomon.storage.model import Variable
from gnomon.storage.repository import Repository
from gnomon.storage.times import SECOND
from gnomon.tasks.cadence import Cadence
from gnomon.tasks.forecasting import Specification, State, departures, roll, unpack
from gnomon.tasks.trusted import pass_over

__all__ = ["Expectation", "forecaster_of", "known_state"]


def forecaster_of(
    repository: Repository, name: str
) -> tuple[Specification, Cadence, ForecasterState] | None:
    """Return the newest forecaster of a variable, or None if there is none yet."""
    record = repository.forecaster
    if record is None or name not in record.body["forecaster"]:
        return None
    entry = record.body["forecaster"][name]
    return (
        Specification.from_json(entry["specification"]),
        Cadence.from_json(entry["cadence"]),
        repository.forecaster_state(name),
    )


def known_state(stored: ForecasterState, spec: Specification, index: Index) -> State | None:
    """Return the stored state of a chunk; None if it is damaged, and must be learnt anew."""
    try:
        return unpack(spec, *stored.chunk(index))
    except Integrity as error:
        pass_over(error, stored.location.url, stored.id)
        return None


@dataclass(slots=True)
class Expectation:
    """Compares new captures of a variable with the forecast, chunk by chunk."""

    GATE: ClassVar[float] = 1e-6
    """Departures less likely than this are kept out of what the forecaster learns."""

    specification: Specification
    cadence: Cadence
    stored: ForecasterState
    _states: dict[Index, State] = field(default_factory=dict)

    @classmethod
    def of(cls, repository: Repository, variable: Variable) -> "Expectation | None":
        """Return the expectation of the newest forecaster; None before the first."""
        found = forecaster_of(repository, variable.name)
        return None if found is None else cls(*found)

    def meet(self, index: Index, instant: int, values: NDArray[np.float64]) -> dict[str, float]:
        """Return departure statistics of a capture; the next call expects the one after it."""
        spec = self.specification
        state = self._states.get(index)
        if state is None:
            state = known_state(self.stored, spec, index)
            if state is None:
                return {}
        slot, time_s = self.cadence.slot(instant), instant / SECOND
        flat = np.where(np.isfinite(values), values, np.nan).ravel()
        if slot <= state.slot:
            return {}
        found = departures(spec, state, slot, time_s, flat)
        kept = flat if not found.p_value < self.GATE else np.full_like(flat, np.nan)
        self._states[index] = roll(spec, state, slot, time_s, kept)
        return {
            "departure_mean": found.mean,
            "departure_rms": found.rms,
            "departure_maximum": found.maximum,
            "standardised_rms": found.standardised_rms,
            "p_value": found.p_value,
        }
