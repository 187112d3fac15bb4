"""The part of the Python API that judges: findings of the checks, and a person's verdicts."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import isfinite
from typing import Any

import numpy as np

from gnomon.maintenance import Maintenance, utc
from gnomon.storage.care.retention import parse_duration
from gnomon.storage.changes.adding import add_variables
from gnomon.storage.errors import GnomonError, InvalidInput, NotFound
from gnomon.storage.log.bodies.choices import AutoHeal
from gnomon.storage.log.bodies.verdict import JudgedChunk, VerdictBody
from gnomon.storage.repository import Repository
from gnomon.storage.source.opening import open_source
from gnomon.storage.values import model
from gnomon.storage.values.believable import DAY
from gnomon.storage.values.times import clock, format_instant
from gnomon.tasks.capturing.sighting import sight
from gnomon.tasks.forecasting.candidate import Candidate
from gnomon.tasks.forecasting.registry import names
from gnomon.tasks.restoring.locate import find_instant, find_period

__all__ = ["Judged", "Judging"]

_REASONS = {True: "accepted by a person", False: "rejected by a person"}


@dataclass(frozen=True, slots=True)
class Judged:
    """Changes that a person's verdict makes, or would make."""

    captures: tuple[str, ...]
    """Valid times of the captures whose chunks are judged."""
    chunks: int
    """Number of their chunks whose status changes."""
    revisions: int
    """How many of the captures are revisions; once accepted, they replace the first version."""
    times: tuple[str, ...]
    """Valid times that are believed from now on, or no longer."""

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)


AUTO_HEAL_CONFIDENCE = 0.95
"""Least confidence of what is put right by itself, if nobody says another."""


def _auto_heal(
    repository: Repository, errors: Mapping[str, float], confidence: float
) -> AutoHeal | None:
    """Return the rule, checked; None for none."""
    for name, error in errors.items():
        variable = repository.settings.variable(name)
        if not variable.forecast:
            raise InvalidInput(f"{name} is not forecast, so that none of it is ever estimated")
        if not (isfinite(error) and error >= 0):
            raise InvalidInput(f"the expected error of {name} is {error}; give a number from 0")
    if not 0 <= confidence <= 1:
        raise InvalidInput(f"the confidence is {confidence}; give a number from 0 to 1")
    return AutoHeal(dict(errors), confidence) if errors else None


