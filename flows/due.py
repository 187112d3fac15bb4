"""When the next update of a repository is due, by what its log says."""

from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from gnomon.flows.report import UpdateReport
from gnomon.flows.schedule import (
    Due,
    Limits,
    Look,
    dataset_confidence,
    due_at,
    longest_lead,
    next_due,
    usual_delay,
)
from gnomon.flows.unsent import open_alerts
from gnomon.storage.errors import InvalidInput
from gnomon.storage.log.bodies.report import Report
from gnomon.storage.log.steps import CapturedStep
from gnomon.storage.repository import Repository
from gnomon.storage.values.believable import clock_or_none
from gnomon.storage.values.times import SECOND, format_instant
from gnomon.tasks.learning.recorded import is_believed
from gnomon.tasks.restoring.suspected import suspects

if TYPE_CHECKING:
    from gnomon.flows.settings import Settings
    from gnomon.tasks.materialize import Shadowed

__all__ = ["decide", "due_of", "is_shadowed", "refuse_undue", "report_if_not_due"]

LATE = 3
"""Captures; while one of the last is suspect, an interval does not grow."""
LOOKED_AT = 200
"""Captures among which those are sought that tell how long a source takes to publish."""


def decide(repository: Repository, shadowed: "Shadowed", settings: "Settings") -> Due:
    """Return when the update after a shadow, which is not committed yet, is due."""
    calendar = repository.settings.calendar
    cadence = next(iter(shadowed.learnt.features.values())).cadence
    limits = Limits(settings.min_interval, settings.max_interval)
    before = due_of(repository)
    due = next_due(
        dataset_confidence(list(shadowed.variables.values())),
        [format_instant(i, calendar) for i in shadowed.instants],
        target=settings.target_confidence,
        trouble=_trouble(repository, shadowed),
        before=None if before is None else before.lead,
        held=_held(repository, shadowed),
        most=longest_lead(cadence.interval_s, limits),
    )
    looks = _looks(repository)
    if not looks:
        return due
    at = due_at(
        looks[-1],
        (shadowed.instants[due.lead - 1] - shadowed.reference) / SECOND,
        cadence.interval_s,
        limits,
        usual_s=usual_delay(looks),
        delay=settings.publication_delay,
    )
    return replace(due, at=at.isoformat(timespec="seconds"))


def due_of(repository: Repository) -> Due | None:
    """Return what the newest shadow says of the next update; None if there is none, or no sense."""
    record = repository.forecaster
    report = Report.of(repository.records[record.sequence].body) if record else None
    return None if report is None or report.due is None else Due.from_json(report.due)


def is_shadowed(url: str) -> bool:
    """Tell whether the newest capture, and the newest verdict, are in a shadow already."""
    repository = Repository.recall(url)
    record = repository.forecaster
    if repository.shadows and not is_believed(repository, repository.shadows[-1].step):
        return False
    later = repository.records[record.sequence + 1 :] if record else repository.records
    return not any(r.kind in ("capture", "verdict") for r in later)


def refuse_undue(*, refit: bool = False, new_era: bool = False) -> None:
    """Raise :class:`InvalidInput` for what an update is to do at once, if it may not be due."""
    for name, asked in (("refit", refit), ("new_era", new_era)):
        if asked:
            raise InvalidInput(
                f"{name} and if_due contradict each other: what is asked for once is done at once; "
                "leave one of them out"
            )


def report_if_not_due(
    url: str, settings: "Settings", channels: Callable[[], Collection[str]]
) -> UpdateReport | None:
    """Return what an update reports that does nothing, as it is not due yet; None: one is due.

    One is due, too, while something is left to be done of what was captured before: a forecast
    that a verdict has made stale, an alert that was not sent, a rollback that was stopped.

    Parameters
    ----------
    channels
        Gives the names of the channels at which the run sends alerts; asked if one is unsent.
    """
    repository = Repository.open(url)
    if not is_shadowed(url) or repository.state.open_rollback:
        return None
    unsent = {alert.channel for alert in open_alerts(repository)}
    if unsent and unsent.intersection(channels()):
        return None
    now, looks = datetime.now(UTC), _looks(repository)
    if not looks or looks[-1].at > now:  # by a clock that was wrong
        return None
    due = _limited(due_of(repository), looks[-1], settings)
    if due is None or not due.is_later_than(now):
        return None
    why = f"not due until {due.at}: {due.reason}"
    return UpdateReport(url, skipped=why, due=due.to_json(), message=why)


def _limited(due: Due | None, look: Look, settings: "Settings") -> Due | None:
    """Return a due time within the longest interval that is allowed now."""
    if due is None or settings.max_interval is None:
        return due
    latest = look.at + settings.max_interval
    return (
        replace(due, at=latest.isoformat(timespec="seconds")) if due.is_later_than(latest) else due
    )


def _held(repository: Repository, shadowed: "Shadowed") -> str:
    """Say why an interval does not grow; an empty text: it may."""
    newest = repository.shadows[-1:]
    if newest and newest[0].reference >= shadowed.reference:
        return "as nothing newer was captured"
    if any(step.suspects for step in repository.timeline[-LATE:]):
        return "as long as a late capture is suspect"
    return ""


def _trouble(repository: Repository, shadowed: "Shadowed") -> str:
    """Say what is wrong with the newest capture or its forecast; an empty text: nothing."""
    doubts = sum(map(len, suspects(repository, shadowed.learnt.step).values()))
    if doubts:
        word = "chunk is" if doubts == 1 else "chunks are"
        return f"{doubts} {word} suspect in the newest capture"
    refused = sum(len(entry.withheld) for entry in shadowed.variables.values())
    if refused:
        return f"a check refused the prediction of {refused} chunk{'s' * (refused > 1)}"
    return ""


def _looks(repository: Repository) -> list[Look]:
    """Return when the source was read and had a new newest state, in order of time."""
    newest: dict[int, CapturedStep] = {}
    for step in repository.timeline[-LOOKED_AT:]:
        newest[step.sequence] = step  # the last of its commit stays
    looks = []
    for step in newest.values():
        read = clock_or_none(step.read_at, repository.settings.calendar)
        with suppress(ValueError):
            at = datetime.fromisoformat(step.read_at)
            if read is not None and at.tzinfo is not None:
                looks.append(Look(at, (read - step.instant) / SECOND))
    return looks
