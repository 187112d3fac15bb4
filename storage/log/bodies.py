"""Bodies of log records: what a reader takes for true of them, and nothing beyond.

Each function raises ValueError, KeyError or TypeError where a body is not what a writer would have
left; whoever reads the log makes one error of these.
"""

from functools import partial
from math import inf
from typing import Any

from gnomon.storage.values.documents import items, number, optional, text, whole
from gnomon.storage.values.plausible import members_of, size

__all__ = ["check_learnt", "check_predicted", "check_report", "folder_name"]

MOST_ROWS = 2**16
"""Rows or columns of a forecaster's state."""

LONGEST = 200
"""Characters of a folder's name: most file systems take 255 bytes."""


def check_predicted(entry: dict[str, Any], leads: int) -> None:
    """Raise ValueError unless a variable of a shadow has its roots, and a score for every lead."""
    for name in (entry["roots"]["index"], entry["roots"]["score"], entry["ledger"]):
        folder_name(name)
    confidence = items(entry["confidence"], "confidence", partial(_claim, most=1.0))
    errors = items(entry["expected_rmse"], "expected_rmse", _claim)
    items(entry.get("last_capture_rmse", []), "last_capture_rmse", _claim)
    _claim(entry.get("usual_change"), "usual_change")
    number(entry["tolerance"], "tolerance", least=0.0)
    items(entry.get("withheld", []), "withheld", lambda v, what: items(v, what, size))
    whole(entry.get("unpredicted", 0), "unpredicted", least=0)
    if not len(confidence) == len(errors) == leads:
        raise ValueError(f"{len(confidence)} and {len(errors)} scores for {leads} leads")


def _claim(value: object, what: str, *, most: float = inf) -> float | None:
    """Return what a shadow says of itself; None where nothing is predicted."""
    return optional(value, lambda v: number(v, what, least=0.0, most=most))


def check_learnt(entry: dict[str, Any]) -> None:
    """Raise ValueError unless a forecaster's state can be looked for; what it means is checked
    by who reads it."""
    folder_name(entry["root"])
    if entry.get("outlook"):
        folder_name(entry["outlook"])
    for name in ("rows", "columns"):
        whole(entry[name], name, least=0, most=MOST_ROWS)
    for name in ("specification", "cadence"):
        members_of(entry.get(name, {}))
    items(entry.get("sample", []), "sample", lambda v, what: items(v, what, size))
    whole(entry.get("refit_captures", 0), "refit_captures", least=0)
    number(entry.get("drifted", 0), "drifted", least=0.0)


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


def folder_name(name: object) -> str:
    """Return the name of a commit's folder, or a hash: it must be short plain text."""
    found = text(name, "the name of a folder, or a hash", most=LONGEST)
    plain = found.isprintable() and found.isascii() and found
    if not plain or set(found) & set("/\\") or found.startswith("."):
        raise ValueError(f"{found!r} is not the name of a folder")
    return found
