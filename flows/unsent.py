"""Alerts that are due and were not sent, by the repository alone."""

from typing import Any

from gnomon.storage.errors import Integrity
from gnomon.storage.log.bodies.rollback import RollbackBody
from gnomon.storage.log.bodies.verdict import VerdictBody
from gnomon.storage.outbox import DueAlert, due
from gnomon.storage.repository import Repository
from gnomon.storage.values.times import format_instant
from gnomon.tasks.restoring.suspected import suspects

__all__ = ["open_alerts", "unsent_alerts"]


def unsent_alerts(repository: Repository) -> list[dict[str, Any]]:
    """Return the alerts that are due and were not sent, as JSON values."""
    return [
        {
            "id": due_alert.id,
            "channel": due_alert.channel,
            "variable": due_alert.content.get("variable"),
            "valid_time": due_alert.content.get("valid_time"),
        }
        for due_alert in open_alerts(repository)
    ]


def open_alerts(repository: Repository) -> list[DueAlert]:
    """Return what is due of incidents that are open: what a person has judged is no news."""
    look = _Suspicions(repository)
    return [due_alert for due_alert in due(repository) if look.is_open(due_alert)]


class _Suspicions:
    """What of a repository is suspect still; for each incident, record and capture it looks once.

    Parameters
    ----------
    repository
        At its newest commit.
    """

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._answers: dict[tuple[int, int], bool] = {}
        self._steps: dict[int, dict[str, list[int]]] = {}
        self._suspects: dict[tuple[int, int], dict[str, frozenset[str]]] = {}

    def is_open(self, due_alert: DueAlert) -> bool:
        """Tell whether a chunk of an incident is suspect, of a capture that is not forgotten."""
        incident = due_alert.sequence, due_alert.incident
        if incident not in self._answers:
            self._answers[incident] = self._find(due_alert)
        return self._answers[incident]

    def _find(self, due_alert: DueAlert) -> bool:
        seen = self._repository.in_era(due_alert.era)
        steps = self._times(seen, due_alert.sequence).get(
            str(due_alert.content.get("valid_time")), []
        )
        named = set(map(str, due_alert.content.get("chunks", [])))
        name = str(due_alert.content.get("variable"))
        try:
            doubted = [self._doubted(seen, step).get(name, frozenset()) for step in steps]
        except Integrity:  # that it was judged cannot be seen: better once too often
            return True
        return any(not named.isdisjoint(chunks) for chunks in doubted)

    def _times(self, seen: Repository, sequence: int) -> dict[str, list[int]]:
        """Return the captures, by time, that a record put there or judges."""
        if sequence not in self._steps:
            record = seen.records[sequence]
            if record.kind == "verdict":
                chunks = VerdictBody.from_json(record.body).chunks
                numbers = sorted({chunk.step for chunk in chunks})
                members = [seen.captured[number] for number in numbers]
            elif record.kind == "rollback":
                instant = RollbackBody.from_json(record.body).instant
                members = [c for c in seen.captured if c.instant == instant]
            else:
                members = [c for c in seen.captured if c.sequence == sequence]
            times: dict[str, list[int]] = {}
            for captured in members:
                if not captured.forgotten:
                    time = format_instant(captured.instant, seen.settings.calendar)
                    times.setdefault(time, []).append(captured.step)
            self._steps[sequence] = times
        return self._steps[sequence]

    def _doubted(self, seen: Repository, step: int) -> dict[str, frozenset[str]]:
        place = seen.era, step
        if place not in self._suspects:
            self._suspects[place] = {
                name: frozenset("/".join(map(str, index)) for index in indices)
                for name, indices in suspects(seen, step).items()
            }
        return self._suspects[place]
