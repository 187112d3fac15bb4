"""Reading ahead: what comes next is fetched and unpacked while what came before is used.

Decompression lets go of the interpreter, so that threads gain even in one read of one chunk; of an
object store they wait side by side.
"""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache

__all__ = ["ahead"]

AHEAD = 4
"""Results that are made at once, and so held in memory."""


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(AHEAD, thread_name_prefix="gnomon-ahead")


# A forked process has the pool, but none of its threads.
os.register_at_fork(after_in_child=_pool.cache_clear)


def ahead[A, B](function: Callable[[A], B], items: Sequence[A]) -> Iterator[B]:
    """Yield the function's result for every item in order; what it raises is raised in turn.

    Parameters
    ----------
    function
        Does not read ahead itself: its threads would wait for each other.
    """
    if len(items) < 2:
        yield from map(function, items)
        return
    pending = deque(_pool().submit(function, item) for item in items[:AHEAD])
    try:
        for item in items[AHEAD:]:
            yield pending.popleft().result()
            pending.append(_pool().submit(function, item))
        while pending:
            yield pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()
