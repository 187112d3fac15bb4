"""What an interrupted init leaves: a repository without its first record, which holds no data."""

import shutil

from gnomon.storage.log.genesis import SETTINGS
from gnomon.storage.log.location import Location
from gnomon.storage.log.records import COPIES

__all__ = ["clear_half_made", "is_half_made"]


def is_half_made(location: Location) -> bool:
    """Tell whether there is no more than `Repository.create` writes before its first record.

    A repository that has lost its log has captures, or copies of the log, and is none.
    """
    begun = (SETTINGS, COPIES + SETTINGS)
    if location.path is not None and location.path.exists() and not location.path.is_dir():
        return False
    names = location.list("")
    if names and not set(begun) & set(names):
        return False
    return all(name in begun or name.startswith("frame/") for name in names)


def clear_half_made(location: Location) -> None:
    """Make a place vacant, if there is nothing but such a repository; else leave it alone.

    On a local disk empty folders and unfinished files go as well.
    """
    if location.is_vacant() or not is_half_made(location):
        return
    if location.path is not None:
        shutil.rmtree(location.path)
    else:
        location.delete(location.list(""))
