"""How a process of the command line takes its memory from the system."""

import ctypes
import os

__all__ = ["share_freed_memory"]

_M_ARENA_MAX = -8
"""Of ``malloc.h`` of the GNU C library."""


def share_freed_memory() -> None:
    """Let threads use what others have freed, where the C library keeps it apart.

    That of GNU gives each thread a heap, which stays as large as it ever was: threads that take
    turns at large blocks hold them several times.  NumPy allocates seldom, so that one heap is not
    waited for.  A user's own setting stands.
    """
    if "MALLOC_ARENA_MAX" in os.environ:
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library
        return
    mallopt(_M_ARENA_MAX, 1)
