"""The part of the Python API that tells of a repository, and reads no data of it.

It loads neither Zarr nor xarray nor the forecaster, so that commands that ask for no more answer at
once.
"""

from dataclasses import asdict
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np

from gnomon.flows.doubts import doubted_incidents
from gnomon.flows.unsent import unsent_alerts
from gnomon.storage.care.check import CheckReport, check
from gnomon.storage.care.subset import parse_subset
from gnomon.storage.checks.check import CRITICAL
from gnomon.storage.log.bodies.body import Header
from gnomon.storage.log.bodies.report import Report
from gnomon.storage.log.bodies.verdict import VerdictBody
from gnomon.storage.log.steps import Shadow
from gnomon.storage.redaction import redacted
from gnomon.storage.repository import Repository
from gnomon.storage.source.unprotected import advice
from gnomon.storage.userpath import place_of
from gnomon.storage.values.believable import distance
from gnomon.storage.values.model import Variable
from gnomon.storage.values.times import format_instant
from gnomon.tasks.learning.recorded import unreadable
from gnomon.tasks.restoring.suspected import suspects
from gnomon.tasks.rollback.writer import is_elsewhere
from gnomon.validations.incident import Incident

if TYPE_CHECKING:
    from gnomon.progress import Progress

__all__ = ["Inspecting", "inspect"]


def inspect(path: str | PathLike[str]) -> "Inspecting":
    """Open an existing repository to be told of it; raises as :func:`gnomon.open`."""
    return Inspecting(Repository.open(place_of(path)))


