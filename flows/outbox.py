"""Sends what is due at the channels that a run has, once each, after the commit that says so."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from gnomon.flows.unsent import open_alerts, unsent_alerts
from gnomon.storage.errors import GnomonError
from gnomon.storage.outbox import DueAlert, is_marked, mark
from gnomon.storage.redaction import one_line
from gnomon.storage.repository import Repository
from gnomon.validations.alerts import Alert, AlertAction, alert_of, emit
from gnomon.validations.apprising import AppriseAlert
from gnomon.validations.incident import Incident

__all__ = ["Outbox"]


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
        repository = Repository.recall(self._url)
        for due_alert in open_alerts(repository):
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
            for entry in unsent_alerts(Repository.recall(self._url))
        ]

    def _why(self, identity: str, channel: str) -> str:
        refusal = self._refused.get((identity, channel))
        if channel not in self._channels:
            return "this run has no such channel"
        return refusal or self._down.get(channel, "it came after this run had sent its own")


def _alert(due_alert: DueAlert) -> Alert:
    return alert_of(Incident.from_json(due_alert.content), due_alert.id)
