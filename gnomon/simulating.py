"""The part of the Python API that simulates: states that might come, drawn from the shadow."""

from collections.abc import Sequence
from os import PathLike
from typing import TYPE_CHECKING

import xarray as xr

from gnomon.progress import Progress, mapper_of
from gnomon.reading import decoded
from gnomon.storage.repository import Repository
from gnomon.tasks.restoring.locate import Match
from gnomon.tasks.restoring.targets.target import Target
from gnomon.tasks.work import SingleThreaded

if TYPE_CHECKING:
    from gnomon.tasks.simulating.simulation import Simulation
    from gnomon.tasks.simulating.write import Simulated

__all__ = ["MEMBERS", "Simulating"]

MEMBERS = 20
"""Members, if nobody says how many."""


class Simulating:
    """Methods that draw members of what is predicted."""

    _repository: Repository

    def simulate(
        self,
        at: str | None = None,
        *,
        members: int = MEMBERS,
        seed: int = 0,
        variables: Sequence[str] = (),
        match: Match = "exact",
        decode: bool = True,
        progress: Progress | None = None,
    ) -> xr.Dataset:
        """Return states that might be true, as far as the shadow knows: a lazy dataset.

        Each member departs from the prediction by as much as the standard error says, and as past
        departures did: in space, between leads and between variables.  A chunk is drawn when it is
        read, and is the same whatever was read before.

        Parameters
        ----------
        at
            Time that was not captured, or not in full; ISO 8601, partial if unique.  None: all
            leads of the newest shadow, along time.
        members
            How many, 1 to 10,000.  More of them leave the first ones as they are.
        seed
            Any integer.  With the same seed and commit all numbers are the same.
        variables
            Names; default: all that are forecast.
        match
            What to do if no state has that time, as in `points`.
        decode
            Decode CF times, scales and missing values; otherwise values are as stored.
        progress
            Called as the covariance is learnt.

        Returns
        -------
        xarray.Dataset
            Variables (member, time, ...) in the type of the source, packed ones as float64; NaN
            where nothing is predicted.  ``<var>_provenance`` marks each cell as simulated, so that
            no repository captures it.  Of a state that was captured in part, the intact cells are
            the same in all members.

        Raises
        ------
        NotFound
            There is no shadow, no such state, or no such variable.
        InvalidInput
            The state was captured exactly, or the number of members is out of range.
        """
        from gnomon.tasks.simulating.view import simulated_dataset

        simulation = self._simulation(
            at, members=members, seed=seed, variables=variables, match=match, progress=progress
        )
        raw = simulated_dataset(simulation)
        return decoded(raw) if decode else raw

    def write_simulation(
        self,
        to: str | PathLike[str] | Target | None = None,
        at: str | None = None,
        *,
        members: int = MEMBERS,
        seed: int = 0,
        variables: Sequence[str] = (),
        match: Match = "exact",
        workers: int | None = None,
        progress: Progress | None = None,
    ) -> "Simulated":
        """Write what :meth:`simulate` returns to a new dataset, and say what the members say.

        Parameters
        ----------
        to
            As for :meth:`restore`.  None: nothing is written.
        at, members, seed, variables, match
            As for :meth:`simulate`.
        workers
            Threads; default: from the settings.
        progress
            Called as the work goes on.

        Raises
        ------
        Conflict
            The target exists.
        NotFound, InvalidInput
            As for :meth:`simulate`; or nothing can be written there.
        """
        from gnomon.tasks.simulating.write import summarise, write

        simulation = self._simulation(
            at, members=members, seed=seed, variables=variables, match=match, progress=progress
        )
        mapper = mapper_of("blocks", workers, progress)
        return summarise(simulation, mapper) if to is None else write(simulation, to, mapper)

    def _simulation(
        self,
        at: str | None,
        *,
        members: int,
        seed: int,
        variables: Sequence[str],
        match: Match,
        progress: Progress | None,
    ) -> "Simulation":
        from gnomon.tasks.simulating.simulation import Request, simulate

        def learn(request: Request) -> "Simulation":
            return simulate(self._repository, request, progress)

        # With one thread of linear algebra the numbers do not depend on how many there are.
        return SingleThreaded(learn)(Request(members, seed, at, match, tuple(variables)))
