"""What the checks said of what a record holds, as it stands there."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gnomon.storage.values.documents import items, text
from gnomon.storage.values.plausible import members_of

__all__ = ["Report"]


@dataclass(frozen=True, slots=True)
class Report:
    """What the checks said, in their own form; the fields that readers rely on were validated."""

    content: Mapping[str, Any]
    """As they said it: how many chunks were checked, findings, incidents, alerts, when the next
    update is due."""

    @property
    def incidents(self) -> tuple[dict[str, Any], ...]:
        """The incidents, each with variable, valid time, severity, cause, chunks, expectations."""
        incidents = self.content.get("incidents")
        listed = incidents if isinstance(incidents, list) else ()
        return tuple(incident for incident in listed if isinstance(incident, dict))

    @property
    def alerts(self) -> tuple[str, ...]:
        """The channels at which critical incidents are to be told."""
        channels = self.content.get("alerts")
        return (
            tuple(c for c in channels if isinstance(c, str)) if isinstance(channels, list) else ()
        )

    @property
    def due(self) -> dict[str, Any] | None:
        """When the next update is due, and why; None: it is not said."""
        return self.content.get("due")

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return dict(self.content)

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> "Report | None":
        """Return the report of a body of any kind, which was read before; None if it has none."""
        report = body.get("report")
        return cls(report) if isinstance(report, dict) else None

    @classmethod
    def from_json(cls, data: object) -> "Report":
        """Read the JSON form; ValueError and its like unless it can be told again."""
        report = members_of(data)
        for incident in items(report.get("incidents", []), "incidents", lambda v, _: members_of(v)):
            for name in ("variable", "valid_time", "severity", "suspected_cause"):
                text(incident[name], name)
            for name in ("chunks", "expectations"):
                items(incident[name], name, text)
        due = report.get("due")
        if due is not None:
            text(members_of(due)["valid_time"], "valid_time")
            text(due["reason"], "reason")
            if due.get("at") is not None:
                text(due["at"], "at")
        return cls(report)
