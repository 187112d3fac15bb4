"""What a request names: the states of one time or of a period, and what of them is wanted."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from gnomon.storage.errors import InvalidInput
from gnomon.storage.repository import Repository
from gnomon.storage.serve.planes import Plane
from gnomon.storage.serve.view import Notes
from gnomon.storage.values.attributes import NOTE
from gnomon.storage.values.selection import EVERYTHING, Selection
from gnomon.storage.values.times import format_instant
from gnomon.tasks.restoring.cells import Cells, accepted_cells
from gnomon.tasks.restoring.choice import choose, select
from gnomon.tasks.restoring.locate import find_range
from gnomon.tasks.restoring.points import candidates, intact_point
from gnomon.tasks.restoring.request import StateRequest
from gnomon.tasks.restoring.restore_point import RestorePoint

__all__ = ["States", "choose_states", "notes_of", "summary_of"]


@dataclass(frozen=True, slots=True)
class States:
    """States of one era, in order of time, and what of them is wanted."""

    seen: Repository
    """The era."""
    points: tuple[RestorePoint, ...]
    """The restore point that is taken of each."""
    selection: Selection = EVERYTHING
    """What of each is wanted."""
    shown: tuple[Plane, ...] | None = None
    """What is served of them, where cells were named; None: what the points stand for."""


def choose_states(
    repository: Repository, request: StateRequest, cells: Cells | None = None
) -> States:
    """Return the state of a time, or the states of a period, each as the best that is accepted.

    Parameters
    ----------
    request
        Of a period, the captured states are taken; with `accept_predicted` the best of each slot,
        such as a forecast.
    cells
        Damaged cells of one captured state that are estimated, and no others.

    Raises
    ------
    NotFound
        There is no such state.
    InvalidInput
        The time names several states; the request contradicts itself; or what is wanted of a state
        holds predictions that were not accepted.
    """
    if cells is not None:
        healed = accepted_cells(repository, request, cells)
        return States(healed.repository, (healed.point,), shown=healed.planes)
    if (request.at is None) == (request.from_ is None and request.until is None):
        raise InvalidInput("name one time with --at, or a period with --from, --until or both")
    if request.at is not None:
        seen, point = select(repository, request)
        return States(seen, (point,), request.wanted.within(seen))
    if request.match != "exact" or request.capture is not None or request.kind is not None:
        raise InvalidInput(
            "a period takes no kind, capture, --nearest or --before; name one time with --at"
        )
    accepted = request.accept_predicted
    seen, instants = find_range(repository, request.from_, request.until, predicted=accepted)
    selection = request.wanted.within(seen)
    captured = {step.instant: step for step in seen.timeline}
    points = [
        (instant in captured and intact_point(seen, captured[instant], selection))
        or _estimated(seen, instant, selection, accepted=accepted)
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
