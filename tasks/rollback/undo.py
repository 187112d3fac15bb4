"""Undo: take back what a rollback has written; also one that was stopped half way.

Every object is what it was, or what it became: either is known by its hash.  What is neither was
written by somebody else since, and is left alone.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from gnomon.storage.errors import Conflict, NotFound
from gnomon.storage.live.replaced import entry_of, kept_pieces, load_list
from gnomon.storage.live.stores import LiveStore
from gnomon.storage.log.bodies.rollback import RollbackState, RolledBody, Writer
from gnomon.storage.log.steps import Rollback
from gnomon.storage.redaction import redacted
from gnomon.storage.repository import Repository
from gnomon.storage.values.times import format_instant
from gnomon.tasks.rollback.present import present_spec, present_store
from gnomon.tasks.rollback.writer import at_work, refuse_living, this_writer

__all__ = ["Undone", "ended", "refuse_open", "settle", "take_back", "undo"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Undone:
    """What was taken back."""

    rollback: int
    """Number of its record."""
    live: str
    """Path or URL of the live dataset."""
    valid_time: str
    """Time of the state that had been written, ISO 8601."""
    what: str
    """What it was."""
    objects: int
    """Objects that are as they were before."""
    left: tuple[str, ...] = ()
    """Keys of objects that somebody else has written or removed since, and that were left alone;
    they can still be taken back by force, unless the rollback was stopped half way."""
    dry_run: bool = False
    """Whether nothing was done."""

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return fields | {"live": redacted(self.live), "left": list(self.left)}


def refuse_open(repository: Repository) -> None:
    """Refuse to begin while a rollback is under way, or was stopped.

    Raises
    ------
    Conflict
        There is one.
    """
    rollback = repository.state.open_rollback
    if rollback is None:
        return
    refuse_living(rollback)
    raise Conflict(
        f"a rollback of {rollback.begun_at} was stopped half way; run 'gnomon undo' to take it back"
    )


def settle(
    repository: Repository, *, at: str, interrupted: bool = False, force: bool = False
) -> Undone | None:
    """Take back a rollback that was stopped half way; return what was, None if there was none.

    Parameters
    ----------
    at
        Wall-clock time, ISO 8601.
    interrupted
        Somebody says that its process does not run any more.
    force
        Take back also where somebody else has written since; give it up if its live dataset is not
        there.

    Raises
    ------
    Conflict
        Its process lives, or may.
    NotFound
        Its live dataset is not there.
    """
    rollback = repository.state.open_rollback
    if rollback is None:
        return None
    if not interrupted:
        refuse_living(rollback)
    logger.warning("taking back a rollback that was stopped: %s", rollback.what)
    try:
        live = present_store(repository, rollback)
    except NotFound:
        if force:
            return _given_up(repository, rollback, at)
        raise
    with at_work(rollback.id):
        repository = _claimed(repository, rollback, at)
        return _taken_back(repository, rollback, live, at, force=force)


def _claimed(repository: Repository, rollback: Rollback, at: str) -> Repository:
    """Put the record that this process settles a rollback now: of two that would, one does."""
    body = RolledBody(rollback.sequence, rollback.state, this_writer())

    def commit(seen: Repository) -> Repository:
        now = seen.state.open_rollback
        if now is None or now.sequence != rollback.sequence:
            raise Conflict("another process has taken the rollback back meanwhile; run it again")
        if now.writer != rollback.writer:
            refuse_living(now)
        return seen.commit(body, at)

    return repository.retried(commit)


def undo(
    repository: Repository,
    *,
    at: str,
    sequence: int | None = None,
    force: bool = False,
    dry_run: bool = False,
) -> Undone:
    """Take back a rollback, bit for bit.

    Parameters
    ----------
    at
        Wall-clock time, ISO 8601.
    sequence
        Number of its record; None: the newest one that stands.
    force
        Take back also where somebody else has written since: what they wrote is lost.

    Raises
    ------
    NotFound
        There is no such rollback, or its live dataset is not there; with `force` it is given up.
    Conflict
        Somebody else has written to its objects since, or another rollback is under way; nothing
        was done.
    """
    refuse_open(repository)
    rollback = _chosen(repository, sequence)
    try:
        live = present_store(repository, rollback)
    except NotFound:
        if force and not dry_run:
            return _given_up(repository, rollback, at)
        raise
    left, gone = _foreign(repository, rollback, live)
    if left and not force and not dry_run:
        if (later := _overwritten(repository, rollback, left)) is not None:
            raise Conflict(
                f"a later rollback, {later.sequence}, has written to objects of rollback "
                f"{rollback.sequence}; nothing was taken back: take that one back first, with "
                f"'gnomon undo --rollback {later.sequence}'"
            )
        raise _others(rollback, left, gone)
    if dry_run:
        return _undone(repository, rollback, [] if force else left, dry_run=True)
    with at_work(rollback.id):
        repository = ended(repository, rollback, "undoing", at, this_writer())
        rollback = replace(rollback, state="undoing")
        return _taken_back(repository, rollback, live, at, force=force)


def _overwritten(
    repository: Repository, rollback: Rollback, left: Sequence[str]
) -> Rollback | None:
    """Return the newest rollback that stands and has written over objects of an earlier one."""
    for later in reversed(repository.state.rollbacks):
        if later.sequence > rollback.sequence and later.state == "done":
            keys = {change.key for change in load_list(repository.location, later).objects}
            if later.live == rollback.live and not keys.isdisjoint(left):
                return later
    return None


def _others(rollback: Rollback, left: Sequence[str], gone: Sequence[str]) -> Conflict:
    changed = [key for key in left if key not in gone]
    parts = [
        f"{len(keys)} of {rollback.objects} objects {what}, {keys[0]} among them"
        for keys, what in (
            (changed, "were written by others after the rollback"),
            (gone, "are gone since the rollback"),
        )
        if keys
    ]
    return Conflict(
        f"{' and '.join(parts)}; nothing was taken back: --force makes all objects again as they "
        "were before the rollback, and loses what others wrote; or restore what you need in place"
    )


def _taken_back(
    repository: Repository, rollback: Rollback, live: LiveStore, at: str, *, force: bool
) -> Undone:
    """Take a rollback back whose record says that this process does so, and say how that ended."""
    left = take_back(repository, rollback, live, force=force)
    # A person wanted it undone: what could not be is kept for them.  Of a rollback that was stopped
    # the others' data are what its objects are for.
    is_kept = bool(left) and rollback.state == "undoing"
    ended(repository, rollback, "done" if is_kept else "undone", at)
    return _undone(repository, rollback, left)


def _given_up(repository: Repository, rollback: Rollback, at: str) -> Undone:
    """Say that a rollback stands no more whose live dataset is gone; estimates stay known."""
    ended(repository, rollback, "undone", at)
    objects = load_list(repository.location, rollback).objects
    return _undone(repository, rollback, [change.key for change in objects])


def _chosen(repository: Repository, sequence: int | None) -> Rollback:
    standing = [r for r in repository.state.rollbacks if r.state == "done"]
    chosen = [r for r in standing if sequence in (None, r.sequence)]
    if chosen:
        return chosen[-1]
    if sequence is None:
        raise NotFound("there is no rollback to take back")
    there = ", ".join(str(r.sequence) for r in standing) or "none"
    raise NotFound(f"rollback {sequence} is none that can be taken back; there is {there}")


def _undone(
    repository: Repository, rollback: Rollback, left: Sequence[str], *, dry_run: bool = False
) -> Undone:
    return Undone(
        rollback.sequence,
        present_spec(repository, rollback).url,
        format_instant(rollback.instant, repository.settings.calendar),
        rollback.what,
        rollback.objects - len(left),
        tuple(left),
        dry_run,
    )


def _foreign(
    repository: Repository, rollback: Rollback, live: LiveStore
) -> tuple[list[str], list[str]]:
    """Return the keys of objects that are neither what they were nor what they became, and of
    those of them that are gone."""
    left, gone = [], []
    for change in load_list(repository.location, rollback).objects:
        there = entry_of(live.pieces(change.key))
        if there not in (change.before, change.after):
            left.append(change.key)
            if there is None:
                gone.append(change.key)
    return left, gone


def take_back(
    repository: Repository, rollback: Rollback, live: LiveStore, *, force: bool = False
) -> list[str]:
    """Put back every object that is what the rollback made of it; return the keys of others.

    Parameters
    ----------
    force
        Put back the others as well.
    """
    left = []
    for number, change in enumerate(load_list(repository.location, rollback).objects):
        live.tidy(change.key, rollback.id)
        there = entry_of(live.pieces(change.key))
        if there == change.before:
            continue
        if there != change.after and not force:
            left.append(change.key)
            continue
        pieces = (
            None
            if change.before is None
            else kept_pieces(repository.location, rollback.id, number, change.before)
        )
        live.replace(change.key, pieces, rollback.id)
    live.finish(f"gnomon: undo {rollback.what}")
    return left


def ended(
    repository: Repository,
    rollback: Rollback,
    state: RollbackState,
    at: str,
    writer: Writer | None = None,
) -> Repository:
    """Put the record that says how far a rollback is; returns the repository with it."""
    body = RolledBody(rollback.sequence, state, writer)

    def commit(seen: Repository) -> Repository:
        if state == "undoing":  # others may have begun since it was looked at
            refuse_open(seen)
            _chosen(seen, rollback.sequence)
        return seen.commit(body, at)

    return repository.refresh().retried(commit)
