"""Which of several restore points is taken: the best that the user accepts, or the one named."""

from collections.abc import Callable
from functools import partial

from gnomon.storage.errors import InvalidInput, NotFound
from gnomon.storage.repository import Repository
from gnomon.storage.values.times import format_instant
from gnomon.tasks.restoring.estimates import locate_estimate
from gnomon.tasks.restoring.locate import Match, locate
from gnomon.tasks.restoring.points import candidates, complete
from gnomon.tasks.restoring.request import StateRequest
from gnomon.tasks.restoring.restore_point import RestorePoint, best_first

__all__ = ["choose", "locate_or_estimate", "select"]

_ESTIMATED = ("interpolated", "forecast", "climatology")
"""Kinds of which the one with the least expected error is taken."""


def select(repository: Repository, request: StateRequest) -> tuple[Repository, RestorePoint]:
    """Return the era that has the state of a time, and the restore point that is taken of it.

    Raises
    ------
    NotFound
        There is no such state, or none of the kind asked for.
    InvalidInput
        The time names several states, or the best one holds predictions that were not accepted.
    """
    assert request.at is not None
    accepted = request.accept_predicted
    seen, instant = locate_or_estimate(repository, request.at, request.match, estimated=accepted)
    selection = request.wanted.within(seen)
    point = choose(
        candidates(seen, instant, selection),
        request.kind,
        accept_predicted=accepted,
        capture=request.capture,
        tell=partial(complete, seen, selection=selection),
    )
    return seen, point


def locate_or_estimate(
    repository: Repository, at: str, match: Match, *, estimated: bool
) -> tuple[Repository, int]:
    """Return era and time of a state, or of a time that is estimated if that is accepted."""
    try:
        return locate(repository, at, match=match)
    except NotFound as refusal:
        if match != "exact":
            raise
        if estimated:
            return locate_estimate(repository, at, refusal)
        seen, instant = locate_estimate(repository, at, refusal)
        time = format_instant(instant, seen.settings.calendar)
        raise NotFound(
            f"{refusal}; or take an estimate of {time} with --accept-predicted"
        ) from None


def choose(
    points: tuple[RestorePoint, ...],
    kind: str | None,
    *,
    accept_predicted: bool,
    capture: int | None = None,
    tell: Callable[[RestorePoint], RestorePoint] | None = None,
) -> RestorePoint:
    """Return the best restore point that the user accepts.

    Parameters
    ----------
    tell
        Completes a point that is refused, so that the refusal has the figures to decide by.

    Raises
    ------
    NotFound
        There is none, or none of the kind asked for.
    InvalidInput
        The best one holds predictions, and those were not accepted, or the capture is of another
        kind.
    """
    if capture is not None:
        versions = ("captured", "suspect", "revision")
        there = ", ".join(str(p.step) for p in points if p.kind in versions) or "none"
        points = tuple(p for p in points if p.kind in versions and p.step == capture)
        if not points:
            raise NotFound(f"capture {capture} is not one of this time; there is {there}")
        if kind not in (None, points[0].kind):
            raise InvalidInput(
                f"capture {capture} is a restore point of kind {points[0].kind!r}, not {kind!r}; "
                "name the capture or the kind"
            )
        kind = points[0].kind
    if kind is not None:
        there = ", ".join(dict.fromkeys(p.kind for p in points)) or "nothing"
        points = tuple(p for p in points if p.kind == kind)
        if not points:
            raise NotFound(f"no restore point of kind {kind!r} for this time; there is {there}")
    # A stale or a suspect state is only ever taken by name, and healed a forecast keeps what is
    # intact, whether its figures are known yet or not.
    order: tuple[tuple[str, ...], ...] = (
        ((kind,),) if kind else (("captured",), ("healed",), _ESTIMATED)
    )
    chosen = [p for kinds in order for p in points if p.kind in kinds]
    if not chosen:
        there = ", ".join(p.kind for p in points) or "nothing"
        raise NotFound(f"no state of this time can be restored; by name (--kind) there is {there}")
    best = chosen[0]
    if best.predicted and not accept_predicted:
        raise InvalidInput(_proposal(best if tell is None else tell(best), points))
    return best


def _proposal(best: RestorePoint, points: tuple[RestorePoint, ...]) -> str:
    """Return the sentence that asks for a decision, with what there is to decide by."""
    ordered = best_first([best, *(p for p in points if p.kind == "last_capture")])
    nearer = ""
    if ordered[0] is not best:
        nearer = f"; with --kind last_capture less error is expected: {ordered[0]}"
    return (
        f"the best answer is the {best}; it holds predicted cells: allow that with "
        f"--accept-predicted, or see 'gnomon points'{nearer}"
    )
