"""What a shadow's record says: predictions, and the state of the forecaster that made them."""

from functools import partial
from math import inf
from typing import Any

from gnomon.storage.log.bodies.body import folder_name
from gnomon.storage.values.documents import items, number, optional, whole
from gnomon.storage.values.plausible import members_of, size

__all__ = ["check_learnt", "check_predicted"]

MOST_ROWS = 2**16
"""Rows or columns of a forecaster's state."""


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
