"""What a refit does not believe of history, as incidents: told like those of a check."""

from collections.abc import Mapping, Sequence
from typing import Any

from gnomon.storage.repository import Repository
from gnomon.storage.values.times import format_instant
from gnomon.validations.incidents import Incident

__all__ = ["doubted_incidents"]


def doubted_incidents(
    repository: Repository, chunks: Sequence[Mapping[str, Any]], reason: str
) -> dict[tuple[str, int], Incident]:
    """Return an incident for each variable and capture, by number, that a verdict doubts.

    Parameters
    ----------
    chunks
        As the verdict names them: `variable`, `step`, `chunk`.
    """
    groups: dict[tuple[str, int], list[str]] = {}
    for entry in chunks:
        key = (entry["variable"], entry["step"])
        groups.setdefault(key, []).append("/".join(map(str, entry["chunk"])))
    calendar = repository.settings.calendar
    return {
        (name, step): Incident(
            name,
            format_instant(repository.captured[step].instant, calendar),
            tuple(indices),
            ("plausible",),
            "critical",
            reason,
        )
        for (name, step), indices in groups.items()
    }
