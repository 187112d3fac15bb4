"""The process that writes into a live dataset, and whether it still lives."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import psutil  # type: ignore[import-untyped]

from gnomon.storage.errors import Conflict
from gnomon.storage.log.bodies.rollback import Writer
from gnomon.storage.log.steps import Rollback
from gnomon.storage.redaction import redacted

__all__ = ["at_work", "is_elsewhere", "refuse_living", "this_writer"]

CLOCK_S = 60.0
"""By how much the start of one process may be told otherwise: the system counts it from its own
start, which moves whenever the clock is set."""
_at_work: set[str] = set()
"""Ids of the rollbacks that threads of this process are at."""


def this_writer() -> Writer:
    """Return this process."""
    started = datetime.fromtimestamp(psutil.Process().create_time(), UTC)
    return Writer(socket.gethostname(), os.getpid(), started.isoformat(timespec="seconds"))


@contextmanager
def at_work(rollback: str) -> Iterator[None]:
    """Say inside that this process writes for a rollback, by id: other threads keep out of it."""
    _at_work.add(rollback)
    try:
        yield
    finally:
        _at_work.discard(rollback)


def is_elsewhere(writer: Writer) -> bool:
    """Tell whether a process is on another machine, where nobody can see it from here."""
    return writer.host != socket.gethostname()


def refuse_living(rollback: Rollback) -> None:
    """Refuse to take over a rollback whose process is at work, or may be.

    Raises
    ------
    Conflict
        It lives, or it is on another machine, where nobody can see it from here.
    """
    writer = rollback.writer
    if writer is None or (writer == this_writer() and rollback.id not in _at_work):
        return
    done = "taken back from" if rollback.state == "undoing" else "written into"
    what = (
        f"{rollback.what} is being {done} {redacted(rollback.live.url)} by process {writer.pid} on "
        f"{writer.host}, begun at {rollback.begun_at}"
    )
    if is_elsewhere(writer):
        raise Conflict(
            f"{what}; until it ends there is no update, restore in place or undo: wait for it, or "
            "if that process is dead, run 'gnomon undo --interrupted'"
        )
    if _is_alive(writer):
        raise Conflict(f"{what}; wait for it, or stop it")


def _is_alive(writer: Writer) -> bool:
    try:
        started = psutil.Process(writer.pid).create_time()
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True
    try:
        said = datetime.fromisoformat(writer.started).timestamp()
    except ValueError:
        return True
    return bool(abs(started - said) <= CLOCK_S)
