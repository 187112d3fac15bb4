"""Sends what is due at the channels that a run has, once each, after the commit that says so."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from gnomon.storage.errors import GnomonError, Integrity
from gnomon.storage.log.bodies.rollback import RollbackBody
from gnomon.storage.log.bodies.verdict import VerdictBody
from gnomon.storage.outbox import DueAlert, due, is_marked, mark
from gnomon.storage.redaction import one_line
from gnomon.storage.repository import Repository
from gnomon.storage.values.times import format_instant
from gnomon.tasks.restoring.points import suspects
from gnomon.validations.alerts import Alert, AlertAction, alert_of, emit
from gnomon.validations.apprising import AppriseAlert
from gnomon.validations.incidents import Incident

__all__ = ["Outbox", "unsent_alerts"]


class Outbox:
    """The alerts of one repository, as one run can send them.

    Parameters
    ----------
    url
        The repository.
    channels
        What the run can send through, by name.
    """

    def __init__(self, url: str, channels: Mapping[str, AlertAction]) -> None:
        self._url = url
        self._channels = channels
        self._down: dict[str, str] = {}
        self._refused: dict[tuple[str, str], str] = {}
        self.sent = 0
        """Alerts that a channel took, one for each channel."""

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels."""
        return tuple(self._channels)

    def send(self) -> None:
        """Send what is due, of this run or of one before it that was stopped.

        A channel that fails is left alone for the rest of the run: it would fail again, slowly.
        One that answers, and refuses this alert, is given the next.
        """
        repository = Repository.open(self._url)
        for due_alert in _open(repository):
            if due_alert.channel not in self._channels or due_alert.channel in self._down:
                continue
            if (due_alert.id, due_alert.channel) in self._refused or is_marked(
                repository, due_alert
            ):
                continue
            try:
                alert = _alert(due_alert)
            except GnomonError as error:  # of a newer program, say
                self._refused[due_alert.id, due_alert.channel] = one_line(error)
                continue
            failures = emit([alert], [self._channels[due_alert.channel]])
            if failures and failures[0].is_refusal:
                self._refused[due_alert.id, due_alert.channel] = failures[0].error
            elif failures:
                self._down[due_alert.channel] = failures[0].error
            else:
                self._note(repository, due_alert)

    def close(self) -> None:
        """End what sends, at the end of a run."""
        for channel in self._channels.values():
            if isinstance(channel, AppriseAlert):
                channel.close()

    def _note(self, repository: Repository, due_alert: DueAlert) -> None:
        """Note that an alert was sent; a channel whose alerts cannot be noted is left alone."""
        self.sent += 1
        try:
            mark(repository, due_alert, datetime.now(UTC).isoformat(timespec="seconds"))
        except GnomonError as error:
            self._down[due_alert.channel] = f"it was sent, and that cannot be noted: {error}"

    def unsent(self) -> list[dict[str, Any]]:
        """Return what is due and was not sent, and why."""
        return [
            entry | {"error": self._why(entry["id"], entry["channel"])}
            for entry in unsent_alerts(Repository.open(self._url))
        ]

    def _why(self, identity: str, channel: str) -> str:
        refusal = self._refused.get((identity, channel))
        if channel not in self._channels:
            return "this run has no such channel"
        return refusal or self._down.get(channel, "it came after this run had sent its own")


def unsent_alerts(repository: Repository) -> list[dict[str, Any]]:
    """Return the alerts that are due and were not sent, as JSON values."""
    return [
        {
            "id": due_alert.id,
            "channel": due_alert.channel,
            "variable": due_alert.content.get("variable"),
            "valid_time": due_alert.content.get("valid_time"),
        }
        for due_alert in _open(repository)
    ]


def _alert(due_alert: DueAlert) -> Alert:
    return alert_of(Incident.from_json(due_alert.content), due_alert.id)


def _open(repository: Repository) -> list[DueAlert]:
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
