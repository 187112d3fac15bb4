"""Puts suspect chunks right in the source where a standing rule allows it, and tells of each."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from gnomon.storage.checks.check import CRITICAL
from gnomon.storage.errors import GnomonError
from gnomon.storage.log.bodies.report import Report
from gnomon.storage.repository import Repository
from gnomon.storage.values.grid import Index
from gnomon.storage.values.times import format_instant
from gnomon.validations.incident import Incident

if TYPE_CHECKING:
    from gnomon.tasks.rollback.mending import Mending
    from gnomon.tasks.rollback.rollback import RollbackPlan

__all__ = ["left_alone", "put_right"]

CAUSE = "estimates were written into the source by a standing rule; 'gnomon undo' takes them back"
"""What an alert says of it."""
LEFT = "a standing rule would write estimates into the source, which cannot hold them"
"""What it says of a chunk that was left alone."""


def put_right(url: str, channels: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """Write estimates into the source where the rule allows it; returns what was done, as JSON.

    What fails is told and stops nothing; the next run tries again.

    Parameters
    ----------
    channels
        Where each is to be told.
    """
    if Repository.recall(url).state.auto_heal is None:
        return []  # most have no rule: what it needs is not loaded
    from gnomon.tasks.rollback.mending import mendings

    return [
        done
        for mending in mendings(Repository.open(url))
        if (done := _put_right(url, mending, channels)) is not None
    ]


def _put_right(url: str, mending: "Mending", channels: tuple[str, ...]) -> dict[str, Any] | None:
    from gnomon.tasks.rollback.mending import mend

    repository = Repository.open(url)
    instant = repository.captured[mending.step].instant
    time = format_instant(instant, repository.settings.calendar)
    done: dict[str, Any] = {"valid_time": time}
    now = datetime.now(UTC).isoformat(timespec="seconds")
    report = partial(_report, time=time, channels=channels)
    try:
        rolled = mend(repository, mending, at=now, report=report)
    except GnomonError as error:
        chunks = {name: _places(chunks) for name, chunks in mending.chunks.items()}
        return done | {"chunks": chunks, "rollback": None, "error": str(error), "left": []}
    if rolled is None or not (rolled.plan.objects or rolled.plan.unheld):
        return None
    left = [str(chunk) for chunk in rolled.plan.unheld]
    written = _written(rolled.plan)
    return done | {"chunks": written, "rollback": rolled.sequence, "error": None, "left": left}


def _report(plan: "RollbackPlan", time: str, channels: tuple[str, ...]) -> Report:
    """Return what is to be told of a plan: what is written, and what cannot be."""
    incidents = [
        Incident(name, time, tuple(chunks), ("auto_heal",), CRITICAL, CAUSE)
        for name, chunks in _written(plan).items()
    ]
    incidents += [
        Incident(chunk.variable, time, (chunk.place,), ("auto_heal",), CRITICAL, f"{LEFT}: {chunk}")
        for chunk in plan.unheld
    ]
    report: dict[str, Any] = {"incidents": [incident.to_json() for incident in incidents]}
    if channels:
        report["alerts"] = list(channels)
    return Report(report)


def _written(plan: "RollbackPlan") -> dict[str, list[str]]:
    """Return the chunks that are written, by variable."""
    chunks: dict[str, list[Index]] = {}
    for change in plan.chunks:
        chunks.setdefault(change.variable, []).append(change.index)
    return {name: _places(indices) for name, indices in chunks.items()}


def _places(indices: Iterable[Index]) -> list[str]:
    return ["/".join(map(str, index)) for index in sorted(indices)]


def left_alone(url: str, since: int, tried: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the suspect chunks that the rule is about and that were not put right, as JSON.

    Parameters
    ----------
    since
        Number of a record: captures from there on are meant.
    tried
        What `put_right` has returned: what failed there is told there.
    """
    repository = Repository.recall(url)
    if repository.state.auto_heal is None:
        return []
    from gnomon.tasks.rollback.mending import unmended

    told = {
        (done["valid_time"], name, place)
        for done in tried
        for name, places in done["chunks"].items()
        for place in places
    }
    left = []
    for chunks in unmended(repository, since):
        instant = repository.captured[chunks.step].instant
        time = format_instant(instant, repository.settings.calendar)
        places = _places(chunks.chunks)
        places = [p for p in places if (time, chunks.variable, p) not in told]
        if places:
            entry = {"valid_time": time, "chunks": {chunks.variable: places}}
            left.append(entry | {"reason": chunks.reason})
    return left
