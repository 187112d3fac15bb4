"""The process that writes into a live dataset, and whether it still lives."""

import os
import socket
from datetime import UTC, datetime
from typing import Any

import psutil  # type: ignore[import-untyped]

from gnomon.storage.errors import Conflict
from gnomon.storage.log.bodies.rollback import Writer
from gnomon.storage.log.steps import Rollback

__all__ = ["refuse_living", "this_writer"]


def this_writer() -> Writer:
    """Return this process."""
    return Writer(socket.gethostname(), os.getpid(), _started(psutil.Process()))


def _started(process: Any) -> str:
    return datetime.fromtimestamp(process.create_time(), UTC).isoformat(timespec="seconds")


def refuse_living(rollback: Rollback) -> None:
    """Refuse to take over a rollback whose process is at work, or may be.

    Raises
    ------
    Conflict
        It lives, or it is on another machine, where nobody can see it from here.
    """
    writer = rollback.writer
    if writer is None or writer == this_writer():
        return
    what = f"{rollback.what} is being written into {rollback.live.url}"
    where = f"process {writer.pid} on {writer.host}, since {rollback.begun_at}"
    if writer.host != socket.gethostname():
        raise Conflict(
            f"{what} by {where}; wait for it, or if it does not run any more, run "
            "'gnomon undo --interrupted'"
        )
    try:
        is_alive = _started(psutil.Process(writer.pid)) == writer.started
    except psutil.NoSuchProcess:
        is_alive = False
    except psutil.AccessDenied:
        is_alive = True
    if is_alive:
        raise Conflict(f"{what} by {where}; wait for it, or stop it")
