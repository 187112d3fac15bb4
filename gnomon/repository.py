"""The Python API: keep a repository up to date, look at it, restore from it."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import xarray as xr

from gnomon.flows import steps
from gnomon.flows.cluster import thread_mapper
from gnomon.flows.cycle import UpdateReport, run_cycle
from gnomon.flows.settings import Settings
from gnomon.maintenance import Maintenance, Progress, utc
from gnomon.storage import model
from gnomon.storage.documents import NONSENSE
from gnomon.storage.era import begin_era
from gnomon.storage.errors import Integrity, InvalidInput, NotFound
from gnomon.storage.reader import ReadingStore
from gnomon.storage.repository import Repository
from gnomon.storage.times import format_instant
from gnomon.storage.view import Plane, raw_dataset, reading_store
from gnomon.tasks.expectation import unreadable
from gnomon.tasks.points import RestorePoint, find_instant, locate, points, suspects
from gnomon.tasks.restore import Restored, choose, planes, restore
from gnomon.tasks.work import Mapper

__all__ = ["GnomonRepository", "Progress", "open_repository", "utc"]


def open_repository(path: str) -> "GnomonRepository":
    """Open an existing repository at its newest commit.

    Raises
    ------
    NotFound
        There is no repository.
    Format
        It was written by a newer Gnomon.
    Integrity
        Its settings or log are damaged.
    """
    return GnomonRepository(Repository.open(path))


class GnomonRepository(Maintenance):
    """A repository: the captures of one source, and their shadow.

    Made by :func:`gnomon.create` and :func:`gnomon.open`.
    """

    def __init__(self, repository: Repository, skipped: Mapping[str, str] | None = None) -> None:
        self._repository = repository
        self.skipped = dict(skipped or {})
        """Variables of the source that are not protected, and why; known after `create` only."""

    def __repr__(self) -> str:
        names = ", ".join(v.name for v in self._repository.settings.variables if v.forecast)
        count = len(self._repository.timeline)
        return f"<GnomonRepository {self.path}: {count} captures of {names}>"

    @property
    def path(self) -> str:
        """Where it lives."""
        return self._repository.location.url

    @property
    def stored(self) -> Repository:
        """The storage below, pinned to the commit that this object sees."""
        return self._repository

    def update(
        self,
        time: str | None = None,
        *,
        until: str | None = None,
        refit: bool = False,
        new_era: bool = False,
        compare: int | None = None,
        settings: Settings | None = None,
        progress: Progress | None = None,
    ) -> UpdateReport:
        """Capture what is new in the source, check it, and renew the shadow.

        Parameters
        ----------
        time
            Valid time of a state source, ISO 8601; default: now.
        until
            Capture no later time than this (or its whole period, if partial).
        refit
            Learn everything anew.
        new_era
            Go on with a source whose grid, types or variables have changed; what was captured
            before stays as it is.
        compare
            How many captures are compared with the source, which may have changed them since;
            -1: all.  Default: from the settings.
        settings
            Docs, alerts, workers; default: from the environment.
        progress
            Called as the work goes on.
        """
        settings = settings or Settings()
        if new_era:
            self._repository = begin_era(self._repository, utc())
        now = steps.valid_time(self.path, time)

        def call(step: Callable[..., Any], /, *arguments: Any) -> Any:
            if step not in steps.ON_CHUNKS:
                return step(*arguments)
            return step(*arguments, mapper=_mapper(step.__name__, settings.workers, progress))

        last = None if until is None else steps.last_time(self.path, until)
        wanted = settings.compare if compare is None else compare
        report = run_cycle(
            self.path,
            settings,
            call,
            now=now,
            until=last,
            refit="asked for" if refit else None,
            compare=None if wanted < 0 else wanted,
        )
        self._repository = self._repository.refresh()
        return report

    def backfill(self, until: str | None = None, **options: Any) -> UpdateReport:
        """Capture the history of an append source; takes the options of :meth:`update`."""
        steps.last_time(self.path, until)
        return self.update(until=until, **options)

    def points(self, at: str) -> tuple[RestorePoint, ...]:
        """Return every way to give the dataset at a time, best first.

        Raises
        ------
        NotFound
            There is no state at that time; the message says which there are.
        InvalidInput
            The time names several states.
        """
        return points(*locate(self._repository, at))

    def dataset(
        self,
        at: str,
        *,
        kind: str | None = None,
        capture: int | None = None,
        accept_predicted: bool = False,
        plain: bool = False,
        decode: bool = True,
    ) -> xr.Dataset:
        """Return the state of a time as a lazy dataset; every chunk is verified when it is read.

        Parameters
        ----------
        at
            Time, ISO 8601, as partial as is unique: ``2010-09``.
        kind
            Kind of restore point; default: the best.
        capture
            Number of the capture to take, where a time has several; `points` shows them.
        accept_predicted
            Allow estimated cells, which ``<var>_provenance`` marks.
        plain
            Leave out ``<var>_standard_error`` and ``<var>_provenance``; captured states only.
        decode
            Decode CF times, scales and missing values; else values are as stored.
        """
        seen, shown, _ = self._planes(at, kind, accept_predicted, capture)
        raw = raw_dataset(seen, shown, plain=plain)
        return _decoded(raw) if decode else raw

    def history(self, *, decode: bool = True) -> xr.Dataset:
        """Return all captured states of an append source as one lazy dataset, exactly."""
        raw = raw_dataset(self._repository, self._history(), plain=True)
        return _decoded(raw) if decode else raw

    def reading_store(
        self,
        at: str | None = None,
        *,
        kind: str | None = None,
        capture: int | None = None,
        accept_predicted: bool = False,
        plain: bool = False,
    ) -> ReadingStore:
        """Return the state of a time, or all captured states, as a read-only Zarr store."""
        if at is None:
            return reading_store(self._repository, self._history(), plain=plain)
        seen, shown, _ = self._planes(at, kind, accept_predicted, capture)
        return reading_store(seen, shown, plain=plain)

    def _history(self) -> tuple[Plane, ...]:
        if self._repository.settings.source.kind == "state":
            raise InvalidInput("a state source has no time dimension; ask for one state with 'at'")
        return tuple(Plane(s.instant, step=s.step) for s in self._repository.timeline)

    def explain(self, at: str, *, kind: str | None = None) -> RestorePoint:
        """Return a restore point with its error and confidence computed, healing if it must."""
        return self._planes(at, kind, accept_predicted=True)[2]

    def restore(
        self,
        at: str,
        target: str,
        *,
        kind: str | None = None,
        capture: int | None = None,
        accept_predicted: bool = False,
        plain: bool = False,
        workers: int | None = None,
        progress: Progress | None = None,
    ) -> Restored:
        """Write the state of a time to a new Zarr store or ``.nc`` file, and verify it.

        Raises
        ------
        Conflict
            The target exists.
        InvalidInput
            The best answer holds predictions, and those were not accepted.
        """
        seen, instant = locate(self._repository, at)
        found = points(seen, instant)
        point = choose(found, kind, accept_predicted=accept_predicted, capture=capture)
        mapper = _mapper("blocks", workers or Settings().workers, progress)
        return restore(seen, point, target, plain=plain, mapper=mapper)

    def anomalies(self) -> list[dict[str, Any]]:
        """Return every incident, oldest first, each with whether it is still open.

        An incident is open while one of its chunks is suspect, and the capture is kept.
        """
        eras = [self._repository.in_era(k) for k in range(len(self._repository.eras))]
        times = [
            {format_instant(s.instant, seen.settings.calendar): s.step for s in seen.state.kept}
            for seen in eras
        ]
        found: list[dict[str, Any]] = []
        newest = 0
        for record in self._repository.records:
            newest += record.kind == "era"
            era = int(record.body.get("era", newest))
            for incident in record.body.get("report", {}).get("incidents", []):
                is_open = False
                step = times[era].get(incident["valid_time"])
                if step is not None and incident["severity"] == "critical":
                    chunks = suspects(eras[era], step).get(incident["variable"], [])
                    still = {"/".join(map(str, index)) for index in chunks}
                    is_open = bool(still & set(incident["chunks"]))
                found.append(incident | {"open": is_open, "recorded_at": record.committed_at})
            if record.kind == "verdict" and "judged_by" not in record.body:
                found += _doubted(eras[era], record.body, record.committed_at)
        return found

    def judge(self, at: str, *, accept: bool, variable: str | None = None) -> int:
        """Accept the suspect chunks of a capture as true, or reject its trusted ones.

        Returns how many chunks were judged.  The next update learns accordingly.

        Parameters
        ----------
        accept
            True: suspect chunks become trusted.  False: all chunks become suspect.
        variable
            Only of this variable.
        """
        instant = find_instant(self._repository, at)
        versions = self._repository.state.versions(instant)
        if not versions:
            raise NotFound(f"{at!r} was not captured; only captures can be judged")
        # The newest version is what a person sees in the source.
        step = max(version.step for version in versions)
        names = [v.name for v in self._repository.settings.variables]
        if variable is not None and variable not in names:
            raise NotFound(f"{variable!r} is not captured; there is {', '.join(names)}")
        status = model.TRUSTED if accept else model.SUSPECT
        chunks = []
        for found in self._repository.settings.variables:
            if variable in (None, found.name):
                now = self._repository.captures(found.name).status(step)
                chunks += [
                    {
                        "variable": found.name,
                        "step": step,
                        "chunk": list(map(int, i)),
                        "status": status,
                    }
                    for i in np.argwhere(now != status)
                ]
        if chunks:
            word = "accepted" if accept else "rejected"
            body = {"chunks": chunks, "reason": f"{word} by a person", "judged_by": "person"}
            self._repository = self._repository.commit("verdict", body, utc())
        return len(chunks)

    def status(self) -> dict[str, Any]:
        """Return a summary: source, captures, shadow, open incidents, next due time."""
        stored = self._repository
        calendar = stored.settings.calendar
        latest = stored.shadows[-1] if stored.shadows else None
        report = stored.records[latest.sequence].body["report"] if latest else {}
        variables: dict[str, Any] = {}
        for variable in stored.settings.variables:
            found: dict[str, Any] = {
                "shape": list(variable.shape),
                "dtype": variable.dtype,
                "chunks": list(variable.chunks),
                "forecast": variable.forecast,
            }
            if latest is not None and variable.name in latest.variables:
                summary = latest.variables[variable.name]
                found |= {n: summary[n] for n in ("confidence", "expected_rmse", "tolerance")}
                found["units"] = str(variable.attributes.get("units", ""))
            variables[variable.name] = found
        times = [format_instant(s.instant, calendar) for s in stored.timeline]
        return {
            "repository": self.path,
            "source": stored.settings.source.url,
            "kind": stored.settings.source.kind,
            "commits": len(stored.records),
            "captures": len(times),
            "first": min(times, default=None),
            "last": max(times, default=None),
            "variables": variables,
            "shadow": [format_instant(i, calendar) for i in latest.instants] if latest else [],
            "open_incidents": sum(a["open"] for a in self.anomalies()),
            "due": report.get("due"),
            "notes": list(unreadable(stored)),
        }

    def _planes(
        self, at: str, kind: str | None, accept_predicted: bool, capture: int | None = None
    ) -> tuple[Repository, tuple[Plane, ...], RestorePoint]:
        seen, instant = locate(self._repository, at)
        found = points(seen, instant)
        point = choose(found, kind, accept_predicted=accept_predicted, capture=capture)
        return seen, *planes(seen, point)


def _decoded(raw: xr.Dataset) -> xr.Dataset:
    """Return a dataset decoded by CF, if its attributes are such that it can be."""
    try:
        return xr.decode_cf(raw)
    except NONSENSE as error:
        reason = " ".join(str(error).split())[:200]
        raise Integrity(
            f"the attributes that were captured cannot be decoded ({reason}); take the values as "
            "they are stored, with decode=False"
        ) from error


def _doubted(seen: Repository, body: dict[str, Any], recorded_at: str) -> list[dict[str, Any]]:
    """Return the incidents of a verdict that no person gave, in the era that it is of."""
    groups: dict[tuple[str, int], list[str]] = {}
    for entry in body["chunks"]:
        key = (entry["variable"], entry["step"])
        groups.setdefault(key, []).append("/".join(map(str, entry["chunk"])))
    return [
        {
            "variable": variable,
            "valid_time": format_instant(seen.captured[step].instant, seen.settings.calendar),
            "chunks": chunks,
            "expectations": ["plausible"],
            "severity": "critical",
            "suspected_cause": body["reason"],
            "open": not seen.captured[step].forgotten and bool(suspects(seen, step).get(variable)),
            "recorded_at": recorded_at,
        }
        for (variable, step), chunks in groups.items()
    ]


def _mapper(name: str, workers: int, progress: Progress | None) -> Mapper:
    if progress is None:
        return thread_mapper(workers)
    return thread_mapper(workers, lambda done, total: progress(name, done, total))
