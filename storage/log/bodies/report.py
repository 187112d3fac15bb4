"""What the checks said, as it stands in the record of what they looked at."""

from gnomon.storage.values.documents import items, text
from gnomon.storage.values.plausible import members_of

__all__ = ["check_report"]


def check_report(value: object) -> None:
    """Raise ValueError unless what a check said can be told again."""
    report = members_of(value)
    for incident in items(report.get("incidents", []), "incidents", lambda v, _: members_of(v)):
        for name in ("variable", "valid_time", "severity", "suspected_cause"):
            text(incident[name], name)
        for name in ("chunks", "expectations"):
            items(incident[name], name, text)
    due = report.get("due")
    if due is not None:
        text(members_of(due)["valid_time"], "valid_time")
        text(due["reason"], "reason")
