"""What a refit does not believe of history, as incidents: told like those of a check."""

from collections.abc import Sequence

from gnomon.storage.checks.check import CRITICAL
from gnomon.storage.log.bodies.verdict import JudgedChunk
from gnomon.storage.repository import Repository
from gnomon.storage.values.times import format_instant
from gnomon.validations.incident import Incident

__all__ = ["doubted_incidents"]


def doubted_incidents(
    repository: Repository, chunks: Sequence[JudgedChunk], reason: str
) -> dict[tuple[str, int], Incident]:
    """Return an incident for each variable and capture, by number, that a verdict doubts."""
    groups: dict[tuple[str, int], list[str]] = {}
    for judged in chunks:
        key = (judged.variable, judged.step)
        groups.setdefault(key, []).append("/".join(map(str, judged.chunk)))
    calendar = repository.settings.calendar
    return {
        (name, step): Incident(
            name,
            format_instant(repository.captured[step].instant, calendar),
            tuple(indices),
            ("plausible",),
            CRITICAL,
            reason,
        )
        for (name, step), indices in groups.items()
    }
