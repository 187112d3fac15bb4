"""Failures of the command line: one line on standard error, and an exit code."""

import os
import re
import signal
import sys
from traceback import format_exc
from typing import NoReturn

__all__ = ["Terminated", "fail", "tell", "tell_if_stopped", "terminate"]


def tell(error: BaseException) -> tuple[str, int]:
    """Return the message and the exit code for a signal, or for an error that nobody foresaw."""
    from gnomon.storage.redaction import one_line, redacted

    if (stopped := tell_if_stopped(error)) is not None:
        return stopped
    if os.environ.get("GNOMON_DEBUG"):
        print(redacted(format_exc()), end="", file=sys.stderr)
    if (failure := _store_failure(error)) is not None:
        return f"a store failed: {failure}; nothing was committed, fix it and run again", 6
    text = one_line(error, 300)
    return f"{type(error).__name__}: {text} (GNOMON_DEBUG=1 shows where)", 1


class Terminated(BaseException):
    """The process was asked to end: what was begun is undone on the way out."""


def tell_if_stopped(error: BaseException) -> tuple[str, int] | None:
    """Return the message and the exit code if a signal stopped the work; None for a failure.

    A signal may come anywhere, also while a lock is being taken. What then fails on the way out
    ("release unlocked lock") is a consequence, and must not be reported as the reason.
    """
    chain: BaseException | None = error
    while chain is not None:
        if isinstance(chain, Terminated):
            return f"terminated; {_STOPPED}", 128 + signal.SIGTERM
        if isinstance(chain, KeyboardInterrupt):
            return f"interrupted; {_STOPPED}", 128 + signal.SIGINT
        chain = chain.__context__
    return None


_STOPPED = "nothing half-done was kept, run the command again"


def terminate(_number: int, _frame: object) -> NoReturn:
    """Handle a signal by raising, once."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough; what follows must end
    raise Terminated


def _store_failure(error: BaseException) -> str | None:
    """Return why a store did not take or give bytes, in its own words; None for other errors."""
    from obstore.exceptions import BaseError

    from gnomon.storage.redaction import one_line

    if isinstance(error, OSError):
        place = "" if error.filename is None else f": {error.filename}"
        return f"{error.strerror}{place}" if error.strerror else one_line(error)
    if not isinstance(error, BaseError):
        return None
    match = re.search(r'message: "([^"]+)"', str(error))
    return match[1] if match else one_line(error)


def fail(text: str, code: int) -> NoReturn:
    """Say in one line what went wrong, and end with an exit code."""
    from gnomon.storage.redaction import redacted

    print(f"gnomon: error: {redacted(text)}", file=sys.stderr)
    sys.exit(code)
