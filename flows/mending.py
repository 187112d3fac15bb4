"""Puts suspect chunks right in the source where a standing rule allows it, and tells of each."""

from datetime import UTC, datetime
from typing import Any

from gnomon.storage.checks.check import CRITICAL
from gnomon.storage.errors import GnomonError
from gnomon.storage.log.bodies.report import Report
from gnomon.storage.repository import Repository
from gnomon.storage.values.times import format_instant
from gnomon.tasks.rollback.mending import Mending, mend, mendings
from gnomon.validations.incidents import Incident

__all__ = ["put_right"]

CAUSE = "estimates were written into the source by a standing rule; 'gnomon undo' takes them back"
"""What an alert says of it."""


def put_right(url: str, channels: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """Write estimates into the source where the rule allows it; returns what was done, as JSON.

    What fails is told and stops nothing; the next run tries again.

    Parameters
    ----------
    channels
        Where each is to be told.
    """
    return [
        done
        for mending in mendings(Repository.open(url))
        if (done := _put_right(url, mending, channels)) is not None
    ]


def _put_right(url: str, mending: Mending, channels: tuple[str, ...]) -> dict[str, Any] | None:
    repository = Repository.open(url)
    instant = repository.captured[mending.step].instant
    time = format_instant(instant, repository.settings.calendar)
    places = {
        name: tuple("/".join(map(str, index)) for index in sorted(chunks))
        for name, chunks in mending.chunks.items()
    }
    incidents = [
        Incident(name, time, chunks, ("auto_heal",), CRITICAL, CAUSE).to_json()
        for name, chunks in places.items()
    ]
    report: dict[str, Any] = {"incidents": incidents}
    if channels:
        report["alerts"] = list(channels)
    done = {"valid_time": time, "chunks": {name: list(chunks) for name, chunks in places.items()}}
    now = datetime.now(UTC).isoformat(timespec="seconds")
    try:
        rolled = mend(repository, mending, at=now, report=Report(report))
    except GnomonError as error:
        return done | {"rollback": None, "error": str(error)}
    if rolled is None or rolled.sequence is None:
        return None
    return done | {"rollback": rolled.sequence, "error": None}
