"""Paths that a user names, of sources and repositories, and of what is written beside them.

A failure there is no failure of a store: it names the option and the path.
"""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gnomon.storage.errors import InvalidInput
from gnomon.storage.redaction import one_line, redacted

__all__ = ["blame", "blaming", "check_output", "is_url", "place_of", "shown"]


_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+")


def is_url(path: Path | str) -> bool:
    """Tell whether what should be a path was meant as a URL; as a path it lost a slash."""
    return _URL.match(str(path)) is not None


def shown(path: Path | str) -> str:
    """Return a path as it may be shown."""
    return redacted(_URL.sub(r"\1://", str(path), count=1))


def place_of(place: str | os.PathLike[str]) -> str:
    """Return the text of a path or URL that a user gave.

    Raises
    ------
    InvalidInput
        It is neither text nor a path of text, or it is a URL that was made a path, which lost a
        slash of it.
    """
    text: object = place if isinstance(place, str) else None
    if isinstance(place, os.PathLike):
        text = os.fspath(place)
        if isinstance(text, str) and is_url(text):
            raise InvalidInput(f"{shown(text)} is a URL, and no path; give it as text")
    if not isinstance(text, str):
        raise InvalidInput(f"found {type(place).__name__}, expected a path or URL, as text or path")
    return text


def blame(option: str, path: Path | str, error: Exception) -> InvalidInput:
    """Return the error that says that a path given by an option cannot be written, and why."""
    reason = (error.strerror if isinstance(error, OSError) else None) or one_line(error)
    return InvalidInput(
        f"{option} {path} cannot be written: {reason}; fix that, or name another path"
    )


@contextmanager
def blaming(option: str, path: Path | str) -> Iterator[None]:
    """Blame what the operating system refuses on the path; only that may be written inside.

    Raises
    ------
    InvalidInput
        Names the option, the path and what the system said.
    """
    try:
        yield
    except OSError as error:
        raise blame(option, path, error) from error


def check_output(option: str, path: Path, *, folder: bool = False) -> None:
    """Refuse a path that cannot be written, before long work; writes nothing.

    Parameters
    ----------
    folder
        Whether the path is that of a folder; either is made, with all above it, when it is used.

    Raises
    ------
    InvalidInput
        Names the option and the path.
    """
    if is_url(path):
        raise InvalidInput(f"{option} {shown(path)} is a URL; name a path on this machine")
    if "\0" in str(path):
        raise InvalidInput(f"{option} {str(path)!r} cannot be written: there is no such path")
    with blaming(option, path):
        path = path.absolute()
        _check_name(path)
        if path.exists():
            if path.is_dir() != folder:
                raise OSError(0, "it is no folder" if folder else "it is a folder")
            _check_permission(path)
            return
        above = next(parent for parent in path.parents if parent.exists())
        if not above.is_dir():
            raise OSError(0, f"{above} is no folder")
        _check_permission(above)


def _check_name(path: Path) -> None:
    """Ask the file system whether it takes the name, whether or not there is such a file."""
    try:
        path.lstat()
    except FileNotFoundError:
        longest = max(len(os.fsencode(part)) for part in path.parts)
        if longest > os.pathconf(path.anchor, "PC_NAME_MAX"):
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG)) from None
    except NotADirectoryError:
        return  # told below, with the name of what is no folder


def _check_permission(path: Path) -> None:
    needed = os.W_OK | (os.X_OK if path.is_dir() else 0)
    if not os.access(path, needed):
        raise PermissionError(errno.EACCES, f"{path} may not be written")
