"""What a request names: the states of one time or of a period, and what of them is wanted."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from gnomon.storage.errors import InvalidInput
from gnomon.storage.repository import Repository
from gnomon.storage.serve.view import Notes
from gnomon.storage.values.attributes import NOTE
from gnomon.storage.values.times import format_instant
from gnomon.tasks.restoring.choice import choose, select
from gnomon.tasks.restoring.locate import Match, find_range
from gnomon.tasks.restoring.points import candidates, intact_point
from gnomon.tasks.restoring.restore_point import RestorePoint
from gnomon.tasks.restoring.selection import ALL_OF_IT, Selection, Wanted

__all__ = ["States", "choose_states", "notes_of", "summary_of"]


@dataclass(frozen=True, slots=True)
class States:
    """States of one era, in order of time, and what of them is wanted."""

    seen: Repository
    """The era."""
    points: tuple[RestorePoint, ...]
    """The restore point that is taken of each."""
    selection: Selection
    """What of each is wanted."""


def choose_states(  # noqa: PLR0913 - what a user may settle, all keyword-only after the time
    repository: Repository,
    at: str | None,
    *,
    from_: str | None = None,
    until: str | None = None,
    match: Match = "exact",
    kind: str | None = None,
    capture: int | None = None,
    accept_predicted: bool = False,
    wanted: Wanted = ALL_OF_IT,
) -> States:
    """Return the state of a time, or the states of a period, each as the best that is accepted.

    Parameters
    ----------
    from_, until
        Ends of the period, both included; one at least, without `at`.  Without `accept_predicted`
        the captured states; with it the best of each slot, such as a forecast.

    Raises
    ------
    NotFound
        There is no such state.
    InvalidInput
        The time names several states; the request contradicts itself; or what is wanted of a state
        holds predictions that were not accepted.
    """
    if (at is None) == (from_ is None and until is None):
        raise InvalidInput("name one time with --at, or a period with --from, --until or both")
    if at is not None:
        seen, point = select(
            repository,
            at,
            match=match,
            kind=kind,
            capture=capture,
            accept_predicted=accept_predicted,
            wanted=wanted,
        )
        return States(seen, (point,), wanted.within(seen))
    if match != "exact" or capture is not None or kind is not None:
        raise InvalidInput(
            "a period takes no kind, capture, --nearest or --before; name one time with --at"
        )
    seen, instants = find_range(repository, from_, until, predicted=accept_predicted)
    selection = wanted.within(seen)
    captured = {step.instant: step for step in seen.timeline}
    points = [
        (instant in captured and intact_point(seen, captured[instant], selection))
        or _estimated(seen, instant, selection, accepted=accept_predicted)
        for instant in instants
    ]
    return States(seen, tuple(points), selection)


def _estimated(
    repository: Repository, instant: int, selection: Selection, *, accepted: bool
) -> RestorePoint:
    """Return the best point of a time that has no captured one."""
    if accepted:
        return choose(candidates(repository, instant, selection), None, accept_predicted=True)
    time = format_instant(instant, repository.settings.calendar)
    raise InvalidInput(
        f"the state of {time} has suspect chunks in what is asked for; have them estimated with "
        f"--accept-predicted, or take it as it was captured with --at {time} --kind suspect"
    )


def summary_of(points: Sequence[RestorePoint]) -> str:
    """Say in one line what states are restored."""
    if len(points) == 1:
        return str(points[0])
    kinds = Counter(point.kind for point in points)
    told = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    return f"{len(points)} states from {points[0].valid_time} to {points[-1].valid_time} ({told})"


def notes_of(points: Sequence[RestorePoint]) -> Notes:
    """Return what a dataset of states says of itself; of several only what holds for all of them.

    What is expected of each stands in the standard errors beside the values.
    """
    if len(points) == 1:
        return points[0].attributes()
    sure = [point.confidence for point in points]
    known = [confidence for confidence in sure if confidence is not None]
    facts = {
        "method": ", ".join(dict.fromkeys(point.kind for point in points)),
        "valid_time": f"{points[0].valid_time}/{points[-1].valid_time}",
        "confidence": min(known) if len(known) == len(sure) else None,
        "summary": summary_of(points),
        "notes": "; ".join(dict.fromkeys(n for point in points for n in point.notes)) or None,
    }
    return {"": {f"{NOTE}{key}": value for key, value in facts.items() if value is not None}}
