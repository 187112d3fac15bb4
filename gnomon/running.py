"""Keeping repositories up to date from one process, each when its next update is due."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from time import sleep

from gnomon.flows.report import UpdateReport
from gnomon.flows.schedule import Due

__all__ = ["FIRST_WAIT", "LONGEST_WAIT", "Turn", "turns"]

FIRST_WAIT, LONGEST_WAIT = timedelta(minutes=1), timedelta(hours=1)
"""How soon a repository is tried again whose update failed, or found nothing when it was due; then
after twice as long, up to the longest."""

Update = Callable[[str], UpdateReport]


@dataclass(frozen=True, slots=True)
class Turn:
    """One try to bring a repository up to date."""

    place: str
    """The repository."""
    report: UpdateReport | None
    """What was done; None: it failed."""
    error: Exception | None
    """Why it failed."""
    next_at: datetime
    """When it is tried again."""


def turns(
    places: Sequence[str],
    update: Update,
    *,
    least: timedelta = timedelta(),
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    wait: Callable[[float], None] = sleep,
) -> Iterator[Turn]:
    """Update each repository at once, then for ever whichever is due next, and yield each try.

    What goes wrong with one never stops the others.

    Parameters
    ----------
    update
        Takes the place of a repository, does nothing if no update is due, and reports.
    least
        No repository is updated again sooner after it captured something.
    now, wait
        The clock, and what waits for some seconds.
    """
    agenda = dict.fromkeys(places, datetime.min.replace(tzinfo=UTC))
    waits = dict.fromkeys(places, FIRST_WAIT)
    told: set[str] = set()
    while agenda:
        place = min(agenda, key=agenda.__getitem__)
        if (seconds := (agenda[place] - now()).total_seconds()) > 0:
            wait(min(seconds, LONGEST_WAIT.total_seconds()))  # a clock may be set
            continue
        report = error = None
        try:
            report = update(place)
        except Exception as failure:  # noqa: BLE001 - whatever it is, the others have their turn
            error = failure
        due = None if report is None or report.due is None else Due.from_json(report.due)
        next_at = None if due is None or due.at is None else datetime.fromisoformat(due.at)
        is_behind = report is not None and report.captured
        if next_at is None or (next_at <= now() and not is_behind):
            next_at = now() + waits[place]
            waits[place] = min(2 * waits[place], LONGEST_WAIT)
        else:
            waits[place] = FIRST_WAIT
        if report is not None and report.captured:
            next_at = max(next_at, now() + least)
        # A verdict, or whatever else makes an update due before that, is seen within the hour.
        agenda[place] = min(next_at, now() + LONGEST_WAIT)
        if error is not None or place not in told or not (report and report.skipped):
            told.add(place)
            yield Turn(place, report, error, next_at)