class Judging(Maintenance):
    """Methods on what the checks and the refits found, and on the verdicts."""

    def judge(self, at: str, *, accept: bool, variable: str | None = None) -> int:
        """Accept the suspect chunks of captures as true, or reject trusted ones.

        Returns how many chunks and times were judged.  The next update learns accordingly.

        Parameters
        ----------
        at
            A time; ``2024-03-01/2024-03-10``, both ends included; or ``all``.  To accept, a partial
            time such as ``2024-03`` is a period too; to reject, it must name one capture.
        accept
            True: suspect chunks become trusted, and so do doubted times, of captures and of steps
            that were left out.  False: all chunks become suspect.
        variable
            Judge only this variable.

        Raises
        ------
        NotFound
            Nothing was captured at that time, or there is no such variable.
        """
        names, steps, times = self._judged(at, accept=accept, variable=variable)

        def judged(seen: Repository) -> tuple[Repository, int]:
            chunks = _changes(seen, steps, names, model.TRUSTED if accept else model.SUSPECT)
            believed = seen.state.believed
            left = [t for t in times if (t in believed) != accept]
            verdict = VerdictBody(
                chunks,
                _REASONS[accept],
                judged_by="person",
                times=tuple(left) if accept else (),
                doubted=() if accept else tuple(left),
            )
            if chunks or left:
                seen = seen.commit(verdict, utc())
            return seen, len(chunks) + len(left)

        repository, count = self._repository.retried(judged)
        self._adopt(repository)
        return count

    def judging(self, at: str, *, accept: bool, variable: str | None = None) -> Judged:
        """Return what :meth:`judge` would change, and change nothing."""
        seen = self._repository
        names, steps, times = self._judged(at, accept=accept, variable=variable)
        chunks = _changes(seen, steps, names, model.TRUSTED if accept else model.SUSPECT)
        changed = sorted({chunk.step for chunk in chunks})
        calendar = seen.settings.calendar
        return Judged(
            tuple(format_instant(seen.captured[s].instant, calendar) for s in changed),
            len(chunks),
            sum(seen.captured[s].revises is not None for s in changed),
            tuple(
                format_instant(t, calendar) for t in times if (t in seen.state.believed) != accept
            ),
        )

    def add(self, variables: Sequence[str]) -> None:
        """Capture further variables of the source from now on.

        States that the source still holds are captured again with them, all of them by
        ``update(compare=-1)``.  A state that the source no longer holds is restored without them.
        """
        committed_at = utc()
        self._adopt(
            self._repository.retried(
                lambda seen: (add_variables(seen, variables, committed_at), None)
            )[0]
        )

    def rules(
        self,
        *,
        revisable: str | None = None,
        candidates: Sequence[str | Candidate] | None = None,
        auto_heal: Mapping[str, float] | None = None,
        auto_heal_confidence: float = AUTO_HEAL_CONFIDENCE,
    ) -> dict[str, Any]:
        """Return the standing rules of the repository, after setting those that are given.

        Parameters
        ----------
        revisable
            ``100d``: the source may change states that are at most this much older than the newest;
            the new version is trusted, and both are kept.  ``none``: there is no such rule.
        candidates
            Forecasting models beside the built-in ones, all of them: names of installed ones, or
            objects, which only this process knows.  The next update that captures something learns
            with them.
        auto_heal
            By variable, the largest expected error, in its units, of a suspect chunk whose estimate
            an update writes into the source by itself; it can be taken back, and an alert tells of
            each.  Empty: nothing is written, which is the default.
        auto_heal_confidence
            Its least confidence, 0 to 1.

        Raises
        ------
        NotFound
            A candidate is not installed here, or there is no such variable.
        InvalidInput
            A name is that of a built-in one, or an object is no candidate; or a number is none
            that an error or a confidence can be.
        """
        calendar = self._repository.settings.calendar
        given: dict[str, Any] = {}
        if revisable is not None:
            none = revisable == "none"
            given["revisable"] = None if none else -parse_duration(revisable).before(0, calendar)
        if candidates is not None:
            given["candidates"] = names(candidates)

        if auto_heal is not None:
            given["auto_heal"] = _auto_heal(self._repository, auto_heal, auto_heal_confidence)

        def commit(seen: Repository) -> tuple[Repository, None]:
            # What is not given is what stands now, whoever has set it since.
            return seen.commit(replace(seen.state.rules, **given), utc()), None

        if given:
            self._adopt(self._repository.refresh().retried(commit)[0])
        state = self._repository.state
        age = state.revisable
        return {
            "revisable_days": None if age is None else age / DAY,
            "candidates": list(state.candidates),
            "auto_heal": None if state.auto_heal is None else state.auto_heal.to_json(),
        }

    def _judged(
        self, at: str, *, accept: bool, variable: str | None
    ) -> tuple[list[str], list[int], list[int]]:
        """Return the variables, captures and times that a verdict concerns."""
        names = [v.name for v in self._repository.settings.variables]
        if variable is not None and variable not in names:
            raise NotFound(f"{variable!r} is not captured; captured are: {', '.join(names)}")
        times = self._times(at, accept=accept) if variable is None else []
        steps = self._steps(at, accept=accept, times_given=bool(times))
        return names if variable is None else [variable], steps, times

    def _steps(self, at: str, *, accept: bool, times_given: bool) -> list[int]:
        """Return the captures of a period, of each time the newest version.

        That is what a person sees in the source.
        """
        newest = {s.instant: s.step for s in self._repository.state.kept}
        if not accept and "/" not in at and at.strip() != "all":
            instant = find_instant(self._repository, at)
            if instant not in newest:
                raise NotFound(f"{at!r} was not captured; only captures can be judged")
            return [newest[instant]]
        start, stop = find_period(self._repository, at)
        steps = [step for instant, step in newest.items() if start <= instant < stop]
        if not steps and not times_given:
            find_instant(self._repository, at)  # names what is before and after
            raise NotFound(f"{at!r} was not captured; only captures can be judged")
        return steps

    def _times(self, at: str, *, accept: bool) -> list[int]:
        """Return the doubted times of a period: of captures, and of what the source holds."""
        seen = self._repository
        start, stop = find_period(seen, at)
        if not accept:
            return sorted(t for t in seen.state.believed if start <= t < stop)
        times = set(seen.state.doubted | seen.state.believed)
        if seen.settings.source.kind == "append":
            try:
                with open_source(seen.settings.source, seen.memory) as dataset:
                    sighted = sight(seen, dataset, clock=clock(utc(), seen.settings.calendar))
                times.update(sighted.axis.instants[sighted.doubted].tolist())
            except GnomonError:  # what was captured can be judged without it
                pass
        return sorted(t for t in times if start <= t < stop)


def _changes(
    seen: Repository, steps: list[int], names: list[str], status: int
) -> tuple[JudgedChunk, ...]:
    """Return what a verdict names: the chunks of captures that do not have a status yet."""
    chunks: list[JudgedChunk] = []
    for name in names:
        stack = seen.captures(name)
        for step in steps:
            if status == model.TRUSTED and not seen.captured[step].suspects:
                continue
            chunks += [
                JudgedChunk(name, step, tuple(map(int, index)), status)
                for index in np.argwhere(stack.status(step) != status)
            ]
    return tuple(chunks)
