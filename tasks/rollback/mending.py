"""Mending: suspect chunks that a standing rule lets be put right in the source by itself."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from gnomon.storage.errors import Integrity
from gnomon.storage.live.replaced import load_list
from gnomon.storage.log.bodies.report import Report
from gnomon.storage.log.steps import CapturedStep, Patches
from gnomon.storage.redaction import one_line
from gnomon.storage.repository import Repository
from gnomon.storage.values.grid import Index
from gnomon.tasks.capturing.estimates import Estimates
from gnomon.tasks.restoring.points import candidates
from gnomon.tasks.restoring.states import States
from gnomon.tasks.restoring.suspected import suspects
from gnomon.tasks.rollback.rollback import RollbackPlan, Rolled, rollback
from gnomon.tasks.work import Mapper, serial

__all__ = ["Mending", "Unmended", "mend", "mendings", "unmended"]

LATEST = 8
"""Suspect captures, the latest, that are looked at in one update."""


@dataclass(frozen=True, slots=True)
class Mending:
    """Suspect chunks of a capture whose estimates satisfy the rule."""

    step: int
    """Number of the capture."""
    chunks: Mapping[str, tuple[Index, ...]]
    """By variable."""


@dataclass(frozen=True, slots=True)
class Unmended:
    """Suspect chunks that the rule is about, and that were not put right."""

    step: int
    """Number of the capture."""
    variable: str
    """Name of the variable."""
    chunks: tuple[Index, ...]
    """Indices of the chunks."""
    reason: str
    """Why not, and what to do."""


def mendings(repository: Repository) -> tuple[Mending, ...]:
    """Return what may be put right in the source; nothing without a rule.

    The estimates are those that are kept.  A capture is mended once: what a person has taken back
    is not written again.  Of a source that is overwritten in place only the newest capture is
    there.
    """
    state = repository.state
    if state.auto_heal is None:
        return ()
    suspect = [s for s in state.timeline if s.suspects and s.step in state.patches][-LATEST:]
    if repository.settings.source.kind == "state":
        suspect = [s for s in suspect if s is state.timeline[-1]]
    written = {r.instant: r.sequence for r in state.rollbacks if r.is_source}
    chosen = (
        Mending(captured.step, _within(repository, captured, state.patches[captured.step]))
        for captured in suspect
        if written.get(captured.instant, -1) < captured.sequence
    )
    return tuple(mending for mending in chosen if mending.chunks)


def _within(
    repository: Repository, captured: CapturedStep, patches: Patches
) -> dict[str, tuple[Index, ...]]:
    """Return the suspect chunks whose estimates satisfy the rule, by variable."""
    rule = repository.state.auto_heal
    assert rule is not None
    doubted = suspects(repository, captured.step)
    chunks: dict[str, tuple[Index, ...]] = {}
    for name, entry in patches.variables.items():
        most = rule.errors.get(name)
        fitting = tuple(
            c.chunk
            for c in entry.chunks
            if most is not None
            and c.chunk in doubted.get(name, ())
            and c.expected_rmse is not None
            and c.expected_rmse <= most
            and (c.confidence or 0.0) >= rule.confidence
        )
        if fitting:
            chunks[name] = fitting
    return chunks


def mend(
    repository: Repository,
    mending: Mending,
    *,
    at: str,
    report: Callable[[RollbackPlan], Report],
    mapper: Mapper = serial,
) -> Rolled | None:
    """Write estimates of suspect chunks into the source; None if there are none by now.

    Chunks that the source has changed since they were captured are left alone, and so are those
    whose estimates its type cannot hold.

    Parameters
    ----------
    at
        Wall-clock time of the commit, ISO 8601.
    report
        What is to be told of what is written, and of what is left alone.

    Raises
    ------
    GnomonError
        As :func:`gnomon.tasks.rollback.rollback.rollback` raises.
    """
    instant = repository.captured[mending.step].instant
    healed = [
        point
        for point in candidates(repository, instant)
        if point.kind == "healed" and point.step == mending.step
    ]
    if not healed:
        return None
    states = States(repository, (healed[0],))
    return rollback(states, at=at, mended=mending.chunks, report=report, mapper=mapper)


def unmended(repository: Repository, since: int) -> tuple[Unmended, ...]:
    """Return what the rule is about in the newest captures and was left alone, and why.

    Parameters
    ----------
    since
        Captures with this number of a record or a later one are meant.
    """
    rule = repository.state.auto_heal
    if rule is None:
        return ()
    left: list[Unmended] = []
    for captured in repository.state.kept:
        if captured.sequence < since or not captured.suspects:
            continue
        doubted = suspects(repository, captured.step)
        for name in doubted.keys() & rule.errors.keys():
            reasons: dict[str, list[Index]] = {}
            for index in doubted[name]:
                try:
                    if _is_estimate(repository, captured, name, index):
                        continue
                    reason = _reason(repository, captured, name, index)
                except Integrity as error:  # damage there must not stop what else is told
                    reason = f"what was captured, or written, cannot be read: {one_line(error)}"
                reasons.setdefault(reason, []).append(index)
            left += [Unmended(captured.step, name, tuple(c), r) for r, c in reasons.items()]
    return tuple(left)


def _is_estimate(repository: Repository, captured: CapturedStep, name: str, index: Index) -> bool:
    """Tell whether the source holds an estimate there: since the capture, or already at it."""
    captures = repository.captures(name)
    there, packing = captures.chunk(captured.step, index), captures.reading(captured.step)
    if Estimates.of(repository, name, captured.instant, packing).holds(index, there):
        return True
    return any(
        index in load_list(repository.location, rollback).estimates.get(name, {})
        for rollback in repository.state.rollbacks
        if rollback.instant == captured.instant
        and rollback.is_source
        and rollback.state == "done"
        and rollback.sequence > captured.sequence
    )


def _reason(repository: Repository, captured: CapturedStep, name: str, index: Index) -> str:
    state, rule = repository.state, repository.state.auto_heal
    assert rule is not None
    if captured not in state.timeline:
        return (
            "the source was changed there after it was captured, and what was captured before "
            "stands: 'gnomon restore --in-place' writes that back"
        )
    patches = state.patches.get(captured.step)
    entry = None if patches is None else patches.variables.get(name)
    chunk = next((c for c in entry.chunks if c.chunk == index), None) if entry else None
    if chunk is None:
        return "there is no estimate of it"
    if chunk.expected_rmse is None or chunk.expected_rmse > rule.errors[name]:
        expected = "not known" if chunk.expected_rmse is None else f"{chunk.expected_rmse:.3g}"
        return f"its expected error is {expected}, the rule allows {rule.errors[name]:.3g}"
    confidence = chunk.confidence or 0.0
    if confidence < rule.confidence:
        return f"its confidence is {confidence:.2f}, the rule asks for {rule.confidence:g}"
    return "it is not in the source any more as it was captured, or older than what is looked at"
