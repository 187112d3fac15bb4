"""A dataset in the making: a hidden name beside its target, which a dead process does not keep.

Beside the hidden name stands a lock file, locked as long as the process lives that writes.  The
system gives the lock back however a process ends, so whoever can take it knows that the writer is
dead, and removes both.  Without a lock file nothing is ever removed: it is not known whose it is.
"""

import fcntl
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["in_the_making", "sweep"]

_STEM = 40
"""Letters of the target's name in the hidden one, which must not be too long where that is not."""
_MARK = b"gnomon: the dataset of this name is being restored\n"
_NAME = re.compile(r"\..+-[0-9a-f]{8}\.partial(\..+)?\.lock")


@contextmanager
def in_the_making(path: Path) -> Iterator[Path]:
    """Give a hidden path beside a target; what is there after a failure is removed.

    What dead processes left in the same folder is removed first.

    Parameters
    ----------
    path
        The target.
    """
    sweep(path.absolute().parent)
    partial, descriptor = _claim(path)
    try:
        yield partial
    except BaseException:
        _discard(partial)
        raise
    finally:
        if descriptor is not None:
            _lock_of(partial).unlink(missing_ok=True)
            os.close(descriptor)


def sweep(folder: Path) -> list[Path]:
    """Remove what restores left in a folder whose processes are dead; return what was removed."""
    removed = []
    try:
        names = [path for path in folder.iterdir() if _NAME.fullmatch(path.name)]
    except OSError:
        return []
    for lock in names:
        descriptor = _taken(lock)
        if descriptor is None:
            continue
        try:
            partial = lock.with_name(lock.name.removesuffix(".lock"))
            if not partial.is_symlink():
                removed += [partial] if os.path.lexists(partial) else []
                _discard(partial)
            lock.unlink(missing_ok=True)
        finally:
            os.close(descriptor)
    return removed


def _lock_of(partial: Path) -> Path:
    return partial.with_name(f"{partial.name}.lock")


def _claim(path: Path) -> tuple[Path, int | None]:
    """Return a fresh hidden path and its locked file; None where the file system has no locks."""
    while True:
        partial = path.with_name(
            f".{path.stem[:_STEM]}-{secrets.token_hex(4)}.partial{path.suffix}"
        )
        try:
            flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC
            descriptor = os.open(_lock_of(partial), flags, 0o644)
        except FileExistsError:
            continue
        except OSError:  # the write that follows says what is wrong with the folder
            return partial, None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.write(descriptor, _MARK)
        except BlockingIOError:  # a sweep was quicker, and removes it
            os.close(descriptor)
            continue
        except OSError:
            os.close(descriptor)
            _lock_of(partial).unlink(missing_ok=True)
            return partial, None
        if _is_there(_lock_of(partial), descriptor):
            return partial, descriptor
        os.close(descriptor)


def _taken(lock: Path) -> int | None:
    """Return a dead writer's lock file, locked; None if it lives, or the file is none of ours."""
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    with suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        mark = os.read(descriptor, len(_MARK) + 1)
        # A writer that was killed at once has left no mark, and nothing beside it.
        is_ours = mark == _MARK or not (mark or os.path.lexists(lock.with_suffix("")))
        if is_ours and _is_there(lock, descriptor):
            return descriptor
    os.close(descriptor)
    return None


def _is_there(path: Path, descriptor: int) -> bool:
    """Tell whether an open file still has its name."""
    try:
        return os.path.samestat(os.lstat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _discard(path: Path) -> None:
    """Remove what a failed write left; threads that have not heard of the failure may add to it."""
    gone = 0
    for _ in range(100):
        # None of these raises: what went wrong before is to be told.
        gone = 0 if os.path.lexists(path) else gone + 1
        if gone > 1:
            return
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(OSError):
                path.unlink()
        time.sleep(0.05)
