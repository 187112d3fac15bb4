"""A dataset in the making: a hidden name beside its target, which a dead process does not keep.

Beside the hidden name stands a lock file, locked as long as the process lives that writes.  The
system gives the lock back however a process ends, so whoever can take it knows that the writer is
dead.  The lock file says of which restore the dataset is, and whether all but its blocks is there:
the same restore goes on with it, any other removes both.  Without a lock file nothing is ever
removed: it is not known whose it is.
"""

import fcntl
import glob
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = [
    "in_the_making",
    "is_created",
    "lock_file",
    "note_created",
    "sweep",
    "sweep_beside",
    "take_lock",
]

_STEM = 40
"""Letters of the target's name in the hidden one, which must not be too long where that is not."""
_MARK = b"gnomon: the dataset of this name is being restored\n"
_CREATED = b"created\n"
_NAME = re.compile(r"\..+-[0-9a-f]{8}\.partial(\..+)?\.lock")


@contextmanager
def in_the_making(path: Path, mark: str = "") -> Iterator[Path]:
    """Give a hidden path beside a target; what is there after a failure is removed.

    What dead processes left in the same folder is removed first, but for what one of the same
    restore left after :func:`note_created`: that is given again, and :func:`is_created` says so.

    Parameters
    ----------
    path
        The target.
    mark
        Says of which restore it is, in one line; empty if nothing is ever gone on with.
    """
    claim = _left_by(path, mark) if mark else None
    sweep(path.absolute().parent)
    partial, descriptor = claim or _claim(path, mark)
    try:
        yield partial
    except BaseException:
        _discard(partial)
        raise
    finally:
        if descriptor is not None:
            _lock_of(partial).unlink(missing_ok=True)
            os.close(descriptor)


def is_created(partial: Path) -> bool:
    """Tell whether all but the blocks of a dataset in the making was there when this began."""
    try:
        return _lock_of(partial).read_bytes().endswith(b"\n" + _CREATED)
    except OSError:
        return False


def note_created(partial: Path) -> None:
    """Note that all but the blocks is there, and forced to the disk."""
    with suppress(OSError), open(_lock_of(partial), "ab") as file:  # without locks there is none
        file.write(_CREATED)
        file.flush()
        os.fsync(file.fileno())


def sweep(folder: Path) -> list[Path]:
    """Remove what restores left in a folder whose processes are dead; return what was removed."""
    return _swept(folder, ".")


def sweep_beside(path: Path) -> None:
    """Remove what dead processes left beside a target that is there, and to which none goes on."""
    _swept(path.absolute().parent, f".{path.stem[:_STEM]}-")


def _swept(folder: Path, beginning: str) -> list[Path]:
    removed = []
    try:
        names = [path for path in folder.iterdir() if _NAME.fullmatch(path.name)]
    except OSError:
        return []
    names = [path for path in names if path.name.startswith(beginning)]
    for lock in names:
        descriptor = _taken(lock)
        if descriptor is None:
            continue
        try:
            partial = lock.with_suffix("")
            if not partial.is_symlink():
                removed += [partial] if os.path.lexists(partial) else []
                _discard(partial)
            lock.unlink(missing_ok=True)
        finally:
            os.close(descriptor)
    return removed


def _lock_of(partial: Path) -> Path:
    return partial.with_name(f"{partial.name}.lock")


def _line(mark: str) -> bytes:
    return f"{mark}\n".encode() if mark else b""


def _left_by(path: Path, mark: str) -> tuple[Path, int] | None:
    """Return what a dead process of the same restore left, with its locked file."""
    try:
        locks = sorted(path.absolute().parent.glob(f".*.partial{glob.escape(path.suffix)}.lock"))
    except OSError:
        return None
    for lock in locks:
        partial = lock.with_suffix("")
        try:
            is_same = lock.read_bytes() == _MARK + _line(mark) + _CREATED
        except OSError:
            continue
        if is_same and partial.exists() and not partial.is_symlink():
            descriptor = _taken(lock)
            if descriptor is not None:
                return path.with_name(partial.name), descriptor
    return None


def _claim(path: Path, mark: str) -> tuple[Path, int | None]:
    """Return a fresh hidden path and its locked file; None where the file system has no locks."""
    while True:
        partial = path.with_name(
            f".{path.stem[:_STEM]}-{secrets.token_hex(4)}.partial{path.suffix}"
        )
        try:
            descriptor = lock_file(_lock_of(partial), _MARK + _line(mark))
        except (FileExistsError, BlockingIOError):  # the name is taken, or a sweep was quicker
            continue
        except OSError:  # the write that follows says what is wrong with the folder
            return partial, None
        if _is_there(_lock_of(partial), descriptor):
            return partial, descriptor
        os.close(descriptor)


def lock_file(path: Path, content: bytes) -> int:
    """Make a file, locked as long as this process lives or its descriptor is open; return that."""
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.write(descriptor, content)
    except BlockingIOError:
        os.close(descriptor)
        raise
    except OSError:
        os.close(descriptor)
        path.unlink(missing_ok=True)
        raise
    return descriptor


def take_lock(path: Path) -> int | None:
    """Return a dead process's lock file, locked; None if it lives, or there is none."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _taken(lock: Path) -> int | None:
    """Return a dead writer's lock file, locked; None if it lives, or the file is none of ours."""
    descriptor = take_lock(lock)
    if descriptor is None:
        return None
    with suppress(OSError):
        head = os.read(descriptor, len(_MARK))
        # A writer that was killed at once has left no mark, and nothing beside it.
        is_ours = head == _MARK or not (head or os.path.lexists(lock.with_suffix("")))
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
