"""What a file is beside its bytes: owner, mode, attributes, other names."""

import logging
import os
import shutil
from contextlib import suppress
from pathlib import Path

__all__ = ["differences_of", "give"]

logger = logging.getLogger(__name__)


def give(new: Path, old: Path) -> None:
    """Give a new file what an old one has: owner, group, mode and extended attributes.

    Where there is no old one, it is given the owner and group of its folder.  What this process may
    not give is left as it is; see `differences_of`.
    """
    there = old.exists()
    about, made = (old if there else old.parent).stat(), new.stat()
    # The owner first: to change it clears some bits of the mode.
    for owner, group in ((about.st_uid, -1), (-1, about.st_gid)):
        if owner not in (-1, made.st_uid) or group not in (-1, made.st_gid):
            with suppress(PermissionError):
                os.chown(new, owner, group)
    if there:
        shutil.copymode(old, new)
        _give_attributes(new, old)


def _give_attributes(new: Path, old: Path) -> None:
    if not hasattr(os, "listxattr"):  # not on every system
        return
    for name in _attributes(old):
        try:
            os.setxattr(new, name, os.getxattr(old, name))
        except OSError as error:
            # The system itself sets those of `security.` on each new file.
            if not name.startswith("security."):
                logger.warning("%s: attribute %s cannot be kept: %s", old, name, error.strerror)


def _attributes(path: Path) -> list[str]:
    try:
        return os.listxattr(path)
    except OSError:  # a file system without any
        return []


def differences_of(path: Path) -> tuple[str, ...]:
    """Return what a file will not keep when it is replaced."""
    try:
        about = path.stat()
    except OSError:  # there is none yet
        return ()
    remarks = []
    if about.st_nlink > 1:
        remarks.append("other names of it (hard links) keep what they hold now")
    user, groups = os.geteuid(), {os.getegid(), *os.getgroups()}
    if user not in (0, about.st_uid):
        remarks.append("its owner cannot be kept: it will belong to you")
    elif user != 0 and about.st_gid not in groups:
        remarks.append("its group cannot be kept: it will be one of yours")
    return tuple(remarks)
