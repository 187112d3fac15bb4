"""Mending: suspect chunks that a standing rule lets be put right in the source by itself."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from gnomon.storage.log.bodies.report import Report
from gnomon.storage.log.steps import CapturedStep, Patches
from gnomon.storage.repository import Repository
from gnomon.storage.values.grid import Index
from gnomon.tasks.restoring.points import candidates, suspects
from gnomon.tasks.restoring.states import States
from gnomon.tasks.rollback.rollback import RollbackPlan, Rolled, rollback
from gnomon.tasks.work import Mapper, serial

__all__ = ["Mending", "mend", "mendings"]

LATEST = 8
"""Suspect captures, the latest, that are looked at in one update."""


@dataclass(frozen=True, slots=True)
class Mending:
    """Suspect chunks of a capture whose estimates satisfy the rule."""

    step: int
    """Number of the capture."""
    chunks: Mapping[str, tuple[Index, ...]]
    """By variable."""


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
