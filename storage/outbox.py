"""The outbox: which alerts are due, and which of them were sent.

The record of a capture, or of a verdict that a refit gives, says at which channels its critical
incidents are due.  When a channel has taken an alert, a mark is put: a small object of its own, so
that a run that is stopped at any point leaves at most one alert in doubt.  Marks are no part of the
state; without one, an alert is sent again, under the same identity.
"""

import json
import re
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from gnomon.storage.checks.check import CRITICAL
from gnomon.storage.errors import Conflict
from gnomon.storage.log.bodies.body import Header
from gnomon.storage.log.bodies.report import Report
from gnomon.storage.log.records import Record
from gnomon.storage.repository import Repository

__all__ = ["CHANNEL", "MOST_CHANNELS", "DueAlert", "due", "is_marked", "mark"]

CHANNEL = re.compile(r"[a-z]{1,32}", re.ASCII)
"""Name of a channel."""
MOST_CHANNELS = 16
"""Of one record; more stand only in one that was made to take time."""


@dataclass(frozen=True, slots=True)
class DueAlert:
    """One alert that one channel has not taken yet."""

    sequence: int
    """The record that says so."""
    era: int
    """The era that the record speaks of."""
    incident: int
    """Position among the record's incidents."""
    channel: str
    """Where it is due: ``log``, ``file``, ``webhook``, ``block``, ``event``, ``apprise``, or what a
    user calls a channel."""
    content: dict[str, Any]
    """The incident, as it is recorded."""
    id: str
    """Of the alert: the same whoever sends it, how often, and through which channel."""

    @property
    def name(self) -> str:
        """The mark that says that it was sent."""
        return f"{_folder(self.sequence)}{self.incident}-{self.channel}.json"


def due(repository: Repository) -> tuple[DueAlert, ...]:
    """Return the alerts that were never sent, oldest first.

    Records from before there was an outbox say nothing of alerts, so that none of theirs is due.
    """
    alerts: list[DueAlert] = []
    era = 0
    for record in repository.records:
        era += record.kind == "era"
        if record.kind in ("capture", "verdict", "rollback"):
            record_era = Header.from_json(record.body).era
            alerts += _of(record, era if record_era is None else record_era, repository.genesis)
    if not alerts:
        return ()
    sent = set(repository.location.list("alerts/"))
    return tuple(alert for alert in alerts if alert.name not in sent)


def is_marked(repository: Repository, alert: DueAlert) -> bool:
    """Tell whether an alert was sent by now, by whomever."""
    return alert.name in repository.location.list(_folder(alert.sequence))


def mark(repository: Repository, sent: DueAlert, sent_at: str) -> None:
    """Note that a channel took an alert."""
    data = json.dumps({"id": sent.id, "sent_at": sent_at}, sort_keys=True)
    with suppress(Conflict):  # another run sent it too
        repository.location.create(sent.name, data.encode(), durable=True)


def _of(record: Record, era: int, genesis: str) -> list[DueAlert]:
    report = Report.of(record.body)
    if report is None:
        return []
    names = [channel for channel in report.alerts if CHANNEL.fullmatch(channel)]
    distinct = list(dict.fromkeys(names))[:MOST_CHANNELS]
    return [
        DueAlert(
            record.sequence, era, k, channel, incident, f"{genesis[:16]}-{record.sequence}-{k}"
        )
        for k, incident in enumerate(report.incidents)
        if incident.get("severity") == CRITICAL
        for channel in distinct
    ]


def _folder(sequence: int) -> str:
    return f"alerts/{sequence:020d}/"
