"""The part of the Python API that reads: which states there are, and their data, lazily."""

from dataclasses import replace
from typing import Any, Unpack

import xarray as xr

from gnomon.inspecting import Inspecting
from gnomon.storage.errors import Integrity, InvalidInput
from gnomon.storage.repository import Repository
from gnomon.storage.serve.planes import Plane
from gnomon.storage.serve.reader import ReadingStore
from gnomon.storage.serve.view import Notes, raw_dataset, reading_store
from gnomon.storage.values.documents import NONSENSE
from gnomon.storage.values.selection import Selection
from gnomon.tasks.restoring.choice import locate_or_estimate, select
from gnomon.tasks.restoring.known import every_point
from gnomon.tasks.restoring.locate import Match
from gnomon.tasks.restoring.points import complete, points
from gnomon.tasks.restoring.request import StateOptions, StateRequest
from gnomon.tasks.restoring.restore import planes_of
from gnomon.tasks.restoring.restore_point import RestorePoint
from gnomon.tasks.restoring.shadow import newest_shadow
from gnomon.tasks.restoring.standing import stand
from gnomon.tasks.restoring.states import choose_states, notes_of

__all__ = ["Reading", "decoded"]


class Reading(Inspecting):
    """Methods that open states of a repository."""

    def points(
        self, at: str | None = None, *, match: Match = "exact", verify: bool = False
    ) -> tuple[RestorePoint, ...]:
        """Return every way to restore the dataset at a time, best first.

        Damage is healed, and what lies between captures is estimated in trials, to find out how
        good that is, which takes a while on a large field.

        Parameters
        ----------
        at
            Time, ISO 8601; it may be partial if it is unique: ``2010-09``.  None: one point for
            each captured time and each predicted one after the last, newest first, from the log.
        match
            What to do if no state has that time: ``exact`` estimates it from the captures around
            it, ``nearest`` takes the nearest state, ``before`` the last one before.
        verify
            Read every chunk that the points rest on, to tell whether it is sound.

        Raises
        ------
        NotFound
            There is no state at that time, and it cannot be estimated; the message names the states
            before and after it.
        InvalidInput
            The time names several states.
        """
        if at is None:
            return every_point(self._repository)
        seen, instant = locate_or_estimate(self._repository, at, match, estimated=True)
        return tuple(self._with_incidents(p) for p in points(seen, instant, verify=verify))

    def _with_incidents(self, point: RestorePoint) -> RestorePoint:
        """Return a point that says how many incidents are open of its time."""
        if not point.suspect_chunks:
            return point
        count = sum(
            incident["open"] and incident["valid_time"] == point.valid_time
            for incident in self.anomalies()
        )
        word = "incident" if count == 1 else "incidents"
        return replace(point, anomalies=(*point.anomalies, f"{count} open {word}"))

    def dataset(
        self,
        at: str | None = None,
        *,
        from_: str | None = None,
        until: str | None = None,
        accept_predicted: bool = False,
        plain: bool = False,
        marks: bool = False,
        decode: bool = True,
        **options: Unpack[StateOptions],
    ) -> xr.Dataset:
        """Return the state of a time as a lazy dataset; every chunk is verified when it is read.

        A state whose cells were all captured is the source's, without any variable or attribute
        that the source does not have.  Where a cell is an estimate, marks stand beside the values:
        ``<var>_standard_error``, ``<var>_provenance`` and attributes that begin with ``gnomon_``.

        Parameters
        ----------
        at
            Time, ISO 8601; it may be partial if it is unique: ``2010-09``.  None: all captured
            states of an append source, or with kind ``forecast`` the newest shadow, all leads along
            time.
        from_, until
            Instead of `at`, the ends of a period, both included; a partial time stands for all of
            its period, None for an open end.  All captured states along time; with
            `accept_predicted` the best of each slot, such as a forecast of one that is missing.
        accept_predicted
            Allow estimated cells, which ``<var>_provenance`` marks.
        plain
            Refuse a state that needs marks.
        marks
            Give the marks of captured states too.
        decode
            Decode CF times, scales and missing values; otherwise values are as stored.
        **options
            Which state of the time it is, and what part of it: match, kind, capture, variable,
            region, chunk; see :class:`~gnomon.tasks.restoring.request.StateOptions`.

        Raises
        ------
        NotFound
            There is no such state, variable, dimension or chunk; the message says what there is.
        InvalidInput
            What is asked for holds predictions that were not accepted, no cell lies in the region,
            or the options contradict each other.
        """
        request = StateRequest.of(
            at, from_=from_, until=until, accept_predicted=accept_predicted, **options
        )
        seen, shown, notes, selection = self._shown(request)
        raw = raw_dataset(seen, shown, plain=plain, marks=marks, notes=notes, selection=selection)
        return decoded(raw) if decode else raw

    def history(self, *, decode: bool = True) -> xr.Dataset:
        """Return all captured states of an append source as one lazy dataset, exactly."""
        raw = raw_dataset(self._repository, self._history())
        return decoded(raw) if decode else raw

    def reading_store(
        self,
        at: str | None = None,
        *,
        from_: str | None = None,
        until: str | None = None,
        accept_predicted: bool = False,
        plain: bool = False,
        marks: bool = False,
        **options: Unpack[StateOptions],
    ) -> ReadingStore:
        """Return the same as :meth:`dataset` as a read-only Zarr store."""
        request = StateRequest.of(
            at, from_=from_, until=until, accept_predicted=accept_predicted, **options
        )
        seen, shown, notes, selection = self._shown(request)
        return reading_store(
            seen, shown, plain=plain, marks=marks, notes=notes, selection=selection
        )

    def _history(self) -> tuple[Plane, ...]:
        if self._repository.settings.source.kind == "state":
            raise InvalidInput("a state source has no time dimension; name one state with 'at'")
        return tuple(Plane(s.instant, step=s.step) for s in self._repository.timeline)

    def explain(self, at: str, *, match: Match = "exact", kind: str | None = None) -> RestorePoint:
        """Return the restore point that a restore would take, with the figures of `points`.

        Only `points` compares it with others, and says why it is the first.
        """
        request = StateRequest(at, match=match, kind=kind, accept_predicted=True)
        seen, point = select(self._repository, request)
        return self._with_incidents(stand(seen, complete(seen, point)))

    def _shown(
        self, request: StateRequest
    ) -> tuple[Repository, tuple[Plane, ...], Notes, Selection]:
        """Return what is asked for: the era, its planes, what they say of themselves, and which of
        their cells are wanted."""
        if request.names_time:
            states = choose_states(self._repository, request)
            shown, points = planes_of(states)
            return states.seen, shown, notes_of(points), states.selection
        kind = request.kind
        if (request.match, request.capture) != ("exact", None) or kind not in (None, "forecast"):
            raise InvalidInput(
                "match, capture and kinds other than 'forecast' need one time; name it with 'at'"
            )
        selection = request.wanted.within(self._repository)
        accepted = request.accept_predicted
        if kind == "forecast":
            shadow, notes = newest_shadow(self._repository, accept_predicted=accepted)
            return self._repository, shadow, notes, selection
        if accepted:
            raise InvalidInput(
                "without 'at' there are no predictions to accept; name a time, or take all leads "
                "of the newest shadow with kind='forecast'"
            )
        return self._repository, self._history(), {}, selection


def decoded(raw: xr.Dataset, **options: Any) -> xr.Dataset:
    """Return a dataset decoded by CF, if its attributes are such that it can be.

    Booleans stay booleans: xarray would take their fill value, true or false, as missing.
    """
    flags = [n for n, v in raw.variables.items() if v.dtype.kind == "b" and "_FillValue" in v.attrs]
    raw = raw.copy() if flags else raw  # what was given keeps its attributes
    for name in flags:
        del raw.variables[name].attrs["_FillValue"]
    try:
        return xr.decode_cf(raw, **options)
    except NONSENSE as error:
        reason = " ".join(str(error).split())[:200]
        raise Integrity(
            f"the captured attributes cannot be decoded ({reason}); read the values as they are "
            "stored, with decode=False"
        ) from error