class Inspecting:
    """Methods that tell what a repository holds, and how it is."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository

    @property
    def path(self) -> str:
        """Path or URL of the repository."""
        return self._repository.location.url

    @property
    def stored(self) -> Repository:
        """The storage layer, pinned to the commit that this object sees."""
        return self._repository

    def status(self) -> dict[str, Any]:
        """Return a summary: source, captures, shadow, open incidents, next due time."""
        stored = self._repository
        calendar = stored.settings.calendar
        latest = stored.shadows[-1] if stored.shadows else None
        report = Report.of(stored.records[latest.sequence].body) if latest else None
        timeline = stored.timeline  # in order of time; years as text would not be
        first, last = (
            format_instant(timeline[k].instant, calendar) if timeline else None for k in (0, -1)
        )
        return {
            "repository": self.path,
            "source": redacted(stored.settings.source.url),
            "kind": stored.settings.source.kind,
            "commits": len(stored.records),
            "captures": len(timeline),
            "first": first,
            "last": last,
            "variables": {v.name: _status_of(v, latest) for v in stored.settings.variables},
            "unprotected": {
                name: advice(reason)
                for name, reason in (stored.state.description().unprotected or {}).items()
            },
            "shadow": [format_instant(i, calendar) for i in latest.instants] if latest else [],
            "open_incidents": sum(a["open"] for a in self.anomalies()),
            "rollbacks": self.rollbacks(),
            "alerts_unsent": unsent_alerts(stored),
            "due": report.due if report else None,
            "notes": list(unreadable(stored)),
        }

    def captures(self) -> list[dict[str, Any]]:
        """Return every kept capture, era by era, in order of time, revisions included."""
        eras = range(len(self._repository.eras))
        return [capture for era in eras for capture in self._captures(self._repository.in_era(era))]

    def _captures(self, seen: Repository) -> list[dict[str, Any]]:
        calendar = seen.settings.calendar
        chosen = {s.step for s in seen.timeline}
        return [
            {
                "era": seen.era,
                "capture": s.step,
                "valid_time": format_instant(s.instant, calendar),
                "captured_at": s.captured_at,
                "suspect_chunks": s.suspects,
                "revises": s.revises,
                "current": s.step in chosen,
                "doubted": s.instant in seen.state.doubted,
                "tags": list(s.tags),
            }
            for s in seen.state.kept
        ]

    def anomalies(self) -> list[dict[str, Any]]:
        """Return every incident, oldest first, each with whether it is still open.

        An incident is open while one of its chunks is suspect and the capture is kept.  A capture
        whose time is not believed is an incident of the time coordinate.
        """
        eras = [self._repository.in_era(k) for k in range(len(self._repository.eras))]
        times = [
            {format_instant(s.instant, seen.settings.calendar): s.step for s in seen.state.kept}
            for seen in eras
        ]
        incidents: list[dict[str, Any]] = []
        newest = 0
        for record in self._repository.records:
            newest += record.kind == "era"
            said = Header.from_json(record.body).era
            era = newest if said is None else said
            report = None if record.kind == VerdictBody.kind else Report.of(record.body)
            for incident in report.incidents if report else ():
                is_open = False
                step = times[era].get(incident["valid_time"])
                if step is not None and incident["severity"] == CRITICAL:
                    chunks = suspects(eras[era], step).get(incident["variable"], [])
                    still = {"/".join(map(str, index)) for index in chunks}
                    is_open = bool(still & set(incident["chunks"]))
                incidents.append(incident | {"open": is_open, "recorded_at": record.committed_at})
            if record.kind == VerdictBody.kind:
                verdict = VerdictBody.from_json(record.body)
                if verdict.judged_by is None:
                    incidents += _doubted(eras[era], verdict, record.committed_at)
        return [*incidents, *(incident for seen in eras for incident in _doubted_times(seen))]

    def rollbacks(self) -> list[dict[str, Any]]:
        """Return the rollbacks of the live dataset that stand or are under way, newest first."""
        calendar = self._repository.settings.calendar
        return [
            {
                "rollback": r.sequence,
                "valid_time": format_instant(r.instant, calendar),
                "live": redacted(r.live.url),
                "what": r.what,
                "state": r.state,
                "begun_at": r.begun_at,
                "writer": None if r.writer is None else asdict(r.writer),
                "elsewhere": r.writer is not None and is_elsewhere(r.writer),
                "chunks": r.chunks,
                "estimated": r.estimated,
            }
            for r in reversed(self._repository.state.rollbacks)
            if r.state != "undone"
        ]

    def check(
        self,
        *,
        read_data: bool = False,
        subset: str | None = None,
        progress: "Progress | None" = None,
    ) -> CheckReport:
        """Verify the repository, and with `read_data` every byte it may ever return.

        Parameters
        ----------
        subset
            Read only a part of the stored bytes: ``5%``, ``3/10`` or ``500MB``.  A percentage or a
            size starts where the check before stopped.
        """
        part = None if subset is None else parse_subset(subset)
        return check(self._repository, read_data=read_data, subset=part, progress=progress)


def _status_of(variable: Variable, latest: Shadow | None) -> dict[str, Any]:
    """Return a summary of a variable, and of its forecast in the newest shadow."""
    status: dict[str, Any] = {
        "shape": list(variable.shape),
        "dtype": variable.dtype,
        "chunks": list(variable.chunks),
        "forecast": variable.forecast,
    }
    if latest is not None and variable.name in latest.variables:
        summary = latest.variables[variable.name]
        status |= {
            "confidence": list(summary.confidence),
            "expected_rmse": list(summary.expected_rmse),
            "tolerance": summary.tolerance,
            "usual_change": summary.usual_change,
            "withheld": ["/".join(map(str, index)) for index in summary.withheld],
            "unpredicted": summary.unpredicted,
            "units": str(variable.attributes.get("units", "")),
        }
    return status


def _doubted_times(seen: Repository) -> list[dict[str, Any]]:
    """Return an incident for each capture whose time is not believed."""
    calendar = seen.settings.calendar
    believed = np.array([s.instant for s in seen.timeline], np.int64)
    incidents = []
    for step in seen.state.kept:
        if step.instant in seen.state.doubted:
            incident = Incident(
                seen.settings.source.time or "time",
                format_instant(step.instant, calendar),
                (),
                ("believable_time",),
                CRITICAL,
                f"the time {distance(step.instant, believed, calendar)}: if it is right, accept "
                f"it; otherwise give it up with 'gnomon forget --capture {step.step}'",
            )
            incidents.append(incident.to_json() | {"open": True, "recorded_at": step.captured_at})
    return incidents


def _doubted(seen: Repository, verdict: VerdictBody, recorded_at: str) -> list[dict[str, Any]]:
    """Return the incidents of a verdict that no person gave, in the era that it is of."""
    return [
        incident.to_json()
        | {
            "open": not seen.captured[step].forgotten and bool(suspects(seen, step).get(variable)),
            "recorded_at": recorded_at,
        }
        for (variable, step), incident in doubted_incidents(
            seen, verdict.chunks, verdict.reason
        ).items()
    ]
