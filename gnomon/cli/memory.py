"""How a process of the command line takes its memory from the system."""

import ctypes
import os

__all__ = ["settle_memory"]

_MEBI = 2**20
_SETTINGS = (
    # By default each thread has a heap, which stays as large as it ever was: threads that take
    # turns at large blocks held them several times, a quarter of the peak of an update.
    ("MALLOC_ARENA_MAX", -8, 1),
    # By default a process finds out by itself that large blocks come again.  Until then the system
    # is asked anew for each, and clears every page of it: a tenth of the time of an update.  These
    # are the most that the library would find.
    ("MALLOC_MMAP_THRESHOLD_", -3, 32 * _MEBI),
    ("MALLOC_TRIM_THRESHOLD_", -1, 64 * _MEBI),
)
"""Variable of the environment, number in ``malloc.h`` of the GNU C library, value."""


def settle_memory() -> None:
    """Let all threads use what one of them has freed, where the C library would keep it apart.

    What the user's environment settles stands.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library
        return
    if "glibc.malloc." in os.environ.get("GLIBC_TUNABLES", ""):
        return
    for variable, option, value in _SETTINGS:
        if variable not in os.environ:
            mallopt(option, value)
