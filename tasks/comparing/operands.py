"""Operands: the two states that a user names to have them compared."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import get_args

from gnomon.storage.errors import InvalidInput, NotFound
from gnomon.storage.repository import Repository
from gnomon.storage.serve.planes import Plane
from gnomon.storage.values.model import SourceSpec
from gnomon.storage.values.times import format_instant
from gnomon.tasks.comparing.states import Kept, Live, State
from gnomon.tasks.restoring.choice import locate_or_estimate, select
from gnomon.tasks.restoring.locate import capture_named
from gnomon.tasks.restoring.request import StateRequest
from gnomon.tasks.restoring.restore import planes
from gnomon.tasks.restoring.restore_point import PointKind
from gnomon.tasks.rollback.live import opened_live

__all__ = ["LIVE", "captured_state", "live_state", "named_state", "opened_states"]

LIVE = "live"
"""What stands for the live source."""


@contextmanager
def opened_states(
    repository: Repository, first: str, second: str
) -> Iterator[tuple[State, State, Repository]]:
    """Give two states that are named, and the era that they are of; the source is open inside only.

    Parameters
    ----------
    first, second
        A capture by number or time; ``TIME@KIND``, the restore point of a kind; or ``live``: the
        live source, of an append source its step of the other one's time.

    Raises
    ------
    NotFound
        There is no such state, or no step of that time in the source.
    InvalidInput
        They are of two eras, both live, or of no kind; or the source has another grid by now.
    """
    texts = (first.strip(), second.strip())
    if texts == (LIVE, LIVE):
        raise InvalidInput("both are the live source; name a state to compare it with")
    kept = [None if text == LIVE else named_state(repository, text) for text in texts]
    states = [state for state in kept if state is not None]
    seen = states[0].repository
    if states[-1].repository.era != seen.era:
        raise InvalidInput(
            f"{first!r} and {second!r} are in different eras, whose grids differ; name states of "
            "one era"
        )
    if len(states) == 2:
        yield states[0], states[1], seen
        return
    if seen.era != len(seen.eras) - 1:
        raise InvalidInput(
            f"{states[0].told} is of era {seen.era}, before the source changed its grid or types; "
            "name a state of the present era to compare with the live source"
        )
    with live_state(seen, seen.settings.source, states[0].instant) as live:
        yield (live if kept[0] is None else kept[0]), (live if kept[1] is None else kept[1]), seen


@contextmanager
def live_state(repository: Repository, spec: SourceSpec, instant: int) -> Iterator[Live]:
    """Give the state of a time in a live dataset; of a state source as it is now.

    Raises
    ------
    NotFound
        It has no step of that time.
    InvalidInput
        It has several, or another grid.
    """
    advice = "compare a time that it has"
    with opened_live(repository, spec, instant, otherwise=advice) as (dataset, position):
        yield Live(repository, dataset, position)


def named_state(repository: Repository, text: str) -> Kept:
    """Return the state that a number, a time or ``TIME@KIND`` names.

    Raises
    ------
    NotFound
        There is none.
    InvalidInput
        The time names several states, there is no such kind, or the capture was forgotten.
    """
    time, at, kind = text.rpartition("@")
    if not at:
        try:
            return captured_state(*capture_named(repository, text))
        except NotFound as refusal:
            raise NotFound(f"{refusal}; an estimate is named as in {text}@forecast") from None
    if kind not in get_args(PointKind):
        raise InvalidInput(
            f"{text!r} ends in @{kind}, which is no kind of restore point; write TIME@KIND with "
            f"one of {', '.join(get_args(PointKind))}"
        )
    _, instant = locate_or_estimate(repository, time.strip(), "exact", estimated=True)
    request = StateRequest(time.strip(), kind=kind, accept_predicted=True)
    seen, point = select(repository, request)
    (plane,), point = planes(seen, point)
    if point.kind != "healed" and point.step is not None:
        return captured_state(seen, point.step)
    return Kept(seen, plane, f"{point.valid_time} ({point.kind})", instant)


def captured_state(repository: Repository, step: int) -> Kept:
    """Return a state as it was captured; raises InvalidInput if it was forgotten."""
    captured = repository.captured[step]
    if captured.forgotten:
        raise InvalidInput(f"capture {step} was forgotten; 'gnomon captures' lists the others")
    time = format_instant(captured.instant, repository.settings.calendar)
    return Kept(repository, Plane(captured.instant, step=step), f"{time} (capture {step})")
